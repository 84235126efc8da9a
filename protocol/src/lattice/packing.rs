//! Which coefficients of which polynomials hold which words of a layer.
//!
//! One polynomial holds a block of the operand or of the weights so that coefficients of their product are
//! outputs (Huang et al., Cheetah, USENIX Security 2022, section 3). A fully connected layer is a
//! convolution of 1 x 1 images. *Columns* are what meets the same weights: vectors, images, or tiles of
//! images too large for a polynomial. With `H x W` words for each channel of a column, and blocks of `C`
//! channels, `M` outputs and `J` columns:
//!
//! | word | exponent |
//! |---|---|
//! | operand at channel c, row y, column x of column j | `(j M C + c) H W + y W + x` |
//! | weight of output m at channel c, kernel row y, column x | `(m C + C-1-c) H W + (kh-1-y) W + kw-1-x` |
//! | output m at row y, column x of column j | `(j M C + m C + C-1) H W + (y sy + kh-1) W + x sx + kw-1` |
//!
//! Only the terms of an output meet at its exponent, and what wraps around stays below the first output if
//! `J M C H W` is at most the degree. Padding is words that no operand has; strides skip exponents.

mod choose;

use super::prime::DEGREE;
use super::wire;
use crate::algebra::{ConvShape, LinearShape};
use std::ops::Range;

pub use choose::PackingError;

/// What the key holder encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encrypted {
    /// The operand: requests for each product, which may serve several weight matrices.
    Operand,
    /// The weights: requests once, which serve every operand.
    Weights,
}

/// Sizes of the blocks that share a polynomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// Input channels, or inputs.
    pub channels: usize,
    /// Output channels, or outputs.
    pub outputs: usize,
    /// Columns: vectors, images, or tiles of images.
    pub columns: usize,
    /// Output rows of a tile; all of them where an image is one tile.
    pub rows: usize,
}

/// A layer cut into polynomials. Both parties compute the same one from public shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    shape: ConvShape,
    encrypted: Encrypted,
    blocks: Blocks,
}

/// A coefficient and the word of a tensor that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The exponent.
    pub(super) exponent: usize,
    /// Index of the word.
    pub(super) word: usize,
}

/// The part of `0..len` that block `index` of the given size covers.
fn block(index: usize, size: usize, len: usize) -> Range<usize> {
    (index * size).min(len)..(index * size + size).min(len)
}

impl Packing {
    /// What is encrypted.
    pub fn encrypted(&self) -> Encrypted {
        self.encrypted
    }

    /// The sizes of the blocks.
    pub fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Ciphertexts that the key holder sends.
    pub fn requests(&self) -> usize {
        let outer = match self.encrypted {
            Encrypted::Operand => self.column_blocks(),
            Encrypted::Weights => self.output_blocks(),
        };
        outer * self.channel_blocks()
    }

    /// Bytes of each request.
    pub const fn request_bytes() -> usize {
        wire::CIPHERTEXT_BYTES
    }

    /// Ciphertexts that the evaluator sends back.
    pub fn replies(&self) -> usize {
        self.output_blocks() * self.column_blocks()
    }

    /// Bytes of a reply.
    ///
    /// # Panics
    /// If there is no such reply.
    pub fn reply_bytes(&self, reply: usize) -> usize {
        wire::reply_bytes(self.outputs_of(reply))
    }

    /// The requests that a reply is computed from. Replies with the same requests follow one another where
    /// the operand is encrypted; where the weights are, all replies of some columns do.
    ///
    /// # Panics
    /// If there is no such reply.
    pub fn requests_of(&self, reply: usize) -> Range<usize> {
        let (outputs, columns) = self.split(reply);
        let outer = match self.encrypted {
            Encrypted::Operand => columns,
            Encrypted::Weights => outputs,
        };
        outer * self.channel_blocks()..(outer + 1) * self.channel_blocks()
    }

    /// Words of the tensor that the key holder encrypts.
    pub fn encrypted_len(&self) -> usize {
        match self.encrypted {
            Encrypted::Operand => self.shape.input_len(),
            Encrypted::Weights => self.shape.weight_len(),
        }
    }

    /// Words of the tensor that the evaluator multiplies with.
    pub fn plain_len(&self) -> usize {
        match self.encrypted {
            Encrypted::Operand => self.shape.weight_len(),
            Encrypted::Weights => self.shape.input_len(),
        }
    }

    /// Words of the result.
    pub fn output_len(&self) -> usize {
        self.shape.output_len()
    }

    /// Terms of noise that may meet in one coefficient of a reply: coefficients of all the evaluator's
    /// polynomials in it.
    pub fn noise_terms(&self) -> usize {
        let coefficients = match self.encrypted {
            Encrypted::Operand => self.blocks.outputs * self.shape.kernel[0] * self.shape.kernel[1],
            Encrypted::Weights => self.blocks.columns * self.area(),
        };
        (coefficients * self.blocks.channels).min(DEGREE) * self.channel_blocks()
    }

    /// Number of blocks along the input channels: products that are added up for one reply.
    pub(super) fn channel_blocks(&self) -> usize {
        self.shape.channels.div_ceil(self.blocks.channels)
    }

    pub(super) fn output_blocks(&self) -> usize {
        self.shape.outputs.div_ceil(self.blocks.outputs)
    }

    fn column_blocks(&self) -> usize {
        self.columns().div_ceil(self.blocks.columns)
    }

    fn columns(&self) -> usize {
        self.shape.batch * self.shape.output_dims()[0].div_ceil(self.blocks.rows)
    }

    /// Rows and columns that a channel takes in a polynomial.
    fn dims(&self) -> [usize; 2] {
        dims(&self.shape, self.blocks.rows)
    }

    fn area(&self) -> usize {
        let [high, wide] = self.dims();
        high * wide
    }

    /// Blocks of outputs and of columns that a reply holds.
    ///
    /// # Panics
    /// If there is no such reply.
    pub(super) fn split(&self, reply: usize) -> (usize, usize) {
        assert!(reply < self.replies(), "reply {reply} of {}", self.replies());
        (reply % self.output_blocks(), reply / self.output_blocks())
    }

    /// Words of the result in a reply.
    fn outputs_of(&self, reply: usize) -> usize {
        let (outputs, columns) = self.split(reply);
        let [high, wide] = self.shape.output_dims();
        let rows = |column: usize| block(column / self.shape.batch, self.blocks.rows, high).len();
        let rows: usize = block(columns, self.blocks.columns, self.columns()).map(rows).sum();
        block(outputs, self.blocks.outputs, self.shape.outputs).len() * rows * wide
    }

    /// Places of a request.
    ///
    /// # Panics
    /// If there is no such request.
    pub(super) fn encrypted_places(&self, request: usize) -> Vec<Place> {
        assert!(request < self.requests(), "request {request} of {}", self.requests());
        let (outer, channels) = (request / self.channel_blocks(), request % self.channel_blocks());
        match self.encrypted {
            Encrypted::Operand => self.operand_places(outer, channels),
            Encrypted::Weights => self.weight_places(outer, channels),
        }
    }

    /// Places of the evaluator's polynomial for a reply and a block of channels.
    pub(super) fn plain_places(&self, reply: usize, channels: usize) -> Vec<Place> {
        let (outputs, columns) = self.split(reply);
        match self.encrypted {
            Encrypted::Operand => self.weight_places(outputs, channels),
            Encrypted::Weights => self.operand_places(columns, channels),
        }
    }

    fn operand_places(&self, columns: usize, channels: usize) -> Vec<Place> {
        let shape = &self.shape;
        let ([high, wide], area) = (self.dims(), self.area());
        let mut places = Vec::new();
        for (slot, column) in block(columns, self.blocks.columns, self.columns()).enumerate() {
            let (tile, image) = (column / shape.batch, column % shape.batch);
            let first = tile * self.blocks.rows * shape.stride[0];
            for (place, channel) in block(channels, self.blocks.channels, shape.channels).enumerate() {
                let base = (slot * self.blocks.outputs * self.blocks.channels + place) * area;
                for y in 0..high {
                    let row = (first + y).checked_sub(shape.padding[0]).filter(|row| *row < shape.height);
                    let Some(row) = row else { continue };
                    for x in 0..wide {
                        let across = x.checked_sub(shape.padding[1]).filter(|across| *across < shape.width);
                        let Some(across) = across else { continue };
                        let word = ((channel * shape.height + row) * shape.width + across) * shape.batch;
                        places.push(Place { exponent: base + y * wide + x, word: word + image });
                    }
                }
            }
        }
        places
    }

    fn weight_places(&self, outputs: usize, channels: usize) -> Vec<Place> {
        let shape = &self.shape;
        let ([_, wide], area, [rows, across]) = (self.dims(), self.area(), shape.kernel);
        let mut places = Vec::new();
        for (slot, output) in block(outputs, self.blocks.outputs, shape.outputs).enumerate() {
            for (place, channel) in block(channels, self.blocks.channels, shape.channels).enumerate() {
                let base = ((slot + 1) * self.blocks.channels - 1 - place) * area;
                for y in 0..rows {
                    for x in 0..across {
                        let exponent = base + (rows - 1 - y) * wide + across - 1 - x;
                        let word = ((output * shape.channels + channel) * rows + y) * across + x;
                        places.push(Place { exponent, word });
                    }
                }
            }
        }
        places
    }

    /// Places of the outputs in a reply.
    pub(super) fn output_places(&self, reply: usize) -> Vec<Place> {
        let (outputs, columns) = self.split(reply);
        let shape = &self.shape;
        let ([_, wide], area, [rows, across]) = (self.dims(), self.area(), shape.output_dims());
        let mut places = Vec::with_capacity(self.outputs_of(reply));
        for (slot, column) in block(columns, self.blocks.columns, self.columns()).enumerate() {
            let (tile, image) = (column / shape.batch, column % shape.batch);
            for (place, output) in block(outputs, self.blocks.outputs, shape.outputs).enumerate() {
                let base = ((slot * self.blocks.outputs + place + 1) * self.blocks.channels - 1) * area;
                for (y, row) in block(tile, self.blocks.rows, rows).enumerate() {
                    for x in 0..across {
                        let down = y * shape.stride[0] + shape.kernel[0] - 1;
                        let exponent = base + down * wide + x * shape.stride[1] + shape.kernel[1] - 1;
                        let word = ((output * rows + row) * across + x) * shape.batch + image;
                        places.push(Place { exponent, word });
                    }
                }
            }
        }
        places
    }
}

/// Rows and columns that a channel takes for so many output rows: what windows reach, no more.
fn dims(shape: &ConvShape, rows: usize) -> [usize; 2] {
    let reach = |positions: usize, axis: usize| (positions - 1) * shape.stride[axis] + shape.kernel[axis];
    [reach(rows, 0), reach(shape.output_dims()[1], 1)]
}

/// A layer as a convolution.
fn convolution(shape: &LinearShape) -> ConvShape {
    match *shape {
        LinearShape::Conv(shape) => shape,
        LinearShape::Dense { outputs, inputs, batch } => ConvShape {
            channels: inputs,
            height: 1,
            width: 1,
            outputs,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            batch,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_shape() -> impl Strategy<Value = LinearShape> {
        let image = (1_usize..4, 1_usize..9, 1_usize..9, 1_usize..4);
        let window = ([1_usize..4, 1..4], [1_usize..3, 1..3], [0_usize..3, 0..3, 0..3, 0..3], 1_usize..4);
        (image, window).prop_filter_map("fits", |((channels, height, width, outputs), window)| {
            let (kernel, stride, padding, batch) = window;
            let shape = ConvShape { channels, height, width, outputs, kernel, stride, padding, batch };
            let shape = LinearShape::Conv(shape);
            shape.check(1 << 20).is_ok().then_some(shape)
        })
    }

    /// The product of the packed polynomials over the integers modulo 2^64, output by output.
    fn evaluated(packing: &Packing, encrypted: &[u64], plain: &[u64]) -> Vec<u64> {
        let mut out = vec![0_u64; packing.output_len()];
        for reply in 0..packing.replies() {
            let mut sum = vec![0_u64; DEGREE];
            for (channels, request) in packing.requests_of(reply).enumerate() {
                for one in packing.encrypted_places(request) {
                    for other in packing.plain_places(reply, channels) {
                        let exponent = one.exponent + other.exponent;
                        let term = encrypted[one.word].wrapping_mul(plain[other.word]);
                        let target = &mut sum[exponent % DEGREE];
                        *target = if exponent < DEGREE {
                            target.wrapping_add(term)
                        } else {
                            target.wrapping_sub(term)
                        };
                    }
                }
            }
            let places = packing.output_places(reply);
            assert_eq!(places.len(), packing.outputs_of(reply));
            for place in places {
                out[place.word] = out[place.word].wrapping_add(sum[place.exponent]);
            }
        }
        out
    }

    fn check(shape: &LinearShape, packing: &Packing) {
        let words = |count: usize, salt: u64| -> Vec<u64> {
            (1..=count as u64).map(|at| (at ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()
        };
        let (w, x) = (words(shape.weight_len(), 1), words(shape.input_len(), 2));
        let mut expected = vec![0; shape.output_len()];
        shape.multiply_add(&mut expected, &w, &x);
        let found = match packing.encrypted() {
            Encrypted::Operand => evaluated(packing, &x, &w),
            Encrypted::Weights => evaluated(packing, &w, &x),
        };
        assert_eq!(found, expected, "{packing:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_word_finds_its_place(shape in any_shape()) {
            for encrypted in [Encrypted::Operand, Encrypted::Weights] {
                check(&shape, &Packing::choose(&shape, encrypted).unwrap());
            }
        }

        #[test]
        fn any_blocks_that_fit_will_do(shape in any_shape(), sizes in [1_usize..4, 1..4, 1..4, 1..9]) {
            let [channels, outputs, columns, rows] = sizes;
            let shape_of = convolution(&shape);
            let rows = rows.min(shape_of.output_dims()[0]);
            let blocks = Blocks { channels, outputs, columns, rows };
            for encrypted in [Encrypted::Operand, Encrypted::Weights] {
                let packing = Packing { shape: shape_of, encrypted, blocks };
                if channels * outputs * columns * packing.area() <= DEGREE {
                    check(&shape, &packing);
                }
            }
        }
    }

    #[test]
    fn a_full_polynomial_wraps_around_harmlessly() {
        let shape = LinearShape::Dense { outputs: 4, inputs: 8, batch: 256 };
        let blocks = Blocks { channels: 8, outputs: 4, columns: 256, rows: 1 };
        for encrypted in [Encrypted::Operand, Encrypted::Weights] {
            check(&shape, &Packing { shape: convolution(&shape), encrypted, blocks });
        }
    }

    #[test]
    fn tiles_overlap() {
        let shape = ConvShape {
            channels: 1,
            height: 120,
            width: 100,
            outputs: 2,
            kernel: [3, 3],
            stride: [2, 1],
            padding: [1, 0, 1, 2],
            batch: 2,
        };
        let shape = LinearShape::Conv(shape);
        let packing = Packing::choose(&shape, Encrypted::Operand).unwrap();
        assert!(packing.blocks().rows < 60);
        check(&shape, &packing);
        let words: BTreeSet<usize> = (0..packing.replies())
            .flat_map(|reply| packing.output_places(reply))
            .map(|place| place.word)
            .collect();
        assert_eq!(words.len(), shape.output_len());
    }
}
