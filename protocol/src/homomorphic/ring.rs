//! Polynomials modulo `X^n + 1` in residues, and the slots of a plaintext prime.
//!
//! A polynomial is rows of `n` values, one row for each prime of the chain from the first on. Ciphertexts stay as values
//! at the roots; coefficients appear only where a prime is dropped or a digit taken.

use super::galois::Galois;
use crate::algebra::Prg;
use crate::lattice::prime::{PRIMES, Prime};
use crate::lattice::sample;
use crate::lattice::transform::Transform;
use pulp::Arch;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Rows of ciphertexts.
pub(super) type Rows = Vec<f64>;
/// Rows that hold a client's secrets, or what hides an owner's.
pub(super) type Secret = Zeroizing<Vec<f64>>;

/// A ring with its chain of primes, the last of which is the special one of key switching.
pub(super) struct Ring {
    degree: usize,
    transforms: Vec<Transform>,
    /// The inverse of each prime modulo each other one: `[dropped][kept]`.
    inverses: Vec<Vec<f64>>,
}

/// The ring of batches: 215 bits of modulus.
pub(super) static BATCH: LazyLock<Ring> = LazyLock::new(|| Ring::new(8192, &PRIMES));
/// The ring of single queries: 344 bits of modulus. The eight largest primes below 2^43 that are 1 modulo 2^15.
pub(super) static SINGLE: LazyLock<Ring> = LazyLock::new(|| {
    const PRIMES: [Prime; 8] = [
        Prime::new(0x7ff_fffd_8001),
        Prime::new(0x7ff_fffc_8001),
        Prime::new(0x7ff_fffa_8001),
        Prime::new(0x7ff_fff6_8001),
        Prime::new(0x7ff_ffdb_0001),
        Prime::new(0x7ff_ffd3_8001),
        Prime::new(0x7ff_ffd2_0001),
        Prime::new(0x7ff_ffcf_8001),
    ];
    Ring::new(16384, &PRIMES)
});

impl Ring {
    fn new(degree: usize, primes: &[Prime]) -> Self {
        let inverses = primes
            .iter()
            .map(|dropped| primes.iter().map(|kept| kept.inverse_of(dropped.value.into())).collect());
        Self {
            degree,
            transforms: primes.iter().map(|prime| Transform::new(*prime, degree)).collect(),
            inverses: inverses.collect(),
        }
    }

    /// Coefficients of a polynomial.
    pub(super) fn degree(&self) -> usize {
        self.degree
    }

    /// Primes of the chain, with the special one.
    pub(super) fn limbs(&self) -> usize {
        self.transforms.len()
    }

    /// Which prime is the special one.
    pub(super) fn special(&self) -> usize {
        self.transforms.len() - 1
    }

    /// A prime of the chain.
    pub(super) fn prime(&self, limb: usize) -> Prime {
        self.transforms[limb].prime()
    }

    /// The transform of a prime.
    pub(super) fn transform(&self, limb: usize) -> &Transform {
        &self.transforms[limb]
    }

    /// Bits of the product of the first primes.
    pub(super) fn bits(&self, limbs: usize) -> f64 {
        (0..limbs).map(|limb| (self.prime(limb).value as f64).log2()).sum()
    }

    /// Empty rows for the first primes.
    pub(super) fn zero(&self, limbs: usize) -> Rows {
        vec![0.0; limbs * self.degree]
    }

    /// The rows of a polynomial, each with its prime's number.
    pub(super) fn rows_mut<'a>(
        &self,
        rows: &'a mut [f64],
    ) -> impl Iterator<Item = (usize, &'a mut [f64])> + use<'a> {
        rows.chunks_exact_mut(self.degree).enumerate()
    }

    /// The prime of a row of something that has `limbs` rows and one more for the special prime.
    pub(super) fn with_special(&self, limbs: usize, row: usize) -> usize {
        if row == limbs { self.special() } else { row }
    }

    /// Values at the roots of whole numbers below 2^42 in magnitude, times a factor modulo each prime.
    pub(super) fn lifted(&self, limbs: usize, numbers: &[f64], factor: u128) -> Rows {
        let mut rows = self.zero(limbs);
        for (limb, row) in self.rows_mut(&mut rows) {
            self.lift(limb, row, numbers, factor);
        }
        rows
    }

    /// One row of [`Self::lifted`].
    pub(super) fn lift(&self, limb: usize, row: &mut [f64], numbers: &[f64], factor: u128) {
        let prime = self.prime(limb);
        let factor = prime.constant(factor % u128::from(prime.value));
        map(row, numbers, |_, number| prime.multiply(number, factor));
        self.transform(limb).forward(row);
        each(row, |value| prime.reduce(value));
    }

    /// Divides a polynomial by one prime and rounds so that what it says modulo the plaintext prime is divided by it
    /// too: `(kept - d) / p` for the smallest `d` that is `dropped` modulo `p` and zero modulo `t`. `dropped` are the
    /// coefficients modulo prime `limb`, next to zero; `kept` are values at the roots, or coefficients as well.
    pub(super) fn divide(
        &self,
        plain: Prime,
        kept: &mut [f64],
        dropped: &[f64],
        limb: usize,
        at_roots: bool,
    ) {
        let last = self.prime(limb);
        let minus = plain.centre(plain.canonical(-plain.inverse_of(last.value.into())));
        let mut high = vec![0.0; self.degree];
        map(&mut high, dropped, |_, low| plain.centre(plain.canonical(plain.multiply(low, minus))));
        let mut change = vec![0.0; self.degree];
        for (at, row) in self.rows_mut(kept) {
            let prime = self.prime(at);
            let step = prime.constant(last.value.into());
            change.copy_from_slice(dropped);
            map(&mut change, &high, |low, high| prime.reduce(low + prime.multiply(high, step)));
            if at_roots {
                self.transform(at).forward(&mut change);
            }
            let inverse = self.inverses[limb][at];
            map(row, &change, |value, change| prime.multiply(prime.reduce(value - change), inverse));
        }
    }

    /// The coefficients of a row of values at the roots of one prime, next to zero and the same for all values that mean
    /// the same residues.
    pub(super) fn coefficients(&self, limb: usize, row: &mut [f64]) {
        let prime = self.prime(limb);
        each(row, |value| prime.reduce(value));
        self.transform(limb).inverse(row);
        each(row, |value| prime.centre(prime.canonical(value)));
    }

    /// `sums += a * b` over all rows, which then are next to zero. `b` is at most a prime in magnitude.
    pub(super) fn multiply_add(&self, sums: &mut [f64], a: &[f64], b: &[f64]) {
        for (limb, row) in self.rows_mut(sums) {
            let range = limb * self.degree..(limb + 1) * self.degree;
            self.multiply_add_row(limb, row, &a[range.clone()], &b[range]);
        }
    }

    /// `sums[i] += a * b[i]` for one row and two sums, each of which grows by at most 0.63 primes in magnitude. `a` may come
    /// from the transform; `b` is at most a prime in magnitude.
    pub(super) fn accumulate(&self, limb: usize, sums: [&mut [f64]; 2], a: &[f64], b: [&[f64]; 2]) {
        let prime = self.prime(limb);
        let [first, second] = sums;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let sums = first.iter_mut().zip(second.iter_mut());
                for ((sums, a), b) in sums.zip(a).zip(b[0].iter().zip(b[1])) {
                    *sums.0 += prime.multiply(*a, *b.0);
                    *sums.1 += prime.multiply(*a, *b.1);
                }
            },
        );
    }

    /// One row of [`Self::multiply_add`].
    pub(super) fn multiply_add_row(&self, limb: usize, row: &mut [f64], a: &[f64], b: &[f64]) {
        let prime = self.prime(limb);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (sum, (a, b)) in row.iter_mut().zip(a.iter().zip(b)) {
                    *sum = prime.reduce(*sum + prime.multiply(*a, *b));
                }
            },
        );
    }

    /// `sums += rows`, next to zero.
    pub(super) fn add(&self, sums: &mut [f64], rows: &[f64]) {
        for (limb, row) in self.rows_mut(sums) {
            let prime = self.prime(limb);
            let other = &rows[limb * self.degree..(limb + 1) * self.degree];
            map(row, other, |sum, value| prime.reduce(sum + value));
        }
    }

    /// Uniform residues from a public stream, in `0..prime`, for each of the given primes.
    pub(super) fn uniform(&self, prg: &mut Prg, limbs: impl IntoIterator<Item = usize>) -> Vec<f64> {
        let mut rows = Vec::new();
        for limb in limbs {
            sample::uniform_row(prg, self.prime(limb), self.degree, &mut rows);
        }
        rows
    }

    /// Small numbers, signed, from words of a stream.
    pub(super) fn small(words: &[u64]) -> Secret {
        Zeroizing::new(words.iter().map(|word| f64::from(*word as i32)).collect())
    }
}

/// `values[i] = change(values[i])`.
#[inline(always)]
pub(super) fn each(values: &mut [f64], change: impl Fn(f64) -> f64) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for value in values {
                *value = change(*value);
            }
        },
    );
}

/// `values[i] = change(values[i], others[i])`.
#[inline(always)]
pub(super) fn map(values: &mut [f64], others: &[f64], change: impl Fn(f64, f64) -> f64) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (value, other) in values.iter_mut().zip(others) {
                *value = change(*value, *other);
            }
        },
    );
}

/// A plaintext prime: its slots, which are the values at the roots of `X^n + 1` modulo it.
pub(super) struct Slots {
    transform: Transform,
    /// Where each slot stands among the values; in the order of the values where nothing is said.
    places: Option<Vec<u32>>,
}

impl Slots {
    /// For a prime that is 1 modulo twice the degree, slots in any order.
    pub(super) fn unordered(prime: u64, degree: usize) -> Self {
        Self { transform: Transform::new(Prime::new(prime), degree), places: None }
    }

    /// With slots that rotations move.
    pub(super) fn ordered(prime: u64, degree: usize) -> Self {
        let transform = Transform::new(Prime::new(prime), degree);
        Self { transform, places: Some(Galois::new(degree).slots()) }
    }

    /// The prime.
    pub(super) fn prime(&self) -> Prime {
        self.transform.prime()
    }

    /// From one number in each slot, below 2^52 in magnitude, to the coefficients next to zero.
    pub(super) fn encode(&self, values: &mut [f64]) {
        let prime = self.prime();
        each(values, |value| prime.reduce(value));
        if let Some(places) = &self.places {
            let slots = Zeroizing::new(values.to_vec());
            slots.iter().zip(places).for_each(|(slot, place)| values[*place as usize] = *slot);
        }
        self.transform.inverse(values);
        each(values, |value| prime.centre(prime.canonical(value)));
    }

    /// From coefficients below 2^52 in magnitude to the residue in each slot, in `0..prime`.
    pub(super) fn decode(&self, coefficients: &mut [f64]) {
        let prime = self.prime();
        each(coefficients, |value| prime.reduce(value));
        self.transform.forward(coefficients);
        each(coefficients, |value| prime.canonical(value));
        if let Some(places) = &self.places {
            let values = Zeroizing::new(coefficients.to_vec());
            coefficients.iter_mut().zip(places).for_each(|(slot, place)| *slot = values[*place as usize]);
        }
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slots({})", self.prime().value)
    }
}

/// Whether a number below 2^43 is a prime.
pub(super) fn is_prime(number: u64) -> bool {
    // These bases decide for all numbers below 3.4e14 (Jaeschke, On strong pseudoprimes to several bases, 1993).
    const BASES: [u64; 7] = [2, 3, 5, 7, 11, 13, 17];
    if number < 2 || BASES.iter().any(|base| number.is_multiple_of(*base)) {
        return BASES.contains(&number);
    }
    let prime = Prime::new(number);
    let twos = (number - 1).trailing_zeros();
    BASES.iter().all(|base| {
        let first = prime.power(*base, (number - 1) >> twos);
        let mut squares = (0..twos).scan(first, |power, _| {
            let now = *power;
            *power = prime.power(now, 2);
            Some(now)
        });
        first == 1 || squares.any(|power| power == number - 1)
    })
}

/// The smallest primes of which `count` have a product of at least `2^bits`, each 1 modulo `step`; `None` where they
/// would not be below `2^bits_max`.
pub(super) fn plain_primes(bits: u32, count: usize, step: u64, bits_max: u32) -> Option<Vec<u64>> {
    let least = 2_f64.powf(f64::from(bits) / count as f64) as u64 / step;
    let candidates = (least.max(1)..1 << (bits_max - step.ilog2())).map(|index| index * step + 1);
    let mut primes: Vec<u64> = Vec::new();
    for prime in candidates.filter(|number| is_prime(*number)) {
        if primes.len() == count {
            primes.remove(0);
        }
        primes.push(prime);
        let product =
            primes.iter().try_fold(1_u128, |product, prime| product.checked_mul((*prime).into()))?;
        if primes.len() == count && product.checked_shr(bits)? > 0 {
            return Some(primes);
        }
    }
    None
}
