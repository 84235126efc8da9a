//! Consilium.

pub mod ledger;
pub mod registry;
pub mod vault;
