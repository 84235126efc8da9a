//! How far images are from each other, at each position and all together.

use crate::lab::LabError;
use crate::training::products;

/// Distances between all pairs of images.
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) positions: usize,
    /// `positions x images x images`.
    pub(super) patches: Vec<f32>,
    /// `images x images`.
    pub(super) whole: Vec<f32>,
}

impl Geometry {
    /// Of values `positions x images x width`.
    pub(super) fn of(values: &[f32], positions: usize, images: usize) -> Result<Self, LabError> {
        let width = values.len() / (positions * images).max(1);
        let centred = centred(values, images, width);
        let products = products(&centred, &centred, [positions, images, images, width])?;
        let mut squares = products;
        for square in squares.chunks_exact_mut(images * images) {
            let own: Vec<f32> = (0..images).map(|image| square[image * images + image]).collect();
            for (row, left) in square.chunks_exact_mut(images).zip(&own) {
                row.iter_mut()
                    .zip(&own)
                    .for_each(|(value, right)| *value = (left + right - 2.0 * *value).max(0.0));
            }
        }
        let mut whole = vec![0.0; images * images];
        for square in squares.chunks_exact(images * images) {
            whole.iter_mut().zip(square).for_each(|(sum, value)| *sum += value);
        }
        let root = |values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value = value.sqrt());
        root(&mut whole);
        root(&mut squares);
        Ok(Self { images, positions, patches: squares, whole })
    }

    /// No distances yet, to add to.
    pub(super) fn empty(positions: usize, images: usize) -> Self {
        let square = images * images;
        Self { images, positions, patches: vec![0.0; positions * square], whole: vec![0.0; square] }
    }

    /// Adds distances, each kind scaled to mean 1.
    pub(super) fn add(&mut self, other: &Self) {
        for (sums, values) in [(&mut self.patches, &other.patches), (&mut self.whole, &other.whole)] {
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64;
            let scale = if mean > 0.0 { (1.0 / mean) as f32 } else { 0.0 };
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
        }
    }
}

/// Without the mean of each position, which all images have in common and would cost digits.
fn centred(values: &[f32], images: usize, width: usize) -> Vec<f32> {
    let mut centred = values.to_vec();
    for position in centred.chunks_exact_mut((images * width).max(1)) {
        let mut mean = vec![0.0f32; width];
        for image in position.chunks_exact(width) {
            mean.iter_mut().zip(image).for_each(|(mean, value)| *mean += value / images as f32);
        }
        for image in position.chunks_exact_mut(width) {
            image.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        }
    }
    centred
}
