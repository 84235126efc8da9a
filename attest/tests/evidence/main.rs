//! Evidence against the verifier: captured from real hardware, and made here under roots that only tests name.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod forge;
mod capture;
mod captures;
mod acceptance;
mod flips;
mod matrix;
mod toml_policy;
mod fuzz;
mod speed;
