//! Sums of squares: how long shared vectors are.
//!
//! - Computes: `sum_j x_jq^2` for the shared vector `x` of each query `q`, exactly, at twice the scale of `x`.
//! - Learns: both parties learn `x - b` for a uniform `b` used once. Nothing else.
//! - Consumes: shares of `b`, one per value, and of the sums of its squares, one per query.
//! - Costs: 1 round, 8 bytes per value; nothing where `x - b` is already open.
//! - Source: Beaver, CRYPTO 1991, squaring variant, added up: `sum x^2 = sum ((x - b)^2 + 2 (x - b) b) + sum b^2`,
//!   so that one dealt word serves a whole vector.

use super::open::operand;
use crate::context::Context;
use crate::share::Additive;
use crate::stock::{NormPair, StockError};

/// The sums for a shared vector per query, `[value][query]`.
///
/// # Errors
/// The stock holds something else.
pub async fn norms(context: &mut Context, value: &[u64], batch: usize) -> Result<Additive, StockError> {
    let entry = take(context, value.len(), batch)?;
    let opened = operand(context, value, &entry.mask).await;
    Ok(settle(&opened, &entry, context.unit()))
}

/// The sums for an operand that is already open under the input mask.
///
/// # Errors
/// The stock holds something else.
pub fn norms_of_opened(context: &mut Context, opened: &[u64], batch: usize) -> Result<Additive, StockError> {
    let entry = take(context, opened.len(), batch)?;
    Ok(settle(opened, &entry, context.unit()))
}

fn take(context: &mut Context, values: usize, batch: usize) -> Result<NormPair, StockError> {
    let entry = context.enter().norm(values)?;
    let found = entry.norm.len();
    let refused = StockError::Count { what: "sums of a norm pair", wanted: batch, found };
    if found == batch { Ok(entry) } else { Err(refused) }
}

fn settle(opened: &[u64], entry: &NormPair, unit: u64) -> Additive {
    let batch = entry.norm.len();
    let mut norms = entry.norm.clone();
    let rows = opened.chunks_exact(batch.max(1)).zip(entry.mask.chunks_exact(batch.max(1)));
    for (opened, masks) in rows {
        for ((norm, open), mask) in norms.iter_mut().zip(opened).zip(masks) {
            let cross = open.wrapping_mul(unit).wrapping_add(mask.wrapping_mul(2));
            *norm = norm.wrapping_add(open.wrapping_mul(cross));
        }
    }
    norms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::prg::{Prg, Seed};
    use crate::algebra::z64;
    use crate::context::ComputationError;
    use crate::online::open;
    use crate::share::reconstruct;
    use crate::stock::Demand;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;

    fn demand(values: usize, batch: usize, first: bool) -> Demand {
        Demand::Norm { values, batch, first }
    }

    #[test]
    fn norms_wrap_like_the_ring() {
        for (values, batch) in [(1, 1), (1, 5), (7, 1), (30, 4)] {
            let vectors = Prg::new(&Seed::from_bytes([5; 16])).words(values * batch);
            let dealt = Dealt::new(&[demand(values, batch, false)], &[], 1).unwrap();
            let outcome = dealt.run(&vectors, |mut context, share| {
                Box::pin(async move { norms(&mut context, &share, batch).await })
            });
            let bytes = HEADER_BYTES + 8 * values * batch;
            assert_eq!((outcome.meter.rounds, outcome.meter.bytes as usize), (1, bytes));
            let [zero, one] = outcome.results.map(|result| result.unwrap());
            let expected: Vec<u64> = (0..batch)
                .map(|query| {
                    let own = vectors.iter().skip(query).step_by(batch);
                    own.fold(0, |sum: u64, x| sum.wrapping_add(x.wrapping_mul(*x)))
                })
                .collect();
            assert_eq!(reconstruct(&zero, &one), expected, "{values} values, {batch} queries");
        }
    }

    #[test]
    fn norms_of_the_input_cost_nothing() {
        let vectors = Prg::new(&Seed::from_bytes([6; 16])).words(60);
        let demands = [Demand::InputMask { count: 60 }, demand(20, 3, true)];
        let outcome = Dealt::new(&demands, &[], 2).unwrap().run(&vectors, |mut context, share| {
            Box::pin(async move {
                let entry = context.enter().input_mask(share.len())?;
                let opened = open::operand(&context, &share, &entry.mask).await;
                norms_of_opened(&mut context, &opened, 3)
            })
        });
        assert_eq!(outcome.meter.rounds, 1);
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        assert_eq!(reconstruct(&zero, &one), z64::norms(&vectors, 3));
    }

    #[test]
    fn another_number_of_sums_is_refused() {
        let dealt = Dealt::new(&[demand(2, 3, false)], &[], 3).unwrap();
        let outcome = dealt
            .run(&[0; 6], |mut context, share| Box::pin(async move { norms(&mut context, &share, 2).await }));
        let refused = StockError::Count { what: "sums of a norm pair", wanted: 2, found: 3 };
        for result in outcome.results {
            assert!(matches!(result, Err(ComputationError::Gate(error)) if error == refused));
        }
    }
}
