//! Evaluators of the same model: in floating point, in the clear with the plan's fixed point, and
//! under sharing.

pub mod clear;
pub mod float;
pub mod shared;
