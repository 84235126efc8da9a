//! One node after another into the chain of layers.

mod affine;
mod bend;
mod enlarge;
mod layout;
mod linear;
mod tail;
mod window;

use super::chain::Chain;
use super::entry::Entry;
use super::error::{ImportError, shown};
use super::node::Node;
use super::tensor::Constant;
use super::value::{Tail, TailKind, Value, Wire};
use super::{Imported, NodeName};
use crate::graph::{Layer, Network, NetworkError, PARAMETERS_MAX, Shape};
use crate::model::{Model, Weights};
use std::collections::HashMap;
use std::rc::Rc;

/// Values that constants may be turned or spread into, all together; bounds time and memory.
const COPIES_MAX: usize = PARAMETERS_MAX;

/// State while the graph is read.
pub(super) struct Lowering {
    values: HashMap<String, Value>,
    chain: Chain,
    /// Size of the batch where the file fixes one.
    batch: Option<i64>,
    /// Shape that the first layer with a spatial meaning asks of the input.
    entry: Option<Shape>,
    /// Shape of the newest activation as the network will see it, `None` before the first layer.
    carried: Option<Shape>,
    /// Where the one output stands for the second of two classes.
    binary: Option<usize>,
    copies: usize,
    warnings: Vec<String>,
}

impl Lowering {
    pub(super) fn new() -> Self {
        Self {
            values: HashMap::new(),
            chain: Chain::new(),
            batch: None,
            entry: None,
            carried: None,
            binary: None,
            copies: 0,
            warnings: Vec::new(),
        }
    }

    /// Says what a name stands for.
    pub(super) fn define(&mut self, name: String, value: Value) {
        self.values.insert(name, value);
    }

    pub(super) fn defines(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Defines the graph's input.
    pub(super) fn enter(&mut self, entry: &Entry) {
        self.batch = entry.batch;
        self.define(entry.name.clone(), Value::Wire(entry.wire.clone()));
        if !entry.is_float {
            self.warnings
                .push("the graph's input is not floating point; queries are numbers here".to_owned());
        }
    }

    /// Reads one node.
    pub(super) fn lower(&mut self, node: Node<'_>) -> Result<(), ImportError> {
        match node.operator().unwrap_or_default() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => self.arithmetic(node),
            "BatchNormalization" => self.normalisation(node),
            "Scaler" => self.scaler(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "Conv" => self.conv(node),
            "LinearClassifier" => self.classifier(node),
            "ConvTranspose" => self.conv_transposed(node),
            "DepthToSpace" => self.shuffle(node),
            "Resize" => self.resize(node),
            "Relu" => self.activation(node, Layer::Relu),
            "LeakyRelu" => self.leaky(node),
            "Clip" => self.clip(node),
            "Tanh" => self.tanh(node),
            "MaxPool" | "AveragePool" => self.pool(node),
            "GlobalAveragePool" => self.global_pool(node),
            "ReduceMean" => self.mean(node),
            "Flatten" => self.flatten(node),
            "Reshape" => self.reshape(node),
            "Squeeze" => self.squeeze(node),
            "Unsqueeze" => self.unsqueeze(node),
            "Identity" => self.pass(node),
            "Cast" => self.cast(node),
            "Dropout" => self.dropout(node),
            "Constant" => self.constant(node),
            "Transpose" => self.transpose(node),
            "Shape" => self.shape(node),
            "Gather" => self.gather(node),
            "Concat" => self.concat(node),
            "Softmax" | "LogSoftmax" => self.softmax(node),
            "Sigmoid" => self.sigmoid(node),
            "ArgMax" => self.arg_max(node),
            "Normalizer" | "ZipMap" | "ArrayFeatureExtractor" => self.relabel(node),
            _ => Err(ImportError::Operator { node: node.name() }),
        }
    }

    /// Checks that an output of the graph is the end of the chain, and where it must be `exact` the chain's own values.
    pub(super) fn check_output(&self, name: &str, exact: bool) -> Result<(), ImportError> {
        let position = match self.values.get(name) {
            Some(Value::Wire(wire)) => Some(wire.position),
            Some(Value::Tail(_)) if exact => return Err(ImportError::Inexact { output: shown(name) }),
            Some(Value::Tail(tail)) if tail.kind != TailKind::Complement => Some(tail.position),
            _ => None,
        };
        if position == Some(self.chain.position()) {
            Ok(())
        } else {
            Err(ImportError::Output { output: shown(name) })
        }
    }

    /// Folds and assembles the model.
    pub(super) fn finish(self, entry: &Entry, expected: Option<Shape>) -> Result<Imported, ImportError> {
        let mut warnings = self.warnings;
        let is_binary = self.binary == Some(self.chain.position());
        let (mut layers, mut weights) = self.chain.fold()?;
        if is_binary {
            two_classes(&mut layers, &mut weights)?;
        }
        let shape = match (expected, self.entry) {
            (Some(expected), Some(asked)) if expected != asked => {
                let dims = asked.to_string();
                return Err(ImportError::InputShape { input: shown(&entry.name), dims, expected });
            }
            (Some(shape), _) | (None, Some(shape)) => shape,
            (None, None) => entry.wire.shape(),
        };
        let network = Network::new(shape, layers)?;
        if network.output().len() == 1 {
            warnings.push("the model has a single output, from which no class can be chosen".to_owned());
        }
        let model = Model::new(network, weights)?;
        Ok(Imported { model, input_name: shown(&entry.name), warnings })
    }

    /// What an input stands for.
    fn value(&self, node: Node<'_>, index: usize, needs: &'static str) -> Result<&Value, ImportError> {
        let name = node.input(index).ok_or_else(|| node.operand(needs))?;
        let undefined = || ImportError::Undefined { node: node.name(), value: shown(name) };
        self.values.get(name).ok_or_else(undefined)
    }

    /// An input that must be the newest activation.
    fn wire(&self, node: Node<'_>, index: usize, needs: &'static str) -> Result<Wire, ImportError> {
        match self.value(node, index, needs)? {
            Value::Wire(wire) if wire.position == self.chain.position() => Ok(wire.clone()),
            Value::Wire(_) => Err(self.branch(node, index)),
            Value::Tail(tail) => Err(not_last(tail, node)),
            Value::Repeated(..) => Err(node.operand("a convolution right behind an upsampling")),
            Value::Constant(_) | Value::Extents(_) => Err(node.operand(needs)),
        }
    }

    /// An input that must be a constant.
    fn fixed(&self, node: Node<'_>, index: usize, needs: &'static str) -> Result<Rc<Constant>, ImportError> {
        match self.value(node, index, needs)? {
            Value::Constant(constant) => Ok(Rc::clone(constant)),
            _ => Err(node.operand(needs)),
        }
    }

    fn branch(&self, node: Node<'_>, index: usize) -> ImportError {
        ImportError::Branch { node: node.name(), value: shown(node.input(index).unwrap_or_default()) }
    }

    /// Says what the first output stands for.
    fn set(&mut self, node: Node<'_>, value: Value) {
        if let Some(name) = node.output(0) {
            self.define(name.to_owned(), value);
        }
    }

    /// The first output is the newest activation.
    fn set_wire(&mut self, node: Node<'_>, dims: Vec<u32>, from: &Wire) -> Result<(), ImportError> {
        let wire = Wire::new(self.chain.position(), dims);
        self.set(node, Value::Wire(wire.ok_or_else(|| misfit(node, from))?));
        Ok(())
    }

    /// Counts values that a constant is turned or spread into.
    fn spend(&mut self, node: Node<'_>, values: usize) -> Result<(), ImportError> {
        self.copies = self.copies.saturating_add(values);
        if self.copies > COPIES_MAX {
            return Err(node.operand("fewer or smaller constants in the graph; simplify it and export again"));
        }
        Ok(())
    }

    /// Checks the layer against its input and all limits, before anything is allocated for it.
    fn admit(&mut self, node: Node<'_>, layer: Layer, wire: &Wire) -> Result<Shape, ImportError> {
        let fault = |error| match error {
            NetworkError::Misfit { .. } | NetworkError::Wire { .. } => misfit(node, wire),
            other => ImportError::Network(other),
        };
        self.chain.admit(layer, wire.shape()).map_err(fault)
    }

    /// For layers to which rows and columns matter: three dimensions that are also the network's.
    fn spatial(&mut self, node: Node<'_>, wire: &Wire) -> Result<(), ImportError> {
        if wire.dims.len() != 3 {
            return Err(node.operand("an activation of a batch, channels, rows and columns"));
        }
        match self.carried {
            Some(carried) if carried != wire.shape() => {
                Err(node.operand("an activation that was not reshaped since the last layer"))
            }
            Some(_) => Ok(()),
            None => {
                self.entry = Some(wire.shape());
                Ok(())
            }
        }
    }

    fn activation(&mut self, node: Node<'_>, layer: Layer) -> Result<(), ImportError> {
        let wire = self.wire(node, 0, "an activation")?;
        self.admit(node, layer, &wire)?;
        self.chain.push_plain(layer, wire.shape());
        self.set_wire(node, wire.dims.clone(), &wire)
    }

    fn warn(&mut self, node: Node<'_>, text: &str) {
        self.warnings.push(format!("{} {text}", node.name()));
    }
}

fn misfit(node: Node<'_>, wire: &Wire) -> ImportError {
    ImportError::Misfit { node: node.name(), dims: wire.shown() }
}

fn not_last(tail: &Tail, reader: Node<'_>) -> ImportError {
    ImportError::NotLast { node: tail.node.clone(), reader: reader.name() }
}

/// One output z becomes the logits 0 and z.
fn two_classes(layers: &mut [Layer], weights: &mut [Weights]) -> Result<(), ImportError> {
    let (Some(Layer::Dense { outputs }), Some(last)) = (layers.last_mut(), weights.last_mut()) else {
        let node = NodeName { name: "last layer".to_owned(), operator: "Sigmoid".to_owned() };
        return Err(ImportError::Operand { node, needs: "a fully connected layer before it" });
    };
    *outputs = 2;
    let row = last.weight.len();
    let mut weight = Vec::with_capacity(2 * row);
    weight.resize(row, 0.0);
    weight.extend_from_slice(&last.weight);
    *last = Weights { weight, bias: vec![0.0, last.bias[0]] };
    Ok(())
}
