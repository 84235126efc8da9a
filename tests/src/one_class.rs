//! One-class tasks on real data: whose model knows an input, told by two parties and by the same models in plaintext.
//!
//! Each user has the rows of one class and trains on them alone. The rows of a data set are split once: models are
//! fitted on the first part, thresholds chosen by the second, and every figure comes from the third, which nothing
//! was learnt from. Two parties answer in this process, with correlated randomness from an insecure stand-in; online
//! they do what the parties of the product do, in the same rounds and with the same bytes.

mod asked;
mod compression;
mod costs;
mod effort;
mod refusal;
mod report;
mod roc;
mod score;
mod split;
mod subject;
mod users;

pub use asked::{Agreement, Panel, Pass};
pub use compression::{QUALITY, recompressed};
pub use costs::{CostRow, USERS, costs};
pub use effort::{Effort, PAPER};
pub use refusal::{LeftOut, Refusals};
pub use report::{Compression, Outcome};
pub use roc::{Point, area, points};
pub use score::{Scores, UserScore, share};
pub use split::{Part, Split};
pub use subject::{Material, Subject};
pub use users::{Kind, Trained};

use crate::data::DataError;
use consilium::training::{ExamplesError, PcaError, TrainError};
use consilium_protocol::algebra::fixed::FixedError as EncodeError;
use consilium_protocol::evaluate::shared::EvaluationError;
use consilium_protocol::graph::{NetworkError, PlanError};
use consilium_protocol::model::OneClassError;
use consilium_protocol::model::fixed::FixedError;

/// Hears of each batch how many rows it had.
pub type Tick<'a> = &'a dyn Fn(usize);

/// Largest magnitude of a value of an input.
const INPUT_ABS_MAX: f64 = 1.0;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Data set.
    pub subject: Subject,
    /// How models measure.
    pub kind: Kind,
    /// Principal directions.
    pub rank: usize,
    /// Users, each with one of the first classes.
    pub users: usize,
    /// Most test rows that are asked about; all of them if absent.
    pub queries: Option<usize>,
    /// Seed of split, training, masks and shares.
    pub seed: u64,
    /// Share of a user's own validation rows that its threshold accepts.
    pub accepted: f64,
    /// Whether each class is left out in turn.
    pub strangers: bool,
    /// Whether images are asked about again after compression.
    pub jpeg: bool,
    /// Whether costs of more users are measured.
    pub costs: bool,
}

/// Why a trial cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// Principal directions.
    #[error(transparent)]
    Pca(#[from] PcaError),
    /// A training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network of an autoencoder.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What was trained is no one-class model.
    #[error(transparent)]
    Model(#[from] OneClassError),
    /// A model in fixed point.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// A row in fixed point.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The task.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The two parties.
    #[error("the two parties: {0}")]
    Parties(#[from] EvaluationError),
    /// More users than classes, or none.
    #[error("{users} users; each has a class of its own, and there are {classes}")]
    Users {
        /// Users asked for.
        users: usize,
        /// Classes of the data.
        classes: usize,
    },
    /// A single user.
    #[error("a class can be left out of two users or more")]
    Lonely,
    /// A class that was not asked about.
    #[error("no row of class {0} was asked about; raise the number of queries")]
    NoRows(String),
}

#[cfg(test)]
mod tests;
