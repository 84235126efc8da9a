//! One owner, one client and nobody in between: networks of linear layers and squares, evaluated on encrypted inputs.
//!
//! ```text
//! client                                            owner
//! SecretKey::of_seed                                IntegerNet::quantise, Plan::choose
//! SecretKey::evaluation_keys    keys, once          EvaluationKeys::decode
//! Messages::encrypt             rows, block by block  Evaluator::evaluate
//! Opening::logits               answers             Evaluator::answer
//! ```
//!
//! [`crate::manual::homomorphic`] says what is computed, what it rests on, and what it leaves unprotected.

mod batch;
mod evaluator;
mod galois;
mod integer;
mod key;
mod layout;
mod linear;
mod noise;
mod panel;
mod plan;
mod query;
mod ring;
mod rows;
mod sanitise;
mod scales;
mod single;
#[cfg(test)]
mod tests;

pub use evaluator::{Evaluator, Raw};
pub use integer::{INPUT_SCALE_MAX, IntegerNet, QuantiseError, Scales, WEIGHT_MAX};
pub use key::{EvaluationKeys, SecretKey};
pub use layout::CIPHERTEXTS_MAX;
pub use linear::{ChainError, MAP_WEIGHTS_MAX};
pub use plan::{
    MARGIN_BITS, MODULUS_BITS_MAX, Mode, Plan, PlanError, Room, SQUARES_MAX, STATISTICAL_BITS, WIRE_MAX,
};
pub use query::{Block, Messages, OpenError, Opening};
pub use scales::{Chosen, ScalesError, choose_scales, with_scales};

/// Plaintext primes are 1 modulo this, so that they have slots in every ring.
const PRIME_STEP: u64 = 1 << 15;
