//! Draws the noise of a mechanism, exactly and in a time that says nothing about what was drawn.

use super::Mechanism;
use super::gaussian::Table;
use super::geometric::Digits;
use rand::CryptoRng;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

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
    /// Works out the tables of a mechanism's noise on the counts; that on the largest count, where there is any,
    /// is the noise of [`Mechanism::threshold_noise`] and has a sampler of its own. Every mechanism that can be written down is supported: a
    /// Gaussian's σ is at most 1024, since a [`super::Ratio`] is at most 2^20.
    pub fn new(mechanism: &Mechanism) -> Self {
        let law = match mechanism {
            Mechanism::Exact => Law::Nothing,
            Mechanism::Gaussian { sigma_squared } | Mechanism::ConfidentGaussian { sigma_squared, .. } => {
                Law::Gaussian(Table::new(*sigma_squared))
            }
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
        match &self.law {
            Law::Nothing => 0,
            Law::Gaussian(table) => table.draw(rng),
            Law::Laplace(digits) => digits.draw(rng),
        }
    }

    /// `count` draws, fresh and independent for each entry. The same draw on every class would change no
    /// label and protect nobody. The caller bounds `count`.
    pub fn draw_many(&self, count: usize, rng: &mut (impl CryptoRng + ?Sized)) -> Zeroizing<Vec<i64>> {
        Zeroizing::new((0..count).map(|_| self.draw(rng)).collect())
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
    /// therefore pure but for this tiny δ.
    pub fn distance_bits(&self) -> u32 {
        let units = match &self.law {
            Law::Nothing => return 128,
            Law::Gaussian(table) => table.distance_units(),
            Law::Laplace(digits) => digits.distance_units(),
        };
        128 - units.next_power_of_two().ilog2()
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sampler({})", self.mechanism)
    }
}

/// 128 random bits.
pub(super) fn random_word(rng: &mut (impl CryptoRng + ?Sized)) -> u128 {
    let (mut high, mut low) = (rng.next_u64(), rng.next_u64());
    let word = u128::from(high) << 64 | u128::from(low);
    high.zeroize();
    low.zeroize();
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng, TryCryptoRng, TryRng};
    use std::convert::Infallible;

    /// Counts the words taken; hands out a fixed word instead of random ones if there is one.
    struct Counted {
        inner: StdRng,
        fixed: Option<u64>,
        words: usize,
    }

    impl Counted {
        fn new(fixed: Option<u64>) -> Self {
            Self { inner: StdRng::seed_from_u64(7), fixed, words: 0 }
        }
    }

    impl TryRng for Counted {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("the samplers take whole words")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.words += 1;
            Ok(self.fixed.unwrap_or_else(|| self.inner.next_u64()))
        }

        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
            unreachable!("the samplers take whole words")
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
    fn every_draw_takes_the_same_random_words() {
        for mechanism in mechanisms() {
            let sampler = Sampler::new(&mechanism);
            let mut rng = Counted::new(None);
            sampler.draw(&mut rng);
            let per_draw = rng.words;
            assert!(per_draw > 0, "{mechanism}");
            sampler.draw_many(200, &mut rng);
            assert_eq!(rng.words, 201 * per_draw, "{mechanism}");
        }
    }

    #[test]
    fn draws_are_bounded_even_by_extreme_bits() {
        for mechanism in mechanisms() {
            let sampler = Sampler::new(&mechanism);
            let bound = sampler.magnitude_max();
            assert!(bound < 1 << 18, "{mechanism}: {bound}");
            for fixed in [Some(0), Some(u64::MAX), None] {
                let draws = sampler.draw_many(300, &mut Counted::new(fixed));
                assert!(draws.iter().all(|draw| draw.unsigned_abs() <= bound), "{mechanism}");
            }
        }
    }

    #[test]
    fn the_largest_gaussian_can_be_drawn() {
        let sampler = Sampler::new(&Mechanism::Gaussian { sigma_squared: "100".parse().unwrap() });
        let draw = sampler.draw(&mut Counted::new(Some(u64::MAX)));
        assert_eq!(draw.unsigned_abs(), sampler.magnitude_max());
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
        let mut rng = Counted::new(None);
        assert_eq!(*sampler.draw_many(3, &mut rng), vec![0; 3]);
        assert_eq!((rng.words, sampler.magnitude_max(), sampler.distance_bits()), (0, 0, 128));
    }

    #[test]
    fn nothing_drawn_is_printed() {
        let sampler = Sampler::new(&Mechanism::Laplace { epsilon: "1/2".parse().unwrap() });
        assert_eq!(format!("{sampler:?}"), "Sampler(discrete Laplace noise, epsilon 1/2 per label)");
    }
}
