//! A network with weights: what an owner trains, imports and shares.

mod any;
pub mod fixed;
mod enlarge;
mod export;
mod import;
mod one_class;
mod onnx;

use crate::graph::{Layer, Network};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use any::AnyModel;
pub use export::{export, export_one_class};
pub use import::{
    FILE_BYTES_MAX, FILE_ELEMENTS_MAX, ImportError, Imported, ImportedOneClass, NODES_MAX, NodeName,
    OPERATORS, TensorFault, import, import_for, import_one_class,
};
pub use one_class::{OneClass, OneClassError, Projection};

/// Weights and bias of one linear layer, in the layout that [`Layer`] states.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Weights {
    /// The matrix or kernels, row-major.
    pub weight: Vec<f32>,
    /// One value per output (channel).
    pub bias: Vec<f32>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weights({} + {})", self.weight.len(), self.bias.len())
    }
}

/// Why weights do not make a model of a network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Not one entry per linear layer.
    #[error("the network has {expected} linear layers, weights are given for {found}")]
    Layers {
        /// Linear layers of the network.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// Weights of the wrong length.
    #[error("layer {layer} needs {expected} {what}, found {found}")]
    Length {
        /// Position of the layer in the network, from 0, and its name.
        layer: String,
        /// `weights` or `biases`.
        what: &'static str,
        /// Length needed.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// NaN or infinity.
    #[error("layer {layer} has a weight or bias that is not a finite number; retrain or repair the model")]
    NotFinite {
        /// Position of the layer in the network, from 0, and its name.
        layer: String,
    },
}

/// A network and finite weights that fit it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    network: Network,
    weights: Vec<Weights>,
}

impl Model {
    /// Checks lengths and finiteness. `weights` has one entry per linear layer, in order.
    ///
    /// # Errors
    /// [`ModelError`] names the layer at fault.
    pub fn new(network: Network, weights: Vec<Weights>) -> Result<Self, ModelError> {
        let linear: Vec<(usize, &Layer)> =
            network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()).collect();
        if linear.len() != weights.len() {
            return Err(ModelError::Layers { expected: linear.len(), found: weights.len() });
        }
        for ((index, layer), entry) in linear.iter().zip(&weights) {
            let name = || format!("{index} ({layer})");
            let (weight, bias) = layer.parameters(network.shape_before(*index));
            for (what, expected, found) in
                [("weights", weight, entry.weight.len()), ("biases", bias, entry.bias.len())]
            {
                if expected != found {
                    return Err(ModelError::Length { layer: name(), what, expected, found });
                }
            }
            if !entry.weight.iter().chain(&entry.bias).all(|value| value.is_finite()) {
                return Err(ModelError::NotFinite { layer: name() });
            }
        }
        Ok(Self { network, weights })
    }

    /// The public part.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// One entry per linear layer, in order.
    pub fn weights(&self) -> &[Weights] {
        &self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;

    fn model(weight: Vec<f32>, bias: Vec<f32>) -> Result<Model, ModelError> {
        let layers = vec![Layer::Relu, Layer::Dense { outputs: 2 }];
        let network = Network::new(Shape::vector(2), layers).unwrap();
        Model::new(network, vec![Weights { weight, bias }])
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert!(model(vec![1.0; 4], vec![0.0; 2]).is_ok());
        let layer = "1 (fc2)".to_owned();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let refused = Err(ModelError::NotFinite { layer: layer.clone() });
            assert_eq!(model(vec![1.0, value, 1.0, 1.0], vec![0.0; 2]), refused);
            assert_eq!(model(vec![1.0; 4], vec![0.0, value]), refused);
        }
    }

    #[test]
    fn lengths_are_checked() {
        let refused = |what, expected, found| {
            Err(ModelError::Length { layer: "1 (fc2)".to_owned(), what, expected, found })
        };
        assert_eq!(model(vec![1.0; 5], vec![0.0; 2]), refused("weights", 4, 5));
        assert_eq!(model(vec![1.0; 4], vec![0.0; 1]), refused("biases", 2, 1));
        let network = Network::new(Shape::vector(2), vec![Layer::Relu]).unwrap();
        let weights = vec![Weights { weight: Vec::new(), bias: Vec::new() }];
        assert_eq!(Model::new(network, weights), Err(ModelError::Layers { expected: 0, found: 1 }));
    }

    #[test]
    fn debug_hides_weights() {
        let shown = format!("{:?}", model(vec![41.0; 4], vec![42.0; 2]).unwrap());
        assert!(shown.contains("Weights(4 + 2)") && !shown.contains("41"), "{shown}");
    }
}
