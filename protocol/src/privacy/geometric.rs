//! Discrete Laplace as the difference of two geometric draws, each made digit by digit.
//!
//! The binary digits of a geometric variable with ratio `q = exp(-ε/2)` are independent: digit i is one with
//! probability `q^(2^i) / (1 + q^(2^i)) = 1 / (1 + exp(2^i ε/2))`. So a draw is a fixed number of biased
//! coins, each 128 random bits compared with a public threshold: no loop or branch depends on the outcome.

use super::Ratio;
use super::sampler::random_word;
use dashu_float::FBig;
use dashu_float::round::mode::{Down, Up};
use dashu_int::UBig;
use rand::CryptoRng;
use zeroize::Zeroize;

/// Significant bits while a threshold is worked out; 128 of them are kept.
const PRECISION: usize = 256;

/// `128 ln 2`, rounded up: the largest draw, divided by the scale 2/ε, is at least this, so that what lies
/// beyond it has probability below 2^-128.
const TAIL: u128 = 89;

/// Coins of one geometric draw, lowest digit first.
pub(super) struct Digits {
    thresholds: Vec<u128>,
}

impl Digits {
    /// Thresholds for `P(x) ∝ exp(-ε|x|/2)`, each the exact probability times 2^128, rounded down.
    pub(super) fn new(epsilon: Ratio) -> Self {
        let (above, below) = (u128::from(epsilon.numerator()), u128::from(epsilon.denominator()));
        // At least one digit, and 2^digits ε/2 ≥ TAIL: 18 of them at the smallest ratio.
        let mut digits = 1;
        while (above << digits) < 2 * TAIL * below {
            digits += 1;
        }
        Self { thresholds: (0..digits).map(|digit| threshold(above << digit, 2 * below)).collect() }
    }

    /// Noise in `-magnitude_max()..=magnitude_max()`.
    pub(super) fn draw(&self, rng: &mut (impl CryptoRng + ?Sized)) -> i64 {
        self.geometric(rng) - self.geometric(rng)
    }

    pub(super) fn magnitude_max(&self) -> u64 {
        (1 << self.thresholds.len()) - 1
    }

    /// Two draws of k digits: each leaves out a tail below 2^-128 and rounds k coins by less than 2^-128.
    pub(super) fn distance_units(&self) -> u64 {
        let coins = u64::try_from(self.thresholds.len()).expect("at most 18 digits");
        2 * (coins + 2)
    }

    fn geometric(&self, rng: &mut (impl CryptoRng + ?Sized)) -> i64 {
        let mut value = 0;
        for (digit, threshold) in self.thresholds.iter().enumerate() {
            let mut coin = random_word(rng);
            value |= i64::from(coin < *threshold) << digit;
            coin.zeroize();
        }
        value
    }
}

/// `⌊2^128 / (1 + exp(above/below))⌋`, from bounds rounded so that the result is never too large.
fn threshold(above: u128, below: u128) -> u128 {
    let exponent = upper(above) / upper(below);
    let inverse = exponent.exp() + upper(1);
    let probability = upper(1).with_rounding::<Down>() / inverse.with_rounding::<Down>();
    let scaled = (probability << 128).floor().to_int().value();
    u128::try_from(scaled).expect("the exponential is above one, so the probability is below one half")
}

fn upper(value: u128) -> FBig<Up, 2> {
    FBig::from(UBig::from(value)).with_precision(PRECISION).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_the_formula() {
        for text in ["1/1024", "1/10", "1", "7/3", "30"] {
            let epsilon: Ratio = text.parse().unwrap();
            let half = epsilon.numerator() as f64 / epsilon.denominator() as f64 / 2.0;
            for (digit, threshold) in Digits::new(epsilon).thresholds.iter().enumerate() {
                let expected = 1.0 / (1.0 + (half * f64::from(1u32 << digit)).exp());
                let found = *threshold as f64 * 2f64.powi(-128);
                assert!((found - expected).abs() < 1e-14 * expected.max(1e-16), "{text}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_threshold_to_the_last_bit() {
        // 2^128 / (1 + e) and 2^128 / (1 + e²), worked out to 60 digits elsewhere.
        assert_eq!(threshold(1, 1), EXPECTED_ONE);
        assert_eq!(threshold(4, 2), EXPECTED_TWO);
        assert_eq!(threshold(1 << 60, 1), 0);
    }

    const EXPECTED_ONE: u128 = 0x44d95851_52ea1935_dae23bc7_349ee58b;
    const EXPECTED_TWO: u128 = 0x1e84152b_ac31aea9_e735075b_0ef62c06;

    #[test]
    fn digits_reach_far_enough_and_no_further() {
        for (text, digits) in [("1/1024", 18), ("1/5", 10), ("2", 7), ("178", 1), ("1048576", 1)] {
            let found = Digits::new(text.parse().unwrap());
            assert_eq!(found.thresholds.len(), digits, "{text}");
            assert_eq!(found.magnitude_max(), (1 << digits) - 1);
        }
    }
}
