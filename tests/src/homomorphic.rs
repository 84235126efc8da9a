//! Networks of squares on real data: under one client's key and by two parties, beside the same integers in the clear.

mod batch;
mod owner;
mod pair;
mod published;
mod report;
mod single;

pub use batch::{BatchRun, Bytes};
pub use owner::{Effort, OwnerRun, evaluate_alone};
pub use pair::PairRun;
pub use published::{Known, PUBLISHED_SCALES, known_answers};
pub use report::{Amounts, Outcome};
pub use single::SingleRun;

use crate::data::DataError;
use consilium::homomorphic::HomomorphicError;
use consilium::training::Examples;
use consilium_protocol::homomorphic::{Chosen, IntegerNet, Mode, ScalesError, choose_scales};
use consilium_protocol::model::{ImportError, Model, import};
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};

/// Training rows by which scales are chosen.
const SAMPLES: usize = 256;
/// Smallest and largest number of an image.
pub const RANGE: [f64; 2] = [0.0, 1.0];

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model file.
    #[error("{path}: {source}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImportError>,
    },
    /// Scales or parameters.
    #[error(transparent)]
    Scales(#[from] ScalesError),
    /// Files, keys or answers.
    #[error(transparent)]
    Homomorphic(#[from] HomomorphicError),
    /// Bytes, seeds or answers in memory.
    #[error("{0}")]
    Memory(String),
    /// The two parties.
    #[error("the two parties: {0}")]
    Pair(String),
    /// A process of the owner.
    #[error("the owner's process: {0}")]
    Owner(String),
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// A network of integers in both modes, and the rows that it is tried on.
#[derive(Debug)]
pub struct Subject {
    /// The model as it was exported.
    pub model: Model,
    /// Its file.
    pub path: PathBuf,
    /// For batches.
    pub batch: Chosen,
    /// For single queries.
    pub single: Chosen,
    /// Test rows with their labels.
    pub test: Examples,
}

impl Subject {
    /// Reads a model and chooses scales by training rows.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn new(path: &Path, train: &Examples, test: Examples) -> Result<Self, TrialError> {
        let bytes =
            std::fs::read(path).map_err(|source| TrialError::File { path: path.to_owned(), source })?;
        let model = import(&bytes)
            .map_err(|source| TrialError::Model { path: path.to_owned(), source: Box::new(source) })?
            .model;
        let rows = (0..SAMPLES.min(train.rows()))
            .flat_map(|row| train.row(row).iter().map(|value| f64::from(*value)));
        let samples: Vec<f64> = rows.collect();
        let chosen = |mode| choose_scales(&model, RANGE, mode, &samples);
        Ok(Self {
            batch: chosen(Mode::Batch)?,
            single: chosen(Mode::Single)?,
            path: path.to_owned(),
            model,
            test,
        })
    }
}

/// Labels of logits: the first of the largest.
pub fn labels(net: &IntegerNet, logits: &[i128]) -> Vec<usize> {
    let largest =
        |row: &[i128]| (0..row.len()).max_by_key(|at| (row[*at], std::cmp::Reverse(*at))).unwrap_or(0);
    logits.chunks_exact(net.outputs()).map(largest).collect()
}

/// Share of labels that are right, in percent.
pub fn accuracy(found: &[usize], right: impl Iterator<Item = usize>) -> f64 {
    let same = found.iter().zip(right).filter(|(found, right)| **found == *right).count();
    100.0 * same as f64 / found.len().max(1) as f64
}

/// Seconds of processor time of this process, all threads.
pub fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// Seconds of processor time of this thread.
pub fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
