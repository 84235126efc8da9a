//! How the refilling of a pool goes, for people.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The refilling of one task's pool.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Seen>);

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Bundles made of the batch in progress, and bundles in it.
    pub(crate) batch: Option<(u32, u32)>,
    /// Bundles made in a second, over the last batch with its writing.
    pub(crate) bundles_per_second: Option<f64>,
    /// Why the last batch failed, if it did.
    pub(crate) fault: Option<String>,
}

impl Progress {
    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn begin(&self, count: u32) {
        self.change(|seen| seen.batch = Some((0, count)));
    }

    pub(crate) fn one_more(&self) {
        self.change(|seen| {
            if let Some((made, of)) = &mut seen.batch {
                *made = (*made + 1).min(*of);
            }
        });
    }

    /// The batch in progress is over, well or not.
    pub(crate) fn end(&self, took: Option<Duration>) {
        self.change(|seen| {
            if let (Some((_, count)), Some(took)) = (seen.batch.take(), took) {
                seen.bundles_per_second = Some(f64::from(count) / took.as_secs_f64().max(1e-9));
            }
        });
    }

    /// Remembers the last fault; says whether it is a new one.
    pub(crate) fn note(&self, fault: Option<String>) -> bool {
        self.change(|seen| {
            let new = seen.fault != fault;
            seen.fault = fault;
            new
        })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.change(|seen| seen.clone())
    }
}
