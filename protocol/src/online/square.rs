//! Squares.
//!
//! - Computes: `x^2` for shared `x`, at twice its scale.
//! - Learns: both parties learn `x - b` for a uniform `b` used once. Nothing else.
//! - Consumes: shares of `b` and `b^2` per value.
//! - Costs: 1 round, 8 bytes per value.
//! - Source: Beaver, CRYPTO 1991, squaring variant.

use super::open::operand;
use crate::context::Context;
use crate::share::Additive;
use crate::stock::StockError;

/// Squares every value.
///
/// # Errors
/// The stock holds something else.
pub async fn square(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().square()?;
    let opened = operand(context, value, &entry.mask).await;
    let unit = context.unit();
    let one = |((open, mask), square): ((&u64, &u64), &u64)| {
        let public = open.wrapping_mul(*open).wrapping_mul(unit);
        public.wrapping_add(open.wrapping_mul(mask.wrapping_mul(2))).wrapping_add(*square)
    };
    Ok(opened.iter().zip(entry.mask.iter()).zip(entry.square.iter()).map(one).collect::<Vec<_>>().into())
}
