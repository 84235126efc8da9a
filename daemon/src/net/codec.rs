//! Values as CBOR, with bounds.

use std::any::type_name;

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Depth to which arrays, maps, tags and enums may nest in a decoded value.
pub const DEPTH_MAX: usize = 64;

/// Why a value could not be written or read.
///
/// What the decoder says in words is left out: it can quote the value, and values are secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    /// Our own value has no CBOR form.
    #[error("a value of type {kind} cannot be written as CBOR")]
    Unwritable {
        /// The Rust type.
        kind: &'static str,
    },
    /// The bytes stop in the middle of a value.
    #[error("the bytes end inside a value of type {kind}")]
    Short {
        /// The Rust type expected.
        kind: &'static str,
    },
    /// The bytes are not CBOR.
    #[error("not CBOR at byte {offset}, where a value of type {kind} was expected")]
    Syntax {
        /// The Rust type expected.
        kind: &'static str,
        /// Position of the fault.
        offset: usize,
    },
    /// CBOR, but of another shape.
    #[error("CBOR of another shape than type {kind}; the peer may run another version")]
    Shape {
        /// The Rust type expected.
        kind: &'static str,
        /// Position of the fault, where known.
        offset: Option<usize>,
    },
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels, where a value of type {kind} was expected")]
    Depth {
        /// The Rust type expected.
        kind: &'static str,
    },
    /// Bytes follow the value.
    #[error("{count} bytes follow a value of type {kind}")]
    Trailing {
        /// The Rust type expected.
        kind: &'static str,
        /// How many bytes.
        count: usize,
    },
}

/// The CBOR form of `value`.
///
/// # Errors
/// [`CodecError::Unwritable`] if serde refuses the value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)
        .map_err(|_| CodecError::Unwritable { kind: type_name::<T>() })?;
    Ok(bytes)
}

/// The one value that `bytes` hold; memory stays proportional to the length of `bytes`.
///
/// # Errors
/// [`CodecError`] for anything but exactly one value of this shape, at most [`DEPTH_MAX`] deep.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    use ciborium::de::Error;

    let kind = type_name::<T>();
    let mut rest = bytes;
    let value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX).map_err(
            |error| match error {
                Error::Io(_) => CodecError::Short { kind },
                Error::Syntax(offset) => CodecError::Syntax { kind, offset },
                Error::Semantic(offset, _) => CodecError::Shape { kind, offset },
                Error::RecursionLimitExceeded => CodecError::Depth { kind },
            },
        )?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { kind, count: rest.len() }) }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use proptest::sample::Index;

    /// A message reads back from at most `most` bytes; with one byte changed it is a value or an error, and cut short
    /// an error.
    pub(crate) fn survives<T>(message: &T, most: usize, place: Index, byte: u8)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let mut bytes = encode(message).unwrap();
        assert!(bytes.len() <= most, "{} bytes", bytes.len());
        assert_eq!(decode::<T>(&bytes).as_ref(), Ok(message));
        let index = place.index(bytes.len());
        bytes[index] = byte;
        let _ = decode::<T>(&bytes);
        bytes.truncate(index);
        assert!(decode::<T>(&bytes).is_err());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Message {
        Hello { version: u32, features: Vec<String> },
        Chunk(Vec<u64>),
        Nested(Box<Message>),
        Map(BTreeMap<String, Option<i64>>),
        Done,
    }

    fn cases() -> u32 {
        std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Message>(&bytes);
            let _ = decode::<Vec<Vec<u64>>>(&bytes);
            let _ = decode::<ciborium::Value>(&bytes);
            let _ = decode::<crate::net::PeerId>(&bytes);
            let _ = decode::<crate::net::Address>(&bytes);
        }

        #[test]
        fn a_damaged_message_never_panics(
            features in proptest::collection::vec(".{0,20}", 0..8),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            testing::survives(&Message::Hello { version: 7, features }, 1 << 10, place, byte);
        }
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        let mut bytes = encode(&Message::Done).unwrap();
        bytes.extend_from_slice(&[0, 0]);
        assert!(matches!(decode::<Message>(&bytes), Err(CodecError::Trailing { count: 2, .. })));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let mut bytes = vec![0x81; 1 << 20];
        bytes.push(0x80);
        assert!(matches!(decode::<ciborium::Value>(&bytes), Err(CodecError::Depth { .. })));
    }

    #[test]
    fn a_claimed_length_does_not_allocate() {
        for head in [0x9b_u8, 0x5b, 0x7b, 0xbb] {
            let mut bytes = vec![head];
            bytes.extend_from_slice(&(1_u64 << 60).to_be_bytes());
            assert!(decode::<ciborium::Value>(&bytes).is_err());
            assert!(decode::<Vec<u64>>(&bytes).is_err());
        }
    }

    #[test]
    fn an_error_does_not_quote_the_value() {
        let bytes = encode(&"the patient's name").unwrap();
        let error = decode::<u64>(&bytes).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("patient"));
    }
}
