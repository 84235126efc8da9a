//! Whether small shared values equal a public number.
//!
//! - Computes: for shared `n` modulo `2^k`: whether `n = t`, as XOR or as additive shares.
//! - Learns: nothing.
//! - Consumes: one [`IndicatorShape`] entry.
//! - Costs: [`opening`]: 1 round to open `k` bits per value. Stock: `2^k` bits or words per value.
//! - Source: one-time truth tables (Ishai et al., TCC 2013).

use super::open::low;
use crate::context::{Context, Step};
use crate::share::Additive;
use crate::stock::{Indicator, IndicatorShape, StockError};
use crate::wire::Opening;

/// XOR shares of whether each value equals the entry's target, packed. Bits beyond the count are zero.
///
/// # Errors
/// The stock holds something else.
pub async fn equal(context: &mut Context, values: &[u64]) -> Result<Vec<u64>, StockError> {
    let (entry, opened) = open(context, values, false).await?;
    let bit = |at: usize, z: u64| {
        let place = at << entry.shape.bits | z as usize;
        (entry.table[place / 64] >> (place % 64) & 1) << (at % 64)
    };
    let word = |(group, opened): (usize, &[u64])| {
        opened.iter().enumerate().fold(0, |word, (at, z)| word | bit(group * 64 + at, *z))
    };
    Ok(opened.chunks(64).enumerate().map(word).collect())
}

/// Additive shares of the same.
///
/// # Errors
/// The stock holds something else.
pub async fn equal_sums(context: &mut Context, values: &[u64]) -> Result<Additive, StockError> {
    let (entry, opened) = open(context, values, true).await?;
    let share = |(at, z): (usize, &u64)| entry.table[at << entry.shape.bits | *z as usize];
    Ok(opened.iter().enumerate().map(share).collect::<Vec<_>>().into())
}

/// What a gate of this shape opens.
pub fn opening(shape: IndicatorShape) -> Opening {
    Opening::values(shape.count, shape.bits)
}

async fn open(
    context: &mut Context,
    values: &[u64],
    sums: bool,
) -> Result<(Indicator, Vec<u64>), StockError> {
    let entry = context.enter().indicator(values.len())?;
    if entry.shape.sums != sums {
        let (wanted, found) = ("an indicator of another sharing", "an indicator");
        return Err(StockError::Order { wanted, found });
    }
    let masked = |(value, mask): (&u64, &u64)| value.wrapping_add(*mask);
    let own: Vec<u64> = values.iter().zip(entry.mask.iter()).map(masked).collect();
    let opened = low(context, Step::TallyOpen, own, entry.shape.bits).await;
    Ok((entry, opened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::reconstruct;
    use crate::stock::Demand;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;

    fn dealt(shape: IndicatorShape) -> Dealt {
        Dealt::new(&[Demand::Indicator(shape)], &[], 1).unwrap()
    }

    #[test]
    fn one_number_alone_is_found() {
        for bits in 1..=6u32 {
            for target in [0, 1, (1 << bits) - 1] {
                // Every number often enough to meet many masks, and some whose high bits mean nothing.
                let values: Vec<u64> = (0..40u64 << bits).collect();
                let hit = |value: &u64| u64::from(value % (1 << bits) == target);
                let shape = IndicatorShape { count: values.len(), bits, target, sums: true };
                let outcome = dealt(shape).run(&values, |mut context, values| {
                    Box::pin(async move { equal_sums(&mut context, &values).await })
                });
                assert_eq!(outcome.meter.bytes as usize, HEADER_BYTES + opening(shape).bytes());
                let [zero, one] = outcome.results.map(|result| result.unwrap());
                assert_eq!(reconstruct(&zero, &one), values.iter().map(hit).collect::<Vec<_>>());

                let shape = IndicatorShape { sums: false, ..shape };
                let outcome = dealt(shape).run(&values, |mut context, values| {
                    Box::pin(async move { equal(&mut context, &values).await })
                });
                let [zero, one] = outcome.results.map(|result| result.unwrap());
                for (at, value) in values.iter().enumerate() {
                    assert_eq!((zero[at / 64] ^ one[at / 64]) >> (at % 64) & 1, hit(value));
                }
            }
        }
    }

    #[test]
    fn another_sharing_is_refused() {
        let shape = IndicatorShape { count: 2, bits: 3, target: 1, sums: true };
        let outcome = dealt(shape)
            .run(&[1, 2], |mut context, values| Box::pin(async move { equal(&mut context, &values).await }));
        let order = |error| matches!(error, crate::context::ComputationError::Gate(StockError::Order { .. }));
        assert!(outcome.results.into_iter().all(|result| result.is_err_and(order)));
    }
}
