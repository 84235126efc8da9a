//! Training of owners' networks, for demonstrations, the lab and distillation.
//!
//! Outside what Consilium exists for, hence a library's tensors and gradients behind one small interface:
//! [`train`] makes a [`Model`] of a [`Network`] and [`Examples`] by a [`Recipe`], [`train_soft`] does so with
//! shares of belief for labels, and [`classify`] applies a model in the clear. [`learn_one_class`] makes a distance
//! and a threshold of one user's own rows, by [`pca()`] or by [`train_reconstructor`]. Equal arguments give equal
//! weights, on one machine with one number of threads. Nothing else of the daemon may name the libraries.
//!
//! Runs on the processor with single precision. The library takes as many threads as `RAYON_NUM_THREADS`
//! says, else one per core, and they spin while they wait: set it to 1 where many processes train side by
//! side. The library does not wipe its buffers: while a process trains, and after, copies of records and
//! weights lie in its freed memory.

mod clone;
mod encoder;
mod examples;
mod forward;
mod one_class;
mod optimiser;
mod own;
mod parts;
mod pca;
mod planes;
mod products;
mod recipe;
mod reconstructor;
mod soft;
mod tokens;

pub use clone::{CloneRecipe, train_clone};
pub use encoder::{Encoder, EncoderParts, Linear, NORM_EPSILON, Norm, Statistics};
pub use examples::{Examples, ExamplesError, ROWS_MAX, VALUES_MAX};
pub use one_class::{
    LearnedOneClass, OneClassMethod, OneClassProgress, OneClassSetting, OneClassStage, OneClassTrainError,
    learn_one_class,
};
pub use own::{OWN_ROWS_MAX, OwnRows, OwnRowsError, Reading, own_labels};
pub use parts::{PART_ROWS_MIN, Parts, PartsError, digest_of_positions};
pub use pca::{PCA_SIZE_MAX, PcaError, pca};
pub use products::products;
pub use recipe::{BATCH_MAX, EPOCHS_MAX, Optimiser, Recipe, RecipeError};
pub use reconstructor::{ReconstructorRecipe, STEPS_MAX, reconstructor_network, train_reconstructor};
pub use soft::{Targets, TargetsError, train_soft};
pub use tokens::{NamedWeights, TokenClassifier, TokenRecipe, train_tokens};

use candle_core::{Device, Tensor};
use consilium_protocol::graph::{Network, NetworkError};
use consilium_protocol::model::{Model, ModelError};
use forward::Parameters;
use optimiser::Stepper;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Examples that [`classify`] evaluates at once.
const CLASSIFY_BATCH: usize = 256;

/// Why no model came out.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The rows are not what the network reads.
    #[error("the network reads {expected} values, the examples have {found} features")]
    Features {
        /// Values of one query.
        expected: usize,
        /// Features of one row.
        found: usize,
    },
    /// A label has no logit.
    #[error("a label is {label}, the network has {classes} outputs (classes count from 0)")]
    Label {
        /// The label.
        label: u8,
        /// Outputs of the network.
        classes: usize,
    },
    /// Targets for other rows or classes.
    #[error("targets for {} rows and {} classes, where {} and {} are needed", .found[0], .found[1], .expected[0], .expected[1])]
    Targets {
        /// Rows and classes needed.
        expected: [usize; 2],
        /// Rows and classes found.
        found: [usize; 2],
    },
    /// The network has no weights.
    #[error("network {network} has no layer with weights to train")]
    NothingToTrain {
        /// Summary of the network.
        network: String,
    },
    /// A reconstructor that gives back something else than its input.
    #[error("a reconstructor gives back its input of {expected} values, this network has {found} outputs")]
    Outputs {
        /// Values of one query.
        expected: usize,
        /// Outputs of the network.
        found: usize,
    },
    /// Rows too large for the adversary of a reconstructor.
    #[error(
        "rows are too large to be judged while a reconstructor is trained; set its adversarial weight to 0"
    )]
    Judge(#[source] NetworkError),
    /// A setting is out of range.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The outputs ran away, the weights did not.
    #[error(
        "no step gave outputs that are finite numbers; lower the learning rate, or scale the inputs to about 1"
    )]
    Overflow,
    /// The weights ran away.
    #[error("training diverged; lower the learning rate, or scale the inputs to about 1")]
    Diverged(#[source] ModelError),
    /// The tensor library failed.
    #[error("tensor library, while {attempt}")]
    Library {
        /// What was being done.
        attempt: &'static str,
        /// What the library says.
        source: candle_core::Error,
    },
}

fn library(attempt: &'static str) -> impl Fn(candle_core::Error) -> TrainError {
    move |source| TrainError::Library { attempt, source }
}

/// Hears `(epochs done, epochs)` after each epoch.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// Loss of a batch of rows under the parameters.
type Loss<'a> = dyn Fn(&[Parameters], &[usize]) -> candle_core::Result<Tensor> + 'a;

/// Trains `network` from scratch on shuffled mini-batches under softmax cross-entropy. `progress` hears
/// `(epochs done, epochs)` after each epoch. Blocks until it is done: call it from a thread of its own.
///
/// # Errors
/// [`TrainError`] when the arguments do not fit together, or the weights stop being finite numbers.
pub fn train(
    network: &Network,
    data: &Examples,
    recipe: &Recipe,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Model, TrainError> {
    check_fit(network, data)?;
    let classes = network.output().len();
    if let Some(&label) = data.labels().iter().find(|&&label| usize::from(label) >= classes) {
        return Err(TrainError::Label { label, classes });
    }
    fit(network, data.rows(), recipe, seed, progress, &|parameters, rows| {
        loss(network, parameters, data, rows)
    })
}

fn fit(
    network: &Network,
    rows: usize,
    recipe: &Recipe,
    seed: u64,
    progress: Progress<'_>,
    loss: &Loss<'_>,
) -> Result<Model, TrainError> {
    recipe.check()?;
    if !network.layers().iter().any(|layer| layer.is_linear()) {
        return Err(TrainError::NothingToTrain { network: network.summary() });
    }
    let mut generator = StdRng::seed_from_u64(seed);
    let parameters = forward::initialise(network, &mut generator).map_err(library("making the weights"))?;
    let steps = recipe.epochs.saturating_mul(rows.div_ceil(recipe.batch));
    let mut stepper =
        Stepper::new(recipe, &parameters, steps).map_err(library("setting up the optimiser"))?;
    let mut order: Vec<usize> = (0..rows).collect();
    for epoch in 1..=recipe.epochs {
        order.shuffle(&mut generator);
        for rows in order.chunks(recipe.batch) {
            let gradients = loss(&parameters, rows).and_then(|loss| loss.backward());
            let gradients = gradients.map_err(library("computing a gradient"))?;
            stepper.step(&gradients).map_err(library("taking a step"))?;
        }
        progress(epoch, recipe.epochs);
    }
    let model = forward::export(network, &parameters).map_err(library("reading the weights"))?;
    model.map_err(TrainError::Diverged)
}

/// The class with the largest logit for each row, the lowest of equals, in single precision and in the clear.
///
/// # Errors
/// Rows that the model does not read.
pub fn classify(model: &Model, data: &Examples) -> Result<Vec<u8>, TrainError> {
    let network = model.network();
    check_fit(network, data)?;
    let parameters = forward::import(model).map_err(library("reading the weights"))?;
    let rows: Vec<usize> = (0..data.rows()).collect();
    let mut labels = Vec::with_capacity(data.rows());
    for rows in rows.chunks(CLASSIFY_BATCH) {
        let scores = batch(data, rows)
            .and_then(|rows| forward::logits(network, &parameters, rows)?.to_vec2::<f32>())
            .map_err(library("evaluating a batch"))?;
        labels.extend(scores.iter().map(|scores| largest(scores)));
    }
    Ok(labels)
}

/// Classes above 255 cannot be named by a label, so they are never chosen.
fn largest(scores: &[f32]) -> u8 {
    let candidates = scores.iter().zip(0..=u8::MAX);
    candidates.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(0, |(_, label)| label)
}

fn check_fit(network: &Network, data: &Examples) -> Result<(), TrainError> {
    let (expected, found) = (network.input().len(), data.features());
    if expected == found { Ok(()) } else { Err(TrainError::Features { expected, found }) }
}

fn batch(data: &Examples, rows: &[usize]) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = rows.iter().flat_map(|&row| data.row(row)).copied().collect();
    Tensor::from_vec(values, (rows.len(), data.features()), &Device::Cpu)
}

fn loss(
    network: &Network,
    parameters: &[Parameters],
    data: &Examples,
    rows: &[usize],
) -> candle_core::Result<Tensor> {
    let labels: Vec<u32> = rows.iter().map(|&row| u32::from(data.labels()[row])).collect();
    let labels = Tensor::from_vec(labels, rows.len(), &Device::Cpu)?;
    let logits = forward::logits(network, parameters, batch(data, rows)?)?;
    candle_nn::loss::cross_entropy(&logits, &labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::{Layer, Shape, Window};
    use rand::RngExt;

    const DENSE: Layer = Layer::Dense { outputs: 3 };

    fn network(input: Shape, layers: &[Layer]) -> Network {
        Network::new(input, layers.to_vec()).unwrap()
    }

    fn perceptron() -> Network {
        network(Shape::vector(4), &[Layer::Dense { outputs: 16 }, Layer::Relu, DENSE])
    }

    /// Three clouds, one per class, in four dimensions.
    fn clouds(rows: usize, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let labels: Vec<u8> = (0..rows).map(|row| (row % 3) as u8).collect();
        let centre = |label: u8, feature: usize| if usize::from(label) == feature { 1.5 } else { 0.0 };
        let inputs = labels.iter().flat_map(|&label| (0..4).map(move |feature| centre(label, feature)));
        let noisy: Vec<f32> = inputs.map(|mean| mean + generator.random_range(-0.6f32..0.6)).collect();
        Examples::new(4, noisy, labels).unwrap()
    }

    fn noise(features: usize, rows: usize, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let inputs = (0..features * rows).map(|_| generator.random_range(-1.0f32..1.0)).collect();
        Examples::new(features, inputs, (0..rows).map(|row| (row % 3) as u8).collect()).unwrap()
    }

    fn brief(optimiser: Optimiser, epochs: usize) -> Recipe {
        Recipe { optimiser, learning_rate: 0.05, batch: 16, epochs, weight_decay: 0.0 }
    }

    fn quiet(network: &Network, data: &Examples, recipe: &Recipe, seed: u64) -> Result<Model, TrainError> {
        train(network, data, recipe, seed, &mut |_, _| ())
    }

    fn mean_loss(model: &Model, data: &Examples) -> f32 {
        let rows: Vec<usize> = (0..data.rows()).collect();
        let parameters = forward::import(model).unwrap();
        loss(model.network(), &parameters, data, &rows).unwrap().to_scalar().unwrap()
    }

    fn accuracy(model: &Model, data: &Examples) -> f64 {
        let found = classify(model, data).unwrap();
        let right = found.iter().zip(data.labels()).filter(|(found, label)| found == label).count();
        right as f64 / data.rows() as f64
    }

    #[test]
    fn training_lowers_the_loss_and_generalises() {
        let (data, held_out) = (clouds(300, 1), clouds(90, 2));
        for optimiser in [Optimiser::Sgd { momentum: 0.9 }, Optimiser::Adam] {
            let start =
                quiet(&perceptron(), &data, &Recipe { learning_rate: 1e-9, ..brief(optimiser, 1) }, 7)
                    .unwrap();
            let end = quiet(&perceptron(), &data, &brief(optimiser, 10), 7).unwrap();
            assert!(mean_loss(&end, &data) < 0.2 * mean_loss(&start, &data), "{optimiser:?}");
            assert!(accuracy(&end, &held_out) > 0.95, "{optimiser:?}");
        }
    }

    /// Labels say where a bright spot lies, which pools and padded, strided convolutions must carry to the
    /// end.
    #[test]
    fn convolutions_pools_and_squares_learn() {
        let mut generator = StdRng::seed_from_u64(3);
        let labels: Vec<u8> = (0..240).map(|row| (row % 3) as u8).collect();
        let mut inputs = Vec::new();
        for &label in &labels {
            let mut image = [0.0f32; 64];
            image.fill_with(|| generator.random_range(0.0..0.3));
            image[generator.random_range(0..2usize) * 8 + 3 * usize::from(label) + 24] += 1.0;
            inputs.extend(image);
        }
        let data = Examples::new(64, inputs, labels).unwrap();
        let padded = Window { kernel: [3, 3], stride: [1, 2], padding: [1, 0, 1, 1] };
        let image = Shape { channels: 1, height: 8, width: 8 };
        let conv = Layer::Conv { outputs: 6, window: padded };
        let overlapping = Layer::MaxPool { window: Window::plain(2, 1) };
        let mean = Layer::AveragePool { window: Window { kernel: [2, 1], stride: [2, 1], padding: [0; 4] } };
        for layers in [
            vec![conv, Layer::Relu, overlapping, conv, Layer::Relu, DENSE],
            vec![mean, conv, Layer::Square, DENSE],
            vec![conv, Layer::Relu, mean, DENSE],
        ] {
            let network = network(image, &layers);
            let model = quiet(&network, &data, &brief(Optimiser::Sgd { momentum: 0.9 }, 20), 5).unwrap();
            assert!(accuracy(&model, &data) > 0.95, "{}: {}", network.summary(), accuracy(&model, &data));
        }
    }

    #[test]
    fn a_seed_fixes_the_model() {
        let data = clouds(100, 4);
        let recipe = brief(Optimiser::Adam, 2);
        let model = quiet(&perceptron(), &data, &recipe, 11).unwrap();
        assert_eq!(model, quiet(&perceptron(), &data, &recipe, 11).unwrap());
        assert_ne!(model, quiet(&perceptron(), &data, &recipe, 12).unwrap());
    }

    #[test]
    fn progress_counts_epochs() {
        let mut heard = Vec::new();
        let recipe = brief(Optimiser::Adam, 3);
        train(&perceptron(), &clouds(30, 5), &recipe, 0, &mut |done, all| heard.push((done, all))).unwrap();
        assert_eq!(heard, [(1, 3), (2, 3), (3, 3)]);
    }

    #[test]
    fn initial_weights_have_the_variance_of_he() {
        let wide = network(Shape::vector(200), &[Layer::Dense { outputs: 100 }]);
        let parameters = forward::initialise(&wide, &mut StdRng::seed_from_u64(6)).unwrap();
        let model = forward::export(&wide, &parameters).unwrap().unwrap();
        let weights = &model.weights()[0].weight;
        let variance = weights.iter().map(|weight| weight * weight).sum::<f32>() / weights.len() as f32;
        assert!((variance - 0.01).abs() < 5e-4, "{variance}");
        assert!(model.weights()[0].bias.iter().all(|&bias| bias == 0.0));
    }

    /// One layer after the definition in the protocol's documentation, value by value.
    fn apply(
        layer: &Layer,
        input: Shape,
        output: Shape,
        weights: Option<(&[f32], &[f32])>,
        x: &[f32],
    ) -> Vec<f32> {
        let at = |channel: usize, row: i64, column: i64| {
            let inside =
                (0..i64::from(input.height)).contains(&row) && (0..i64::from(input.width)).contains(&column);
            if !inside {
                return 0.0;
            }
            x[(channel * input.height as usize + row as usize) * input.width as usize + column as usize]
        };
        let under = |window: &Window, channel: usize, row: usize, column: usize| -> Vec<f32> {
            let [kernel_rows, kernel_columns] = window.kernel.map(i64::from);
            let top = row as i64 * i64::from(window.stride[0]) - i64::from(window.padding[0]);
            let left = column as i64 * i64::from(window.stride[1]) - i64::from(window.padding[1]);
            let cells = (0..kernel_rows).flat_map(|y| (0..kernel_columns).map(move |x| (y, x)));
            cells.map(|(y, x)| at(channel, top + y, left + x)).collect()
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let area = (output.height * output.width) as usize;
        let place = |index: usize| {
            (index / area, index % area / output.width as usize, index % output.width as usize)
        };
        let value = |index: usize| {
            let (channel, row, column) = place(index);
            match (layer, weights) {
                (Layer::Dense { .. }, Some((w, b))) => dot(&w[index * x.len()..][..x.len()], x) + b[index],
                (Layer::Conv { window, .. }, Some((w, b))) => {
                    let patch: Vec<f32> = (0..input.channels as usize)
                        .flat_map(|source| under(window, source, row, column))
                        .collect();
                    dot(&w[channel * patch.len()..][..patch.len()], &patch) + b[channel]
                }
                (Layer::Relu, _) => x[index].max(0.0),
                (Layer::Square, _) => x[index] * x[index],
                (Layer::MaxPool { window }, _) => {
                    under(window, channel, row, column).into_iter().fold(f32::MIN, f32::max)
                }
                (Layer::AveragePool { window }, _) => {
                    under(window, channel, row, column).iter().sum::<f32>() / window.area() as f32
                }
                _ => panic!("a linear layer without weights"),
            }
        };
        (0..output.len()).map(value).collect()
    }

    fn naive(model: &Model, row: &[f32]) -> Vec<f32> {
        let network = model.network();
        let mut weights = model.weights().iter();
        let mut values = row.to_vec();
        for (index, layer) in network.layers().iter().enumerate() {
            let (input, output) = (network.shape_before(index), network.shape_before(index + 1));
            let entry = if layer.is_linear() { weights.next() } else { None };
            let entry = entry.map(|entry| (&entry.weight[..], &entry.bias[..]));
            values = apply(layer, input, output, entry, &values);
        }
        values
    }

    /// The weights that leave a short training run compute, by the layout of the protocol, what the library
    /// computed.
    #[test]
    fn the_layout_is_that_of_the_protocol() {
        let colour = Shape { channels: 2, height: 7, width: 6 };
        let lopsided = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1] };
        let conv = |outputs, window| Layer::Conv { outputs, window };
        let max = Layer::MaxPool { window: Window { kernel: [2, 3], stride: [1, 2], padding: [0; 4] } };
        let mean = Layer::AveragePool { window: Window::plain(2, 1) };
        let networks = [
            perceptron(),
            network(colour, &[Layer::Dense { outputs: 5 }, Layer::Square, DENSE]),
            network(
                colour,
                &[conv(4, lopsided), Layer::Relu, max, conv(3, Window::plain(2, 1)), Layer::Relu, DENSE],
            ),
            network(colour, &[mean, conv(4, lopsided), Layer::Square, DENSE]),
            network(colour, &[conv(3, Window { kernel: [7, 6], ..Window::plain(1, 1) })]),
        ];
        for network in &networks {
            let data = noise(network.input().len(), 10, 8);
            let model = quiet(network, &data, &brief(Optimiser::Adam, 2), 9).unwrap();
            let parameters = forward::import(&model).unwrap();
            let rows: Vec<usize> = (0..data.rows()).collect();
            let logits = forward::logits(network, &parameters, batch(&data, &rows).unwrap()).unwrap();
            for (row, found) in logits.to_vec2::<f32>().unwrap().iter().enumerate() {
                let expected = naive(&model, data.row(row));
                assert!(expected.iter().any(|value| value.abs() > 1e-3));
                let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4);
                assert!(close, "{}: {found:?} against {expected:?}", network.summary());
            }
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_named() {
        let recipe = brief(Optimiser::Adam, 1);
        let data = clouds(9, 1);
        let narrow = network(Shape::vector(5), &[DENSE]);
        let refusal = |network: &Network, recipe: &Recipe| quiet(network, &data, recipe, 0).unwrap_err();
        assert!(matches!(refusal(&narrow, &recipe), TrainError::Features { expected: 5, found: 4 }));
        let two = network(Shape::vector(4), &[Layer::Dense { outputs: 2 }]);
        assert!(matches!(refusal(&two, &recipe), TrainError::Label { label: 2, classes: 2 }));
        let bare = network(Shape::vector(4), &[Layer::Relu]);
        assert!(matches!(refusal(&bare, &recipe), TrainError::NothingToTrain { .. }));
        let still = Recipe { batch: 0, ..recipe };
        assert!(matches!(refusal(&perceptron(), &still), TrainError::Recipe(_)));
        let model = quiet(&perceptron(), &data, &recipe, 0).unwrap();
        let other = noise(5, 3, 0);
        assert!(matches!(classify(&model, &other), Err(TrainError::Features { expected: 4, found: 5 })));
    }

    #[test]
    fn runaway_weights_are_an_error() {
        let squares = network(Shape::vector(4), &[Layer::Dense { outputs: 8 }, Layer::Square, DENSE]);
        let recipe = Recipe { learning_rate: 1e12, ..brief(Optimiser::Sgd { momentum: 0.9 }, 5) };
        let outcome = quiet(&squares, &clouds(60, 1), &recipe, 0);
        assert!(matches!(outcome, Err(TrainError::Diverged(_))));
    }
}
