//! Discrete Laplace as the difference of two geometric draws, each made digit by digit.
//!
//! The binary digits of a geometric variable with ratio `q = exp(-ε/2)` are independent: digit i is one with
//! probability `q^(2^i) / (1 + q^(2^i)) = 1 / (1 + exp(2^i ε/2))`. So a draw is a fixed number of biased
//! coins, each 128 random bits compared with a public threshold: no loop or branch depends on the outcome.

use super::Ratio;
use dashu_float::FBig;
use dashu_float::round::mode::{Down, Up};
use dashu_int::UBig;
use pulp::Arch;

/// Significant bits while a threshold is worked out; 128 of them are kept.
const PRECISION: usize = 256;

/// `128 ln 2`, rounded up: the largest draw, divided by the scale 2/ε, is at least this, so that what lies
/// beyond it has probability below 2^-128.
const TAIL: u128 = 89;

/// Coins of one geometric draw, lowest digit first.
pub(super) struct Digits {
    coins: Vec<Coin>,
}

/// A coin that is one with probability `(high·2^64 + low) / 2^128`, below one half.
struct Coin {
    high: u64,
    low: u64,
}

impl Coin {
    fn new(threshold: u128) -> Self {
        Self { high: (threshold >> 64) as u64, low: threshold as u64 }
    }

    /// Whether the random word is below the threshold, without a branch.
    #[inline(always)]
    fn toss(&self, high: u64, low: u64) -> i64 {
        // Where the low half is below the threshold's, the high half may also be equal.
        let edge = self.high.wrapping_add(u64::from(low < self.low));
        i64::from(high < edge)
    }
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
        let coins = (0..digits).map(|digit| Coin::new(threshold(above << digit, 2 * below)));
        Self { coins: coins.collect() }
    }

    /// Random words behind a draw: two for each digit of both geometric draws.
    pub(super) fn words(&self) -> usize {
        4 * self.coins.len()
    }

    /// Noise in `-magnitude_max()..=magnitude_max()` from [`Digits::words`] words for each entry: for every
    /// digit, the highest first, the high halves of all added coins, their low halves, and the same of the
    /// coins taken away.
    pub(super) fn draw(&self, words: &[u64], noise: &mut [i64]) {
        let count = noise.len();
        noise.fill(0);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (coin, words) in self.coins.iter().rev().zip(words.chunks_exact(4 * count)) {
                    let (plus, minus) = words.split_at(2 * count);
                    let ((high, low), (high_away, low_away)) = (plus.split_at(count), minus.split_at(count));
                    let (plus, minus) = (high.iter().zip(low), high_away.iter().zip(low_away));
                    for ((noise, plus), minus) in noise.iter_mut().zip(plus).zip(minus) {
                        let digit = coin.toss(*plus.0, *plus.1).wrapping_sub(coin.toss(*minus.0, *minus.1));
                        *noise = (*noise << 1).wrapping_add(digit);
                    }
                }
            },
        );
    }

    pub(super) fn magnitude_max(&self) -> u64 {
        (1 << self.coins.len()) - 1
    }

    /// Two draws of k digits: each leaves out a tail below 2^-128 and rounds k coins by less than 2^-128.
    pub(super) fn distance_units(&self) -> u64 {
        let coins = u64::try_from(self.coins.len()).expect("at most 18 digits");
        2 * (coins + 2)
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
    use crate::algebra::{Prg, Seed};

    fn thresholds(digits: &Digits) -> Vec<u128> {
        digits.coins.iter().map(|coin| u128::from(coin.high) << 64 | u128::from(coin.low)).collect()
    }

    #[test]
    fn coins_are_what_plain_comparisons_give() {
        for threshold in [0, 1, 1 << 64, (1 << 64) - 1, u128::MAX >> 1, EXPECTED_ONE, EXPECTED_TWO] {
            let coin = Coin::new(threshold);
            let near =
                [threshold.wrapping_sub(1), threshold, threshold + 1, threshold ^ 1 << 64, 0, u128::MAX];
            for word in near {
                let found = coin.toss((word >> 64) as u64, word as u64);
                assert_eq!(found, i64::from(word < threshold), "{word:x} {threshold:x}");
            }
        }
    }

    #[test]
    fn draws_are_differences_of_digits() {
        for (text, count) in [("1/1024", 1), ("1/10", 7), ("1", 32), ("1048576", 5)] {
            let digits = Digits::new(text.parse().unwrap());
            let thresholds = thresholds(&digits);
            let words = Prg::new(&Seed::from_bytes([9; 16])).words(count * digits.words());
            let mut noise = vec![0; count];
            digits.draw(&words, &mut noise);
            for (index, found) in noise.iter().enumerate() {
                let word = |row: usize, part: usize| {
                    let half = |half: usize| u128::from(words[(4 * row + 2 * part + half) * count + index]);
                    half(0) << 64 | half(1)
                };
                let geometric = |part: usize| {
                    let rows = thresholds.iter().rev().enumerate();
                    rows.fold(0, |value, (row, edge)| 2 * value + i64::from(word(row, part) < *edge))
                };
                assert_eq!(*found, geometric(0) - geometric(1), "{text} {index}");
            }
        }
    }

    #[test]
    fn thresholds_are_those_of_the_formula() {
        for text in ["1/1024", "1/10", "1", "7/3", "30"] {
            let epsilon: Ratio = text.parse().unwrap();
            let half = epsilon.numerator() as f64 / epsilon.denominator() as f64 / 2.0;
            for (digit, threshold) in thresholds(&Digits::new(epsilon)).iter().enumerate() {
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
            assert_eq!(found.coins.len(), digits, "{text}");
            assert_eq!(found.magnitude_max(), (1 << digits) - 1);
        }
    }
}
