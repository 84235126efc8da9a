//! A model in fixed point, and the proof that its values stay within the task's public bounds.

use super::Model;
use crate::graph::{Layer, Numbers, Program, ProgramError, for_each_tap};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Weights of one linear layer as ring elements.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FixedWeights {
    /// Row-major, at the task's fraction bits.
    pub weight: Vec<u64>,
    /// One per output (channel), at the scale of the products.
    pub bias: Vec<u64>,
}

impl std::fmt::Debug for FixedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FixedWeights({} + {})", self.weight.len(), self.bias.len())
    }
}

/// Why a model cannot serve a task.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FixedError {
    /// The network does not fit the task's numbers.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A weight alone is too large.
    #[error(
        "layer {layer}: a weight or bias is not below 2^{value_bits} in magnitude, the public bound of the task; train with weight decay or scale the inputs"
    )]
    Weight {
        /// Position and name of the layer.
        layer: String,
        /// Bits of the bound.
        value_bits: u32,
    },
    /// Some allowed input could push a value past the bound.
    #[error(
        "layer {layer}: an allowed input could reach a magnitude of {reach:.1}, past 2^{value_bits}, the public bound of the task; train with weight decay, or ask the consortium for a larger value_bits"
    )]
    Reach {
        /// Position and name of the layer.
        layer: String,
        /// Largest magnitude that some allowed input could reach.
        reach: f64,
        /// Bits of the bound.
        value_bits: u32,
    },
}

/// Encodes the weights for a task's numbers.
///
/// # Errors
/// The network does not fit the numbers, or a weight passes the bound.
pub fn encode(model: &Model, numbers: Numbers) -> Result<Vec<FixedWeights>, FixedError> {
    let program = Program::compile(model.network(), numbers, 1)?;
    let bound = 2f64.powi(numbers.value_bits as i32);
    let scales = program.bias_scales().iter().zip(program.weight_factors());
    let mut encoded = Vec::with_capacity(model.weights().len());
    for ((entry, (scale, factor)), name) in model.weights().iter().zip(scales).zip(linear_names(model)) {
        let fixed = |value: f64, bits: u32| {
            let scaled = (value * 2f64.powi(bits as i32)).round();
            if value.abs() < bound { Some(scaled as i64 as u64) } else { None }
        };
        let weight = entry.weight.iter().map(|w| fixed(f64::from(*w) * factor, numbers.fraction_bits));
        let bias = entry.bias.iter().map(|b| fixed(f64::from(*b), *scale));
        let all = |values: &mut dyn Iterator<Item = Option<u64>>| values.collect::<Option<Vec<u64>>>();
        let too_large = || FixedError::Weight { layer: name.clone(), value_bits: numbers.value_bits };
        encoded.push(FixedWeights {
            weight: all(&mut weight.into_iter()).ok_or_else(too_large)?,
            bias: all(&mut bias.into_iter()).ok_or_else(too_large)?,
        });
    }
    Ok(encoded)
}

/// Proves by interval arithmetic that no input with magnitudes up to `input_abs_max` pushes a value
/// past the task's bound.
///
/// # Errors
/// [`FixedError::Reach`] names the first layer for which the proof fails.
pub fn prove_bounds(model: &Model, numbers: Numbers, input_abs_max: f64) -> Result<(), FixedError> {
    let network = model.network();
    let bound = 2f64.powi(numbers.value_bits as i32);
    // Rounding of weights, inputs and truncations moves a value by far less than this share of it.
    let slack = 1.0 + 2f64.powi(-10);
    let mut weights = model.weights().iter();
    let mut low = vec![-input_abs_max; network.input().len()];
    let mut high = vec![input_abs_max; network.input().len()];
    for (index, layer) in network.layers().iter().enumerate() {
        let (input, output) = (network.shape_before(index), network.shape_before(index + 1));
        let mut next_low = vec![0.0; output.len()];
        let mut next_high = vec![0.0; output.len()];
        match layer {
            Layer::Dense { .. } | Layer::Conv { .. } => {
                let Some(entry) = weights.next() else { break };
                let per_bias = output.len() / entry.bias.len().max(1);
                for out in 0..output.len() {
                    next_low[out] = f64::from(entry.bias[out / per_bias]);
                    next_high[out] = next_low[out];
                }
                for_each_tap(layer, input, output, |out, weight, from| {
                    let w = f64::from(entry.weight[weight]);
                    let (a, b) = (w * low[from], w * high[from]);
                    next_low[out] += a.min(b);
                    next_high[out] += a.max(b);
                });
            }
            Layer::Relu => {
                next_low = low.iter().map(|value| value.max(0.0)).collect();
                next_high = high.iter().map(|value| value.max(0.0)).collect();
            }
            Layer::Square => {
                for at in 0..low.len() {
                    let (a, b) = (low[at] * low[at], high[at] * high[at]);
                    let crosses = low[at] < 0.0 && high[at] > 0.0;
                    next_low[at] = if crosses { 0.0 } else { a.min(b) };
                    next_high[at] = a.max(b);
                }
            }
            Layer::MaxPool { .. } => {
                next_low.fill(f64::NEG_INFINITY);
                next_high.fill(f64::NEG_INFINITY);
                for_each_tap(layer, input, output, |out, _, from| {
                    next_low[out] = next_low[out].max(low[from]);
                    next_high[out] = next_high[out].max(high[from]);
                });
            }
            Layer::AveragePool { window } => {
                let share = 1.0 / window.area() as f64;
                for_each_tap(layer, input, output, |out, _, from| {
                    next_low[out] += share * low[from];
                    next_high[out] += share * high[from];
                });
            }
        }
        let reach =
            next_low.iter().chain(&next_high).fold(0.0f64, |most, value| most.max(value.abs())) * slack;
        if reach.is_nan() || reach >= bound {
            let layer = format!("{index} ({layer})");
            return Err(FixedError::Reach { layer, reach, value_bits: numbers.value_bits });
        }
        (low, high) = (next_low, next_high);
    }
    Ok(())
}

fn linear_names(model: &Model) -> impl Iterator<Item = String> + '_ {
    let layers = model.network().layers().iter().enumerate();
    layers.filter(|(_, layer)| layer.is_linear()).map(|(index, layer)| format!("{index} ({layer})"))
}
