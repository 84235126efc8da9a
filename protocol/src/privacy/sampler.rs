//! Draws the noise of a mechanism, exactly and in a time that says nothing about what was drawn.

use super::Mechanism;
use super::gaussian::Table;
use super::geometric::Digits;
use crate::algebra::prg::{Prg, SEED_BYTES, Seed};
use rand::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// Draws made side by side: their words, at most 18 kB, stay in the nearest cache.
const AT_ONCE: usize = 32;

/// The tables of one mechanism. Public: they depend on the contract alone.
///
/// Making one takes about a millisecond, some tens of them at the largest σ; keep it for the life of a task.
pub struct Sampler {
    mechanism: Mechanism,
    law: Law,
}

enum Law {
    Nothing,
    Gaussian(Table),
    Laplace(Digits),
}

impl Sampler {
    /// Works out the tables of a mechanism. Every mechanism that can be written down is supported: a
    /// Gaussian's σ is at most 1024, since a [`super::Ratio`] is at most 2^20.
    pub fn new(mechanism: &Mechanism) -> Self {
        let law = match mechanism {
            Mechanism::Exact => Law::Nothing,
            Mechanism::Gaussian { sigma_squared } => Law::Gaussian(Table::new(*sigma_squared)),
            Mechanism::Laplace { epsilon } => Law::Laplace(Digits::new(*epsilon)),
        };
        Self { mechanism: *mechanism, law }
    }

    /// The mechanism whose noise this draws.
    pub const fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    /// One draw, to be added to one count in the ring; always 0 for an exact release.
    pub fn draw(&self, rng: &mut (impl CryptoRng + ?Sized)) -> i64 {
        let mut noise = Zeroizing::new([0]);
        self.fill(noise.as_mut_slice(), rng);
        noise[0]
    }

    /// `count` draws, fresh and independent for each entry. The same draw on every class would change no
    /// label and protect nobody. The caller bounds `count`.
    ///
    /// Each call takes one seed from the generator, whatever `count`, so many draws at once are much faster.
    pub fn draw_many(&self, count: usize, rng: &mut (impl CryptoRng + ?Sized)) -> Zeroizing<Vec<i64>> {
        let mut noise = Zeroizing::new(vec![0; count]);
        self.fill(&mut noise, rng);
        noise
    }

    fn fill(&self, noise: &mut [i64], rng: &mut (impl CryptoRng + ?Sized)) {
        let each = self.law.words();
        if each == 0 {
            return;
        }
        let mut bytes = Zeroizing::new([0; SEED_BYTES]);
        rng.fill_bytes(bytes.as_mut_slice());
        let mut stream = Prg::new(&Seed::from_bytes(*bytes));
        let mut words = Zeroizing::new(vec![0; each * noise.len().min(AT_ONCE)]);
        for noise in noise.chunks_mut(AT_ONCE) {
            let words = &mut words[..each * noise.len()];
            stream.fill_words(words);
            self.law.draw(words, noise);
        }
    }

    /// No draw is larger than this in absolute value: below 2^18 for any mechanism, so that a sum of two
    /// draws and a count cannot leave a 64-bit ring.
    pub fn magnitude_max(&self) -> u64 {
        match &self.law {
            Law::Nothing => 0,
            Law::Gaussian(table) => table.magnitude_max(),
            Law::Laplace(digits) => digits.magnitude_max(),
        }
    }

    /// A number b such that one draw is within 2^-b, in total variation, of the law of its mechanism: at
    /// least 114; 128 for an exact release.
    ///
    /// A promise of (ε, δ) that rests on n draws is really kept with `δ + n (1 + e^ε) 2^-b`. Pure ε is
    /// therefore pure but for this tiny δ. The words themselves are those of AES-128 under a fresh seed.
    pub fn distance_bits(&self) -> u32 {
        let units = match &self.law {
            Law::Nothing => return 128,
            Law::Gaussian(table) => table.distance_units(),
            Law::Laplace(digits) => digits.distance_units(),
        };
        128 - units.next_power_of_two().ilog2()
    }
}

impl Law {
    /// Random words behind each draw.
    fn words(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Gaussian(_) => Table::WORDS,
            Self::Laplace(digits) => digits.words(),
        }
    }

    /// Turns [`Law::words`] words for each entry into noise.
    fn draw(&self, words: &[u64], noise: &mut [i64]) {
        match self {
            Self::Nothing => noise.fill(0),
            Self::Gaussian(table) => table.draw(words, noise),
            Self::Laplace(digits) => digits.draw(words, noise),
        }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sampler({})", self.mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng, TryCryptoRng, TryRng};
    use std::convert::Infallible;

    /// Counts the bytes taken.
    struct Counted {
        inner: StdRng,
        bytes: usize,
    }

    impl Counted {
        fn new() -> Self {
            Self { inner: StdRng::seed_from_u64(7), bytes: 0 }
        }
    }

    impl TryRng for Counted {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("the samplers take a whole seed")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("the samplers take a whole seed")
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            self.bytes += bytes.len();
            self.inner.fill_bytes(bytes);
            Ok(())
        }
    }

    impl TryCryptoRng for Counted {}

    fn mechanisms() -> Vec<Mechanism> {
        let gaussian = |text: &str| Mechanism::Gaussian { sigma_squared: text.parse().unwrap() };
        let laplace = |text: &str| Mechanism::Laplace { epsilon: text.parse().unwrap() };
        let gaussians = ["1/1024", "1/2", "1", "25", "1600", "1048576"].map(gaussian);
        gaussians.into_iter().chain(["1/1024", "0.1", "1", "2", "40", "1048576"].map(laplace)).collect()
    }

    #[test]
    fn a_call_takes_one_seed_and_calls_do_not_repeat() {
        for mechanism in mechanisms() {
            let sampler = Sampler::new(&mechanism);
            let mut rng = Counted::new();
            sampler.draw(&mut rng);
            assert_eq!(rng.bytes, SEED_BYTES, "{mechanism}");
            sampler.draw_many(200, &mut rng);
            assert_eq!(rng.bytes, 2 * SEED_BYTES, "{mechanism}");
        }
        let sampler = Sampler::new(&Mechanism::Gaussian { sigma_squared: "25".parse().unwrap() });
        let mut rng = Counted::new();
        let [one, other] = [40, 40].map(|count| sampler.draw_many(count, &mut rng));
        assert_ne!(one, other);
        assert_ne!(one[..8], one[32..], "blocks of one call differ");
    }

    #[test]
    fn draws_are_bounded_even_by_extreme_bits() {
        for mechanism in mechanisms() {
            let sampler = Sampler::new(&mechanism);
            let bound = sampler.magnitude_max();
            assert!(bound < 1 << 18, "{mechanism}: {bound}");
            let mut noise = [i64::MAX; 3];
            for word in [0, 1, u64::MAX - 1, u64::MAX] {
                sampler.law.draw(&vec![word; noise.len() * sampler.law.words()], &mut noise);
                assert!(noise.iter().all(|draw| draw.unsigned_abs() <= bound), "{mechanism}");
            }
            let draws = sampler.draw_many(1_000, &mut StdRng::seed_from_u64(1));
            assert!(draws.iter().all(|draw| draw.unsigned_abs() <= bound), "{mechanism}");
        }
    }

    #[test]
    fn the_largest_draws_are_within_reach() {
        let gaussian = Sampler::new(&Mechanism::Gaussian { sigma_squared: "100".parse().unwrap() });
        let mut noise = [0];
        gaussian.law.draw(&[u64::MAX, u64::MAX, 0], &mut noise);
        assert_eq!(noise[0].unsigned_abs(), gaussian.magnitude_max());
        // All coins of one geometric draw below their thresholds, none of the other's.
        let laplace = Sampler::new(&Mechanism::Laplace { epsilon: "2".parse().unwrap() });
        let words = [[0, 0, u64::MAX, u64::MAX], [u64::MAX, u64::MAX, 0, 0]];
        for (words, sign) in words.iter().zip([1, -1]) {
            laplace.law.draw(&words.repeat(laplace.law.words() / 4), &mut noise);
            assert_eq!(noise[0] * sign, i64::try_from(laplace.magnitude_max()).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_number_of_draws_starts_alike(count in 0usize..150, seed: u64) {
            for mechanism in mechanisms().into_iter().filter(|mechanism| !mechanism.to_string().contains("10485")) {
                let sampler = Sampler::new(&mechanism);
                let draw = |count| sampler.draw_many(count, &mut StdRng::seed_from_u64(seed)).to_vec();
                let whole = count / AT_ONCE * AT_ONCE;
                prop_assert_eq!(&draw(count)[..whole], &draw(192)[..whole]);
                prop_assert_eq!(draw(count).len(), count);
                prop_assert_eq!(draw(1)[0], sampler.draw(&mut StdRng::seed_from_u64(seed)));
            }
        }
    }

    #[test]
    fn distance_is_stated_for_all() {
        for mechanism in mechanisms() {
            let bits = Sampler::new(&mechanism).distance_bits();
            assert!((114..=127).contains(&bits), "{mechanism}: {bits}");
        }
    }

    #[test]
    fn an_exact_release_gets_zeros() {
        let sampler = Sampler::new(&Mechanism::Exact);
        let mut rng = Counted::new();
        assert_eq!(*sampler.draw_many(3, &mut rng), vec![0; 3]);
        assert_eq!((rng.bytes, sampler.magnitude_max(), sampler.distance_bits()), (0, 0, 128));
    }

    #[test]
    fn nothing_drawn_is_printed() {
        let sampler = Sampler::new(&Mechanism::Laplace { epsilon: "1/2".parse().unwrap() });
        assert_eq!(format!("{sampler:?}"), "Sampler(discrete Laplace noise, epsilon 1/2 per label)");
    }
}
