//! The data sets of an experiment, with the networks of the reference figures.

use super::MembershipError;
use crate::data::{Set, load};
use clap::ValueEnum;
use consilium::datasets::{DIGITS_DEPTH, Normalisation, breast_cancer, digits, split};
use consilium::training::{Examples, Recipe};
use consilium_protocol::graph::{Layer, Network, Numbers, Shape};
use std::path::Path;

/// Test rows of a table that travels with the program.
const TEST_FRACTION: f64 = 0.2;
/// Standardised features are clipped to this where the program standardises them.
const CLIPPED: f32 = 6.0;
/// Standardised features of the shared tables stay below this.
const FEATURE_BOUND: f64 = 64.0;
/// Passes over the records of the shared sets, images and tables. The reference figures do not say how many
/// they took; with so many the victims know their own records about as well as theirs do.
const IMAGE_EPOCHS: usize = 60;
const TABLE_EPOCHS: usize = 40;
/// Owners who learnt their records by heart have large weights.
const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 20 };

/// Data set and network of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Garments, 784-128-64-10
    FashionMnist,
    /// Chest X-rays, 784-128-64-2
    PneumoniaMnist,
    /// Readmission of diabetes patients, 59-64-32-2
    Diabetes,
    /// Heart disease, 15-32-16-2
    Heart,
    /// Breast cancer, 30-32-16-2; travels with the program
    BreastCancer,
    /// Handwritten digits of 8 x 8 cells, 64-32-10; travels with the program
    Digits,
}

/// Rows to draw owners from, and what the owners train.
#[derive(Debug)]
pub struct Material {
    /// Rows of the owners.
    pub train: Examples,
    /// Rows that nobody trains on.
    pub test: Examples,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What every owner trains.
    pub network: Network,
    /// Fixed-point numbers of the task.
    pub numbers: Numbers,
    /// Public bound on each input value.
    pub bound: f64,
}

impl Subject {
    /// The name in the reference figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::FashionMnist => "fashion-mnist",
            Self::PneumoniaMnist => "pneumonia-mnist",
            Self::Diabetes => "diabetes",
            Self::Heart => "heart",
            Self::BreastCancer => "breast-cancer",
            Self::Digits => "digits",
        }
    }

    /// Records of each owner in the reference figures, or where there are none as many as the table gives.
    pub fn records(self) -> usize {
        match self {
            Self::FashionMnist | Self::Diabetes => 1_000,
            Self::PneumoniaMnist => 400,
            Self::Heart | Self::BreastCancer => 100,
            Self::Digits => 200,
        }
    }

    /// Owners, likewise.
    pub fn owners(self) -> usize {
        match self {
            Self::FashionMnist | Self::PneumoniaMnist | Self::Diabetes => 10,
            Self::Heart => 4,
            Self::BreastCancer | Self::Digits => 3,
        }
    }

    fn shared(self) -> Option<Set> {
        match self {
            Self::FashionMnist => Some(Set::FashionMnist),
            Self::PneumoniaMnist => Some(Set::PneumoniaMnist),
            Self::Diabetes => Some(Set::Diabetes),
            Self::Heart => Some(Set::Heart),
            Self::BreastCancer | Self::Digits => None,
        }
    }

    /// Whether the data lie beside the repository and do not travel with the program.
    pub fn needs_shared(self) -> bool {
        self.shared().is_some()
    }

    fn layers(self, classes: u32) -> Vec<Layer> {
        let dense = |outputs| Layer::Dense { outputs };
        match self {
            Self::FashionMnist | Self::PneumoniaMnist => {
                vec![dense(128), Layer::Relu, dense(64), Layer::Relu, dense(classes)]
            }
            Self::Diabetes => vec![dense(64), Layer::Relu, dense(32), Layer::Relu, dense(classes)],
            Self::Heart | Self::BreastCancer => {
                vec![dense(32), Layer::Relu, dense(16), Layer::Relu, dense(classes)]
            }
            Self::Digits => vec![dense(32), Layer::Relu, dense(classes)],
        }
    }

    /// How each owner trains on so many records; `epochs` overrides the preset.
    pub fn recipe(self, records: usize, epochs: Option<usize>) -> Recipe {
        let preset = match self {
            Self::FashionMnist | Self::PneumoniaMnist => {
                Recipe { epochs: IMAGE_EPOCHS, ..Recipe::images(records) }
            }
            Self::Diabetes | Self::Heart => Recipe { epochs: TABLE_EPOCHS, ..Recipe::table(records) },
            Self::BreastCancer | Self::Digits => Recipe::table(records),
        };
        Recipe { epochs: epochs.unwrap_or(preset.epochs), ..preset }
    }

    /// The rows, scaled as the networks read them.
    ///
    /// # Errors
    /// The data are absent or damaged.
    pub fn load(self, shared: Option<&Path>, seed: u64) -> Result<Material, MembershipError> {
        let (train, test, classes, bound) = match (self.shared(), shared) {
            (Some(set), Some(folder)) => {
                let data = load(set, folder)?;
                let image = data.shape.height > 1;
                (data.train, data.test, data.classes, if image { 1.0 } else { FEATURE_BOUND })
            }
            (Some(_), None) => return Err(MembershipError::NoData(self.name())),
            (None, _) => {
                let table = if self == Self::Digits { digits() } else { breast_cancer() };
                let (train, test) = split(&table, TEST_FRACTION, seed)?;
                let (scale, bound) = match self {
                    Self::Digits => {
                        (Normalisation::uniform(train.features(), 0.0, 1.0 / DIGITS_DEPTH, 1.0)?, 1.0)
                    }
                    _ => (Normalisation::fit(&train, CLIPPED)?, f64::from(CLIPPED)),
                };
                (scale.apply(&train)?, scale.apply(&test)?, table.class_names, bound)
            }
        };
        let network =
            Network::new(Shape::vector(train.features() as u32), self.layers(classes.len() as u32))?;
        Ok(Material { train, test, classes, network, numbers: NUMBERS, bound })
    }
}
