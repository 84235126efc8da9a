//! Columns of bits to rows of 128 bits.
//!
//! - Computes: row `i` holds bit `i` of every column, column `j` at bit `j`.
//! - Learns: nothing is sent.
//! - Consumes: nothing.
//! - Costs: six exchanges of halves per 64 x 64 square, eight squares at a time. No branch and no
//!   address depends on a bit.
//! - Source: Warren, Hacker's Delight, section 7-3.

/// Columns of a matrix, and bits of a row.
pub(super) const WIDTH: usize = 128;
/// Squares that are turned together, one in each lane.
const LANES: usize = 8;
/// Words between one column and the next beyond its own. Columns a power of two apart would all
/// fall into the same few lines of the cache.
const GAP: usize = 8;

/// The distance of two columns of `words` words each.
pub(super) fn stride(words: usize) -> usize {
    words + GAP
}

/// Turns 128 columns of `words` words, [`stride`] apart, into `64 * words` rows.
pub(super) fn transpose(columns: &[u64], words: usize, rows: &mut [u128]) {
    pulp::Arch::new().dispatch(|| {
        for (block, rows) in rows[..64 * words].chunks_mut(64 * LANES).enumerate() {
            let low = turned(columns, 0, block * LANES, words);
            let high = turned(columns, 64, block * LANES, words);
            for (lane, rows) in rows.chunks_exact_mut(64).enumerate() {
                for ((row, low), high) in rows.iter_mut().zip(&low).zip(&high) {
                    *row = u128::from(low[lane]) | u128::from(high[lane]) << 64;
                }
            }
        }
    });
}

/// The squares of 64 columns from `first` on and eight words from `word` on, each turned.
#[inline(always)]
fn turned(columns: &[u64], first: usize, word: usize, words: usize) -> [[u64; LANES]; 64] {
    let mut square = [[0; LANES]; 64];
    let count = LANES.min(words - word);
    for (at, lanes) in square.iter_mut().enumerate() {
        let from = (first + at) * stride(words) + word;
        if count == LANES {
            lanes.copy_from_slice(&columns[from..from + LANES]);
        } else {
            lanes[..count].copy_from_slice(&columns[from..from + count]);
        }
    }
    halves::<32>(&mut square, 0x0000_0000_ffff_ffff);
    halves::<16>(&mut square, 0x0000_ffff_0000_ffff);
    halves::<8>(&mut square, 0x00ff_00ff_00ff_00ff);
    halves::<4>(&mut square, 0x0f0f_0f0f_0f0f_0f0f);
    halves::<2>(&mut square, 0x3333_3333_3333_3333);
    halves::<1>(&mut square, 0x5555_5555_5555_5555);
    square
}

/// In each block of `2 * HALF` rows, exchanges the upper right with the lower left quarter.
#[inline(always)]
fn halves<const HALF: usize>(square: &mut [[u64; LANES]; 64], mask: u64) {
    for block in square.chunks_exact_mut(2 * HALF) {
        let (upper, lower) = block.split_at_mut(HALF);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            for (upper, lower) in upper.iter_mut().zip(lower) {
                let swap = ((*upper >> HALF) ^ *lower) & mask;
                *lower ^= swap;
                *upper ^= swap << HALF;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::prg::{Prg, Seed};

    #[test]
    fn every_bit_lands_in_its_row() {
        for words in [1, 7, 8, 9, 24, 31] {
            let columns = Prg::new(&Seed::from_bytes([words as u8; 16])).words(WIDTH * stride(words));
            let mut rows = vec![0; 64 * words];
            transpose(&columns, words, &mut rows);
            for (at, row) in rows.iter().enumerate() {
                for column in 0..WIDTH {
                    let bit = columns[column * stride(words) + at / 64] >> (at % 64) & 1;
                    assert_eq!((row >> column) as u64 & 1, bit, "row {at}, column {column} of {words} words");
                }
            }
        }
    }
}
