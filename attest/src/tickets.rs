//! Shares of the module's noise that wait for a release, each used at most once.

use std::collections::{BTreeMap, BTreeSet};

use crate::noise_client::Batch;
use crate::share::NoiseShare;

/// Most shares that wait.
pub const TICKETS_MAX: usize = 1 << 16;

/// Names one draw of one boot of a module; both parties mean the same draw by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Number of the batch in its boot, as the receipt has it.
    pub batch: u64,
    /// Position in the batch.
    pub draw: u32,
}

/// Why no share was added or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not there: used, never there, or of another boot.
    #[error("ticket {} of batch {} was used, or never here", .0.draw, .0.batch)]
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
    waiting: BTreeMap<Ticket, NoiseShare>,
}

impl Tickets {
    /// Adds a batch whose receipt the other party confirmed.
    ///
    /// # Errors
    /// [`TicketError::Boot`], [`TicketError::Twice`] or [`TicketError::Full`]; the batch is burnt.
    pub fn add(&mut self, batch: Batch) -> Result<(), TicketError> {
        let (boot, number) = (batch.receipt().boot, batch.receipt().number);
        if *self.boot.get_or_insert(boot) != boot {
            return Err(TicketError::Boot);
        }
        let shares = batch.into_shares();
        if self.waiting.len() + shares.len() > TICKETS_MAX {
            return Err(TicketError::Full);
        }
        if !self.batches.insert(number) {
            return Err(TicketError::Twice { batch: number });
        }
        let tickets = (0..).map(|draw| Ticket { batch: number, draw });
        self.waiting.extend(tickets.zip(shares));
        Ok(())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The oldest, for the party that names the ticket of a release.
    pub fn oldest(&self) -> Option<Ticket> {
        self.waiting.keys().next().copied()
    }

    /// Takes a share for good.
    ///
    /// # Errors
    /// [`TicketError::Absent`].
    pub fn take(&mut self, ticket: Ticket) -> Result<NoiseShare, TicketError> {
        self.waiting.remove(&ticket).ok_or(TicketError::Absent(ticket))
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
                pool.add(half).unwrap();
            }
        }
        for _ in 0..8 {
            let ticket = pools[0].oldest().unwrap();
            let [zero, one] = pools.each_mut().map(|pool| pool.take(ticket).unwrap().into_values());
            for (zero, one) in zero.iter().zip(one.iter()) {
                assert!(zero.wrapping_add(*one).unsigned_abs() < 1 << 18);
            }
            assert_eq!(pools[1].take(ticket).unwrap_err(), TicketError::Absent(ticket));
        }
        assert!(pools.iter().all(Tickets::is_empty));
        assert_eq!(pools[0].oldest(), None);
    }

    #[test]
    fn boots_do_not_mix_and_no_batch_comes_twice() {
        let mut pool = Tickets::default();
        let draw = |world: &World, batch| {
            let [zero, _] = both_collect(&mut world.both(), &signed(world.wanted(batch))).unwrap();
            zero
        };
        let [old, new] = [World::new(), World::new()];
        pool.add(draw(&old, 0)).unwrap();
        assert_eq!(pool.add(draw(&new, 0)).unwrap_err(), TicketError::Boot);
        assert_eq!(pool.len(), 4);
        pool.batches.insert(1);
        assert_eq!(pool.add(draw(&old, 1)).unwrap_err(), TicketError::Twice { batch: 1 });
        pool.forget();
        assert_eq!((pool.len(), pool.oldest()), (0, None));
        pool.add(draw(&new, 1)).unwrap();
        assert_eq!(pool.oldest(), Some(Ticket { batch: 1, draw: 0 }));
    }
}
