//! ONNX files, as PyTorch and scikit-learn write them, into a [`Model`].
//!
//! The graph is read once, in its order. Every name is looked up as what it stands for so far: the
//! activation that the chain of layers carries, a constant, a shape, or a result that no layer may
//! follow. What the chain of layers cannot say is refused with the node named.
//!
//! A file is not trusted. Its parts are counted before they are decoded, its layers before they are
//! copied: memory stays below five times the size of the file plus 400 MiB, whatever it says.

mod chain;
mod entry;
mod error;
mod lower;
mod node;
mod scan;
mod tensor;
mod value;

use super::onnx::{EntryMessage, GraphMessage, ModelMessage, THRESHOLD_KEY, ValueMessage};
use super::{Model, OneClass};
use crate::graph::Shape;
use entry::Entry;
use error::shown;
use lower::Lowering;
use node::Node;
use prost::Message;
use std::rc::Rc;
use tensor::Constant;
use value::Value;

pub use error::{ImportError, NodeName, TensorFault};
pub use scan::{FILE_BYTES_MAX, FILE_ELEMENTS_MAX};

/// Most nodes that a graph may have.
pub const NODES_MAX: usize = 1024;

/// Operators that are understood, at least in some place of a graph.
pub const OPERATORS: [&str; 41] = [
    "Add",
    "ArgMax",
    "ArrayFeatureExtractor",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LeakyRelu",
    "LinearClassifier",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Mul",
    "Normalizer",
    "Pow",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Scaler",
    "Shape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "ZipMap",
];

/// A model from a file, and what was changed on the way.
#[derive(Debug)]
pub struct Imported {
    /// The model. Its outputs are logits.
    pub model: Model,
    /// Name of the graph's input.
    pub input_name: String,
    /// What was dropped, folded or expanded, one sentence each, without any weight.
    pub warnings: Vec<String>,
}

/// Reads an ONNX file whose input has fixed dimensions apart from the batch.
///
/// # Errors
/// [`ImportError`] names the node, tensor or input at fault.
pub fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    import_for(bytes, None)
}

/// Reads an ONNX file for a task whose queries have the shape `input`, if given; it then fills in
/// what the file leaves open.
///
/// # Errors
/// As [`import`], and where the file's input has another number of values or another shape.
pub fn import_for(bytes: &[u8], input: Option<Shape>) -> Result<Imported, ImportError> {
    read(bytes, input, false).map(|(imported, _)| imported)
}

/// A one-class model from a file, and what was changed on the way.
#[derive(Debug)]
pub struct ImportedOneClass {
    /// The model, as the projection that it is where it is one.
    pub model: OneClass,
    /// Name of the graph's input.
    pub input_name: String,
    /// What was folded, expanded or replaced, one sentence each, without any weight.
    pub warnings: Vec<String>,
}

/// Reads an ONNX file of a network that gives back its input, with its threshold: the largest accepted sum of squared
/// differences, given here, or in the file's metadata under `consilium.threshold` as a decimal number.
///
/// # Errors
/// As [`import_for`]; where the output is no reconstruction, as behind a softmax; and where there is no threshold.
pub fn import_one_class(
    bytes: &[u8],
    input: Option<Shape>,
    threshold: Option<f64>,
) -> Result<ImportedOneClass, ImportError> {
    let (Imported { model, input_name, warnings }, metadata) = read(bytes, input, true)?;
    let written = metadata.iter().find(|entry| entry.key == THRESHOLD_KEY);
    let threshold = match (threshold, written) {
        (Some(threshold), _) => threshold,
        (None, Some(entry)) => entry.value.trim().parse().map_err(|_| ImportError::Threshold)?,
        (None, None) => return Err(ImportError::NoThreshold),
    };
    Ok(ImportedOneClass { model: OneClass::simplest(model, threshold)?, input_name, warnings })
}

/// The model and the metadata of a file. Where the outputs must be `exact`, nothing that keeps only their order may
/// follow the last layer.
fn read(
    bytes: &[u8],
    input: Option<Shape>,
    exact: bool,
) -> Result<(Imported, Vec<EntryMessage>), ImportError> {
    scan::scan(bytes)?;
    let ModelMessage { graph, metadata, .. } = ModelMessage::decode(bytes)?;
    let mut graph = graph.ok_or(ImportError::NoGraph)?;
    if graph.nodes.len() > NODES_MAX {
        return Err(ImportError::Nodes { found: graph.nodes.len() });
    }
    let mut lowering = Lowering::new();
    for mut tensor in std::mem::take(&mut graph.initializers) {
        let name = std::mem::take(&mut tensor.name);
        let constant = Constant::from_message(tensor, &name)?;
        lowering.define(name, Value::Constant(Rc::new(constant)));
    }
    let entry = Entry::read(only_input(&graph, &lowering)?, input)?;
    lowering.enter(&entry);
    for message in &graph.nodes {
        lowering.lower(Node::new(message))?;
    }
    if exact && graph.outputs.is_empty() {
        return Err(ImportError::Output { output: "(none)".to_owned() });
    }
    for output in &graph.outputs {
        lowering.check_output(&output.name, exact)?;
    }
    lowering.finish(&entry, input).map(|imported| (imported, metadata))
}

/// The one input that no initializer gives; old files list initializers as inputs too.
fn only_input<'a>(graph: &'a GraphMessage, lowering: &Lowering) -> Result<&'a ValueMessage, ImportError> {
    let mut inputs = graph.inputs.iter().filter(|input| !lowering.defines(&input.name));
    match (inputs.next(), inputs.next()) {
        (Some(input), None) => Ok(input),
        _ => {
            let free = || graph.inputs.iter().filter(|input| !lowering.defines(&input.name));
            let names: Vec<String> = free().take(4).map(|input| shown(&input.name)).collect();
            Err(ImportError::Inputs { found: free().count(), names: names.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::onnx::{AttributeMessage, NodeMessage, TensorMessage};
    use super::*;
    use proptest::collection::vec as many;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// A graph from `x` of the given dimensions after the batch to `y`.
    fn file(dims: &[u32], nodes: Vec<NodeMessage>, initializers: Vec<TensorMessage>) -> Vec<u8> {
        let graph = GraphMessage {
            nodes,
            initializers,
            inputs: vec![ValueMessage::batched("x", dims)],
            outputs: vec![ValueMessage::batched("y", &[])],
            ..GraphMessage::default()
        };
        ModelMessage { graph: Some(graph), ..ModelMessage::default() }.encode_to_vec()
    }

    fn op(operator: &str, inputs: &[&str], output: &str) -> NodeMessage {
        NodeMessage::new(operator, &operator.to_lowercase(), inputs, output)
    }

    fn integer(name: &str, value: i64) -> AttributeMessage {
        AttributeMessage::of_integer(name, value)
    }

    fn integers(name: &str, values: &[u32]) -> AttributeMessage {
        AttributeMessage::of_integers(name, values)
    }

    fn text(name: &str, value: &str) -> AttributeMessage {
        let mut attribute = AttributeMessage::default();
        attribute.name = name.to_owned();
        attribute.text = value.as_bytes().to_vec();
        attribute
    }

    fn float(name: &str, value: f32) -> AttributeMessage {
        let mut attribute = AttributeMessage::default();
        attribute.name = name.to_owned();
        attribute.float = value;
        attribute
    }

    /// Two features to three, and kernels of two channels.
    fn constants() -> Vec<TensorMessage> {
        vec![
            TensorMessage::of_floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            TensorMessage::of_floats("b", &[3], &[0.5, -0.5, 0.25]),
            TensorMessage::of_floats("k", &[1, 2, 1, 1], &[1.0, 2.0]),
            TensorMessage::of_floats("two", &[2], &[0.0, 2.0]),
            TensorMessage::of_floats("three", &[], &[3.0]),
            TensorMessage::of_floats("none", &[0], &[]),
        ]
    }

    fn refusal(dims: &[u32], nodes: Vec<NodeMessage>) -> String {
        import(&file(dims, nodes, constants())).unwrap_err().to_string()
    }

    fn imported(dims: &[u32], nodes: Vec<NodeMessage>) -> Imported {
        import(&file(dims, nodes, constants())).unwrap()
    }

    #[test]
    fn gemm_knows_both_orders_and_its_factors() {
        let node = op("Gemm", &["x", "w", "b"], "y").with(float("alpha", 2.0)).with(float("beta", 4.0));
        let plain = imported(&[2], vec![node]).model;
        assert_eq!(plain.weights()[0].weight, [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
        assert_eq!(plain.weights()[0].bias, [2.0, -2.0, 1.0]);
        let node = op("Gemm", &["x", "w"], "y").with(integer("transB", 1));
        let turned = imported(&[3], vec![node]).model;
        assert_eq!(turned.weights()[0].weight, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(turned.weights()[0].bias, [0.0, 0.0]);
    }

    #[test]
    fn a_product_and_a_sum_are_one_layer() {
        let nodes = vec![op("MatMul", &["x", "w"], "m"), op("Add", &["b", "m"], "y")];
        let model = imported(&[2], nodes).model;
        assert_eq!(model.network().summary(), "2x1x1 fc3");
        assert_eq!(model.weights()[0].bias, [0.5, -0.5, 0.25]);
    }

    #[test]
    fn automatic_padding_becomes_numbers() {
        let kernels = TensorMessage::of_floats("k", &[1, 1, 2, 3], &[1.0; 6]);
        for (mode, padding) in [("VALID", [0; 4]), ("SAME_UPPER", [0, 1, 1, 1]), ("SAME_LOWER", [1, 1, 0, 1])]
        {
            let node = op("Conv", &["x", "k"], "y").with(text("auto_pad", mode));
            let model = import(&file(&[1, 5, 5], vec![node], vec![kernels.clone()])).unwrap().model;
            let crate::graph::Layer::Conv { window, .. } = model.network().layers()[0] else { panic!() };
            assert_eq!(window.padding, padding);
        }
    }

    #[test]
    fn a_single_row_of_coefficients_becomes_two_classes() {
        let mut coefficients = integers("classlabels_ints", &[3, 7]);
        coefficients.integers = vec![3, 7];
        let mut row = float("coefficients", 0.0);
        row.floats = vec![1.0, 2.0];
        let mut node = op("LinearClassifier", &["x"], "y").with(coefficients).with(row);
        node.domain = super::super::onnx::MACHINE_LEARNING.to_owned();
        let imported = imported(&[2], vec![node]);
        assert_eq!(imported.model.weights()[0].weight, [0.0, 0.0, 1.0, 2.0]);
        let labels = "node \"linearclassifier\" (LinearClassifier) names the classes 3, 7; answers are their \
                      positions, from 0";
        assert_eq!(imported.warnings[0], labels);
    }

    /// The layers of a graph with one node, or several, and its warnings.
    fn summary(
        dims: &[u32],
        nodes: Vec<NodeMessage>,
        initializers: Vec<TensorMessage>,
    ) -> (String, Vec<String>) {
        let imported = import(&file(dims, nodes, initializers)).unwrap();
        (imported.model.network().summary(), imported.warnings)
    }

    #[test]
    fn bent_activations_become_straight_pieces() {
        let bound = |name: &str, value| TensorMessage::of_floats(name, &[], &[value]);
        let bounds = || vec![bound("zero", 0.0), bound("low", -1.0), bound("high", 1.0), bound("six", 6.0)];
        let of = |node| summary(&[2], vec![node], bounds());
        let leaky = op("LeakyRelu", &["x"], "y").with(float("alpha", 0.2));
        assert_eq!(of(leaky), ("2x1x1 leakyrelu1/5".to_owned(), vec![]));
        let (layers, warnings) = of(op("LeakyRelu", &["x"], "y").with(float("alpha", 0.123_456)));
        assert!(
            layers.starts_with("2x1x1 leakyrelu")
                && warnings[0].contains("has alpha = 0.123456; the model has")
        );
        assert_eq!(of(op("Clip", &["x", "low", "high"], "y")).0, "2x1x1 hardtanh");
        assert_eq!(of(op("Clip", &["x", "zero"], "y")).0, "2x1x1 relu");
        let old = op("Clip", &["x"], "y").with(float("min", -1.0)).with(float("max", 1.0));
        assert_eq!(of(old).0, "2x1x1 hardtanh");
        let (layers, warnings) = of(op("Tanh", &["x"], "y"));
        assert_eq!(layers, "2x1x1 hardtanh");
        let warning = "node \"tanh\" (Tanh) was replaced by a cut at -1 and 1 (hard tanh): measure the model again, \
                       and choose its threshold by that, before it is used";
        assert_eq!(warnings, [warning]);
        let refused = |node| import(&file(&[2], vec![node], bounds())).unwrap_err().to_string();
        let six = "node \"clip\" (Clip) has min and max = 0 and 6; supported is -1 and 1, or 0 and none";
        assert_eq!(refused(op("Clip", &["x", "zero", "six"], "y")), six);
        let steep = "node \"leakyrelu\" (LeakyRelu) has alpha = 1.5; supported is a number from 0 to below 1";
        assert_eq!(refused(op("LeakyRelu", &["x"], "y").with(float("alpha", 1.5))), steep);
    }

    #[test]
    fn what_enlarges_becomes_a_shuffle() {
        let kernels = TensorMessage::of_floats("k", &[2, 3, 4, 4], &[0.5; 96]);
        let up = op("ConvTranspose", &["x", "k"], "y").with(integers("strides", &[2, 2]));
        let exact = up.clone().with(integers("pads", &[1, 1, 1, 1]));
        let (layers, _) = summary(&[2, 5, 6], vec![exact.clone()], vec![kernels.clone()]);
        assert_eq!(layers, "2x5x6 conv3x3x12 shuffle2");
        let mut normal = op("BatchNormalization", &["y", "s", "b", "m", "v"], "z");
        normal.attributes.push(float("epsilon", 0.0));
        let list = |name: &str, values: [f32; 3]| TensorMessage::of_floats(name, &[3], &values);
        let statistics = [list("s", [2.0, 3.0, 4.0]), list("b", [1.0, 2.0, 3.0])];
        let moments = [list("m", [0.0; 3]), list("v", [1.0; 3])];
        let constants = std::iter::once(kernels.clone()).chain(statistics).chain(moments).collect();
        let mut message = ModelMessage::decode(&*file(&[2, 5, 6], vec![exact, normal], constants)).unwrap();
        message.graph.as_mut().unwrap().outputs[0].name = "z".to_owned();
        let folded = import(&message.encode_to_vec()).unwrap().model;
        assert_eq!(folded.network().summary(), "2x5x6 conv3x3x12 shuffle2");
        let bias: Vec<f32> = [1.0, 2.0, 3.0].into_iter().flat_map(|bias| [bias; 4]).collect();
        assert_eq!(folded.weights()[0].bias, bias);
        assert!(folded.weights()[0].weight[..72].iter().all(|weight| [0.0, 1.0].contains(weight)));
        let loose = import(&file(&[2, 5, 6], vec![up], vec![kernels])).unwrap_err().to_string();
        let exact = "a transposed convolution that enlarges exactly by its strides, which are equal";
        assert!(loose.ends_with(exact), "{loose}");
    }

    #[test]
    fn an_upsampling_is_taken_into_the_convolution_behind_it() {
        let constants = || {
            vec![
                TensorMessage::of_floats("k", &[3, 2, 4, 4], &[0.5; 96]),
                TensorMessage::of_floats("twice", &[4], &[1.0, 1.0, 2.0, 2.0]),
                TensorMessage::of_integers("sizes", &[1, 2, 10, 12]),
                TensorMessage::of_floats("wide", &[4], &[1.0, 1.0, 1.0, 2.0]),
            ]
        };
        let plain = |inputs: &[&str]| op("Resize", inputs, "r").with(text("mode", "nearest"));
        let floor = |node: NodeMessage| {
            node.with(text("coordinate_transformation_mode", "asymmetric"))
                .with(text("nearest_mode", "floor"))
        };
        let conv = || op("Conv", &["r", "k"], "y").with(integers("pads", &[1, 1, 2, 2]));
        let expected = "2x5x6 conv3x3x12 shuffle2";
        for resize in [plain(&["x", "", "twice"]), floor(plain(&["x", "", "", "sizes"]))] {
            assert_eq!(summary(&[2, 5, 6], vec![resize, conv()], constants()).0, expected);
        }
        let refused = |nodes| import(&file(&[2, 5, 6], nodes, constants())).unwrap_err().to_string();
        let bare = refused(vec![plain(&["x", "", "twice"]), op("Relu", &["r"], "y")]);
        assert!(bare.ends_with("a convolution right behind an upsampling"), "{bare}");
        let uneven = refused(vec![plain(&["x", "", "wide"]), conv()]);
        assert!(uneven.contains("repeat rows and columns equally often"), "{uneven}");
        let mut last = plain(&["x", "", "twice"]);
        last.outputs = vec!["y".to_owned()];
        assert_eq!(
            refused(vec![last]),
            "output \"y\" is not the end of the chain of layers; export the last layer only"
        );
    }

    #[test]
    fn unknown_operators_are_named() {
        let start = "node \"erf\" uses operator Erf; supported are Add, ArgMax, ArrayFeatureExtractor, ";
        assert!(refusal(&[2], vec![op("Erf", &["x"], "y")]).starts_with(start));
        let mut foreign = op("Relu", &["x"], "y");
        foreign.domain = "com.example".to_owned();
        assert!(refusal(&[2], vec![foreign]).starts_with("node \"relu\" uses operator com.example::Relu; "));
    }

    #[test]
    fn a_sigmoid_between_layers_is_named() {
        let nodes = vec![op("Sigmoid", &["x"], "s"), op("MatMul", &["s", "w"], "y")];
        let expected = "node \"sigmoid\" uses operator Sigmoid, which is supported only at the end, but node \
                        \"matmul\" (MatMul) computes on from it";
        assert_eq!(refusal(&[2], nodes), expected);
    }

    #[test]
    fn branches_are_named() {
        let residual = vec![op("Relu", &["x"], "r"), op("Add", &["r", "x"], "y")];
        let expected =
            "node \"add\" (Add) makes the graph branch at \"x\"; supported is a plain chain of layers";
        assert_eq!(refusal(&[2], residual), expected);
        let fork = vec![op("MatMul", &["x", "w"], "a"), op("Relu", &["x"], "y")];
        let expected =
            "node \"relu\" (Relu) makes the graph branch at \"x\"; supported is a plain chain of layers";
        assert_eq!(refusal(&[2], fork), expected);
    }

    #[test]
    fn an_output_from_the_middle_is_named() {
        let nodes = vec![op("MatMul", &["x", "w"], "y"), op("Relu", &["y"], "z")];
        let expected = "output \"y\" is not the end of the chain of layers; export the last layer only";
        assert_eq!(refusal(&[2], nodes), expected);
    }

    #[test]
    fn values_from_nowhere_are_named() {
        let expected =
            "node \"relu\" (Relu) reads \"q\", which no earlier node, initializer or input defines";
        assert_eq!(refusal(&[2], vec![op("Relu", &["q"], "y")]), expected);
    }

    #[test]
    fn attributes_without_support_are_named() {
        let pool =
            |attribute| op("MaxPool", &["x"], "y").with(integers("kernel_shape", &[2, 2])).with(attribute);
        let conv = |attribute| op("Conv", &["x", "k"], "y").with(attribute);
        let cases = [
            (pool(integer("ceil_mode", 1)), "node \"maxpool\" (MaxPool) has ceil_mode = 1; supported is 0"),
            (
                pool(integers("pads", &[1, 0, 0, 0])),
                "node \"maxpool\" (MaxPool) has pads = [1, 0, 0, 0]; supported is no padding",
            ),
            (
                pool(integers("dilations", &[1, 2])),
                "node \"maxpool\" (MaxPool) has dilations = 2; supported is only 1",
            ),
            (conv(integer("group", 2)), "node \"conv\" (Conv) has group = 2; supported is 1"),
            (
                conv(integers("dilations", &[2, 2])),
                "node \"conv\" (Conv) has dilations = 2; supported is only 1",
            ),
            (
                conv(integers("strides", &[0, 1])),
                "node \"conv\" (Conv) has strides = [0, 1]; supported is two numbers above 0",
            ),
            (
                conv(text("auto_pad", "OTHER")),
                "node \"conv\" (Conv) has auto_pad = OTHER; supported is NOTSET, VALID, SAME_UPPER or \
                 SAME_LOWER",
            ),
        ];
        for (node, expected) in cases {
            assert_eq!(refusal(&[2, 4, 4], vec![node]), expected);
        }
        let node = op("Gemm", &["x", "w"], "y").with(integer("transA", 1));
        assert_eq!(refusal(&[2], vec![node]), "node \"gemm\" (Gemm) has transA = 1; supported is 0");
        let nodes = vec![op("MatMul", &["x", "w"], "m"), op("Softmax", &["m"], "y").with(integer("axis", 0))];
        let expected = "node \"softmax\" (Softmax) has axis = 0; supported is the axis of the classes";
        assert_eq!(refusal(&[2], nodes), expected);
    }

    #[test]
    fn misfits_are_named() {
        let expected = "node \"matmul\" (MatMul) does not fit its input of dimensions 5 (without the batch)";
        assert_eq!(refusal(&[5], vec![op("MatMul", &["x", "w"], "y")]), expected);
        let expected = "node \"conv\" (Conv) does not fit its input of dimensions 3x4x4 (without the batch)";
        assert_eq!(refusal(&[3, 4, 4], vec![op("Conv", &["x", "k"], "y")]), expected);
    }

    #[test]
    fn arithmetic_without_support_is_named() {
        let expected = "node \"div\" (Div) needs an activation and a constant, in an order that scales or shifts \
                        it";
        assert_eq!(refusal(&[2], vec![op("Div", &["x", "two"], "y")]), expected);
        assert_eq!(refusal(&[2], vec![op("Div", &["three", "x"], "y")]), expected);
        let expected = "node \"pow\" (Pow) needs the constant 2 as its exponent";
        assert_eq!(refusal(&[2], vec![op("Pow", &["x", "three"], "y")]), expected);
        let nodes = vec![op("Relu", &["x"], "r"), op("Mul", &["r", "two"], "y")];
        let expected = "node \"mul\" (Mul) scales or shifts values, but no such layer follows; it must stand next \
                        to a fully connected or convolutional layer";
        assert_eq!(refusal(&[2], nodes), expected);
    }

    #[test]
    fn shapes_that_mix_the_batch_are_named() {
        for target in [vec![2, -1], vec![-1, 3], vec![-1], vec![-1, -1], vec![0, 4, i64::MAX]] {
            let mut initializers = constants();
            initializers.push(TensorMessage::of_integers("s", &target));
            let error = import(&file(&[2, 4, 4], vec![op("Reshape", &["x", "s"], "y")], initializers));
            let expected = "node \"reshape\" (Reshape) needs a constant shape that keeps the batch first and the \
                            number of values";
            assert_eq!(error.unwrap_err().to_string(), expected, "{target:?}");
        }
    }

    #[test]
    fn bad_numbers_name_their_initializer() {
        let mut initializers = constants();
        initializers[0] = TensorMessage::of_floats("w", &[2, 3], &[1.0, 2.0, f32::NAN, 4.0, 5.0, 6.0]);
        let error = import(&file(&[2], vec![op("MatMul", &["x", "w"], "y")], initializers)).unwrap_err();
        let expected = "tensor \"w\" has a value that is not a finite number; retrain or repair the model";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn numbers_that_overflow_while_folding_name_their_layer() {
        let mut initializers = constants();
        initializers.push(TensorMessage::of_floats("big", &[1], &[f32::MAX]));
        let nodes = vec![op("MatMul", &["x", "w"], "m"), op("Mul", &["m", "big"], "y")];
        let error = import(&file(&[2], nodes, initializers)).unwrap_err();
        let ImportError::Model(inner) = error else { panic!("{error}") };
        let expected =
            "layer 0 (fc3) has a weight or bias that is not a finite number; retrain or repair the model";
        assert_eq!(inner.to_string(), expected);
    }

    #[test]
    fn more_than_one_input_is_refused() {
        let mut graph = ModelMessage::decode(file(&[2], vec![], vec![]).as_slice()).unwrap();
        let inputs = &mut graph.graph.as_mut().unwrap().inputs;
        inputs.push(ValueMessage::batched("age", &[1]));
        let error = import(&graph.encode_to_vec()).unwrap_err();
        let expected = "the graph has 2 inputs (x, age); put all features in one tensor and export again";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn long_chains_stop_at_the_limit_of_networks() {
        let nodes = (0..100).map(|index| {
            let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
            op("Relu", &[if index == 0 { "x" } else { &from }], &to)
        });
        let error = import(&file(&[2], nodes.collect(), vec![])).unwrap_err();
        assert!(matches!(error, ImportError::Network(crate::graph::NetworkError::LayerCount(65))));
        let many = vec![op("Identity", &["x"], "y"); NODES_MAX + 1];
        let error = import(&file(&[2], many, vec![])).unwrap_err();
        assert_eq!(error.to_string(), "the graph has 1025 nodes; the limit is 1024");
    }

    #[test]
    fn constants_spread_only_so_far() {
        let row = TensorMessage::of_floats("row", &[1024], &[1.5; 1024]);
        let nodes = (0..100).map(|index| {
            let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
            op("Add", &[if index == 0 { "x" } else { &from }, "row"], &to)
        });
        let error = import(&file(&[1, 1024, 1024], nodes.collect(), vec![row])).unwrap_err();
        let expected = "node \"add\" (Add) needs fewer or smaller constants in the graph; simplify it and export \
                        again";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn normalisation_needs_channels() {
        let none = TensorMessage::of_floats("none", &[0], &[]);
        let nodes = vec![
            op("Squeeze", &["x"], "s"),
            op("BatchNormalization", &["s", "none", "none", "none", "none"], "n"),
            op("Relu", &["n"], "y"),
        ];
        let error = import(&file(&[1], nodes, vec![none])).unwrap_err();
        assert!(matches!(error, ImportError::Operand { node, .. } if node.operator == "BatchNormalization"));
    }

    #[test]
    fn names_from_the_file_are_cut_and_escaped() {
        let mut node = op("Erf", &["x"], "y");
        node.name = format!("\u{1b}[31m{}", "n".repeat(1000));
        let error = refusal(&[2], vec![node]);
        assert!(error.starts_with("node \"\\u{1b}[31mnnn"));
        assert!(error.find("...\" uses operator Erf").unwrap() < 200);
    }

    #[test]
    fn the_list_of_operators_is_sorted_and_true() {
        assert!(OPERATORS.is_sorted());
        for operator in OPERATORS {
            let result = import(&file(&[2], vec![op(operator, &["x", "x"], "y")], vec![]));
            assert!(!matches!(result, Err(ImportError::Operator { .. })), "{operator}");
        }
    }

    /// Numbers at the borders of what is allowed.
    fn border() -> impl Strategy<Value = i64> {
        prop_oneof![3 => -3..5i64, 1 => select(vec![i64::MIN, i64::MAX, 1 << 20, 1 << 31, 1 << 32, -(1 << 32)])]
    }

    /// Name and contents of every type.
    type AnyAttribute = (&'static str, i64, Vec<i64>, Vec<f32>, &'static str);

    fn any_attribute() -> impl Strategy<Value = AnyAttribute> {
        let names = "axis axes kernel_shape strides pads keepdims perm to transB group allowzero coefficients \
                     intercepts offset scale classlabels_ints epsilon value_int value_ints value_float alpha \
                     auto_pad";
        let texts = vec!["", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "L1"];
        let floats = many(select(vec![0.0, 1.0, -2.5, f32::MAX, f32::NAN]), 0..5);
        let names: Vec<&str> = names.split_whitespace().collect();
        (select(names), border(), many(border(), 0..5), floats, select(texts))
    }

    fn attribute((name, integer, integers, floats, value): AnyAttribute) -> AttributeMessage {
        let mut attribute = text(name, value);
        attribute.integer = Some(integer);
        attribute.integers = integers;
        attribute.float = floats.first().copied().unwrap_or_default();
        attribute.floats = floats;
        attribute
    }

    /// An operator, its operands as indices, and attributes.
    fn any_node() -> impl Strategy<Value = (&'static str, Vec<usize>, Vec<AnyAttribute>)> {
        (select(OPERATORS.to_vec()), many(0..14usize, 0..5), many(any_attribute(), 0..4))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
            std::env::var("CONSILIUM_FUZZ_CASES").map_or(2000, |text| text.parse().unwrap())
        ) })]

        /// Each node mostly continues from the one before, so that chains grow.
        #[test]
        fn arbitrary_graphs_never_panic(
            dims in many(0..6u32, 0..5),
            shape in many(border(), 0..5),
            nodes in many(any_node(), 1..9),
        ) {
            let mut names: Vec<String> =
                ["x", "w", "b", "k", "two", "three", "s", "none", ""].map(ToOwned::to_owned).to_vec();
            let mut initializers = constants();
            initializers.push(TensorMessage::of_integers("s", &shape));
            let mut messages = Vec::new();
            let last = nodes.len() - 1;
            for (index, (operator, operands, attributes)) in nodes.into_iter().enumerate() {
                let newest = if index == 0 { "x".to_owned() } else { format!("v{}", index - 1) };
                let mut inputs: Vec<String> =
                    operands.iter().map(|operand| names.get(*operand).unwrap_or(&newest).clone()).collect();
                inputs.insert(0, newest);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let output = if index == last { "y".to_owned() } else { format!("v{index}") };
                let node = op(operator, &inputs, &output);
                messages.push(attributes.into_iter().map(attribute).fold(node, NodeMessage::with));
                names.push(output);
            }
            if let Ok(imported) = import(&file(&dims, messages, initializers)) {
                let again = import(&super::super::export(&imported.model, "test")).unwrap();
                prop_assert_eq!(again.model, imported.model);
            }
        }
    }
}
