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
    let entry = context.enter().square(value.len())?;
    let opened = operand(context, value, &entry.mask).await;
    let unit = context.unit();
    let one = |((open, mask), square): ((&u64, &u64), &u64)| {
        let public = open.wrapping_mul(*open).wrapping_mul(unit);
        public.wrapping_add(open.wrapping_mul(mask.wrapping_mul(2))).wrapping_add(*square)
    };
    Ok(opened.iter().zip(entry.mask.iter()).zip(entry.square.iter()).map(one).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::reconstruct;
    use crate::stock::Demand;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;

    #[test]
    fn squares_wrap_like_the_ring() {
        let mut values = vec![0, 1, u64::MAX, 1 << 31, 1 << 63, (1 << 32) + 1, 3u64.wrapping_neg()];
        values.extend((0..200u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let dealt = Dealt::new(&[Demand::Square { count: values.len() }], &[], 1).unwrap();
        let outcome = dealt
            .run(&values, |mut context, values| Box::pin(async move { square(&mut context, &values).await }));
        assert_eq!(
            (outcome.meter.rounds, outcome.meter.bytes as usize),
            (1, HEADER_BYTES + 8 * values.len())
        );
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        let squares: Vec<u64> = values.iter().map(|value| value.wrapping_mul(*value)).collect();
        assert_eq!(reconstruct(&zero, &one), squares);
    }

    #[test]
    fn an_exhausted_stock_is_named() {
        let dealt = Dealt::new(&[Demand::Square { count: 2 }], &[], 2).unwrap();
        let [zero, one] = dealt
            .run(&[3, 4], |mut context, values| {
                Box::pin(async move {
                    let once = square(&mut context, &values).await?;
                    square(&mut context, &once).await
                })
            })
            .results;
        let nothing = StockError::Order { wanted: "a square pair", found: "nothing" };
        for result in [zero, one] {
            assert!(matches!(result, Err(crate::context::ComputationError::Gate(error)) if error == nothing));
        }
    }
}
