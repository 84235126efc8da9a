//! Both parties in one process. Behind the feature `testing`; nothing outside tests uses it.

mod contract;
mod gates;
mod observer;
mod pair;
mod task;

pub use contract::{MaskSeeds, Violation, contract};
pub use gates::{Dealt, Gate, Outcome};
pub use observer::{Finding, Observed, Place, inspect};
pub use pair::{MemoryLink, Transcript, pair, run_now};
pub use task::{Attempt, Inside, Seat, TestTask};
