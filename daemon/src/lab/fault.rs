//! What is refused, by name.

use crate::training::{OwnRowsError, TrainError};
use crate::vault::VaultError;
use consilium_protocol::algebra::prg::SeedError;
use std::path::PathBuf;

/// Why a work of the laboratory was not done.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The disk is full, or the system refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No randomness.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A file of images or labels.
    #[error(transparent)]
    Rows(#[from] OwnRowsError),
    /// A training, or the library below it.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Sizes of an encoder.
    #[error("no such encoder: {problem}")]
    Shape {
        /// Why, and what to do.
        problem: String,
    },
    /// Images that do not fit.
    #[error("{problem}")]
    Images {
        /// Why.
        problem: String,
    },
    /// Too few or too many images.
    #[error("{found} images where {least} to {most} are needed: {why}")]
    Count {
        /// Images given.
        found: usize,
        /// Fewest.
        least: usize,
        /// Most.
        most: usize,
        /// For what.
        why: &'static str,
    },
    /// A file that is not what it should be.
    #[error("{path} is no {kind} of the laboratory: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another version of this program wrote it.
    #[error(
        "{path} is of version {found:?}, this program reads version {}; use the program that wrote it, or make it again",
        super::file::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// Bytes that are not those that were written.
    #[error("{path} was changed after it was written: its bytes do not fit its checksum; copy it again")]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// A key, or a truth, would have been lost.
    #[error("{path} exists and is not replaced; choose another name, or remove it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A truth of other encodings, or candidates that cannot be theirs.
    #[error("{0}")]
    Unfit(String),
}
