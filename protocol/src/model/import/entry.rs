//! The graph's input: its name, batch and dimensions.

use super::error::{ImportError, shown};
use super::value::Wire;
use crate::graph::Shape;
use crate::model::onnx::{DOUBLE, DimMessage, FLOAT, ValueMessage};

/// Element types of ONNX that are numbers: the floating-point and integer ones.
const NUMBERS: [i32; 12] = [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 16];

/// The input of the graph.
pub(super) struct Entry {
    /// Its name, as the file has it.
    pub(super) name: String,
    /// Size of the batch where the file fixes one.
    pub(super) batch: Option<i64>,
    /// One query.
    pub(super) wire: Wire,
    /// Whether the file asks for floating point.
    pub(super) is_float: bool,
}

impl Entry {
    /// Reads the declaration; `expected` fills in what it leaves open.
    pub(super) fn read(declared: &ValueMessage, expected: Option<Shape>) -> Result<Self, ImportError> {
        let input = || shown(&declared.name);
        let tensor = declared.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        let element = tensor.map_or(0, |tensor| tensor.element);
        if !NUMBERS.contains(&element) {
            return Err(ImportError::InputElement { input: input(), element });
        }
        let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dims.as_slice());
        let unusable =
            || ImportError::InputDims { input: input(), dims: dims.map_or("unknown".to_owned(), describe) };
        let (batch, features) = match dims {
            Some([batch, features @ ..]) => (batch.value, resolve(features, expected)),
            Some([]) => return Err(unusable()),
            None => (None, expected.map(natural)),
        };
        let fits = features.filter(|features| (1..=3).contains(&features.len()));
        let wire = fits.and_then(|features| Wire::new(0, features)).ok_or_else(unusable)?;
        if let Some(expected) = expected.filter(|expected| expected.len() != wire.len()) {
            return Err(ImportError::InputShape { input: input(), dims: wire.shown(), expected });
        }
        Ok(Self { name: declared.name.clone(), batch, wire, is_float: [FLOAT, DOUBLE].contains(&element) })
    }
}

/// The dimensions after the batch, open ones taken from the task.
fn resolve(declared: &[DimMessage], expected: Option<Shape>) -> Option<Vec<u32>> {
    let fallback = match (declared.len(), expected) {
        (3, Some(shape)) => Some(vec![shape.channels, shape.height, shape.width]),
        (1, Some(shape)) => Some(vec![u32::try_from(shape.len()).ok()?]),
        _ => None,
    };
    let dim = |(index, dim): (usize, &DimMessage)| match dim.value {
        Some(value) if value > 0 => u32::try_from(value).ok(),
        _ => fallback.as_ref().map(|dims| dims[index]),
    };
    declared.iter().take(4).enumerate().map(dim).collect()
}

fn natural(shape: Shape) -> Vec<u32> {
    if shape.height == 1 && shape.width == 1 {
        vec![shape.channels]
    } else {
        vec![shape.channels, shape.height, shape.width]
    }
}

fn describe(dims: &[DimMessage]) -> String {
    let dim = |dim: &DimMessage| match (dim.value, &dim.symbol) {
        (Some(value), _) => value.to_string(),
        (None, Some(symbol)) => shown(symbol),
        (None, None) => "?".to_owned(),
    };
    let shown: Vec<String> = dims.iter().take(8).map(dim).collect();
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(dims: &[i64]) -> ValueMessage {
        let mut message = ValueMessage::batched("x", &[]);
        let shape = message.kind.as_mut().unwrap().tensor.as_mut().unwrap().shape.as_mut().unwrap();
        shape.dims = dims
            .iter()
            .map(|dim| DimMessage { value: (*dim >= 0).then_some(*dim), symbol: Some("n".to_owned()) })
            .collect();
        message
    }

    const IMAGE: Shape = Shape { channels: 3, height: 8, width: 6 };

    #[test]
    fn the_first_dimension_is_the_batch() {
        let entry = Entry::read(&declared(&[1, 30]), None).unwrap();
        assert_eq!((entry.batch, entry.wire.dims), (Some(1), vec![30]));
        let entry = Entry::read(&declared(&[-1, 1, 8, 8]), None).unwrap();
        assert_eq!((entry.batch, entry.wire.dims), (None, vec![1, 8, 8]));
    }

    #[test]
    fn the_task_fills_in_open_dimensions() {
        let entry = Entry::read(&declared(&[-1, 3, -1, -1]), Some(IMAGE)).unwrap();
        assert_eq!(entry.wire.dims, [3, 8, 6]);
        let entry = Entry::read(&declared(&[-1, -1]), Some(IMAGE)).unwrap();
        assert_eq!(entry.wire.dims, [144]);
    }

    #[test]
    fn open_dimensions_without_a_task_are_refused() {
        let error = Entry::read(&declared(&[-1, 3, -1, 8]), None).err().unwrap();
        let expected = "input \"x\" has dimensions [n, 3, n, 8]; needed are the batch and then one to three \
                        dimensions, fixed in the file or given by the task";
        assert_eq!(error.to_string(), expected);
        assert!(Entry::read(&declared(&[30]), None).is_err());
        assert!(Entry::read(&declared(&[1, 1, 1, 1, 1]), None).is_err());
    }

    #[test]
    fn a_task_with_another_shape_is_refused() {
        let error = Entry::read(&declared(&[-1, 30]), Some(Shape::vector(31))).err().unwrap();
        let expected = "input \"x\" has dimensions 30 without the batch, the task asks for 31x1x1";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn text_inputs_are_refused() {
        let mut message = declared(&[-1, 30]);
        message.kind.as_mut().unwrap().tensor.as_mut().unwrap().element = 8;
        let error = Entry::read(&message, None).err().unwrap();
        assert!(matches!(error, ImportError::InputElement { element: 8, .. }));
    }
}
