//! Tensors of the Open Inference Protocol, in JSON and behind it in bytes: from a request to rows, from labels to
//! an answer.
//!
//! ```text
//! Inference-Header-Content-Length: N      first N bytes of the body: JSON; then the tensors with a
//!                                         `binary_data_size`, one after another, little-endian
//! ```
//!
//! Errors name places, never values: inputs belong to patients.

use super::failure::Failure;
use super::wire::{InferRequest, Parameters, RequestInput, RequestOutput};
use crate::client::Answer;
use crate::ledger::ReleaseId;
use crate::task::TaskTerms;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::fmt;

/// The input of every task.
pub(crate) const INPUT: &str = "input";
/// The outputs: the class index, -1 where there is no consensus, and its name.
pub(crate) const LABEL: &str = "label";
/// The name of the class.
pub(crate) const CLASS: &str = "class";
/// What stands in place of a class where too few models agree.
pub(crate) const NO_CONSENSUS: &str = "no consensus";
/// The version of every model: which models vote is the consortium's matter.
pub(crate) const VERSION: &str = "1";
/// Dimensions that an error repeats.
const DIMENSIONS_SHOWN: usize = 8;
/// Bytes of a request's id, which comes back in the answer.
const ID_BYTES_MAX: usize = 256;

/// Numbers of a tensor in row-major order, from arrays nested in any way.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Flat(pub(crate) Vec<f64>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Vec::new();
        deserializer.deserialize_any(Filling(&mut numbers))?;
        Ok(Self(numbers))
    }
}

struct Filling<'n>(&'n mut Vec<f64>);

impl<'de> DeserializeSeed<'de> for Filling<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Filling<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or arrays of numbers")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.push(number);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Filling(self.0))?.is_some() {}
        Ok(())
    }
}

/// A request that fits its task.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: Option<String>,
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) release: Option<ReleaseId>,
    pub(crate) outputs: Vec<Wanted>,
}

/// An output in the form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    name: &'static str,
    binary: bool,
}

/// What follows the task's batch dimension.
pub(crate) fn dimensions(terms: &TaskTerms) -> Vec<i64> {
    let shape = terms.roster.input;
    match (shape.height, shape.width) {
        (1, 1) => vec![shape.channels.into()],
        (height, width) => vec![shape.channels.into(), height.into(), width.into()],
    }
}

/// Takes a body apart. `header` is the `Inference-Header-Content-Length`, if there is one.
pub(crate) fn read(terms: &TaskTerms, header: Option<&str>, body: &[u8]) -> Result<Asked, Failure> {
    let length = match header {
        None => body.len(),
        Some(text) => text.parse().ok().filter(|length| *length <= body.len()).ok_or_else(|| {
            let text =
                "`Inference-Header-Content-Length` must be the length of the JSON at the head of the body";
            Failure::request(text)
        })?,
    };
    let (json, bytes) = body.split_at(length);
    let request: InferRequest = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
    let InferRequest { id, parameters, inputs, outputs } = request;
    if id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
        return Err(Failure::request(format!("`id` is longer than {ID_BYTES_MAX} bytes")));
    }
    let parameters = parameters.unwrap_or_default();
    let [input] = <[RequestInput; 1]>::try_from(inputs).map_err(|inputs| {
        let text = format!("{} takes one input, `{INPUT}`; the request has {}", terms.name(), inputs.len());
        Failure::request(text)
    })?;
    let rows = rows(terms, input, bytes)?;
    let outputs = wanted(outputs, flag(&parameters, "binary_data_output")?.unwrap_or(false))?;
    if parameters.get("sequence_id").is_some_and(|id| *id != json!(0) && *id != json!("")) {
        return Err(Failure::request("sequences are not offered: each question stands alone"));
    }
    let release = parameters.get("release").map(|name| {
        let text = "`release` must be the name of an earlier question: 32 hexadecimal digits";
        serde_json::from_value(name.clone()).map_err(|_| Failure::request(text))
    });
    Ok(Asked { id, rows, release: release.transpose()?, outputs })
}

/// The place, without the text around it, which may hold values.
fn not_json(error: &serde_json::Error) -> Failure {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not have the form of an inference request",
        _ => "is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    Failure::request(format!("the body {what}, at line {line} column {column}; see /openapi.json"))
}

fn rows(terms: &TaskTerms, input: RequestInput, bytes: &[u8]) -> Result<Vec<Vec<f64>>, Failure> {
    let RequestInput { name, shape, datatype, parameters, data } = input;
    if name != INPUT {
        return Err(Failure::request(format!(
            "{} has no input of that name; it takes `{INPUT}`",
            terms.name()
        )));
    }
    let width = match datatype.as_str() {
        "FP64" => 8,
        "FP32" => 4,
        _ => return Err(Failure::request(format!("`{INPUT}` has the datatype FP64; FP32 is taken as well"))),
    };
    let count = count(terms, &shape)?;
    let parameters = parameters.unwrap_or_default();
    if parameters.keys().any(|key| key.starts_with("shared_memory")) {
        return Err(Failure::request("shared memory is not offered; send the tensor in the body"));
    }
    let each = terms.roster.input.len();
    let numbers = match (parameters.get("binary_data_size"), data) {
        (None, Some(Flat(numbers))) if bytes.is_empty() => numbers,
        (Some(size), None) if size.as_u64() == Some(bytes.len() as u64) => {
            numbers_of(bytes, width).ok_or_else(|| uneven(width))?
        }
        (Some(_), None) => {
            let text =
                format!("`binary_data_size` of `{INPUT}` is not the {} bytes behind the JSON", bytes.len());
            return Err(Failure::request(text));
        }
        _ => {
            let text =
                format!("`{INPUT}` needs either `data`, or `binary_data_size` and bytes behind the JSON");
            return Err(Failure::request(text));
        }
    };
    if numbers.len() != count * each {
        let text = format!("`{INPUT}` of shape {shape:?} has {} values, not {}", count * each, numbers.len());
        return Err(Failure::request(text));
    }
    if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
        let text = format!("value {} of row {} is not a finite number", at % each, at / each);
        return Err(Failure::request(text));
    }
    Ok(numbers.chunks_exact(each).map(<[f64]>::to_vec).collect())
}

/// Rows in a tensor of this shape.
fn count(terms: &TaskTerms, shape: &[i64]) -> Result<usize, Failure> {
    let (wanted, batch) = (dimensions(terms), terms.batch());
    let count = match shape.split_first() {
        Some((count, rest)) if *rest == wanted => usize::try_from(*count).ok(),
        _ => None,
    };
    count.filter(|count| (1..=batch).contains(count)).ok_or_else(|| {
        let list: Vec<String> = wanted.iter().map(i64::to_string).collect();
        let list = list.join(", ");
        let first = if batch == 1 { "1".to_owned() } else { format!("1 to {batch}") };
        // A body may hold millions of dimensions.
        let (shown, more) = shape.split_at(shape.len().min(DIMENSIONS_SHOWN));
        let more = if more.is_empty() { "" } else { " and more" };
        Failure::request(format!(
            "`{INPUT}` has the shape [n, {list}] with n = {first}; the request has {shown:?}{more}"
        ))
    })
}

fn uneven(width: usize) -> Failure {
    Failure::request(format!("the bytes of `{INPUT}` are no whole number of values of {width} bytes"))
}

/// Little-endian numbers of 4 or 8 bytes.
fn numbers_of(bytes: &[u8], width: usize) -> Option<Vec<f64>> {
    if width == 4 {
        let (values, rest) = bytes.as_chunks();
        return rest
            .is_empty()
            .then(|| values.iter().map(|value| f32::from_le_bytes(*value).into()).collect());
    }
    let (values, rest) = bytes.as_chunks();
    rest.is_empty().then(|| values.iter().map(|value| f64::from_le_bytes(*value)).collect())
}

fn flag(parameters: &Parameters, key: &str) -> Result<Option<bool>, Failure> {
    match parameters.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(Failure::request(format!("the parameter `{key}` is true or false"))),
    }
}

fn wanted(outputs: Option<Vec<RequestOutput>>, binary: bool) -> Result<Vec<Wanted>, Failure> {
    let outputs = match outputs {
        Some(outputs) if !outputs.is_empty() => outputs,
        _ => return Ok([LABEL, CLASS].map(|name| Wanted { name, binary }).into()),
    };
    let mut wanted = Vec::new();
    for RequestOutput { name, parameters } in outputs {
        let name = [LABEL, CLASS].into_iter().find(|known| *known == name);
        let name =
            name.ok_or_else(|| Failure::request(format!("the outputs are `{LABEL}` and `{CLASS}`")))?;
        let parameters = parameters.unwrap_or_default();
        if parameters.get("classification").is_some_and(|count| *count != json!(0)) {
            let text =
                format!("there are no scores to rank: ask for `{LABEL}` and `{CLASS}` without a class count");
            return Err(Failure::request(text));
        }
        if parameters.keys().any(|key| key.starts_with("shared_memory")) {
            return Err(Failure::request("shared memory is not offered; outputs come in the answer"));
        }
        if wanted.iter().any(|earlier: &Wanted| earlier.name == name) {
            return Err(Failure::request(format!("the output `{name}` is named twice")));
        }
        wanted.push(Wanted { name, binary: flag(&parameters, "binary_data")?.unwrap_or(binary) });
    }
    Ok(wanted)
}

/// The outputs of an answer in JSON, and the bytes behind it.
pub(crate) fn write(outputs: &[Wanted], answer: &Answer) -> (Vec<Value>, Vec<u8>) {
    let (mut described, mut bytes) = (Vec::new(), Vec::new());
    let labels: Vec<i32> = answer
        .labels
        .iter()
        .map(|label| label.and_then(|label| i32::try_from(label).ok()).unwrap_or(-1))
        .collect();
    let classes: Vec<&str> =
        answer.classes.iter().map(|class| class.as_deref().unwrap_or(NO_CONSENSUS)).collect();
    for Wanted { name, binary } in outputs {
        let datatype = if *name == LABEL { "INT32" } else { "BYTES" };
        let shape = [labels.len(), 1];
        let mut output = json!({ "name": name, "datatype": datatype, "shape": shape });
        if *binary {
            let before = bytes.len();
            if *name == LABEL {
                bytes.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
            } else {
                for class in &classes {
                    bytes.extend((class.len() as u32).to_le_bytes());
                    bytes.extend(class.as_bytes());
                }
            }
            output["parameters"] = json!({ "binary_data_size": bytes.len() - before });
        } else if *name == LABEL {
            output["data"] = json!(labels);
        } else {
            output["data"] = json!(classes);
        }
        described.push(output);
    }
    (described, bytes)
}

#[cfg(test)]
mod tests;
