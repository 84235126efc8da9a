//! A model in fixed point, and the proof that its values stay within the task's public bounds.

mod one_class;

use super::Model;
use crate::graph::{Layer, Numbers, Op, Program, ProgramError, Shape, Slope, for_each_tap, ordered_layers};
use crate::stock::Gadget;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use one_class::{encode_one_class, prove_one_class};

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
    /// The threshold is too large.
    #[error("the threshold is not below 2^{distance_bits}, the public bound of the task on distances")]
    Threshold {
        /// Bits of the bound.
        distance_bits: u32,
    },
    /// Some allowed input could be further away than the bound.
    #[error(
        "an allowed input could be at a distance of {reach:.1}, past 2^{distance_bits}, the public bound of the task; end the reconstructor in a hard tanh or a smaller layer, or ask the consortium for a larger distance_bits"
    )]
    Distance {
        /// Largest distance that some allowed input could have.
        reach: f64,
        /// Bits of the bound.
        distance_bits: u32,
    },
}

/// Encodes the weights for a task's numbers.
///
/// # Errors
/// The network does not fit the numbers, or a weight passes the bound.
pub fn encode(model: &Model, numbers: Numbers) -> Result<Vec<FixedWeights>, FixedError> {
    encode_for(&Program::compile(model.network(), numbers, 1, Gadget::Digits)?, model, numbers)
}

/// As [`encode`] for a program of the model's network.
fn encode_for(program: &Program, model: &Model, numbers: Numbers) -> Result<Vec<FixedWeights>, FixedError> {
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

/// Proves by interval arithmetic over the encoded weights that no input with magnitudes up to
/// `input_abs_max` pushes a value past the task's bound, whatever the carries of truncations.
///
/// # Errors
/// What [`encode`] refuses, and [`FixedError::Reach`], which names the first layer for which the proof
/// fails.
pub fn prove_bounds(model: &Model, numbers: Numbers, input_abs_max: f64) -> Result<(), FixedError> {
    let program = Program::compile(model.network(), numbers, 1, Gadget::Digits)?;
    let weights = encode_for(&program, model, numbers)?;
    let wire = vec![input(numbers, input_abs_max)?; model.network().input().len()];
    reach(&program, model, &weights, numbers, wire).map(drop)
}

/// What a value of an allowed input can be.
fn input(numbers: Numbers, input_abs_max: f64) -> Result<Span, FixedError> {
    if !(0.0..2f64.powi(numbers.value_bits as i32)).contains(&input_abs_max) {
        let layer = "0 (the input)".to_owned();
        return Err(FixedError::Reach { layer, reach: input_abs_max, value_bits: numbers.value_bits });
    }
    let word = (input_abs_max * 2f64.powi(numbers.fraction_bits as i32)).ceil() as i64;
    Ok(Span { low: -word, high: word })
}

/// What the outputs can be, all layers of the network and a truncation at their end done.
fn reach(
    program: &Program,
    model: &Model,
    weights: &[FixedWeights],
    numbers: Numbers,
    mut wire: Vec<Span>,
) -> Result<Vec<Span>, FixedError> {
    let mut scale = numbers.fraction_bits;
    let mut layers = ordered_layers(model.network()).into_iter().peekable();
    let end = (model.network().layers().len(), None, model.network().output());
    for op in program.ops() {
        let next = layers.peek().map(|(index, layer, input)| (*index, Some(*layer), *input));
        let (index, layer, input) = next.unwrap_or(end);
        if !matches!(op, Op::Truncate(_)) {
            layers.next();
        }
        let name = layer.map_or("the distance".to_owned(), |layer| format!("{index} ({layer})"));
        let output = layer.map_or(Some(input), |layer| layer.output(input));
        let (Some(output), layer) = (output, layer.unwrap_or(Layer::Relu)) else { break };
        let shapes = (input, output);
        let next = match op {
            Op::Truncate(shape) => Some(wire.iter().map(|span| span.truncated(shape.shift)).collect()),
            Op::Rectify(shape) => {
                Some(wire.iter().map(|span| span.truncated(shape.shift).rectified()).collect())
            }
            Op::Square { .. } => wire.iter().map(|span| span.squared()).collect(),
            Op::Linear { weights: entry, .. } => linear(&layer, shapes, &weights[*entry], &wire),
            Op::MaxPool { .. } => Some(largest(&layer, shapes, &wire)),
            Op::SumPool { .. } | Op::Shuffle(_) => sums(&layer, shapes, &wire),
            Op::Leak { slope, .. } => wire.iter().map(|span| span.leaked(*slope)).collect(),
            Op::Clamp { shape, scale } => {
                Some(wire.iter().map(|span| span.clamped(*scale, shape.shift)).collect())
            }
            // What these make of the outputs is no wire of the network.
            Op::Distance { .. } | Op::Residual { .. } => break,
        };
        scale = match op {
            Op::Truncate(_) | Op::Rectify(_) | Op::Clamp { .. } => numbers.fraction_bits,
            Op::Square { .. } => 2 * numbers.fraction_bits,
            Op::Linear { scale, .. } => *scale,
            Op::SumPool { scale_bits, .. } | Op::Leak { scale_bits, .. } => scale + scale_bits,
            Op::MaxPool { .. } | Op::Shuffle(_) | Op::Distance { .. } | Op::Residual { .. } => scale,
        };
        // A carry of the next truncation may add one unit.
        let unit = 1u64 << (scale - numbers.fraction_bits);
        let reach = next.as_ref().map_or(u64::MAX, |next: &Vec<Span>| {
            next.iter().map(|span| span.low.unsigned_abs().max(span.high.unsigned_abs())).max().unwrap_or(0)
        });
        if reach.saturating_add(unit) >= 1 << (numbers.value_bits + scale) {
            let reach = reach as f64 / 2f64.powi(scale as i32);
            return Err(FixedError::Reach { layer: name, reach, value_bits: numbers.value_bits });
        }
        wire = next.unwrap_or_default();
    }
    Ok(wire)
}

/// Smallest and largest word that a wire can carry.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    low: i64,
    high: i64,
}

type Shapes = (Shape, Shape);

impl Span {
    /// `None` where a bound passes the ring.
    fn new(low: i128, high: i128) -> Option<Self> {
        Some(Self { low: low.try_into().ok()?, high: high.try_into().ok()? })
    }

    fn truncated(self, shift: u32) -> Self {
        let carry = i64::from(shift > 0);
        Self { low: self.low >> shift, high: (self.high >> shift) + carry }
    }

    fn rectified(self) -> Self {
        Self { low: self.low.max(0), high: self.high.max(0) }
    }

    fn leaked(self, slope: Slope) -> Option<Self> {
        let at = |word: i64| i128::from(word) * i128::from(if word < 0 { slope.rise } else { slope.run });
        Self::new(at(self.low), at(self.high))
    }

    /// Where a word is cut, both carries together may miss the end by a unit.
    fn clamped(self, scale: u32, shift: u32) -> Self {
        let one = 1i64 << (scale - shift);
        let carry = i64::from(shift > 0);
        let end = |word: i64| (word >> shift).clamp(-one, one);
        Self { low: end(self.low) - carry, high: end(self.high) + carry }
    }

    fn squared(self) -> Option<Self> {
        let (low, high) = (i128::from(self.low).pow(2), i128::from(self.high).pow(2));
        let crosses = self.low < 0 && self.high > 0;
        Self::new(if crosses { 0 } else { low.min(high) }, low.max(high))
    }
}

/// `None` where some sum leaves the ring.
fn linear(
    layer: &Layer,
    (input, output): Shapes,
    weights: &FixedWeights,
    wire: &[Span],
) -> Option<Vec<Span>> {
    let per_bias = output.len() / weights.bias.len().max(1);
    let bias = |out: usize| i128::from(weights.bias[out / per_bias] as i64);
    let mut ends: Vec<(i128, i128)> = (0..output.len()).map(|out| (bias(out), bias(out))).collect();
    let mut fits = true;
    for_each_tap(layer, input, output, |out, weight, from| {
        let weight = i128::from(weights.weight[weight] as i64);
        let (a, b) = (weight * i128::from(wire[from].low), weight * i128::from(wire[from].high));
        let (low, high) = &mut ends[out];
        // Two words multiply to less than 2^126, so that a sum below 2^126 can take one more.
        *low = low.saturating_add(a.min(b));
        *high = high.saturating_add(a.max(b));
        fits &= low.unsigned_abs().max(high.unsigned_abs()) < 1 << 126;
    });
    if fits { ends.into_iter().map(|(low, high)| Span::new(low, high)).collect() } else { None }
}

fn largest(layer: &Layer, (input, output): Shapes, wire: &[Span]) -> Vec<Span> {
    let mut spans = vec![Span { low: i64::MIN, high: i64::MIN }; output.len()];
    for_each_tap(layer, input, output, |out, _, from| {
        spans[out].low = spans[out].low.max(wire[from].low);
        spans[out].high = spans[out].high.max(wire[from].high);
    });
    spans
}

fn sums(layer: &Layer, (input, output): Shapes, wire: &[Span]) -> Option<Vec<Span>> {
    let mut ends = vec![(0i128, 0i128); output.len()];
    for_each_tap(layer, input, output, |out, _, from| {
        ends[out].0 += i128::from(wire[from].low);
        ends[out].1 += i128::from(wire[from].high);
    });
    ends.into_iter().map(|(low, high)| Span::new(low, high)).collect()
}

fn linear_names(model: &Model) -> impl Iterator<Item = String> + '_ {
    let layers = model.network().layers().iter().enumerate();
    layers.filter(|(_, layer)| layer.is_linear()).map(|(index, layer)| format!("{index} ({layer})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::clear::Oracle;
    use crate::graph::{Network, Window};
    use crate::model::Weights;

    const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };

    fn dense(inputs: u32, layers: &[(&[f32], &[f32])]) -> Model {
        let mut chain = Vec::new();
        for (_, bias) in layers {
            chain.push(Layer::Dense { outputs: bias.len() as u32 });
            chain.push(Layer::Relu);
        }
        chain.pop();
        let weights =
            layers.iter().map(|(weight, bias)| Weights { weight: weight.to_vec(), bias: bias.to_vec() });
        Model::new(Network::new(Shape::vector(inputs), chain).unwrap(), weights.collect()).unwrap()
    }

    #[test]
    fn weights_past_the_bound_name_their_layer() {
        let good: (&[f32], &[f32]) = (&[1.0, 1.0, 1.0, 1.0], &[0.0, 0.0]);
        let refused = |layer: &str| {
            Some(FixedError::Weight { layer: layer.to_owned(), value_bits: NUMBERS.value_bits })
        };
        let heavy: (&[f32], &[f32]) = (&[1.0, -4096.0, 1.0, 1.0], &[0.0, 0.0]);
        let biased: (&[f32], &[f32]) = (&[1.0, 1.0, 1.0, 1.0], &[0.0, 4096.0]);
        assert_eq!(encode(&dense(2, &[good, good]), NUMBERS).err(), None);
        assert_eq!(encode(&dense(2, &[heavy, good]), NUMBERS).err(), refused("0 (fc2)"));
        assert_eq!(encode(&dense(2, &[good, heavy]), NUMBERS).err(), refused("2 (fc2)"));
        assert_eq!(encode(&dense(2, &[good, biased]), NUMBERS).err(), refused("2 (fc2)"));
        assert_eq!(prove_bounds(&dense(2, &[good, biased]), NUMBERS, 1.0).err(), refused("2 (fc2)"));
    }

    fn faulty(model: &Model, input_abs_max: f64) -> Option<(String, f64)> {
        match prove_bounds(model, NUMBERS, input_abs_max) {
            Ok(()) => None,
            Err(FixedError::Reach { layer, reach, .. }) => Some((layer, reach)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn reaches_past_the_bound_name_the_first_layer() {
        let (plain, wide): (&[f32], &[f32]) = (&[1.0, 1.0, 1.0, 1.0], &[64.0, 65.0, 1.0, 1.0]);
        let model = |first, second| dense(2, &[(first, &[0.0, 0.0]), (second, &[0.0, 0.0])]);
        assert_eq!(faulty(&model(plain, plain), 1.0), None);
        // 129 twice is far below 4096, squared it is above.
        assert_eq!(faulty(&model(plain, wide), 1.0), None);
        let (layer, reach) = faulty(&model(wide, wide), 1.0).unwrap();
        assert!(layer == "2 (fc2)" && (8300.0..8400.0).contains(&reach), "{layer} {reach}");
        let (layer, reach) = faulty(&model(wide, plain), 32.0).unwrap();
        assert!(layer == "0 (fc2)" && (4100.0..4200.0).contains(&reach), "{layer} {reach}");
        for input_abs_max in [f64::NAN, f64::INFINITY, -1.0, 4096.0] {
            assert_eq!(faulty(&model(plain, plain), input_abs_max).unwrap().0, "0 (the input)");
        }
    }

    #[test]
    fn a_bound_is_kept_to_the_unit() {
        // Reaches 4096 less one and a half units: one unit must stay for the carry of a truncation.
        let unit = 2f32.powi(-12);
        let model = |bias: f32| dense(1, &[(&[2048.0, 0.0], &[bias, 0.0])]);
        assert_eq!(faulty(&model(2048.0 - unit), 1.0), None);
        assert!(faulty(&model(2048.0), 1.0).is_some());
    }

    #[test]
    fn rounding_of_small_weights_counts() {
        // 6,000 weights of 0.75 units each: the real sum stays below the bound, the encoded one, with
        // every weight rounded up to a unit, does not.
        let (inputs, tiny) = (6_000u32, 0.75 / 65536.0);
        let model = dense(inputs, &[(&vec![tiny; 2 * inputs as usize], &[3_800.0, 0.0])]);
        let real = f64::from(inputs) * f64::from(tiny) * 4_000.0 + 3_800.0;
        assert!(real < 4_095.0, "{real}");
        let (layer, reach) = faulty(&model, 4_000.0).unwrap();
        assert!(layer == "0 (fc2)" && reach > 4_160.0, "{layer} {reach}");
    }

    #[test]
    fn every_kind_of_layer_is_bounded() {
        let image = Shape { channels: 1, height: 4, width: 4 };
        let window = Window::plain(3, 1);
        let last = Layer::Dense { outputs: 2 };
        let reach = |layers: &[Layer]| {
            let network = Network::new(image, layers.to_vec()).unwrap();
            let weights = layers.iter().enumerate().filter(|(_, layer)| layer.is_linear());
            let weights = weights.map(|(index, layer)| {
                let (weight, bias) = layer.parameters(network.shape_before(index));
                Weights { weight: vec![100.0; weight], bias: vec![0.0; bias] }
            });
            let model = Model::new(network.clone(), weights.collect()).unwrap();
            faulty(&model, 2.0)
        };
        // 9 * 100 * 2 = 1800 per convolution output, 4 of them into each output of the last layer.
        let conv = Layer::Conv { outputs: 1, window };
        for (layers, fault) in [
            (vec![conv, last], ("1 (fc2)", 720_000.0)),
            (
                vec![Layer::Relu, conv, Layer::MaxPool { window: Window::plain(2, 1) }, last],
                ("3 (fc2)", 180_000.0),
            ),
            (vec![conv, Layer::AveragePool { window: Window::plain(2, 1) }, last], ("2 (fc2)", 180_000.0)),
            (vec![conv, Layer::Square, last], ("1 (square)", 3_240_000.0)),
        ] {
            let (layer, found) = reach(&layers).unwrap();
            assert_eq!((layer.as_str(), (found / fault.1 * 1e3).round()), (fault.0, 1e3), "{layers:?}");
        }
    }

    #[test]
    fn averages_keep_their_value_through_every_layer() {
        // Constant images: an average is the pixel itself, so each net is a function of one number.
        let image = Shape { channels: 1, height: 6, width: 6 };
        let average = |kernel| Layer::AveragePool { window: Window::plain(kernel, 1) };
        let last = Layer::Dense { outputs: 2 };
        type Net = (Vec<Layer>, fn(f64) -> f64);
        let nets: [Net; 5] = [
            (vec![average(2), last], |x| x),
            (vec![average(3), last], |x| x),
            (vec![average(3), Layer::Square, last], |x| x * x),
            (vec![average(3), average(3), Layer::Square, Layer::Square, last], |x| x.powi(4)),
            (vec![average(5), Layer::Relu, last], |x| x.max(0.0)),
        ];
        for (layers, function) in nets {
            let network = Network::new(image, layers).unwrap();
            let (weight, _) = last.parameters(network.shape_before(network.layers().len() - 1));
            for x in [-1.5f64, -0.5, 0.75, 1.25] {
                // The first class gets the mean of f(x), the second the threshold just below or above.
                for (offset, class) in [(-0.01, 0), (0.01, 1)] {
                    let share = 2.0 / weight as f32;
                    let mut entry =
                        Weights { weight: vec![0.0; weight], bias: vec![0.0, (function(x) + offset) as f32] };
                    entry.weight[..weight / 2].fill(share);
                    let model = Model::new(network.clone(), vec![entry]).unwrap();
                    let oracle = Oracle::new(model, NUMBERS).unwrap();
                    let word = (x * 65536.0) as i64 as u64;
                    assert_eq!(oracle.vote(&[word; 36]).class, class, "{} at {x}", network.summary());
                }
            }
        }
    }

    #[test]
    fn factors_undo_the_sums() {
        let image = Shape { channels: 1, height: 6, width: 6 };
        let average = Layer::AveragePool { window: Window::plain(3, 1) };
        let last = Layer::Dense { outputs: 2 };
        let factor = |layers: Vec<Layer>| {
            let network = Network::new(image, layers).unwrap();
            Program::compile(&network, NUMBERS, 1, Gadget::Digits).unwrap().weight_factors().to_vec()
        };
        assert_eq!(factor(vec![average, last]), [16.0 / 9.0]);
        assert_eq!(factor(vec![average, Layer::Square, last, Layer::Relu, last]), [256.0 / 81.0, 1.0]);
        assert_eq!(factor(vec![average, Layer::Relu, average, last]), [256.0 / 81.0]);
    }
}
