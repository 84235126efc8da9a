//! Pseudo-random words from short seeds: AES-128 in counter mode.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use pulp::bytemuck::cast_slice_mut;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a seed.
pub const SEED_BYTES: usize = 16;

/// Sixteen secret bytes that stand for a whole stream. Never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; SEED_BYTES]);

/// Why no seed could be drawn.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The operating system refused to give random bytes.
    #[error(
        "the operating system gave no random bytes; check that /dev/urandom or getrandom is allowed here"
    )]
    Entropy,
}

impl Seed {
    /// A seed from the operating system's generator.
    ///
    /// # Errors
    /// [`SeedError::Entropy`] where the system has none to give.
    pub fn random() -> Result<Self, SeedError> {
        let mut bytes = [0; SEED_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SeedError::Entropy)?;
        Ok(Self(bytes))
    }

    /// A seed received or stored as bytes.
    pub const fn from_bytes(bytes: [u8; SEED_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to send or store them. They are as secret as the stream.
    pub const fn as_bytes(&self) -> &[u8; SEED_BYTES] {
        &self.0
    }

    /// An independent seed for a purpose: HMAC-SHA-256 under this seed over the label and the
    /// index, cut to 16 bytes. Whoever has the new seed learns nothing about this one. A seed
    /// used for derivation should not also feed a [`Prg`].
    #[must_use]
    pub fn derive(&self, label: &str, index: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"consilium seed 1\0");
        context.update(label.as_bytes());
        context.update(&index.to_le_bytes());
        let tag = context.sign();
        let mut bytes = [0; SEED_BYTES];
        for (byte, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *from;
        }
        Self(bytes)
    }
}

/// Compares in constant time.
impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

impl Eq for Seed {}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The stream of a seed. The same calls give the same words on every platform; a stream is read
/// in order and never repeats within 2^128 blocks.
pub struct Prg {
    stream: Ctr128BE<Aes128>,
}

impl Prg {
    /// The stream of this seed, from its beginning.
    pub fn new(seed: &Seed) -> Self {
        Self::with_counter(seed, [0; 16])
    }

    fn with_counter(seed: &Seed, counter: [u8; 16]) -> Self {
        Self { stream: Ctr128BE::new(&seed.0.into(), &counter.into()) }
    }

    /// Overwrites `words` with the next eight bytes of the stream each, little-endian.
    pub fn fill_words(&mut self, words: &mut [u64]) {
        self.stream.write_keystream(cast_slice_mut(words));
        if cfg!(target_endian = "big") {
            for word in words {
                *word = word.swap_bytes();
            }
        }
    }

    /// The next `count` words. The caller bounds `count`.
    pub fn words(&mut self, count: usize) -> Vec<u64> {
        let mut words = vec![0; count];
        self.fill_words(&mut words);
        words
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        let mut word = [0];
        self.fill_words(&mut word);
        word[0]
    }

    /// Overwrites `bytes` with the next bytes of the stream.
    pub fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.stream.write_keystream(bytes);
    }

    /// The next 16 bytes of the stream as a seed.
    pub fn seed(&mut self) -> Seed {
        let mut seed = Seed([0; SEED_BYTES]);
        self.fill_bytes(&mut seed.0);
        seed
    }
}

impl std::fmt::Debug for Prg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prg(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
    }

    #[test]
    fn nist_counter_mode_vectors() {
        // SP 800-38A, F.5.1: the key stream is plain text xor cipher text.
        let seed = Seed(bytes("2b7e151628aed2a6abf7158809cf4f3c"));
        let plain: [u8; 64] = bytes(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ));
        let cipher: [u8; 64] = bytes(concat!(
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
            "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
        ));
        let mut prg = Prg::with_counter(&seed, bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"));
        let mut stream = [0xAA; 64];
        prg.fill_bytes(&mut stream);
        for index in 0..64 {
            assert_eq!(stream[index], plain[index] ^ cipher[index], "byte {index}");
        }
    }

    #[test]
    fn streams_start_at_the_zero_block_and_words_are_little_endian() {
        // AES-128 of the zero block under this key: RFC 4493, section 4.
        let seed = Seed(bytes("2b7e151628aed2a6abf7158809cf4f3c"));
        let expected: [u8; 16] = bytes("7df76b0c1ab899b33e42f047b91b546f");
        assert_eq!(Prg::new(&seed).words(2), [0xb399_b81a_0c6b_f77d, 0x6f54_1bb9_47f0_423e]);
        assert_eq!(Prg::new(&seed).seed().as_bytes(), &expected);
    }

    #[test]
    fn derivation_separates_labels_and_indices() {
        let seed = Seed::from_bytes([7; 16]);
        let derived =
            [seed.derive("a", 0), seed.derive("a", 1), seed.derive("b", 0), seed.derive("", 0), seed.clone()];
        for (index, one) in derived.iter().enumerate() {
            for other in &derived[index + 1..] {
                assert_ne!(one, other);
            }
        }
        assert_eq!(seed.derive("a", 1), Seed::from_bytes([7; 16]).derive("a", 1));
    }

    #[test]
    fn nothing_prints_the_seed() {
        let seed = Seed::from_bytes([0xEE; 16]);
        assert_eq!(format!("{seed:?} {:?}", Prg::new(&seed)), "Seed(..) Prg(..)");
        assert_ne!(Seed::random().unwrap(), Seed::random().unwrap());
    }

    proptest! {
        #[test]
        fn a_stream_does_not_depend_on_how_it_is_read(seed: [u8; 16], cuts in prop::collection::vec(0_usize..50, 0..10)) {
            let seed = Seed::from_bytes(seed);
            let whole = Prg::new(&seed).words(cuts.iter().sum());
            let mut parts = Prg::new(&seed);
            let joined: Vec<u64> = cuts.iter().flat_map(|count| parts.words(*count)).collect();
            prop_assert_eq!(whole, joined);
        }
    }
}
