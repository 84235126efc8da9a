//! The smallest of a few distances, if its owner accepts it.
//!
//! - Computes: for shared distances `d_0..d_(n-1)` of each query and shared thresholds `t_0..t_(n-1)` whether
//!   `d_i` is the smallest and `d_i <= t_i`, for each `i`; of equal distances only the first can be. XOR shares,
//!   or additive shares ([`counts`]) with one entry more for nobody. Whatever the comparisons say, at most one
//!   entry is 1 and with nobody's exactly one: each pair is compared once, so at most one distance beats all
//!   others.
//! - Learns: nothing, whether anybody accepts included.
//! - Consumes: one sign entry for all pairs and all thresholds. By digits: the products of a conjunction of `n`
//!   bits per entry, and for [`counts`] one bit mask per entry. By keys: one indicator per entry.
//! - Costs: a sign, in which the thresholds ride with the duels. By digits then 1 round per conjunction level (none
//!   for 1 distance, 1 up to 9, 2 up to 81; nibbles 1 up to 4, 2 up to 16, 3 up to 64), and 1 more for [`counts`].
//!   By keys then 1 round to open `floor(log2 n) + 1` bits per entry (none for 1 distance), for [`counts`] too.
//!   `n (n + 1) / 2` signs: all pairs at once, because a tournament takes `ceil(log2 n)` rectifications one after
//!   the other, some 18 rounds for 33 distances against 4.
//! - Source: the argmin of PrivEdge (arXiv 2004.05574, IEEE TIFS 2020) with a threshold per user, by the duels of
//!   [`super::vote`].

use super::indicator::{self, equal, equal_sums};
use super::keyed::parities;
use super::masked::{self, sign, sign_sums};
use super::vote::{VoteShape, conjoin, differences, gather, levels, sums, tallies};
use crate::context::Context;
use crate::share::Additive;
use crate::stock::{Demand, Gadget, IndicatorShape, MaskedShape, ProductSet, StockError};
use crate::wire::Opening;

/// What a gate gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// XOR shares of a bit per distance.
    Bits,
    /// Additive shares of the same, and of a last entry for nobody.
    Counts,
}

/// Bits of the result without nobody's; the classes of the shape are the owners of distances.
pub fn bits(shape: &VoteShape) -> usize {
    shape.classes * shape.batch
}

fn comparison(shape: &VoteShape) -> MaskedShape {
    let signs = (shape.pairs() + shape.classes) * shape.batch;
    MaskedShape::sign(signs, shape.value_bits + 1, shape.gadget)
}

/// The nearest wins all its duels and its own threshold; with one distance the threshold alone says it.
fn tally(shape: &VoteShape, form: Form) -> Option<IndicatorShape> {
    let target = shape.classes as u64;
    let width = u64::BITS - target.leading_zeros();
    let sums = form == Form::Counts;
    (shape.classes > 1).then_some(IndicatorShape { count: bits(shape), bits: width, target, sums })
}

/// Correlations of the gate, in order.
pub fn demands(shape: &VoteShape, form: Form) -> Vec<Demand> {
    let mut demands = vec![masked::demand(comparison(shape))];
    if shape.gadget == Gadget::Keys {
        demands.extend(tally(shape, form).map(Demand::Indicator));
        return demands;
    }
    let level = |(size, groups): (usize, usize)| Demand::Products {
        count: bits(shape) * groups,
        set: ProductSet::conjunction(size as u32),
    };
    demands.extend(levels(shape.classes, shape.gadget).into_iter().map(level));
    if form == Form::Counts {
        demands.push(Demand::BitMask { count: bits(shape) });
    }
    demands
}

/// What the gate opens, round by round.
pub fn openings(shape: &VoteShape, form: Form) -> Vec<Opening> {
    let mut openings = masked::openings(comparison(shape));
    if shape.gadget == Gadget::Keys {
        openings.extend(tally(shape, form).map(indicator::opening));
        return openings;
    }
    let level = |(size, groups): (usize, usize)| Opening::bits(size, bits(shape) * groups);
    openings.extend(levels(shape.classes, shape.gadget).into_iter().map(level));
    if form == Form::Counts {
        openings.push(Opening::bits(1, bits(shape)));
    }
    openings
}

/// XOR shares of [`bits`] bits, `[owner][query]`, packed. `distances` are `[owner][query]`, `thresholds` one per
/// owner; all are below `2^value_bits` in magnitude. Bits beyond the count are arbitrary.
///
/// # Errors
/// The stock holds something else.
pub async fn nearest(
    context: &mut Context,
    distances: &[u64],
    thresholds: &[u64],
    shape: VoteShape,
) -> Result<Vec<u64>, StockError> {
    let margins = margins(distances, thresholds, &shape);
    if shape.gadget == Gadget::Keys {
        let won = won(context, &margins, &shape).await?;
        return match tally(&shape, Form::Bits) {
            Some(_) => equal(context, &won).await,
            None => Ok(parities(&won)),
        };
    }
    let signs = sign(context, &margins).await?;
    let mut inputs = gather(&signs, &shape, shape.classes, context.unit());
    inputs.push(accepted(&signs, &shape));
    for (size, groups) in levels(shape.classes, shape.gadget) {
        inputs = conjoin(context, inputs, size, groups, bits(&shape)).await?;
    }
    Ok(inputs.swap_remove(0))
}

/// Additive shares of the same and of nobody's entry, `[owner][query]`, nobody last.
///
/// # Errors
/// The stock holds something else.
pub async fn counts(
    context: &mut Context,
    distances: &[u64],
    thresholds: &[u64],
    shape: VoteShape,
) -> Result<Additive, StockError> {
    let mut counts = if shape.gadget == Gadget::Keys {
        let won = won(context, &margins(distances, thresholds, &shape), &shape).await?;
        match tally(&shape, Form::Counts) {
            Some(_) => equal_sums(context, &won).await?.into_words(),
            None => won.into_words(),
        }
    } else {
        let found = nearest(context, distances, thresholds, shape).await?;
        sums(context, &found, bits(&shape)).await?
    };
    for query in 0..shape.batch {
        let owners = counts[..bits(&shape)].iter().skip(query).step_by(shape.batch);
        let nobody = owners.fold(context.unit(), |rest, count| rest.wrapping_sub(*count));
        counts.push(nobody);
    }
    Ok(counts.into())
}

/// What is compared with zero: how much nearer the first of each pair is, `[pair][query]`, then how far each
/// distance stays below its threshold.
fn margins(distances: &[u64], thresholds: &[u64], shape: &VoteShape) -> Additive {
    let nearness =
        Additive::from(distances.iter().map(|distance| distance.wrapping_neg()).collect::<Vec<_>>());
    let mut margins = differences(&nearness, shape);
    for (nearness, threshold) in nearness.chunks_exact(shape.batch.max(1)).zip(thresholds) {
        margins.extend(nearness.iter().map(|nearness| threshold.wrapping_add(*nearness)));
    }
    margins.into()
}

/// With keys: additive shares of how many duels each wins, its threshold counted as one.
async fn won(context: &mut Context, margins: &[u64], shape: &VoteShape) -> Result<Additive, StockError> {
    let signs = sign_sums(context, margins).await?;
    let (duels, accepted) = signs.split_at(shape.pairs() * shape.batch);
    let mut won = tallies(duels, shape, shape.classes, context.unit());
    won.add(accepted);
    Ok(won)
}

/// The signs of the thresholds as a row of their own.
fn accepted(signs: &[u64], shape: &VoteShape) -> Vec<u64> {
    let first = shape.pairs() * shape.batch;
    let mut row = vec![0u64; bits(shape).div_ceil(64)];
    for at in 0..bits(shape) {
        let from = first + at;
        row[at / 64] |= (signs[from / 64] >> (from % 64) & 1) << (at % 64);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::reconstruct;
    use crate::testing::{Dealt, Outcome};
    use crate::wire::HEADER_BYTES;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

    /// The measured rounds and bytes must be those of the card.
    fn paid<T>(outcome: &Outcome<T>, openings: &[Opening]) {
        let bytes: usize = openings.iter().map(|opening| opening.bytes() + HEADER_BYTES).sum();
        assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (openings.len(), bytes as u64));
    }

    /// What both forms say, `[owner][query]` with nobody last; they must say the same.
    fn found(distances: &[u64], thresholds: &[u64], shape: VoteShape, seed: u64) -> Vec<u64> {
        let values = [distances, thresholds].concat();
        let owners = bits(&shape);
        let dealt = Dealt::new(&demands(&shape, Form::Counts), &[], seed).unwrap();
        let outcome = dealt.run(&values, |mut context, shares| {
            Box::pin(async move {
                let (distances, thresholds) = shares.split_at(owners);
                counts(&mut context, distances, thresholds, shape).await
            })
        });
        paid(&outcome, &openings(&shape, Form::Counts));
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        let counts = reconstruct(&zero, &one);

        let dealt = Dealt::new(&demands(&shape, Form::Bits), &[], seed).unwrap();
        let outcome = dealt.run(&values, |mut context, shares| {
            Box::pin(async move {
                let (distances, thresholds) = shares.split_at(owners);
                nearest(&mut context, distances, thresholds, shape).await
            })
        });
        paid(&outcome, &openings(&shape, Form::Bits));
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        for at in 0..owners {
            assert_eq!((zero[at / 64] ^ one[at / 64]) >> (at % 64) & 1, counts[at], "{shape:?}, {at}");
        }
        counts
    }

    fn expected(distances: &[u64], thresholds: &[u64], shape: VoteShape) -> Vec<u64> {
        let distance = |owner: usize, query: usize| distances[owner * shape.batch + query] as i64;
        let mut counts = vec![0; bits(&shape) + shape.batch];
        for query in 0..shape.batch {
            let nearest = (0..shape.classes).min_by_key(|owner| distance(*owner, query)).unwrap();
            let accepts = distance(nearest, query) <= thresholds[nearest] as i64;
            counts[if accepts { nearest } else { shape.classes } * shape.batch + query] = 1;
        }
        counts
    }

    fn shapes(owners: usize, batch: usize, value_bits: u32) -> [VoteShape; 3] {
        GADGETS.map(|gadget| VoteShape { classes: owners, batch, value_bits, gadget })
    }

    fn words(values: impl IntoIterator<Item = i64>) -> Vec<u64> {
        values.into_iter().map(|value| value as u64).collect()
    }

    #[test]
    fn the_nearest_is_told_if_it_accepts() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut nobody = 0;
        for owners in (1..=11).chain([16, 17, 33, 64]) {
            for value_bits in [3, 44, 60] {
                let bound = (1i64 << value_bits) - 1;
                let mut distances = words((0..owners * 9).map(|_| rng.random_range(0..=bound)));
                let mut thresholds = words((0..owners).map(|_| rng.random_range(0..=bound / 2)));
                // The extremes against each other and against the threshold.
                distances[0] = -bound as u64;
                distances[owners * 9 - 1] = bound as u64;
                thresholds[0] = bound as u64;
                thresholds[owners - 1] = -bound as u64;
                for shape in shapes(owners, 9, value_bits) {
                    let told = found(&distances, &thresholds, shape, 2);
                    assert_eq!(told, expected(&distances, &thresholds, shape), "{shape:?}");
                    nobody += told[owners * 9..].iter().sum::<u64>();
                }
            }
        }
        assert!(nobody > 100, "{nobody} refusals");
    }

    #[test]
    fn a_tie_goes_to_the_first_and_its_own_threshold_decides() {
        for shape in shapes(3, 5, 10) {
            // Query by query: all alike; the last two alike; equal to the threshold; one above; far above.
            let distances = words([[5, 9, 9, 9, 900], [5, 4, 7, 8, 900], [5, 4, 9, 9, 900]].concat());
            let told = |thresholds: [i64; 3]| -> Vec<Option<usize>> {
                let counts = found(&distances, &words(thresholds), shape, 3);
                let owner = |query| (0..4).find(|owner| counts[owner * 5 + query] == 1).unwrap();
                (0..5).map(|query| Some(owner(query)).filter(|owner| *owner < 3)).collect()
            };
            assert_eq!(told([20, 7, 20]), [Some(0), Some(1), Some(1), None, None], "{shape:?}");
            // Where the nearest refuses, nobody else is asked.
            assert_eq!(told([4, 7, 20]), [None, Some(1), Some(1), None, None]);
            assert_eq!(told([20, 3, 20]), [Some(0), None, None, None, None]);
            assert_eq!(told([-1, -1, -1]), [None; 5]);
        }
    }

    #[test]
    fn values_outside_the_bounds_still_name_at_most_one() {
        let mut rng = StdRng::seed_from_u64(4);
        for shape in [2, 7, 12].into_iter().flat_map(|owners| shapes(owners, 11, 10)) {
            let distances: Vec<u64> = (0..bits(&shape)).map(|_| rng.random()).collect();
            let thresholds: Vec<u64> = (0..shape.classes).map(|_| rng.random()).collect();
            let counts = found(&distances, &thresholds, shape, 5);
            assert!(counts.iter().all(|count| *count <= 1), "{shape:?}");
            for query in 0..11 {
                assert_eq!(counts.iter().skip(query).step_by(11).sum::<u64>(), 1, "{shape:?}");
            }
        }
    }

    #[test]
    fn rounds_grow_with_the_conjunction_alone() {
        let rounds = |owners: usize, gadget| {
            openings(&VoteShape { classes: owners, batch: 1, value_bits: 48, gadget }, Form::Bits).len()
        };
        let of = |gadget| [1, 4, 5, 9, 10, 16, 17, 33, 64].map(|owners| rounds(owners, gadget));
        assert_eq!(of(Gadget::Digits), [2, 3, 3, 3, 4, 4, 4, 4, 4]);
        assert_eq!(of(Gadget::Nibbles), [3, 4, 5, 5, 5, 5, 6, 6, 6]);
        assert_eq!(of(Gadget::Keys), [1, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
