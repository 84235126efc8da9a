//! Why models do not make a plan.

use super::{DISTANCE_BITS_MAX, MODELS_MAX};
use crate::graph::measure::USERS_MAX;
use crate::graph::network::Shape;
use crate::graph::program::ProgramError;
use crate::wire::PAYLOAD_BYTES_MAX;

/// Why models do not make a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No model, or too many.
    #[error("{0} models; a task has between 1 and {MODELS_MAX}")]
    Models(usize),
    /// A model takes another input than the task.
    #[error("model {model} takes inputs of shape {found}, the task has {expected}")]
    Input {
        /// Position of the model.
        model: usize,
        /// Shape that the task states.
        expected: Shape,
        /// Shape that the model takes.
        found: Shape,
    },
    /// A model tells apart another number of classes than the task.
    #[error("model {model} has {found} outputs, the task has {expected} classes")]
    Classes {
        /// Position of the model.
        model: usize,
        /// Classes of the task.
        expected: usize,
        /// Outputs of the model.
        found: usize,
    },
    /// No user, or too many.
    #[error("{0} users; a one-class task has between 1 and {USERS_MAX}")]
    Users(usize),
    /// Distances do not fit the ring.
    #[error(
        "distances below 2^{distance_bits} with {fraction_bits} bits after the point of their roots do not fit the ring: distance_bits is at least 1, and twice fraction_bits with distance_bits at most {DISTANCE_BITS_MAX}"
    )]
    Distance {
        /// Bits of the bound on distances.
        distance_bits: u32,
        /// Bits after the point of values.
        fraction_bits: u32,
    },
    /// A model of another kind of task.
    #[error("model {model} is {found}, and the task takes {expected}")]
    Kind {
        /// Position of the model.
        model: usize,
        /// Models that the task takes.
        expected: &'static str,
        /// What the model is.
        found: &'static str,
    },
    /// Distances of a one-class task name one user or nobody, which no count can pass.
    #[error("a one-class task has no threshold on votes: its models have thresholds of their own")]
    Threshold,
    /// A network does not fit the task's numbers.
    #[error("model {model}: {error}")]
    Program {
        /// Position of the model.
        model: usize,
        /// What does not fit.
        error: ProgramError,
    },
    /// The models together open more in one round than a frame carries.
    #[error("round {round} opens {bytes} bytes; a frame carries {PAYLOAD_BYTES_MAX}: lower the task's batch")]
    Frame {
        /// The round, from 0.
        round: usize,
        /// Payload bytes in each direction.
        bytes: usize,
    },
    /// The noise, or the threshold, is too large for the ring.
    #[error("noise or a threshold of magnitude {0} is too large")]
    Noise(u64),
}
