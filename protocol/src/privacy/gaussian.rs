//! Discrete Gaussian by its cumulative table, read from end to end for every draw.
//!
//! The magnitude of a draw is the number of table entries not above a random 128-bit word. Reading all of
//! them takes the same time whatever comes out: about 13.1σ comparisons, 13,400 at the largest σ of 1024.
//! The table is made once per task from integers alone; only `exp(-1/2σ²)` needs a real number.

use super::Ratio;
use super::sampler::random_word;
use dashu_float::FBig;
use dashu_float::round::mode::Down;
use dashu_int::UBig;
use rand::CryptoRng;
use zeroize::Zeroize;

/// Fraction bits of the table's arithmetic. The k-th weight comes out low by less than 2k² units, so with at
/// most 2^14 of them every sum is right to 2^-212, far below the 2^-128 kept.
const FRACTION_BITS: usize = 256;

/// Cumulative probabilities of the magnitudes.
pub(super) struct Table {
    /// Entry j is `⌊2^128 P(|x| ≤ j)⌋`; the last magnitude takes what is left of 2^128 and has no entry.
    thresholds: Vec<u128>,
}

impl Table {
    /// The magnitudes under `P(x) ∝ exp(-x² / 2σ²)` up to the one beyond which lies less than 2^-128.
    pub(super) fn new(sigma_squared: Ratio) -> Self {
        let weights = weights(sigma_squared);
        let total: UBig = weights.iter().sum();
        let mut reached = UBig::ZERO;
        let mut thresholds = Vec::with_capacity(weights.len());
        for weight in &weights {
            reached += weight;
            if (&total - &reached) << 128 < total {
                break;
            }
            let threshold = (&reached << 128) / &total;
            thresholds.push(u128::try_from(threshold).expect("less than the total is reached"));
        }
        Self { thresholds }
    }

    /// Noise in `-magnitude_max()..=magnitude_max()`.
    pub(super) fn draw(&self, rng: &mut (impl CryptoRng + ?Sized)) -> i64 {
        let mut word = random_word(rng);
        let mut magnitude = 0;
        for threshold in &self.thresholds {
            magnitude += i64::from(word >= *threshold);
        }
        word.zeroize();
        // Two's complement negation by mask: a branch would show the sign.
        let mut negative = i64::from((rng.next_u64() & 1) as u8);
        let noise = (magnitude ^ -negative) + negative;
        magnitude.zeroize();
        negative.zeroize();
        noise
    }

    pub(super) fn magnitude_max(&self) -> u64 {
        u64::try_from(self.thresholds.len()).expect("at most 2^14 entries")
    }

    /// Half a unit of rounding for each magnitude, and a tail below 2^-128, doubled for good measure.
    pub(super) fn distance_units(&self) -> u64 {
        self.magnitude_max() + 2
    }
}

/// Unnormalised probabilities of the magnitudes 0, 1, 2 and so on, as long as they are at least 2^-160.
///
/// The sum of all that follow is below 2^-149 for any σ up to 1024.
fn weights(sigma_squared: Ratio) -> Vec<UBig> {
    let ratio = ratio(sigma_squared);
    // exp(-(j+1)²/2σ²) = exp(-j²/2σ²) · r^(2j+1) with r = exp(-1/2σ²).
    let (mut weight, mut step) = (UBig::ONE << FRACTION_BITS, ratio.clone());
    let growth = (&ratio * &ratio) >> FRACTION_BITS;
    let least = UBig::ONE << (FRACTION_BITS - 160);
    let mut weights = vec![weight.clone()];
    loop {
        weight = (weight * &step) >> FRACTION_BITS;
        step = (step * &growth) >> FRACTION_BITS;
        if weight < least {
            return weights;
        }
        // Both signs of every magnitude but zero.
        weights.push(&weight << 1);
    }
}

/// `⌊2^FRACTION_BITS · exp(-1/2σ²)⌋`, or a unit less.
fn ratio(sigma_squared: Ratio) -> UBig {
    let real = |value: u64| -> FBig<Down, 2> {
        FBig::from(UBig::from(value)).with_precision(FRACTION_BITS + 64).value()
    };
    let exponent = (-real(sigma_squared.denominator()) / real(sigma_squared.numerator())) >> 1;
    let scaled = (exponent.exp() << (FRACTION_BITS as isize)).floor().to_int().value();
    UBig::try_from(scaled).expect("an exponential is positive")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::new(text.parse().unwrap())
    }

    #[test]
    fn masses_sum_to_one_and_follow_the_formula() {
        for text in ["1/1024", "1/4", "1", "25", "400/3", "4096"] {
            let sigma_squared: Ratio = text.parse().unwrap();
            let variance = sigma_squared.numerator() as f64 / sigma_squared.denominator() as f64;
            let table = Table::new(sigma_squared);
            let last = table.magnitude_max();
            let weight =
                |x: u64| (-((x * x) as f64) / (2.0 * variance)).exp() * if x == 0 { 1.0 } else { 2.0 };
            let total: f64 = (0..=last).map(weight).sum();
            let mut below = 0;
            let mut mass = UBig::ZERO;
            for magnitude in 0..=last {
                // The last entry stands for 2^128, which wraps to zero.
                let reached = table.thresholds.get(magnitude as usize).copied().unwrap_or(0);
                let units = reached.wrapping_sub(below);
                mass += if last == 0 { UBig::ONE << 128 } else { UBig::from(units) };
                let found = if last == 0 { 1.0 } else { units as f64 * 2f64.powi(-128) };
                let expected = weight(magnitude) / total;
                assert!((found - expected).abs() < 1e-12 * expected + 1e-37, "{text} {magnitude}: {found}");
                below = reached;
            }
            assert_eq!(mass, UBig::ONE << 128, "{text}");
        }
    }

    #[test]
    fn thresholds_rise_and_end_where_the_tail_vanishes() {
        for (text, low, high) in
            [("1/1024", 0, 0), ("1", 12, 14), ("100", 128, 133), ("1048576", 13_300, 13_450)]
        {
            let table = table(text);
            assert!(table.thresholds.is_sorted(), "{text}");
            let last = table.magnitude_max();
            assert!((low..=high).contains(&last), "{text}: {last}");
        }
    }

    #[test]
    fn a_table_to_the_last_bit() {
        // σ² = 1: 2^128 P(0) and 2^128 P(|x| ≤ 1), worked out to 60 digits elsewhere.
        assert_eq!(table("1").thresholds[..2], EXPECTED);
    }

    const EXPECTED: [u128; 2] =
        [0x662114c6_25dcf1a1_fc08d67b_80011622, 0xe204aaf3_d33038cf_ad4e0445_d7880aed];
}
