//! Reading fixed layouts: every length is checked, nothing is allocated, and nothing may be left over.

/// Why bytes do not hold what they should. Never quotes them: some are secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the bytes end {missing} bytes early")]
    Short {
        /// Bytes that are missing.
        missing: usize,
    },
    /// Bytes follow the value.
    #[error("{count} bytes follow the last value")]
    Trailing {
        /// How many bytes.
        count: usize,
    },
    /// A tag that stands for nothing.
    #[error("{tag} is no known {what}; the other side may run another version")]
    Tag {
        /// What the tag chooses.
        what: &'static str,
        /// The tag found.
        tag: u8,
    },
    /// Something inside that has a decoder of its own.
    #[error("the {what} is malformed")]
    Inner {
        /// What it should be.
        what: &'static str,
    },
    /// A length beyond its limit.
    #[error("{found} {what} is outside the {most} allowed")]
    Length {
        /// What is counted.
        what: &'static str,
        /// The number found.
        found: usize,
        /// The largest number allowed.
        most: usize,
    },
}

/// The part of a message that has not been read yet.
#[derive(Debug)]
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Starts at the first byte.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let missing = count.saturating_sub(self.0.len());
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Short { missing })?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    /// The next two bytes, little-endian.
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes, little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Refuses anything that is left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_order_and_nothing_may_follow() {
        let mut bytes = Bytes::new(&[1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
        assert_eq!((bytes.byte(), bytes.u16(), bytes.u32(), bytes.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!(bytes.take(3), Err(DecodeError::Short { missing: 1 }));
        assert_eq!(Bytes::new(&[1, 2]).end(), Err(DecodeError::Trailing { count: 2 }));
        assert_eq!(bytes.rest(), [9, 9]);
        assert_eq!(bytes.end(), Ok(()));
    }
}
