//! Every way in which the pools say no.

use super::PoolId;
use crate::vault::{StoreError, VaultError, hex};
use std::path::PathBuf;

/// Why correlated randomness could not be kept or read. Nothing here stops the daemon: what cannot be
/// read is discarded on both sides and made anew.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A spool file that does not hold what the index says.
    #[error(
        "{path} {detail}; its batch is discarded on both sides and made anew. If this comes again, check the disk"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// The index of all pools cannot be read.
    #[error(
        "{path} cannot be read ({detail}); all pools of this party are discarded and made anew. If this comes again, check the disk"
    )]
    Index {
        /// The index.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// No such pool, or it is retired.
    #[error("pool {} is not held here any more; another one begins", hex::encode(pool))]
    Gone {
        /// The pool.
        pool: PoolId,
    },
    /// No batch holds this serial.
    #[error(
        "serial {serial} of pool {} is not held here: it was used, skipped or never made",
        hex::encode(pool)
    )]
    NotHeld {
        /// The pool.
        pool: PoolId,
        /// The serial.
        serial: u64,
    },
    /// A batch below one that was written before.
    #[error("a batch from serial {first} was offered to a pool that goes on at {next}; serials only rise")]
    Falls {
        /// First serial of the batch.
        first: u64,
        /// Where the pool goes on.
        next: u64,
    },
    /// A batch whose bundles differ in length, or of an impossible size.
    #[error("a batch of {count} bundles has an impossible shape; its source is at fault")]
    Shape {
        /// Bundles in it.
        count: usize,
    },
    /// A spool file cannot be written or removed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The index.
    #[error(transparent)]
    Store(#[from] StoreError),
}
