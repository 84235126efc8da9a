//! Tests of the drawn noise against its exact law: per class, across classes, and in the label it selects.

use super::oracle;
use super::{Mechanism, Sampler};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

const CLASSES: usize = 4;
const ROUNDS: usize = 100_000;
const SEEDS: [u64; 2] = [0x5eed_0001, 0x5eed_0002];

/// Exact probabilities of the integers from `-reach` to `reach`; what lies outside is below 10^-15.
struct Law {
    reach: i64,
    mass: Vec<f64>,
}

impl Law {
    fn of(mechanism: &Mechanism) -> Self {
        let (reach, weight): (i64, Box<dyn Fn(f64) -> f64>) = match mechanism {
            Mechanism::Exact => (0, Box::new(|_| 1.0)),
            Mechanism::Gaussian { sigma_squared } | Mechanism::ConfidentGaussian { sigma_squared, .. } => {
                let variance = sigma_squared.numerator() as f64 / sigma_squared.denominator() as f64;
                (
                    (8.5 * variance.sqrt()).ceil() as i64 + 1,
                    Box::new(move |x| (-x * x / 2.0 / variance).exp()),
                )
            }
            Mechanism::Laplace { epsilon } => {
                let half = epsilon.numerator() as f64 / epsilon.denominator() as f64 / 2.0;
                ((36.0 / half).ceil() as i64 + 1, Box::new(move |x| (-x.abs() * half).exp()))
            }
        };
        let weights: Vec<f64> = (-reach..=reach).map(|x| weight(x as f64)).collect();
        let total: f64 = weights.iter().sum();
        Self { reach, mass: weights.into_iter().map(|weight| weight / total).collect() }
    }

    fn at(&self, x: i64) -> f64 {
        usize::try_from(x + self.reach).ok().and_then(|index| self.mass.get(index)).copied().unwrap_or(0.0)
    }

    fn variance(&self) -> f64 {
        (-self.reach..=self.reach).map(|x| (x * x) as f64 * self.at(x)).sum()
    }
}

/// Why a sample is not independent noise of a law.
#[derive(Debug, PartialEq)]
enum Fault {
    Shape { class: usize },
    Variance { class: usize },
    Correlated { classes: (usize, usize) },
}

/// Judges rounds of noise vectors: each class by chi-square and by its variance, each pair by correlation.
///
/// The chi-square limit is five standard deviations out (Wilson and Hilferty), and a correlation of 0.02 is
/// six at 100,000 rounds, so that a right sampler fails once in a million; the seeds are fixed besides.
fn judge(law: &Law, rounds: &[Vec<i64>]) -> Result<(), Fault> {
    let classes = rounds[0].len();
    let count = rounds.len() as f64;
    for class in 0..classes {
        let column: Vec<i64> = rounds.iter().map(|round| round[class]).collect();
        if !fits(law, &column) {
            return Err(Fault::Shape { class });
        }
    }
    let moment = |left: usize, right: usize| {
        rounds.iter().map(|round| (round[left] * round[right]) as f64).sum::<f64>() / count
    };
    for left in 0..classes {
        if (moment(left, left) / law.variance() - 1.0).abs() > 0.04 {
            return Err(Fault::Variance { class: left });
        }
        for right in 0..left {
            let scale = (moment(left, left) * moment(right, right)).sqrt();
            if (moment(left, right) / scale).abs() > 0.02 {
                return Err(Fault::Correlated { classes: (right, left) });
            }
        }
    }
    Ok(())
}

/// Pearson's test; neighbouring values share a bin until it expects at least 20.
fn fits(law: &Law, column: &[i64]) -> bool {
    let mut seen = vec![0.0; law.mass.len()];
    for value in column {
        match usize::try_from(value + law.reach).ok().and_then(|index| seen.get_mut(index)) {
            Some(bin) => *bin += 1.0,
            None => return false,
        }
    }
    let count = column.len() as f64;
    let (mut statistic, mut bins) = (0.0, 0.0);
    let (mut expected, mut found, mut remaining) = (0.0, 0.0, 1.0);
    for (mass, seen) in law.mass.iter().zip(seen) {
        (expected, found, remaining) = (expected + mass * count, found + seen, remaining - mass);
        // The last bin takes everything that is left.
        if expected >= 20.0 && (remaining * count >= 20.0 || remaining < 1e-12) {
            statistic += (found - expected).powi(2) / expected;
            (expected, found, bins) = (0.0, 0.0, bins + 1.0);
        }
    }
    if expected > 0.0 && bins > 0.0 {
        statistic += (found - expected).powi(2) / expected.max(20.0);
    }
    statistic < chi_square_limit((bins - 1.0_f64).max(1.0), 5.0)
}

fn chi_square_limit(freedom: f64, deviations: f64) -> f64 {
    let width = 2.0 / (9.0 * freedom);
    freedom * (1.0 - width + deviations * width.sqrt()).powi(3)
}

fn gaussian(text: &str) -> Mechanism {
    Mechanism::Gaussian { sigma_squared: text.parse().unwrap() }
}

fn laplace(text: &str) -> Mechanism {
    Mechanism::Laplace { epsilon: text.parse().unwrap() }
}

fn rounds(sampler: &Sampler, seed: u64) -> Vec<Vec<i64>> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..ROUNDS).map(|_| sampler.draw_many(CLASSES, &mut rng).to_vec()).collect()
}

#[test]
fn noise_follows_its_law_in_every_class() {
    let gaussians = ["1/4", "1", "25/2", "100", "1600"].map(gaussian);
    let laplaces = ["0.05", "1/3", "1", "2", "8"].map(laplace);
    for mechanism in gaussians.into_iter().chain(laplaces) {
        let (law, sampler) = (Law::of(&mechanism), Sampler::new(&mechanism));
        let (mut squares, mut draws) = (0.0, 0.0);
        for seed in SEEDS {
            let rounds = rounds(&sampler, seed);
            assert_eq!(judge(&law, &rounds), Ok(()), "{mechanism}, seed {seed:#x}");
            squares += rounds.iter().flatten().map(|draw| (draw * draw) as f64).sum::<f64>();
            draws += (ROUNDS * CLASSES) as f64;
        }
        let variance = squares / draws;
        assert!((variance / law.variance() - 1.0).abs() < 0.02, "{mechanism}: {variance}");
    }
}

#[test]
fn one_draw_for_all_classes_is_refused() {
    for mechanism in [gaussian("25"), laplace("1/2")] {
        let (law, sampler) = (Law::of(&mechanism), Sampler::new(&mechanism));
        let mut rng = StdRng::seed_from_u64(SEEDS[0]);
        let broadcast: Vec<Vec<i64>> = (0..ROUNDS).map(|_| vec![sampler.draw(&mut rng); CLASSES]).collect();
        // Each class by itself looks right: only the view across classes gives it away.
        for class in 0..CLASSES {
            assert!(fits(&law, &broadcast.iter().map(|round| round[class]).collect::<Vec<_>>()));
        }
        assert_eq!(judge(&law, &broadcast), Err(Fault::Correlated { classes: (0, 1) }), "{mechanism}");
        // And the label it yields is that of no noise at all.
        let votes = [5, 3, 2, 0];
        assert!(broadcast.iter().all(|noise| label(&votes, noise) == 0));
    }
}

#[test]
fn nearly_right_noise_is_refused() {
    let near = [
        (gaussian("25"), gaussian("26")),
        (gaussian("1"), gaussian("21/20")),
        (laplace("1"), laplace("21/20")),
        (laplace("2"), gaussian("7/4")),
    ];
    for (claimed, drawn) in near {
        let fault = judge(&Law::of(&claimed), &rounds(&Sampler::new(&drawn), SEEDS[1]));
        assert!(matches!(fault, Err(Fault::Shape { .. })), "{drawn} passed for {claimed}: {fault:?}");
    }
}

/// The class with the largest noisy count, the lowest of several.
fn label(votes: &[i64], noise: &[i64]) -> usize {
    let noisy: Vec<i64> = votes.iter().zip(noise).map(|(vote, noise)| vote + noise).collect();
    let most = noisy.iter().max().unwrap();
    noisy.iter().position(|count| count == most).unwrap()
}

/// Exact probability of each label when ties go to one of the tied classes at random.
fn selection(law: &Law, votes: &[i64]) -> Vec<f64> {
    let tail: Vec<f64> =
        law.mass.iter().scan(0.0, |sum, mass| Some(std::mem::replace(sum, *sum + mass))).collect();
    let below = |x: i64| match usize::try_from(x + law.reach) {
        Ok(index) => tail.get(index).copied().unwrap_or(1.0),
        Err(_) => 0.0,
    };
    let wins = |class: usize, noise: i64| {
        // ties[t] is the probability that t others tie with this count and none passes it.
        let mut ties = vec![law.at(noise)];
        for (_, vote) in votes.iter().enumerate().filter(|(other, _)| *other != class) {
            let gap = votes[class] + noise - vote;
            let (less, same) = (below(gap), law.at(gap));
            ties.push(0.0);
            for index in (0..ties.len()).rev() {
                let promoted = if index > 0 { ties[index - 1] * same } else { 0.0 };
                ties[index] = ties[index] * less + promoted;
            }
        }
        ties.iter().enumerate().map(|(others, mass)| mass / (others + 1) as f64).sum::<f64>()
    };
    (0..votes.len()).map(|class| (-law.reach..=law.reach).map(|noise| wins(class, noise)).sum()).collect()
}

#[test]
fn labels_come_out_as_often_as_they_should() {
    let cases = [
        (gaussian("4"), vec![5, 3, 2]),
        (gaussian("100"), vec![22, 20, 3, 2]),
        (laplace("1"), vec![7, 6, 5, 2]),
    ];
    for (mechanism, votes) in cases {
        let (law, sampler) = (Law::of(&mechanism), Sampler::new(&mechanism));
        let mut rng = StdRng::seed_from_u64(SEEDS[0]);
        let mut wins = vec![0.0; votes.len()];
        for _ in 0..ROUNDS {
            let noise = sampler.draw_many(votes.len(), &mut rng);
            let noisy: Vec<i64> = votes.iter().zip(noise.iter()).map(|(vote, noise)| vote + noise).collect();
            let most = noisy.iter().max().unwrap();
            let tied: Vec<usize> = (0..votes.len()).filter(|class| noisy[*class] == *most).collect();
            tied.iter().for_each(|class| wins[*class] += 1.0 / tied.len() as f64);
        }
        for (found, expected) in wins.iter().zip(selection(&law, &votes)) {
            let deviation = (expected * (1.0 - expected) / ROUNDS as f64).sqrt();
            assert!(
                (found / ROUNDS as f64 - expected).abs() < 5.0 * deviation,
                "{mechanism}: {found} {expected}"
            );
        }
    }
}

/// The reference is for continuous noise. Discrete noise with ties broken at random is discrete noise plus a
/// uniform number in (-1/2, 1/2): for the Gaussian nearly N(0, σ² + 1/12), a scale larger by 1/24σ². For
/// Laplace noise of scale b the variance changes by 1/12 of a unit too, and its peak is rounded off. The
/// probability of a label moves by less than half of a relative change of scale, so 1/24σ² bounds the one;
/// twice as much in units of b, 1/12b², is allowed for the other. The other mechanisms of the file have no
/// counterpart here.
#[test]
fn labels_approach_those_of_continuous_noise() {
    let Some(file) = oracle::read("selection_probabilities.json") else { return };
    let mut seen = 0;
    for row in file.as_array().unwrap() {
        let integers =
            |name: &str| row[name].as_array().map(|list| list.iter().filter_map(Value::as_i64).collect());
        let votes: Vec<i64> = integers("votes").unwrap();
        let (mechanism, column, tolerance) = if let Some(sigma) = row["sigma"].as_u64() {
            (gaussian(&(sigma * sigma).to_string()), "gnmax", 1.0 / (24.0 * (sigma * sigma) as f64))
        } else {
            let scale = row["scale"].as_f64().unwrap();
            (laplace(&row["eps0"].to_string()), "laplace_rnm", 1.0 / (12.0 * scale * scale))
        };
        let expected = row[column].as_array().unwrap().iter().filter_map(Value::as_f64);
        for (found, expected) in selection(&Law::of(&mechanism), &votes).into_iter().zip(expected) {
            // The file's own integration is good to 4 · 10^-10.
            assert!((found - expected).abs() < tolerance + 1e-9, "{mechanism} {votes:?}: {found} {expected}");
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen} probabilities compared");
}
