//! What is asked about: masses by a table, digits by images, and a network of squares for each.

use crate::datasets::{
    DIGITS_DEPTH, Normalisation, NormalisationError, SplitError, breast_cancer, digits, split,
};
use crate::demo::measure::Progress;
use crate::training::{Examples, Recipe, TrainError, train};
use consilium_protocol::graph::{Layer, Network, NetworkError, Shape, Window};
use consilium_protocol::model::Model;

/// Rows that are held out: a fifth.
const TEST_FRACTION: f64 = 0.2;
/// Normalised measures of a mass are cut here.
const BOUND: f32 = 3.0;

/// A network and what it is asked about.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) credit: &'static str,
    pub(super) model: Model,
    pub(super) train: Examples,
    pub(super) test: Examples,
    /// Smallest and largest value of an input.
    pub(super) range: [f64; 2],
}

/// Why there is no subject.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    /// The data cannot be split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The data cannot be scaled.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// The layers do not fit.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Trains both networks.
pub(super) fn both(seed: u64, progress: &Progress) -> Result<[Subject; 2], SubjectError> {
    let bar = progress.bar("networks are trained", 2);
    let made = |name, credit, layers, shape, range, rows: (Examples, Examples)| {
        let network = Network::new(shape, layers)?;
        let (train_rows, test) = rows;
        let recipe = Recipe::table(train_rows.rows());
        let model = train(&network, &train_rows, &recipe, seed, &mut |_, _| ())?;
        bar.inc(1);
        Ok::<_, SubjectError>(Subject { name, credit, model, train: train_rows, test, range })
    };
    let dense = |outputs| Layer::Dense { outputs };

    let table = breast_cancer();
    let (train_rows, test) = split(&table, TEST_FRACTION, seed)?;
    let scale = Normalisation::fit(&train_rows, BOUND)?;
    let layers = vec![dense(8), Layer::Square, dense(2)];
    let rows = (scale.apply(&train_rows)?, scale.apply(&test)?);
    let range = [-f64::from(BOUND), f64::from(BOUND)];
    let masses = made(table.name, table.credit, layers, Shape::vector(30), range, rows)?;

    let table = digits();
    let (train_rows, test) = split(&table, TEST_FRACTION, seed)?;
    let scale = Normalisation::uniform(64, 0.0, 1.0 / DIGITS_DEPTH, 1.0)?;
    let shape = Shape { channels: 1, height: 8, width: 8 };
    let conv = Layer::Conv { outputs: 8, window: Window::plain(3, 1) };
    let layers = vec![conv, Layer::Square, dense(10)];
    let rows = (scale.apply(&train_rows)?, scale.apply(&test)?);
    let images = made(table.name, table.credit, layers, shape, [0.0, 1.0], rows)?;
    bar.finish_and_clear();
    Ok([masses, images])
}
