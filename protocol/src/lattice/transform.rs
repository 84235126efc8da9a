//! The number-theoretic transform modulo `X^n + 1` for a power of two `n`, and products in it.
//!
//! Forward butterflies split a polynomial modulo `X^2k - r^2` into its remainders modulo `X^k - r` and
//! `X^k + r`, until only values at the roots are left; inverse ones join them again. Two splits share one
//! pass over memory, before which an even number of splits does one alone. The last three work inside groups of eight
//! coefficients, which are turned so that registers stand side by side. The order of the values is that of these
//! passes; both parties use the same: value `i` is the one at the root `r^(2 j + 1)`, where `j` has the bits of `i` in
//! reverse after its lowest three and the next three have changed places. Values grow by about half the prime with each split, which `f64` has room for, so nothing is
//! reduced on the way forward.

use super::prime::{DEGREE, LIMBS, Lanes, PRIMES, Prime};
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, Simd, WithSimd};
use std::sync::LazyLock;

/// Coefficients that the last splits work on at a time: eight groups of eight.
const SQUARE: usize = 64;
/// Blocks at which the sums of the inverse are reduced once: at this number or twice it, whichever comes up.
const REDUCED_AT: usize = 16;

/// The degree for which there are fewest coefficients in a quarter, and the largest that room was counted for.
const DEGREES: std::ops::RangeInclusive<usize> = 1024..=1 << 15;

/// The transform for one prime and degree.
pub(crate) struct Transform {
    prime: Prime,
    degree: usize,
    /// Entry `blocks + block` splits that block among so many.
    forward: Vec<f64>,
    inverse: Vec<f64>,
    /// The seven roots of the last three splits for each square, eight groups side by side.
    forward_last: Vec<f64>,
    inverse_last: Vec<f64>,
    /// The inverse of the degree.
    scale: f64,
}

static TRANSFORMS: LazyLock<[Transform; LIMBS]> =
    LazyLock::new(|| PRIMES.map(|prime| Transform::new(prime, DEGREE)));

impl Transform {
    /// For polynomials of so many coefficients modulo a prime that is 1 modulo twice as many.
    ///
    /// # Panics
    /// If the degree is no power of two within `DEGREES`, or the prime has no such roots.
    pub(crate) fn new(prime: Prime, degree: usize) -> Self {
        assert!(degree.is_power_of_two() && DEGREES.contains(&degree), "degree {degree}");
        assert!(prime.value % (2 * degree as u64) == 1, "{} has no roots of degree {degree}", prime.value);
        let steps = 2 * degree as u64;
        // The first base whose power has the full order; its power to the degree is then -1.
        let candidates = (2..).map(|base| prime.power(base, (prime.value - 1) / steps));
        let root = candidates.into_iter().find(|root| prime.power(*root, steps / 2) == prime.value - 1);
        let root = root.unwrap_or(1);
        let at = |index: usize| (index.reverse_bits() >> (usize::BITS - degree.ilog2())) as u64;
        let power = |exponent: u64| prime.constant(u128::from(prime.power(root, exponent)));
        let forward: Vec<f64> = (0..degree).map(|index| power(at(index))).collect();
        let inverse: Vec<f64> = (0..degree).map(|index| power((steps - at(index)) % steps)).collect();
        Self {
            prime,
            degree,
            forward_last: last_roots(&forward),
            inverse_last: last_roots(&inverse),
            forward,
            inverse,
            scale: prime.inverse_of(degree as u128),
        }
    }

    /// The prime.
    pub(crate) fn prime(&self) -> Prime {
        self.prime
    }

    /// From coefficients to values at the roots, in place. Coefficients are at most a prime in magnitude, the
    /// values below 9 primes.
    ///
    /// # Panics
    /// If there are not as many coefficients as the degree.
    pub(crate) fn forward(&self, values: &mut [f64]) {
        assert_eq!(values.len(), self.degree, "coefficients of a polynomial");
        Arch::new().dispatch(Forward { roots: self, values });
    }

    /// From values at the roots to coefficients, in place. Both are at most 0.63 primes in magnitude.
    ///
    /// # Panics
    /// If there are not as many values as the degree.
    pub(crate) fn inverse(&self, values: &mut [f64]) {
        assert_eq!(values.len(), self.degree, "values of a polynomial");
        Arch::new().dispatch(Inverse { roots: self, values });
    }
}

fn last_roots(roots: &[f64]) -> Vec<f64> {
    let groups = roots.len() / 8;
    let mut last = Vec::with_capacity(7 * groups);
    for square in 0..groups / 8 {
        let group = |side: usize| 8 * square + side;
        last.extend((0..8).map(|side| roots[groups + group(side)]));
        for half in 0..2 {
            last.extend((0..8).map(|side| roots[2 * (groups + group(side)) + half]));
        }
        for quarter in 0..4 {
            last.extend((0..8).map(|side| roots[4 * (groups + group(side)) + quarter]));
        }
    }
    last
}

/// From coefficients to values at the roots, in place. Coefficients are at most a prime in magnitude, the
/// values below 8 primes.
///
/// # Panics
/// If there are not [`DEGREE`] coefficients.
pub(super) fn forward(limb: usize, values: &mut [f64]) {
    TRANSFORMS[limb].forward(values);
}

/// From values at the roots to coefficients, in place. Both are at most 0.63 primes in magnitude.
///
/// # Panics
/// If there are not [`DEGREE`] values.
pub(super) fn inverse(limb: usize, values: &mut [f64]) {
    TRANSFORMS[limb].inverse(values);
}

/// `sums += a * b`, value by value. `a` may come from [`forward`]; `b` is at most a prime in magnitude. Each
/// call adds at most 0.63 primes to a sum.
///
/// # Panics
/// If the lengths differ or are no multiple of eight.
pub(super) fn multiply_add(limb: usize, sums: &mut [f64], a: &[f64], b: &[f64]) {
    assert!(sums.len() == a.len() && a.len() == b.len(), "polynomials differ in length");
    Arch::new().dispatch(MultiplyAdd { prime: PRIMES[limb], sums, a, b });
}

struct MultiplyAdd<'a> {
    prime: Prime,
    sums: &'a mut [f64],
    a: &'a [f64],
    b: &'a [f64],
}

impl WithSimd for MultiplyAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let prime = self.prime.lanes(simd);
        let sums: &mut [S::f64s] = cast_slice_mut(self.sums);
        let (a, b): (&[S::f64s], &[S::f64s]) = (cast_slice(self.a), cast_slice(self.b));
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = simd.add_f64s(*sum, prime.multiply(*a, *b));
        }
    }
}

struct Forward<'a> {
    roots: &'a Transform,
    values: &'a mut [f64],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let prime = self.roots.prime.lanes(simd);
        let degree = self.roots.degree;
        // The first passes need everything; the parts then fit the first-level cache one at a time.
        let odd = degree.ilog2() % 2 == 1;
        let parts = if odd { 4 } else { 8 };
        if !odd {
            split_once(prime, self.values, self.roots.forward[1]);
        }
        for (part, values) in self.values.chunks_exact_mut(4 * degree / parts).enumerate() {
            split_pass(prime, values, &self.roots.forward, parts / 4, part);
        }
        for (part, values) in self.values.chunks_exact_mut(degree / parts).enumerate() {
            let mut blocks = parts;
            while blocks * 32 <= degree {
                split_pass(prime, values, &self.roots.forward, blocks, part * blocks / parts);
                blocks *= 4;
            }
            let first = part * degree / parts / SQUARE;
            for (square, values) in values.chunks_exact_mut(SQUARE).enumerate() {
                let at = 7 * 8 * (first + square);
                split_square(prime, values, &self.roots.forward_last[at..at + 7 * 8]);
            }
        }
    }
}

/// The first split alone.
#[inline(always)]
fn split_once<S: Simd>(prime: Lanes<S>, values: &mut [f64], root: f64) {
    let simd = prime.simd;
    let root = simd.splat_f64s(root);
    let values = cast_slice_mut::<f64, S::f64s>(values);
    let (a, b) = values.split_at_mut(values.len() / 2);
    for (a, b) in a.iter_mut().zip(b) {
        let y = prime.multiply(*b, root);
        (*a, *b) = (simd.add_f64s(*a, y), simd.sub_f64s(*a, y));
    }
}

/// Two splits of every block in `values`, the first of which is number `first` of `blocks` in all.
#[inline(always)]
fn split_pass<S: Simd>(prime: Lanes<S>, values: &mut [f64], roots: &[f64], blocks: usize, first: usize) {
    let simd = prime.simd;
    let quarter = roots.len() / blocks / 4;
    for (offset, block) in values.chunks_exact_mut(4 * quarter).enumerate() {
        let at = blocks + first + offset;
        let whole = simd.splat_f64s(roots[at]);
        let (left, right) = (simd.splat_f64s(roots[2 * at]), simd.splat_f64s(roots[2 * at + 1]));
        let (ab, cd) = cast_slice_mut::<f64, S::f64s>(block).split_at_mut(2 * quarter / S::F64_LANES);
        let ((a, b), (c, d)) = (ab.split_at_mut(ab.len() / 2), cd.split_at_mut(cd.len() / 2));
        for ((a, b), (c, d)) in a.iter_mut().zip(b).zip(c.iter_mut().zip(d)) {
            let (x, y) = (prime.multiply(*c, whole), prime.multiply(*d, whole));
            let (upper, lower) = (simd.add_f64s(*b, y), simd.sub_f64s(*b, y));
            let (y, z) = (prime.multiply(upper, left), prime.multiply(lower, right));
            let (upper, lower) = (simd.add_f64s(*a, x), simd.sub_f64s(*a, x));
            *a = simd.add_f64s(upper, y);
            *b = simd.sub_f64s(upper, y);
            *c = simd.add_f64s(lower, z);
            *d = simd.sub_f64s(lower, z);
        }
    }
}

/// Turns rows into columns.
#[inline(always)]
fn turn(values: &mut [f64]) {
    for row in 0..8 {
        for column in 0..row {
            values.swap(8 * row + column, 8 * column + row);
        }
    }
}

/// The last three splits of eight groups.
#[inline(always)]
fn split_square<S: Simd>(prime: Lanes<S>, values: &mut [f64], roots: &[f64]) {
    turn(values);
    let simd = prime.simd;
    let step = 8 / S::F64_LANES;
    let (values, roots): (&mut [S::f64s], &[S::f64s]) = (cast_slice_mut(values), cast_slice(roots));
    for side in 0..step {
        let mut x = [values[side]; 8];
        for (row, x) in x.iter_mut().enumerate() {
            *x = values[row * step + side];
        }
        for (level, distance) in [4, 2, 1].into_iter().enumerate() {
            for low in (0..8).filter(|row| row & distance == 0) {
                let root = roots[((1 << level) - 1 + low / (2 * distance)) * step + side];
                let y = prime.multiply(x[low + distance], root);
                (x[low], x[low + distance]) = (simd.add_f64s(x[low], y), simd.sub_f64s(x[low], y));
            }
        }
        for (row, x) in x.iter().enumerate() {
            values[row * step + side] = *x;
        }
    }
}

struct Inverse<'a> {
    roots: &'a Transform,
    values: &'a mut [f64],
}

impl WithSimd for Inverse<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let prime = self.roots.prime.lanes(simd);
        let degree = self.roots.degree;
        let odd = degree.ilog2() % 2 == 1;
        let parts = if odd { 4 } else { 8 };
        for (part, values) in self.values.chunks_exact_mut(degree / parts).enumerate() {
            let first = part * degree / parts / SQUARE;
            for (square, values) in values.chunks_exact_mut(SQUARE).enumerate() {
                let at = 7 * 8 * (first + square);
                join_square(prime, values, &self.roots.inverse_last[at..at + 7 * 8]);
            }
            let mut blocks = degree / 32;
            while blocks >= parts {
                join_pass(prime, values, &self.roots.inverse, blocks, part * blocks / parts);
                blocks /= 4;
            }
        }
        for (part, values) in self.values.chunks_exact_mut(4 * degree / parts).enumerate() {
            join_pass(prime, values, &self.roots.inverse, parts / 4, part);
        }
        if !odd {
            join_once(prime, self.values, self.roots.inverse[1]);
        }
        let scale = simd.splat_f64s(self.roots.scale);
        for value in cast_slice_mut::<f64, S::f64s>(self.values) {
            *value = prime.multiply(*value, scale);
        }
    }
}

/// Undoes [`split_once`], times two.
#[inline(always)]
fn join_once<S: Simd>(prime: Lanes<S>, values: &mut [f64], root: f64) {
    let simd = prime.simd;
    let root = simd.splat_f64s(root);
    let values = cast_slice_mut::<f64, S::f64s>(values);
    let (a, b) = values.split_at_mut(values.len() / 2);
    for (a, b) in a.iter_mut().zip(b) {
        let difference = simd.sub_f64s(*a, *b);
        *a = simd.add_f64s(*a, *b);
        *b = prime.multiply(difference, root);
    }
}

/// Undoes [`split_pass`], times four.
#[inline(always)]
fn join_pass<S: Simd>(prime: Lanes<S>, values: &mut [f64], roots: &[f64], blocks: usize, first: usize) {
    let simd = prime.simd;
    let quarter = roots.len() / blocks / 4;
    for (offset, block) in values.chunks_exact_mut(4 * quarter).enumerate() {
        let at = blocks + first + offset;
        let whole = simd.splat_f64s(roots[at]);
        let (left, right) = (simd.splat_f64s(roots[2 * at]), simd.splat_f64s(roots[2 * at + 1]));
        let (ab, cd) = cast_slice_mut::<f64, S::f64s>(block).split_at_mut(2 * quarter / S::F64_LANES);
        let ((a, b), (c, d)) = (ab.split_at_mut(ab.len() / 2), cd.split_at_mut(cd.len() / 2));
        for ((a, b), (c, d)) in a.iter_mut().zip(b).zip(c.iter_mut().zip(d)) {
            let (mut w, mut x, mut y, mut z) = (*a, *b, *c, *d);
            if blocks == REDUCED_AT || blocks == 2 * REDUCED_AT {
                (w, x) = (prime.reduce(w), prime.reduce(x));
                (y, z) = (prime.reduce(y), prime.reduce(z));
            }
            let (upper, lower) = (simd.add_f64s(w, x), simd.add_f64s(y, z));
            let x = prime.multiply(simd.sub_f64s(w, x), left);
            let z = prime.multiply(simd.sub_f64s(y, z), right);
            *a = simd.add_f64s(upper, lower);
            *b = simd.add_f64s(x, z);
            *c = prime.multiply(simd.sub_f64s(upper, lower), whole);
            *d = prime.multiply(simd.sub_f64s(x, z), whole);
        }
    }
}

/// Undoes [`split_square`], times eight.
#[inline(always)]
fn join_square<S: Simd>(prime: Lanes<S>, values: &mut [f64], roots: &[f64]) {
    let simd = prime.simd;
    let step = 8 / S::F64_LANES;
    let (rows, roots): (&mut [S::f64s], &[S::f64s]) = (cast_slice_mut(values), cast_slice(roots));
    for side in 0..step {
        let mut x = [rows[side]; 8];
        for (row, x) in x.iter_mut().enumerate() {
            *x = rows[row * step + side];
        }
        for (level, distance) in [(2, 1), (1, 2), (0, 4)] {
            for low in (0..8).filter(|row| row & distance == 0) {
                let root = roots[((1 << level) - 1 + low / (2 * distance)) * step + side];
                let difference = simd.sub_f64s(x[low], x[low + distance]);
                x[low] = simd.add_f64s(x[low], x[low + distance]);
                x[low + distance] = prime.multiply(difference, root);
            }
        }
        for (row, x) in x.iter().enumerate() {
            rows[row * step + side] = *x;
        }
    }
    turn(values);
}

/// The remainder of `a * b` modulo `X^DEGREE + 1` for one prime, coefficients in `0..prime`.
#[cfg(test)]
pub(super) fn product(limb: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    forward(limb, &mut a);
    forward(limb, &mut b);
    let mut sums = vec![0.0; DEGREE];
    b.iter_mut().for_each(|value| *value = PRIMES[limb].reduce(*value));
    multiply_add(limb, &mut sums, &a, &b);
    inverse(limb, &mut sums);
    sums.iter().map(|value| PRIMES[limb].canonical(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::{Prg, Seed};

    fn residues(prime: Prime, seed: u8) -> Vec<f64> {
        let mut prg = Prg::new(&Seed::from_bytes([seed; 16]));
        prg.words(DEGREE).iter().map(|word| prime.constant(u128::from(*word))).collect()
    }

    fn naive(prime: Prime, a: &[f64], b: &[f64], at: usize) -> u64 {
        let p = i128::from(prime.value);
        let term = |index: usize| {
            let sign = if index <= at { 1 } else { -1 };
            sign * (a[index] as i128) * (b[(at + DEGREE - index) % DEGREE] as i128) % p
        };
        ((0..DEGREE).map(term).sum::<i128>().rem_euclid(p)) as u64
    }

    #[test]
    fn products_agree_with_the_definition() {
        for (limb, prime) in PRIMES.into_iter().enumerate() {
            let (a, b) = (residues(prime, 1), residues(prime, 2));
            let found = product(limb, &a, &b);
            for at in (0..DEGREE).step_by(if limb == 0 { 13 } else { 511 }).chain([DEGREE - 1]) {
                assert_eq!(found[at] as u64, naive(prime, &a, &b, at), "coefficient {at} of limb {limb}");
            }
        }
    }

    #[test]
    fn the_largest_values_stay_exact() {
        for (limb, prime) in PRIMES.into_iter().enumerate() {
            let largest = vec![((prime.value - 1) / 2) as f64; DEGREE];
            let found = product(limb, &largest, &largest);
            for at in [0, 1, 4095, DEGREE - 1] {
                assert_eq!(found[at] as u64, naive(prime, &largest, &largest, at));
            }
            let mut values: Vec<f64> = largest.iter().map(|value| 2.0 * value).collect();
            forward(limb, &mut values);
            assert!(values.iter().all(|value| value.abs() < 8.0 * prime.value as f64));
        }
    }

    fn both_ways<S: Simd>(simd: S, limb: usize, start: &[f64]) -> [Vec<f64>; 2] {
        let roots = &TRANSFORMS[limb];
        let mut values = start.to_vec();
        simd.vectorize(Forward { roots, values: &mut values });
        let mut back: Vec<f64> = values.iter().map(|value| PRIMES[limb].reduce(*value)).collect();
        simd.vectorize(Inverse { roots, values: &mut back });
        [values, back].map(|list| list.iter().map(|value| PRIMES[limb].canonical(*value)).collect())
    }

    #[test]
    fn every_instruction_set_gives_the_same_and_the_inverse_undoes_it() {
        let start = residues(PRIMES[3], 5);
        let [values, back] = both_ways(pulp::Scalar, 3, &start);
        let canonical: Vec<f64> = start.iter().map(|value| PRIMES[3].canonical(*value)).collect();
        assert_eq!(back, canonical);
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                assert_eq!(both_ways(simd, 3, &start), [values.clone(), back.clone()]);
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                assert_eq!(both_ways(simd, 3, &start), [values, back]);
            }
        }
    }
}
