//! A node as a service: what its manager hears, what a reload changes, and how a start fails.
//!
//! ```text
//! start ──▶ READY=1 ──▶ loops turn ──▶ WATCHDOG=1, STATUS=…        watchdog.rs
//!                  ├──▶ SIGHUP ──▶ RELOADING=1, check, change or begin anew, READY=1   reload.rs, change.rs
//!                  └──▶ SIGTERM ─▶ STOPPING=1, answer what was asked, stop
//! ```
//!
//! The manager is systemd, or whatever listens at `NOTIFY_SOCKET`; without one everything else is the same.

mod anew;
mod change;
mod failure;
mod manager;
mod reload;
mod watchdog;

pub use anew::begin_anew;
pub use change::{Change, LIVE, When, changes, roster_changes};
pub use failure::{Failure, exit_code};
pub use manager::Manager;
pub use reload::{Files, Outcome, Reloader};
pub use watchdog::{Watchdog, status_line};
