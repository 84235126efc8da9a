//! Polynomials modulo the product of the primes, one row of residues for each prime: messages scaled into
//! them, small numbers lifted into them, and the smaller modulus of replies.

use super::prime::{DEGREE, LIMBS, PRIMES, Prime, REPLY_LIMBS, from_word, halves, to_word};
#[cfg(test)]
use super::sample::FLOOD_BITS;
use super::transform;
use pulp::Arch;
use zeroize::Zeroizing;

/// The product of all primes modulo 2^64.
const MODULUS_LOW: u64 = {
    let (mut product, mut limb) = (1_u64, 0);
    while limb < LIMBS {
        product = product.wrapping_mul(PRIMES[limb].value);
        limb += 1;
    }
    product
};

/// Adds `modulus * word / 2^64`, rounded, to each value.
///
/// Rounding to `x` leaves `modulus * word - 2^64 x`, which is the word times the modulus as a signed
/// number of 64 bits. The first term vanishes modulo each prime, so minus that number over 2^64 is `x`.
pub(super) fn add_scaled(limb: usize, values: &mut [f64], words: &[u64]) {
    let prime = PRIMES[limb];
    let low = -prime.inverse_of(1 << 64);
    let high = prime.multiply(low, prime.constant(1 << 32));
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (value, word) in values.iter_mut().zip(words) {
                let (upper, lower) = halves(word.wrapping_mul(MODULUS_LOW));
                *value += prime.multiply(upper, high) + prime.multiply(lower, low);
            }
        },
    );
}

/// Adds signed words that are small numbers.
pub(super) fn add_small(values: &mut [f64], words: &[u64]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (value, word) in values.iter_mut().zip(words) {
                *value += f64::from(*word as i32);
            }
        },
    );
}

/// Residues of signed words, at most 0.63 primes in magnitude.
pub(super) fn lift(limb: usize, values: &mut [f64], words: &[u64]) {
    let prime = PRIMES[limb];
    let unit = prime.constant(1 << 32);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (value, word) in values.iter_mut().zip(words) {
                let (upper, lower) = halves(*word);
                *value = prime.reduce(prime.multiply(upper, unit) + lower);
            }
        },
    );
}

/// The values at the roots of a polynomial with signed words as coefficients: one row for each prime.
pub(super) fn transformed(words: &[u64]) -> Zeroizing<Vec<f64>> {
    let mut rows = Zeroizing::new(vec![0.0; LIMBS * DEGREE]);
    for (limb, row) in rows.chunks_exact_mut(DEGREE).enumerate() {
        lift(limb, row, words);
        transform::forward(limb, row);
    }
    rows
}

/// Brings sums back next to zero.
pub(super) fn reduce(limb: usize, values: &mut [f64]) {
    each(PRIMES[limb], values, Prime::reduce);
}

/// Brings values below 2^52 into `0..prime`.
pub(super) fn canonical(limb: usize, values: &mut [f64]) {
    each(PRIMES[limb], values, Prime::canonical);
}

#[inline(always)]
fn each(prime: Prime, values: &mut [f64], operation: impl Fn(Prime, f64) -> f64) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for value in values {
                *value = operation(prime, *value);
            }
        },
    );
}

/// Adds flooding terms of so many bits, of which [`super::sample::flood`] says how they are written.
pub(crate) fn add_flood(prime: Prime, values: &mut [f64], terms: &[[u64; 3]], bits: u32) {
    let power = |exponent: u32| prime.constant(u128::from(prime.power(2, exponent.into())));
    let powers = [32, 64, 96, 128].map(power);
    let centre = power(bits);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (value, [low, middle, high]) in values.iter_mut().zip(terms) {
                let upper = |word: u64| f64::from((word >> 32) as u32);
                let lower = |word: u64| f64::from(word as u32);
                *value += lower(*low) - centre
                    + prime.multiply(upper(*low), powers[0])
                    + prime.multiply(lower(*middle), powers[1])
                    + prime.multiply(upper(*middle), powers[2])
                    + prime.multiply(lower(*high), powers[3]);
            }
        },
    );
}

/// A number below the modulus of a reply as `low + PRIMES[0] * high`.
pub(super) struct Digits {
    /// Below `PRIMES[0]`.
    pub(super) low: Vec<u64>,
    /// Below `PRIMES[1]`.
    pub(super) high: Vec<u64>,
}

/// Divides by all primes but those of a reply and rounds, one prime after the other. `rows` holds equally
/// many values for each prime, below 2^52. The result depends on nothing but their residues.
pub(super) fn rescale(rows: &mut [f64]) -> Digits {
    let width = rows.len() / LIMBS;
    for (limb, row) in rows.chunks_exact_mut(width.max(1)).enumerate() {
        canonical(limb, row);
    }
    for last in (REPLY_LIMBS..LIMBS).rev() {
        let (kept, dropped) = rows.split_at_mut(last * width);
        let dropped = &dropped[..width];
        for (limb, row) in kept.chunks_exact_mut(width.max(1)).enumerate() {
            let (prime, other) = (PRIMES[limb], PRIMES[last]);
            let inverse = prime.inverse_of(other.value.into());
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (value, dropped) in row.iter_mut().zip(dropped) {
                        let rest = *value - other.centre(*dropped);
                        *value = prime.canonical(prime.multiply(rest, inverse));
                    }
                },
            );
        }
    }
    let (low, rest) = rows.split_at(width);
    digits(low, &rest[..width])
}

/// The digits of the number with these residues in `0..prime`.
pub(super) fn digits(low: &[f64], high: &[f64]) -> Digits {
    let prime = PRIMES[1];
    let inverse = prime.inverse_of(PRIMES[0].value.into());
    let mut digits = Digits { low: vec![0; low.len()], high: vec![0; low.len()] };
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let places = digits.low.iter_mut().zip(&mut digits.high);
            for ((low_digit, high_digit), (low, high)) in places.zip(low.iter().zip(high)) {
                *low_digit = to_word(*low);
                *high_digit = to_word(prime.canonical(prime.multiply(high - low, inverse)));
            }
        },
    );
    digits
}

impl Digits {
    /// The residues modulo the primes of a reply, below 2^44 and at most 0.63 primes more in magnitude.
    pub(super) fn residues(&self) -> [Vec<f64>; REPLY_LIMBS] {
        let step = PRIMES[1].constant(PRIMES[0].value.into());
        let mut rows = [vec![0.0; self.low.len()], vec![0.0; self.low.len()]];
        let [first, second] = &mut rows;
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let places = first.iter_mut().zip(second.iter_mut());
                for ((first, second), (low, high)) in places.zip(self.low.iter().zip(&self.high)) {
                    *first = from_word(*low);
                    *second = PRIMES[1].multiply(from_word(*high), step) + *first;
                }
            },
        );
        rows
    }

    /// Numbers times 2^64 over the modulus of a reply, rounded, modulo 2^64.
    pub(super) fn unscaled(&self) -> Vec<u64> {
        // Both factors are rounded down to 64 places after the point; the digits are below 2^43, so that
        // the products err by 2^-20 at most.
        let high_unit = u128::MAX / u128::from(PRIMES[1].value);
        let low_unit = high_unit / u128::from(PRIMES[0].value);
        let word = |(low, high): (&u64, &u64)| {
            let high = u128::from(*high).wrapping_mul(high_unit);
            let sum = high.wrapping_add(u128::from(*low).wrapping_mul(low_unit));
            (sum.wrapping_add(1 << 63) >> 64) as u64
        };
        self.low.iter().zip(&self.high).map(word).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::algebra::{Prg, Seed};
    use dashu_int::{IBig, UBig};

    /// The product of the first primes.
    pub(in super::super) fn modulus(limbs: usize) -> IBig {
        PRIMES[..limbs].iter().map(|prime| IBig::from(prime.value)).product()
    }

    /// The number next to zero with these residues.
    pub(in super::super) fn joined(residues: &[f64]) -> IBig {
        let whole = modulus(residues.len());
        let mut sum = IBig::ZERO;
        for (value, prime) in residues.iter().zip(PRIMES) {
            let rest = &whole / IBig::from(prime.value);
            let (_, rest_low) = rest.clone().into_parts();
            let residue = u128::try_from(&rest_low % UBig::from(prime.value)).unwrap();
            let factor = prime.canonical(prime.multiply(prime.inverse_of(residue), *value));
            sum += rest * IBig::from(factor as u64);
        }
        centred(sum, &whole)
    }

    /// The representative next to zero.
    pub(in super::super) fn centred(value: IBig, modulus: &IBig) -> IBig {
        let residue = ((value % modulus) + modulus) % modulus;
        if &residue * IBig::from(2) > *modulus { residue - modulus } else { residue }
    }

    /// `a / b` rounded, for positive `b`.
    fn quotient(a: &IBig, b: &IBig) -> IBig {
        let shifted: IBig = a * IBig::from(2) + b;
        let double: IBig = b * IBig::from(2);
        let rest = ((&shifted % &double) + &double) % &double;
        (shifted - rest) / double
    }

    fn column(rows: &[f64], at: usize, width: usize) -> Vec<f64> {
        rows.iter().skip(at).step_by(width).copied().collect()
    }

    #[test]
    fn messages_are_scaled_exactly_and_back() {
        let mut words = Prg::new(&Seed::from_bytes([1; 16])).words(60);
        words.extend([0, 1, u64::MAX, 1 << 63]);
        let width = words.len();
        let mut rows = vec![0.0; LIMBS * width];
        for (limb, row) in rows.chunks_exact_mut(width).enumerate() {
            add_scaled(limb, row, &words);
        }
        let whole = modulus(LIMBS);
        let unit = IBig::ONE << 64;
        for (at, word) in words.iter().enumerate() {
            let expected = quotient(&(&whole * IBig::from(*word)), &unit);
            assert_eq!(joined(&column(&rows, at, width)), centred(expected, &whole), "{word:x}");
        }
        let digits = rescale(&mut rows);
        assert_eq!(digits.unscaled(), words);
        let [low, high] = digits.residues();
        for (at, word) in words.iter().enumerate() {
            let part = modulus(REPLY_LIMBS);
            let expected = quotient(&(&part * IBig::from(*word)), &unit);
            let error: IBig = centred(joined(&[low[at], high[at]]) - expected, &part);
            assert!(error >= IBig::from(-2) && error <= IBig::from(2), "{error}");
        }
    }

    #[test]
    fn rescaling_rounds() {
        let mut rows: Vec<f64> = Vec::new();
        let mut prg = Prg::new(&Seed::from_bytes([2; 16]));
        let width = 50;
        for prime in PRIMES {
            rows.extend(prg.words(width).iter().map(|word| prime.constant(u128::from(*word))));
        }
        let numbers: Vec<IBig> = (0..width).map(|at| joined(&column(&rows, at, width))).collect();
        let dropped: IBig = modulus(LIMBS) / modulus(REPLY_LIMBS);
        let digits = rescale(&mut rows);
        for (at, number) in numbers.iter().enumerate() {
            let found = IBig::from(digits.low[at]) + IBig::from(digits.high[at]) * modulus(1);
            let error: IBig = centred(found - quotient(number, &dropped), &modulus(REPLY_LIMBS));
            assert!(error >= IBig::from(-1) && error <= IBig::ONE, "{error}");
        }
    }

    #[test]
    fn small_numbers_and_floods_are_lifted() {
        let words = [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 12345, 12345_u64.wrapping_neg()];
        let terms = [[0; 3], [u64::MAX, u64::MAX, (1 << 22) - 1], [7, 9, 1], [1 << 40, 1 << 50, 3]];
        let mut lifted = vec![0.0; LIMBS * words.len()];
        let mut flooded = vec![0.0; LIMBS * terms.len()];
        for limb in 0..LIMBS {
            lift(limb, &mut lifted[limb * words.len()..][..words.len()], &words);
            add_flood(PRIMES[limb], &mut flooded[limb * terms.len()..][..terms.len()], &terms, FLOOD_BITS);
        }
        for (at, word) in words.iter().enumerate() {
            assert_eq!(joined(&column(&lifted, at, words.len())), IBig::from(*word as i64));
        }
        for (at, term) in terms.iter().enumerate() {
            let parts = term.iter().rev().fold(IBig::ZERO, |sum, word| (sum << 64) + IBig::from(*word));
            let expected: IBig = parts - (IBig::ONE << FLOOD_BITS as usize);
            assert_eq!(joined(&column(&flooded, at, terms.len())), expected);
        }
    }
}
