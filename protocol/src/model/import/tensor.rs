//! Constants of the graph: initializers and the values of `Constant` nodes.

use super::error::{ImportError, TensorFault, shown};
use crate::model::onnx::{BOOL, DOUBLE, EXTERNAL, FLOAT, INT32, INT64, TensorMessage};
use zeroize::Zeroizing;

/// A constant, row-major.
pub(super) struct Constant {
    name: String,
    dims: Vec<usize>,
    data: Data,
}

enum Data {
    Floats(Zeroizing<Vec<f32>>),
    Integers(Vec<i64>),
    /// Kept so that labels given as text do no harm; the element type of ONNX.
    Opaque(i32),
}

impl Constant {
    /// Takes the data out of a message. `owner` names a tensor that has no name itself.
    pub(super) fn from_message(mut message: TensorMessage, owner: &str) -> Result<Self, ImportError> {
        let name = shown(if message.name.is_empty() { owner } else { &message.name });
        let refused = |fault| ImportError::Tensor { tensor: name.clone(), fault };
        if message.location == EXTERNAL {
            return Err(refused(TensorFault::External));
        }
        let mut expected = 1u64;
        let mut dims = Vec::with_capacity(message.dims.len());
        for dim in &message.dims {
            let dim = u32::try_from(*dim).map_err(|_| refused(TensorFault::Dims))?;
            expected = expected.checked_mul(u64::from(dim)).ok_or_else(|| refused(TensorFault::Dims))?;
            dims.push(dim as usize);
        }
        let data = read(&mut message);
        let found = match &data {
            Data::Floats(values) => values.len(),
            Data::Integers(values) => values.len(),
            Data::Opaque(_) => return Ok(Self { name, dims, data }),
        };
        if found as u64 != expected {
            return Err(refused(TensorFault::Length { expected, found }));
        }
        if matches!(&data, Data::Floats(values) if !values.iter().all(|value| value.is_finite())) {
            return Err(refused(TensorFault::NotFinite));
        }
        Ok(Self { name, dims, data })
    }

    /// A constant made of integers.
    pub(super) fn of_integers(name: &str, values: Vec<i64>) -> Self {
        Self { name: shown(name), dims: vec![values.len()], data: Data::Integers(values) }
    }

    /// A list of floating-point numbers, or a single one without dimensions.
    pub(super) fn of_floats(name: &str, values: &[f32]) -> Result<Self, ImportError> {
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ImportError::Tensor { tensor: shown(name), fault: TensorFault::NotFinite });
        }
        let dims = if values.len() == 1 { Vec::new() } else { vec![values.len()] };
        Ok(Self { name: shown(name), dims, data: Data::Floats(Zeroizing::new(values.to_vec())) })
    }

    /// Its name, fit to be shown.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Floats(values) => values.len(),
            Data::Integers(values) => values.len(),
            Data::Opaque(_) => 0,
        }
    }

    /// The values as weights.
    pub(super) fn floats(&self) -> Result<&[f32], ImportError> {
        let element = match &self.data {
            Data::Floats(values) => return Ok(values),
            Data::Integers(_) => INT64,
            Data::Opaque(element) => *element,
        };
        Err(ImportError::Tensor { tensor: self.name.clone(), fault: TensorFault::ElementType(element) })
    }

    /// The values as integers, `None` where they are something else.
    pub(super) fn integers(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Integers(values) => Some(values),
            _ => None,
        }
    }

    /// One number of any type, `None` where there is not exactly one.
    pub(super) fn scalar(&self) -> Option<f64> {
        match &self.data {
            Data::Floats(values) if values.len() == 1 => Some(f64::from(values[0])),
            Data::Integers(values) if values.len() == 1 => Some(values[0] as f64),
            _ => None,
        }
    }

    /// Rows and columns exchanged; `None` unless it is a matrix of floating-point numbers.
    pub(super) fn transposed(&self) -> Option<Self> {
        let ([rows, columns], Data::Floats(values)) = (self.dims.as_slice(), &self.data) else {
            return None;
        };
        // Without values there may still be 2^32 columns to walk over.
        if values.is_empty() {
            return None;
        }
        let mut turned = Zeroizing::new(Vec::with_capacity(values.len()));
        for column in 0..*columns {
            turned.extend((0..*rows).map(|row| values[row * columns + column]));
        }
        Some(Self { name: self.name.clone(), dims: vec![*columns, *rows], data: Data::Floats(turned) })
    }
}

/// The data in whichever field they stand; a partial last element of raw data counts as a value too
/// many, so that the check of the length sees it.
fn read(message: &mut TensorMessage) -> Data {
    let raw = &message.raw;
    match message.data_type {
        FLOAT if raw.is_empty() => Data::Floats(Zeroizing::new(std::mem::take(&mut message.floats))),
        FLOAT => Data::Floats(Zeroizing::new(elements(raw, f32::from_le_bytes))),
        DOUBLE if raw.is_empty() => {
            Data::Floats(Zeroizing::new(message.doubles.iter().map(|value| *value as f32).collect()))
        }
        DOUBLE => Data::Floats(Zeroizing::new(elements(raw, |bytes| f64::from_le_bytes(bytes) as f32))),
        INT64 if raw.is_empty() => Data::Integers(std::mem::take(&mut message.integers)),
        INT64 => Data::Integers(elements(raw, i64::from_le_bytes)),
        INT32 | BOOL if raw.is_empty() => {
            Data::Integers(message.small_integers.iter().map(|value| i64::from(*value)).collect())
        }
        INT32 => Data::Integers(elements(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))),
        BOOL => Data::Integers(raw.iter().map(|byte| i64::from(*byte)).collect()),
        other => Data::Opaque(other),
    }
}

fn elements<const N: usize, T>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let chunks = raw.chunks(N);
    let mut values = Vec::with_capacity(chunks.len());
    values.extend(chunks.map(|chunk| {
        let mut bytes = [0; N];
        bytes[..chunk.len()].copy_from_slice(chunk);
        from(bytes)
    }));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data_type: i32, dims: &[i64]) -> TensorMessage {
        let mut message = TensorMessage::default();
        message.data_type = data_type;
        message.dims = dims.to_vec();
        message
    }

    fn fault(message: TensorMessage) -> TensorFault {
        match Constant::from_message(message, "w") {
            Err(ImportError::Tensor { tensor, fault }) => {
                assert_eq!(tensor, "w");
                fault
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn every_encoding_of_floats_is_read() {
        let mut typed = message(FLOAT, &[2]);
        typed.floats = vec![1.5, -2.0];
        let raw = TensorMessage::of_floats("w", &[2], &[1.5, -2.0]);
        let mut double = message(DOUBLE, &[2]);
        double.doubles = vec![1.5, -2.0];
        let mut raw_double = message(DOUBLE, &[2]);
        raw_double.raw = [1.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for tensor in [typed, raw, double, raw_double] {
            let constant = Constant::from_message(tensor, "w").unwrap();
            assert_eq!(constant.floats().unwrap(), [1.5, -2.0]);
        }
    }

    #[test]
    fn data_in_another_file_are_refused() {
        let mut tensor = message(FLOAT, &[2]);
        tensor.location = EXTERNAL;
        assert_eq!(fault(tensor), TensorFault::External);
    }

    #[test]
    fn a_partial_last_element_is_refused() {
        let mut tensor = TensorMessage::of_floats("", &[2], &[1.5, -2.0]);
        tensor.raw.push(0);
        assert_eq!(fault(tensor), TensorFault::Length { expected: 2, found: 3 });
    }

    #[test]
    fn dimensions_are_not_trusted() {
        assert_eq!(fault(message(FLOAT, &[-1])), TensorFault::Dims);
        assert_eq!(fault(message(FLOAT, &[1 << 31; 3])), TensorFault::Dims);
        let expected = 1 << 60;
        assert_eq!(fault(message(FLOAT, &[1 << 30; 2])), TensorFault::Length { expected, found: 0 });
    }

    #[test]
    fn numbers_must_be_finite() {
        assert_eq!(fault(TensorMessage::of_floats("", &[1], &[f32::NAN])), TensorFault::NotFinite);
        let mut tensor = message(DOUBLE, &[1]);
        tensor.doubles = vec![1e300];
        assert_eq!(fault(tensor), TensorFault::NotFinite);
    }

    #[test]
    fn half_precision_is_refused_where_it_is_used() {
        let constant = Constant::from_message(message(10, &[4]), "w").unwrap();
        let Err(ImportError::Tensor { fault, .. }) = constant.floats() else { panic!("accepted") };
        assert_eq!(fault, TensorFault::ElementType(10));
    }
}
