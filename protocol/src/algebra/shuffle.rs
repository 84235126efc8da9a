//! Channels laid out as rows and columns, over `[channel][row][column][batch]`, batch innermost.

use serde::{Deserialize, Serialize};

/// Blocks of channels that become blocks of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleShape {
    /// Channels of the output; the input has `block * block` times as many.
    pub channels: usize,
    /// Rows of a channel of the input.
    pub height: usize,
    /// Columns of a channel of the input.
    pub width: usize,
    /// Rows and columns of a block.
    pub block: usize,
    /// Images side by side.
    pub batch: usize,
}

impl ShuffleShape {
    /// Words of input and output.
    pub fn len(&self) -> usize {
        self.positions() * self.batch
    }

    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn positions(&self) -> usize {
        self.channels * self.block * self.block * self.height * self.width
    }

    /// Where each value of one image comes from, in the order of the output.
    pub fn sources(&self) -> impl Iterator<Item = usize> + use<> {
        let Self { channels, height, width, block, .. } = *self;
        let from = move |channel: usize, row: usize, column: usize| {
            let place = (channel * block + row % block) * block + column % block;
            (place * height + row / block) * width + column / block
        };
        (0..channels).flat_map(move |channel| {
            (0..height * block)
                .flat_map(move |row| (0..width * block).map(move |column| from(channel, row, column)))
        })
    }

    /// The output for this input.
    ///
    /// # Panics
    /// If `x` is not `len()` words.
    pub fn shuffle(&self, x: &[u64]) -> Vec<u64> {
        assert_eq!(x.len(), self.len(), "input against {self:?}");
        let mut out = Vec::with_capacity(x.len());
        for from in self.sources() {
            out.extend_from_slice(&x[from * self.batch..][..self.batch]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_channels_become_blocks_of_places() {
        // Four channels of one row and two columns, two images: channel c, column x, image b is 100 b + 10 c + x.
        let shape = ShuffleShape { channels: 1, height: 1, width: 2, block: 2, batch: 2 };
        let x: Vec<u64> = (0..4)
            .flat_map(|c| (0..2).flat_map(move |x| (0..2).map(move |b| 100 * b + 10 * c + x)))
            .collect();
        let first: Vec<u64> = shape.shuffle(&x).into_iter().step_by(2).collect();
        assert_eq!(first, [0, 10, 1, 11, 20, 30, 21, 31]);
        let second: Vec<u64> = shape.shuffle(&x).into_iter().skip(1).step_by(2).collect();
        assert_eq!(second, first.iter().map(|value| value + 100).collect::<Vec<_>>());
    }

    #[test]
    fn every_value_moves_once() {
        let shape = ShuffleShape { channels: 3, height: 4, width: 5, block: 3, batch: 1 };
        let mut sources: Vec<usize> = shape.sources().collect();
        sources.sort_unstable();
        assert_eq!(sources, (0..shape.len()).collect::<Vec<_>>());
    }
}
