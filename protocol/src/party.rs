//! The two seats of a computation. Which hospital sits where is the daemon's business.

use serde::{Deserialize, Serialize};

/// A seat in one two-party computation: the index of its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// Leads: picks serials and adds public constants to its share.
    Zero,
    /// Follows.
    One,
}

impl Party {
    /// Both seats, Zero first.
    pub const BOTH: [Self; 2] = [Self::Zero, Self::One];

    /// The opposite seat.
    pub const fn other(self) -> Self {
        match self {
            Self::Zero => Self::One,
            Self::One => Self::Zero,
        }
    }

    /// Whether this seat adds public constants to its share.
    pub const fn holds_constants(self) -> bool {
        matches!(self, Self::Zero)
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Zero => "zero",
            Self::One => "one",
        })
    }
}
