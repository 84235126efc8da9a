//! Labels under the product's noise.

use super::Views;
use crate::noise::own;
use consilium_attest::NoiseError;
use consilium_protocol::privacy::{Mechanism, NumberError, Ratio};
use rand::rngs::StdRng;
use rand::{CryptoRng, RngExt};

/// How often a record is asked about. The answers of fewer are the first ones of more.
pub const ASKS: [u16; 3] = [1, 10, 100];

/// A mechanism under its name in the reference figures.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `gnmax_sS` or `laplace_epsE`.
    pub name: String,
    /// The noise.
    pub mechanism: Mechanism,
}

/// The mechanisms whose labels are attacked.
///
/// # Errors
/// None in fact: the numbers are fixed.
pub fn settings() -> Result<Vec<Setting>, NumberError> {
    let mut settings = Vec::new();
    for sigma in [2u64, 10, 40] {
        let sigma_squared = Ratio::new(sigma * sigma, 1)?;
        settings.push(Setting {
            name: format!("gnmax_s{sigma}"),
            mechanism: Mechanism::Gaussian { sigma_squared },
        });
    }
    for epsilon in ["0.1", "0.5", "1", "2", "4"] {
        let mechanism = Mechanism::Laplace { epsilon: epsilon.parse()? };
        settings.push(Setting { name: format!("laplace_eps{epsilon}"), mechanism });
    }
    Ok(settings)
}

/// The class with the most votes, the lowest of equals: the rule of the protocol's release.
pub fn winner(counts: impl IntoIterator<Item = i64>) -> usize {
    let mut best = (i64::MIN, 0);
    for (class, count) in counts.into_iter().enumerate() {
        if count > best.0 {
            best = (count, class);
        }
    }
    best.1
}

/// Noise for many labels, drawn by the noise sources of both compute parties.
///
/// An exact sampler is too slow for the hundred million labels of an experiment. There is a vector for each
/// decision's first question, so those are fresh; later questions take theirs at random from the bank, one
/// of each party's, independently.
#[derive(Debug)]
pub struct Bank {
    classes: usize,
    /// Of each party, vector after vector.
    parties: [Vec<i64>; 2],
}

impl Bank {
    /// Has both parties draw so many full vectors of noise.
    ///
    /// # Errors
    /// What the sources refuse.
    pub fn draw(
        mechanism: &Mechanism,
        classes: usize,
        vectors: usize,
        random: &mut impl CryptoRng,
    ) -> Result<Self, NoiseError> {
        let mut party = || -> Result<Vec<i64>, NoiseError> {
            let mut source = own(mechanism)?;
            let mut values = Vec::with_capacity(classes * vectors);
            for _ in 0..vectors {
                values.extend(source.draw(classes, random)?.into_values().iter());
            }
            Ok(values)
        };
        Ok(Self { classes, parties: [party()?, party()?] })
    }

    fn vectors(&self) -> usize {
        self.parties[0].len() / self.classes
    }

    fn vector(&self, party: usize, at: usize) -> &[i64] {
        &self.parties[party][at * self.classes..][..self.classes]
    }

    /// How many of the first 1, 10 and 100 labels of each decision are the true class: under the noise of one
    /// party, as an attested module would add it, and under that of both.
    pub fn right(&self, views: &Views, random: &mut StdRng) -> [[Vec<u16>; ASKS.len()]; 2] {
        let decisions = views.victim_votes.len();
        let mut right: [[Vec<u16>; ASKS.len()]; 2] = Default::default();
        for decision in 0..decisions {
            let (counts, label) = (views.counts(decision), views.label(decision));
            let mut found = [0u16; 2];
            let mut asked = 0;
            for (slot, asks) in ASKS.into_iter().enumerate() {
                while asked < asks {
                    let mut pick = || match asked {
                        0 => decision % self.vectors(),
                        _ => random.random_range(0..self.vectors()),
                    };
                    let (zero, one) = (self.vector(0, pick()), self.vector(1, pick()));
                    let alone = counts.iter().zip(zero).map(|(count, zero)| count + zero);
                    let both =
                        counts.iter().zip(zero).zip(one).map(|((count, zero), one)| count + zero + one);
                    found[0] += u16::from(winner(alone) == label);
                    found[1] += u16::from(winner(both) == label);
                    asked += 1;
                }
                for (right, found) in right.iter_mut().zip(found) {
                    right[slot].push(found);
                }
            }
        }
        right
    }

    /// The most that one vote moves the law of a label, in total variation, over all votes of `owners` for
    /// two classes: what an attacker learns at most who knows every other vote. Under the noise of `draws`
    /// parties.
    pub fn one_vote(&self, owners: usize, draws: usize) -> f64 {
        let law = |first: usize| {
            let mut law = vec![0i64; self.classes];
            for at in 0..self.vectors() {
                let counts = (0..self.classes).map(|class| {
                    let votes = [first, owners - first].get(class).map_or(0, |votes| *votes as i64);
                    votes + (0..draws).map(|party| self.vector(party, at)[class]).sum::<i64>()
                });
                law[winner(counts)] += 1;
            }
            law
        };
        let laws: Vec<Vec<i64>> = (0..=owners).map(law).collect();
        let moved = |pair: &[Vec<i64>]| {
            let distance: u64 = pair[0].iter().zip(&pair[1]).map(|(one, other)| one.abs_diff(*other)).sum();
            distance as f64 / 2.0 / self.vectors() as f64
        };
        laws.windows(2).map(moved).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::{Layer, Network, Numbers, ReleaseShape, Shape};
    use consilium_protocol::model::{Model, Weights};
    use consilium_protocol::privacy::Sampler;
    use consilium_protocol::stock::Gadget;
    use consilium_protocol::testing::TestTask;
    use rand::SeedableRng;

    const CLASSES: usize = 4;
    const NUMBERS: Numbers = Numbers { fraction_bits: 8, value_bits: 8 };

    /// A model that votes for one class whatever it is asked.
    fn voter(class: usize) -> Model {
        let network = Network::new(Shape::vector(1), vec![Layer::Dense { outputs: CLASSES as u32 }]);
        let bias = (0..CLASSES).map(|other| if other == class { 2.0 } else { -1.0 }).collect();
        Model::new(network.unwrap(), vec![Weights { weight: vec![0.0; CLASSES], bias }]).unwrap()
    }

    #[test]
    fn the_clear_release_is_that_of_the_protocol() {
        let mechanism = Mechanism::Gaussian { sigma_squared: "2".parse().unwrap() };
        let release =
            ReleaseShape { noise_magnitude_max: Sampler::new(&mechanism).magnitude_max(), threshold: None };
        let mut random = StdRng::seed_from_u64(1);
        let bank = Bank::draw(&mechanism, CLASSES, 60, &mut random).unwrap();
        let mut ties = 0;
        for at in 0..60 {
            let votes: Vec<usize> = (0..5).map(|_| random.random_range(0..CLASSES)).collect();
            let models: Vec<Model> = votes.iter().map(|class| voter(*class)).collect();
            let mut task = TestTask::new(&models, NUMBERS, 1, release, Gadget::Digits, at as u64).unwrap();
            let noise = [0, 1].map(|party| {
                let vector = bank.vector(party, at);
                vector.iter().map(|value| *value as u64).collect::<Vec<u64>>()
            });
            let (labels, ..) = task.ask(&[vec![7]], [&noise[0], &noise[1]]).unwrap();
            let mut counts = vec![0i64; CLASSES];
            votes.iter().for_each(|class| counts[*class] += 1);
            for party in 0..2 {
                counts.iter_mut().zip(bank.vector(party, at)).for_each(|(count, noise)| *count += noise);
            }
            let most = counts.iter().max().unwrap();
            ties += usize::from(counts.iter().filter(|count| *count == most).count() > 1);
            assert_eq!(labels, [winner(counts.iter().copied())], "{counts:?}");
        }
        assert!(ties > 2, "{ties} ties");
    }

    /// Computed by summing the laws of the noise, for ten votes and two classes; the noise is on integers and
    /// ties go to the lower class.
    #[test]
    fn one_vote_moves_a_label_as_the_law_of_the_noise_says() {
        let vectors = 60_000;
        let mut random = StdRng::seed_from_u64(2);
        for setting in settings().unwrap() {
            let Some((_, expected)) = ONE_VOTE.iter().find(|(name, _)| *name == setting.name) else {
                continue;
            };
            let bank = Bank::draw(&setting.mechanism, 2, vectors, &mut random).unwrap();
            let found = bank.one_vote(10, 1);
            // Two laws from the same draws differ where one vote decides; three deviations are 0.006 at most.
            assert!((found - expected).abs() < 0.007, "{}: {found}, expected {expected}", setting.name);
            assert!(bank.one_vote(10, 2) < found, "{}", setting.name);
        }
    }

    const ONE_VOTE: [(&str, f64); 6] = [
        ("gnmax_s2", 0.2736),
        ("gnmax_s10", 0.0564),
        ("laplace_eps0.5", 0.1244),
        ("laplace_eps1", 0.2449),
        ("laplace_eps2", 0.4621),
        ("laplace_eps4", 0.7616),
    ];

    #[test]
    fn the_lowest_of_equals_wins() {
        assert_eq!(winner([3, 5, 5]), 1);
        assert_eq!(winner([-4, -4]), 0);
    }
}
