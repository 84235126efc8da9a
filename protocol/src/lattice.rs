//! Products under lattice encryption: shares of `weights x operand` between the holders of the two.
//!
//! The *key holder* has one tensor of a layer, the *evaluator* the other, and each ends with a share over
//! Z_2^64 of their product as [`crate::algebra::LinearShape::multiply_add`] computes it. The key holder
//! sees only its share, the evaluator only ciphertexts. [`crate::manual::lattice`] says why, what it rests
//! on, and what the parameters are.
//!
//! ```text
//! key holder                                          evaluator
//! SecretKey::generate      public key, once           PublicKey::decode
//! SecretKey::request       Packing::requests()        Requests::absorb
//! SecretKey::open          Packing::replies()         Evaluation::reply
//! ```
//!
//! Every step takes and gives the bytes of one ciphertext and is a fraction of a millisecond to a few of
//! them, so that a caller can send, wait or do something else in between. Nothing here does either.
//!
//! An evaluator holds 655 kB for each request that [`Packing::requests_of`] a reply names, 2 MB while it
//! computes, and 328 kB for each polynomial that it keeps for the next reply, at most 42 MB. A key holder
//! needs 1 MB.
//!
//! | module | what it is |
//! |---|---|
//! | `prime`, `transform` | residues in `f64`, polynomials in them |
//! | `sample`, `residues` | randomness, scaling, the smaller modulus |
//! | `packing` | which coefficient holds which word |
//! | `wire`, `key`, `evaluation` | ciphertexts as bytes, and both parties |
//! | `noise` | for how many products a tensor is good |

mod evaluation;
mod key;
mod noise;
mod packing;
pub(crate) mod prime;
pub(crate) mod residues;
pub(crate) mod sample;
#[cfg(test)]
mod tests;
pub(crate) mod transform;
pub(crate) mod wire;

pub use evaluation::{Evaluation, Requests};
pub use key::{PublicKey, SecretKey};
pub use noise::STATISTICAL_BITS;
pub use packing::{Blocks, Encrypted, Packing, PackingError};
