//! A consortium of real processes over loopback: charged, killed, refused, listened to.
//!
//! Each process is the product's own program with files as an administrator would write them. Waits are
//! conditions with deadlines.

#![allow(clippy::unwrap_used, reason = "tests")]

mod audit;
mod bench;
mod budgets;
mod charges;
mod commands;
mod consensus;
mod crashes;
mod deaths;
mod distill;
mod encrypted;
mod laboratory;
mod far;
mod hostile;
mod http;
mod models;
mod nats;
mod neighbours;
mod noise;
mod pools;
mod refills;
mod repeats;
mod roster;
mod secrecy;
mod service;
mod setting;
mod shards;
mod standby;
mod together;
mod users;
