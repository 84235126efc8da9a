//! Membership inference: what an attacker learns about who was trained on, signal by signal.
//!
//! One owner, the *victim*, is trained many times, each time on a random half of a pool of records, in pairs
//! that complement each other. The other owners stay as they are, trained on records of their own: the
//! attacker is given all the help it could have. Every record of the pool is asked about with its own
//! features, and from what is seen the attacker has to say in which versions the record was trained on.
//!
//! What is seen grows from the victim's own confidence, which no party of the product ever has, through exact
//! vote counts, which no party ever has either, to noisy labels, which clients get. Two attacks are made on
//! each signal: one threshold for all records, and a likelihood ratio for each record, fitted on the other
//! versions (LiRA, Carlini et al. 2022). Noisy labels are also asked for ten and a hundred times, as if there
//! were no ledger; [`repeat`] shows in a consortium of real processes that there is one.

mod attack;
mod bound;
mod cohort;
mod noise;
mod record;
mod repeat;
mod report;
mod signal;
mod subject;
mod views;

pub use attack::{Figures, Trials, binomial_ratio, figures, gaussian_ratio};
pub use bound::advantage_bound;
pub use cohort::{Cohort, Plan, Version};
pub use noise::{ASKS, Bank, Setting, settings, winner};
pub use record::{Recorded, recorded};
pub use repeat::{RepeatError, Repeated, repeat};
pub use report::{Outcome, REFERENCE_RESOLUTION};
pub use signal::{OneVote, Row, one_votes, rows};
pub use subject::{Material, Subject};
pub use views::Views;

use crate::data::DataError;
use consilium::datasets::{NormalisationError, SplitError};
use consilium::training::{ExamplesError, TrainError};
use consilium_attest::NoiseError;
use consilium_protocol::algebra::fixed::FixedError as EncodeError;
use consilium_protocol::graph::NetworkError;
use consilium_protocol::model::fixed::FixedError;
use consilium_protocol::privacy::NumberError;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Why an experiment cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data are not beside the repository.
    #[error("{0} is not in ../shared beside the repository; set CONSILIUM_SHARED to the folder that has it")]
    NoData(&'static str),
    /// A table that travels with the program.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Its normalisation.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A model in fixed point.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// A record in fixed point.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The noise.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// A number of a mechanism.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// Not enough rows for a pool and the other owners.
    #[error(
        "{owners} owners of {records} records and a pool of twice as many need {needed} rows, not {rows}"
    )]
    Rows {
        /// Owners.
        owners: usize,
        /// Records of each.
        records: usize,
        /// Rows needed.
        needed: usize,
        /// Training rows of the data set.
        rows: usize,
    },
    /// Versions come in pairs, and a ratio is fitted on the other pairs.
    #[error("{0} versions of the victim; take an even number from 6 to 1024, and 2 to 1000 owners")]
    Versions(usize),
}

/// Makes `jobs` results on all cores, in order.
pub(crate) fn on_all_cores<T: Send>(
    jobs: usize,
    workers: usize,
    work: impl Fn(usize) -> Result<T, MembershipError> + Sync,
) -> Result<Vec<T>, MembershipError> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs));
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, jobs.max(1)) {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    let result = work(job);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((job, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(job, _)| *job);
    done.into_iter().map(|(_, result)| result).collect()
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests;
