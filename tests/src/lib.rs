//! Worlds of many nodes, larger data and the larger evaluations.

pub mod data;
pub mod evaluation;
pub mod link;
pub mod goals;
