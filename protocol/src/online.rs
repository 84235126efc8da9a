//! Gates of the online phase: straight lines over one [`crate::context::Context`], each with a card.

pub mod consensus;
pub mod indicator;
pub mod keyed;
pub mod linear;
pub mod masked;
pub mod nearest;
pub mod norm;
pub mod open;
pub mod piecewise;
pub mod pool;
pub mod release;
pub mod square;
pub mod vote;
