//! What a release asks of the ledger.

use super::LedgerError;
use crate::vault::hex;
use consilium_attest::tickets::Ticket;
use consilium_protocol::privacy::Mechanism;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest name of a task, an owner or a client, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// Longest name of a consortium, in bytes.
pub(super) const LABEL_BYTES_MAX: usize = 512;
/// Most owners that one release may charge.
pub(super) const OWNERS_MAX: usize = 1024;

/// Name of one release, drawn at random by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(
    /// The random bytes.
    #[serde(with = "hex")]
    pub [u8; 16],
);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// The serials of correlated randomness that a release burns: `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlations {
    /// The pool that both parties confirmed; serials of different pools are unrelated.
    #[serde(with = "hex")]
    pub epoch: [u8; 16],
    /// First serial. It must not be below any serial that this pool used before.
    pub first: u64,
    /// Number of serials.
    pub count: u32,
}

/// The noise that an attested module drew for one release. Both parties mean the same draws by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseTicket {
    /// The module's boot.
    #[serde(with = "hex")]
    pub boot: [u8; 16],
    /// Number of the batch in that boot.
    pub batch: u64,
    /// Place in the batch, counted in releases.
    pub place: u32,
}

/// Bits of a ticket's number that are its place.
const PLACE_BITS: u32 = 20;

impl NoiseTicket {
    /// The ticket among those of its boot, if its numbers are of a module's making.
    pub(super) fn number(self) -> Option<u64> {
        let fits = self.place >> PLACE_BITS == 0 && self.batch.leading_zeros() >= PLACE_BITS;
        fits.then_some(self.batch << PLACE_BITS | u64::from(self.place))
    }
}

impl From<Ticket> for NoiseTicket {
    fn from(Ticket { boot, batch, place }: Ticket) -> Self {
        Self { boot, batch, place }
    }
}

/// An owner that a release charges: its account is that of the data its model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charged {
    /// The owner.
    pub name: String,
    /// The data epoch of its model; one data epoch is one account.
    pub data_epoch: u32,
}

/// One reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The release.
    pub release: ReleaseId,
    /// Name of the task, which is also the name of the budgets.
    pub task: String,
    /// Digest of the signed task description in force.
    #[serde(with = "hex")]
    pub task_digest: [u8; 32],
    /// Who asks.
    pub client: String,
    /// Whose models vote; each is charged. No name twice.
    pub owners: Vec<Charged>,
    /// Hash of what the client sent.
    #[serde(with = "hex")]
    pub content: [u8; 32],
    /// How its answers are protected.
    pub mechanism: Mechanism,
    /// Answers that it gives.
    pub answers: u32,
    /// Price of the release in units of 2^-40; 0 for an exact answer.
    pub cost: u64,
    /// Budget of each owner that signed none, in the same units. What the book was opened with stays the
    /// upper bound of it.
    pub owner_limit: u64,
    /// Budget of this client for this task, in the same units.
    pub client_limit: u64,
    /// The serials to burn.
    pub correlations: Correlations,
    /// The module's noise for this release, used once; `None` where each party drew its own, or none is needed.
    pub noise_ticket: Option<NoiseTicket>,
    /// When it was reserved, in seconds since 1970 by this party's clock; decides nothing.
    pub at: u64,
}

impl Reserve {
    /// Refuses what no honest caller sends, before anything is looked up.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        named("task", &self.task)?;
        named("client", &self.client)?;
        if self.owners.is_empty() || self.owners.len() > OWNERS_MAX {
            return Err(LedgerError::OwnerCount { count: self.owners.len() });
        }
        let mut seen = BTreeSet::new();
        for owner in &self.owners {
            named("owner", &owner.name)?;
            if !seen.insert(&owner.name) {
                return Err(LedgerError::OwnerTwice { owner: owner.name.clone() });
            }
        }
        self.ticket()?;
        self.mark_after().map(|_| ())
    }

    /// The ticket as the books list it: boot, and number in it.
    pub(super) fn ticket(&self) -> Result<Option<([u8; 16], u64)>, LedgerError> {
        let Some(ticket) = self.noise_ticket else { return Ok(None) };
        let number = ticket.number().ok_or(LedgerError::TicketRange { ticket })?;
        Ok(Some((ticket.boot, number)))
    }

    /// The serial after the last one that this release burns.
    pub(super) fn mark_after(&self) -> Result<u64, LedgerError> {
        let Correlations { first, count, .. } = self.correlations;
        first.checked_add(u64::from(count)).ok_or(LedgerError::SerialRange { first, count })
    }
}

/// Seconds since 1970 for records, which tell people when; 0 where the clock stands before.
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Refuses a name that is empty or too long.
pub(super) fn named(what: &'static str, name: &str) -> Result<(), LedgerError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(LedgerError::Name { what, length: name.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{charged, request};

    #[test]
    fn names_owners_and_serials_are_bounded() {
        let good = request(1);
        good.check().unwrap();
        let refused = |change: fn(&mut Reserve)| {
            let mut bad = request(1);
            change(&mut bad);
            bad.check().unwrap_err()
        };
        assert!(matches!(refused(|r| r.task.clear()), LedgerError::Name { what: "task", .. }));
        assert!(matches!(refused(|r| r.client = "x".repeat(129)), LedgerError::Name { length: 129, .. }));
        assert!(matches!(refused(|r| r.owners.clear()), LedgerError::OwnerCount { count: 0 }));
        assert!(matches!(
            refused(|r| r.owners = (0..1025).map(|n| charged(&n.to_string())).collect()),
            LedgerError::OwnerCount { count: 1025 }
        ));
        assert!(matches!(refused(|r| r.owners.push(r.owners[0].clone())), LedgerError::OwnerTwice { .. }));
        for (batch, place) in [(0, 1 << 20), (1 << 44, 0)] {
            let ticket = NoiseTicket { boot: [1; 16], batch, place };
            let bad = Reserve { noise_ticket: Some(ticket), ..request(1) };
            assert!(matches!(bad.check(), Err(LedgerError::TicketRange { .. })));
        }
        assert!(matches!(
            refused(|r| r.correlations.first = u64::MAX),
            LedgerError::SerialRange { first: u64::MAX, .. }
        ));
    }
}
