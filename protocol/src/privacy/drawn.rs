//! Tests of the drawn noise against its exact law: per class, across classes, and in the label it selects.
//!
//! The long one, 10^7 draws at four scales of each mechanism, prints its figures with
//! `cargo test --release -p consilium-protocol --lib ten_million -- --ignored --nocapture`.

use super::{Law, Mechanism, Sampler, winners_under};
use rand::SeedableRng;
use rand::rngs::StdRng;

const CLASSES: usize = 4;
const ROUNDS: usize = 100_000;
const SEEDS: [u64; 2] = [0x5eed_0001, 0x5eed_0002];

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

/// How far a sample is from its law by Pearson's test.
#[derive(Debug)]
struct Fit {
    statistic: f64,
    freedom: f64,
}

impl Fit {
    /// Compares how often each of the integers from `-law.reach()` on was seen; neighbours share a bin until
    /// it expects at least 20.
    fn new(law: &Law, seen: &[u64]) -> Self {
        let count = seen.iter().sum::<u64>() as f64;
        let (mut statistic, mut bins) = (0.0, 0.0);
        let (mut expected, mut found, mut remaining) = (0.0, 0.0, 1.0);
        for (x, seen) in (-law.reach()..=law.reach()).zip(seen) {
            let mass = law.at(x);
            (expected, found, remaining) = (expected + mass * count, found + *seen as f64, remaining - mass);
            // The last bin takes everything that is left.
            if expected >= 20.0 && (remaining * count >= 20.0 || remaining < 1e-12) {
                statistic += (found - expected).powi(2) / expected;
                (expected, found, bins) = (0.0, 0.0, bins + 1.0);
            }
        }
        if expected > 0.0 && bins > 0.0 {
            statistic += (found - expected).powi(2) / expected.max(20.0);
        }
        Self { statistic, freedom: (bins - 1.0_f64).max(1.0) }
    }

    /// Standard deviations from what an exact sampler gives on average (Wilson and Hilferty).
    fn deviations(&self) -> f64 {
        let width = 2.0 / (9.0 * self.freedom);
        ((self.statistic / self.freedom).cbrt() - 1.0 + width) / width.sqrt()
    }
}

/// Counts values by `value + reach`; nothing if one is out of reach.
fn tally(law: &Law, values: impl IntoIterator<Item = i64>) -> Option<Vec<u64>> {
    let mut seen = vec![0; (2 * law.reach() + 1) as usize];
    for value in values {
        *seen.get_mut(usize::try_from(value + law.reach()).ok()?)? += 1;
    }
    Some(seen)
}

fn fits(law: &Law, column: &[i64]) -> bool {
    tally(law, column.iter().copied()).is_some_and(|seen| Fit::new(law, &seen).deviations() < 5.0)
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
        let (law, sampler) = (Law::of(&mechanism, 1), Sampler::new(&mechanism));
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
        let (law, sampler) = (Law::of(&mechanism, 1), Sampler::new(&mechanism));
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
        let fault = judge(&Law::of(&claimed, 1), &rounds(&Sampler::new(&drawn), SEEDS[1]));
        assert!(matches!(fault, Err(Fault::Shape { .. })), "{drawn} passed for {claimed}: {fault:?}");
    }
}

/// The class with the largest noisy count, the lowest of several.
fn label(votes: &[i64], noise: &[i64]) -> usize {
    let noisy: Vec<i64> = votes.iter().zip(noise).map(|(vote, noise)| vote + noise).collect();
    let most = noisy.iter().max().unwrap();
    noisy.iter().position(|count| count == most).unwrap()
}

#[test]
fn labels_come_out_as_often_as_they_should() {
    let cases = [
        (gaussian("4"), [5, 3, 2, 0]),
        (gaussian("100"), [22, 20, 3, 2]),
        (laplace("1"), [7, 6, 5, 2]),
        (laplace("2"), [4, 4, 4, 4]),
    ];
    for (mechanism, votes) in cases {
        let law = Law::of(&mechanism, 1);
        let mut wins = [0.0; CLASSES];
        for noise in rounds(&Sampler::new(&mechanism), SEEDS[0]) {
            wins[label(&votes.map(i64::from), &noise)] += 1.0;
        }
        for (found, expected) in wins.iter().zip(winners_under(&votes, &law)) {
            let deviation = (expected * (1.0 - expected) / ROUNDS as f64).sqrt();
            let difference = (found / ROUNDS as f64 - expected).abs();
            assert!(difference < 5.0 * deviation, "{mechanism}: {found} {expected}");
        }
    }
}

/// How so many draws fit their law, as they are made in product: many at once.
fn fit(mechanism: &Mechanism, draws: usize) -> Fit {
    const AT_ONCE: usize = 1_000;
    let (law, sampler) = (Law::of(mechanism, 1), Sampler::new(mechanism));
    let mut rng = StdRng::seed_from_u64(SEEDS[1]);
    let values = (0..draws / AT_ONCE).flat_map(|_| sampler.draw_many(AT_ONCE, &mut rng).to_vec());
    Fit::new(&law, &tally(&law, values).unwrap())
}

/// Four scales of each mechanism, the Gaussian's largest among them.
fn scales() -> impl Iterator<Item = Mechanism> {
    let laplaces = ["0.1", "0.5", "1", "2"].map(laplace);
    ["4", "100", "1600", "1048576"].map(gaussian).into_iter().chain(laplaces)
}

#[test]
fn half_a_million_draws_fit_at_every_scale() {
    for mechanism in scales() {
        let fit = fit(&mechanism, 500_000);
        assert!(fit.deviations().abs() < 5.0, "{mechanism}: {fit:?}");
    }
}

#[test]
#[ignore = "half a minute: run in release with --ignored --nocapture for the figures"]
#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn ten_million_draws_fit_at_every_scale() {
    for mechanism in scales() {
        let fit = fit(&mechanism, 10_000_000);
        let deviations = fit.deviations();
        println!(
            "{mechanism}: chi-square {:.1} of {} ({deviations:+.2} deviations)",
            fit.statistic, fit.freedom
        );
        assert!(deviations.abs() < 5.0, "{mechanism}: {fit:?}");
    }
}
