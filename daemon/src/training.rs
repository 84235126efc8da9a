//! Training of owners' networks, for demonstrations, the lab and distillation.
//!
//! Outside what Consilium exists for, hence a library's tensors and gradients behind one small interface: [`train`]
//! makes a [`Model`] of a [`Network`] and [`Examples`] by a [`Recipe`], [`classify`] applies one in the clear.
//! Equal arguments give equal weights. Nothing else of the daemon may name the library.
//!
//! Runs on the processor with single precision. The library takes as many threads as `RAYON_NUM_THREADS` says,
//! else one per core: set it to 1 where many processes train side by side. The library does not wipe its buffers:
//! while a process trains, and after, copies of records and weights lie in its freed memory.

mod examples;
mod forward;
mod optimiser;
mod planes;
mod recipe;

pub use examples::{Examples, ExamplesError, ROWS_MAX, VALUES_MAX};
pub use recipe::{BATCH_MAX, EPOCHS_MAX, Optimiser, Recipe, RecipeError};

use candle_core::{Device, Tensor};
use consilium_protocol::graph::Network;
use consilium_protocol::model::{Model, ModelError};
use forward::Parameters;
use optimiser::Stepper;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Examples that [`classify`] evaluates at once.
const CLASSIFY_BATCH: usize = 256;

/// Why no model came out.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The rows are not what the network reads.
    #[error("the network reads {expected} values, the examples have {found} features")]
    Features {
        /// Values of one query.
        expected: usize,
        /// Features of one row.
        found: usize,
    },
    /// A label has no logit.
    #[error("a label is {label}, the network has {classes} outputs (classes count from 0)")]
    Label {
        /// The label.
        label: u8,
        /// Outputs of the network.
        classes: usize,
    },
    /// The network has no weights.
    #[error("network {network} has no layer with weights to train")]
    NothingToTrain {
        /// Summary of the network.
        network: String,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The weights ran away.
    #[error("training diverged; lower the learning rate, or scale the inputs to about 1")]
    Diverged(#[source] ModelError),
    /// The tensor library failed.
    #[error("tensor library, while {attempt}")]
    Library {
        /// What was being done.
        attempt: &'static str,
        /// What the library says.
        source: candle_core::Error,
    },
}

fn library(attempt: &'static str) -> impl Fn(candle_core::Error) -> TrainError {
    move |source| TrainError::Library { attempt, source }
}

/// Trains `network` from scratch on shuffled mini-batches under softmax cross-entropy. The same network, examples,
/// recipe and seed give the same model. `progress` hears `(epochs done, epochs)` after each epoch. Blocks for as
/// long as that takes: call it from a thread of its own.
///
/// # Errors
/// [`TrainError`] when the arguments do not fit together, or the weights stop being finite numbers.
pub fn train(
    network: &Network,
    data: &Examples,
    recipe: &Recipe,
    seed: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Model, TrainError> {
    recipe.check()?;
    check_fit(network, data)?;
    let classes = network.output().len();
    if let Some(&label) = data.labels().iter().find(|&&label| usize::from(label) >= classes) {
        return Err(TrainError::Label { label, classes });
    }
    if !network.layers().iter().any(|layer| layer.is_linear()) {
        return Err(TrainError::NothingToTrain { network: network.summary() });
    }
    let mut generator = StdRng::seed_from_u64(seed);
    let parameters = forward::initialise(network, &mut generator).map_err(library("making the weights"))?;
    let steps = recipe.epochs.saturating_mul(data.rows().div_ceil(recipe.batch));
    let mut stepper =
        Stepper::new(recipe, &parameters, steps).map_err(library("setting up the optimiser"))?;
    let mut order: Vec<usize> = (0..data.rows()).collect();
    for epoch in 1..=recipe.epochs {
        order.shuffle(&mut generator);
        for rows in order.chunks(recipe.batch) {
            let gradients = loss(network, &parameters, data, rows).and_then(|loss| loss.backward());
            let gradients = gradients.map_err(library("computing a gradient"))?;
            stepper.step(&gradients).map_err(library("taking a step"))?;
        }
        progress(epoch, recipe.epochs);
    }
    let model = forward::export(network, &parameters).map_err(library("reading the weights"))?;
    model.map_err(TrainError::Diverged)
}

/// The class with the largest logit for each row, the lowest of equals, in single precision and in the clear.
///
/// # Errors
/// Rows that the model does not read.
pub fn classify(model: &Model, data: &Examples) -> Result<Vec<u8>, TrainError> {
    let network = model.network();
    check_fit(network, data)?;
    let parameters = forward::import(model).map_err(library("reading the weights"))?;
    let rows: Vec<usize> = (0..data.rows()).collect();
    let mut labels = Vec::with_capacity(data.rows());
    for rows in rows.chunks(CLASSIFY_BATCH) {
        let scores = batch(data, rows)
            .and_then(|rows| forward::logits(network, &parameters, rows)?.to_vec2::<f32>())
            .map_err(library("evaluating a batch"))?;
        labels.extend(scores.iter().map(|scores| largest(scores)));
    }
    Ok(labels)
}

/// Classes above 255 cannot be named by a label, so they are never chosen.
fn largest(scores: &[f32]) -> u8 {
    let candidates = scores.iter().zip(0..=u8::MAX);
    candidates.reduce(|best, next| if next.0 > best.0 { next } else { best }).map_or(0, |(_, label)| label)
}

fn check_fit(network: &Network, data: &Examples) -> Result<(), TrainError> {
    let (expected, found) = (network.input().len(), data.features());
    if expected == found { Ok(()) } else { Err(TrainError::Features { expected, found }) }
}

fn batch(data: &Examples, rows: &[usize]) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = rows.iter().flat_map(|&row| data.row(row)).copied().collect();
    Tensor::from_vec(values, (rows.len(), data.features()), &Device::Cpu)
}

fn loss(
    network: &Network,
    parameters: &[Parameters],
    data: &Examples,
    rows: &[usize],
) -> candle_core::Result<Tensor> {
    let labels: Vec<u32> = rows.iter().map(|&row| u32::from(data.labels()[row])).collect();
    let labels = Tensor::from_vec(labels, rows.len(), &Device::Cpu)?;
    let logits = forward::logits(network, parameters, batch(data, rows)?)?;
    candle_nn::loss::cross_entropy(&logits, &labels)
}

#[cfg(test)]
mod tests;
