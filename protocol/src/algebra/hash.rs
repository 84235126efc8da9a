//! A hash of 128-bit nodes: AES-128 under a public key, fed forward (Matyas, Meyer and Oseas).
//!
//! `H(x) = AES_K(x) ^ x`. With AES as an ideal cipher the images of unknown nodes look random. Who knows
//! `n` images under one `K` can search for all their nodes at once, so `K` is changed often.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use pulp::bytemuck::cast_slice_mut;

/// The hash under one public key.
pub struct NodeHash(Aes128);

impl std::fmt::Debug for NodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeHash")
    }
}

impl NodeHash {
    /// Expands the key, little-endian words.
    pub fn new(key: [u64; 2]) -> Self {
        let key = u128::from(key[1]) << 64 | u128::from(key[0]);
        Self(Aes128::new(&key.to_le_bytes().into()))
    }

    /// Overwrites each of `images` with the hash of the node at its place. Many nodes at a time keep
    /// the processor's AES units busy.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, nodes: &[u128], images: &mut [u128]) {
        images.copy_from_slice(nodes);
        if cfg!(target_endian = "big") {
            images.iter_mut().for_each(|image| *image = image.swap_bytes());
        }
        self.0.encrypt_blocks(Array::cast_slice_from_core_mut(cast_slice_mut::<u128, [u8; 16]>(images)));
        for (image, node) in images.iter_mut().zip(nodes) {
            *image = u128::from_le(*image) ^ node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cipher_is_aes_fed_forward() {
        // FIPS 197, appendix C.1, read little-endian.
        let number = |bytes: &str| u128::from_str_radix(bytes, 16).unwrap().swap_bytes();
        let key = number("000102030405060708090a0b0c0d0e0f");
        let node = number("00112233445566778899aabbccddeeff");
        let image = number("69c4e0d86a7b0430d8cdb78070b4c55a") ^ node;
        let mut images = [0; 19];
        NodeHash::new([key as u64, (key >> 64) as u64]).apply(&[node; 19], &mut images);
        assert_eq!(images, [image; 19]);
    }
}
