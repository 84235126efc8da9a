//! The part of the ONNX file format that is read and written here, as protobuf messages.
//!
//! Unknown fields are skipped when reading. Nothing prints a message that holds weights.

use prost::Message;
use zeroize::Zeroize;

/// Domain of the classical machine-learning operators.
pub(super) const MACHINE_LEARNING: &str = "ai.onnx.ml";
/// Tensor of 32-bit floating point.
pub(super) const FLOAT: i32 = 1;
/// Tensor of 32-bit integers.
pub(super) const INT32: i32 = 6;
/// Tensor of 64-bit integers.
pub(super) const INT64: i32 = 7;
/// Tensor of truth values, one byte each.
pub(super) const BOOL: i32 = 9;
/// Tensor of 64-bit floating point.
pub(super) const DOUBLE: i32 = 11;
/// Weights in another file.
pub(super) const EXTERNAL: i32 = 1;

const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_STRING: i32 = 3;
const ATTRIBUTE_INTS: i32 = 7;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct ModelMessage {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphMessage>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opsets: Vec<OpsetMessage>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata: Vec<EntryMessage>,
}

/// Anything that a tool wrote about a model.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct EntryMessage {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

impl Drop for EntryMessage {
    fn drop(&mut self) {
        // A threshold is a secret.
        self.value.zeroize();
    }
}

/// Where the threshold of a one-class model stands: the largest accepted sum of squared differences, in decimals.
pub(super) const THRESHOLD_KEY: &str = "consilium.threshold";

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpsetMessage {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct GraphMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<NodeMessage>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializers: Vec<TensorMessage>,
    #[prost(message, repeated, tag = "11")]
    pub(super) inputs: Vec<ValueMessage>,
    #[prost(message, repeated, tag = "12")]
    pub(super) outputs: Vec<ValueMessage>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct NodeMessage {
    #[prost(string, repeated, tag = "1")]
    pub(super) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attributes: Vec<AttributeMessage>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct AttributeMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, tag = "2")]
    pub(super) float: f32,
    #[prost(int64, optional, tag = "3")]
    pub(super) integer: Option<i64>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) text: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub(super) tensor: Option<TensorMessage>,
    #[prost(float, repeated, tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) integers: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(super) texts: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
}

impl Drop for AttributeMessage {
    fn drop(&mut self) {
        self.floats.zeroize();
    }
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct TensorMessage {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub(super) floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(super) small_integers: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub(super) integers: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    pub(super) doubles: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(super) location: i32,
}

impl Drop for TensorMessage {
    fn drop(&mut self) {
        self.floats.zeroize();
        self.raw.zeroize();
        self.doubles.zeroize();
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) kind: Option<KindMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KindMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor: Option<TensorKindMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorKindMessage {
    #[prost(int32, tag = "1")]
    pub(super) element: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<DimsMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DimsMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) dims: Vec<DimMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DimMessage {
    #[prost(int64, optional, tag = "1")]
    pub(super) value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) symbol: Option<String>,
}

impl NodeMessage {
    /// A node of the default domain with one output.
    pub(super) fn new(operator: &str, name: &str, inputs: &[&str], output: &str) -> Self {
        Self {
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: vec![output.to_owned()],
            name: name.to_owned(),
            operator: operator.to_owned(),
            ..Self::default()
        }
    }

    /// Adds one attribute.
    pub(super) fn with(mut self, attribute: AttributeMessage) -> Self {
        self.attributes.push(attribute);
        self
    }
}

impl AttributeMessage {
    /// An integer.
    pub(super) fn of_integer(name: &str, value: i64) -> Self {
        let mut attribute = Self::default();
        attribute.name = name.to_owned();
        attribute.kind = ATTRIBUTE_INT;
        attribute.integer = Some(value);
        attribute
    }

    /// A number.
    pub(super) fn of_float(name: &str, value: f32) -> Self {
        let mut attribute = Self::default();
        attribute.name = name.to_owned();
        attribute.kind = ATTRIBUTE_FLOAT;
        attribute.float = value;
        attribute
    }

    /// A text.
    pub(super) fn of_text(name: &str, value: &str) -> Self {
        let mut attribute = Self::default();
        attribute.name = name.to_owned();
        attribute.kind = ATTRIBUTE_STRING;
        attribute.text = value.as_bytes().to_vec();
        attribute
    }

    /// A list of integers.
    pub(super) fn of_integers(name: &str, values: &[u32]) -> Self {
        let mut attribute = Self::default();
        attribute.name = name.to_owned();
        attribute.kind = ATTRIBUTE_INTS;
        attribute.integers = values.iter().map(|value| i64::from(*value)).collect();
        attribute
    }
}

impl TensorMessage {
    /// Little-endian 32-bit floating point.
    pub(super) fn of_floats(name: &str, dims: &[u32], values: &[f32]) -> Self {
        let mut tensor = Self::default();
        tensor.name = name.to_owned();
        tensor.dims = dims.iter().map(|dim| i64::from(*dim)).collect();
        tensor.data_type = FLOAT;
        // Reserved in full, so that no reallocation leaves a copy of weights behind.
        tensor.raw.reserve_exact(size_of_val(values));
        values.iter().for_each(|value| tensor.raw.extend_from_slice(&value.to_le_bytes()));
        tensor
    }

    /// A list of 64-bit integers.
    pub(super) fn of_integers(name: &str, values: &[i64]) -> Self {
        let mut tensor = Self::default();
        tensor.name = name.to_owned();
        tensor.dims = vec![values.len() as i64];
        tensor.data_type = INT64;
        tensor.raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor
    }
}

impl ValueMessage {
    /// A tensor of 32-bit floating point whose first dimension is the batch.
    pub(super) fn batched(name: &str, dims: &[u32]) -> Self {
        let batch = DimMessage { value: None, symbol: Some("batch".to_owned()) };
        let known = dims.iter().map(|dim| DimMessage { value: Some(i64::from(*dim)), symbol: None });
        let shape = DimsMessage { dims: std::iter::once(batch).chain(known).collect() };
        let tensor = TensorKindMessage { element: FLOAT, shape: Some(shape) };
        Self { name: name.to_owned(), kind: Some(KindMessage { tensor: Some(tensor) }) }
    }
}
