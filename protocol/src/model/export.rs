//! A model as an ONNX file that any runtime reads.

use super::onnx::THRESHOLD_KEY;
use super::onnx::{
    AttributeMessage, EntryMessage, GraphMessage, ModelMessage, NodeMessage, OpsetMessage, TensorMessage,
    ValueMessage,
};
use super::{Model, OneClass, OneClassError, Projection, Weights};
use crate::graph::{Layer, MeasureError, Network, Shape, Window};
use prost::Message;

const OPERATOR_SET: i64 = 17;
/// The version of the file format that came with that operator set.
const FORMAT: i64 = 8;

/// Writes `model`; the graph has one input `input` and one output `logits`, each with the batch as
/// its first dimension. [`import`](super::import) gives back an equal model.
pub fn export(model: &Model, producer: &str) -> Vec<u8> {
    written(model, producer, Vec::new())
}

/// Writes a one-class model: a network that gives back its input, `m + B' B (x - m)` where it is a projection, with the
/// threshold in the metadata. [`import_one_class`](super::import_one_class) gives back a model of the same distances: slopes
/// reduced, two dense layers that are a projection as one, and with the rounding of `B m` where it is a projection.
///
/// # Errors
/// The projection is too large for a network: its rows, written twice, pass the limit of parameters.
pub fn export_one_class(model: &OneClass, producer: &str) -> Result<Vec<u8>, OneClassError> {
    let entry = EntryMessage { key: THRESHOLD_KEY.to_owned(), value: model.threshold().to_string() };
    let unrolled = model.directions().map(|rows| unrolled(rows, model.measure().input())).transpose()?;
    let network = unrolled.as_ref().or(model.reconstructor());
    Ok(network.map_or_else(Vec::new, |network| written(network, producer, vec![entry])))
}

/// A projection as two dense layers.
fn unrolled(projection: &Projection, input: Shape) -> Result<Model, OneClassError> {
    let values = projection.mean.len();
    let rank = projection.rows.len() / values.max(1);
    let outputs = |outputs: usize| Layer::Dense { outputs: u32::try_from(outputs).unwrap_or(u32::MAX) };
    let network = Network::new(input, vec![outputs(rank), outputs(values)]);
    let network = network.map_err(MeasureError::from)?;
    let shifted = |row: &[f32]| {
        let terms =
            row.iter().zip(&projection.mean).map(|(weight, mean)| f64::from(*weight) * f64::from(*mean));
        -terms.sum::<f64>() as f32
    };
    let bias = projection.rows.chunks(values.max(1)).map(shifted).collect();
    let turned =
        (0..values).flat_map(|value| projection.rows.iter().skip(value).step_by(values.max(1)).copied());
    let second = Weights { weight: turned.collect(), bias: projection.mean.clone() };
    let weights = vec![Weights { weight: projection.rows.clone(), bias }, second];
    Model::new(network, weights).map_err(|_| OneClassError::NotFinite("a row times the mean"))
}

fn written(model: &Model, producer: &str, metadata: Vec<EntryMessage>) -> Vec<u8> {
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
        metadata,
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
            Layer::LeakyRelu { slope } => {
                let alpha = AttributeMessage::of_float("alpha", slope.value() as f32);
                self.node("LeakyRelu", &name, &[], vec![alpha]);
            }
            Layer::HardTanh => {
                let bounds = [("min", -1.0), ("max", 1.0)].map(|(end, value)| {
                    let bound = format!("{name}.{end}");
                    self.graph.initializers.push(TensorMessage::of_floats(&bound, &[], &[value]));
                    bound
                });
                self.node("Clip", &name, &bounds, vec![]);
            }
            Layer::PixelShuffle { block } => {
                self.unflatten(&name, shape);
                let attributes = [
                    AttributeMessage::of_integer("blocksize", i64::from(*block)),
                    AttributeMessage::of_text("mode", "CRD"),
                ];
                self.node("DepthToSpace", &name, &[], attributes.to_vec());
            }
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
    use super::super::{ImportError, import, import_one_class};
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
                Layer::Conv { outputs: 8, window: Window::plain(1, 1) },
                Layer::LeakyRelu { slope: crate::graph::Slope { rise: 1, run: 5 } },
                Layer::PixelShuffle { block: 2 },
                Layer::HardTanh,
                Layer::Dense { outputs: 5 },
                Layer::Relu,
                Layer::Dense { outputs: 3 },
            ],
        ));
    }

    #[test]
    fn one_class_models_return_with_their_thresholds() {
        let back = |model: &OneClass| {
            let bytes = export_one_class(model, "test").unwrap();
            import_one_class(&bytes, None, None).unwrap().model
        };
        let input = Shape { channels: 1, height: 2, width: 2 };
        let rows = vec![0.6, 0.8, 0.0, 0.0, 0.0, 0.0, 0.8, -0.6];
        let projection = Projection { mean: vec![1.0, 2.0, 3.0, 4.0], rows };
        let projection = OneClass::projection(input, projection, 0.1).unwrap();
        assert_eq!(back(&projection), projection);
        let network =
            model(input, vec![Layer::Dense { outputs: 3 }, Layer::Relu, Layer::Dense { outputs: 4 }]);
        let reconstructor = OneClass::reconstruction(network, 1234.5678).unwrap();
        assert_eq!(back(&reconstructor), reconstructor);
        let bytes = export_one_class(&reconstructor, "test").unwrap();
        assert!((import_one_class(&bytes, None, Some(3.0)).unwrap().model.threshold() - 3.0).abs() < 1e-12);
        let without = export(reconstructor.reconstructor().unwrap(), "test");
        assert!(matches!(import_one_class(&without, None, None), Err(ImportError::NoThreshold)));
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
