//! Accuracy of a distilled student against the budget: the product's samplers on recorded votes.

use crate::data::{DataError, Ensemble, Set, load};
use consilium::distill::{Ground, Labelled, LearnError, TestRows, sha256, student_network};
use consilium::training::{Examples, ExamplesError};
use consilium_protocol::graph::{NetworkError, Shape};
use consilium_protocol::privacy::{Budget, BudgetError, Delta, Mechanism, NumberError, Ratio, Sampler};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use std::path::Path;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Distilling {
    /// The data set.
    pub set: Set,
    /// Total privacy losses to spend.
    pub epsilons: Vec<Ratio>,
    /// Probability with which the promise may fail.
    pub delta: Delta,
    /// Deviations of the noise of one draw, in votes.
    pub sigmas: Vec<Ratio>,
    /// Divisions of the test records into unlabelled rows and rows to measure on.
    pub splits: u64,
    /// Records to measure on; the others are the client's unlabelled rows.
    pub test_rows: usize,
    /// Students of images are convolutional, as those of `consilium distill` from an image file.
    pub convolutions: bool,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum DistillingError {
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The student.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// A number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// A budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Nothing left on one side.
    #[error("{0} test rows leave nothing to label")]
    Split(usize),
}

/// Where noise comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draws {
    /// Both compute parties draw in full, as they do in software.
    Two,
    /// One draw that nobody knows, as an attested module would make it.
    One,
    /// As many answers without noise: what limits the student besides noise.
    Exact,
}

impl Draws {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Two, Self::One, Self::Exact];

    fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::One => 1,
            Self::Exact => 0,
        }
    }
}

/// One setting, over all divisions. Shares of 1.
#[derive(Clone, Debug, Serialize)]
pub struct Distilled {
    /// Total privacy loss.
    pub epsilon: f64,
    /// Deviation of one draw.
    pub sigma: f64,
    /// Where noise comes from.
    pub draws: Draws,
    /// Answers that the budget pays for and the student learned from.
    pub labels: usize,
    /// Of these, right ones.
    pub labels_right: f64,
    /// Right beliefs about the unlabelled rows, before any training.
    pub spread: f64,
    /// Accuracy of the student on rows that were no part of its making.
    pub student: f64,
    /// Standard deviation of that between divisions.
    pub student_deviation: f64,
    /// Accuracy of the vote without noise on the same rows.
    pub vote: f64,
}

/// One division of the records.
#[derive(Clone, Debug, Serialize)]
pub struct Division {
    /// Unlabelled records.
    pub unlabelled: usize,
    /// SHA-256 of their numbers as little-endian 32-bit words, in order.
    pub unlabelled_sha256: String,
    /// Records to measure on.
    pub test: usize,
    /// SHA-256 of their numbers.
    pub test_sha256: String,
}

#[derive(Clone, Copy)]
struct Sample {
    right: f64,
    spread: f64,
    student: f64,
    vote: f64,
}

/// Measures every setting. `progress` hears `(done, all)` after each student.
///
/// # Errors
/// The data are damaged, or a number is outside what the accountant or the sampler supports.
pub fn distilled(
    wanted: &Distilling,
    ensemble: &Ensemble,
    shared: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Division>, Vec<Distilled>), DistillingError> {
    let data = load(wanted.set, shared)?;
    if wanted.test_rows == 0 || wanted.test_rows >= data.test.rows() {
        return Err(DistillingError::Split(wanted.test_rows));
    }
    let settings = settings(wanted)?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); settings.len()];
    let mut divisions = Vec::new();
    let (mut done, all) = (0, settings.len() * wanted.splits as usize);
    for seed in 0..wanted.splits {
        let mut numbers: Vec<usize> = (0..data.test.rows()).collect();
        numbers.shuffle(&mut StdRng::seed_from_u64(seed));
        let (test, unlabelled) = numbers.split_at(wanted.test_rows);
        divisions.push(Division {
            unlabelled: unlabelled.len(),
            unlabelled_sha256: digest(unlabelled),
            test: test.len(),
            test_sha256: digest(test),
        });
        let side = Side {
            ensemble,
            shape: if wanted.convolutions { data.shape } else { Shape::vector(data.shape.len() as u32) },
            unlabelled,
            test: &data.test.select(test)?,
            test_numbers: test,
        };
        // The labels stay outside: the ground is what a client knows.
        let known = data.test.select(unlabelled)?;
        let known = Examples::new(known.features(), known.inputs().to_vec(), vec![0; unlabelled.len()])?;
        let ground = Ground::of(&known, seed);
        for (setting, samples) in settings.iter().zip(&mut samples) {
            samples.push(side.measure(&ground, setting, seed)?);
            done += 1;
            progress(done, all);
        }
    }
    let results = settings.iter().zip(&samples).map(|(setting, samples)| setting.summary(samples));
    Ok((divisions, results.collect()))
}

struct Setting {
    epsilon: f64,
    sigma: f64,
    draws: Draws,
    labels: usize,
    mechanism: Mechanism,
}

fn settings(wanted: &Distilling) -> Result<Vec<Setting>, DistillingError> {
    let real = |ratio: &Ratio| ratio.numerator() as f64 / ratio.denominator() as f64;
    let mut settings = Vec::new();
    for sigma in &wanted.sigmas {
        let square = |value: u64| value.saturating_mul(value);
        let sigma_squared = Ratio::new(square(sigma.numerator()), square(sigma.denominator()))?;
        let mechanism = Mechanism::Gaussian { sigma_squared };
        for epsilon in &wanted.epsilons {
            let budget = Budget { epsilon: *epsilon, delta: Some(wanted.delta) };
            let labels = usize::try_from(budget.labels(&mechanism)?.unwrap_or(0)).unwrap_or(usize::MAX);
            if labels == 0 {
                continue;
            }
            for draws in Draws::ALL {
                let (epsilon, sigma, mechanism) = (real(epsilon), real(sigma), mechanism);
                settings.push(Setting { epsilon, sigma, draws, labels, mechanism });
            }
        }
    }
    Ok(settings)
}

impl Setting {
    fn summary(&self, samples: &[Sample]) -> Distilled {
        let count = samples.len().max(1) as f64;
        let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
        let student = mean(|sample| sample.student);
        let squares: f64 = samples.iter().map(|sample| (sample.student - student).powi(2)).sum();
        Distilled {
            epsilon: self.epsilon,
            sigma: self.sigma,
            draws: self.draws,
            labels: self.labels,
            labels_right: mean(|sample| sample.right),
            spread: mean(|sample| sample.spread),
            student,
            student_deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            vote: mean(|sample| sample.vote),
        }
    }
}

/// One division with everything to judge a student by.
struct Side<'a> {
    ensemble: &'a Ensemble,
    shape: Shape,
    unlabelled: &'a [usize],
    test: &'a Examples,
    test_numbers: &'a [usize],
}

impl Side<'_> {
    fn measure(&self, ground: &Ground<'_>, setting: &Setting, seed: u64) -> Result<Sample, DistillingError> {
        let clusters = ground.clusters(setting.labels.min(self.unlabelled.len()));
        let sampler = Sampler::new(&setting.mechanism);
        let mut rng = StdRng::seed_from_u64(seed);
        let answers: Vec<Labelled> = clusters
            .iter()
            .map(|cluster| {
                let counts = self.ensemble.histogram(self.unlabelled[cluster[0]]);
                let class = noisy_class(&counts, &sampler, setting.draws.count(), &mut rng);
                Labelled { row: cluster[0], class }
            })
            .collect();
        let classes = u32::try_from(self.ensemble.classes).unwrap_or(u32::MAX);
        let network = student_network(self.shape, classes)?;
        let taught = ground.teach(&network, &answers, &mut |_, _| ())?;
        let truth = |row: usize| self.ensemble.labels[self.unlabelled[row]];
        let right = answers.iter().filter(|answer| answer.class == truth(answer.row)).count();
        let believed =
            (0..self.unlabelled.len()).filter(|row| taught.targets.class(*row) == truth(*row)).count();
        let voted = |row: &&usize| self.ensemble.majority(**row) == self.ensemble.labels[**row];
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Ok(Sample {
            right: share(right, answers.len()),
            spread: share(believed, self.unlabelled.len()),
            student: TestRows { rows: self.test.clone() }
                .accuracy(&taught.model)
                .map_err(LearnError::from)?,
            vote: share(self.test_numbers.iter().filter(voted).count(), self.test_numbers.len()),
        })
    }
}

/// The class with the most votes after noise, the lowest of equals.
fn noisy_class(counts: &[u32], sampler: &Sampler, draws: usize, rng: &mut StdRng) -> u8 {
    let mut best = (i64::MIN, 0);
    for (class, count) in (0..=u8::MAX).zip(counts) {
        let noise: i64 = (0..draws).map(|_| sampler.draw(rng)).sum();
        let noisy = i64::from(*count) + noise;
        if noisy > best.0 {
            best = (noisy, class);
        }
    }
    best.1
}

fn digest(numbers: &[usize]) -> String {
    let words = numbers.iter().flat_map(|number| (*number as u32).to_le_bytes());
    sha256(&words.collect::<Vec<u8>>())
}
