//! Residues modulo primes below 2^43, held as integers in `f64`.
//!
//! A product of two residues does not fit a `f64`, but its rounded value and the rounding error do, and a
//! fused multiply-add finds the error exactly. Both are reduced together. So every step is a handful of
//! floating-point instructions without a branch, on every machine alike. All values are integers below 2^52
//! in magnitude, and sums of them are exact.

use pulp::Simd;

/// Coefficients of a polynomial: the ring is `Z[X] / (X^DEGREE + 1)`.
pub(crate) const DEGREE: usize = 8192;
/// Primes of the modulus under which is encrypted.
pub(crate) const LIMBS: usize = 5;
/// Primes of the modulus under which a reply is sent: the first ones.
pub(crate) const REPLY_LIMBS: usize = 2;
/// Bits of a residue.
pub(crate) const PRIME_BITS: u32 = 43;
/// The five largest primes below 2^43 that are 1 modulo 2 * [`DEGREE`], so that the roots of
/// `X^DEGREE + 1` exist.
pub(crate) const PRIMES: [Prime; LIMBS] = [
    Prime::new(0x7ff_fffd_8001),
    Prime::new(0x7ff_fffc_8001),
    Prime::new(0x7ff_fffa_8001),
    Prime::new(0x7ff_fff6_8001),
    Prime::new(0x7ff_ffef_c001),
];

/// Adding and subtracting this rounds a value below 2^51 to an integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// The bits of 2^52, whose lowest 52 hold an integer that is added to it.
const INTEGER_BITS: u64 = 0x4330_0000_0000_0000;

/// A prime and what reduction by it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prime {
    /// The prime.
    pub(crate) value: u64,
    float: f64,
    inverse: f64,
}

impl Prime {
    /// A prime below 2^43.
    pub(crate) const fn new(value: u64) -> Self {
        Self { value, float: value as f64, inverse: 1.0 / value as f64 }
    }

    /// The residue of `a * b`, in magnitude at most 0.63 times the prime if `a * b` is below 2^49 times it.
    #[inline(always)]
    pub(crate) fn multiply(self, a: f64, b: f64) -> f64 {
        let high = a * b;
        let low = a.mul_add(b, -high);
        let quotient = high.mul_add(self.inverse, ROUNDER) - ROUNDER;
        (-quotient).mul_add(self.float, high) + low
    }

    /// The residue next to zero of a value below 2^52: at most half the prime and one in magnitude.
    #[inline(always)]
    pub(crate) fn reduce(self, a: f64) -> f64 {
        let quotient = a.mul_add(self.inverse, ROUNDER) - ROUNDER;
        (-quotient).mul_add(self.float, a)
    }

    /// The residue in `0..prime` of a value below 2^52.
    #[inline(always)]
    pub(crate) fn canonical(self, a: f64) -> f64 {
        let near = self.reduce(a);
        near + if near < 0.0 { self.float } else { 0.0 }
    }

    /// From `0..prime` to the representative next to zero.
    #[inline(always)]
    pub(crate) fn centre(self, a: f64) -> f64 {
        a - if a + a > self.float { self.float } else { 0.0 }
    }

    /// `value` as the representative next to zero. For public values: the time depends on it.
    pub(crate) fn constant(self, value: u128) -> f64 {
        self.centre((value % u128::from(self.value)) as f64)
    }

    /// `base^exponent` in `0..prime`. For public values.
    pub(crate) fn power(self, base: u64, mut exponent: u64) -> u64 {
        let p = u128::from(self.value);
        let (mut square, mut result) = (u128::from(base) % p, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * square % p;
            }
            square = square * square % p;
            exponent >>= 1;
        }
        result as u64
    }

    /// The inverse of `value`, next to zero. For public values.
    pub(crate) fn inverse_of(self, value: u128) -> f64 {
        let residue = (value % u128::from(self.value)) as u64;
        self.constant(u128::from(self.power(residue, self.value - 2)))
    }

    /// This prime for whole registers.
    #[inline(always)]
    pub(crate) fn lanes<S: Simd>(self, simd: S) -> Lanes<S> {
        Lanes {
            simd,
            float: simd.splat_f64s(self.float),
            inverse: simd.splat_f64s(self.inverse),
            rounder: simd.splat_f64s(ROUNDER),
        }
    }
}

/// The arithmetic of a [`Prime`] on registers of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    /// The instruction set.
    pub(crate) simd: S,
    float: S::f64s,
    inverse: S::f64s,
    rounder: S::f64s,
}

impl<S: Simd> Lanes<S> {
    /// [`Prime::multiply`].
    #[inline(always)]
    pub(crate) fn multiply(self, a: S::f64s, b: S::f64s) -> S::f64s {
        let simd = self.simd;
        let high = simd.mul_f64s(a, b);
        let low = simd.mul_add_f64s(a, b, simd.neg_f64s(high));
        let quotient = simd.sub_f64s(simd.mul_add_f64s(high, self.inverse, self.rounder), self.rounder);
        simd.add_f64s(simd.negate_mul_add_f64s(quotient, self.float, high), low)
    }

    /// [`Prime::reduce`].
    #[inline(always)]
    pub(crate) fn reduce(self, a: S::f64s) -> S::f64s {
        let simd = self.simd;
        let quotient = simd.sub_f64s(simd.mul_add_f64s(a, self.inverse, self.rounder), self.rounder);
        simd.negate_mul_add_f64s(quotient, self.float, a)
    }
}

/// A residue in `0..2^52` as an integer, without the tests of a cast.
#[inline(always)]
pub(crate) fn to_word(a: f64) -> u64 {
    (a + f64::from_bits(INTEGER_BITS)).to_bits() ^ INTEGER_BITS
}

/// An integer below 2^52 as a residue.
#[inline(always)]
pub(crate) fn from_word(word: u64) -> f64 {
    f64::from_bits(word | INTEGER_BITS) - f64::from_bits(INTEGER_BITS)
}

/// The two halves of a word, read as a signed number: `high * 2^32 + low`.
#[inline(always)]
pub(crate) fn halves(word: u64) -> (f64, f64) {
    (f64::from((word >> 32) as u32 as i32), f64::from(word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_primes_are_primes_with_roots() {
        for (index, prime) in PRIMES.iter().enumerate() {
            assert!(prime.value < 1 << PRIME_BITS && prime.value % (2 * DEGREE as u64) == 1);
            assert!((3..1 << 22).step_by(2).all(|divisor| prime.value % divisor != 0));
            assert!(PRIMES[..index].iter().all(|other| other.value > prime.value));
        }
    }

    proptest! {
        #[test]
        fn products_are_exact(limb in 0..LIMBS, a in -(1_i64 << 49)..1 << 49, b in -(1_i64 << 42)..1 << 42) {
            let prime = PRIMES[limb];
            let product = prime.multiply(a as f64, b as f64);
            prop_assert!(product.abs() <= 0.63 * prime.float);
            let residue = (i128::from(a) * i128::from(b)).rem_euclid(i128::from(prime.value));
            prop_assert_eq!(prime.canonical(product) as i128, residue);
            prop_assert_eq!(i128::from(to_word(prime.canonical(product))), residue);
            prop_assert_eq!(from_word(residue as u64) as i128, residue);
            prop_assert!(prime.reduce(a as f64).abs() <= prime.float / 2.0 + 1.0);
            let centred = prime.centre(residue as f64) as i128;
            prop_assert!((centred - residue) % i128::from(prime.value) == 0);
            prop_assert!(2 * centred.abs() < i128::from(prime.value));
        }

        #[test]
        fn halves_join(word: u64) {
            let (high, low) = halves(word);
            prop_assert_eq!((high as i128) << 32 | low as i128, i128::from(word as i64));
        }

        #[test]
        fn inverses(limb in 0..LIMBS, value in 1..u64::from(u32::MAX)) {
            let prime = PRIMES[limb];
            let one = prime.multiply(prime.inverse_of(value.into()), value as f64);
            prop_assert_eq!(prime.canonical(one), 1.0);
        }
    }
}
