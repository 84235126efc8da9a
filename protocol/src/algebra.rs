//! Arithmetic of the ring Z_2^64, fixed point, packed bits and the kernels over them.
//!
//! Words are `u64` and every sum and product wraps. Activations lie in memory as
//! `[channel][row][column][batch]`, so that each layer is one matrix product whatever the batch.

pub mod bits;
pub mod conv;
pub mod fixed;
pub mod hash;
mod lanes;
pub mod linear;
pub mod matmul;
pub mod pool;
pub mod prg;
pub mod shuffle;
pub mod stream;
pub mod z64;

pub use bits::Packed;
pub use conv::ConvShape;
pub use fixed::Fixed;
pub use linear::LinearShape;
pub use matmul::MatmulShape;
pub use pool::PoolShape;
pub use prg::{Prg, Seed};
pub use shuffle::ShuffleShape;
