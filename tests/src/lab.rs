//! The laboratory's figures on real images: how often the attack on encodings is right, what a classifier of encodings
//! is worth beside one of plain images, and that its stage by distances finds nothing in what two parties see, and in
//! labels with noise no more than the class that they tell.

mod control;
mod joint;
mod report;
mod thefts;

pub use control::{Control, Expected, control};
pub use joint::{Joint, joint};
pub use report::Outcome;
pub use thefts::{Theft, thefts};

use crate::data::{DataError, Dataset, Set, load};
use clap::ValueEnum;
use consilium::lab::{Images, LabError};
use consilium::training::{Examples, ExamplesError, TrainError};
use consilium_attest::NoiseError;
use consilium_protocol::algebra::fixed::FixedError as EncodeError;
use consilium_protocol::algebra::prg::Seed;
use consilium_protocol::evaluate::shared::EvaluationError;
use consilium_protocol::graph::NetworkError;
use consilium_protocol::model::fixed::FixedError;
use consilium_protocol::privacy::NumberError;
use std::path::Path;

/// Rows, and columns, of the images.
const SIDE: usize = 28;

/// A data set of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Chest X-rays: normal or pneumonia
    Pneumonia,
    /// Handwritten digits
    Mnist,
    /// Garments
    Fashion,
}

impl Subject {
    /// The data set.
    pub fn set(self) -> Set {
        match self {
            Self::Pneumonia => Set::PneumoniaMnist,
            Self::Mnist => Set::Mnist,
            Self::Fashion => Set::FashionMnist,
        }
    }
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Images.
    pub subject: Subject,
    /// Images of an attack.
    pub images: usize,
    /// Widths that are attacked; the first is the one with goals.
    pub widths: Vec<usize>,
    /// Encoders of the attacker's own.
    pub own: usize,
    /// Repetitions with other keys, images and first weights.
    pub seeds: u64,
    /// Whether a clone is trained.
    pub clone: bool,
    /// Numbers of hospitals that train together; none to leave that out.
    pub hospitals: Vec<usize>,
    /// Training images of each hospital.
    pub per_hospital: usize,
    /// Width of their encoders.
    pub joint_width: usize,
    /// Repetitions of the control, with other images and masks; none to leave it out.
    pub control_repetitions: u64,
}

/// Why a trial cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// A training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network of the control.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its models in fixed point.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// A row in fixed point.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The two parties.
    #[error("the two parties: {0}")]
    Parties(#[from] EvaluationError),
    /// The noise's numbers.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The source of the noise.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// More images than there are.
    #[error("{wanted} images are asked for, the data set has {found}")]
    Images {
        /// Asked for.
        wanted: usize,
        /// There are.
        found: usize,
    },
}

/// A seed for a purpose and a repetition.
fn seed(purpose: &str, repetition: u64) -> Seed {
    Seed::from_bytes(*b"laboratory trial").derive(purpose, repetition)
}

/// Some rows of a data set as images.
fn images(rows: &Examples, places: &[usize]) -> Result<Images, TrialError> {
    let wanted = places.iter().max().map_or(0, |place| place + 1);
    if wanted > rows.rows() || places.is_empty() {
        return Err(TrialError::Images { wanted, found: rows.rows() });
    }
    let chosen = rows.select(places)?;
    Ok(Images::new(SIDE, chosen.inputs().to_vec(), chosen.labels().to_vec())?)
}

/// The data set.
fn data(subject: Subject, shared: &Path) -> Result<Dataset, TrialError> {
    Ok(load(subject.set(), shared)?)
}

#[cfg(test)]
mod tests;
