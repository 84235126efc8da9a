//! Correlated randomness: what a plan demands, what a party holds, each entry used at most once.
//!
//! A *bundle* serves one evaluation of a plan. On arrival it is a [`Tape`]: free words that the
//! party expands from a seed, and dependent words that either expand from a second seed or were
//! sent as corrections. Comparison keys add words that both parties are sent. [`Provision`] is the bundle laid out entry by entry; gates take entries
//! from it in the order of the plan, and taking moves.

mod compare;
mod demand;
mod key;
mod product;
mod provision;
mod tape;

pub use compare::{CompareShape, FAN_MAX, SMALL_FAN_MAX};
pub use demand::{Demand, Gadget, IndicatorShape, MaskedShape};
pub use key::{HASH_KEY_WORDS, Key, KeyShape, correct};
pub use product::{ProductSet, Tables};
pub use provision::{
    BitMask, Indicator, Keyed, Linear, Masked, MaskedInput, NormPair, Products, Provision, Selection,
    SquarePair, StockError, WeightOpenings,
};
pub use tape::{Desk, Tape, free_stream};
