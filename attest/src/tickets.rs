//! Shares of the module's noise that wait for a release, each used at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hex::digits;
use crate::noise_client::Batch;
use crate::share::NoiseShare;

/// Most shares that wait.
pub const TICKETS_MAX: usize = 1 << 16;

/// Names the noise of one release: draws of one batch of one boot of a module. Both parties mean the same
/// draws by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The boot.
    pub boot: [u8; 16],
    /// Number of the batch in its boot, as the receipt has it.
    pub batch: u64,
    /// Position in the batch, counted in releases.
    pub place: u32,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of batch {} of boot {}", self.place, self.batch, digits(&self.boot))
    }
}

/// Why no share was added or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not there: used, passed over, never there, or of another boot.
    #[error("ticket {0} was used, or never here")]
    Absent(Ticket),
    /// A batch of a module that was started anew since.
    #[error("a batch of another boot came; forget the old ones first")]
    Boot,
    /// A batch that was here before.
    #[error("batch {batch} was here before")]
    Twice {
        /// Its number.
        batch: u64,
    },
    /// There are [`TICKETS_MAX`] already.
    #[error("{TICKETS_MAX} shares of noise wait already")]
    Full,
    /// A batch that cannot be cut into releases of so many draws.
    #[error("a batch of {draws} draws does not divide into releases of {each}")]
    Uneven {
        /// Draws of the batch.
        draws: usize,
        /// Draws of a release.
        each: usize,
    },
}

/// One party's shares of one boot, in the order of the module's receipts.
///
/// They live in memory only: a restart forgets them, so that no disk image brings a used one back. Forgetting
/// is always safe, since a share alone says nothing and the other party refuses a ticket that it does not
/// hold.
#[derive(Debug, Default)]
pub struct Tickets {
    boot: Option<[u8; 16]>,
    batches: BTreeSet<u64>,
    waiting: BTreeMap<Ticket, Vec<NoiseShare>>,
}

impl Tickets {
    /// Adds a batch whose receipt the other party confirmed, cut into releases of `each` draws.
    ///
    /// # Errors
    /// [`TicketError::Boot`], [`TicketError::Twice`], [`TicketError::Full`] or [`TicketError::Uneven`]; the
    /// batch is burnt.
    pub fn add(&mut self, batch: Batch, each: usize) -> Result<(), TicketError> {
        let (boot, number) = (batch.receipt().boot, batch.receipt().number);
        if *self.boot.get_or_insert(boot) != boot {
            return Err(TicketError::Boot);
        }
        let mut shares = batch.into_shares();
        let draws = shares.len();
        if each == 0 || !draws.is_multiple_of(each) {
            return Err(TicketError::Uneven { draws, each });
        }
        if self.waiting.len() + draws / each > TICKETS_MAX {
            return Err(TicketError::Full);
        }
        if !self.batches.insert(number) {
            return Err(TicketError::Twice { batch: number });
        }
        for place in 0.. {
            if shares.is_empty() {
                break;
            }
            let rest = shares.split_off(each);
            self.waiting.insert(Ticket { boot, batch: number, place }, shares);
            shares = rest;
        }
        Ok(())
    }

    /// The boot that they are of, if any came.
    pub const fn boot(&self) -> Option<&[u8; 16]> {
        self.boot.as_ref()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the oldest for good: for the party that names the ticket of a release.
    pub fn take_oldest(&mut self) -> Option<(Ticket, Vec<NoiseShare>)> {
        self.waiting.pop_first()
    }

    /// Takes a ticket for good, and drops those before it, which the other party passed over.
    ///
    /// # Errors
    /// [`TicketError::Absent`]; nothing is dropped then.
    pub fn take(&mut self, ticket: Ticket) -> Result<Vec<NoiseShare>, TicketError> {
        let shares = self.waiting.remove(&ticket).ok_or(TicketError::Absent(ticket))?;
        self.waiting = self.waiting.split_off(&ticket);
        Ok(shares)
    }

    /// Throws everything away: the module was refused, or started anew.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::trial::{World, both_collect, signed};

    #[test]
    fn both_parties_take_one_draw_by_one_name_once() {
        let world = World::new();
        let mut parties = world.both();
        let mut pools = [Tickets::default(), Tickets::default()];
        for batch in 0..2 {
            let halves = both_collect(&mut parties, &signed(world.wanted(batch))).unwrap();
            for (pool, half) in pools.iter_mut().zip(halves) {
                pool.add(half, 2).unwrap();
            }
        }
        let [zero, one] = &mut pools;
        assert_eq!((zero.len(), one.len()), (4, 4));
        while let Some((ticket, ours)) = zero.take_oldest() {
            let theirs = one.take(ticket).unwrap();
            assert_eq!((ours.len(), theirs.len()), (2, 2));
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                for (ours, theirs) in ours.into_values().iter().zip(theirs.into_values().iter()) {
                    assert!(ours.wrapping_add(*theirs).unsigned_abs() < 1 << 18);
                }
            }
            assert_eq!(one.take(ticket).unwrap_err(), TicketError::Absent(ticket));
        }
        assert!(zero.is_empty() && one.is_empty());
    }

    #[test]
    fn a_ticket_that_was_passed_over_is_gone() {
        let world = World::new();
        let [zero, one] = both_collect(&mut world.both(), &signed(world.wanted(0))).unwrap();
        let (mut zero_pool, mut one_pool) = (Tickets::default(), Tickets::default());
        zero_pool.add(zero, 1).unwrap();
        one_pool.add(one, 1).unwrap();
        let names: Vec<Ticket> =
            std::iter::from_fn(|| zero_pool.take_oldest()).map(|(name, _)| name).collect();
        assert_eq!(one_pool.take(names[2]).unwrap().len(), 1);
        for gone in &names[..3] {
            assert_eq!(one_pool.take(*gone).unwrap_err(), TicketError::Absent(*gone));
        }
        assert_eq!(one_pool.len(), names.len() - 3);
        assert!(one_pool.take(names[3]).is_ok());
    }

    #[test]
    fn boots_do_not_mix_and_no_batch_comes_twice() {
        let mut pool = Tickets::default();
        let draw = |world: &World, batch| {
            let [zero, _] = both_collect(&mut world.both(), &signed(world.wanted(batch))).unwrap();
            zero
        };
        let [old, new] = [World::new(), World::new()];
        pool.add(draw(&old, 0), 1).unwrap();
        assert_eq!(pool.add(draw(&new, 0), 1).unwrap_err(), TicketError::Boot);
        assert_eq!(pool.len(), 4);
        pool.batches.insert(1);
        assert_eq!(pool.add(draw(&old, 1), 1).unwrap_err(), TicketError::Twice { batch: 1 });
        pool.forget();
        assert_eq!((pool.len(), pool.boot()), (0, None));
        for each in [0, 3] {
            let error = pool.add(draw(&new, 10 + each as u8), each).unwrap_err();
            assert_eq!(error, TicketError::Uneven { draws: 4, each });
        }
        pool.add(draw(&new, 1), 4).unwrap();
        let (ticket, shares) = pool.take_oldest().unwrap();
        assert_eq!((ticket.place, shares.len()), (0, 4));
    }
}
