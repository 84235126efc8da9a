//! Opening masked values.
//!
//! - Computes: `x - b` for shared `x` and a shared uniform mask `b`; or bits under XOR masks.
//! - Learns: both parties learn the masked value, which is uniform; nothing else.
//! - Consumes: the mask, which the caller must not use again as a mask.
//! - Costs: 1 round; 8 bytes per value, or 1 bit rounded up to a byte per row.
//! - Source: Beaver, CRYPTO 1991.

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
