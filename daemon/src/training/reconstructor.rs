//! Reconstructors: networks that give back what they know, and what they do not know badly.
//!
//! An autoencoder squeezes a row through a few values. Beside it, in training only, a judge learns to tell what it
//! makes from rows; it looks at patches of images. The autoencoder minimises its error and, with a small weight, what
//! gives it away (Mao et al. 2017, least squares).

use super::forward::{self, Parameters};
use super::recipe::{BATCH_MAX, RecipeError};
use super::{CLASSIFY_BATCH, Examples, Progress, TrainError, batch, check_fit, library};
use candle_core::{Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use consilium_protocol::graph::{Layer, Network, NetworkError, Shape, Slope, Window};
use consilium_protocol::model::Model;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Most steps of one training run.
pub const STEPS_MAX: usize = 1_000_000;
/// Fewest steps between two looks at the validation rows.
const LOOK_STEPS_MIN: usize = 50;
/// Decay of Adam's first moment, as adversarial training wants it.
const FIRST_MOMENT: f64 = 0.5;
/// The last layer starts with smaller weights by this factor, so that no output starts beyond a cut, where there is no
/// gradient.
const LAST_LAYER_SCALE: f64 = 0.1;

/// Images are halved until their sides are no longer than this.
const CODE_SIDE_MAX: u32 = 8;
/// Values that an image is squeezed through.
const IMAGE_CODE: u32 = 32;
/// Channels after the first halving, doubled by each further one, and the most.
const CHANNELS: u32 = 8;
const CHANNELS_MAX: u32 = 64;
/// Most values that any other row is squeezed through.
const ROW_CODE_MAX: usize = 32;
const LEAK: Layer = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
const HALVE: Window = Window { kernel: [4; 2], stride: [2; 2], padding: [1; 4] };
const KEEP: Window = Window { kernel: [3; 2], stride: [1; 2], padding: [1; 4] };

/// Settings of one training run: Adam with moments 0.5 and 0.999 and a constant rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReconstructorRecipe {
    /// Size of a step, above 0.
    pub learning_rate: f64,
    /// Rows a step, between 1 and [`BATCH_MAX`].
    pub batch: usize,
    /// Steps, between 1 and [`STEPS_MAX`].
    pub steps: usize,
    /// Weight of what gives the autoencoder away, at least 0 and below 1; the error weighs the rest. 0 trains without
    /// a judge.
    pub adversarial: f64,
}

impl ReconstructorRecipe {
    /// For so many rows of this shape.
    pub fn of(rows: usize, input: Shape) -> Self {
        let batch = if rows < 200 { 16 } else { 32 };
        let steps = if halvings(input) > 0 { 4_000 } else { 6_000 };
        Self { learning_rate: 2e-4, batch, steps, adversarial: 0.001 }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`RecipeError`] names the first setting at fault.
    pub fn check(&self) -> std::result::Result<(), RecipeError> {
        let fault = |setting, value, range| Err(RecipeError { setting, value, range });
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return fault("learning rate", self.learning_rate, "a positive number");
        }
        if !(1..=BATCH_MAX).contains(&self.batch) {
            return fault("batch", self.batch as f64, "between 1 and 16384");
        }
        if !(1..=STEPS_MAX).contains(&self.steps) {
            return fault("steps", self.steps as f64, "between 1 and 1000000");
        }
        if !(0.0..1.0).contains(&self.adversarial) {
            return fault("adversarial weight", self.adversarial, "at least 0 and below 1");
        }
        Ok(())
    }
}

/// How often the sides of an image are halved; 0 for what is treated as a row without order.
fn halvings(input: Shape) -> u32 {
    let mut side = if input.height == input.width { input.height } else { 0 };
    let mut halvings = 0;
    while side > CODE_SIDE_MAX && side.is_multiple_of(2) {
        side /= 2;
        halvings += 1;
    }
    halvings
}

/// An autoencoder for rows of this shape: convolutions for square images whose sides are even and above 8, dense layers
/// for anything else. With `cut` its outputs are cut at -1 and 1, which suits inputs that stay between these.
///
/// It depends on nothing else: a measure is public, and must not tell about the rows.
///
/// # Errors
/// More values than a network may have.
pub fn reconstructor_network(input: Shape, cut: bool) -> std::result::Result<Network, NetworkError> {
    let mut layers = match halvings(input) {
        0 => dense(input),
        halvings => convolutions(input, halvings),
    };
    if cut {
        layers.push(Layer::HardTanh);
    }
    Network::new(input, layers)
}

fn dense(input: Shape) -> Vec<Layer> {
    let code = (input.len() / 4).clamp(1, ROW_CODE_MAX) as u32;
    let layer = |outputs| Layer::Dense { outputs };
    // A wire holds at most 2^20 values; more are refused with the network.
    let values = u32::try_from(input.len()).unwrap_or(u32::MAX);
    vec![layer(4 * code), LEAK, layer(code), layer(4 * code), Layer::Relu, layer(values)]
}

fn convolutions(input: Shape, halvings: u32) -> Vec<Layer> {
    let channels = |level: u32| CHANNELS_MAX.min(CHANNELS << level.min(8));
    let conv = |outputs, window| Layer::Conv { outputs, window };
    let side = input.height >> halvings;
    let mut layers = Vec::new();
    for level in 0..halvings {
        layers.extend([conv(channels(level), HALVE), LEAK]);
    }
    let deepest = channels(halvings - 1).saturating_mul(side.saturating_mul(side));
    layers.extend([Layer::Dense { outputs: IMAGE_CODE }, Layer::Dense { outputs: deepest }, Layer::Relu]);
    // A vector becomes an image: all of its places come from neighbouring values.
    layers.push(Layer::PixelShuffle { block: side });
    for level in (0..halvings).rev() {
        let outputs = if level == 0 { input.channels } else { channels(level - 1) };
        layers.extend([conv(outputs.saturating_mul(4), KEEP), Layer::PixelShuffle { block: 2 }]);
        if level > 0 {
            layers.push(Layer::Relu);
        }
    }
    layers
}

/// What tells rows from what is made: of an image one score for each patch.
fn judge(input: Shape) -> std::result::Result<Network, NetworkError> {
    let conv = |outputs, window| Layer::Conv { outputs, window };
    let layers = if halvings(input) > 0 {
        vec![conv(2 * CHANNELS, HALVE), LEAK, conv(4 * CHANNELS, HALVE), LEAK, conv(1, KEEP)]
    } else {
        vec![Layer::Dense { outputs: 4 * CHANNELS }, LEAK, Layer::Dense { outputs: 1 }]
    };
    Network::new(input, layers)
}

/// A network whose weights are trained.
struct Learner {
    network: Network,
    parameters: Vec<Parameters>,
    optimiser: AdamW,
}

impl Learner {
    fn new(network: Network, rate: f64, generator: &mut StdRng) -> Result<Self> {
        let parameters = forward::initialise(&network, generator)?;
        let both = |entry: &Parameters| [entry.weight.clone(), entry.bias.clone()];
        let variables: Vec<Var> = parameters.iter().flat_map(both).collect();
        let (beta1, weight_decay) = (FIRST_MOMENT, 0.0);
        let settings = ParamsAdamW { lr: rate, beta1, weight_decay, ..ParamsAdamW::default() };
        let optimiser = AdamW::new(variables, settings)?;
        Ok(Self { network, parameters, optimiser })
    }

    /// One step down the gradient of `loss`.
    fn step(&mut self, loss: &Tensor) -> Result<()> {
        self.optimiser.step(&loss.backward()?)
    }
}

/// An autoencoder and its judge, which learn from each other.
struct Pair {
    autoencoder: Learner,
    judge: Option<Learner>,
    adversarial: f64,
}

impl Pair {
    fn new(
        network: &Network,
        judge: Option<Network>,
        recipe: &ReconstructorRecipe,
        seed: u64,
    ) -> Result<Self> {
        let mut generator = StdRng::seed_from_u64(seed);
        let rate = recipe.learning_rate;
        let autoencoder = Learner::new(network.clone(), rate, &mut generator)?;
        if let Some(last) = autoencoder.parameters.last() {
            last.weight.set(&(last.weight.as_tensor() * LAST_LAYER_SCALE)?)?;
        }
        let judge = judge.map(|judge| Learner::new(judge, rate, &mut generator)).transpose()?;
        Ok(Self { autoencoder, judge, adversarial: recipe.adversarial })
    }

    /// A step of the judge, and one of the autoencoder under the new judge.
    fn step(&mut self, rows: &Tensor) -> Result<()> {
        let network = &self.autoencoder.network;
        let made = forward::logits(network, &self.autoencoder.parameters, rows.clone())?;
        let error = (&made - rows)?.sqr()?.mean_all()?;
        let Some(judge) = &mut self.judge else { return self.autoencoder.step(&error) };
        let scores = |rows: Tensor| forward::logits(&judge.network, &judge.parameters, rows);
        let (right, wrong) = (off(&scores(rows.clone())?, 1.0)?, off(&scores(made.detach())?, 0.0)?);
        judge.step(&((right + wrong)? * 0.5)?)?;
        let given_away = off(&forward::through(&judge.network, &judge.parameters, made)?, 1.0)?;
        let loss = ((error * (1.0 - self.adversarial))? + (given_away * self.adversarial)?)?;
        self.autoencoder.step(&loss)
    }

    /// Mean squared error of the autoencoder for each value of these rows.
    fn error(&self, data: &Examples) -> Result<f64> {
        let Learner { network, parameters, .. } = &self.autoencoder;
        let rows: Vec<usize> = (0..data.rows()).collect();
        let mut sum = 0.0;
        for rows in rows.chunks(CLASSIFY_BATCH) {
            let rows = batch(data, rows)?;
            let made = forward::logits(network, parameters, rows.clone())?;
            sum += f64::from((made - rows)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(sum / data.inputs().len() as f64)
    }
}

/// Mean squared difference of scores from what they should be.
fn off(scores: &Tensor, target: f64) -> Result<Tensor> {
    scores.affine(1.0, -target)?.sqr()?.mean_all()
}

/// Trains a network that gives back its input on shuffled mini-batches, and returns the weights of the step that made
/// the smallest error on the `validation` rows, from which nothing is learnt otherwise. `progress` hears
/// `(steps done, steps)`. Blocks until it is done: call it from a thread of its own.
///
/// # Errors
/// [`TrainError`] when the arguments do not fit together, or the weights stop being finite numbers.
pub fn train_reconstructor(
    network: &Network,
    train: &Examples,
    validation: &Examples,
    recipe: &ReconstructorRecipe,
    seed: u64,
    progress: Progress<'_>,
) -> std::result::Result<Model, TrainError> {
    recipe.check()?;
    check_fit(network, train)?;
    check_fit(network, validation)?;
    let (expected, found) = (network.input().len(), network.output().len());
    if expected != found {
        return Err(TrainError::Outputs { expected, found });
    }
    if !network.layers().iter().any(|layer| layer.is_linear()) {
        return Err(TrainError::NothingToTrain { network: network.summary() });
    }
    let judged = (recipe.adversarial > 0.0).then(|| judge(network.input()));
    let judge = judged.transpose().map_err(TrainError::Judge)?;
    let mut pair = Pair::new(network, judge, recipe, seed).map_err(library("making the weights"))?;
    let mut generator = StdRng::seed_from_u64(seed ^ 1);
    let mut order: Vec<usize> = (0..train.rows()).collect();
    let look_every = LOOK_STEPS_MIN.max(order.len().div_ceil(recipe.batch));
    let mut best: Option<(f64, Model)> = None;
    let mut next = order.len();
    for step in 1..=recipe.steps {
        if next >= order.len() {
            order.shuffle(&mut generator);
            next = 0;
        }
        let end = order.len().min(next + recipe.batch);
        let taken = batch(train, &order[next..end]).and_then(|rows| pair.step(&rows));
        taken.map_err(library("taking a step"))?;
        next = end;
        if step.is_multiple_of(look_every) || step == recipe.steps {
            let error = pair.error(validation).map_err(library("evaluating a batch"))?;
            let model = forward::export(network, &pair.autoencoder.parameters);
            let model = model.map_err(library("reading the weights"))?.map_err(TrainError::Diverged)?;
            if error.is_finite() && best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, model));
            }
        }
        progress(step, recipe.steps);
    }
    best.map(|(_, model)| model).ok_or(TrainError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::evaluate::float;
    use rand::RngExt;

    const IMAGE: Shape = Shape { channels: 2, height: 20, width: 20 };

    fn recipe(steps: usize) -> ReconstructorRecipe {
        ReconstructorRecipe { learning_rate: 2e-3, batch: 16, steps, adversarial: 0.001 }
    }

    fn examples(values: usize, inputs: Vec<f32>) -> Examples {
        let labels = vec![0; inputs.len() / values];
        Examples::new(values, inputs, labels).unwrap()
    }

    /// Eight values that follow from two.
    fn curved(rows: usize, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let row = |_| {
            let (a, b) = (generator.random_range(-1.0f32..1.0), generator.random_range(-1.0f32..1.0));
            [a, b, 0.5 * (a + b), 0.5 * (a - b), a * b, -a, a.abs() - 0.5, 0.3 * b + 0.2]
        };
        examples(8, (0..rows).flat_map(row).collect())
    }

    /// A bright square somewhere in an image of two channels that mirror each other.
    fn squares(rows: usize, seed: u64) -> Examples {
        let mut generator = StdRng::seed_from_u64(seed);
        let mut inputs = Vec::new();
        for _ in 0..rows {
            let (top, left) = (generator.random_range(0..12u32), generator.random_range(0..12u32));
            let inside =
                |at: u32| (top..top + 8).contains(&(at / 20)) && (left..left + 8).contains(&(at % 20));
            let plane: Vec<f32> = (0..400).map(|at| if inside(at) { 0.9 } else { -0.9 }).collect();
            inputs.extend(plane.iter().copied().chain(plane.iter().map(|value| -value)));
        }
        examples(800, inputs)
    }

    /// Mean squared error for each value: of the mean of the training rows, and of the model.
    fn errors(model: &Model, train: &Examples, test: &Examples) -> (f64, f64) {
        let (mean, _) = super::super::pca::centre(train);
        let square = |value: f64| value * value;
        let (mut by_mean, mut by_model) = (0.0, 0.0);
        for row in test.inputs().chunks(test.features()) {
            let made = float::logits(model, row);
            for (at, value) in row.iter().enumerate() {
                by_mean += square(f64::from(*value) - mean[at]);
                by_model += square(f64::from(*value) - made[at]);
            }
        }
        let values = test.inputs().len() as f64;
        (by_mean / values, by_model / values)
    }

    fn learns(input: Shape, cut: bool, of: fn(usize, u64) -> Examples, steps: usize, share: f64) {
        let (train, validation, test) = (of(240, 1), of(60, 2), of(40, 3));
        let network = reconstructor_network(input, cut).unwrap();
        let model =
            train_reconstructor(&network, &train, &validation, &recipe(steps), 5, &mut |_, _| ()).unwrap();
        let (by_mean, by_model) = errors(&model, &train, &test);
        assert!(by_model < share * by_mean, "{}: {by_model} for {by_mean}", network.summary());
    }

    #[test]
    fn a_dense_autoencoder_beats_the_mean() {
        learns(Shape::vector(8), false, curved, 1_500, 0.3);
        learns(Shape::vector(8), true, curved, 1_500, 0.3);
    }

    #[test]
    fn a_convolutional_autoencoder_beats_the_mean() {
        learns(IMAGE, true, squares, 600, 0.6);
    }

    #[test]
    fn networks_give_back_their_shape_and_squeeze() {
        let summary = |input, cut| reconstructor_network(input, cut).unwrap().summary();
        let grey = |side| Shape { channels: 1, height: side, width: side };
        assert_eq!(
            summary(grey(28), true),
            "1x28x28 conv4x4x8 leakyrelu1/5 conv4x4x16 leakyrelu1/5 fc32 fc784 relu shuffle7 conv3x3x32 \
             shuffle2 relu conv3x3x4 shuffle2 hardtanh"
        );
        assert_eq!(summary(grey(8), false), "1x8x8 fc64 leakyrelu1/5 fc16 fc64 relu fc64");
        assert_eq!(summary(Shape::vector(30), false), "30x1x1 fc28 leakyrelu1/5 fc7 fc28 relu fc30");
        for input in [Shape::vector(2), IMAGE, grey(10), grey(50), grey(224), Shape { width: 16, ..IMAGE }] {
            for cut in [false, true] {
                let network = reconstructor_network(input, cut).unwrap();
                assert_eq!(network.output().len(), input.len(), "{}", network.summary());
            }
            assert!(judge(input).is_ok(), "{input}");
        }
        assert!(reconstructor_network(Shape::vector(1 << 20), false).is_err());
    }

    /// What the library computes is what the protocol means by the layers.
    #[test]
    fn the_layout_is_that_of_the_protocol() {
        for (input, cut) in [(IMAGE, true), (IMAGE, false), (Shape::vector(8), true)] {
            let network = reconstructor_network(input, cut).unwrap();
            let mut generator = StdRng::seed_from_u64(4);
            let parameters = forward::initialise(&network, &mut generator).unwrap();
            let model = forward::export(&network, &parameters).unwrap().unwrap();
            let inputs = (0..3 * input.len()).map(|_| generator.random_range(-1.0f32..1.0)).collect();
            let data = examples(input.len(), inputs);
            let made = forward::logits(&network, &parameters, batch(&data, &[0, 1, 2]).unwrap()).unwrap();
            for (row, made) in made.to_vec2::<f32>().unwrap().iter().enumerate() {
                let expected = float::logits(&model, data.row(row));
                let differ = |(made, expected): (&f32, &f64)| (f64::from(*made) - expected).abs();
                let most = made.iter().zip(&expected).map(differ).fold(0.0, f64::max);
                assert!(most < 1e-4, "{}: {most}", network.summary());
            }
        }
    }

    /// A judge whose scores have a gradient for what it judges, with and without convolutions.
    #[test]
    fn a_judge_teaches_what_made_its_rows() {
        for input in [IMAGE, Shape::vector(8)] {
            let network = judge(input).unwrap();
            let parameters = forward::initialise(&network, &mut StdRng::seed_from_u64(6)).unwrap();
            let rows = batch(&examples(input.len(), vec![0.5; input.len()]), &[0]).unwrap();
            let made = Var::from_tensor(&rows).unwrap();
            let scores = forward::through(&network, &parameters, made.as_tensor().clone()).unwrap();
            let gradients = off(&scores, 1.0).unwrap().backward().unwrap();
            let found = gradients.get(made.as_tensor()).unwrap().flatten_all().unwrap();
            assert!(found.to_vec1::<f32>().unwrap().iter().any(|entry| entry.abs() > 1e-6), "{input}");
        }
    }

    #[test]
    fn a_seed_fixes_the_model() {
        let (network, data) = (reconstructor_network(Shape::vector(8), true).unwrap(), curved(40, 1));
        let of =
            |seed| train_reconstructor(&network, &data, &data, &recipe(60), seed, &mut |_, _| ()).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn arguments_that_do_not_fit_are_named() {
        let (network, data) = (reconstructor_network(Shape::vector(8), true).unwrap(), curved(20, 1));
        let refusal = |network: &Network, recipe: &ReconstructorRecipe| {
            train_reconstructor(network, &data, &data, recipe, 0, &mut |_, _| ()).unwrap_err()
        };
        let other = reconstructor_network(Shape::vector(9), true).unwrap();
        assert!(matches!(refusal(&other, &recipe(1)), TrainError::Features { expected: 9, found: 8 }));
        let narrow = Network::new(Shape::vector(8), vec![Layer::Dense { outputs: 3 }]).unwrap();
        assert!(matches!(refusal(&narrow, &recipe(1)), TrainError::Outputs { expected: 8, found: 3 }));
        let bare = Network::new(Shape::vector(8), vec![Layer::Relu]).unwrap();
        assert!(matches!(refusal(&bare, &recipe(1)), TrainError::NothingToTrain { .. }));
        for (bad, setting) in [
            (ReconstructorRecipe { learning_rate: 0.0, ..recipe(1) }, "learning rate"),
            (ReconstructorRecipe { batch: 0, ..recipe(1) }, "batch"),
            (recipe(0), "steps"),
            (ReconstructorRecipe { adversarial: 1.0, ..recipe(1) }, "adversarial weight"),
        ] {
            let TrainError::Recipe(fault) = refusal(&network, &bad) else { panic!("{setting}") };
            assert_eq!(fault.setting, setting);
        }
        let wild = ReconstructorRecipe { learning_rate: 1e38, ..recipe(120) };
        let error = refusal(&reconstructor_network(Shape::vector(8), false).unwrap(), &wild);
        assert!(matches!(error, TrainError::Diverged(_) | TrainError::Overflow), "{error}");
        for (rows, input) in [(0, Shape::vector(1)), (10_000, IMAGE)] {
            ReconstructorRecipe::of(rows, input).check().unwrap();
        }
    }
}
