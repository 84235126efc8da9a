//! Convolutions that enlarge, as a convolution of what is there and a shuffle.
//!
//! A transposed convolution, and a convolution of values that were repeated before it, make each of the `block *
//! block` places of an output block from the same few neighbours of one input. So each place is a convolution of the
//! input itself, and [`Layer::PixelShuffle`] lays them out. A query then opens the input, not the enlarged one.

use crate::graph::{Layer, Window};
use crate::model::Weights;

/// Rows or columns of a kernel; a file may claim any number of them that it need not hold.
const KERNEL_MAX: u32 = 1024;

/// Which neighbour meets which entry of a kernel, along one axis.
struct Tap {
    /// Place within the block of outputs.
    phase: usize,
    /// Entry of the kernel.
    entry: usize,
    /// The neighbour, counted from the input at the block's place.
    offset: i64,
}

/// An enlarging convolution taken apart.
pub(super) struct Enlargement {
    block: u32,
    kernel: [u32; 2],
    taps: [Vec<Tap>; 2],
    first: [i64; 2],
    window: Window,
}

impl Enlargement {
    /// A transposed convolution with these strides; `None` where it does not enlarge exactly by them.
    pub(super) fn transposed(kernel: [u32; 2], padding: [u32; 4], block: u32) -> Option<Self> {
        let axis = |axis: usize| {
            let (size, before, after) = axis_of(kernel, padding, axis);
            let step = i64::from(block);
            let exact = size - before - after == step;
            let taps = pairs(block, kernel[axis]).filter_map(move |(phase, entry)| {
                let reach = phase as i64 + before - entry as i64;
                (reach.rem_euclid(step) == 0).then(|| Tap { phase, entry, offset: reach.div_euclid(step) })
            });
            (exact && kernel[axis] <= KERNEL_MAX).then(|| taps.collect())
        };
        Self::of(block, kernel, [axis(0)?, axis(1)?])
    }

    /// A convolution, one step at a time, of values of which each was repeated `block` times along both axes; `None`
    /// where it does not keep the size.
    pub(super) fn repeated(kernel: [u32; 2], padding: [u32; 4], block: u32) -> Option<Self> {
        let axis = |axis: usize| {
            let (size, before, after) = axis_of(kernel, padding, axis);
            let step = i64::from(block);
            let taps = pairs(block, kernel[axis]).map(move |(phase, entry)| {
                let offset = (phase as i64 + entry as i64 - before).div_euclid(step);
                Tap { phase, entry, offset }
            });
            (before + after + 1 == size && kernel[axis] <= KERNEL_MAX).then(|| taps.collect())
        };
        Self::of(block, kernel, [axis(0)?, axis(1)?])
    }

    fn of(block: u32, kernel: [u32; 2], taps: [Vec<Tap>; 2]) -> Option<Self> {
        let ends = |taps: &Vec<Tap>| {
            let offsets = || taps.iter().map(|tap| tap.offset).chain([0]);
            Some((offsets().min()?, offsets().max()?))
        };
        let [(top, bottom), (left, right)] = [ends(&taps[0])?, ends(&taps[1])?];
        let size = |low: i64, high: i64| u32::try_from(high - low + 1).ok();
        let pad = |offset: i64| u32::try_from(offset).ok();
        let window = Window {
            kernel: [size(top, bottom)?, size(left, right)?],
            stride: [1, 1],
            padding: [pad(-top)?, pad(-left)?, pad(bottom)?, pad(right)?],
        };
        Some(Self { block, kernel, taps, first: [top, left], window })
    }

    /// The convolution that stands before the shuffle, for so many outputs of the shuffle; `None` if there are too
    /// many.
    pub(super) fn conv(&self, outputs: u32) -> Option<Layer> {
        let outputs = self.block.checked_mul(self.block)?.checked_mul(outputs)?;
        Some(Layer::Conv { outputs, window: self.window })
    }

    /// The shuffle.
    pub(super) fn shuffle(&self) -> Layer {
        Layer::PixelShuffle { block: self.block }
    }

    /// The weights of that convolution, given where the kernel entry of an output, a channel, a row and a column
    /// stands in `weight`, all checked by the caller.
    pub(super) fn weights(
        &self,
        [outputs, channels]: [usize; 2],
        weight: &[f32],
        bias: &[f32],
        place: impl Fn(usize, usize) -> usize,
    ) -> Weights {
        let [rows, columns] = self.window.kernel.map(|size| size as usize);
        let area = (self.block * self.block) as usize;
        let [high, wide] = self.kernel.map(|size| size as usize);
        let mut spread = vec![0f32; outputs * area * channels * rows * columns];
        for output in 0..outputs {
            for channel in 0..channels {
                let kernel = &weight[place(output, channel) * high * wide..][..high * wide];
                for down in &self.taps[0] {
                    for right in &self.taps[1] {
                        let made = output * area + down.phase * self.block as usize + right.phase;
                        let row = (down.offset - self.first[0]) as usize;
                        let column = (right.offset - self.first[1]) as usize;
                        let to = ((made * channels + channel) * rows + row) * columns + column;
                        spread[to] += kernel[down.entry * wide + right.entry];
                    }
                }
            }
        }
        let bias = bias.iter().flat_map(|bias| std::iter::repeat_n(*bias, area)).collect();
        Weights { weight: spread, bias }
    }
}

fn axis_of(kernel: [u32; 2], [top, left, bottom, right]: [u32; 4], axis: usize) -> (i64, i64, i64) {
    let (before, after) = if axis == 0 { (top, bottom) } else { (left, right) };
    (i64::from(kernel[axis]), i64::from(before), i64::from(after))
}

fn pairs(block: u32, size: u32) -> impl Iterator<Item = (usize, usize)> {
    (0..block as usize).flat_map(move |phase| (0..size as usize).map(move |entry| (phase, entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::float::logits;
    use crate::graph::{Network, Shape};
    use crate::model::Model;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const CHANNELS: usize = 3;
    const OUTPUTS: usize = 2;
    const HIGH: usize = 4;
    const WIDE: usize = 5;

    fn random(count: usize, rng: &mut StdRng) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// What the convolution and the shuffle make of an image.
    fn made(parts: &Enlargement, weights: Weights, image: &[f32]) -> Vec<f64> {
        let input = Shape { channels: CHANNELS as u32, height: HIGH as u32, width: WIDE as u32 };
        let layers = vec![parts.conv(OUTPUTS as u32).unwrap(), parts.shuffle()];
        logits(&Model::new(Network::new(input, layers).unwrap(), vec![weights]).unwrap(), image)
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
        }
    }

    #[test]
    fn transposed_convolutions_scatter() {
        let mut rng = StdRng::seed_from_u64(1);
        for (kernel, padding, block) in
            [([4, 4], [1; 4], 2), ([2, 2], [0; 4], 2), ([3, 4], [0, 1, 1, 1], 2), ([5, 3], [1, 0, 1, 0], 3)]
        {
            let [rows, columns] = kernel.map(|size| size as usize);
            let (weight, bias) =
                (random(CHANNELS * OUTPUTS * rows * columns, &mut rng), random(OUTPUTS, &mut rng));
            let image = random(CHANNELS * HIGH * WIDE, &mut rng);
            let step = block as usize;
            let (high, wide) = (HIGH * step, WIDE * step);
            let mut expected: Vec<f64> =
                bias.iter().flat_map(|bias| vec![f64::from(*bias); high * wide]).collect();
            for (at, value) in image.iter().enumerate() {
                let (channel, y, x) = (at / (HIGH * WIDE), at / WIDE % HIGH, at % WIDE);
                for tap in 0..OUTPUTS * rows * columns {
                    let (output, row, column) = (tap / (rows * columns), tap / columns % rows, tap % columns);
                    let to_y = (y * step + row).wrapping_sub(padding[0] as usize);
                    let to_x = (x * step + column).wrapping_sub(padding[1] as usize);
                    if to_y < high && to_x < wide {
                        let weight = weight[channel * OUTPUTS * rows * columns + tap];
                        expected[(output * high + to_y) * wide + to_x] +=
                            f64::from(weight) * f64::from(*value);
                    }
                }
            }
            let parts = Enlargement::transposed(kernel, padding, block).unwrap();
            let place = |output, channel| channel * OUTPUTS + output;
            let weights = parts.weights([OUTPUTS, CHANNELS], &weight, &bias, place);
            close(&made(&parts, weights, &image), &expected);
        }
    }

    #[test]
    fn repeated_values_are_convolved() {
        let mut rng = StdRng::seed_from_u64(2);
        for (kernel, padding, block) in
            [([4, 4], [1, 1, 2, 2], 2), ([3, 3], [1; 4], 2), ([1, 1], [0; 4], 3), ([5, 2], [2, 0, 2, 1], 3)]
        {
            let [rows, columns] = kernel.map(|size| size as usize);
            let (weight, bias) =
                (random(CHANNELS * OUTPUTS * rows * columns, &mut rng), random(OUTPUTS, &mut rng));
            let image = random(CHANNELS * HIGH * WIDE, &mut rng);
            let step = block as usize;
            let (high, wide) = (HIGH * step, WIDE * step);
            let large: Vec<f32> = (0..CHANNELS * high * wide)
                .map(|at| {
                    image[(at / (high * wide) * HIGH + at / wide % high / step) * WIDE + at % wide / step]
                })
                .collect();
            let input = Shape { channels: CHANNELS as u32, height: high as u32, width: wide as u32 };
            let window = Window { kernel, stride: [1, 1], padding };
            let network = Network::new(input, vec![Layer::Conv { outputs: OUTPUTS as u32, window }]).unwrap();
            let plain = Weights { weight: weight.clone(), bias: bias.clone() };
            let expected = logits(&Model::new(network, vec![plain]).unwrap(), &large);
            let parts = Enlargement::repeated(kernel, padding, block).unwrap();
            let place = |output, channel| output * CHANNELS + channel;
            let weights = parts.weights([OUTPUTS, CHANNELS], &weight, &bias, place);
            close(&made(&parts, weights, &image), &expected);
        }
    }

    #[test]
    fn what_changes_the_size_otherwise_is_refused() {
        assert!(Enlargement::transposed([3, 3], [0; 4], 2).is_none());
        assert!(Enlargement::transposed([4, 4], [1, 1, 0, 0], 2).is_none());
        assert!(Enlargement::repeated([3, 3], [0; 4], 2).is_none());
        let claimed = u32::MAX - 1;
        assert!(Enlargement::repeated([claimed, 1], [claimed - 1, 0, 0, 0], 2).is_none());
        assert!(Enlargement::transposed([claimed, 2], [claimed - 2, 0, 0, 0], 2).is_none());
    }
}
