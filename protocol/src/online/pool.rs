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
use crate::stock::{Gadget, MaskedShape, StockError};

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
pub fn levels(vectors: usize, length: usize, value_bits: u32, gadget: Gadget) -> Vec<MaskedShape> {
    let mut shapes = Vec::new();
    let mut left = vectors;
    while left > 1 {
        shapes.push(MaskedShape::rectify(left / 2 * length, value_bits + 1, 0, gadget));
        left = left.div_ceil(2);
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::masked;
    use crate::share::reconstruct;
    use crate::testing::Dealt;
    use crate::wire::{HEADER_BYTES, Opening};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_maximum_is_exact() {
        let mut rng = StdRng::seed_from_u64(1);
        let cases = [(1, 10), (2, 1), (3, 44), (4, 44), (9, 59), (16, 20), (25, 7)];
        let both = [Gadget::Digits, Gadget::Keys];
        for ((vectors, bits), gadget) in cases.into_iter().flat_map(|case| both.map(|gadget| (case, gadget)))
        {
            let bound = (1i64 << bits) - 1;
            let values: Vec<Vec<i64>> = (0..vectors)
                .map(|vector| {
                    let mut values: Vec<i64> = (0..30).map(|_| rng.random_range(-bound..=bound)).collect();
                    // Extremes against each other, and a tie.
                    values[0] = if vector == 0 { bound } else { -bound };
                    values[1] = if vector == 0 { -bound } else { bound };
                    values[2] = -1;
                    values
                })
                .collect();
            let shapes = levels(vectors, 30, bits, gadget);
            let demands: Vec<_> = shapes.iter().copied().map(masked::demand).collect();
            let flat: Vec<u64> = values.iter().flatten().map(|value| *value as u64).collect();
            let outcome = Dealt::new(&demands, &[], 2).unwrap().run(&flat, |mut context, values| {
                let vectors = values.chunks(30).map(<[u64]>::to_vec).collect();
                Box::pin(async move { maximum(&mut context, vectors).await })
            });
            let openings: Vec<Opening> = shapes.into_iter().flat_map(masked::openings).collect();
            let bytes: usize = openings.iter().map(|opening| opening.bytes() + HEADER_BYTES).sum();
            assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (openings.len(), bytes as u64));
            let [zero, one] = outcome.results.map(|result| result.unwrap());
            for (at, found) in reconstruct(&zero, &one).into_iter().enumerate() {
                let largest = values.iter().map(|vector| vector[at]).max();
                assert_eq!(Some(found as i64), largest, "{vectors} vectors of {bits} bits, {gadget:?}");
            }
        }
    }
}
