//! Square grey images, cut into patches.

use super::fault::LabError;
use super::shape::EncoderShape;
use crate::training::{OwnRows, Reading, own_labels};
use crate::vault::hex;
use ring::digest::{Context, SHA256};
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Images of patients, with labels where there are some; wiped when dropped.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Images {
    side: usize,
    pixels: Vec<f32>,
    labels: Vec<u8>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({} x {} x {})", self.count(), self.side, self.side)
    }
}

impl Images {
    /// Images of `side` by `side` pixels, row-major, one behind the other. Labels may be none at all.
    ///
    /// # Errors
    /// [`LabError::Images`] when there is none, a number is not finite, or the lengths do not go together.
    pub fn new(side: usize, pixels: Vec<f32>, labels: Vec<u8>) -> Result<Self, LabError> {
        let size = side.saturating_mul(side);
        let refused = |problem: String| Err(LabError::Images { problem });
        if size == 0 || pixels.is_empty() || !pixels.len().is_multiple_of(size) {
            return refused(format!("{} pixels are no images of {side} x {side}", pixels.len()));
        }
        let count = pixels.len() / size;
        if !labels.is_empty() && labels.len() != count {
            return refused(format!("{} labels for {count} images", labels.len()));
        }
        if pixels.iter().any(|pixel| !pixel.is_finite()) {
            return refused("a pixel is not a finite number".to_owned());
        }
        Ok(Self { side, pixels, labels })
    }

    /// Reads an IDX file of grey images, black as 0 and white as 1, and the IDX file of their labels.
    ///
    /// # Errors
    /// [`LabError::Rows`] names the file at fault; [`LabError::Images`] where images are not square and grey.
    pub fn read(path: &Path, labels: Option<&Path>) -> Result<Self, LabError> {
        let rows = OwnRows::read(path, &Reading { range: [0.0, 1.0], ..Reading::default() })?;
        let shape = rows.shape();
        if shape.channels != 1 || shape.height != shape.width {
            let problem = format!(
                "{} has images of {shape}; one channel, and as many rows as columns, are needed",
                path.display()
            );
            return Err(LabError::Images { problem });
        }
        let labels = labels.map_or(Ok(Vec::new()), |path| own_labels(path, rows.examples().rows()))?;
        Self::new(shape.height as usize, rows.examples().inputs().to_vec(), labels)
    }

    /// Rows, and columns, of an image.
    pub fn side(&self) -> usize {
        self.side
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.pixels.len() / (self.side * self.side)
    }

    /// All pixels.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// One label for each image, or none.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// SHA-256 of all pixels.
    pub(super) fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        self.pixels.iter().for_each(|pixel| context.update(&pixel.to_le_bytes()));
        hex::encode(context.finish().as_ref())
    }

    /// The images at these places.
    ///
    /// # Panics
    /// Where there is no such image.
    #[must_use]
    pub fn select(&self, places: &[usize]) -> Self {
        let size = self.side * self.side;
        let pixels = places.iter().flat_map(|place| &self.pixels[place * size..][..size]).copied().collect();
        let labels = if self.labels.is_empty() {
            Vec::new()
        } else {
            places.iter().map(|place| self.labels[*place]).collect()
        };
        Self { side: self.side, pixels, labels }
    }

    /// Patches of the images from `first` on, `images x positions x pixels of a patch`.
    pub(super) fn patches(&self, shape: EncoderShape, places: std::ops::Range<usize>) -> Vec<f32> {
        let (size, side, patch) = (shape.pixels(), shape.side, shape.patch);
        let mut patches = Vec::with_capacity(places.len() * size);
        for image in self.pixels[places.start * size..places.end * size].chunks_exact(size) {
            for (top, left) in
                (0..side).step_by(patch).flat_map(|top| (0..side).step_by(patch).map(move |left| (top, left)))
            {
                for row in top..top + patch {
                    patches.extend_from_slice(&image[row * side + left..][..patch]);
                }
            }
        }
        patches
    }

    /// Refuses images of another size than the encoder's.
    pub(super) fn fit(&self, shape: EncoderShape) -> Result<(), LabError> {
        if self.side == shape.side {
            return Ok(());
        }
        let problem = format!(
            "images of {0} x {0} pixels for an encoder of images of {1} x {1}",
            self.side, shape.side
        );
        Err(LabError::Images { problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_rows_of_their_own() {
        let pixels = (0..32).map(|pixel| pixel as f32).collect();
        let images = Images::new(4, pixels, vec![3, 4]).unwrap();
        let shape = EncoderShape { side: 4, patch: 2, width: 1, private_depth: 0 };
        let patches = images.patches(shape, 1..2);
        assert_eq!(patches[..4], [16.0, 17.0, 20.0, 21.0]);
        assert_eq!(patches[4..8], [18.0, 19.0, 22.0, 23.0]);
        assert_eq!(patches[12..], [26.0, 27.0, 30.0, 31.0]);
        assert_eq!(images.select(&[1]).labels(), [4]);
        assert!(images.fit(EncoderShape { side: 8, ..shape }).is_err());
    }

    #[test]
    fn what_is_no_images_is_refused() {
        for (side, pixels, labels) in [
            (0, vec![], vec![]),
            (2, vec![], vec![]),
            (2, vec![0.0; 5], vec![]),
            (2, vec![0.0; 8], vec![1]),
            (2, vec![0.0, 1.0, f32::NAN, 0.0], vec![]),
            (usize::MAX, vec![0.0], vec![]),
        ] {
            assert!(matches!(Images::new(side, pixels, labels), Err(LabError::Images { .. })));
        }
    }
}
