//! Worlds of many nodes, larger data and the larger evaluations.

pub mod data;
pub mod noise;
pub mod evaluation;
pub mod goals;
pub mod homomorphic;
pub mod lab;
pub mod link;
pub mod measured;
pub mod membership;
pub mod one_class;
pub mod program;
pub mod siege;
pub mod soak;
pub mod testbed;
pub mod wire;
