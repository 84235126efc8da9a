//! Sources of correlated randomness. Each fills the same [`crate::stock::Tape`]s; the online phase
//! does not know which one did.

pub mod dealer;
#[cfg(feature = "testing")]
pub mod insecure;
pub mod ot;
pub mod pairwise;
