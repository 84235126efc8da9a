//! Why a file does not become a model.

use super::scan::{FILE_BYTES_MAX, FILE_ELEMENTS_MAX};
use super::{NODES_MAX, OPERATORS};
use crate::graph::{NetworkError, Shape};
use crate::model::{ModelError, OneClassError};

/// A node of the graph as an error names it; made up of text from the file, cut and escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// Name of the node, or of its first output where it has none.
    pub name: String,
    /// Its operator, with the domain where it is not the default one.
    pub operator: String,
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node \"{}\" ({})", self.name, self.operator)
    }
}

/// What is wrong with a tensor of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorFault {
    /// The data stand in another file.
    #[error("stores its data in another file; export again with external_data=False")]
    External,
    /// An element type without support.
    #[error("has element type {0} of ONNX, supported are float32 and double; export in float32")]
    ElementType(i32),
    /// Dimensions and data disagree.
    #[error("has {found} values where its dimensions ask for {expected}; the file is damaged")]
    Length {
        /// Product of the dimensions.
        expected: u64,
        /// Values found.
        found: usize,
    },
    /// A negative or overflowing dimension.
    #[error("has a dimension below 0 or far too large; the file is damaged")]
    Dims,
    /// A variance that with epsilon is not above zero.
    #[error("has a variance that is not above 0; retrain or repair the model")]
    Variance,
    /// NaN or infinity.
    #[error("has a value that is not a finite number; retrain or repair the model")]
    NotFinite,
}

/// Why a file does not become a model.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is too large.
    #[error("the file has {bytes} bytes; the limit is {FILE_BYTES_MAX}")]
    FileBytes {
        /// Its size.
        bytes: usize,
    },
    /// The file has too many parts.
    #[error("the file has more than {FILE_ELEMENTS_MAX} nodes, attributes, tensors, names and integers")]
    FileElements,
    /// Framing of protobuf is broken.
    #[error("this is not an ONNX file, or a damaged one: broken at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
    /// Protobuf decoding failed.
    #[error("this is not an ONNX file, or a damaged one")]
    Decode(#[from] prost::DecodeError),
    /// There is no graph in the file.
    #[error("the file holds no graph; is it an ONNX model?")]
    NoGraph,
    /// Too many nodes.
    #[error("the graph has {found} nodes; the limit is {NODES_MAX}")]
    Nodes {
        /// Nodes found.
        found: usize,
    },
    /// Not exactly one input.
    #[error("the graph has {found} inputs ({names}); put all features in one tensor and export again")]
    Inputs {
        /// Inputs found, without initializers.
        found: usize,
        /// The first of them.
        names: String,
    },
    /// A reconstructor ends in what a classifier can do without.
    #[error(
        "output \"{output}\" comes after a softmax, sigmoid or argmax, which keeps only the order of values; a \
         reconstructor ends in a linear layer, Tanh or Clip"
    )]
    Inexact {
        /// Name of the output.
        output: String,
    },
    /// No threshold is given.
    #[error(
        "no threshold: give the largest accepted sum of squared differences, or write it into the file's metadata as \
         `consilium.threshold`, as `consilium train one-class` does"
    )]
    NoThreshold,
    /// The metadata hold no number.
    #[error("the file's metadata have a `consilium.threshold` that is not a decimal number")]
    Threshold,
    /// The network or its threshold make no one-class model.
    #[error(transparent)]
    OneClass(#[from] OneClassError),
    /// The input's shape is unusable.
    #[error(
        "input \"{input}\" has dimensions {dims}; needed are the batch and then one to three dimensions, \
         fixed in the file or given by the task"
    )]
    InputDims {
        /// Name of the input.
        input: String,
        /// What the file says.
        dims: String,
    },
    /// The input does not hold numbers.
    #[error("input \"{input}\" has element type {element} of ONNX; export with a float32 input")]
    InputElement {
        /// Name of the input.
        input: String,
        /// Element type found, 0 for something other than a tensor.
        element: i32,
    },
    /// The task has another input shape than the file.
    #[error("input \"{input}\" has dimensions {dims} without the batch, the task asks for {expected}")]
    InputShape {
        /// Name of the input.
        input: String,
        /// What the file says.
        dims: String,
        /// What the caller asked for.
        expected: Shape,
    },
    /// An operator without support.
    #[error("node \"{}\" uses operator {}; supported are {}", node.name, node.operator, OPERATORS.join(", "))]
    Operator {
        /// The node.
        node: NodeName,
    },
    /// An attribute with an unsupported value.
    #[error("{node} has {attribute} = {found}; supported is {supported}")]
    Attribute {
        /// The node.
        node: NodeName,
        /// Name of the attribute.
        attribute: &'static str,
        /// Its value in the file.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// An operand of the wrong kind or shape.
    #[error("{node} needs {needs}")]
    Operand {
        /// The node.
        node: NodeName,
        /// What the operator needs.
        needs: &'static str,
    },
    /// A value that nothing defines before its use.
    #[error("{node} reads \"{value}\", which no earlier node, initializer or input defines")]
    Undefined {
        /// The node.
        node: NodeName,
        /// The value.
        value: String,
    },
    /// A value that two nodes continue from, or two activations that meet.
    #[error("{node} makes the graph branch at \"{value}\"; supported is a plain chain of layers")]
    Branch {
        /// The node.
        node: NodeName,
        /// The value.
        value: String,
    },
    /// An operator of the tail in the middle of the graph.
    #[error(
        "node \"{}\" uses operator {}, which is supported only at the end, but {reader} computes on from it",
        node.name, node.operator
    )]
    NotLast {
        /// The node of the tail.
        node: NodeName,
        /// The node that reads its output.
        reader: NodeName,
    },
    /// The layer does not fit its input.
    #[error("{node} does not fit its input of dimensions {dims} (without the batch)")]
    Misfit {
        /// The node.
        node: NodeName,
        /// Dimensions that reach it.
        dims: String,
    },
    /// A scale or an offset that belongs to no linear layer.
    #[error(
        "{node} scales or shifts values, but {reason}; it must stand next to a fully connected or \
         convolutional layer"
    )]
    Unfoldable {
        /// The node.
        node: NodeName,
        /// Why it cannot become part of one.
        reason: &'static str,
    },
    /// A constant that cannot be used.
    #[error("tensor \"{tensor}\" {fault}")]
    Tensor {
        /// Name of the initializer, or of the node that holds it.
        tensor: String,
        /// What is wrong with it.
        fault: TensorFault,
    },
    /// The graph's result is not the end of the chain.
    #[error("output \"{output}\" is not the end of the chain of layers; export the last layer only")]
    Output {
        /// Name of the output.
        output: String,
    },
    /// Layers that make no network.
    #[error("the graph makes no supported network")]
    Network(#[from] NetworkError),
    /// Weights that make no model.
    #[error("the weights make no model")]
    Model(#[from] ModelError),
}

/// Longest text from a file that an error or a warning repeats, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// Text from the file, escaped and cut.
pub(super) fn shown(text: &str) -> String {
    let mut escaped: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        escaped.push_str("...");
    }
    escaped
}
