//! Discrete Gaussian by its cumulative table, read from end to end for every draw.
//!
//! The magnitude of a draw is the number of table entries not above a random 128-bit word. Reading all of
//! them takes the same time whatever comes out: about 13.1σ comparisons, 13,400 at the largest σ of 1024,
//! eight or four to an instruction where the processor can. The table is made once per task from integers
//! alone; only `exp(-1/2σ²)` needs a real number, which is a software one.

use super::Ratio;
use dashu_float::FBig;
use dashu_float::round::mode::Down;
use dashu_int::UBig;
use pulp::Arch;

/// Table entries read for one draw after another while they stay in the nearest cache: 16 kB.
const TILE: usize = 1024;

/// Fraction bits of the table's arithmetic. The k-th weight comes out low by less than 2k² units, so with at
/// most 2^14 of them every sum is right to 2^-212, far below the 2^-128 kept.
const FRACTION_BITS: usize = 256;

/// Cumulative probabilities of the magnitudes.
///
/// Threshold j is `⌊2^128 P(|x| ≤ j)⌋`; the last magnitude takes what is left of 2^128 and has none.
pub(super) struct Table {
    /// High half of each threshold, less one; none is zero, since P(0) is above 2^-12.
    floors: Vec<u64>,
    /// Low half of each threshold.
    lows: Vec<u64>,
}

impl Table {
    /// Random words behind a draw: two for the magnitude, one for the sign.
    pub(super) const WORDS: usize = 3;

    /// The magnitudes under `P(x) ∝ exp(-x² / 2σ²)` up to the one beyond which lies less than 2^-128.
    pub(super) fn new(sigma_squared: Ratio) -> Self {
        let weights = weights(sigma_squared);
        let total: UBig = weights.iter().sum();
        let mut reached = UBig::ZERO;
        let (mut floors, mut lows) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len()));
        for weight in &weights {
            reached += weight;
            if (&total - &reached) << 128 < total {
                break;
            }
            let threshold = (&reached << 128) / &total;
            let threshold = u128::try_from(threshold).expect("less than the total is reached");
            floors.push((threshold >> 64) as u64 - 1);
            lows.push(threshold as u64);
        }
        Self { floors, lows }
    }

    /// Noise in `-magnitude_max()..=magnitude_max()` from [`Table::WORDS`] words for each entry: first the
    /// high halves of all magnitudes, then the low ones, then the signs.
    pub(super) fn draw(&self, words: &[u64], noise: &mut [i64]) {
        let (high, words) = words.split_at(noise.len());
        let (low, signs) = words.split_at(noise.len());
        noise.fill(0);
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (floors, lows) in self.floors.chunks(TILE).zip(self.lows.chunks(TILE)) {
                    for ((noise, high), low) in noise.iter_mut().zip(high).zip(low) {
                        *noise = noise.wrapping_add(reached(floors, lows, *high, *low));
                    }
                }
            },
        );
        for (noise, sign) in noise.iter_mut().zip(signs) {
            // Two's complement negation by mask: a branch would show the sign.
            let negative = (sign & 1) as i64;
            *noise = (*noise ^ negative.wrapping_neg()).wrapping_add(negative);
        }
    }

    pub(super) fn magnitude_max(&self) -> u64 {
        u64::try_from(self.floors.len()).expect("at most 2^14 entries")
    }

    /// Half a unit of rounding for each magnitude, and a tail below 2^-128, doubled for good measure.
    pub(super) fn distance_units(&self) -> u64 {
        self.magnitude_max() + 2
    }
}

/// How many thresholds the word `high·2^64 + low` reaches: every comparison is made, and none branches.
#[inline(always)]
fn reached(floors: &[u64], lows: &[u64], high: u64, low: u64) -> i64 {
    let mut count = 0i64;
    for (floor, threshold) in floors.iter().zip(lows) {
        // Where the low half falls short of the threshold's, the high half must be above, not equal.
        let edge = floor.wrapping_add(u64::from(low < *threshold));
        count = count.wrapping_add(i64::from(high > edge));
    }
    count
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
    use crate::algebra::{Prg, Seed};

    fn table(text: &str) -> Table {
        Table::new(text.parse().unwrap())
    }

    fn thresholds(table: &Table) -> Vec<u128> {
        let pairs = table.floors.iter().zip(&table.lows);
        pairs.map(|(floor, low)| (u128::from(*floor) + 1) << 64 | u128::from(*low)).collect()
    }

    #[test]
    fn draws_are_what_plain_comparisons_give() {
        for text in ["1/1024", "1/4", "1", "25", "1600", "1048576"] {
            let table = table(text);
            let thresholds = thresholds(&table);
            // Thresholds, the last ones among them, which share their high half, and their neighbours.
            let some =
                thresholds.iter().step_by(1 + thresholds.len() / 500).chain(thresholds.iter().rev().take(99));
            let near = some.flat_map(|edge| [edge - 1, *edge, edge.saturating_add(1)]);
            let far = (0..200u64).map(|seed| {
                let words = Prg::new(&Seed::from_bytes([seed as u8; 16])).words(2);
                u128::from(words[0]) << 64 | u128::from(words[1])
            });
            let magnitudes: Vec<u128> = near.chain(far).chain([0, u128::MAX]).collect();
            for (index, several) in magnitudes.chunks(17).enumerate() {
                let half = |shift: u32| several.iter().map(move |word| (word >> shift) as u64);
                let signs = (0..several.len()).map(|place| (index + place) as u64);
                let words: Vec<u64> = half(64).chain(half(0)).chain(signs).collect();
                let mut noise = vec![0; several.len()];
                table.draw(&words, &mut noise);
                for (place, (found, word)) in noise.iter().zip(several).enumerate() {
                    let magnitude = thresholds.partition_point(|edge| word >= edge) as i64;
                    let sign = if (index + place) % 2 == 1 { -1 } else { 1 };
                    assert_eq!(*found, magnitude * sign, "{text}: {word:x}");
                    // Compiled for any processor, too.
                    let (high, low) = ((word >> 64) as u64, *word as u64);
                    assert_eq!(reached(&table.floors, &table.lows, high, low), magnitude, "{text}: {word:x}");
                }
            }
        }
    }

    #[test]
    fn masses_sum_to_one_and_follow_the_formula() {
        for text in ["1/1024", "1/4", "1", "25", "400/3", "4096"] {
            let sigma_squared: Ratio = text.parse().unwrap();
            let variance = sigma_squared.numerator() as f64 / sigma_squared.denominator() as f64;
            let table = Table::new(sigma_squared);
            let (last, thresholds) = (table.magnitude_max(), thresholds(&table));
            let weight =
                |x: u64| (-((x * x) as f64) / (2.0 * variance)).exp() * if x == 0 { 1.0 } else { 2.0 };
            let total: f64 = (0..=last).map(weight).sum();
            let mut below = 0;
            let mut mass = UBig::ZERO;
            for magnitude in 0..=last {
                // The last entry stands for 2^128, which wraps to zero.
                let reached = thresholds.get(magnitude as usize).copied().unwrap_or(0);
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
            assert!(thresholds(&table).is_sorted(), "{text}");
            let last = table.magnitude_max();
            assert!((low..=high).contains(&last), "{text}: {last}");
        }
    }

    #[test]
    fn a_table_to_the_last_bit() {
        // σ² = 1: 2^128 P(0) and 2^128 P(|x| ≤ 1), worked out to 60 digits elsewhere.
        assert_eq!(thresholds(&table("1"))[..2], EXPECTED);
    }

    const EXPECTED: [u128; 2] =
        [0x662114c6_25dcf1a1_fc08d67b_80011622, 0xe204aaf3_d33038cf_ad4e0445_d7880aed];
}
