//! What a run shows: data, hospitals with their models, releases.

use super::measure::Progress;
use crate::datasets::{
    Normalisation, NormalisationError, SplitError, breast_cancer as breast_cancer_table, deal, partition,
    split,
};
use crate::training::{Examples, ExamplesError, Recipe, TrainError, train};
use consilium_attest::Policy;
use consilium_config::{Features, ModuleSocket, NoiseRule};
use consilium_protocol::graph::{Layer, Network, NetworkError, Numbers, Shape};
use consilium_protocol::model::Model;
use std::time::Duration;

/// Test rows of the breast cancer table: a fifth.
const TEST_FRACTION: f64 = 0.2;
/// Standardised features are clipped to this magnitude, the public bound of the task.
const FEATURE_BOUND: f32 = 6.0;
const QUERY_DEADLINE: Duration = Duration::from_secs(20);
/// Watermarks of a pool with one model of each hospital, and the lowest with more.
const POOL: (u32, u32) = (48, 160);
const POOL_MIN: (u32, u32) = (8, 32);

/// One owner.
#[derive(Debug)]
pub struct Hospital {
    /// Name in the roster.
    pub name: String,
    /// Rows that it trained on.
    pub rows: usize,
    /// What it trained on all of them: what it would use alone.
    pub model: Model,
    /// Models of disjoint parts of its patients, which then vote in place of the one; or none.
    pub shards: Vec<Shard>,
}

/// A model of some of a hospital's patients.
#[derive(Debug)]
pub struct Shard {
    /// Their positions among the hospital's rows, going up.
    pub patients: Vec<usize>,
    /// What was trained on them.
    pub model: Model,
}

impl Hospital {
    /// The models that vote.
    pub fn voters(&self) -> Vec<&Model> {
        if self.shards.is_empty() {
            vec![&self.model]
        } else {
            self.shards.iter().map(|shard| &shard.model).collect()
        }
    }
}

/// Where the noise of a run comes from.
#[derive(Clone, Debug)]
pub struct Noise {
    /// What the tasks' rule is.
    pub rule: NoiseRule,
    /// A module that runs already. Without it, and where the rule asks for one, the run starts its own, for which
    /// nothing vouches.
    pub given: Option<GivenModule>,
}

impl Noise {
    /// Every party draws its own, or nobody draws any.
    pub fn software() -> Self {
        Self { rule: NoiseRule::Software, given: None }
    }
}

/// A module that somebody started.
#[derive(Clone, Debug)]
pub struct GivenModule {
    /// Where it listens.
    pub socket: ModuleSocket,
    /// What its evidence must say.
    pub policy: Policy,
}

/// The noisy releases of a run.
#[derive(Clone, Debug)]
pub struct Releases {
    /// Where their noise comes from.
    pub noise: Noise,
    /// Deviation of one draw of Gaussian noise, in votes, as an exact number: of each compute party's, or the
    /// module's.
    pub sigma: String,
    /// What every owner accepts in all in the service that is asked until it refuses.
    pub epsilon: String,
    /// Probability with which the promise may fail.
    pub delta: String,
    /// Budget of the evaluation, large enough for all queries.
    pub evaluation_epsilon: String,
    /// What the top count must reach for a label, if anything.
    pub confident: Option<Confident>,
}

/// The threshold of a release that may find no consensus.
#[derive(Clone, Debug)]
pub struct Confident {
    /// Votes.
    pub threshold: u32,
    /// Deviation of each compute party's noise on the top count, in votes, as an exact number.
    pub sigma: String,
}

/// Who makes the correlated randomness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preprocessing {
    /// The two compute parties themselves; nobody else is trusted
    Pairwise,
    /// A third peer, trusted not to collude with either
    Dealer,
}

/// Everything that a run needs.
#[derive(Debug)]
pub struct Scenario {
    /// Short name, also of the tasks.
    pub name: String,
    /// The question in words.
    pub title: String,
    /// Where the data come from.
    pub credit: String,
    /// Shape of one query.
    pub input: Shape,
    /// The answers.
    pub classes: Vec<String>,
    /// Public bound on each input value.
    pub input_abs_max: f64,
    /// Fixed-point numbers of the tasks.
    pub numbers: Numbers,
    /// Offset and scale per feature, where the client normalises raw values.
    pub normalisation: Option<Normalisation>,
    /// The owners.
    pub hospitals: Vec<Hospital>,
    /// Held-out rows as the client knows them.
    pub test: Examples,
    /// The noisy releases.
    pub releases: Releases,
    /// Who makes correlated randomness.
    pub preprocessing: Preprocessing,
    /// Bundles kept ready per task, low and high watermark.
    pub pool: (u32, u32),
    /// Longest time for one question.
    pub query_deadline: Duration,
    /// The slice of the budgets of a second pair, if there is one.
    pub standby: Option<String>,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The data cannot be split among so many.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The features cannot be normalised.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// The network does not fit the data.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A part of the rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// A hospital's training failed.
    #[error("training of {hospital}: {source}")]
    Training {
        /// The hospital.
        hospital: String,
        /// What failed.
        source: Box<TrainError>,
    },
}

impl Releases {
    /// Gaussian noise of a fifth of the votes, epsilon 8 at delta 1e-6.
    pub fn usual(votes: usize) -> Self {
        let fifths = votes.max(5);
        Self {
            noise: Noise::software(),
            sigma: format!("{fifths}/5"),
            epsilon: "8".into(),
            delta: "0.000001".into(),
            evaluation_epsilon: "1000".into(),
            confident: None,
        }
    }
}

impl Scenario {
    /// The public normalisation as the roster states it.
    pub fn features(&self) -> Option<Features> {
        let normalisation = self.normalisation.as_ref()?;
        Some(Features {
            names: (1..=normalisation.offset().len()).map(|number| format!("feature {number}")).collect(),
            offset: normalisation.offset().iter().map(|value| f64::from(*value)).collect(),
            scale: normalisation.scale().iter().map(|value| f64::from(*value)).collect(),
        })
    }

    /// Models of each owner.
    pub fn shards(&self) -> usize {
        self.hospitals.first().map_or(1, |hospital| hospital.voters().len())
    }

    /// All models that vote, hospital by hospital.
    pub fn voters(&self) -> Vec<&Model> {
        self.hospitals.iter().flat_map(Hospital::voters).collect()
    }

    /// A test row as the models take it.
    pub fn prepared(&self, row: usize) -> Vec<f64> {
        let raw = self.test.row(row).iter().map(|value| f64::from(*value));
        match self.features() {
            None => raw.collect(),
            Some(features) => {
                let bound = self.input_abs_max;
                raw.enumerate()
                    .map(|(at, value)| features.normalise(at, value).clamp(-bound, bound))
                    .collect()
            }
        }
    }
}

/// Bundles kept ready: fewer where each is for more models.
fn pool(shards: usize) -> (u32, u32) {
    let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
    ((POOL.0 / shards).max(POOL_MIN.0), (POOL.1 / shards).max(POOL_MIN.1))
}

/// Trains one model for each part, with progress.
///
/// # Errors
/// A training failed.
pub fn train_all(
    parts: &[Examples],
    network: &Network,
    recipe: impl Fn(usize) -> Recipe,
    seed: u64,
    progress: &Progress,
) -> Result<Vec<Hospital>, ScenarioError> {
    let bar = progress.bar("hospitals train", parts.len() as u64);
    let mut hospitals = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let name = format!("hospital-{:02}", index + 1);
        let trained = train(network, part, &recipe(part.rows()), seed + index as u64, &mut |_, _| {});
        let failed = |source| ScenarioError::Training { hospital: name.clone(), source: Box::new(source) };
        let model = trained.map_err(failed)?;
        hospitals.push(Hospital { name, rows: part.rows(), model, shards: Vec::new() });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(hospitals)
}

/// Has each hospital split its patients, the rows of `parts`, into as many shards and train a model on each.
/// A single shard is the whole, and there is nothing to do.
///
/// # Errors
/// Too few patients, or a training failed.
pub fn train_shards(
    hospitals: &mut [Hospital],
    parts: &[Examples],
    network: &Network,
    recipe: impl Fn(usize) -> Recipe,
    (shards, seed): (usize, u64),
    progress: &Progress,
) -> Result<(), ScenarioError> {
    if shards == 1 {
        return Ok(());
    }
    let bar = progress.bar("hospitals train shards", (hospitals.len() * shards) as u64);
    let mut numbers = seed.wrapping_add(hospitals.len() as u64)..;
    for (index, (hospital, part)) in hospitals.iter_mut().zip(parts).enumerate() {
        let own = seed.wrapping_add(index as u64);
        for (patients, seed) in deal(part.rows(), shards, own)?.into_iter().zip(&mut numbers) {
            let rows = part.select(&patients)?;
            let trained = train(network, &rows, &recipe(rows.rows()), seed, &mut |_, _| {});
            let failed = |source| ScenarioError::Training {
                hospital: hospital.name.clone(),
                source: Box::new(source),
            };
            let model = trained.map_err(failed)?;
            hospital.shards.push(Shard { patients, model });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The demo: Breast Cancer Wisconsin among `owners` hospitals, with one model each.
///
/// # Errors
/// Too many owners for the table, or a training failed.
pub fn breast_cancer(owners: usize, seed: u64, progress: &Progress) -> Result<Scenario, ScenarioError> {
    breast_cancer_shards(owners, 1, seed, progress)
}

/// The same with `shards` models of each hospital, trained on disjoint patients.
///
/// # Errors
/// Too many owners or shards for the table, or a training failed.
pub fn breast_cancer_shards(
    owners: usize,
    shards: usize,
    seed: u64,
    progress: &Progress,
) -> Result<Scenario, ScenarioError> {
    let table = breast_cancer_table();
    let (train_rows, test) = split(&table, TEST_FRACTION, seed)?;
    let normalisation = Normalisation::fit(&train_rows, FEATURE_BOUND)?;
    let parts = partition(&normalisation.apply(&train_rows)?, owners, seed)?;
    let input = Shape::vector(test.features() as u32);
    let dense = |outputs| Layer::Dense { outputs };
    let network = Network::new(input, vec![dense(32), Layer::Relu, dense(16), Layer::Relu, dense(2)])?;
    let mut hospitals = train_all(&parts, &network, Recipe::table, seed, progress)?;
    train_shards(&mut hospitals, &parts, &network, Recipe::table, (shards, seed), progress)?;
    Ok(Scenario {
        name: "breast-cancer".into(),
        title: "Is this breast mass malignant?".into(),
        credit: table.credit.into(),
        input,
        classes: table.class_names,
        input_abs_max: f64::from(FEATURE_BOUND),
        numbers: Numbers { fraction_bits: 16, value_bits: 12 },
        normalisation: Some(normalisation),
        hospitals,
        test,
        releases: Releases::usual(owners * shards),
        preprocessing: Preprocessing::Pairwise,
        pool: pool(shards),
        query_deadline: QUERY_DEADLINE,
        standby: None,
    })
}
