//! The oracle: the plan's fixed point in the clear, with a bound on what rounding may change.
//!
//! Truncation here is the floor; under sharing it may be one unit larger. Each value therefore
//! carries the largest distance that such units can cause, and a vote is *certain* when no choice of
//! them changes it.

use crate::graph::{Layer, Numbers, Op, Program, Shape, for_each_tap, ordered_layers};
use crate::model::Model;
use crate::model::fixed::{self, FixedError, FixedWeights};

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
        let program = Program::compile(model.network(), numbers, 1)?;
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
        let mut wire: Vec<Value> =
            input.iter().map(|word| Value { word: *word as i64, error: 0.0 }).collect();
        let network = self.model.network();
        let mut layers = ordered_layers(network).into_iter();
        for op in self.program.ops() {
            wire = match op {
                Op::Truncate(shape) => wire.iter().map(|value| truncate(*value, shape.shift)).collect(),
                Op::Rectify(shape) => {
                    layers.next();
                    wire.iter().map(|value| rectify(truncate(*value, shape.shift))).collect()
                }
                Op::Square { .. } => {
                    layers.next();
                    wire.iter().map(|value| square(*value)).collect()
                }
                Op::Linear { weights, .. } => {
                    let Some((_, layer, shape)) = layers.next() else { break };
                    let Some(output) = layer.output(shape) else { break };
                    linear(&layer, (shape, output), &self.weights[*weights], &wire)
                }
                Op::MaxPool { .. } | Op::SumPool { .. } => {
                    let Some((_, layer, shape)) = layers.next() else { break };
                    let Some(output) = layer.output(shape) else { break };
                    pool(&layer, (shape, output), &wire)
                }
            };
        }
        wire
    }
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
