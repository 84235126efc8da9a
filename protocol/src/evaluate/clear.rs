//! The oracle: the plan's fixed point in the clear, with a bound on what rounding may change.
//!
//! Truncation here is the floor; under sharing it may be one unit larger. Each value therefore
//! carries the largest distance that such units can cause, and a vote is *certain* when no choice of
//! them changes it.

mod distance;

use crate::graph::{Layer, Network, Numbers, Op, Program, Shape, Slope, for_each_tap, ordered_layers};
use crate::model::Model;
use crate::model::fixed::{self, FixedError, FixedWeights};
use crate::stock::Gadget;

pub use distance::{Distance, DistanceOracle, Nearest, nearest};

/// One model, ready to vote in the clear.
#[derive(Debug)]
pub struct Oracle {
    model: Model,
    program: Program,
    weights: Vec<FixedWeights>,
}

/// The vote of one model on one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The class with the largest logit; the lowest index on a tie.
    pub class: usize,
    /// All classes that some rounding could make the vote, the vote itself among them.
    pub possible: Vec<usize>,
}

/// The label of an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class with the most votes; the lowest index on a tie.
    pub label: usize,
    /// Whether no rounding can change the label.
    pub certain: bool,
}

#[derive(Clone, Copy, Default)]
struct Value {
    word: i64,
    error: f64,
}

impl Oracle {
    /// Encodes the model with the task's numbers.
    ///
    /// # Errors
    /// The model does not fit the numbers.
    pub fn new(model: Model, numbers: Numbers) -> Result<Self, FixedError> {
        let program = Program::compile(model.network(), numbers, 1, Gadget::Digits)?;
        let weights = fixed::encode(&model, numbers)?;
        Ok(Self { model, program, weights })
    }

    /// The vote on one encoded query (fixed-point words, channels outermost).
    pub fn vote(&self, input: &[u64]) -> Vote {
        let logits = self.logits(input);
        let mut class = 0;
        for (index, value) in logits.iter().enumerate() {
            if value.word > logits[class].word {
                class = index;
            }
        }
        let best = logits[class];
        let reaches = |value: &Value| best.word.saturating_sub(value.word) as f64 <= best.error + value.error;
        let certain = |index: usize| {
            // Without rounding errors a tie is exact, and the public rule decides it.
            best.error == 0.0 && logits[index].error == 0.0 && index != class
        };
        let possible = (0..logits.len()).filter(|index| !certain(*index) && reaches(&logits[*index]));
        Vote { class, possible: possible.collect() }
    }

    fn logits(&self, input: &[u64]) -> Vec<Value> {
        outputs(&self.program, self.model.network(), &self.weights, input)
    }
}

/// What all layers of a network, and a truncation at their end, make of one encoded query.
fn outputs(program: &Program, network: &Network, weights: &[FixedWeights], input: &[u64]) -> Vec<Value> {
    let mut wire: Vec<Value> = input.iter().map(|word| Value { word: *word as i64, error: 0.0 }).collect();
    let mut layers = ordered_layers(network).into_iter();
    for op in program.ops() {
        if let Op::Truncate(shape) = op {
            wire.iter_mut().for_each(|value| *value = truncate(*value, shape.shift));
            continue;
        }
        let Some((_, layer, shape)) = layers.next() else { break };
        let Some(output) = layer.output(shape) else { break };
        let shapes = (shape, output);
        let each = |change: &dyn Fn(Value) -> Value| -> Vec<Value> {
            wire.iter().map(|value| change(*value)).collect()
        };
        wire = match op {
            Op::Rectify(shape) => each(&|value| rectify(truncate(value, shape.shift))),
            Op::Leak { slope, .. } => each(&|value| leak(value, *slope)),
            Op::Clamp { shape, scale } => {
                each(&|value| clamp(truncate(value, shape.shift), scale - shape.shift))
            }
            Op::Square { .. } => each(&square),
            Op::Linear { weights: entry, .. } => linear(&layer, shapes, &weights[*entry], &wire),
            Op::MaxPool { .. } | Op::SumPool { .. } | Op::Shuffle(_) => pool(&layer, shapes, &wire),
            Op::Truncate(_) | Op::Distance { .. } | Op::Residual { .. } => break,
        };
    }
    wire
}

/// The label of all votes on one query.
pub fn verdict(votes: &[Vote], classes: usize) -> Verdict {
    let mut counts = vec![0usize; classes];
    for vote in votes {
        counts[vote.class] += 1;
    }
    let label = (0..classes).rev().max_by_key(|class| counts[*class]).unwrap_or(0);
    let sure = |class: usize| votes.iter().filter(|vote| vote.possible == [class]).count();
    let most = |class: usize| votes.iter().filter(|vote| vote.possible.contains(&class)).count();
    let least = sure(label);
    let certain = (0..classes)
        .filter(|class| *class != label)
        .all(|class| least > most(class) || least == most(class) && label < class);
    Verdict { label, certain }
}

/// What a release must answer, given the votes of each class and all noise that both parties added: the class
/// with the largest noisy count, the lowest index on a tie. `threshold`, if any, holds the votes needed and the
/// noise on the true top count; no label where they are not reached.
pub fn decision(counts: &[i64], noise: &[i64], threshold: Option<(i64, i64)>) -> Option<usize> {
    if let Some((votes, noise)) = threshold
        && counts.iter().max()? + noise < votes
    {
        return None;
    }
    let noisy: Vec<i64> = counts.iter().zip(noise).map(|(count, noise)| count + noise).collect();
    (0..noisy.len()).rev().max_by_key(|class| noisy[*class])
}

fn truncate(value: Value, shift: u32) -> Value {
    if shift == 0 {
        return value;
    }
    Value { word: value.word >> shift, error: (value.error / 2f64.powi(shift as i32)).ceil() + 1.0 }
}

fn rectify(value: Value) -> Value {
    let error = if value.word as f64 + value.error < 0.0 { 0.0 } else { value.error };
    Value { word: value.word.max(0), error }
}

/// Below zero the slope is smaller, above it is `run`; an error that crosses zero grows by no more.
fn leak(value: Value, slope: Slope) -> Value {
    let factor = |word: i64| i64::from(if word < 0 { slope.rise } else { slope.run });
    let below = value.word as f64 + value.error < 0.0;
    let steepest = if below { slope.rise } else { slope.run };
    Value { word: value.word.wrapping_mul(factor(value.word)), error: value.error * f64::from(steepest) }
}

/// Where both rectifications carry, the end is missed by a unit, which a truncation before this allows for.
fn clamp(value: Value, scale: u32) -> Value {
    let one = 1i64 << scale;
    Value { word: value.word.clamp(-one, one), error: value.error }
}

fn square(value: Value) -> Value {
    let magnitude = (value.word as f64).abs();
    Value {
        word: value.word.wrapping_mul(value.word),
        error: 2.0 * magnitude * value.error + value.error * value.error,
    }
}

type Shapes = (Shape, Shape);

fn linear(layer: &Layer, (input, output): Shapes, weights: &FixedWeights, wire: &[Value]) -> Vec<Value> {
    let per_bias = output.len() / weights.bias.len().max(1);
    let bias = |out: usize| Value { word: weights.bias[out / per_bias] as i64, error: 0.0 };
    let mut result: Vec<Value> = (0..output.len()).map(bias).collect();
    for_each_tap(layer, input, output, |out, weight, from| {
        let weight = weights.weight[weight] as i64;
        let target = &mut result[out];
        target.word = target.word.wrapping_add(weight.wrapping_mul(wire[from].word));
        target.error += (weight as f64).abs() * wire[from].error;
    });
    result
}

fn pool(layer: &Layer, (input, output): Shapes, wire: &[Value]) -> Vec<Value> {
    let largest = matches!(layer, Layer::MaxPool { .. });
    let empty = Value { word: if largest { i64::MIN } else { 0 }, error: 0.0 };
    let mut result = vec![empty; output.len()];
    for_each_tap(layer, input, output, |out, _, from| {
        let target = &mut result[out];
        if largest {
            target.word = target.word.max(wire[from].word);
            target.error = target.error.max(wire[from].error);
        } else {
            target.word = target.word.wrapping_add(wire[from].word);
            target.error += wire[from].error;
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Network, ReleaseShape, Window};
    use crate::model::{Weights, fixed::prove_bounds};
    use crate::testing::TestTask;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };

    fn vote(class: usize, possible: &[usize]) -> Vote {
        Vote { class, possible: possible.to_vec() }
    }

    #[test]
    fn a_label_is_certain_only_beyond_all_doubts() {
        let sure = |class: usize| vote(class, &[class]);
        for (votes, label, certain) in [
            (vec![sure(2), sure(2), sure(1)], 2, true),
            // A tie of sure votes goes to the lowest class.
            (vec![sure(2), sure(1)], 1, true),
            (vec![sure(0), sure(2), sure(2), sure(0)], 0, true),
            // One doubtful vote makes the tie, or breaks it the other way.
            (vec![sure(2), sure(2), vote(2, &[1, 2]), sure(1)], 2, false),
            (vec![sure(2), vote(2, &[1, 2]), sure(1)], 2, false),
            (vec![sure(1), vote(1, &[1, 2]), sure(2), sure(1)], 1, true),
            (vec![sure(1), vote(1, &[0, 1]), sure(1), sure(0)], 1, false),
            // A class that nobody votes for now may still win.
            (vec![vote(1, &[1, 2]), vote(1, &[1, 2])], 1, false),
            (vec![vote(0, &[0, 1, 2])], 0, false),
            (vec![sure(0), vote(1, &[1, 2])], 0, true),
            (vec![sure(1), vote(2, &[0, 2])], 1, false),
        ] {
            assert_eq!(verdict(&votes, 3), Verdict { label, certain }, "{votes:?}");
        }
    }

    #[test]
    fn a_decision_takes_the_noise_where_it_was_added() {
        assert_eq!(decision(&[3, 5, 5], &[0, 0, 0], None), Some(1));
        assert_eq!(decision(&[3, 5, 5], &[2, 0, 0], None), Some(0));
        assert_eq!(decision(&[3, 5, 5], &[0, 0, 1], Some((5, 0))), Some(2));
        assert_eq!(decision(&[3, 5, 5], &[9, 0, 0], Some((6, 0))), None);
        assert_eq!(decision(&[3, 5, 5], &[-9, -9, -9], Some((6, 1))), Some(1));
        assert_eq!(decision(&[], &[], None), None);
    }

    #[test]
    fn ties_without_rounding_are_certain() {
        let network = Network::new(Shape::vector(1), vec![Layer::Dense { outputs: 3 }]).unwrap();
        let numbers = Numbers { fraction_bits: 4, value_bits: 8 };
        let oracle = |bias: [f32; 3]| {
            let weights = Weights { weight: vec![0.0; 3], bias: bias.to_vec() };
            Oracle::new(Model::new(network.clone(), vec![weights]).unwrap(), numbers).unwrap()
        };
        assert_eq!(oracle([1.0, 2.0, 2.0]).vote(&[3]), vote(1, &[1]));
        assert_eq!(oracle([2.0, 2.0, 2.0]).vote(&[3]), vote(0, &[0]));
    }

    /// A few layers that fit each other, with weights of a size that keeps values alive.
    fn random_model(rng: &mut StdRng) -> Model {
        let side = rng.random_range(3..7);
        let mut shape = Shape { channels: rng.random_range(1..3), height: side, width: side };
        let input = shape;
        let mut layers = Vec::new();
        for _ in 0..rng.random_range(0..6) {
            let window = Window::plain(rng.random_range(1..4), rng.random_range(1..3));
            let slope = Slope { rise: rng.random_range(0..3), run: rng.random_range(3..9) };
            let layer = match rng.random_range(0..10) {
                0 | 1 => Layer::Relu,
                7 => Layer::LeakyRelu { slope },
                8 => Layer::HardTanh,
                9 => Layer::PixelShuffle { block: 2 },
                2 => Layer::Square,
                3 => Layer::MaxPool { window },
                4 => Layer::AveragePool { window },
                5 => Layer::Conv { outputs: rng.random_range(1..4), window },
                _ => Layer::Dense { outputs: rng.random_range(2..9) },
            };
            if let Some(next) = layer.output(shape).filter(|next| !next.is_empty()) {
                layers.push(layer);
                shape = next;
            }
        }
        layers.push(Layer::Dense { outputs: rng.random_range(2..6) });
        if rng.random() {
            layers.push([Layer::Relu, Layer::Square][rng.random_range(0..2)]);
        }
        let network = Network::new(input, layers).unwrap();
        let mut weights = Vec::new();
        for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
            let (weight, bias) = layer.parameters(network.shape_before(index));
            let spread = (3.0 * bias as f32 / weight as f32).sqrt();
            let mut draw = |count| (0..count).map(|_| rng.random_range(-spread..spread)).collect();
            weights.push(Weights { weight: draw(weight), bias: draw(bias) });
        }
        Model::new(network, weights).unwrap()
    }

    #[test]
    fn shared_logits_stay_within_the_bound_of_the_oracle() {
        let mut rng = StdRng::seed_from_u64(0xc1ea);
        let (mut nets, mut moved, mut closest) = (0, 0, 0.0f64);
        let mut seed = 0;
        while nets < 2_000 {
            seed += 1;
            let numbers =
                Numbers { fraction_bits: rng.random_range(4..17), value_bits: rng.random_range(10..24) };
            let model = random_model(&mut rng);
            if prove_bounds(&model, numbers, 1.0).is_err() {
                continue;
            }
            nets += 1;
            let one = 1i64 << numbers.fraction_bits;
            let input = model.network().input().len();
            let query: Vec<u64> = (0..input).map(|_| rng.random_range(-one..=one) as u64).collect();
            let mut task =
                TestTask::new(std::slice::from_ref(&model), numbers, 1, EXACT, Gadget::Digits, seed).unwrap();
            let inside = task.inside(std::slice::from_ref(&query)).unwrap().swap_remove(0);
            let summary = model.network().summary();
            let oracle = Oracle::new(model, numbers).unwrap();
            for (value, logit) in oracle.logits(&query).iter().zip(&inside.logits) {
                let distance = (*logit as i64).wrapping_sub(value.word).unsigned_abs() as f64;
                assert!(distance <= value.error, "{distance} past {} in {summary}, seed {seed}", value.error);
                moved += u32::from(distance > 0.0);
                if value.error > 0.0 {
                    closest = closest.max(distance / value.error);
                }
            }
            let class = inside.votes.iter().position(|vote| *vote == 1).unwrap();
            assert!(oracle.vote(&query).possible.contains(&class), "{summary}, seed {seed}");
        }
        assert!(moved > 1_000 && closest > 0.9, "{moved} logits moved, {closest} of the bound used");
    }
}
