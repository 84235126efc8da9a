//! The linear maps and squares of a network on values at a few roots of one prime.
//!
//! Between input and output nothing but products of residues at one root happens, so that each panel of [`WORDS`] roots
//! goes through the whole network while it is in the second-level cache. A ciphertext of degree `d` in the secret is
//! `d + 1` words for each root, which stand side by side: `[number][part][root]`.

use super::linear::SparseMap;
use crate::lattice::prime::{Lanes, Prime};
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, Simd, WithSimd};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Roots of a panel.
pub(super) const WORDS: usize = 16;
/// Columns whose words stay in the first-level cache while all rows pass.
const TILE: usize = 24;
/// Largest sum of the magnitudes of weights before a sum is brought back next to zero: residues are at most 2^42 + 1, and
/// sums stay below 2^52.
const SUM_MAX: u64 = 1000;

/// A map for one pair of primes, cut into runs of weights whose columns are near one another.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct TiledMap {
    inputs: usize,
    outputs: usize,
    /// Row, and where the run ends in `columns`.
    #[zeroize(skip)]
    runs: Vec<(u32, u32)>,
    columns: Vec<u32>,
    weights: Vec<f64>,
    /// Of each output, next to zero modulo the plaintext prime.
    bias: Vec<f64>,
}

impl TiledMap {
    /// Cuts a map. Biases are taken modulo the plaintext prime.
    pub(super) fn new(map: &SparseMap<i32, i128>, plain: Prime) -> Self {
        let modulus = i128::from(plain.value);
        let bias = map.bias.iter().map(|bias| plain.centre(bias.rem_euclid(modulus) as f64)).collect();
        let mut tiled = Self {
            inputs: map.inputs,
            outputs: map.outputs(),
            runs: Vec::new(),
            columns: Vec::with_capacity(map.weights.len()),
            weights: Vec::with_capacity(map.weights.len()),
            bias,
        };
        let mut next: Vec<usize> = map.starts[..map.outputs()].to_vec();
        for tile in 1..=map.inputs.div_ceil(TILE) {
            for (row, next) in next.iter_mut().enumerate() {
                let mut sum = 0;
                let mut open = false;
                while *next < map.starts[row + 1] && (map.columns[*next] as usize) < tile * TILE {
                    let weight = u64::from(map.weights[*next].unsigned_abs());
                    if open && sum + weight > SUM_MAX {
                        tiled.runs.push((row as u32, tiled.columns.len() as u32));
                        sum = 0;
                    }
                    (sum, open) = (sum + weight, true);
                    tiled.columns.push(map.columns[*next]);
                    tiled.weights.push(f64::from(map.weights[*next]));
                    *next += 1;
                }
                if open {
                    tiled.runs.push((row as u32, tiled.columns.len() as u32));
                }
            }
        }
        tiled
    }
}

/// Applies a map to a panel: `sums` becomes `[outputs][parts][WORDS]`, next to zero; `values` are `[inputs][parts][WORDS]`
/// and next to zero.
pub(super) fn apply(prime: Prime, map: &TiledMap, parts: usize, values: &[f64], sums: &mut Vec<f64>) {
    assert_eq!(values.len(), map.inputs * parts * WORDS, "words of a panel");
    sums.clear();
    sums.resize(map.outputs * parts * WORDS, 0.0);
    for (sum, bias) in sums.chunks_exact_mut(parts * WORDS).zip(&map.bias) {
        sum[..WORDS].fill(*bias);
    }
    Arch::new().dispatch(Apply { prime, map, parts, values, sums });
}

struct Apply<'a> {
    prime: Prime,
    map: &'a TiledMap,
    parts: usize,
    values: &'a [f64],
    sums: &'a mut [f64],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Sums that fit the registers beside one value and one weight.
        let registers = self.parts * WORDS / S::F64_LANES;
        match (2..=6).rev().find(|group| registers.is_multiple_of(*group)) {
            Some(6) => self.runs::<S, 6>(simd, registers),
            Some(5) => self.runs::<S, 5>(simd, registers),
            Some(4) => self.runs::<S, 4>(simd, registers),
            Some(3) => self.runs::<S, 3>(simd, registers),
            Some(2) => self.runs::<S, 2>(simd, registers),
            _ => self.runs::<S, 1>(simd, registers),
        }
    }
}

impl Apply<'_> {
    #[inline(always)]
    fn runs<S: Simd, const GROUP: usize>(self, simd: S, registers: usize) {
        let prime = self.prime.lanes(simd);
        let (values, sums): (&[S::f64s], &mut [S::f64s]) =
            (cast_slice(self.values), cast_slice_mut(self.sums));
        let mut start = 0;
        for (row, end) in &self.map.runs {
            let (row, range) = (*row as usize, start..*end as usize);
            start = range.end;
            let (columns, weights) = (&self.map.columns[range.clone()], &self.map.weights[range]);
            let sums = &mut sums[row * registers..(row + 1) * registers];
            for (group, sums) in sums.chunks_exact_mut(GROUP).enumerate() {
                let mut held = [sums[0]; GROUP];
                held.copy_from_slice(sums);
                for (column, weight) in columns.iter().zip(weights) {
                    let weight = simd.splat_f64s(*weight);
                    let first = *column as usize * registers + group * GROUP;
                    let values = &values[first..first + GROUP];
                    for (held, value) in held.iter_mut().zip(values) {
                        *held = simd.mul_add_f64s(*value, weight, *held);
                    }
                }
                for (sum, held) in sums.iter_mut().zip(held) {
                    *sum = prime.reduce(held);
                }
            }
        }
    }
}

/// Squares every number of a panel: from `[numbers][parts][WORDS]` to `[numbers][2 parts - 1][WORDS]`, both next to zero.
pub(super) fn square(prime: Prime, parts: usize, values: &[f64], squares: &mut Vec<f64>) {
    let numbers = values.len() / (parts * WORDS);
    squares.clear();
    squares.resize(numbers * (2 * parts - 1) * WORDS, 0.0);
    Arch::new().dispatch(Square { prime, parts, values, squares });
}

struct Square<'a> {
    prime: Prime,
    parts: usize,
    values: &'a [f64],
    squares: &'a mut [f64],
}

impl WithSimd for Square<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let prime = self.prime.lanes(simd);
        let step = WORDS / S::F64_LANES;
        let (values, squares): (&[S::f64s], &mut [S::f64s]) =
            (cast_slice(self.values), cast_slice_mut(self.squares));
        let (from, to) = (self.parts * step, (2 * self.parts - 1) * step);
        for (value, square) in values.chunks_exact(from).zip(squares.chunks_exact_mut(to)) {
            for lane in 0..step {
                for power in 0..2 * self.parts - 1 {
                    square[power * step + lane] = coefficient(prime, value, step, lane, self.parts, power);
                }
            }
        }
    }
}

/// One coefficient of the square of a polynomial in the secret.
#[inline(always)]
fn coefficient<S: Simd>(
    prime: Lanes<S>,
    value: &[S::f64s],
    step: usize,
    lane: usize,
    parts: usize,
    power: usize,
) -> S::f64s {
    let simd = prime.simd;
    let mut sum = simd.splat_f64s(0.0);
    for low in (power + 1).saturating_sub(parts)..=power / 2 {
        let (one, other) = (value[low * step + lane], value[(power - low) * step + lane]);
        let product = prime.multiply(one, other);
        let twice = if 2 * low == power { product } else { simd.add_f64s(product, product) };
        sum = simd.add_f64s(sum, twice);
    }
    prime.reduce(sum)
}
