//! What making correlated randomness may take of this machine; it may change while the node runs.

use super::Compute;
use consilium_config::Pools as PoolSettings;
use std::sync::{Mutex, PoisonError};

/// The settings of the node file that hold until others are read.
#[derive(Debug)]
pub(crate) struct Allowance(Mutex<PoolSettings>);

impl Allowance {
    pub(crate) fn new(settings: &PoolSettings) -> Self {
        Self(Mutex::new(*settings))
    }

    fn now(&self) -> PoolSettings {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bundles made at once.
    pub(super) fn refill_batch_queries(&self) -> u32 {
        self.now().refill_batch_queries
    }

    /// Bytes on the disk of all bundles of all tasks.
    pub(super) fn pool_bytes_max(&self) -> u64 {
        self.now().bytes_max
    }
}

impl Compute {
    /// Takes other settings over: the size of the next batches, and the room for them. Smaller room stops refilling
    /// until questions have used up what is there.
    pub(crate) fn allow(&self, settings: &PoolSettings) {
        *self.allowance.0.lock().unwrap_or_else(PoisonError::into_inner) = *settings;
        // Refilling may have stopped for want of room.
        self.spare.notify_waiters();
    }
}
