//! The public part of a model of any kind of task.

use super::measure::Measure;
use super::network::{Network, Shape};
use serde::{Deserialize, Serialize};

/// What is public of a model: what it computes, apart from its weights. A network is written as it is, a measure as
/// `{"one-class": measure}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Architecture {
    /// A classifier, which votes.
    Classifier(Network),
    /// A distance, of a one-class task.
    OneClass {
        /// How the model measures.
        #[serde(rename = "one-class")]
        measure: Measure,
    },
}

impl From<Network> for Architecture {
    fn from(network: Network) -> Self {
        Self::Classifier(network)
    }
}

impl From<Measure> for Architecture {
    fn from(measure: Measure) -> Self {
        Self::OneClass { measure }
    }
}

impl Architecture {
    /// Shape of one query.
    pub fn input(&self) -> Shape {
        match self {
            Self::Classifier(network) => network.input(),
            Self::OneClass { measure } => measure.input(),
        }
    }

    /// A short description, such as `30x1x1 dense16 relu dense2` or `784x1x1 pca25`.
    pub fn summary(&self) -> String {
        match self {
            Self::Classifier(network) => network.summary(),
            Self::OneClass { measure } => measure.summary(),
        }
    }

    /// Lengths of weights and of bias of each entry, in order: a linear layer each, and last the threshold of a
    /// distance, which has a bias alone.
    pub fn lengths(&self) -> Vec<(usize, usize)> {
        let layers = |network: &Network| -> Vec<(usize, usize)> {
            let linear = network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear());
            linear.map(|(index, layer)| layer.parameters(network.shape_before(index))).collect()
        };
        match self {
            Self::Classifier(network) => layers(network),
            Self::OneClass { measure } => {
                let mut lengths = match measure {
                    Measure::Reconstruction(network) => layers(network),
                    Measure::Projection { input, rank } => {
                        let outputs = (*rank as usize).saturating_add(1);
                        vec![(outputs.saturating_mul(input.len()), outputs)]
                    }
                };
                lengths.push((0, 1));
                lengths
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Layer, Numbers, Program};
    use crate::stock::Gadget;

    fn all() -> [Architecture; 3] {
        let input = Shape::vector(6);
        let layers = vec![Layer::Dense { outputs: 3 }, Layer::Relu, Layer::Dense { outputs: 6 }];
        let network = Network::new(input, layers).unwrap();
        [
            network.clone().into(),
            Measure::Reconstruction(network).into(),
            Measure::Projection { input, rank: 2 }.into(),
        ]
    }

    #[test]
    fn lengths_are_those_of_the_program() {
        let numbers = Numbers { fraction_bits: 16, value_bits: 12 };
        for architecture in all() {
            let program = match &architecture {
                Architecture::Classifier(network) => Program::compile(network, numbers, 1, Gadget::Digits),
                Architecture::OneClass { measure } => Program::measure(measure, numbers, 1, Gadget::Digits),
            };
            assert_eq!(architecture.lengths(), program.unwrap().lengths(), "{}", architecture.summary());
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_and_all_come_back() {
        let [classifier, reconstructor, projection] = all();
        let Architecture::Classifier(network) = &classifier else { panic!("another kind") };
        assert_eq!(encode(&classifier), encode(network));
        for architecture in [classifier, reconstructor, projection] {
            let bytes = encode(&architecture);
            let back: Architecture = ciborium::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(back, architecture);
        }
    }

    fn encode(value: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }
}
