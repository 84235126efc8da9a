//! Opening masked values.
//!
//! - Computes: `x - b` for shared `x` and a shared uniform mask `b`, in the full ring or a smaller one; or
//!   bits under XOR masks.
//! - Learns: both parties learn the masked value, which is uniform; nothing else.
//! - Consumes: the mask, which the caller must not use again as a mask.
//! - Costs: 1 round; 8 bytes per value, the bits of a smaller ring without gaps, or 1 bit rounded up to a
//!   byte per row.
//! - Source: Beaver, CRYPTO 1991.

use crate::algebra::stream;
use crate::context::{Context, Step};

/// Opens `share - mask` in the full ring.
pub async fn operand(context: &Context, share: &[u64], mask: &[u64]) -> Vec<u64> {
    let mut own: Vec<u64> = share.iter().zip(mask).map(|(value, mask)| value.wrapping_sub(*mask)).collect();
    let payload = own.iter().flat_map(|word| word.to_le_bytes()).collect();
    let reply = context.lane().exchange(Step::OperandOpen, payload).await;
    for (word, bytes) in own.iter_mut().zip(reply.as_chunks().0) {
        *word = word.wrapping_add(u64::from_le_bytes(*bytes));
    }
    own
}

/// Opens masked values modulo `2^width`, given this party's shares of them in the full ring.
pub async fn low(context: &Context, step: Step, mut own: Vec<u64>, width: u32) -> Vec<u64> {
    let reply = context.lane().exchange(step, stream::pack(&own, width)).await;
    let ring = u64::MAX >> (64 - width);
    let other = stream::unpack(&reply, own.len(), width);
    for (word, other) in own.iter_mut().zip(other) {
        *word = word.wrapping_add(other) & ring;
    }
    own
}

/// Opens rows of `count` masked bits each. Bits beyond `count` in the last byte are whatever the
/// caller's masks make of them.
pub async fn rows(context: &Context, step: Step, mut rows: Vec<Vec<u64>>, count: usize) -> Vec<Vec<u64>> {
    let row_bytes = count.div_ceil(8);
    let mut payload = Vec::with_capacity(rows.len() * row_bytes);
    for row in &rows {
        payload.extend(row.iter().flat_map(|word| word.to_le_bytes()).take(row_bytes));
    }
    let reply = context.lane().exchange(step, payload).await;
    for (row, bytes) in rows.iter_mut().zip(reply.chunks(row_bytes)) {
        for (word, chunk) in row.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word ^= u64::from_le_bytes(padded);
        }
    }
    rows
}

/// `left ^ right`, word by word.
pub fn masked_row(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;

    #[test]
    fn both_parties_open_the_same_masked_bits() {
        for count in [1, 7, 8, 9, 63, 64, 65, 130] {
            let words = vec![0x0123_4567_89ab_cdef_u64; 2 * 3];
            let dealt = Dealt::new(&[], &[], 1).unwrap();
            // The unit's side holds the words, the other zeros: together they are the words.
            let outcome = dealt.run(&words, |context, _| {
                let own: Vec<Vec<u64>> = words
                    .chunks(3)
                    .map(|row| row.iter().map(|word| word * context.unit()).collect())
                    .collect();
                Box::pin(async move { Ok(rows(&context, Step::BitOpen, own, count).await) })
            });
            assert_eq!(outcome.meter.bytes as usize, HEADER_BYTES + 2 * count.div_ceil(8));
            let [zero, one] = outcome.results.map(|result| result.unwrap());
            for (own, other) in zero.iter().zip(&one) {
                for at in 0..count {
                    let bit = words[at / 64] >> (at % 64) & 1;
                    assert_eq!(own[at / 64] >> (at % 64) & 1, bit);
                    assert_eq!(other[at / 64] >> (at % 64) & 1, bit);
                }
            }
        }
    }

    #[test]
    fn operands_open_less_the_mask() {
        let dealt = Dealt::new(&[], &[], 2).unwrap();
        let values = [5, u64::MAX, 1 << 63];
        let outcome = dealt.run(&values, |context, share| {
            let mask = [10, 20, context.unit()];
            Box::pin(async move { Ok(operand(&context, &share, &mask).await) })
        });
        for result in outcome.results {
            assert_eq!(result.unwrap(), [5u64.wrapping_sub(20), u64::MAX - 40, (1 << 63) - 1]);
        }
    }
}
