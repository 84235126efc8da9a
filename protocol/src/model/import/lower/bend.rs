//! Activations of a few straight pieces, and one that is replaced by such.

use super::Lowering;
use crate::graph::{Layer, Slope};
use crate::model::import::error::ImportError;
use crate::model::import::node::Node;

/// What exporters write for an upper bound that there is none.
const FAR: f64 = 3e38;

impl Lowering {
    pub(super) fn leaky(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let alpha = node.float("alpha", 0.01);
        let refused = || node.refused("alpha", alpha, "a number from 0 to below 1");
        let slope = Slope::nearest(alpha).ok_or_else(refused)?;
        if slope.value() as f32 != alpha {
            self.warn(
                node,
                &format!("has alpha = {alpha}; the model has {}/{} instead", slope.rise, slope.run),
            );
        }
        self.activation(node, Layer::LeakyRelu { slope })
    }

    /// `Clip` between -1 and 1, or above 0.
    pub(super) fn clip(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let low = self.bound(node, 1, "min")?.unwrap_or(f64::NEG_INFINITY);
        let high = self.bound(node, 2, "max")?.unwrap_or(f64::INFINITY);
        if low == 0.0 && high > FAR {
            return self.activation(node, Layer::Relu);
        }
        if low != -1.0 || high != 1.0 {
            return Err(node.refused("min and max", format!("{low} and {high}"), "-1 and 1, or 0 and none"));
        }
        self.activation(node, Layer::HardTanh)
    }

    /// The hyperbolic tangent has no cheap form under sharing.
    pub(super) fn tanh(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        self.warn(
            node,
            "was replaced by a cut at -1 and 1 (hard tanh): measure the model again, and choose its threshold by that, before it is used",
        );
        self.activation(node, Layer::HardTanh)
    }

    /// A bound given as a constant or, in old files, as an attribute.
    fn bound(&self, node: Node<'_>, index: usize, name: &str) -> Result<Option<f64>, ImportError> {
        if node.input(index).is_some() {
            let needs = "constant bounds";
            let constant = self.fixed(node, index, needs)?;
            return constant.scalar().map(Some).ok_or_else(|| node.operand(needs));
        }
        Ok(node.attribute(name).map(|attribute| f64::from(attribute.float)))
    }
}
