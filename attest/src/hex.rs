//! Bytes of a known length that people read and write as hexadecimal digits.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// `N` bytes, written with two digits each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A text that is not the right number of hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} hexadecimal digits and nothing else")]
pub struct HexError {
    /// Digits that were needed.
    pub digits: usize,
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let wrong = HexError { digits: 2 * N };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        if text.len() != 2 * N {
            return Err(wrong);
        }
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(wrong) };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: HexError| {
            let expected = format!("{} hexadecimal digits", error.digits);
            D::Error::invalid_value(Unexpected::Str(&text), &&*expected)
        })
    }
}

/// Any bytes in digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_right_length_are_read() {
        let bytes = "00ff7A".parse::<Hex<3>>().unwrap();
        assert_eq!((bytes.0, bytes.to_string()), ([0, 255, 0x7a], "00ff7a".to_owned()));
        for wrong in ["", "00ff7", "00ff7a0", "00ff7a00", "00ff7g", "+0ff7a", "00ff\u{e4}"] {
            assert_eq!(wrong.parse::<Hex<3>>(), Err(HexError { digits: 6 }), "{wrong}");
        }
        let json = serde_json::to_string(&bytes).unwrap();
        assert_eq!(serde_json::from_str::<Hex<3>>(&json).unwrap(), bytes);
        assert!(serde_json::from_str::<Hex<4>>(&json).unwrap_err().to_string().contains("8 hexadecimal"));
    }
}
