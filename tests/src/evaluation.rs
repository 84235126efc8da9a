//! The larger evaluations: the demo's processes on the data beside the repository.

mod noise;
mod planned;
mod scenario;
mod shipped;

pub use noise::{NoisyAccuracy, noisy_accuracies};
pub use planned::{Compared, Planned, PlannedError, planned, recorded, service};
pub use scenario::{Choice, EvaluationError, scenario};
pub use shipped::{ShippedVotes, shipped_votes};
