//! Targets that are shares of belief instead of one class.

use super::{Progress, Recipe, TrainError, batch, check_fit, fit, forward};
use crate::training::Examples;
use candle_core::{D, Device, Tensor};
use consilium_protocol::graph::Network;
use consilium_protocol::model::Model;

/// What the shares of a row may exceed 1 by, for rounding.
const ROUNDING: f32 = 1e-3;

/// For each row one share per class: not negative, together at most 1. A row whose shares add up to less
/// weighs less, one without any does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    classes: usize,
    shares: Vec<f32>,
}

/// Shares that are none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetsError {
    /// Not one share per class.
    #[error("{shares} shares do not make whole rows of {classes} classes; there must be at least one row")]
    Length {
        /// Shares given.
        shares: usize,
        /// Classes of one row.
        classes: usize,
    },
    /// Negative, not finite, or too many.
    #[error("the shares of row {row} are not between 0 and 1, or add up to more than 1")]
    Shares {
        /// Position of the row, from 0.
        row: usize,
    },
}

impl Targets {
    /// Checks row-major shares.
    ///
    /// # Errors
    /// [`TargetsError`] names what is wrong.
    pub fn new(classes: usize, shares: Vec<f32>) -> Result<Self, TargetsError> {
        if classes == 0 || shares.is_empty() || !shares.len().is_multiple_of(classes) {
            return Err(TargetsError::Length { shares: shares.len(), classes });
        }
        let sound = |row: &[f32]| {
            row.iter().all(|share| (0.0..=1.0 + ROUNDING).contains(share))
                && row.iter().sum::<f32>() <= 1.0 + ROUNDING
        };
        match shares.chunks(classes).position(|row| !sound(row)) {
            Some(row) => Err(TargetsError::Shares { row }),
            None => Ok(Self { classes, shares }),
        }
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.shares.len() / self.classes
    }

    /// Number of classes, at least 1.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All shares, row-major.
    pub fn shares(&self) -> &[f32] {
        &self.shares
    }

    /// The shares of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> &[f32] {
        &self.shares[row * self.classes..][..self.classes]
    }

    /// The class with the largest share, the lowest of equals.
    ///
    /// # Panics
    /// As [`row`](Self::row).
    pub fn class(&self, row: usize) -> u8 {
        super::largest(self.row(row))
    }
}

/// As [`train`](super::train), with targets in place of the examples' labels, which do not count.
///
/// # Errors
/// As there, and targets of another number of rows or classes.
pub fn train_soft(
    network: &Network,
    data: &Examples,
    targets: &Targets,
    recipe: &Recipe,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Model, TrainError> {
    check_fit(network, data)?;
    let (rows, classes) = (data.rows(), network.output().len());
    if (targets.rows(), targets.classes) != (rows, classes) {
        let found = [targets.rows(), targets.classes];
        return Err(TrainError::Targets { expected: [rows, classes], found });
    }
    let loss = |parameters: &[forward::Parameters], rows: &[usize]| {
        let shares: Vec<f32> = rows.iter().flat_map(|&row| targets.row(row)).copied().collect();
        let shares = Tensor::from_vec(shares, (rows.len(), classes), &Device::Cpu)?;
        let logits = forward::logits(network, parameters, batch(data, rows)?)?;
        let likelihoods = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        (shares * likelihoods)?.sum_all()?.affine(-1.0 / rows.len().max(1) as f64, 0.0)
    };
    fit(network, data.rows(), recipe, seed, progress, &loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{Optimiser, classify};
    use consilium_protocol::graph::{Layer, Shape};

    #[test]
    fn only_shares_are_targets() {
        let good = Targets::new(2, vec![0.25, 0.75, 0.0, 0.0, 0.5, 0.25]).unwrap();
        assert_eq!((good.rows(), good.classes(), good.row(2)), (3, 2, &[0.5, 0.25][..]));
        assert_eq!((good.class(0), good.class(1), good.class(2)), (1, 0, 0));
        for (classes, shares, rows) in [(0, vec![1.0], 1), (2, vec![1.0; 3], 3), (2, vec![], 0)] {
            assert_eq!(Targets::new(classes, shares), Err(TargetsError::Length { shares: rows, classes }));
        }
        for bad in [[-0.1, 0.5], [0.6, 0.6], [f32::NAN, 0.0], [f32::INFINITY, 0.0]] {
            let shares = [0.5, 0.5].into_iter().chain(bad).collect();
            assert_eq!(Targets::new(2, shares), Err(TargetsError::Shares { row: 1 }));
        }
    }

    /// Two clouds; the shares of a tenth of the rows are wrong and weigh little, the labels say nothing.
    #[test]
    fn targets_teach_and_light_rows_hardly_count() {
        let rows = 200usize;
        let inputs = (0..rows).flat_map(|row| {
            let side = if row % 2 == 0 { 1.0f32 } else { -1.0 };
            [side + (row % 7) as f32 * 0.05, side * 0.5 - (row % 5) as f32 * 0.05]
        });
        let data = Examples::new(2, inputs.collect(), vec![0; rows]).unwrap();
        let shares = (0..rows).flat_map(|row| match (row % 2, row % 10) {
            (0, 0) => [0.0, 0.05],
            (0, _) => [0.9, 0.1],
            _ => [0.1, 0.9],
        });
        let targets = Targets::new(2, shares.collect()).unwrap();
        let network = Network::new(Shape::vector(2), vec![Layer::Dense { outputs: 2 }]).unwrap();
        let (optimiser, learning_rate) = (Optimiser::Adam, 0.05);
        let recipe = Recipe { optimiser, learning_rate, batch: 20, epochs: 30, weight_decay: 0.0 };
        let model = train_soft(&network, &data, &targets, &recipe, 3, &mut |_, _| ()).unwrap();
        let found = classify(&model, &data).unwrap();
        assert!(found.iter().enumerate().all(|(row, class)| usize::from(*class) == row % 2));
        let short = Targets::new(2, vec![0.5; 4]).unwrap();
        let refused = train_soft(&network, &data, &short, &recipe, 3, &mut |_, _| ());
        assert!(matches!(refused, Err(TrainError::Targets { expected: [200, 2], found: [2, 2] })));
    }
}
