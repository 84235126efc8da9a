//! Convolutions over `[channel][row][column][batch]`, batch innermost.
//!
//! A convolution is its weights (`outputs` rows of `channels * kernel rows * kernel columns`)
//! times the matrix of windows ([`im2col`]). That matrix is as many times larger than the input as
//! a kernel has positions, so [`convolve_add`] never builds it: an entry of it stands in the padded
//! input at a place that depends on its row plus a place that depends on its column.

use super::matmul::{self, MatmulShape, Source};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use zeroize::Zeroize;

/// A cross-correlation of one group over a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvShape {
    /// Input channels.
    pub channels: usize,
    /// Rows of a channel, without padding.
    pub height: usize,
    /// Columns of a channel, without padding.
    pub width: usize,
    /// Output channels.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps between windows, down and across.
    pub stride: [usize; 2],
    /// Zeros added at the top, left, bottom and right.
    pub padding: [usize; 4],
    /// Images side by side.
    pub batch: usize,
}

impl ConvShape {
    /// Rows and columns of an output channel; zeros if the kernel does not fit or a stride is 0.
    pub fn output_dims(&self) -> [usize; 2] {
        let [high, wide] = self.padded_dims();
        [positions(high, self.kernel[0], self.stride[0]), positions(wide, self.kernel[1], self.stride[1])]
    }

    /// Rows and columns of a channel with its padding.
    pub fn padded_dims(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        [
            self.height.saturating_add(top).saturating_add(bottom),
            self.width.saturating_add(left).saturating_add(right),
        ]
    }

    /// Words of the input with its padding, which [`convolve_add`] may hold for a while.
    pub fn padded_len(&self) -> usize {
        let [high, wide] = self.padded_dims();
        product(&[self.channels, high, wide, self.batch])
    }

    /// Weights of one output channel: the inner dimension of the matrix product.
    pub fn patch_len(&self) -> usize {
        product(&[self.channels, self.kernel[0], self.kernel[1]])
    }

    /// Words of the input.
    pub fn input_len(&self) -> usize {
        product(&[self.channels, self.height, self.width, self.batch])
    }

    /// Words of the output.
    pub fn output_len(&self) -> usize {
        product(&[self.outputs, self.columns()])
    }

    /// Words of the weights.
    pub fn weight_len(&self) -> usize {
        product(&[self.outputs, self.patch_len()])
    }

    /// Columns of the window matrix: output positions times batch.
    pub fn columns(&self) -> usize {
        let [high, wide] = self.output_dims();
        product(&[high, wide, self.batch])
    }
}

/// The window matrix, `patch_len x columns`, row-major; its columns run over
/// `[output row][output column][batch]`.
///
/// # Panics
/// If `x` is not `shape.input_len()` words.
pub fn im2col(x: &[u64], shape: &ConvShape) -> Vec<u64> {
    assert_eq!(x.len(), shape.input_len(), "input against {shape:?}");
    let mut matrix = vec![0; product(&[shape.patch_len(), shape.columns()])];
    fill_windows(&mut matrix, x, shape);
    matrix
}

/// Adds the convolution of `x` with the weights `w` to `out`, wrapping.
///
/// # Panics
/// If a slice is not as long as the shape says.
pub fn convolve_add(out: &mut [u64], w: &[u64], x: &[u64], shape: &ConvShape) {
    assert_eq!(out.len(), shape.output_len(), "output against {shape:?}");
    assert_eq!(w.len(), shape.weight_len(), "weights against {shape:?}");
    assert_eq!(x.len(), shape.input_len(), "input against {shape:?}");
    if out.is_empty() || w.is_empty() {
        return;
    }
    let padded = if shape.padding == [0; 4] { Cow::Borrowed(x) } else { Cow::Owned(pad(x, shape)) };
    let (bases, offsets) = places(shape);
    let matmul = MatmulShape { rows: shape.outputs, inner: bases.len(), columns: offsets.len() };
    matmul::multiply_add_from(out, w, Windows { words: &padded, bases: &bases, offsets: &offsets }, matmul);
    if let Cow::Owned(mut copy) = padded {
        copy.zeroize();
    }
}

/// Places of a kernel in `size` words; 0 if it does not fit or the stride is 0.
pub(super) fn positions(size: usize, kernel: usize, stride: usize) -> usize {
    let room = if kernel == 0 { None } else { size.checked_sub(kernel) };
    room.and_then(|room| room.checked_div(stride)).map_or(0, |steps| steps.saturating_add(1))
}

/// The product, or `usize::MAX` where it would be larger.
pub(super) fn product(factors: &[usize]) -> usize {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

#[derive(Clone, Copy)]
struct Windows<'a> {
    words: &'a [u64],
    bases: &'a [usize],
    offsets: &'a [usize],
}

impl Source for Windows<'_> {
    #[inline(always)]
    fn words(&self) -> &[u64] {
        self.words
    }

    #[inline(always)]
    fn base(&self, step: usize) -> usize {
        self.bases[step]
    }

    #[inline(always)]
    fn offset(&self, column: usize) -> usize {
        self.offsets[column]
    }

    #[inline(always)]
    fn whole_column(&self) -> Option<&[u64]> {
        None
    }
}

/// The input with its padding as words.
fn pad(x: &[u64], shape: &ConvShape) -> Vec<u64> {
    let ([high, wide], batch) = (shape.padded_dims(), shape.batch);
    let mut padded = vec![0; shape.padded_len()];
    let images = x.chunks_exact(shape.height * shape.width * batch);
    for (image, padded) in images.zip(padded.chunks_exact_mut(high * wide * batch)) {
        let lines = padded.chunks_exact_mut(wide * batch).skip(shape.padding[0]);
        for (line, padded) in image.chunks_exact(shape.width * batch).zip(lines) {
            padded[shape.padding[1] * batch..][..line.len()].copy_from_slice(line);
        }
    }
    padded
}

/// Places in the padded input: of each row of the window matrix, and of each of its columns.
fn places(shape: &ConvShape) -> (Vec<usize>, Vec<usize>) {
    let ([high, wide], batch) = (shape.padded_dims(), shape.batch);
    let mut bases = Vec::with_capacity(shape.patch_len());
    for channel in 0..shape.channels {
        for down in 0..shape.kernel[0] {
            let line = (channel * high + down) * wide;
            bases.extend((line..line + shape.kernel[1]).map(|place| place * batch));
        }
    }
    let mut offsets = Vec::with_capacity(shape.columns());
    let [rows, columns] = shape.output_dims();
    for row in 0..rows {
        for column in 0..columns {
            let place = (row * shape.stride[0] * wide + column * shape.stride[1]) * batch;
            offsets.extend(place..place + batch);
        }
    }
    (bases, offsets)
}

/// Writes the window matrix into a zeroed `matrix`; the lengths are right.
fn fill_windows(matrix: &mut [u64], x: &[u64], shape: &ConvShape) {
    let ConvShape { height, width, batch, stride, .. } = *shape;
    let [top, left, ..] = shape.padding;
    let [kernel_rows, kernel_columns] = shape.kernel;
    let wide = shape.output_dims()[1];
    let columns = shape.columns();
    if matrix.is_empty() {
        return;
    }
    let channels = x.chunks_exact(height * width * batch);
    for (channel, windows) in channels.zip(matrix.chunks_exact_mut(kernel_rows * kernel_columns * columns)) {
        for (position, line) in windows.chunks_exact_mut(columns).enumerate() {
            let (down, across) = (position / kernel_columns, position % kernel_columns);
            let inside = inside(wide, width, across, left, stride[1]);
            if inside.is_empty() {
                continue;
            }
            let from = (inside.start * stride[1] + across - left) * batch;
            for (row, target) in line.chunks_exact_mut(wide * batch).enumerate() {
                let Some(source_row) = (row * stride[0] + down).checked_sub(top).filter(|row| *row < height)
                else {
                    continue;
                };
                let source = &channel[source_row * width * batch..][..width * batch][from..];
                let target = &mut target[inside.start * batch..inside.end * batch];
                copy_spread(target, source, stride[1], batch);
            }
        }
    }
}

/// Output columns whose window has its column `across` inside the image.
fn inside(wide: usize, width: usize, across: usize, left: usize, stride: usize) -> Range<usize> {
    let first = left.saturating_sub(across).div_ceil(stride);
    let end = (width + left).saturating_sub(across).div_ceil(stride).min(wide);
    first.min(end)..end
}

/// Copies each `stride`-th group of `batch` words.
fn copy_spread(target: &mut [u64], source: &[u64], stride: usize, batch: usize) {
    if stride == 1 {
        target.copy_from_slice(&source[..target.len()]);
    } else if batch == 1 {
        for (word, from) in target.iter_mut().zip(source.iter().step_by(stride)) {
            *word = *from;
        }
    } else {
        for (group, from) in target.chunks_exact_mut(batch).zip(source.chunks(stride * batch)) {
            group.copy_from_slice(&from[..batch]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(count: usize, salt: u64) -> Vec<u64> {
        (0..count as u64)
            .map(|index| (index ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
            .collect()
    }

    /// The input at a padded place; zero outside the image.
    fn pixel(x: &[u64], s: &ConvShape, channel: usize, row: usize, column: usize, image: usize) -> u64 {
        let Some(row) = row.checked_sub(s.padding[0]).filter(|row| *row < s.height) else { return 0 };
        let Some(column) = column.checked_sub(s.padding[1]).filter(|column| *column < s.width) else {
            return 0;
        };
        x[((channel * s.height + row) * s.width + column) * s.batch + image]
    }

    fn naive(out: &mut [u64], w: &[u64], x: &[u64], s: &ConvShape) {
        let [high, wide] = s.output_dims();
        for (place, sum) in out.iter_mut().enumerate() {
            let image = place % s.batch;
            let column = place / s.batch % wide;
            let row = place / s.batch / wide % high;
            let output = place / s.batch / wide / high;
            for channel in 0..s.channels {
                for down in 0..s.kernel[0] {
                    for across in 0..s.kernel[1] {
                        let weight =
                            ((output * s.channels + channel) * s.kernel[0] + down) * s.kernel[1] + across;
                        let (at_row, at_column) = (row * s.stride[0] + down, column * s.stride[1] + across);
                        let value = pixel(x, s, channel, at_row, at_column, image);
                        *sum = sum.wrapping_add(w[weight].wrapping_mul(value));
                    }
                }
            }
        }
    }

    fn check(shape: &ConvShape) {
        let (w, x) = (words(shape.weight_len(), 1), words(shape.input_len(), 2));
        let mut expected = words(shape.output_len(), 3);
        let mut found = expected.clone();
        naive(&mut expected, &w, &x, shape);
        convolve_add(&mut found, &w, &x, shape);
        assert_eq!(found, expected, "{shape:?}");
        let mut product = words(shape.output_len(), 3);
        let matrix = im2col(&x, shape);
        let columns = shape.columns();
        let matmul = MatmulShape { rows: shape.outputs, inner: shape.patch_len(), columns };
        matmul::multiply_add(&mut product, &w, &matrix, matmul);
        assert_eq!(product, expected, "{shape:?} through im2col");
    }

    #[test]
    fn many_strips_and_steps_agree() {
        let shape = ConvShape {
            channels: 4,
            height: 30,
            width: 29,
            outputs: 3,
            kernel: [5, 5],
            stride: [1, 1],
            padding: [2; 4],
            batch: 3,
        };
        check(&shape);
    }

    #[test]
    fn huge_shapes_saturate() {
        let shape = ConvShape {
            channels: usize::MAX,
            height: usize::MAX,
            width: 2,
            outputs: 1,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [usize::MAX; 4],
            batch: 3,
        };
        assert_eq!(shape.input_len(), usize::MAX);
        assert_eq!(shape.output_len(), usize::MAX);
    }

    prop_compose! {
        fn conv_shapes()(
            [channels, outputs, batch] in prop::array::uniform3(1_usize..4),
            [height, width] in prop::array::uniform2(1_usize..9),
            kernel in prop::array::uniform2(1_usize..5),
            stride in prop::array::uniform2(1_usize..4),
            padding in prop::array::uniform4(0_usize..5),
        ) -> ConvShape {
            ConvShape { channels, height, width, outputs, kernel, stride, padding, batch }
        }
    }

    proptest! {
        #[test]
        fn any_convolution_agrees(shape in conv_shapes()) {
            check(&shape);
        }
    }
}
