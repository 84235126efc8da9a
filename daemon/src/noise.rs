//! Noise that an attested module draws for both compute parties: a party's own side of it.
//!
//! ```text
//! door.rs      the way to the module: a socket here, or through the node of the member that hosts it
//! session.rs   a channel to a module whose evidence holds, and the verdict on it
//! journal.rs   what vouched for which draws, kept for auditors
//! stock.rs     shares of noise that wait, and where the next release takes its noise from
//! ```
//!
//! What both parties do together is in [`compute`](crate::compute).

mod collateral;
mod door;
mod journal;
mod session;
mod stock;

pub use door::{Door, carry};
pub use journal::{Journal, JournalError};
pub use session::{Held, Module, Terms, Verdict};
pub use stock::{Drawn, NotAdmitted, Stock, Undecided};

use consilium_attest::choice::ModuleState;

/// Why there is no noise from the module now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// It does not answer, or answered something useless.
    #[error("{0}")]
    Unreachable(String),
    /// Its evidence was refused, by this party or the other.
    #[error("{0}")]
    Refused(String),
}

impl Away {
    pub(crate) fn unreachable(error: impl std::fmt::Display) -> Self {
        Self::Unreachable(error.to_string())
    }

    /// Whether evidence was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<Away> for ModuleState {
    fn from(away: Away) -> Self {
        match away {
            Away::Unreachable(reason) => Self::Unreachable { reason },
            Away::Refused(reason) => Self::Refused { reason },
        }
    }
}
