//! Largest value under each window.
//!
//! - Computes: the maximum of `k` shared vectors, entry by entry, exactly.
//! - Learns: nothing.
//! - Consumes: per level of the tournament one entry with shared bits for all its pairs.
//! - Costs: `ceil(log2 k)` times a rectification of [`levels`] values.
//! - Source: `max(a, b) = b + max(a - b, 0)`, paired as in any tournament.

use super::masked::rectify;
use crate::context::Context;
use crate::share::Additive;
use crate::stock::{MaskedShape, StockError};

/// The maximum of all vectors, which have one length.
///
/// # Errors
/// The stock holds something else.
pub async fn maximum(context: &mut Context, mut vectors: Vec<Vec<u64>>) -> Result<Additive, StockError> {
    while vectors.len() > 1 {
        let odd = if vectors.len() % 2 == 1 { vectors.pop() } else { None };
        let length = vectors[0].len();
        let differences: Vec<u64> = vectors
            .chunks_exact(2)
            .flat_map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| a.wrapping_sub(*b)))
            .collect();
        let gains = rectify(context, &differences).await?;
        let winners = vectors.chunks_exact(2).zip(gains.chunks_exact(length)).map(|(pair, gain)| {
            pair[1].iter().zip(gain).map(|(value, gain)| value.wrapping_add(*gain)).collect()
        });
        vectors = winners.chain(odd).collect();
    }
    Ok(vectors.pop().unwrap_or_default().into())
}

/// Entries consumed, level by level, for `vectors` vectors of `length` values below `2^value_bits`.
pub fn levels(vectors: usize, length: usize, value_bits: u32) -> Vec<MaskedShape> {
    let mut shapes = Vec::new();
    let mut left = vectors;
    while left > 1 {
        shapes.push(MaskedShape::rectify(left / 2 * length, value_bits + 1, 0));
        left = left.div_ceil(2);
    }
    shapes
}
