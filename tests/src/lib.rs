//! Consilium.

pub mod data;
