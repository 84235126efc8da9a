//! What is refused, by name.

use super::container::FileKind;
use crate::vault::VaultError;
use consilium_protocol::algebra::prg::SeedError;
use consilium_protocol::homomorphic::{OpenError, PlanError};
use consilium_protocol::misbehaviour::Misbehaviour;
use std::path::{Path, PathBuf};

/// Why a file was refused, or a work not done.
#[derive(Debug, thiserror::Error)]
pub enum HomomorphicError {
    /// The disk is full, or the system refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No randomness.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Something else than a file of this kind of task.
    #[error("{path} is none of the files that `consilium he` writes")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file of another version of this program.
    #[error(
        "{path} is of format {found}, this version reads format {}; use the version that wrote it, or make it again",
        super::FORMAT
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
    },
    /// A file of another kind.
    #[error("{path} is {found}; {expected} is needed here")]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: FileKind,
        /// What is needed.
        expected: FileKind,
    },
    /// The end is missing.
    #[error("{path} ends too soon: {found} bytes of {expected}; copy it again")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length that it has to have at least.
        expected: u64,
    },
    /// Bytes behind the end.
    #[error("{path} is {found} bytes long and should be {expected}; copy it again")]
    Longer {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The length that it has to have.
        expected: u64,
    },
    /// Bytes that are not those that were written.
    #[error("{path} was changed after it was written: its bytes do not fit its checksum; copy it again")]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// A heading that says what none of this version says.
    #[error("the heading of {path} makes no sense: {problem}; it was not written by this program")]
    Heading {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A plan that this version does not make.
    #[error("{path} cannot be used: {source}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PlanError,
    },
    /// A file that belongs to another plan.
    #[error("{path} was made for another plan than the one given")]
    OtherPlan {
        /// The file.
        path: PathBuf,
    },
    /// A file that belongs to another key.
    #[error("{path} was made under another key than the one given")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// An answer to another query.
    #[error("{path} answers another query than the one given")]
    OtherQuery {
        /// The file.
        path: PathBuf,
    },
    /// A secret would have been lost.
    #[error(
        "{path} exists; a secret is not replaced, because answers to its queries could never be opened. Choose another name, or remove it"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Something else would have been replaced.
    #[error("{path} exists and is not {kind}, so it is not replaced; choose another name, or remove it")]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        kind: FileKind,
    },
    /// Values that a row must not have.
    #[error(
        "row {row}, value {column} (both from 1) is {value}, and the plan takes {low} to {high}; scale it, or plan for a wider range"
    )]
    Input {
        /// The row, from 1.
        row: usize,
        /// The value's place in it, from 1.
        column: usize,
        /// The value.
        value: f64,
        /// Smallest admissible value.
        low: f64,
        /// Largest admissible value.
        high: f64,
    },
    /// A row of another length.
    #[error("a row has {found} values, and the plan's network reads {expected}")]
    Width {
        /// Values of an input.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// Too many rows, or none.
    #[error("{found} rows; a query of this plan holds 1 to {most}: take some of them by --skip and --take")]
    Rows {
        /// Rows given.
        found: usize,
        /// Rows that fit.
        most: usize,
    },
    /// Bytes that are no ciphertexts or keys.
    #[error("{path} holds something else than it says: {source}")]
    Bytes {
        /// The file.
        path: PathBuf,
        /// What.
        source: Misbehaviour,
    },
    /// An answer that does not open.
    #[error("{path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// An answer of the self-test that does not open.
    #[error("the self-test failed: {0}; do not use this plan, and report this")]
    SelfTestOpen(OpenError),
    /// Bytes of the self-test that are refused.
    #[error("the self-test failed: {0}; do not use this plan, and report this")]
    SelfTestBytes(Misbehaviour),
    /// The self-test gave another number than the network of integers.
    #[error(
        "the self-test failed: output {output} of input {input} came out as {found}, and is {expected}; do not use this plan, and report this"
    )]
    SelfTestLogit {
        /// Which input.
        input: usize,
        /// Which output.
        output: usize,
        /// What was opened.
        found: i128,
        /// What the network of integers says.
        expected: i128,
    },
    /// A model that does not make the plan.
    #[error("this model does not make the plan given: {0}")]
    OtherModel(String),
}

/// What is wrong with a file in words for somebody who has no business with the place where it lies.
pub(crate) fn nameless(error: &HomomorphicError, path: &Path, name: &str) -> String {
    error.to_string().replace(&path.display().to_string(), name)
}
