//! Rows of residues as bytes: packed, exact lengths, nothing out of range.

use super::ring::Ring;
use crate::lattice::prime::{PRIME_BITS, from_word, to_word};
use crate::lattice::wire::packed_bytes;
use crate::misbehaviour::Misbehaviour;

/// Bytes of a row.
pub(super) const fn row_bytes(degree: usize) -> usize {
    packed_bytes(degree, PRIME_BITS)
}

/// Appends a row of residues in `0..prime`.
pub(super) fn write(bytes: &mut Vec<u8>, row: &[f64]) {
    for group in row.chunks_exact(8) {
        bytes.extend_from_slice(&packed(std::array::from_fn(|index| to_word(group[index])))[..GROUP]);
    }
}

/// Reads a row of residues modulo one prime of a ring.
///
/// # Errors
/// A wrong length or a value that is no residue.
pub(super) fn read(
    what: &'static str,
    ring: &Ring,
    limb: usize,
    bytes: &[u8],
) -> Result<Vec<f64>, Misbehaviour> {
    let expected = row_bytes(ring.degree());
    if bytes.len() != expected {
        return Err(Misbehaviour::LatticeLength { what, expected, found: bytes.len() });
    }
    let mut row = Vec::with_capacity(ring.degree());
    let padded = [bytes, &[0; PADDED - GROUP]].concat();
    for start in (0..expected).step_by(GROUP) {
        if let Some(group) = padded[start..].first_chunk::<PADDED>() {
            row.extend(unpacked(group));
        }
    }
    let bound = ring.prime(limb).value as f64;
    match row.iter().position(|value| *value >= bound) {
        Some(position) => Err(Misbehaviour::LatticeCoefficient { what, position }),
        None => Ok(row),
    }
}

/// Bytes of eight residues.
const GROUP: usize = PRIME_BITS as usize;
/// Bytes that are read for them.
const PADDED: usize = GROUP + 8;

/// Eight residues as bytes, of which the first [`GROUP`] count.
#[inline(always)]
fn packed(values: [u64; 8]) -> [u8; 48] {
    let mut words = [0; 7];
    for (index, value) in values.into_iter().enumerate() {
        let bit = index * GROUP;
        let wide = u128::from(value) << (bit % 64);
        words[bit / 64] |= wide as u64;
        words[bit / 64 + 1] |= (wide >> 64) as u64;
    }
    let mut bytes = [0; 48];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&u64::to_le_bytes(word));
    }
    bytes
}

/// Eight residues.
#[inline(always)]
fn unpacked(group: &[u8; PADDED]) -> [f64; 8] {
    std::array::from_fn(|index| {
        let bit = index * GROUP;
        let word = std::array::from_fn(|byte| group[bit / 8 + byte]);
        from_word(u64::from_le_bytes(word) >> (bit % 8) & ((1 << PRIME_BITS) - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::super::ring::SINGLE;
    use super::*;
    use crate::algebra::stream::pack;
    use crate::algebra::{Prg, Seed};

    #[test]
    fn rows_are_packed_as_everything_else_and_come_back() {
        let row = SINGLE.uniform(&mut Prg::new(&Seed::from_bytes([1; 16])), [3]);
        let mut bytes = Vec::new();
        write(&mut bytes, &row);
        assert_eq!(bytes, pack(&row.iter().map(|value| *value as u64).collect::<Vec<u64>>(), PRIME_BITS));
        assert_eq!(bytes.len(), row_bytes(SINGLE.degree()));
        assert_eq!(read("row", &SINGLE, 3, &bytes), Ok(row));
    }
}
