//! Scenarios from the data beside the repository.

use crate::data::{DataError, Dataset, Set, load, owner_models};
use clap::ValueEnum;
use consilium::datasets::{SplitError, partition};
use consilium::demo::{Hospital, Progress, Releases, Scenario, ScenarioError, train_all, train_shards};
use consilium::training::{Examples, ExamplesError, Recipe};
use consilium_protocol::graph::{Layer, Network, NetworkError, Numbers, Shape, Window};
use std::path::Path;
use std::time::Duration;

const QUERY_DEADLINE: Duration = Duration::from_secs(300);
/// Standardised table features stay below this.
const FEATURE_BOUND: f64 = 64.0;

/// Data set and network of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Digits, 784-128-128-10
    Mnist,
    /// Digits, conv5x5x16-pool2-conv5x5x16-pool2-fc100-fc10
    MnistCnn,
    /// Garments, 784-128-128-10
    FashionMnist,
    /// Chest X-rays, 784-128-128-2
    PneumoniaMnist,
    /// Heart disease at four real hospitals, 15-32-16-2
    Heart,
    /// Readmission of diabetes patients, 59-64-32-2
    Diabetes,
    /// Breast cancer, 30-32-16-2
    Wdbc,
}

/// Why an evaluation cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A data file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The training.
    #[error(transparent)]
    Scenario(#[from] Box<ScenarioError>),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There are no trained networks for this choice.
    #[error("no trained owner networks for this data set and {0} owners; leave --shipped out")]
    NotShipped(usize),
}

impl Choice {
    /// The data set.
    pub fn set(self) -> Set {
        match self {
            Self::Mnist | Self::MnistCnn => Set::Mnist,
            Self::FashionMnist => Set::FashionMnist,
            Self::PneumoniaMnist => Set::PneumoniaMnist,
            Self::Heart => Set::Heart,
            Self::Diabetes => Set::Diabetes,
            Self::Wdbc => Set::Wdbc,
        }
    }

    /// Name of the recorded ensemble of this many owners.
    pub fn ensemble(self, owners: usize) -> String {
        format!("{}_{}_N{owners}", self.set().name(), self.split(owners))
    }

    /// How the records are split among this many owners.
    pub fn split(self, owners: usize) -> &'static str {
        if self == Self::Heart && owners == 4 { "hospital" } else { "iid" }
    }

    fn is_image(self) -> bool {
        !matches!(self, Self::Heart | Self::Diabetes | Self::Wdbc)
    }

    fn layers(self, classes: u32) -> Vec<Layer> {
        let dense = |outputs| Layer::Dense { outputs };
        let conv = || Layer::Conv { outputs: 16, window: Window::plain(5, 1) };
        let pool = || Layer::MaxPool { window: Window::plain(2, 2) };
        match self {
            Self::MnistCnn => {
                let first = [conv(), Layer::Relu, pool(), conv(), Layer::Relu, pool()];
                first.into_iter().chain([dense(100), Layer::Relu, dense(classes)]).collect()
            }
            Self::Heart | Self::Wdbc => vec![dense(32), Layer::Relu, dense(16), Layer::Relu, dense(classes)],
            Self::Diabetes => vec![dense(64), Layer::Relu, dense(32), Layer::Relu, dense(classes)],
            _ => vec![dense(128), Layer::Relu, dense(128), Layer::Relu, dense(classes)],
        }
    }

    fn input(self, data: &Dataset) -> Shape {
        // A network of dense layers takes an image as a plain vector.
        if self == Self::MnistCnn { data.shape } else { Shape::vector(data.shape.len() as u32) }
    }

    fn value_bits(self) -> u32 {
        if self == Self::MnistCnn { 18 } else { 16 }
    }

    fn recipe(self, rows: usize) -> Recipe {
        match self {
            Self::MnistCnn => Recipe::convolution(rows),
            _ if self.is_image() => Recipe::images(rows),
            _ => Recipe::table(rows),
        }
    }
}

/// Loads the data and trains `shards` models of each owner, or takes the trained ones, one of each, if
/// `shipped`.
///
/// # Errors
/// The data are damaged, too few for so many owners or shards, or a training failed.
pub fn scenario(
    choice: Choice,
    (owners, shards): (usize, usize),
    shipped: bool,
    seed: u64,
    shared: &Path,
    progress: &Progress,
) -> Result<Scenario, EvaluationError> {
    let data = load(choice.set(), shared)?;
    let hospitals = if shipped {
        shipped_hospitals(choice, owners, shared)?
    } else {
        let network = Network::new(choice.input(&data), choice.layers(data.classes.len() as u32))?;
        let parts = parts(&data, choice, owners, seed)?;
        let recipe = |rows| choice.recipe(rows);
        let mut hospitals = train_all(&parts, &network, recipe, seed, progress).map_err(Box::new)?;
        train_shards(&mut hospitals, &parts, &network, recipe, (shards, seed), progress).map_err(Box::new)?;
        hospitals
    };
    let input = hospitals.first().map_or(data.shape, |hospital| hospital.model.network().input());
    let cnn = choice == Choice::MnistCnn;
    Ok(Scenario {
        name: format!("{}{}", choice.set().name(), if cnn { "-cnn" } else { "" }),
        title: format!(
            "{} ({})",
            data.name,
            hospitals.first().map_or_else(String::new, |h| h.model.network().summary())
        ),
        credit: "see shared/data/README.md".into(),
        input,
        classes: data.classes,
        input_abs_max: if choice.is_image() { 1.0 } else { FEATURE_BOUND },
        numbers: Numbers { fraction_bits: 16, value_bits: choice.value_bits() },
        normalisation: None,
        releases: Releases::usual(hospitals.iter().map(|hospital| hospital.voters().len()).sum()),
        hospitals,
        test: data.test,
        preprocessing: consilium::demo::Preprocessing::Pairwise,
        pool: if cnn { (1, 2) } else { (4, 12) },
        query_deadline: QUERY_DEADLINE,
        standby: None,
    })
}

fn parts(data: &Dataset, choice: Choice, owners: usize, seed: u64) -> Result<Vec<Examples>, EvaluationError> {
    match data.by_site() {
        Some(sites) if choice == Choice::Heart && owners == 4 => Ok(sites?),
        _ => Ok(partition(&data.train, owners, seed)?),
    }
}

fn shipped_hospitals(choice: Choice, owners: usize, shared: &Path) -> Result<Vec<Hospital>, EvaluationError> {
    if choice == Choice::MnistCnn {
        return Err(EvaluationError::NotShipped(owners));
    }
    let models =
        owner_models(shared, &choice.ensemble(owners)).map_err(|_| EvaluationError::NotShipped(owners))?;
    let named = models.into_iter().enumerate().map(|(index, model)| Hospital {
        name: format!("hospital-{:02}", index + 1),
        rows: 0,
        model,
        shards: Vec::new(),
    });
    Ok(named.collect())
}
