//! A network of integers: what is computed under encryption, and its reference in the clear.

use super::linear::{ChainError, FloatMap, SparseMap, maps};
use crate::model::Model;
use serde::{Deserialize, Serialize};
use std::ops::{Add, Mul};

/// Largest magnitude of a weight, so that sums of products fit the arithmetic of residues.
pub const WEIGHT_MAX: i32 = 511;

/// Largest scale of inputs.
pub const INPUT_SCALE_MAX: u32 = 255;
/// Largest magnitude of an integer of an input.
const INPUT_MAX: f64 = 65_535.0;

/// Scales of a quantised network: each number times its scale, rounded, is the integer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scales {
    /// Of the inputs.
    pub input: u32,
    /// Of the weights of each linear map, in order.
    pub maps: Vec<f64>,
}

impl Scales {
    /// The scale of the outputs: logits times it are the integers that come out.
    pub fn output(&self) -> f64 {
        let first = f64::from(self.input);
        self.maps.iter().enumerate().fold(first, |scale, (index, map)| {
            let squared = if index == 0 { scale } else { scale * scale };
            squared * map
        })
    }
}

/// Linear maps with integer weights, with squares between them.
#[derive(Clone, PartialEq)]
pub struct IntegerNet {
    pub(super) maps: Vec<SparseMap<i32, i128>>,
    range: [i64; 2],
    scales: Scales,
    reach: Vec<f64>,
    /// Whether every value and every sum on the way fits 64 bits.
    narrow: bool,
}

/// Why weights are no integers of the size that is needed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantiseError {
    /// The network has other layers than linear ones and squares.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Not one scale for each map.
    #[error(
        "{found} scales for weights are given, but the network has {expected} linear maps between squares"
    )]
    Scales {
        /// Linear maps of the network.
        expected: usize,
        /// Scales given.
        found: usize,
    },
    /// A weight times its scale is too large.
    #[error("a weight of linear map {map} times {scale} passes {WEIGHT_MAX}; use a smaller scale")]
    Weight {
        /// Which map, from 1.
        map: usize,
        /// Its scale.
        scale: f64,
    },
    /// All weights of a map are rounded to zero.
    #[error("all weights of linear map {map} times {scale} round to zero; use a larger scale")]
    Nothing {
        /// Which map, from 1.
        map: usize,
        /// Its scale.
        scale: f64,
    },
    /// A scale is no positive number.
    #[error("scale {scale} of linear map {map} is not a positive number")]
    Scale {
        /// Which map, from 1.
        map: usize,
        /// The scale.
        scale: f64,
    },
    /// The range of the inputs has no integers, or too many.
    #[error("inputs between {low} and {high} at scale {scale}: give an interval and a scale of 1 to 255")]
    Range {
        /// Smallest input.
        low: f64,
        /// Largest input.
        high: f64,
        /// The scale.
        scale: u32,
    },
    /// Values pass what the reference can hold.
    #[error(
        "an admissible input could reach 2^{bits} in linear map {map}, more than any parameters can hold; use smaller scales"
    )]
    Reach {
        /// Which map, from 1.
        map: usize,
        /// Bits reached.
        bits: u32,
    },
}

/// Largest bits of a logit, so that the reference never wraps.
const REACH_BITS_MAX: u32 = 120;
/// Largest bits of a value that is squared: products of the square with as many weights as there can be fit as well.
const SQUARED_BITS_MAX: u32 = 48;

/// Sums and products that the reference needs.
trait Whole: Copy + Add<Output = Self> + Mul<Output = Self> + From<i32> + TryFrom<i128> {}
impl Whole for i64 {}
impl Whole for i128 {}

impl IntegerNet {
    /// Rounds the weights of a model. Inputs lie between the two numbers of `range`, ends included.
    ///
    /// # Errors
    /// [`QuantiseError`] names the map at fault.
    pub fn quantise(model: &Model, range: [f64; 2], scales: &Scales) -> Result<Self, QuantiseError> {
        Self::of_maps(&maps(model)?, range, scales)
    }

    pub(super) fn of_maps(
        floats: &[FloatMap],
        range: [f64; 2],
        scales: &Scales,
    ) -> Result<Self, QuantiseError> {
        if floats.len() != scales.maps.len() {
            return Err(QuantiseError::Scales { expected: floats.len(), found: scales.maps.len() });
        }
        let unit = f64::from(scales.input);
        let ends = range.map(|end| (end * unit).round());
        let fits = (1..=INPUT_SCALE_MAX).contains(&scales.input)
            && ends[0] < ends[1]
            && ends.iter().all(|end| end.abs() <= INPUT_MAX);
        if !fits {
            return Err(QuantiseError::Range { low: range[0], high: range[1], scale: scales.input });
        }
        let mut reached = unit;
        let mut maps = Vec::with_capacity(floats.len());
        for (index, (map, scale)) in floats.iter().zip(&scales.maps).enumerate() {
            if index > 0 {
                reached *= reached;
            }
            reached *= scale;
            maps.push(rounded(index + 1, map, *scale, reached)?);
        }
        let range = ends.map(|end| end as i64);
        let (reach, narrow) = reach(&maps, range)?;
        Ok(Self { maps, range, scales: scales.clone(), reach, narrow })
    }

    /// Numbers of an input.
    pub fn inputs(&self) -> usize {
        self.maps.first().map_or(0, |map| map.inputs)
    }

    /// Logits.
    pub fn outputs(&self) -> usize {
        self.maps.last().map_or(0, SparseMap::outputs)
    }

    /// Squares on the way from input to output.
    pub fn squares(&self) -> usize {
        self.maps.len() - 1
    }

    /// Weights that are not zero: products for one input.
    pub fn products(&self) -> usize {
        self.maps.iter().map(|map| map.weights.len()).sum()
    }

    /// Smallest and largest admissible integer of an input.
    pub fn range(&self) -> [i64; 2] {
        self.range
    }

    /// The scales.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Bits of the largest value of each map that some admissible input could reach, sign included: every logit lies in
    /// `-2^(bits - 1)..2^(bits - 1)` for the last. Exact intervals through every row, not an estimate.
    pub fn reach(&self) -> &[f64] {
        &self.reach
    }

    /// The logits of inputs of admissible integers, one input after the other.
    ///
    /// # Panics
    /// If the length is no multiple of that of an input, or a number is not admissible.
    pub fn evaluate(&self, inputs: &[i64]) -> Vec<i128> {
        let [low, high] = self.range;
        assert_eq!(inputs.len() % self.inputs(), 0, "numbers of inputs");
        assert!(inputs.iter().all(|value| (low..=high).contains(value)), "inputs are admissible");
        let run = |input: &[i64]| {
            if self.narrow {
                self.run::<i64>(input).into_iter().map(i128::from).collect()
            } else {
                self.run(input)
            }
        };
        inputs.chunks_exact(self.inputs()).flat_map(run).collect::<Vec<i128>>()
    }

    fn run<T: Whole>(&self, input: &[i64]) -> Vec<T> {
        let whole = |value: i128| T::try_from(value).unwrap_or_else(|_| T::from(0));
        let mut wire: Vec<T> = input.iter().map(|value| whole(i128::from(*value))).collect();
        for (index, map) in self.maps.iter().enumerate() {
            if index > 0 {
                wire.iter_mut().for_each(|value| *value = *value * *value);
            }
            let value = |output: usize| {
                map.row(output)
                    .fold(whole(map.bias[output]), |sum, (at, weight)| sum + wire[at] * T::from(weight))
            };
            wire = (0..map.outputs()).map(value).collect();
        }
        wire
    }

    /// The integers of a row of numbers.
    ///
    /// # Errors
    /// Position and value of the first number that is not admissible.
    pub fn encode(&self, row: &[f64]) -> Result<Vec<i64>, (usize, f64)> {
        encode(f64::from(self.scales.input), self.range, row)
    }
}

/// The integers of numbers at a scale, each within `range`.
pub(super) fn encode(scale: f64, range: [i64; 2], row: &[f64]) -> Result<Vec<i64>, (usize, f64)> {
    let integer = |(position, value): (usize, &f64)| {
        let scaled = (value * scale).round();
        let [low, high] = range.map(|end| end as f64);
        if (low..=high).contains(&scaled) { Ok(scaled as i64) } else { Err((position, *value)) }
    };
    row.iter().enumerate().map(integer).collect()
}

impl std::fmt::Debug for IntegerNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntegerNet({:?}, {:?})", self.maps, self.range)
    }
}

/// [`IntegerNet::reach`], and whether all values, their squares and sums in any order are below 2^62.
fn reach(maps: &[SparseMap<i32, i128>], range: [i64; 2]) -> Result<(Vec<f64>, bool), QuantiseError> {
    let mut wire = vec![range.map(i128::from); maps.first().map_or(0, |map| map.inputs)];
    let mut bits = Vec::with_capacity(maps.len());
    let mut most = 0;
    for (index, map) in maps.iter().enumerate() {
        let mut largest = 1_i128;
        let mut next = Vec::with_capacity(map.outputs());
        for output in 0..map.outputs() {
            let [mut low, mut high] = [map.bias[output]; 2];
            let mut magnitude = low.unsigned_abs();
            for (input, weight) in map.row(output) {
                let (weight, [from, to]) = (i128::from(weight), wire[input]);
                let (one, other) = (weight * from, weight * to);
                low += one.min(other);
                high += one.max(other);
                magnitude = magnitude.saturating_add(one.unsigned_abs().max(other.unsigned_abs()));
            }
            most = most.max(magnitude);
            largest = largest.max(-low).max(high);
            next.push([low, high]);
        }
        let reached = 1.0 + (largest as f64).log2();
        let room = f64::from(if index + 1 < maps.len() { SQUARED_BITS_MAX } else { REACH_BITS_MAX });
        if reached > room {
            return Err(QuantiseError::Reach { map: index + 1, bits: reached.ceil() as u32 });
        }
        bits.push(reached);
        if index + 1 < maps.len() {
            wire = next.into_iter().map(squared).collect();
            most = wire.iter().fold(most, |most, [_, high]| most.max(high.unsigned_abs()));
        }
    }
    Ok((bits, most < 1 << 62))
}

/// What the square of a value within an interval can be.
fn squared([low, high]: [i128; 2]) -> [i128; 2] {
    let (one, other) = (low * low, high * high);
    let least = if low <= 0 && high >= 0 { 0 } else { one.min(other) };
    [least, one.max(other)]
}

fn rounded(
    number: usize,
    map: &FloatMap,
    scale: f64,
    reached: f64,
) -> Result<SparseMap<i32, i128>, QuantiseError> {
    if !(scale.is_finite() && scale > 0.0) {
        return Err(QuantiseError::Scale { map: number, scale });
    }
    let bias: Vec<i128> = map.bias.iter().map(|value| (value * reached).round() as i128).collect();
    let mut result =
        SparseMap { inputs: map.inputs, starts: vec![0], columns: Vec::new(), weights: Vec::new(), bias };
    for output in 0..map.outputs() {
        for (input, weight) in map.row(output) {
            let integer = (weight * scale).round();
            if integer.abs() > f64::from(WEIGHT_MAX) {
                return Err(QuantiseError::Weight { map: number, scale });
            }
            if integer != 0.0 {
                result.columns.push(input as u32);
                result.weights.push(integer as i32);
            }
        }
        result.starts.push(result.columns.len());
    }
    if result.weights.is_empty() {
        return Err(QuantiseError::Nothing { map: number, scale });
    }
    if result.bias.iter().any(|bias| bias.unsigned_abs() >= 1 << REACH_BITS_MAX) {
        return Err(QuantiseError::Reach { map: number, bits: REACH_BITS_MAX });
    }
    Ok(result)
}
