//! A one-class model in fixed point, and the proof that its distances stay within the task's bounds.

use super::{FixedError, FixedWeights, Span, encode_for, input, reach};
use crate::graph::{Numbers, OneClassShape, Program};
use crate::model::{OneClass, Projection};
use crate::stock::Gadget;

/// Encodes the weights for a task's numbers, and the threshold as a last entry without weights.
///
/// # Errors
/// The measure does not fit the numbers, or a weight or the threshold passes its bound.
pub fn encode_one_class(model: &OneClass, shape: OneClassShape) -> Result<Vec<FixedWeights>, FixedError> {
    let program = Program::measure(&model.measure(), shape.numbers, 1, Gadget::Digits)?;
    let mut encoded = if let Some(network) = model.reconstructor() {
        encode_for(&program, network, shape.numbers)?
    } else if let Some(projection) = model.directions() {
        vec![Words::of(projection, shape.numbers)?.weights(shape)?]
    } else {
        Vec::new()
    };
    let double = 2f64.powi(2 * shape.numbers.fraction_bits as i32);
    let word = (model.threshold() * double).round();
    if model.threshold().abs() >= 2f64.powi(shape.distance_bits as i32) || word.abs() >= 2f64.powi(62) {
        return Err(FixedError::Threshold { distance_bits: shape.distance_bits });
    }
    encoded.push(FixedWeights { weight: Vec::new(), bias: vec![word as i64 as u64] });
    Ok(encoded)
}

/// Proves by interval arithmetic over the encoded weights that no input with magnitudes up to `input_abs_max` pushes
/// a value past the task's bound or a distance past its own, whatever the carries of truncations.
///
/// # Errors
/// What [`encode_one_class`] refuses, [`FixedError::Reach`] and [`FixedError::Distance`].
pub fn prove_one_class(model: &OneClass, shape: OneClassShape, input_abs_max: f64) -> Result<(), FixedError> {
    let numbers = shape.numbers;
    let weights = encode_one_class(model, shape)?;
    let from = input(numbers, input_abs_max)?;
    let distance = if let Some(network) = model.reconstructor() {
        let program = Program::measure(&model.measure(), numbers, 1, Gadget::Digits)?;
        let wire = vec![from; network.network().input().len()];
        let outputs = reach(&program, network, &weights, numbers, wire)?;
        squares(outputs.iter().map(|output| (output.low - from.high, output.high - from.low)))
    } else if let Some(projection) = model.directions() {
        residual(&Words::of(projection, numbers)?, numbers, from)?
    } else {
        (0, 0)
    };
    let bound = 1i128 << shape.distance_bits.saturating_add(2 * numbers.fraction_bits).min(126);
    let most = distance.0.abs().max(distance.1.abs());
    if most >= bound {
        let reach = most as f64 / 2f64.powi(2 * numbers.fraction_bits as i32);
        return Err(FixedError::Distance { reach, distance_bits: shape.distance_bits });
    }
    Ok(())
}

/// Smallest and largest sum of squares of values between these.
fn squares(spans: impl Iterator<Item = (i64, i64)>) -> (i128, i128) {
    let mut sum = (0i128, 0i128);
    for (low, high) in spans {
        let (low, high) = (i128::from(low), i128::from(high));
        let (one, other) = (low * low, high * high);
        let least = if low < 0 && high > 0 { 0 } else { one.min(other) };
        // A million squares of words are below 2^127 where words are below 2^53; past that nothing is proved.
        sum = (sum.0.saturating_add(least), sum.1.saturating_add(one.max(other)));
    }
    sum
}

/// What the distance can be, from `x - m` instead of the input: the norm and the last row add up to its norm.
fn residual(words: &Words, numbers: Numbers, from: Span) -> Result<(i128, i128), FixedError> {
    let centred: Vec<(i64, i64)> = words
        .mean
        .iter()
        .map(|mean| (from.low.saturating_sub(*mean), from.high.saturating_sub(*mean)))
        .collect();
    let scale = 2 * numbers.fraction_bits;
    let unit = 1i128 << numbers.fraction_bits;
    let mut explained = (0i128, 0i128);
    for row in words.rows.chunks(words.mean.len().max(1)) {
        let (mut low, mut high) = (0i128, 0i128);
        for (weight, (least, most)) in row.iter().zip(&centred) {
            let (one, other) =
                (i128::from(*weight) * i128::from(*least), i128::from(*weight) * i128::from(*most));
            low = low.saturating_add(one.min(other));
            high = high.saturating_add(one.max(other));
        }
        // A carry of the truncation may add one unit.
        let most = low.abs().max(high.abs()).saturating_add(unit);
        let span = Span::new(low, high).filter(|_| most < 1i128 << (numbers.value_bits + scale));
        let Some(span) = span else {
            let reach = most as f64 / 2f64.powi(scale as i32);
            let layer = "0 (the projection)".to_owned();
            return Err(FixedError::Reach { layer, reach, value_bits: numbers.value_bits });
        };
        let span = span.truncated(numbers.fraction_bits);
        let (least, most) = squares(std::iter::once((span.low, span.high)));
        explained = (explained.0.saturating_add(least), explained.1.saturating_add(most));
    }
    let all = squares(centred.into_iter());
    Ok((all.0.saturating_sub(explained.1), all.1.saturating_sub(explained.0)))
}

/// Mean and rows as words.
struct Words {
    mean: Vec<i64>,
    rows: Vec<i64>,
}

impl Words {
    fn of(projection: &Projection, numbers: Numbers) -> Result<Self, FixedError> {
        let bound = 2f64.powi(numbers.value_bits as i32);
        let one = 2f64.powi(numbers.fraction_bits as i32);
        let word = |value: &f32| {
            let value = f64::from(*value);
            if value.abs() < bound { Some((value * one).round() as i64) } else { None }
        };
        let all = |values: &[f32]| values.iter().map(word).collect::<Option<Vec<i64>>>();
        match (all(&projection.mean), all(&projection.rows)) {
            (Some(mean), Some(rows)) => Ok(Self { mean, rows }),
            _ => Err(too_large(numbers)),
        }
    }

    /// The rows and `-2 m` as one matrix. The biases take the words of the mean as they are, so that nothing but the
    /// truncation of the projected values is rounded: `|x|^2` and the last output add up to `|x - m|^2` exactly.
    fn weights(&self, shape: OneClassShape) -> Result<FixedWeights, FixedError> {
        let mut weight: Vec<u64> = self.rows.iter().map(|word| *word as u64).collect();
        weight.extend(self.mean.iter().map(|word| word.wrapping_mul(-2) as u64));
        let product = |row: &[i64]| {
            let terms = row.iter().zip(&self.mean).map(|(a, b)| i128::from(*a) * i128::from(*b));
            terms.fold(0i128, i128::saturating_add)
        };
        let mut bias: Vec<i128> = self.rows.chunks(self.mean.len().max(1)).map(|row| -product(row)).collect();
        bias.push(product(&self.mean));
        let bound = 1i128 << shape.distance_bits.saturating_add(2 * shape.numbers.fraction_bits).min(62);
        if let Some(word) = bias.iter().find(|word| word.abs() >= bound) {
            let reach = word.abs() as f64 / 2f64.powi(2 * shape.numbers.fraction_bits as i32);
            return Err(FixedError::Distance { reach, distance_bits: shape.distance_bits });
        }
        Ok(FixedWeights { weight, bias: bias.into_iter().map(|word| word as u64).collect() })
    }
}

fn too_large(numbers: Numbers) -> FixedError {
    FixedError::Weight { layer: "0 (the projection)".to_owned(), value_bits: numbers.value_bits }
}
