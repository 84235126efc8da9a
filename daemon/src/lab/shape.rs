//! The sizes of an encoder.

use super::fault::LabError;
use serde::{Deserialize, Serialize};

const SIDE_MAX: usize = 1024;
const POSITIONS_MAX: usize = 1024;
const WIDTH_MAX: usize = 4096;
const PRIVATE_DEPTH_MAX: usize = 16;
const PARAMETERS_MAX: usize = 1 << 28;

/// Sizes of an encoder for square grey images, which are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Rows, and columns, of an image.
    pub side: usize,
    /// Rows, and columns, of a patch.
    pub patch: usize,
    /// Channels.
    pub width: usize,
    /// Times a product, a normalisation and ReLU follow each other. The published encoder has 4.
    pub private_depth: usize,
}

impl EncoderShape {
    /// Refuses sizes that make no encoder, or one too large for this program.
    ///
    /// # Errors
    /// [`LabError::Shape`].
    pub fn check(self) -> Result<Self, LabError> {
        let Self { side, patch, width, private_depth } = self;
        let refused = |problem: String| Err(LabError::Shape { problem });
        if !(1..=SIDE_MAX).contains(&side) || !(1..=side).contains(&patch) || !side.is_multiple_of(patch) {
            return refused(format!(
                "patches of {patch} x {patch} do not fill images of {side} x {side} (at most {SIDE_MAX}); choose a patch that divides the side"
            ));
        }
        if self.positions() > POSITIONS_MAX {
            return refused(format!(
                "{} patches, at most {POSITIONS_MAX}; choose larger ones",
                self.positions()
            ));
        }
        if !(1..=WIDTH_MAX).contains(&width) || private_depth > PRIVATE_DEPTH_MAX {
            return refused(format!(
                "width {width} (1 to {WIDTH_MAX}) and private depth {private_depth} (at most {PRIVATE_DEPTH_MAX})"
            ));
        }
        if self.parameters() > PARAMETERS_MAX {
            return refused(format!("{} parameters, at most {PARAMETERS_MAX}", self.parameters()));
        }
        Ok(self)
    }

    /// Patches of an image.
    pub fn positions(self) -> usize {
        (self.side / self.patch).pow(2)
    }

    /// Pixels of a patch.
    pub fn patch_values(self) -> usize {
        self.patch * self.patch
    }

    /// Pixels of an image.
    pub fn pixels(self) -> usize {
        self.side * self.side
    }

    /// Numbers that make up one encoding.
    pub fn values(self) -> usize {
        self.positions() * self.width
    }

    /// The depth as its authors count it.
    pub fn depth(self) -> usize {
        self.private_depth + 3
    }

    /// Numbers of a key, factors and sums of the normalisations among them.
    pub fn parameters(self) -> usize {
        let Self { width, private_depth, .. } = self;
        let linear = |inputs: usize| inputs * width + width;
        linear(self.patch_values())
            + private_depth * (linear(width) + 2 * width)
            + self.values()
            + linear(width)
    }

    /// Multiplications to encode one image.
    pub fn products(self) -> usize {
        self.values() * (self.patch_values() + (self.private_depth + 1) * self.width)
    }
}

impl std::fmt::Display for EncoderShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { side, patch, width, .. } = self;
        write!(f, "{side}x{side} by {patch}x{patch}, width {width}, depth {}", self.depth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_encoder_has_its_published_size() {
        let shape = EncoderShape { side: 256, patch: 16, width: 2048, private_depth: 4 }.check().unwrap();
        assert_eq!((shape.positions(), shape.depth(), shape.values()), (256, 7, 524_288));
        assert_eq!(shape.parameters(), 22_048_768);
        assert!((5.4e9..5.6e9).contains(&(shape.products() as f64)));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let good = EncoderShape { side: 28, patch: 4, width: 256, private_depth: 4 };
        assert_eq!(good.check().unwrap().positions(), 49);
        for bad in [
            EncoderShape { patch: 5, ..good },
            EncoderShape { patch: 0, ..good },
            EncoderShape { side: 0, ..good },
            EncoderShape { side: usize::MAX, patch: 1, ..good },
            EncoderShape { side: 64, patch: 1, ..good },
            EncoderShape { width: 0, ..good },
            EncoderShape { width: 5000, ..good },
            EncoderShape { width: 4096, private_depth: 16, ..good },
            EncoderShape { private_depth: usize::MAX, ..good },
        ] {
            assert!(matches!(bad.check(), Err(LabError::Shape { .. })), "{bad:?}");
        }
    }
}
