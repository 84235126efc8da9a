//! The daemon of a Consilium member: network, seats, stores, command line.
//!
//! Only [`net`] names libp2p; only [`cli`] and [`demo`] print.

pub mod pulse;
pub mod net;
pub mod crash;
pub mod vault;
pub mod ledger;
pub mod registry;
pub mod pool;
pub mod task;
pub mod losses;
pub mod bulk;
pub mod message;
pub mod outlook;
pub mod tally;
mod reception;
mod transfer;
pub mod consortium;
pub mod noise;
pub mod dealer;
pub mod compute;
pub mod owner;
pub mod client;
pub mod homomorphic;
pub mod encrypted;
pub mod laboratory;
pub mod node;
pub mod admin;
pub mod telemetry;
pub mod preflight;
pub mod http;
pub mod service;
pub mod imaging;
pub mod datasets;
pub mod training;
pub mod lab;
pub mod distill;
pub mod bench;
pub mod chart;
pub mod planning;
pub mod demo;
pub mod cli;
