//! Users who train alone: each on the rows of its class.

use super::asked::{Panel, with_threshold};
use super::split::{Part, Split};
use super::subject::Material;
use super::{INPUT_ABS_MAX, Setting, TrialError};
use clap::ValueEnum;
use consilium::demo::Progress;
use consilium::training::{Examples, ReconstructorRecipe, pca, reconstructor_network, train_reconstructor};
use consilium_protocol::evaluate::float;
use consilium_protocol::graph::{Numbers, OneClassShape, Shape};
use consilium_protocol::model::OneClass;
use consilium_protocol::model::fixed::prove_one_class;

/// Bits after the point.
const FRACTION_BITS: u32 = 16;
const DISTANCE_BITS: u32 = 20;

/// How models measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Distance from the plane of principal directions
    Pca,
    /// Error of an autoencoder, trained with a judge
    Autoencoder,
}

impl Kind {
    /// Bits before the point. What an input could reach at most grows with every layer.
    fn value_bits(self) -> u32 {
        match self {
            Self::Pca => 12,
            Self::Autoencoder => 24,
        }
    }
}

/// Users with their models, and the rows to ask about.
#[derive(Debug)]
pub struct Trained {
    /// The users.
    pub panel: Panel,
    /// Rows that nobody has seen.
    pub test: Examples,
    /// Whose they are.
    pub truth: Vec<usize>,
    /// Names of the three parts.
    pub parts: Vec<Part>,
    /// Why a node would not publish these models, if it would not.
    pub unproved: Option<String>,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pca => "pca",
            Self::Autoencoder => "autoencoder",
        }
    }
}

impl Trained {
    /// Splits the rows and trains all users.
    ///
    /// # Errors
    /// More users than classes, too few rows, or a training failed.
    pub fn new(setting: &Setting, material: &Material, progress: &Progress) -> Result<Self, TrialError> {
        let (users, classes) = (setting.users, material.classes.len());
        if !(1..=classes).contains(&users) {
            return Err(TrialError::Users { users, classes });
        }
        let split = Split::new(material.rows.rows(), setting.seed);
        let bar = progress.bar("users train", users as u64);
        let mut models = Vec::with_capacity(users);
        for user in 0..users {
            let (train, validation) =
                (material.of(user, &split.train)?, material.of(user, &split.validation)?);
            models.push(learnt(setting, material.shape, &train, &validation, user)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let numbers = Numbers { fraction_bits: FRACTION_BITS, value_bits: setting.kind.value_bits() };
        let shape = OneClassShape { input: material.shape, numbers, distance_bits: DISTANCE_BITS };
        let proof = models.iter().try_for_each(|model| prove_one_class(model, shape, INPUT_ABS_MAX));
        let label = |row: &usize| usize::from(material.rows.labels()[*row]);
        let of_users = split.test.iter().copied().filter(|row| label(row) < users);
        let asked: Vec<usize> = of_users.take(setting.queries.unwrap_or(usize::MAX)).collect();
        let names = material.classes.iter().take(users).cloned().collect();
        Ok(Self {
            panel: Panel { names, models, shape, seed: setting.seed },
            test: material.rows.select(&asked)?,
            truth: asked.iter().map(label).collect(),
            parts: split.parts(),
            unproved: proof.err().map(|error| error.to_string()),
        })
    }
}

/// A user's model. The threshold accepts a share of the validation rows, of which an autoencoder's best step was chosen
/// as well.
fn learnt(
    setting: &Setting,
    input: Shape,
    train: &Examples,
    validation: &Examples,
    user: usize,
) -> Result<OneClass, TrialError> {
    let model = match setting.kind {
        Kind::Pca => OneClass::projection(input, pca(train, setting.rank)?, 0.0)?,
        Kind::Autoencoder => {
            let network = reconstructor_network(input, true)?;
            let recipe = ReconstructorRecipe::of(train.rows(), input);
            let seed = setting.seed.wrapping_add(user as u64);
            let model = train_reconstructor(&network, train, validation, &recipe, seed, &mut |_, _| ())?;
            OneClass::reconstruction(model, 0.0)?
        }
    };
    let distance = |row: usize| float::distance(&model, validation.row(row));
    let threshold = quantile((0..validation.rows()).map(distance).collect(), setting.accepted);
    Ok(with_threshold(&model, threshold)?)
}

/// The smallest of these that at least a share of them does not pass.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = (share * values.len() as f64).ceil() as usize;
    values.get(count.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_accepts_its_share() {
        let values = || (1..=100).rev().map(f64::from).collect::<Vec<f64>>();
        for (share, expected) in [(0.0, 1.0), (0.5, 50.0), (0.985, 99.0), (1.0, 100.0)] {
            assert_eq!(quantile(values(), share), expected, "{share}");
        }
        assert_eq!(quantile(Vec::new(), 0.5), 0.0);
    }
}
