//! Each capture gets the verdict that stands in the list beside it, at the time that stands there.

mod nitro;
mod snp;
pub(crate) mod tpm;
pub(crate) mod dcap;

use crate::forge::refusing;
use consilium_attest::Policy;

/// Captures answer nobody's nonce; only the age of a Nitro document's own time counts.
pub(crate) fn policy() -> Policy {
    refusing()
}
