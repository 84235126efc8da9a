//! A linear layer as a shape: fully connected or convolution, one product either way.

use super::conv::{self, ConvShape, product};
use super::matmul::{self, MatmulShape};
use serde::{Deserialize, Serialize};

/// Shape of a linear layer over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum LinearShape {
    /// `outputs x inputs` weights times `[inputs][batch]`.
    Dense {
        /// Rows of the weights.
        outputs: usize,
        /// Columns of the weights.
        inputs: usize,
        /// Vectors side by side.
        batch: usize,
    },
    /// A convolution.
    Conv(ConvShape),
}

/// Why a shape is not one of a layer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinearError {
    /// Some tensor of the layer has no words: a dimension is 0 or a kernel does not fit.
    #[error(
        "the {tensor} of the layer has no words; every dimension must be positive and the kernel fit the image"
    )]
    Empty {
        /// `input`, `padded input`, `output` or `weights`.
        tensor: &'static str,
    },
    /// Some tensor of the layer is larger than the caller allows.
    #[error("the {tensor} of the layer has {words} words, at most {words_max} are allowed")]
    TooLarge {
        /// `input`, `padded input`, `output` or `weights`.
        tensor: &'static str,
        /// Words it needs (`usize::MAX` stands for any larger number).
        words: usize,
        /// The limit.
        words_max: usize,
    },
}

impl LinearShape {
    /// Refuses empty shapes and those with a tensor of more than `words_max` words. A shape that
    /// comes from outside must pass this before anything is allocated for it.
    ///
    /// # Errors
    /// [`LinearError`] names the tensor.
    pub fn check(&self, words_max: usize) -> Result<(), LinearError> {
        let padded = match self {
            Self::Dense { .. } => self.input_len(),
            Self::Conv(shape) => shape.padded_len(),
        };
        let tensors = [
            ("input", self.input_len()),
            ("padded input", padded),
            ("weights", self.weight_len()),
            ("output", self.output_len()),
        ];
        for (tensor, words) in tensors {
            if words == 0 {
                return Err(LinearError::Empty { tensor });
            }
            if words > words_max {
                return Err(LinearError::TooLarge { tensor, words, words_max });
            }
        }
        Ok(())
    }

    /// Words of the input. Lengths saturate.
    pub fn input_len(&self) -> usize {
        match self {
            Self::Dense { inputs, batch, .. } => product(&[*inputs, *batch]),
            Self::Conv(shape) => shape.input_len(),
        }
    }

    /// Words of the output.
    pub fn output_len(&self) -> usize {
        match self {
            Self::Dense { outputs, batch, .. } => product(&[*outputs, *batch]),
            Self::Conv(shape) => shape.output_len(),
        }
    }

    /// Words of the weights.
    pub fn weight_len(&self) -> usize {
        match self {
            Self::Dense { outputs, inputs, .. } => product(&[*outputs, *inputs]),
            Self::Conv(shape) => shape.weight_len(),
        }
    }

    /// Length of the bias: outputs, or output channels.
    pub fn bias_len(&self) -> usize {
        match self {
            Self::Dense { outputs, .. } => *outputs,
            Self::Conv(shape) => shape.outputs,
        }
    }

    /// Terms in one output: inputs, or weights of one output channel. Bounds the growth of values.
    pub fn terms(&self) -> usize {
        match self {
            Self::Dense { inputs, .. } => *inputs,
            Self::Conv(shape) => shape.patch_len(),
        }
    }

    /// Queries side by side.
    pub fn batch(&self) -> usize {
        match self {
            Self::Dense { batch, .. } | Self::Conv(ConvShape { batch, .. }) => *batch,
        }
    }

    /// The same layer over another number of queries.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        match self {
            Self::Dense { outputs, inputs, .. } => Self::Dense { outputs, inputs, batch },
            Self::Conv(shape) => Self::Conv(ConvShape { batch, ..shape }),
        }
    }

    /// Adds the layer's product to `out`, wrapping; no bias.
    ///
    /// # Panics
    /// If a slice is not as long as the shape says.
    pub fn multiply_add(&self, out: &mut [u64], w: &[u64], x: &[u64]) {
        match self {
            Self::Dense { outputs, inputs, batch } => {
                let shape = MatmulShape { rows: *outputs, inner: *inputs, columns: *batch };
                matmul::multiply_add(out, w, x, shape);
            }
            Self::Conv(shape) => conv::convolve_add(out, w, x, shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONV: ConvShape = ConvShape {
        channels: 2,
        height: 3,
        width: 3,
        outputs: 4,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [0; 4],
        batch: 5,
    };

    #[test]
    fn a_kernel_as_large_as_the_image_is_a_dense_layer() {
        let conv = LinearShape::Conv(CONV);
        let dense = LinearShape::Dense { outputs: 4, inputs: 18, batch: 5 };
        let w: Vec<u64> = (0..72).map(|index| u64::MAX / (index + 1)).collect();
        let x: Vec<u64> = (0..90).map(|index| (index + 3) << 57 | index).collect();
        let (mut a, mut b) = (vec![1; 20], vec![1; 20]);
        conv.multiply_add(&mut a, &w, &x);
        dense.multiply_add(&mut b, &w, &x);
        assert_eq!(a, b);
        assert_ne!(a, vec![1; 20]);
        for shape in [conv, dense] {
            assert_eq!((shape.input_len(), shape.weight_len(), shape.output_len()), (90, 72, 20));
            assert_eq!((shape.bias_len(), shape.terms(), shape.batch()), (4, 18, 5));
            assert_eq!(shape.with_batch(1).output_len(), 4);
            assert_eq!(shape.check(90), Ok(()));
        }
    }

    #[test]
    fn empty_and_oversized_shapes_are_refused() {
        let shape = LinearShape::Dense { outputs: 4, inputs: 18, batch: 0 };
        assert_eq!(shape.check(90), Err(LinearError::Empty { tensor: "input" }));
        let shape = LinearShape::Conv(ConvShape { stride: [0, 1], ..CONV });
        assert_eq!(shape.check(90), Err(LinearError::Empty { tensor: "output" }));
        let wide = LinearShape::Conv(ConvShape { stride: [1 << 40; 2], padding: [1 << 40; 4], ..CONV });
        assert_eq!(wide.output_len(), 4 * 3 * 3 * 5);
        assert_eq!(
            wide.check(1 << 20),
            Err(LinearError::TooLarge { tensor: "padded input", words: usize::MAX, words_max: 1 << 20 })
        );
        let shape = LinearShape::Dense { outputs: usize::MAX, inputs: 3, batch: 1 };
        assert_eq!(
            shape.check(90),
            Err(LinearError::TooLarge { tensor: "weights", words: usize::MAX, words_max: 90 })
        );
    }
}
