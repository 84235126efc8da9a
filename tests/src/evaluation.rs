//! The larger evaluations: the demo's processes on the data beside the repository.

mod noise;
mod scenario;
mod shipped;

pub use noise::{NoisyAccuracy, noisy_accuracies};
pub use scenario::{Choice, EvaluationError, scenario};
pub use shipped::{ShippedVotes, shipped_votes};
