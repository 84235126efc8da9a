//! A look over the bytes of a file before anything is allocated for it.
//!
//! A two-byte empty submessage decodes into hundreds of bytes. So every submessage, name and
//! integer that the decoder would keep is counted first, along the paths that
//! [`onnx`](crate::model::onnx) knows, against one budget. Floating-point data needs no count: it
//! decodes into as many bytes as it has in the file.

use super::error::ImportError;

/// Most bytes that a file may have.
pub const FILE_BYTES_MAX: usize = 256 << 20;
/// Most nodes, attributes, tensors, names and integers, all together, that a file may have.
pub const FILE_ELEMENTS_MAX: usize = 1 << 16;

/// Messages of the format that are decoded.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Kind,
    TensorKind,
    Dims,
    Leaf,
}

/// What a field costs when decoded.
enum Field {
    Nested(Message),
    Name,
    Integers,
    Free,
}

impl Message {
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Self::Model, 7) => Field::Nested(Self::Graph),
            (Self::Model, 8 | 14) | (Self::Dims, 1) => Field::Nested(Self::Leaf),
            (Self::Graph, 1) => Field::Nested(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Field::Nested(Self::Tensor),
            (Self::Graph, 11 | 12) => Field::Nested(Self::Value),
            (Self::Node, 5) => Field::Nested(Self::Attribute),
            (Self::Value, 2) => Field::Nested(Self::Kind),
            (Self::Kind, 1) => Field::Nested(Self::TensorKind),
            (Self::TensorKind, 2) => Field::Nested(Self::Dims),
            (Self::Node, 1 | 2) | (Self::Attribute, 9) => Field::Name,
            (Self::Attribute, 8) | (Self::Tensor, 1 | 5 | 7) => Field::Integers,
            _ => Field::Free,
        }
    }
}

/// Checks size, framing and number of elements.
pub(super) fn scan(bytes: &[u8]) -> Result<(), ImportError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ImportError::FileBytes { bytes: bytes.len() });
    }
    Scan { bytes, at: 0, elements: 0 }.walk(Message::Model, bytes.len())
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    elements: usize,
}

impl Scan<'_> {
    /// Recursion is as deep as the table above, seven messages.
    fn walk(&mut self, message: Message, end: usize) -> Result<(), ImportError> {
        while self.at < end {
            let key = self.varint(end)?;
            let field = message.field(key >> 3);
            match key & 7 {
                0 => {
                    self.varint(end)?;
                    if matches!(field, Field::Integers) {
                        self.count(1)?;
                    }
                }
                1 => self.at = self.after(8, end)?,
                2 => {
                    let length = self.varint(end)?;
                    self.delimited(&field, length, end)?;
                }
                5 => self.at = self.after(4, end)?,
                _ => return Err(self.malformed()),
            }
        }
        Ok(())
    }

    fn delimited(&mut self, field: &Field, length: u64, end: usize) -> Result<(), ImportError> {
        let inner = self.after(length, end)?;
        match field {
            Field::Nested(message) => {
                self.count(1)?;
                self.walk(*message, inner)?;
            }
            Field::Name => self.count(1)?,
            Field::Integers => {
                let ends = self.bytes[self.at..inner].iter().filter(|byte| **byte < 0x80).count();
                self.count(ends)?;
            }
            Field::Free => {}
        }
        self.at = inner;
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), ImportError> {
        self.elements += more;
        if self.elements > FILE_ELEMENTS_MAX { Err(ImportError::FileElements) } else { Ok(()) }
    }

    fn after(&self, length: u64, end: usize) -> Result<usize, ImportError> {
        let room = (end - self.at) as u64;
        if length > room { Err(self.malformed()) } else { Ok(self.at + length as usize) }
    }

    fn varint(&mut self, end: usize) -> Result<u64, ImportError> {
        let mut value = 0u64;
        for position in 0..10 {
            if self.at >= end {
                break;
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    fn malformed(&self) -> ImportError {
        ImportError::Malformed { offset: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn empty_submessages_are_counted() {
        let allowed = nested(7, &nested(1, &[]).repeat(FILE_ELEMENTS_MAX - 1));
        assert!(scan(&allowed).is_ok());
        let refused = nested(7, &nested(1, &[]).repeat(FILE_ELEMENTS_MAX));
        assert!(matches!(scan(&refused), Err(ImportError::FileElements)));
    }

    #[test]
    fn packed_integers_are_counted() {
        let tensor = nested(7, &vec![1; FILE_ELEMENTS_MAX]);
        let refused = nested(7, &nested(5, &tensor));
        assert!(matches!(scan(&refused), Err(ImportError::FileElements)));
    }

    #[test]
    fn plain_data_is_not_counted() {
        let tensor = nested(9, &vec![1; 4 * FILE_ELEMENTS_MAX]);
        assert!(scan(&nested(7, &nested(5, &tensor))).is_ok());
    }

    #[test]
    fn a_length_past_the_end_names_the_offset() {
        assert!(matches!(scan(&[0x3a, 5, 0]), Err(ImportError::Malformed { offset: 2 })));
    }

    #[test]
    fn an_endless_integer_is_refused() {
        assert!(matches!(scan(&[0xff; 11]), Err(ImportError::Malformed { offset: 10 })));
    }

    #[test]
    fn groups_are_refused() {
        assert!(matches!(scan(&[0x0b, 0x0c]), Err(ImportError::Malformed { offset: 1 })));
    }
}
