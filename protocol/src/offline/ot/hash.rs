//! The correlation-robust hash that turns correlated rows into independent random values.
//!
//! - Computes: `H(x, i) = p(p(x) ^ i) ^ p(x)` for AES-128 `p` under a key that is fixed for the session.
//! - Learns: nothing is sent.
//! - Consumes: one tweak per row and direction, never used again.
//! - Costs: two AES blocks per value.
//! - Source: Guo, Katz, Wang, Yu, IEEE S&P 2020 (`TMMO`): tweakable and correlation robust if AES is
//!   an ideal permutation.

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroize;

/// Rows hashed at a time: as many as bits in a word.
pub(super) const BATCH: usize = 64;

/// The hash of one session. The key is public.
pub(super) struct RowHash {
    cipher: Aes128,
}

impl RowHash {
    /// Both parties name the same `key`. A key per session keeps sessions apart.
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { cipher: Aes128::new(&key.into()) }
    }

    /// Replaces row `j` by its hash under the tweak `first + j`.
    pub(super) fn apply(&self, rows: &mut [u128; BATCH], first: u128) {
        let mut inner: [Block<Aes128>; BATCH] = std::array::from_fn(|at| rows[at].to_le_bytes().into());
        self.cipher.encrypt_blocks(&mut inner);
        for (at, (row, block)) in rows.iter_mut().zip(&mut inner).enumerate() {
            *row = u128::from_le_bytes((*block).into());
            *block = (*row ^ first.wrapping_add(at as u128)).to_le_bytes().into();
        }
        self.cipher.encrypt_blocks(&mut inner);
        for (row, block) in rows.iter_mut().zip(&mut inner) {
            *row ^= u128::from_le_bytes((*block).into());
            block.as_mut_slice().zeroize();
        }
    }
}

/// The lowest bits of the rows, the first row's lowest.
#[inline]
pub(super) fn low_bits(rows: &[u128; BATCH]) -> u64 {
    rows.iter().enumerate().fold(0, |word, (at, row)| word | ((*row as u64 & 1) << at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_its_definition_and_separates_tweaks() {
        let hash = RowHash::new([7; 16]);
        let permute = |value: u128| {
            let mut block: Block<Aes128> = value.to_le_bytes().into();
            hash.cipher.encrypt_block(&mut block);
            u128::from_le_bytes(block.into())
        };
        let mut rows: [u128; BATCH] = std::array::from_fn(|at| (at as u128 / 2) << 100 | 3);
        let before = rows;
        hash.apply(&mut rows, (1 << 64) + 5);
        for at in 0..BATCH {
            let inner = permute(before[at]);
            assert_eq!(rows[at], permute(inner ^ ((1 << 64) + 5 + at as u128)) ^ inner);
        }
        // Neighbours hold equal rows under different tweaks.
        assert!(rows.chunks(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(low_bits(&std::array::from_fn(|at| u128::from(at % 3 == 1))), 0x2492_4924_9249_2492);
    }
}
