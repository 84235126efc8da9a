//! The network that NeuraCrypt encodes images with, and a clone of it that is trained on what it gave.
//!
//! A patch of an image goes through a convolution of its own size, ReLU, then some times {product, normalisation, ReLU},
//! has the vector of its position added, and goes through ReLU and one more product. All products act on one patch.

use super::{TrainError, library};
use candle_core::{Device, Result, Tensor};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Added to a variance before its root is taken.
pub const NORM_EPSILON: f64 = 1e-5;

/// A product with a matrix, and a sum.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Linear {
    /// `outputs x inputs`, row-major.
    pub weight: Vec<f32>,
    /// One for each output.
    pub bias: Vec<f32>,
}

/// A normalisation of each channel, as PyTorch's `BatchNorm2d` keeps it.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Norm {
    /// Factor of each channel; 1 unless it was trained.
    pub weight: Vec<f32>,
    /// What is added to it; 0 unless it was trained.
    pub bias: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance.
    pub variance: Vec<f32>,
}

/// All numbers of an encoder.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct EncoderParts {
    /// `width x values of a patch`.
    pub patch: Linear,
    /// `width x width` each.
    pub mixes: Vec<(Linear, Norm)>,
    /// `positions x width`.
    pub position: Vec<f32>,
    /// `width x width`.
    pub out: Linear,
}

/// Where a normalisation takes mean and variance from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch: what an image becomes depends on the images beside it.
    Batch,
    /// The running ones.
    Running,
}

pub(super) struct Layer {
    /// `inputs x outputs`.
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Layer {
    fn of(linear: &Linear) -> Result<Self> {
        let outputs = linear.bias.len();
        let inputs = linear.weight.len() / outputs.max(1);
        let weight = Tensor::from_slice(&linear.weight, (outputs, inputs), &Device::Cpu)?;
        Ok(Self { weight: weight.t()?.contiguous()?, bias: row(&linear.bias)? })
    }

    fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

fn row(values: &[f32]) -> Result<Tensor> {
    Tensor::from_slice(values, (1, values.len()), &Device::Cpu)
}

/// Weight, bias, mean and variance of a normalisation.
pub(super) struct Levels([Tensor; 4]);

impl Levels {
    fn of(norm: &Norm) -> Result<Self> {
        Ok(Self([row(&norm.weight)?, row(&norm.bias)?, row(&norm.mean)?, row(&norm.variance)?]))
    }

    /// The rows normalised, and by what mean and variance.
    fn apply(&self, rows: &Tensor, statistics: Statistics) -> Result<(Tensor, [Tensor; 2])> {
        let Self([weight, bias, mean, variance]) = self;
        let (centred, mean, variance) = match statistics {
            Statistics::Batch => {
                let mean = rows.mean_keepdim(0)?;
                let centred = rows.broadcast_sub(&mean)?;
                let variance = centred.sqr()?.mean_keepdim(0)?;
                (centred, mean, variance)
            }
            Statistics::Running => (rows.broadcast_sub(mean)?, mean.clone(), variance.clone()),
        };
        let factor = (weight / (&variance + NORM_EPSILON)?.sqrt()?)?;
        Ok((centred.broadcast_mul(&factor)?.broadcast_add(bias)?, [mean, variance]))
    }
}

/// An encoder as tensors.
pub(super) struct Tensors {
    pub(super) patch: Layer,
    pub(super) mixes: Vec<(Layer, Levels)>,
    pub(super) position: Tensor,
    pub(super) out: Layer,
    pub(super) width: usize,
    pub(super) positions: usize,
}

impl Tensors {
    pub(super) fn of(parts: &EncoderParts) -> Result<Self> {
        let width = parts.out.bias.len();
        let positions = parts.position.len() / width.max(1);
        let mixes = parts.mixes.iter().map(|(linear, norm)| Ok((Layer::of(linear)?, Levels::of(norm)?)));
        Ok(Self {
            patch: Layer::of(&parts.patch)?,
            mixes: mixes.collect::<Result<_>>()?,
            position: Tensor::from_slice(&parts.position, (1, positions, width), &Device::Cpu)?,
            out: Layer::of(&parts.out)?,
            width,
            positions,
        })
    }

    /// Values of a patch.
    pub(super) fn inputs(&self) -> Result<usize> {
        self.patch.weight.dim(0)
    }

    pub(super) fn parts(&self) -> Result<EncoderParts> {
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let linear = |layer: &Layer| -> Result<Linear> {
            Ok(Linear { weight: flat(&layer.weight.t()?.contiguous()?)?, bias: flat(&layer.bias)? })
        };
        let norm = |Levels([weight, bias, mean, variance]): &Levels| -> Result<Norm> {
            let [weight, bias] = [flat(weight)?, flat(bias)?];
            Ok(Norm { weight, bias, mean: flat(mean)?, variance: flat(variance)? })
        };
        let mixes = self.mixes.iter().map(|(layer, levels)| Ok((linear(layer)?, norm(levels)?)));
        Ok(EncoderParts {
            patch: linear(&self.patch)?,
            mixes: mixes.collect::<Result<_>>()?,
            position: flat(&self.position)?,
            out: linear(&self.out)?,
        })
    }

    /// Encodings of a batch, `images * positions x width`, and the means and variances of its normalisations.
    pub(super) fn forward(
        &self,
        patches: &Tensor,
        statistics: Statistics,
    ) -> Result<(Tensor, Vec<[Tensor; 2]>)> {
        let rows = patches.dim(0)?;
        let mut seen = Vec::with_capacity(self.mixes.len());
        let mut values = self.patch.apply(patches)?.relu()?;
        for (layer, levels) in &self.mixes {
            let (normal, found) = levels.apply(&layer.apply(&values)?, statistics)?;
            seen.push(found);
            values = normal.relu()?;
        }
        let by_image = values.reshape((rows / self.positions, self.positions, self.width))?;
        let placed = by_image.broadcast_add(&self.position)?.relu()?.reshape((rows, self.width))?;
        Ok((self.out.apply(&placed)?, seen))
    }
}

/// An encoder that is ready to work.
pub struct Encoder(Tensors);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder(..)")
    }
}

impl Encoder {
    /// Takes over the numbers. Their lengths go together; the caller has checked that.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn new(parts: &EncoderParts) -> std::result::Result<Self, TrainError> {
        Tensors::of(parts).map(Self).map_err(library("reading an encoder"))
    }

    /// Its numbers.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn parts(&self) -> std::result::Result<EncoderParts, TrainError> {
        self.0.parts().map_err(library("reading an encoder"))
    }

    /// What a batch of images becomes: `images x positions x width`. `patches` is `images x positions x values of a
    /// patch`.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn encode(
        &self,
        patches: &[f32],
        statistics: Statistics,
    ) -> std::result::Result<Vec<f32>, TrainError> {
        let encoded =
            self.rows(patches).and_then(|rows| self.0.forward(&rows, statistics)?.0.flatten_all()?.to_vec1());
        encoded.map_err(library("encoding a batch"))
    }

    /// Takes mean and variance of these images as the running ones.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn calibrate(&mut self, patches: &[f32]) -> std::result::Result<(), TrainError> {
        let seen = self.rows(patches).and_then(|rows| Ok(self.0.forward(&rows, Statistics::Batch)?.1));
        let seen = seen.map_err(library("measuring channels"))?;
        for ((_, Levels([_, _, mean, variance])), [found_mean, found_variance]) in
            self.0.mixes.iter_mut().zip(seen)
        {
            (*mean, *variance) = (found_mean, found_variance);
        }
        Ok(())
    }

    fn rows(&self, patches: &[f32]) -> Result<Tensor> {
        let values = self.0.inputs()?;
        Tensor::from_slice(patches, (patches.len() / values.max(1), values), &Device::Cpu)
    }
}
