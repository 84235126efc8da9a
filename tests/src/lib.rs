//! Consilium.
