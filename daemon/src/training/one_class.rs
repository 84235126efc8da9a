//! What a user learns of its own rows alone: how far something is from them, and how far is too far.
//!
//! The measure is learnt from one part of the rows. Of the other part, from which nothing is learnt but which step of a
//! training run was the best, only the distances count: the threshold is a percentile of these. Rows that are to test
//! the model belong to neither part.

use super::parts::{Parts, PartsError};
use super::pca::{PcaError, centre, pca};
use super::reconstructor::{ReconstructorRecipe, reconstructor_network, train_reconstructor};
use super::{Examples, ExamplesError, TrainError};
use consilium_protocol::evaluate::float::distance;
use consilium_protocol::graph::{NetworkError, Shape};
use consilium_protocol::model::{Model, OneClass, OneClassError, Projection};
use zeroize::Zeroizing;

/// Part of the mean squared distance of rows from their mean below which a threshold is only rounding: directions in
/// single precision leave that much of what lies in their plane.
const THRESHOLD_SHARE_MIN: f64 = 1e-6;

/// How a distance is learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OneClassMethod {
    /// Distance from the plane of so many principal directions.
    Pca {
        /// Directions, at least 1 and fewer than a row has values.
        rank: usize,
    },
    /// Error of an autoencoder.
    Autoencoder(ReconstructorRecipe),
}

/// Settings of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneClassSetting {
    /// Shape of one row.
    pub input: Shape,
    /// How the distance is learnt.
    pub method: OneClassMethod,
    /// Validation rows of a hundred that the threshold accepts, above 0 and at most 100.
    pub percentile: f64,
    /// Part of the rows to validate on, above 0 and below 1.
    pub validation: f64,
    /// Equal seeds give equal parts and, on one machine, equal models.
    pub seed: u64,
    /// Whether an autoencoder's outputs are cut at -1 and 1, for rows that by their terms stay between these. It becomes
    /// public with the network, so it must not be found out from the rows.
    pub cut: bool,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneClassStage {
    /// It learns; counts steps.
    Training,
    /// It measures; counts validation rows.
    Measuring,
}

/// Why there is no one-class model.
#[derive(Debug, thiserror::Error)]
pub enum OneClassTrainError {
    /// Rows of another length.
    #[error("a row has {found} values, an input of shape {input} has {}", .input.len())]
    Shape {
        /// Shape of one row.
        input: Shape,
        /// Values of one row.
        found: usize,
    },
    /// No percentile.
    #[error("the percentile is {0}; it must lie above 0, and be at most 100")]
    Percentile(f64),
    /// Too few rows.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// Rows that are none.
    #[error(transparent)]
    Rows(#[from] ExamplesError),
    /// Nothing to learn.
    #[error("all rows to train on are alike, so there is nothing to learn; look at what was exported")]
    Constant,
    /// No principal directions.
    #[error(transparent)]
    Pca(#[from] PcaError),
    /// No network for the rows.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model is none.
    #[error(transparent)]
    Model(#[from] OneClassError),
    /// Distances that are only rounding.
    #[error(
        "the validation rows have no distance from the model that is more than rounding, so it would accept them and little else; take a lower rank, or drop values that are the same in every row"
    )]
    NoDistance,
}

/// A model with its threshold, and how it came about. Distances and threshold are secret: nothing prints them.
#[derive(Clone, PartialEq)]
pub struct LearnedOneClass {
    model: OneClass,
    parts: Parts,
    distances: Zeroizing<Vec<f64>>,
}

impl std::fmt::Debug for LearnedOneClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LearnedOneClass").field("model", &self.model).finish_non_exhaustive()
    }
}

impl LearnedOneClass {
    /// The model with its threshold.
    pub fn model(&self) -> &OneClass {
        &self.model
    }

    /// Positions of the rows that were learnt from, and of those that the threshold is from.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Distances of the validation rows in rising order, as parts of the threshold.
    pub fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let threshold = self.model.threshold();
        self.distances.iter().map(move |distance| distance / threshold)
    }
}

/// Hears the stage, what is done of it, and all of it.
pub type OneClassProgress<'a> = &'a mut dyn FnMut(OneClassStage, usize, usize);

/// Learns a distance from one part of the rows, and takes as threshold the smallest of the distances of the other part
/// that so many of a hundred do not exceed. Labels do not count. Blocks until it is done: call it from a thread of its
/// own.
///
/// # Errors
/// [`OneClassTrainError`]: too few rows, rows that are alike, a rank that says nothing, or a training that failed.
pub fn learn_one_class(
    rows: &Examples,
    setting: &OneClassSetting,
    progress: OneClassProgress<'_>,
) -> Result<LearnedOneClass, OneClassTrainError> {
    let OneClassSetting { input, percentile, .. } = *setting;
    if input.len() != rows.features() {
        return Err(OneClassTrainError::Shape { input, found: rows.features() });
    }
    if !(percentile > 0.0 && percentile <= 100.0) {
        return Err(OneClassTrainError::Percentile(percentile));
    }
    let parts = Parts::deal(rows.rows(), setting.validation, setting.seed)?;
    let (train, validation) = (rows.select(parts.train())?, rows.select(parts.validation())?);
    let (_, spread) = centre(&train);
    if spread == 0.0 {
        return Err(OneClassTrainError::Constant);
    }
    let measure = Measured::learn(&train, &validation, setting, progress)?;
    // The distance does not depend on the threshold.
    let without = measure.with_threshold(input, 0.0)?;
    let mut distances = Zeroizing::new(Vec::with_capacity(validation.rows()));
    for row in 0..validation.rows() {
        distances.push(distance(&without, validation.row(row)));
        progress(OneClassStage::Measuring, row + 1, validation.rows());
    }
    distances.sort_by(f64::total_cmp);
    let threshold = quantile(&distances, percentile);
    if threshold.is_nan() || threshold <= THRESHOLD_SHARE_MIN * spread {
        return Err(OneClassTrainError::NoDistance);
    }
    Ok(LearnedOneClass { model: measure.with_threshold(input, threshold)?, parts, distances })
}

/// A distance without a threshold.
enum Measured {
    Projection(Projection),
    Reconstructor(Model),
}

impl Measured {
    fn learn(
        train: &Examples,
        validation: &Examples,
        setting: &OneClassSetting,
        progress: OneClassProgress<'_>,
    ) -> Result<Self, OneClassTrainError> {
        match setting.method {
            OneClassMethod::Pca { rank } => {
                progress(OneClassStage::Training, 0, 1);
                let projection = pca(train, rank)?;
                progress(OneClassStage::Training, 1, 1);
                Ok(Self::Projection(projection))
            }
            OneClassMethod::Autoencoder(recipe) => {
                let network = reconstructor_network(setting.input, setting.cut)?;
                let mut heard = |done, all| progress(OneClassStage::Training, done, all);
                let model =
                    train_reconstructor(&network, train, validation, &recipe, setting.seed, &mut heard)?;
                Ok(Self::Reconstructor(model))
            }
        }
    }

    fn with_threshold(&self, input: Shape, threshold: f64) -> Result<OneClass, OneClassError> {
        match self {
            Self::Projection(projection) => OneClass::projection(input, projection.clone(), threshold),
            Self::Reconstructor(model) => OneClass::reconstruction(model.clone(), threshold),
        }
    }
}

/// The smallest of these values, given in rising order, that `percentile` of a hundred do not exceed; NaN where there
/// are none.
fn quantile(rising: &[f64], percentile: f64) -> f64 {
    // A share that is a whole number but for rounding is that number.
    let needed = (percentile * rising.len() as f64 / 100.0 - 1e-9).ceil();
    let at = (needed as usize).clamp(1, rising.len().max(1)) - 1;
    rising.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::Measure;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const PCA: OneClassSetting = OneClassSetting {
        input: Shape::vector(6),
        method: OneClassMethod::Pca { rank: 2 },
        percentile: 95.0,
        validation: 0.25,
        seed: 1,
        cut: true,
    };

    /// Values near a plane of two dimensions around `shift`.
    fn plane(rows: usize, shift: f32, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let mut inputs = Vec::new();
        for _ in 0..rows {
            let (a, b) = (generator.random_range(-0.4f32..0.4), generator.random_range(-0.4f32..0.4));
            let flat = [a, b, a + b, a - b, -a, 0.5 * b];
            inputs.extend(flat.map(|value| shift + value + generator.random_range(-0.02f32..0.02)));
        }
        Examples::new(6, inputs, vec![0; rows]).unwrap()
    }

    fn learn(rows: &Examples, setting: &OneClassSetting) -> Result<LearnedOneClass, OneClassTrainError> {
        learn_one_class(rows, setting, &mut |_, _, _| ())
    }

    fn accepted(model: &OneClass, rows: &Examples) -> usize {
        (0..rows.rows()).filter(|row| distance(model, rows.row(*row)) <= model.threshold()).count()
    }

    #[test]
    fn the_threshold_is_the_percentile_of_the_validation_rows() {
        let rising: Vec<f64> = (1..=100).map(f64::from).collect();
        for (percentile, expected) in [(99.0, 99.0), (7.0, 7.0), (100.0, 100.0), (98.5, 99.0), (0.1, 1.0)] {
            assert_eq!(quantile(&rising, percentile), expected, "{percentile}");
        }
        assert_eq!(quantile(&rising[..10], 99.0), 10.0);
        assert!(quantile(&[], 50.0).is_nan());
        let rows = plane(400, 0.0, 1);
        for percentile in [50.0, 95.0, 100.0] {
            let learned = learn(&rows, &OneClassSetting { percentile, ..PCA }).unwrap();
            let validation = rows.select(learned.parts().validation()).unwrap();
            assert_eq!(accepted(learned.model(), &validation), percentile as usize);
            assert_eq!(learned.shares().filter(|share| *share <= 1.0).count(), percentile as usize);
            let mut distances: Vec<f64> =
                (0..100).map(|row| distance(learned.model(), validation.row(row))).collect();
            distances.sort_by(f64::total_cmp);
            assert_eq!(learned.model().threshold(), distances[percentile as usize - 1]);
        }
    }

    #[test]
    fn own_rows_are_near_and_others_far() {
        let rows = plane(400, 0.0, 2);
        let learned = learn(&rows, &PCA).unwrap();
        assert_eq!(learned.model().measure(), Measure::Projection { input: PCA.input, rank: 2 });
        let (own, other) = (plane(100, 0.0, 3), plane(100, 0.3, 4));
        assert!(accepted(learned.model(), &own) > 80);
        assert_eq!(accepted(learned.model(), &other), 0);
    }

    #[test]
    fn an_autoencoder_has_a_threshold_too() {
        let recipe = ReconstructorRecipe { learning_rate: 2e-3, batch: 32, steps: 800, adversarial: 0.001 };
        let setting = OneClassSetting { method: OneClassMethod::Autoencoder(recipe), ..PCA };
        let mut heard = Vec::new();
        let rows = plane(400, 0.0, 5);
        let learned =
            learn_one_class(&rows, &setting, &mut |stage, done, all| heard.push((stage, done, all))).unwrap();
        assert_eq!(heard.len(), 800 + 100);
        assert_eq!(
            heard[799..801],
            [(OneClassStage::Training, 800, 800), (OneClassStage::Measuring, 1, 100)]
        );
        let Measure::Reconstruction(network) = learned.model().measure() else { panic!("a projection") };
        assert!(network.summary().ends_with("hardtanh"), "{}", network.summary());
        let validation = rows.select(learned.parts().validation()).unwrap();
        assert_eq!(accepted(learned.model(), &validation), 95);
        // Without a bound nothing is cut, whatever the rows are.
        let brief = ReconstructorRecipe { steps: 1, ..recipe };
        let setting = OneClassSetting { method: OneClassMethod::Autoencoder(brief), cut: false, ..setting };
        let Measure::Reconstruction(network) = learn(&plane(60, 0.0, 6), &setting).unwrap().model().measure()
        else {
            panic!("a projection")
        };
        assert!(network.summary().ends_with("fc6"), "{}", network.summary());
    }

    #[test]
    fn a_seed_fixes_model_and_parts() {
        let rows = plane(80, 0.0, 7);
        let learned = learn(&rows, &PCA).unwrap();
        assert_eq!(learned, learn(&rows, &PCA).unwrap());
        assert_ne!(learned.parts(), learn(&rows, &OneClassSetting { seed: 2, ..PCA }).unwrap().parts());
    }

    #[test]
    fn what_cannot_be_learnt_is_named() {
        let rows = plane(80, 0.0, 8);
        let refused = |rows: &Examples, setting: &OneClassSetting| learn(rows, setting).unwrap_err();
        let few = refused(&plane(30, 0.0, 9), &PCA);
        assert!(matches!(few, OneClassTrainError::Parts(PartsError::Few { rows: 30, .. })), "{few}");
        assert!(few.to_string().contains("collect more rows"), "{few}");
        for percentile in [0.0, 100.5, f64::NAN] {
            let refused = refused(&rows, &OneClassSetting { percentile, ..PCA });
            assert!(matches!(refused, OneClassTrainError::Percentile(_)), "{refused}");
        }
        let rank = |rank| OneClassSetting { method: OneClassMethod::Pca { rank }, ..PCA };
        for (asked, expected) in [(0, "rank 0, and these rows allow 1 to 5"), (6, "rank 6, and these")] {
            let refused = refused(&rows, &rank(asked)).to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
        let shape = OneClassSetting { input: Shape::vector(7), ..PCA };
        assert!(matches!(refused(&rows, &shape), OneClassTrainError::Shape { found: 6, .. }));
        let alike = Examples::new(6, vec![0.7; 480], vec![0; 80]).unwrap();
        assert!(matches!(refused(&alike, &PCA), OneClassTrainError::Constant));
        // NaN does not become a row.
        let unknown = Examples::new(6, vec![f32::NAN; 480], vec![0; 80]);
        assert_eq!(unknown.unwrap_err(), ExamplesError::NotFinite { row: 0 });
        // Rows that lie in the plane have no distance from it.
        let mut generator = StdRng::seed_from_u64(10);
        let flat = (0..80).flat_map(|_| {
            let (a, b) = (generator.random_range(-1i8..=1), generator.random_range(-1i8..=1));
            [a, b, a + b, a - b, -a, 2 * b].map(f32::from)
        });
        let flat = Examples::new(6, flat.collect(), vec![0; 80]).unwrap();
        assert!(matches!(refused(&flat, &PCA), OneClassTrainError::NoDistance));
    }

    #[test]
    fn debug_hides_threshold_and_distances() {
        let learned = learn(&plane(80, 0.0, 11), &PCA).unwrap();
        let shown = format!("{learned:?}");
        assert!(shown.contains("Projection(12 + 6)"), "{shown}");
        assert!(!shown.contains(&learned.model().threshold().to_string()), "{shown}");
    }
}
