//! Accuracy and answer rate of the release under sharing, beside the baselines and the same noise in the clear.

use super::pair::{ReleaseError, release_votes};
use crate::data::Ensemble;
use crate::noise::PartyNoise;
use consilium_attest::NoiseError;
use consilium_protocol::evaluate::clear::decision;
use consilium_protocol::privacy::{
    Budget, COST_ONE, Delta, Mechanism, NumberError, Ratio, Sampler, epsilon_of,
};
use consilium_protocol::stock::Gadget;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use std::path::Path;

/// Decisions in the clear behind each figure, and behind each baseline.
const DECISIONS: usize = 40_000;
/// Standard errors by which a figure may miss its baseline; there are some twenty figures to a run.
const ERRORS_MAX: f64 = 4.0;
/// The promise at which attempts are counted.
const EPSILON: &str = "8";
const DELTA: &str = "1e-6";

/// One release, with its noise at one strength.
#[derive(Clone, Debug, Serialize)]
pub struct ReleasedRow {
    /// `gnmax_S` as in the baselines, or `confident_T_S1_S`.
    pub setting: String,
    /// The contract in words.
    pub mechanism: String,
    /// Whether both parties' noise together is that of the setting, so that the figures stand beside the
    /// baselines; else each party's is, as a contract with these numbers means in software.
    pub noise_together: bool,
    /// Queries asked.
    pub queries: usize,
    /// Of these, those that got a label.
    pub answered: usize,
    /// Share of queries with a label.
    pub answer_rate: f64,
    /// Share of right labels among them.
    pub accuracy: f64,
    /// The same of the product's samplers on plaintext votes.
    pub clear: Figures,
    /// The same of the baselines, for continuous noise.
    pub baseline: Option<Figures>,
    /// The larger distance of both shares from the baseline, in standard errors of their difference.
    pub errors_from_baseline: Option<f64>,
    /// Rho charged for each query, answered or not.
    pub rho: f64,
    /// What the baselines charge for an answered query of the contract's deviations.
    pub baseline_rho: Option<f64>,
    /// Epsilon of all queries at delta 1e-6.
    pub epsilon: f64,
    /// Queries that epsilon 8 at delta 1e-6 pays for.
    pub attempts: u64,
    /// Rounds of the release.
    pub rounds: u32,
    /// Bytes sent by each party, per query of a batch of 100.
    pub bytes: f64,
}

/// Two shares.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Of queries that got a label.
    pub answer_rate: f64,
    /// Of right labels among them.
    pub accuracy: f64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum ReleasedError {
    /// The run.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The noise.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// A parameter is outside what the mechanisms support.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// A budget.
    #[error(transparent)]
    Budget(#[from] consilium_protocol::privacy::BudgetError),
    /// A sum of losses.
    #[error(transparent)]
    Cost(#[from] consilium_protocol::privacy::CostError),
    /// Nothing is recorded for such an ensemble.
    #[error("the baselines have no row for {0}; take a data set and a number of owners that they have")]
    NoBaseline(String),
}

/// One row of the baselines.
struct Setting {
    name: String,
    sigma: u64,
    /// Votes, and the deviation of the noise on the top count.
    threshold: Option<(u32, u64)>,
    figures: Figures,
    rho: Option<f64>,
}

/// Every setting of the baselines for an ensemble, with the noise as recorded and as contracted. `record` names
/// the rows of the baselines.
///
/// # Errors
/// As [`ReleasedError`].
pub fn released_rows(
    ensemble: &Ensemble,
    shared: &Path,
    record: (&str, &str),
    queries: usize,
    gadget: Gadget,
) -> Result<Vec<ReleasedRow>, ReleasedError> {
    let settings = settings(shared, record, ensemble.votes.len());
    if settings.is_empty() {
        return Err(ReleasedError::NoBaseline(ensemble.name.clone()));
    }
    let mut rows = Vec::new();
    for setting in &settings {
        for together in [true, false] {
            rows.push(row(ensemble, setting, together, queries, gadget)?);
        }
    }
    Ok(rows)
}

fn row(
    ensemble: &Ensemble,
    setting: &Setting,
    together: bool,
    queries: usize,
    gadget: Gadget,
) -> Result<ReleasedRow, ReleasedError> {
    // Two parties with half of the variance each have together the noise of one.
    let variance = |sigma: u64| Ratio::new(sigma * sigma, 1 + u64::from(together));
    let sigma_squared = variance(setting.sigma)?;
    let mechanism = match setting.threshold {
        None => Mechanism::Gaussian { sigma_squared },
        Some((threshold, sigma)) => Mechanism::ConfidentGaussian {
            sigma_squared,
            threshold,
            threshold_sigma_squared: variance(sigma)?,
        },
    };
    let noise = PartyNoise::own(&mechanism)?;
    let released = release_votes(ensemble, queries, &mechanism, gadget, noise)?;
    let queries = released.answers.len();
    let labels = released.answers.iter().zip(&ensemble.labels);
    let right = labels.filter(|(answer, label)| **answer == Some(usize::from(**label))).count();
    let answered = released.answers.iter().flatten().count();
    let figures = figures(queries, answered, right);
    let cost = mechanism.cost().expect("all settings of the baselines have noise, which has a price");
    let delta: Delta = DELTA.parse()?;
    let budget = Budget { epsilon: EPSILON.parse()?, delta: Some(delta) };
    let baseline = together.then_some(setting.figures);
    Ok(ReleasedRow {
        setting: setting.name.clone(),
        mechanism: mechanism.to_string(),
        noise_together: together,
        queries,
        answered,
        answer_rate: figures.answer_rate,
        accuracy: figures.accuracy,
        clear: in_the_clear(ensemble, &mechanism, queries),
        baseline,
        errors_from_baseline: baseline.map(|baseline| errors(figures, baseline, queries)),
        rho: cost.amount() as f64 / COST_ONE as f64,
        baseline_rho: setting.rho.filter(|_| !together),
        epsilon: epsilon_of(cost.times(queries as u64)?, Some(delta))?,
        attempts: budget.labels(&mechanism)?.unwrap_or(0),
        rounds: released.meter.rounds,
        bytes: released.meter.bytes as f64 / released.batch as f64,
    })
}

fn figures(queries: usize, answered: usize, right: usize) -> Figures {
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    Figures { answer_rate: share(answered, queries), accuracy: share(right, answered) }
}

/// The larger distance of both shares in standard errors, those of the baselines' own draws included.
fn errors(found: Figures, baseline: Figures, queries: usize) -> f64 {
    let distance = |found: f64, baseline: f64, samples: f64, recorded: f64| {
        let variance = (baseline * (1.0 - baseline)).max(1.0 / samples) * (1.0 / samples + 1.0 / recorded);
        (found - baseline).abs() / variance.sqrt()
    };
    let (samples, recorded) = (queries as f64, DECISIONS as f64);
    let rate = distance(found.answer_rate, baseline.answer_rate, samples, recorded);
    let answered = |samples: f64| (samples * baseline.answer_rate).max(1.0);
    rate.max(distance(found.accuracy, baseline.accuracy, answered(samples), answered(recorded)))
}

/// The same noise on plaintext votes: two draws for each count, as two parties make them.
fn in_the_clear(ensemble: &Ensemble, mechanism: &Mechanism, queries: usize) -> Figures {
    let mut rng = StdRng::seed_from_u64(1);
    let sampler = Sampler::new(mechanism);
    let top = mechanism.threshold_noise().map(|noise| Sampler::new(&noise));
    let repeats = DECISIONS.div_ceil(queries.max(1));
    let (mut answered, mut right) = (0, 0);
    for row in 0..queries {
        let counts: Vec<i64> = ensemble.histogram(row).into_iter().map(i64::from).collect();
        for _ in 0..repeats {
            let mut two = |sampler: &Sampler| sampler.draw(&mut rng) + sampler.draw(&mut rng);
            let noise: Vec<i64> = counts.iter().map(|_| two(&sampler)).collect();
            let threshold =
                mechanism.threshold().zip(top.as_ref()).map(|(votes, top)| (votes.into(), two(top)));
            if let Some(label) = decision(&counts, &noise, threshold) {
                answered += 1;
                right += usize::from(label == usize::from(ensemble.labels[row]));
            }
        }
    }
    figures(queries * repeats, answered, right)
}

/// An error where a figure is further from its baseline than chance allows, or a price is another.
///
/// # Errors
/// Which, and by how much.
pub fn judge(rows: &[ReleasedRow]) -> Result<(), String> {
    for row in rows {
        if let Some(errors) = row.errors_from_baseline.filter(|errors| *errors > ERRORS_MAX) {
            return Err(format!("{}: {errors:.1} standard errors from the baseline", row.setting));
        }
        if let Some(rho) = row.baseline_rho.filter(|rho| (row.rho / rho - 1.0).abs() > 1e-9) {
            return Err(format!("{}: rho {} is charged, the baselines charge {rho}", row.setting, row.rho));
        }
    }
    Ok(())
}

fn settings(shared: &Path, (dataset, split): (&str, &str), owners: usize) -> Vec<Setting> {
    let owners = owners.to_string();
    let ours = |row: &Record| {
        row.text("dataset") == dataset && row.text("split") == split && row.text("owners") == owners
    };
    let mut settings = Vec::new();
    for row in records(&shared.join("data/baselines/ensembles.csv")) {
        if !ours(&row) || row.text("seed") != "0" {
            continue;
        }
        for sigma in [2, 5, 10, 40] {
            let name = format!("gnmax_{sigma}");
            let Some(accuracy) = row.number(&name) else { continue };
            let figures = Figures { answer_rate: 1.0, accuracy };
            settings.push(Setting { name, sigma, threshold: None, figures, rho: None });
        }
    }
    for row in records(&shared.join("data/baselines/confident_gnmax.csv")).filter(ours) {
        let whole = |name: &str| row.text(name).parse::<u64>().ok();
        let (Some(threshold), Some(top), Some(sigma)) =
            (whole("threshold"), whole("sigma1"), whole("sigma2"))
        else {
            continue;
        };
        let (Some(answer_rate), Some(accuracy)) = (row.number("answered"), row.number("acc_answered")) else {
            continue;
        };
        settings.push(Setting {
            name: format!("confident_{threshold}_{top}_{sigma}"),
            sigma,
            threshold: Some((threshold as u32, top)),
            figures: Figures { answer_rate, accuracy },
            rho: row.number("rho_per_answered"),
        });
    }
    settings
}

/// A line of a table of the baselines.
struct Record(Vec<(String, String)>);

impl Record {
    fn text(&self, column: &str) -> &str {
        self.0.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value)
    }

    fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }
}

fn records(path: &Path) -> impl Iterator<Item = Record> + use<> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let columns = lines.next().unwrap_or_default();
    let rows: Vec<Record> = lines.map(|row| Record(columns.iter().cloned().zip(row).collect())).collect();
    rows.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ensemble, shared_or_skip};

    #[test]
    fn the_release_under_sharing_is_as_accurate_as_recorded() {
        let Some(shared) = shared_or_skip("the noisy baselines under sharing") else { return };
        let ensemble = ensemble(&shared, "mnist_iid_N50").unwrap();
        let settings = settings(&shared, ("mnist", "iid"), 50);
        assert_eq!(settings.len(), 4 + 6);
        let wanted = ["gnmax_10", "confident_30_5_5"];
        let rows: Vec<ReleasedRow> = settings
            .iter()
            .filter(|setting| wanted.contains(&setting.name.as_str()))
            .flat_map(|setting| [true, false].map(|together| (setting, together)))
            .map(|(setting, together)| row(&ensemble, setting, together, 1000, Gadget::Digits).unwrap())
            .collect();
        assert_eq!(rows.len(), 4);
        judge(&rows).unwrap();
        // A threshold of 30 of 50 withholds some, and what is told is right more often.
        let [plain, _, confident, contract] = &rows[..] else { panic!("{rows:?}") };
        assert!((0.9..0.99).contains(&confident.answer_rate) && plain.answer_rate == 1.0);
        assert!(confident.accuracy > plain.accuracy);
        // Half of the variance in each party's hands costs twice as much.
        assert!((confident.rho - 0.12).abs() < 1e-9 && (contract.rho - 0.06).abs() < 1e-9);
    }

    #[test]
    fn another_price_or_accuracy_is_found() {
        let figures = Figures { answer_rate: 0.9, accuracy: 0.8 };
        assert!(errors(figures, figures, 1000) == 0.0);
        let fewer = Figures { answer_rate: 0.84, ..figures };
        assert!(errors(fewer, figures, 1000) > ERRORS_MAX && errors(fewer, figures, 20) < ERRORS_MAX);
        let worse = Figures { accuracy: 0.74, ..figures };
        assert!(errors(worse, figures, 1000) > ERRORS_MAX);
    }
}
