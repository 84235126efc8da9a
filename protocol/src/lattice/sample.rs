//! Random polynomials from a stream of words, in time that does not depend on secret values.

use super::prime::{DEGREE, LIMBS, PRIME_BITS, PRIMES, Prime, from_word};
use crate::algebra::{Prg, Seed};
use pulp::Arch;
use zeroize::Zeroizing;

/// Largest magnitude of the noise of a ciphertext: it is the difference of so many coins and as many more.
/// The standard deviation is the root of half of it, 3.24.
pub(crate) const NOISE_MAX: u64 = 21;
/// The noise that floods a reply is uniform in `-2^FLOOD_BITS..2^FLOOD_BITS`.
pub(super) const FLOOD_BITS: u32 = 149;

/// Uniform residues in `0..prime` for every prime, from a public seed. Words that are no residue are
/// skipped, so the time depends on the seed.
pub(super) fn uniform(seed: &Seed) -> Vec<f64> {
    let mut prg = Prg::new(seed);
    let mut values = Vec::with_capacity(LIMBS * DEGREE);
    for prime in PRIMES {
        uniform_row(&mut prg, prime, DEGREE, &mut values);
    }
    values
}

/// Appends `count` uniform residues in `0..prime` from a public stream.
pub(crate) fn uniform_row(prg: &mut Prg, prime: Prime, count: usize, values: &mut Vec<f64>) {
    let mut words = [0; DEGREE / 8];
    let end = values.len() + count;
    while values.len() < end {
        prg.fill_words(&mut words);
        let over = Arch::new().dispatch(
            #[inline(always)]
            || {
                words.iter_mut().fold(false, |over, word| {
                    *word &= (1 << PRIME_BITS) - 1;
                    over | (*word >= prime.value)
                })
            },
        );
        let room = end - values.len();
        if over || room < words.len() {
            values.extend(words.into_iter().filter(|word| *word < prime.value).take(room).map(from_word));
        } else {
            values.extend(words.into_iter().map(from_word));
        }
    }
}

/// `count` small numbers as signed words, each from one word of the stream.
fn small(prg: &mut Prg, count: usize, number: impl Fn(u64) -> u64) -> Zeroizing<Vec<u64>> {
    let mut words = Zeroizing::new(prg.words(count));
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for word in words.iter_mut() {
                *word = number(*word);
            }
        },
    );
    words
}

/// Secrets: -1, 0 and 1 alike, up to 2^-62.
pub(crate) fn ternary(prg: &mut Prg, count: usize) -> Zeroizing<Vec<u64>> {
    small(
        prg,
        count,
        #[inline(always)]
        |word| (((u128::from(word) * 3) >> 64) as u64).wrapping_sub(1),
    )
}

/// Noise: the centred binomial distribution with parameter [`NOISE_MAX`].
pub(crate) fn binomial(prg: &mut Prg, count: usize) -> Zeroizing<Vec<u64>> {
    const COINS: u64 = (1 << NOISE_MAX) - 1;
    small(
        prg,
        count,
        #[inline(always)]
        |word| {
            let (plus, minus) = (word & COINS, word >> NOISE_MAX & COINS);
            u64::from(plus.count_ones()).wrapping_sub(u64::from(minus.count_ones()))
        },
    )
}

/// `count` flooding terms, each as its lowest, middle and highest word; the value is that number minus `2^bits`, of at
/// most 191 bits.
pub(crate) fn flood(prg: &mut Prg, count: usize, bits: u32) -> Zeroizing<Vec<[u64; 3]>> {
    let kept = |word: u32| (bits + 1).saturating_sub(64 * word).min(64);
    let masks = [0, 1, 2].map(|word| u64::MAX.checked_shr(64 - kept(word)).unwrap_or(0));
    let words = Zeroizing::new(prg.words(3 * count));
    let terms = words.chunks_exact(3).map(|term| [0, 1, 2].map(|word| term[word] & masks[word]));
    Zeroizing::new(terms.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prg(seed: u8) -> Prg {
        Prg::new(&Seed::from_bytes([seed; 16]))
    }

    #[test]
    fn secrets_are_ternary_and_balanced() {
        let words = ternary(&mut prg(1), 30_000);
        for value in [0, 1, u64::MAX] {
            let count = words.iter().filter(|word| **word == value).count();
            assert!((9_500..10_500).contains(&count), "{count} times {value}");
        }
    }

    #[test]
    fn noise_has_its_bound_and_variance() {
        let words = binomial(&mut prg(2), 100_000);
        let values: Vec<i64> = words.iter().map(|word| *word as i64).collect();
        assert!(values.iter().all(|value| value.unsigned_abs() <= NOISE_MAX));
        let mean = values.iter().sum::<i64>() as f64 / 1e5;
        let variance = values.iter().map(|value| value * value).sum::<i64>() as f64 / 1e5;
        assert!(mean.abs() < 0.06 && (variance - NOISE_MAX as f64 / 2.0).abs() < 0.3, "{mean} {variance}");
    }

    #[test]
    fn uniform_residues_fill_the_range() {
        let values = uniform(&Seed::from_bytes([3; 16]));
        assert_eq!(values.len(), LIMBS * DEGREE);
        for (limb, prime) in values.chunks_exact(DEGREE).zip(PRIMES) {
            let mean = limb.iter().sum::<f64>() / DEGREE as f64 / prime.value as f64;
            assert!((mean - 0.5).abs() < 0.02 && limb.iter().all(|value| (*value as u64) < prime.value));
        }
        assert_ne!(values, uniform(&Seed::from_bytes([4; 16])));
    }

    #[test]
    fn floods_use_all_their_bits() {
        let terms = flood(&mut prg(5), 100, FLOOD_BITS);
        let all = terms.iter().fold([0; 3], |all, term| [0, 1, 2].map(|at| all[at] | term[at]));
        assert_eq!(all, [u64::MAX, u64::MAX, (1 << (FLOOD_BITS + 1 - 128)) - 1]);
    }
}
