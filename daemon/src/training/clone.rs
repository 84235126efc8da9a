//! A clone of an encoder, trained on images and what the encoder made of them.

use super::encoder::{EncoderParts, Statistics, Tensors};
use super::{Progress, TrainError, library};
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// How a clone is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloneRecipe {
    /// Steps of Adam.
    pub steps: usize,
    /// Images of a step.
    pub batch: usize,
    /// Learning rate of the first step; it falls to zero in a line.
    pub learning_rate: f64,
}

/// Trains all numbers of `start` but the normalisations, so that patches `images x positions x values of a patch` give
/// `targets`, `images x positions x width`, with the least mean absolute error. `progress` hears of each step.
///
/// # Errors
/// The tensor library failed, or the error ran away.
pub fn train_clone(
    start: &EncoderParts,
    patches: &[f32],
    targets: &[f32],
    recipe: CloneRecipe,
    seed: u64,
    progress: Progress<'_>,
) -> std::result::Result<EncoderParts, TrainError> {
    let trained = learn(start, patches, targets, recipe, seed, progress);
    trained.map_err(library("training a clone"))?.ok_or(TrainError::Overflow)
}

fn learn(
    start: &EncoderParts,
    patches: &[f32],
    targets: &[f32],
    recipe: CloneRecipe,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Option<EncoderParts>> {
    let mut tensors = Tensors::of(start)?;
    let variables = tensors.make_variable()?;
    let settings = ParamsAdamW { lr: recipe.learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adam = AdamW::new(variables, settings)?;
    let [of_patches, of_targets] = [tensors.positions * tensors.inputs()?, tensors.positions * tensors.width];
    let images = targets.len() / of_targets.max(1);
    let mut generator = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = Vec::new();
    for step in 0..recipe.steps {
        if order.len() < recipe.batch.min(images) {
            order = (0..images).collect();
            order.shuffle(&mut generator);
        }
        let batch: Vec<usize> = order.split_off(order.len() - recipe.batch.min(images));
        let loss = step_loss(&tensors, &batch, (patches, of_patches), (targets, of_targets))?;
        adam.set_learning_rate(recipe.learning_rate * (1.0 - step as f64 / recipe.steps as f64));
        adam.backward_step(&loss)?;
        progress(step + 1, recipe.steps);
    }
    let parts = tensors.parts()?;
    Ok(parts.out.weight.iter().all(|value| value.is_finite()).then_some(parts))
}

fn step_loss(
    tensors: &Tensors,
    batch: &[usize],
    (patches, of_patches): (&[f32], usize),
    (targets, of_targets): (&[f32], usize),
) -> Result<Tensor> {
    let rows = batch.len() * tensors.positions;
    let taken = |values: &[f32], size: usize| -> Result<Tensor> {
        let taken: Vec<f32> =
            batch.iter().flat_map(|image| &values[image * size..][..size]).copied().collect();
        Tensor::from_vec(taken, (rows, size / tensors.positions), &Device::Cpu)
    };
    let (found, _) = tensors.forward(&taken(patches, of_patches)?, Statistics::Batch)?;
    (found - taken(targets, of_targets)?)?.abs()?.mean_all()
}

impl Tensors {
    /// Makes all but the normalisations trainable.
    fn make_variable(&mut self) -> Result<Vec<Var>> {
        let mut variables = Vec::new();
        let mut vary = |tensor: &mut Tensor| -> Result<()> {
            let variable = Var::from_tensor(tensor)?;
            *tensor = variable.as_tensor().clone();
            variables.push(variable);
            Ok(())
        };
        for layer in
            [&mut self.patch, &mut self.out].into_iter().chain(self.mixes.iter_mut().map(|(layer, _)| layer))
        {
            vary(&mut layer.weight)?;
            vary(&mut layer.bias)?;
        }
        vary(&mut self.position)?;
        Ok(variables)
    }
}
