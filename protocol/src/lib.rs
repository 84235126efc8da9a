//! Two-party evaluation of shared models, its preprocessing and its private release.
//!
//! The modules stand in dependency order: each uses only earlier ones (a tidy test holds this).
//! Nothing here knows a runtime, a socket, a file, a clock or the environment.

pub mod algebra;
pub mod share;
pub mod wire;
pub mod party;
pub mod misbehaviour;
pub mod stock;
pub mod context;
pub mod offline;
pub mod online;
pub mod graph;
pub mod model;
pub mod evaluate;
pub mod privacy;
#[cfg(feature = "testing")]
pub mod testing;
