//! What preprocessing costs on this machine, measured on the very code that fills the pools.

mod nets;
mod preprocessing;

pub use nets::{NETS, Net};
pub use preprocessing::{Kind, Measured, Source, measure};
