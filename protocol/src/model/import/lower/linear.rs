//! Fully connected and convolutional layers.

use super::{Lowering, misfit};
use crate::graph::Layer;
use crate::model::Weights;
use crate::model::import::error::ImportError;
use crate::model::import::node::Node;
use crate::model::import::tensor::Constant;
use crate::model::import::value::{Tail, TailKind, Value, Wire};
use std::rc::Rc;

const MATRIX: &str = "an activation of a batch and features, and then a constant matrix";
pub(super) const BIAS: &str = "a constant bias with one value per output";
pub(super) const KERNELS: &str = "constant kernels of outputs, channels, rows and columns";
const COEFFICIENTS: &str = "coefficients and intercepts for each class, or for one of two classes";

impl Lowering {
    pub(super) fn gemm(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("transA", 0)?;
        let is_turned = match node.integer("transB").unwrap_or(0) {
            0 => false,
            1 => true,
            other => return Err(node.refused("transB", other, "0 or 1")),
        };
        let wire = self.features(node)?;
        let matrix = self.fixed(node, 1, MATRIX)?;
        let outputs = self.dense(node, &wire, &matrix, is_turned)?;
        let mut bias = vec![0.0; outputs];
        if node.input(2).is_some() {
            let constant = self.fixed(node, 2, BIAS)?;
            let rows = constant.dims().iter().rev().skip(1).all(|dim| *dim == 1);
            let values = constant.floats()?;
            let beta = node.float("beta", 1.0);
            match values {
                [value] => bias.fill(value * beta),
                _ if rows && values.len() == outputs => {
                    bias.iter_mut().zip(values).for_each(|(bias, value)| *bias = value * beta);
                }
                _ => return Err(node.operand(BIAS)),
            }
        }
        self.matrix(node, &matrix, is_turned, node.float("alpha", 1.0), bias)
    }

    pub(super) fn matmul(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let wire = self.features(node)?;
        let matrix = self.fixed(node, 1, MATRIX)?;
        let outputs = self.dense(node, &wire, &matrix, false)?;
        self.matrix(node, &matrix, false, 1.0, vec![0.0; outputs])
    }

    pub(super) fn conv(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        node.demand("group", 1)?;
        node.demand_all("dilations", 1)?;
        if let Value::Repeated(wire, factor) = self.value(node, 0, KERNELS)?.clone() {
            return self.conv_repeated(node, &wire, factor);
        }
        let wire = self.wire(node, 0, "an activation and constant kernels")?;
        self.spatial(node, &wire)?;
        let kernels = self.fixed(node, 1, KERNELS)?;
        let &[outputs, channels, height, width] = kernels.dims() else {
            return Err(node.operand(KERNELS));
        };
        if channels != wire.dims[0] as usize {
            return Err(misfit(node, &wire));
        }
        let kernel = [count(node, height)?, count(node, width)?];
        let window = self.window(node, kernel, &wire)?;
        let layer = Layer::Conv { outputs: count(node, outputs)?, window };
        let output = self.admit(node, layer, &wire)?;
        let bias = match node.input(2) {
            Some(_) => self.fixed(node, 2, BIAS)?.floats()?.to_vec(),
            None => vec![0.0; outputs],
        };
        if bias.len() != outputs {
            return Err(node.operand(BIAS));
        }
        self.chain.push_linear(layer, Weights { weight: kernels.floats()?.to_vec(), bias });
        self.carried = Some(output);
        self.set_wire(node, vec![output.channels, output.height, output.width], &wire)
    }

    /// scikit-learn's linear models: a dense layer and the tail in one node.
    pub(super) fn classifier(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        let transform = node.text("post_transform").unwrap_or_else(|| "NONE".to_owned());
        if !["NONE", "SOFTMAX", "LOGISTIC"].contains(&transform.as_str()) {
            return Err(node.refused("post_transform", transform, "NONE, SOFTMAX or LOGISTIC"));
        }
        let wire = self.features(node)?;
        let (coefficients, intercepts) = (node.floats("coefficients"), node.floats("intercepts"));
        if !coefficients.iter().chain(intercepts).all(|value| value.is_finite()) {
            return Err(node.operand("finite coefficients and intercepts; retrain or repair the model"));
        }
        let labels = self.class_labels(node);
        let rows = coefficients.len() / wire.len();
        let is_binary = rows == 1 && labels == 2;
        let complete = coefficients.len() == rows * wire.len() && [0, rows].contains(&intercepts.len());
        if rows == 0 || !complete || !(rows == labels || is_binary) {
            return Err(node.operand(COEFFICIENTS));
        }
        let layer = Layer::Dense { outputs: count(node, rows)? };
        self.carried = Some(self.admit(node, layer, &wire)?);
        let mut bias = intercepts.to_vec();
        bias.resize(rows, 0.0);
        self.chain.push_linear(layer, Weights { weight: coefficients.to_vec(), bias });
        if is_binary {
            self.expand(node);
        }
        let position = self.chain.position();
        for (index, kind) in [TailKind::Label, TailKind::Scores].into_iter().enumerate() {
            if let Some(name) = node.output(index) {
                self.define(name.to_owned(), Value::Tail(Tail { position, kind, node: node.name() }));
            }
        }
        Ok(())
    }

    /// A batch of plain vectors.
    fn features(&self, node: Node<'_>) -> Result<Wire, ImportError> {
        let wire = self.wire(node, 0, MATRIX)?;
        if wire.dims.len() == 1 { Ok(wire) } else { Err(node.operand(MATRIX)) }
    }

    /// Admits a dense layer and returns its number of outputs.
    fn dense(
        &mut self,
        node: Node<'_>,
        wire: &Wire,
        matrix: &Constant,
        is_turned: bool,
    ) -> Result<usize, ImportError> {
        let &[rows, columns] = matrix.dims() else {
            return Err(node.operand(MATRIX));
        };
        let (outputs, inputs) = if is_turned { (rows, columns) } else { (columns, rows) };
        if inputs != wire.len() {
            return Err(misfit(node, wire));
        }
        self.admit(node, Layer::Dense { outputs: count(node, outputs)? }, wire)?;
        Ok(outputs)
    }

    /// Adds the admitted dense layer.
    fn matrix(
        &mut self,
        node: Node<'_>,
        matrix: &Rc<Constant>,
        is_turned: bool,
        alpha: f32,
        bias: Vec<f32>,
    ) -> Result<(), ImportError> {
        let mut weight = if is_turned {
            matrix.floats()?.to_vec()
        } else {
            matrix.floats()?;
            matrix.transposed().ok_or_else(|| node.operand(MATRIX))?.floats()?.to_vec()
        };
        if alpha != 1.0 {
            weight.iter_mut().for_each(|weight| *weight *= alpha);
        }
        let outputs = count(node, bias.len())?;
        self.chain.push_linear(Layer::Dense { outputs }, Weights { weight, bias });
        self.carried = Some(crate::graph::Shape::vector(outputs));
        // `admit` has checked the limits of this wire.
        let wire = Wire { position: self.chain.position(), dims: vec![outputs] };
        self.set(node, Value::Wire(wire));
        Ok(())
    }
}

pub(super) fn count(node: Node<'_>, value: usize) -> Result<u32, ImportError> {
    u32::try_from(value).map_err(|_| node.operand("dimensions below 2^32"))
}
