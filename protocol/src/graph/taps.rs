//! Which weight meets which input in which output.

use super::network::{Layer, Shape};
use crate::algebra::ShuffleShape;

/// The shuffle behind a layer that fits its input.
pub(super) fn shuffle_shape(block: u32, input: Shape, batch: usize) -> ShuffleShape {
    let block = block as usize;
    ShuffleShape {
        channels: input.channels as usize / (block * block).max(1),
        height: input.height as usize,
        width: input.width as usize,
        block,
        batch,
    }
}

/// Calls `tap(output, weight, input)` for every product of a linear layer, and for every value under
/// a pooling window or moved by a shuffle (with weight 0). Indices are flat, channels outermost.
pub fn for_each_tap(layer: &Layer, input: Shape, output: Shape, mut tap: impl FnMut(usize, usize, usize)) {
    let (window, grouped) = match layer {
        Layer::Dense { .. } => {
            let inputs = input.len();
            for out in 0..output.len() {
                for from in 0..inputs {
                    tap(out, out * inputs + from, from);
                }
            }
            return;
        }
        Layer::Relu | Layer::LeakyRelu { .. } | Layer::HardTanh | Layer::Square => return,
        Layer::PixelShuffle { block } => {
            let shape = shuffle_shape(*block, input, 1);
            for (out, from) in shape.sources().enumerate() {
                tap(out, 0, from);
            }
            return;
        }
        Layer::Conv { window, .. } => (window, true),
        Layer::MaxPool { window } | Layer::AveragePool { window } => (window, false),
    };
    let [rows, columns] = window.kernel.map(|size| size as usize);
    let [down, right] = window.stride.map(|size| size as usize);
    let (top, left) = (window.padding[0] as usize, window.padding[1] as usize);
    let (height, width) = (input.height as usize, input.width as usize);
    let (out_height, out_width) = (output.height as usize, output.width as usize);
    let channels = input.channels as usize;
    for out in 0..output.len() {
        let (channel, rest) = (out / (out_height * out_width), out % (out_height * out_width));
        let (y, x) = (rest / out_width * down, rest % out_width * right);
        let sources = if grouped { 0..channels } else { channel..channel + 1 };
        for source in sources {
            for row in 0..rows {
                for column in 0..columns {
                    let (at_y, at_x) = (y + row, x + column);
                    if at_y < top || at_x < left || at_y - top >= height || at_x - left >= width {
                        continue;
                    }
                    let weight = ((channel * channels + source) * rows + row) * columns + column;
                    let from = (source * height + at_y - top) * width + at_x - left;
                    tap(out, if grouped { weight } else { 0 }, from);
                }
            }
        }
    }
}
