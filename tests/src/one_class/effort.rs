//! What a reconstructor computes, layer by layer, for comparison with what others report.

use consilium_protocol::graph::{Layer, Network};
use serde::Serialize;

/// What one user's network computes for one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// Weights and biases.
    pub parameters: u64,
    /// Products of a weight and a value.
    pub multiply_adds: u64,
    /// Values of which a sign decides, counted once where one value is compared twice.
    pub comparisons: u64,
}

/// The network of the paper, as its authors count it: upsampling before a convolution, and no cut at the end.
pub const PAPER: Effort = Effort { parameters: 4_757_539, multiply_adds: 365_821_952, comparisons: 134_912 };

impl Effort {
    /// Counts.
    pub fn of(network: &Network) -> Self {
        let mut effort = Self::default();
        for (at, layer) in network.layers().iter().enumerate() {
            let (before, after) = (network.shape_before(at), network.shape_before(at + 1));
            let (weights, biases) = layer.parameters(before);
            let positions = match layer {
                Layer::Conv { .. } => u64::from(after.height) * u64::from(after.width),
                _ => 1,
            };
            effort.parameters += (weights + biases) as u64;
            effort.multiply_adds += weights as u64 * positions;
            effort.comparisons += match layer {
                Layer::Relu | Layer::LeakyRelu { .. } | Layer::HardTanh => after.len() as u64,
                Layer::MaxPool { .. } => before.len() as u64 - after.len() as u64,
                _ => 0,
            };
        }
        effort
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::{Shape, Slope, Window};

    /// The first half of the paper's network, by hand.
    #[test]
    fn halving_convolutions_count_what_they_cost() {
        let down = Window { kernel: [4, 4], stride: [2, 2], padding: [1; 4] };
        let leak = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
        let conv = |outputs| Layer::Conv { outputs, window: down };
        let input = Shape { channels: 3, height: 32, width: 32 };
        let network = Network::new(input, vec![conv(32), leak, conv(64), leak]).unwrap();
        let effort = Effort::of(&network);
        assert_eq!(effort.parameters, 32 * 48 + 32 + 64 * 512 + 64);
        assert_eq!(effort.multiply_adds, 32 * 48 * 256 + 64 * 512 * 64);
        assert_eq!(effort.comparisons, 32 * 256 + 64 * 64);
    }
}
