//! A hash over settings that all members must hold alike.

use ring::digest::{Context, SHA256};
use std::fmt;

/// SHA-256 of an unambiguous encoding: equal settings, equal digest, however the file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash itself.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Collects fields in a fixed order; each text and each list carries its length, so no two
/// different sequences of fields give the same bytes.
pub(crate) struct Hasher(Context);

impl Hasher {
    /// `domain` says what is hashed, and the version of the encoding.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hasher = Self(Context::new(&SHA256));
        hasher.text(domain);
        hasher
    }

    pub(crate) fn number(&mut self, value: impl Into<u64>) {
        self.0.update(&value.into().to_le_bytes());
    }

    pub(crate) fn count(&mut self, value: usize) {
        self.0.update(&(value as u64).to_le_bytes());
    }

    /// The bits of a finite number.
    pub(crate) fn real(&mut self, value: f64) {
        self.number(value.to_bits());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let hash = self.0.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_pinned() {
        let mut hasher = Hasher::new("t");
        hasher.number(7_u64);
        // SHA-256 of 0100000000000000 74 0700000000000000.
        let expected = ring::digest::digest(&SHA256, b"\x01\0\0\0\0\0\0\0t\x07\0\0\0\0\0\0\0");
        assert_eq!(hasher.finish().to_bytes(), expected.as_ref());
    }

    #[test]
    fn borders_between_fields_count() {
        let hash = |parts: &[&str]| {
            let mut hasher = Hasher::new("test");
            hasher.list(parts, |hasher, part| hasher.text(part));
            hasher.finish()
        };
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
        assert_eq!(hash(&[]).to_string().len(), 64);
    }
}
