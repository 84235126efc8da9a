//! Consilium.

pub mod datasets;
pub mod ledger;
pub mod net;
pub mod registry;
pub mod training;
pub mod vault;
