//! Evaluators of the same plan: in the clear with the same fixed point, and under sharing.

pub mod clear;
pub mod shared;
