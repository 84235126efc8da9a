//! Both parties in one process. Behind the feature `testing`; nothing outside tests uses it.

mod pair;
mod task;

pub use pair::{MemoryLink, Transcript, pair, run_now};
pub use task::TestTask;
