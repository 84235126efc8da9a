//! What noise costs in accuracy: the product's samplers on plaintext votes, beside the baselines.

use crate::data::Ensemble;
use consilium_protocol::privacy::{Mechanism, NumberError, Ratio, Sampler};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use std::path::Path;

/// Noisy decisions behind each figure.
const DECISIONS_MIN: usize = 40_000;

/// Accuracy of a noisy vote at one setting.
#[derive(Clone, Debug, Serialize)]
pub struct NoisyAccuracy {
    /// Column of the baselines: `laplace_E` or `gnmax_S`.
    pub setting: String,
    /// One draw per class, as an attested module would make it.
    pub one_draw: f64,
    /// Two full draws per class, as two compute parties in software make them.
    pub two_draws: f64,
    /// The baseline for one draw of continuous noise, if it is recorded.
    pub baseline: Option<f64>,
    /// Standard error of `one_draw`.
    pub standard_error: f64,
}

/// Accuracy at every setting of the baselines. `record` names the row of the baselines to stand beside.
///
/// # Errors
/// A number is outside what the samplers support.
pub fn noisy_accuracies(
    ensemble: &Ensemble,
    shared: &Path,
    record: (&str, &str),
    seed: u64,
) -> Result<Vec<NoisyAccuracy>, NumberError> {
    let mut settings = Vec::new();
    for epsilon in ["0.05", "0.1", "0.2", "0.5", "1.0", "2.0"] {
        settings.push((format!("laplace_{epsilon}"), Mechanism::Laplace { epsilon: epsilon.parse()? }));
    }
    for sigma in [2u64, 5, 10, 40] {
        let sigma_squared = Ratio::new(sigma * sigma, 1)?;
        settings.push((format!("gnmax_{sigma}"), Mechanism::Gaussian { sigma_squared }));
    }
    let baselines = baselines(shared, record, ensemble.votes.len());
    let mut rng = StdRng::seed_from_u64(seed);
    Ok(settings
        .into_iter()
        .map(|(setting, mechanism)| {
            let sampler = Sampler::new(&mechanism);
            let (one_draw, decisions) = accuracy(ensemble, &sampler, 1, &mut rng);
            let (two_draws, _) = accuracy(ensemble, &sampler, 2, &mut rng);
            let standard_error = (one_draw * (1.0 - one_draw) / decisions as f64).sqrt();
            let baseline = baselines.iter().find(|(name, _)| *name == setting).map(|(_, value)| *value);
            NoisyAccuracy { setting, one_draw, two_draws, baseline, standard_error }
        })
        .collect())
}

fn accuracy(ensemble: &Ensemble, sampler: &Sampler, draws: usize, rng: &mut StdRng) -> (f64, usize) {
    let rows = ensemble.labels.len();
    let repeats = DECISIONS_MIN.div_ceil(rows.max(1));
    let mut right = 0usize;
    for row in 0..rows {
        let counts = ensemble.histogram(row);
        for _ in 0..repeats {
            let mut best = (i64::MIN, 0);
            for (class, count) in counts.iter().enumerate() {
                let noise: i64 = (0..draws).map(|_| sampler.draw(rng)).sum();
                let noisy = i64::from(*count) + noise;
                if noisy > best.0 {
                    best = (noisy, class);
                }
            }
            right += usize::from(best.1 == usize::from(ensemble.labels[row]));
        }
    }
    (right as f64 / (rows * repeats) as f64, rows * repeats)
}

/// The first recorded row of a data set, split and number of owners, as (column, value).
fn baselines(shared: &Path, (dataset, split): (&str, &str), owners: usize) -> Vec<(String, f64)> {
    let text = std::fs::read_to_string(shared.join("data/baselines/ensembles.csv")).unwrap_or_default();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let owners = owners.to_string();
    let row = lines.map(|line| line.split(',').collect::<Vec<_>>()).find(|row| {
        row.len() == columns.len()
            && row[0] == dataset
            && row[1] == split
            && row[2] == owners
            && row[3] == "0"
    });
    let Some(row) = row else { return Vec::new() };
    columns
        .iter()
        .zip(row)
        .filter_map(|(column, value)| Some(((*column).to_owned(), value.parse().ok()?)))
        .collect()
}
