//! Networks of the literature, with the numbers of a usual task.

use consilium_protocol::graph::{Layer, Network, Numbers, Plan, ReleaseShape, Shape, Window};
use consilium_protocol::stock::Gadget;
use miette::{IntoDiagnostic, Result};

/// A network by its name in the literature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Net {
    /// 30-64-32-2, a table of measures
    #[value(name = "30-64-32-2")]
    Table,
    /// 784-128-128-10, the network of SecureML
    #[value(name = "784-128-128-10")]
    Mlp,
    /// conv5x5x16-pool-conv5x5x16-pool-fc100-fc10, the network of MiniONN
    #[value(name = "cnn")]
    Cnn,
}

/// All of them, smallest first.
pub const NETS: [Net; 3] = [Net::Table, Net::Mlp, Net::Cnn];

impl Net {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "30-64-32-2",
            Self::Mlp => "784-128-128-10",
            Self::Cnn => "cnn",
        }
    }

    /// Its layers.
    ///
    /// # Errors
    /// The layers do not fit, which a test rules out.
    pub fn network(self) -> Result<Network> {
        let dense = |outputs| Layer::Dense { outputs };
        let window = Window::plain(5, 1);
        let conv = [
            Layer::Conv { outputs: 16, window },
            Layer::Relu,
            Layer::MaxPool { window: Window::plain(2, 2) },
        ];
        let (input, layers) = match self {
            Self::Table => {
                (Shape::vector(30), vec![dense(64), Layer::Relu, dense(32), Layer::Relu, dense(2)])
            }
            Self::Mlp => {
                (Shape::vector(784), vec![dense(128), Layer::Relu, dense(128), Layer::Relu, dense(10)])
            }
            Self::Cnn => {
                let head = vec![dense(100), Layer::Relu, dense(10)];
                let image = Shape { channels: 1, height: 28, width: 28 };
                (image, [conv.to_vec(), conv.to_vec(), head].concat())
            }
        };
        Network::new(input, layers).into_diagnostic()
    }

    /// The plan of one such model alone, for one query, with its vote and an exact release, comparing
    /// by this gadget.
    ///
    /// # Errors
    /// The network does not compile, which a test rules out.
    pub fn plan(self, gadget: Gadget) -> Result<Plan> {
        let network = self.network()?;
        let numbers = Numbers { fraction_bits: 16, value_bits: 12 };
        let (input, classes) = (network.input(), network.output().len());
        let release = ReleaseShape::default();
        Plan::compile(&[network], input, classes, numbers, 1, gadget, release).into_diagnostic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_compiles() {
        for net in NETS {
            for gadget in [Gadget::Digits, Gadget::Nibbles, Gadget::Keys] {
                net.plan(gadget).unwrap();
            }
        }
    }
}
