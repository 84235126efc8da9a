//! Arithmetic with constants: scalers, batch normalisation, biases that stand alone, squares.

use super::Lowering;
use crate::graph::Layer;
use crate::model::import::chain::Affine;
use crate::model::import::error::{ImportError, TensorFault};
use crate::model::import::node::Node;
use crate::model::import::tensor::Constant;
use crate::model::import::value::{Value, Wire};

const OPERANDS: &str = "an activation and a constant, in an order that scales or shifts it";
const BROADCAST: &str = "a constant that fits each query of the batch alike";
const STATISTICS: &str = "scale, bias, mean and variance as constants with one value per channel";
const SCALES: &str = "offset and scale with one value, or with one per feature";

impl Lowering {
    /// `Add`, `Sub`, `Mul`, `Div` and `Pow`.
    pub(super) fn arithmetic(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let pair = (self.value(node, 0, OPERANDS)?.clone(), self.value(node, 1, OPERANDS)?.clone());
        match pair {
            (Value::Wire(first), Value::Wire(second)) => {
                if node.operator() == Some("Mul") && first == second {
                    self.activation(node, Layer::Square)
                } else {
                    Err(self.branch(node, 1))
                }
            }
            (Value::Wire(_), Value::Constant(constant)) => self.with_constant(node, 0, &constant),
            (Value::Constant(constant), Value::Wire(_)) => self.with_constant(node, 1, &constant),
            (Value::Constant(constant), Value::Tail(tail)) => self.complement(node, &constant, &tail),
            (Value::Tail(tail), _) | (_, Value::Tail(tail)) => Err(super::not_last(&tail, node)),
            _ => Err(node.operand(OPERANDS)),
        }
    }

    /// `at` is the position of the activation among the operands.
    fn with_constant(&mut self, node: Node<'_>, at: usize, constant: &Constant) -> Result<(), ImportError> {
        let wire = self.wire(node, at, OPERANDS)?;
        let operator = node.operator().unwrap_or_default();
        if operator == "Pow" {
            return match constant.scalar() {
                Some(2.0) if at == 0 => self.activation(node, Layer::Square),
                _ => Err(node.operand("the constant 2 as its exponent")),
            };
        }
        let values = self.broadcast(node, &wire, constant)?;
        let count = values.len();
        let (scale, offset) = match (operator, at) {
            ("Add", _) => (vec![1.0; count], values),
            ("Sub", 0) => (vec![1.0; count], values.into_iter().map(|value| -value).collect()),
            ("Sub", _) => (vec![-1.0; count], values),
            ("Mul", _) => (values, vec![0.0; count]),
            ("Div", 0) if values.iter().all(|value| *value != 0.0) => {
                (values.into_iter().map(f64::recip).collect(), vec![0.0; count])
            }
            _ => return Err(node.operand(OPERANDS)),
        };
        self.affine(node, &wire, scale, offset)
    }

    /// In evaluation mode, a scale and an offset per channel.
    pub(super) fn normalisation(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("training_mode", 0)?;
        node.demand("spatial", 1)?;
        let wire = self.wire(node, 0, "an activation")?;
        let channels = *wire.dims.first().ok_or_else(|| node.operand(STATISTICS))? as usize;
        let mut lists = Vec::with_capacity(4);
        for index in 1..=4 {
            let constant = self.fixed(node, index, STATISTICS)?;
            if constant.len() != channels {
                return Err(node.operand(STATISTICS));
            }
            lists.push(constant);
        }
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        let (mut scale, mut offset) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        let [gain, shift, mean, variance] = [0, 1, 2, 3].map(|index: usize| &lists[index]);
        let columns = gain.floats()?.iter().zip(shift.floats()?).zip(mean.floats()?).zip(variance.floats()?);
        for (((gain, shift), mean), variance) in columns {
            let spread = f64::from(*variance) + epsilon;
            if spread.is_nan() || spread <= 0.0 {
                return Err(ImportError::Tensor {
                    tensor: lists[3].name().to_owned(),
                    fault: TensorFault::Variance,
                });
            }
            let factor = f64::from(*gain) / spread.sqrt();
            scale.push(factor);
            offset.push(f64::from(*shift) - f64::from(*mean) * factor);
        }
        self.warn(node, "was folded into the linear layer beside it");
        self.affine(node, &wire, scale, offset)
    }

    /// scikit-learn's `(x - offset) * scale`.
    pub(super) fn scaler(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, "an activation of a batch and features")?;
        let list = |name, absent: f64| -> Result<Vec<f64>, ImportError> {
            let values: Vec<f64> = node.floats(name).iter().map(|value| f64::from(*value)).collect();
            if !values.iter().all(|value| value.is_finite()) {
                let tensor = format!("{name} of {}", node.name().name);
                return Err(ImportError::Tensor { tensor, fault: TensorFault::NotFinite });
            }
            match values.as_slice() {
                [] => Ok(vec![absent; wire.len()]),
                [one] => Ok(vec![*one; wire.len()]),
                list if list.len() == wire.len() => Ok(values),
                _ => Err(node.operand(SCALES)),
            }
        };
        if wire.dims.len() != 1 {
            return Err(node.operand("an activation of a batch and features"));
        }
        let (means, scale) = (list("offset", 0.0)?, list("scale", 1.0)?);
        let offset = means.iter().zip(&scale).map(|(mean, scale)| -mean * scale).collect();
        self.warn(node, "was folded into the first linear layer; the model takes unscaled inputs");
        self.affine(node, &wire, scale, offset)
    }

    fn affine(
        &mut self,
        node: Node<'_>,
        wire: &Wire,
        scale: Vec<f64>,
        offset: Vec<f64>,
    ) -> Result<(), ImportError> {
        let entries = self.chain.push_affine(Affine::new(node.name(), wire.len(), scale, offset))?;
        // A scale and an offset in double precision take the room of four weights.
        self.spend(node, 4 * entries)?;
        self.set_wire(node, wire.dims.clone(), wire)
    }

    /// The constant's values for one query: one, one per channel, or one per value.
    fn broadcast(&self, node: Node<'_>, wire: &Wire, constant: &Constant) -> Result<Vec<f64>, ImportError> {
        let values = constant.floats()?;
        if let [value] = values {
            // A constant of many dimensions would add some to the activation.
            let rank = wire.dims.len() + 1;
            let one = vec![f64::from(*value)];
            return if constant.dims().len() <= rank { Ok(one) } else { Err(node.operand(BROADCAST)) };
        }
        let dims = aligned(constant.dims(), &wire.dims).ok_or_else(|| node.operand(BROADCAST))?;
        if dims.iter().skip(1).all(|dim| *dim == 1) {
            return Ok(values.iter().map(|value| f64::from(*value)).collect());
        }
        let mut spread: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        let mut inner = 1;
        for (have, want) in dims.iter().zip(&wire.dims).rev() {
            if have != want {
                spread = spread.chunks(inner).flat_map(|run| run.repeat(*want as usize)).collect();
            }
            inner *= *want as usize;
        }
        Ok(spread)
    }
}

/// Dimensions of a constant padded with ones to those of the activation; `None` where they do not
/// fit, or where the constant differs along the batch.
fn aligned(constant: &[usize], wire: &[u32]) -> Option<Vec<u32>> {
    let own = match constant.len().checked_sub(wire.len()) {
        None | Some(0) => constant,
        Some(1) if constant[0] == 1 => &constant[1..],
        Some(_) => return None,
    };
    let mut dims = vec![1; wire.len() - own.len()];
    for dim in own {
        dims.push(u32::try_from(*dim).ok()?);
    }
    dims.iter().zip(wire).all(|(have, want)| have == want || *have == 1).then_some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_align_from_the_last_dimension() {
        assert_eq!(aligned(&[5], &[2, 3, 5]), Some(vec![1, 1, 5]));
        assert_eq!(aligned(&[2, 1, 1], &[2, 3, 5]), Some(vec![2, 1, 1]));
        assert_eq!(aligned(&[1, 2, 3, 5], &[2, 3, 5]), Some(vec![2, 3, 5]));
        assert_eq!(aligned(&[7, 2, 3, 5], &[2, 3, 5]), None);
        assert_eq!(aligned(&[2], &[2, 3, 5]), None);
        assert_eq!(aligned(&[3], &[1]), None);
    }
}
