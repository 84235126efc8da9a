//! Pooling windows over `[channel][row][column][batch]`, batch innermost, each channel by itself.

use super::conv::{positions, product};
use serde::{Deserialize, Serialize};

/// Windows without padding over each channel by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolShape {
    /// Channels.
    pub channels: usize,
    /// Rows of a channel.
    pub height: usize,
    /// Columns of a channel.
    pub width: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Steps between windows, down and across.
    pub stride: [usize; 2],
    /// Images side by side.
    pub batch: usize,
}

impl PoolShape {
    /// Rows and columns of an output channel; zeros if the window does not fit or a stride is 0.
    pub fn output_dims(&self) -> [usize; 2] {
        [
            positions(self.height, self.kernel[0], self.stride[0]),
            positions(self.width, self.kernel[1], self.stride[1]),
        ]
    }

    /// Words of the input.
    pub fn input_len(&self) -> usize {
        product(&[self.channels, self.height, self.width, self.batch])
    }

    /// Words of the output.
    pub fn output_len(&self) -> usize {
        let [high, wide] = self.output_dims();
        product(&[self.channels, high, wide, self.batch])
    }
}

/// Sum of the words under each window, wrapping, as `[channel][row][column][batch]`.
///
/// # Panics
/// If `x` is not `shape.input_len()` words.
pub fn sum_pool(x: &[u64], shape: &PoolShape) -> Vec<u64> {
    let mut sums = vec![0_u64; shape.output_len()];
    each_window_run(x, shape, |_, place, words| {
        for (sum, word) in sums[place..].iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    });
    sums
}

/// One vector per position inside the window (row by row): the word at that position of each
/// window, as `[channel][row][column][batch]`. The maximum over the vectors is a max-pool.
///
/// # Panics
/// If `x` is not `shape.input_len()` words.
pub fn gather_windows(x: &[u64], shape: &PoolShape) -> Vec<Vec<u64>> {
    let mut vectors = vec![vec![0; shape.output_len()]; product(&shape.kernel)];
    each_window_run(x, shape, |position, place, words| {
        vectors[position][place..][..words.len()].copy_from_slice(words);
    });
    vectors
}

/// Calls `each(position in the window, place in the output, words)` for runs that are contiguous
/// in both.
fn each_window_run(x: &[u64], shape: &PoolShape, mut each: impl FnMut(usize, usize, &[u64])) {
    assert_eq!(x.len(), shape.input_len(), "input against {shape:?}");
    if shape.output_len() == 0 {
        return;
    }
    let [high, wide] = shape.output_dims();
    let line_words = shape.width * shape.batch;
    let (run_words, runs, hop) = if shape.stride[1] == 1 {
        (wide * shape.batch, 1, 0)
    } else {
        (shape.batch, wide, shape.stride[1] * shape.batch)
    };
    let mut place = 0;
    for channel in x.chunks_exact(shape.height * line_words) {
        for row in 0..high {
            for position in 0..product(&shape.kernel) {
                let (down, across) = (position / shape.kernel[1], position % shape.kernel[1]);
                let start = (row * shape.stride[0] + down) * line_words + across * shape.batch;
                for run in 0..runs {
                    each(position, place + run * run_words, &channel[start + run * hop..][..run_words]);
                }
            }
            place += wide * shape.batch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::conv::{ConvShape, convolve_add};
    use proptest::prelude::*;

    #[test]
    fn shapes_that_do_not_fit_have_no_output() {
        let shape = PoolShape { channels: 2, height: 3, width: 3, kernel: [4, 1], stride: [1, 1], batch: 1 };
        assert_eq!(shape.output_dims(), [0, 3]);
        assert!(sum_pool(&[1; 18], &shape).is_empty());
        assert_eq!(PoolShape { kernel: [1, 1], stride: [0, 1], ..shape }.output_dims(), [0, 3]);
        assert_eq!(PoolShape { kernel: [0, 1], ..shape }.output_dims(), [0, 3]);
    }

    #[test]
    fn windows_are_gathered_position_by_position() {
        let shape = PoolShape { channels: 1, height: 2, width: 4, kernel: [2, 2], stride: [2, 2], batch: 1 };
        let vectors = gather_windows(&[0, 1, 2, 3, 4, 5, 6, 7], &shape);
        assert_eq!(vectors, [[0, 2], [1, 3], [4, 6], [5, 7]]);
    }

    prop_compose! {
        fn pool_shapes()(
            [channels, batch] in prop::array::uniform2(1_usize..4),
            [height, width] in prop::array::uniform2(1_usize..9),
            kernel in prop::array::uniform2(1_usize..5),
            stride in prop::array::uniform2(1_usize..4),
        ) -> PoolShape {
            PoolShape { channels, height, width, kernel, stride, batch }
        }
    }

    proptest! {
        #[test]
        fn windows_agree_with_a_convolution_of_ones(pool in pool_shapes()) {
            let PoolShape { height, width, kernel, stride, batch, .. } = pool;
            let [high, wide] = pool.output_dims();
            let one = ConvShape { channels: 1, height, width, outputs: 1, kernel, stride, padding: [0; 4], batch };
            let x: Vec<u64> = (1..=pool.input_len() as u64).map(|index| u64::MAX / index).collect();
            let mut expected = Vec::new();
            for channel in x.chunks_exact(height * width * batch) {
                let mut sums = vec![0; high * wide * batch];
                convolve_add(&mut sums, &vec![1; kernel[0] * kernel[1]], channel, &one);
                expected.extend(sums);
            }
            prop_assert_eq!(&sum_pool(&x, &pool), &expected);
            let mut sums = vec![0_u64; expected.len()];
            for vector in gather_windows(&x, &pool) {
                prop_assert_eq!(vector.len(), expected.len());
                for (sum, word) in sums.iter_mut().zip(vector) {
                    *sum = sum.wrapping_add(word);
                }
            }
            prop_assert_eq!(sums, expected);
        }
    }
}
