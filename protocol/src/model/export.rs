//! A model as an ONNX file that any runtime reads.

use super::onnx::{
    AttributeMessage, GraphMessage, ModelMessage, NodeMessage, OpsetMessage, TensorMessage, ValueMessage,
};
use super::{Model, Weights};
use crate::graph::{Layer, Shape, Window};
use prost::Message;

const OPERATOR_SET: i64 = 17;
/// The version of the file format that came with that operator set.
const FORMAT: i64 = 8;

/// Writes `model`; the graph has one input `input` and one output `logits`, each with the batch as
/// its first dimension. [`import`](super::import) gives back an equal model.
pub fn export(model: &Model, producer: &str) -> Vec<u8> {
    let network = model.network();
    let input = if is_flat(network.input()) {
        vec![network.input().channels]
    } else {
        spatial(network.input()).to_vec()
    };
    let mut writer = Writer {
        graph: GraphMessage { name: "model".to_owned(), ..GraphMessage::default() },
        wire: "input".to_owned(),
        is_vector: is_flat(network.input()),
    };
    writer.graph.inputs.push(ValueMessage::batched("input", &input));
    let mut weights = model.weights().iter();
    for (index, layer) in network.layers().iter().enumerate() {
        let entry = if layer.is_linear() { weights.next() } else { None };
        writer.layer(index, layer, network.shape_before(index), entry);
    }
    let output = network.output();
    let dims = if writer.is_vector { vec![output.channels] } else { spatial(output).to_vec() };
    let mut graph = writer.graph;
    if let Some(last) = graph.nodes.last_mut() {
        last.outputs = vec!["logits".to_owned()];
    }
    graph.outputs.push(ValueMessage::batched("logits", &dims));
    let message = ModelMessage {
        ir_version: FORMAT,
        producer_name: producer.to_owned(),
        graph: Some(graph),
        opsets: vec![OpsetMessage { domain: String::new(), version: OPERATOR_SET }],
    };
    message.encode_to_vec()
}

struct Writer {
    graph: GraphMessage,
    wire: String,
    /// Whether the newest activation has no rows and columns in the file.
    is_vector: bool,
}

impl Writer {
    fn layer(&mut self, index: usize, layer: &Layer, shape: Shape, weights: Option<&Weights>) {
        let name = format!("layer{index}");
        match layer {
            Layer::Dense { outputs } => {
                if !self.is_vector {
                    let axis = AttributeMessage::of_integer("axis", 1);
                    self.node("Flatten", &format!("{name}.flatten"), &[], vec![axis]);
                }
                // A wire holds at most 2^20 values.
                let dims = [*outputs, shape.len() as u32];
                let operands = self.parameters(&name, &dims, weights);
                let turned = AttributeMessage::of_integer("transB", 1);
                self.node("Gemm", &name, &operands, vec![turned]);
                self.is_vector = true;
            }
            Layer::Conv { outputs, window } => {
                self.unflatten(&name, shape);
                let [height, width] = window.kernel;
                let operands = self.parameters(&name, &[*outputs, shape.channels, height, width], weights);
                let mut attributes = sliding(window);
                attributes.push(AttributeMessage::of_integers("pads", &window.padding));
                self.node("Conv", &name, &operands, attributes);
            }
            Layer::Relu => self.node("Relu", &name, &[], vec![]),
            Layer::Square => {
                let twice = self.wire.clone();
                self.node("Mul", &name, &[twice], vec![]);
            }
            Layer::MaxPool { window } => {
                self.unflatten(&name, shape);
                self.node("MaxPool", &name, &[], sliding(window));
            }
            Layer::AveragePool { window } => {
                self.unflatten(&name, shape);
                self.node("AveragePool", &name, &[], sliding(window));
            }
        }
    }

    /// Gives a plain vector rows and columns again.
    fn unflatten(&mut self, name: &str, shape: Shape) {
        if self.is_vector {
            let target = format!("{name}.shape");
            let dims: Vec<i64> = [0].into_iter().chain(spatial(shape).map(i64::from)).collect();
            self.graph.initializers.push(TensorMessage::of_integers(&target, &dims));
            self.node("Reshape", &format!("{name}.reshape"), &[target], vec![]);
            self.is_vector = false;
        }
    }

    /// Adds a node that reads the newest activation and then `operands`.
    fn node(&mut self, operator: &str, name: &str, operands: &[String], attributes: Vec<AttributeMessage>) {
        let mut inputs = vec![self.wire.as_str()];
        inputs.extend(operands.iter().map(String::as_str));
        let output = format!("{name}.output");
        let node = NodeMessage::new(operator, name, &inputs, &output);
        self.graph.nodes.push(attributes.into_iter().fold(node, NodeMessage::with));
        self.wire = output;
    }

    /// Adds weights and bias and returns their names.
    fn parameters(&mut self, name: &str, dims: &[u32], weights: Option<&Weights>) -> Vec<String> {
        let names = [format!("{name}.weight"), format!("{name}.bias")];
        if let Some(weights) = weights {
            self.graph.initializers.push(TensorMessage::of_floats(&names[0], dims, &weights.weight));
            self.graph.initializers.push(TensorMessage::of_floats(&names[1], &dims[..1], &weights.bias));
        }
        names.to_vec()
    }
}

fn is_flat(shape: Shape) -> bool {
    shape.height == 1 && shape.width == 1
}

fn spatial(shape: Shape) -> [u32; 3] {
    [shape.channels, shape.height, shape.width]
}

fn sliding(window: &Window) -> Vec<AttributeMessage> {
    vec![
        AttributeMessage::of_integers("kernel_shape", &window.kernel),
        AttributeMessage::of_integers("strides", &window.stride),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::import;
    use super::*;
    use crate::graph::Network;

    fn model(input: Shape, layers: Vec<Layer>) -> Model {
        let network = Network::new(input, layers).unwrap();
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let mut weights = Vec::new();
        for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
            let (weight, bias) = layer.parameters(network.shape_before(index));
            let mut list = |count| (0..count).map(|_| next()).collect::<Vec<f32>>();
            weights.push(Weights { weight: list(weight), bias: list(bias) });
        }
        Model::new(network, weights).unwrap()
    }

    fn returns(model: &Model) {
        let imported = import(&export(model, "test")).unwrap();
        assert_eq!(imported.model, *model);
        assert_eq!(imported.input_name, "input");
        assert!(imported.warnings.is_empty());
    }

    #[test]
    fn every_layer_returns_unchanged() {
        let image = Shape { channels: 2, height: 9, width: 8 };
        let conv = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 1, 0, 1] };
        let pool = Window { kernel: [2, 3], stride: [1, 2], padding: [0; 4] };
        returns(&model(
            image,
            vec![
                Layer::Conv { outputs: 3, window: conv },
                Layer::Relu,
                Layer::MaxPool { window: pool },
                Layer::Square,
                Layer::AveragePool { window: Window::plain(2, 1) },
                Layer::Dense { outputs: 5 },
                Layer::Relu,
                Layer::Dense { outputs: 3 },
            ],
        ));
    }

    #[test]
    fn vectors_and_images_before_dense_layers_return_unchanged() {
        returns(&model(Shape::vector(6), vec![Layer::Dense { outputs: 2 }]));
        let image = Shape { channels: 1, height: 2, width: 3 };
        returns(&model(image, vec![Layer::Square, Layer::Dense { outputs: 2 }]));
        let single = Layer::Conv { outputs: 2, window: Window::plain(1, 1) };
        returns(&model(Shape::vector(6), vec![Layer::Dense { outputs: 3 }, single]));
    }
}
