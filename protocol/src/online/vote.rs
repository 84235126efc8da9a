//! The largest of a few values as a one-hot vector.
//!
//! - Computes: for shared `y_0..y_(k-1)` of each query a one-hot vector with the one at the largest
//!   value; equal values count for the lowest index. Whatever the comparisons say, exactly one entry
//!   is 1: each pair is compared once, so at most one value beats all others, and the last entry is
//!   1 minus the rest.
//! - Learns: nothing.
//! - Consumes: one sign entry for all pairs. By digits: the products of [`conjunctions`], and for
//!   [`vote`] one bit mask per entry but the last. By keys: one indicator per entry but the last.
//! - Costs: by digits a sign, then 1 round per conjunction level (none for 2 values, 1 up to 10, 2
//!   above); [`vote`] 1 round more for one bit per entry. By keys a sign, then 1 round to open
//!   `ceil(log2 k)` bits per entry (none for 2 values), for [`vote`] too: the signs are additive, so
//!   that the values that each value beats are counted without a message.
//! - Source: all pairs at once, as measured against a tournament in design section 6.

use super::indicator::{self, equal, equal_sums};
use super::keyed::parities;
use super::masked::{self, sign, sign_sums};
use super::open::{masked_row, rows};
use crate::context::{Context, Step};
use crate::share::Additive;
use crate::stock::{Demand, FAN_MAX, Gadget, IndicatorShape, MaskedShape, ProductSet, StockError, Tables};
use crate::wire::Opening;

/// Classes and queries of one vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteShape {
    /// Values compared: at least 2 for a vote, at least 1 where the nearest is sought.
    pub classes: usize,
    /// Queries side by side.
    pub batch: usize,
    /// Every value is below `2^value_bits` in magnitude.
    pub value_bits: u32,
    /// How values are compared.
    pub gadget: Gadget,
}

impl VoteShape {
    pub(super) fn pairs(&self) -> usize {
        self.classes * (self.classes - 1) / 2
    }

    /// Bits of the result: all classes but the last.
    pub fn bits(&self) -> usize {
        (self.classes - 1) * self.batch
    }

    fn comparison(&self) -> MaskedShape {
        MaskedShape::sign(self.pairs() * self.batch, self.value_bits + 1, self.gadget)
    }

    fn levels(&self) -> Vec<(usize, usize)> {
        levels(self.classes - 1, self.gadget)
    }

    /// Whether a class beats all others, by how many it beats; nothing to ask with two classes.
    fn tally(&self, sums: bool) -> Option<IndicatorShape> {
        let target = self.classes as u64 - 1;
        let bits = u64::BITS - target.leading_zeros();
        (self.classes > 2).then_some(IndicatorShape { count: self.bits(), bits, target, sums })
    }

    fn tally_demands(&self, sums: bool) -> Vec<Demand> {
        let demands = [masked::demand(self.comparison())];
        demands.into_iter().chain(self.tally(sums).map(Demand::Indicator)).collect()
    }

    /// Correlations of [`winner`], in order.
    pub fn winner_demands(&self) -> Vec<Demand> {
        match self.gadget {
            Gadget::Digits | Gadget::Nibbles => {
                let mut demands = vec![masked::demand(self.comparison())];
                demands.extend(conjunctions(self));
                demands
            }
            Gadget::Keys => self.tally_demands(false),
        }
    }

    /// Correlations of [`vote`], in order.
    pub fn vote_demands(&self) -> Vec<Demand> {
        match self.gadget {
            Gadget::Digits | Gadget::Nibbles => {
                let mut demands = self.winner_demands();
                demands.push(Demand::BitMask { count: self.bits() });
                demands
            }
            Gadget::Keys => self.tally_demands(true),
        }
    }

    /// What [`winner`] opens, round by round.
    pub fn winner_openings(&self) -> Vec<Opening> {
        let mut openings = masked::openings(self.comparison());
        match self.gadget {
            Gadget::Digits | Gadget::Nibbles => {
                let levels = self.levels();
                openings
                    .extend(levels.iter().map(|(size, groups)| Opening::bits(*size, self.bits() * groups)));
            }
            Gadget::Keys => openings.extend(self.tally(false).map(indicator::opening)),
        }
        openings
    }

    /// What [`vote`] opens, round by round.
    pub fn vote_openings(&self) -> Vec<Opening> {
        let mut openings = self.winner_openings();
        if self.gadget != Gadget::Keys {
            openings.push(Opening::bits(1, self.bits()));
        }
        openings
    }

    /// Which comparison decides class `class` against `other`, and whether it must be negated.
    pub(super) fn duel(&self, class: usize, other: usize) -> (usize, bool) {
        let (low, high) = (class.min(other), class.max(other));
        (low * (2 * self.classes - low - 1) / 2 + high - low - 1, class > other)
    }
}

/// Group size and groups of each level of a conjunction of so many inputs.
pub(super) fn levels(mut inputs: usize, gadget: Gadget) -> Vec<(usize, usize)> {
    let fan = gadget.fan().unwrap_or(FAN_MAX) as usize;
    let mut levels = Vec::new();
    while inputs > 1 {
        let groups = inputs.div_ceil(fan);
        levels.push((inputs.div_ceil(groups), groups));
        inputs = groups;
    }
    levels
}

/// The products that the conjunction of all duels of a class takes.
pub fn conjunctions(shape: &VoteShape) -> Vec<Demand> {
    let level = |(size, groups): &(usize, usize)| Demand::Products {
        count: shape.bits() * groups,
        set: ProductSet::conjunction(*size as u32),
    };
    shape.levels().iter().map(level).collect()
}

/// XOR shares of the one-hot vector without its last entry: `[class][query]`, packed. `values` is
/// `[class][query]`. Bits beyond the count are arbitrary.
///
/// # Errors
/// The stock holds something else.
pub async fn winner(context: &mut Context, values: &[u64], shape: VoteShape) -> Result<Vec<u64>, StockError> {
    let differences = differences(values, &shape);
    if shape.gadget == Gadget::Keys {
        let signs = sign_sums(context, &differences).await?;
        let tallies = tallies(&signs, &shape, shape.classes - 1, context.unit());
        return match shape.tally(false) {
            Some(_) => equal(context, &tallies).await,
            None => Ok(parities(&tallies)),
        };
    }
    let duels = sign(context, &differences).await?;
    let mut inputs = gather(&duels, &shape, shape.classes - 1, context.unit());
    for (size, groups) in shape.levels() {
        inputs = conjoin(context, inputs, size, groups, shape.bits()).await?;
    }
    Ok(inputs.swap_remove(0))
}

/// Additive shares of the whole one-hot vector, `[class][query]`.
///
/// # Errors
/// The stock holds something else.
pub async fn vote(context: &mut Context, values: &[u64], shape: VoteShape) -> Result<Additive, StockError> {
    let mut votes = match shape.gadget {
        Gadget::Digits | Gadget::Nibbles => {
            let bits = winner(context, values, shape).await?;
            sums(context, &bits, shape.bits()).await?
        }
        Gadget::Keys => {
            let duels = sign_sums(context, &differences(values, &shape)).await?;
            let tallies = tallies(&duels, &shape, shape.classes - 1, context.unit());
            match shape.tally(true) {
                Some(_) => equal_sums(context, &tallies).await?.into_words(),
                None => tallies.into_words(),
            }
        }
    };
    for query in 0..shape.batch {
        let others = (0..shape.classes - 1).map(|class| votes[class * shape.batch + query]);
        let last = others.fold(context.unit(), |rest, vote| rest.wrapping_sub(vote));
        votes.push(last);
    }
    Ok(votes.into())
}

/// Each class less each that follows it, `[pair][query]`.
pub(super) fn differences(values: &[u64], shape: &VoteShape) -> Vec<u64> {
    let of = |class: usize| &values[class * shape.batch..(class + 1) * shape.batch];
    let mut differences = Vec::with_capacity(shape.pairs() * shape.batch);
    for class in 0..shape.classes {
        for other in class + 1..shape.classes {
            differences.extend(of(class).iter().zip(of(other)).map(|(a, b)| a.wrapping_sub(*b)));
        }
    }
    differences
}

/// Additive shares of how many others each of the first `wanted` classes beats.
pub(super) fn tallies(duels: &[u64], shape: &VoteShape, wanted: usize, unit: u64) -> Additive {
    let mut tallies = Additive::zeros(wanted * shape.batch);
    for class in 0..wanted {
        for other in (0..shape.classes).filter(|other| *other != class) {
            let (pair, negated) = shape.duel(class, other);
            for query in 0..shape.batch {
                let duel = duels[pair * shape.batch + query];
                let won = if negated { unit.wrapping_sub(duel) } else { duel };
                let tally = &mut tallies[class * shape.batch + query];
                *tally = tally.wrapping_add(won);
            }
        }
    }
    tallies
}

/// Additive shares of bits shared by XOR.
pub(super) async fn sums(context: &mut Context, bits: &[u64], count: usize) -> Result<Vec<u64>, StockError> {
    let entry = context.enter().bits(count)?;
    let flips = rows(context, Step::BitOpen, vec![masked_row(bits, &entry.xor)], count).await;
    let unit = context.unit();
    let sum = |at: usize| {
        let flip = flips[0][at / 64] >> (at % 64) & 1;
        let bit = entry.sum[at];
        (flip * unit).wrapping_add(bit).wrapping_sub(bit.wrapping_mul(2 * flip))
    };
    Ok((0..count).map(sum).collect())
}

/// One row per opponent: whether each of the first `wanted` classes beats it.
pub(super) fn gather(duels: &[u64], shape: &VoteShape, wanted: usize, unit: u64) -> Vec<Vec<u64>> {
    let mut inputs = vec![vec![0u64; (wanted * shape.batch).div_ceil(64)]; shape.classes - 1];
    for class in 0..wanted {
        let others = (0..shape.classes).filter(|other| *other != class);
        for (row, other) in inputs.iter_mut().zip(others) {
            let (pair, negated) = shape.duel(class, other);
            for query in 0..shape.batch {
                let (from, to) = (pair * shape.batch + query, class * shape.batch + query);
                let bit = duels[from / 64] >> (from % 64) & 1 ^ (u64::from(negated) & unit);
                row[to / 64] |= bit << (to % 64);
            }
        }
    }
    inputs
}

/// ANDs the rows group by group; the result has one row per group.
pub(super) async fn conjoin(
    context: &mut Context,
    inputs: Vec<Vec<u64>>,
    size: usize,
    groups: usize,
    bits: usize,
) -> Result<Vec<Vec<u64>>, StockError> {
    let count = bits * groups;
    let entry = context.enter().products(count.div_ceil(64))?;
    if entry.masks.len() != size {
        let (wanted, found) = (size, entry.masks.len());
        return Err(StockError::Count { what: "inputs of a conjunction", wanted, found });
    }
    let unit = context.unit();
    let mut shares = vec![vec![0u64; count.div_ceil(64)]; size];
    for (slot, row) in shares.iter_mut().enumerate() {
        for group in 0..groups {
            let input = inputs.get(group * size + slot);
            for at in 0..bits {
                let bit = input.map_or(unit, |words| words[at / 64] >> (at % 64) & 1);
                let to = group * bits + at;
                row[to / 64] |= bit << (to % 64);
            }
        }
    }
    let masked = shares.iter().zip(&entry.masks).map(|(share, mask)| masked_row(share, mask)).collect();
    let opened = rows(context, Step::ConjunctionBits, masked, count).await;
    let tables =
        Tables { opened: &opened, masks: &entry.masks, monomials: &entry.monomials, constants: unit == 1 };
    let product = entry.set.evaluate(tables).swap_remove(0);
    let split = |group: usize| {
        let mut row = vec![0u64; bits.div_ceil(64)];
        for at in 0..bits {
            let from = group * bits + at;
            row[at / 64] |= (product[from / 64] >> (from % 64) & 1) << (at % 64);
        }
        row
    };
    Ok((0..groups).map(split).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::reconstruct;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// The votes of the batch, `[class][query]`, formed under sharing.
    fn votes(values: &[u64], shape: VoteShape, seed: u64) -> Vec<u64> {
        let dealt = Dealt::new(&shape.vote_demands(), &[], seed).unwrap();
        let outcome = dealt.run(values, |mut context, values| {
            Box::pin(async move { vote(&mut context, &values, shape).await })
        });
        let openings = shape.vote_openings();
        let bytes: usize = openings.iter().map(|opening| opening.bytes() + HEADER_BYTES).sum();
        assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (openings.len(), bytes as u64));
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        reconstruct(&zero, &one)
    }

    /// The winner's bits with the last class restored.
    fn winners(values: &[u64], shape: VoteShape, seed: u64) -> Vec<u64> {
        let dealt = Dealt::new(&shape.winner_demands(), &[], seed).unwrap();
        let outcome = dealt.run(values, |mut context, values| {
            Box::pin(async move { winner(&mut context, &values, shape).await })
        });
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        let mut bits: Vec<u64> =
            (0..shape.bits()).map(|at| (zero[at / 64] ^ one[at / 64]) >> (at % 64) & 1).collect();
        for query in 0..shape.batch {
            let others: u64 = (0..shape.classes - 1).map(|class| bits[class * shape.batch + query]).sum();
            bits.push(1 - others);
        }
        bits
    }

    fn one_hot(values: &[u64], shape: VoteShape) -> Vec<u64> {
        let value = |class: usize, query: usize| values[class * shape.batch + query] as i64;
        let best = |query| (0..shape.classes).rev().max_by_key(|class| value(*class, query));
        let bit = |class, query| u64::from(best(query) == Some(class));
        (0..shape.classes * shape.batch).map(|at| bit(at / shape.batch, at % shape.batch)).collect()
    }

    const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

    fn encoded(values: impl IntoIterator<Item = i64>) -> Vec<u64> {
        values.into_iter().map(|value| value as u64).collect()
    }

    #[test]
    fn the_largest_value_gets_the_vote() {
        let mut rng = StdRng::seed_from_u64(1);
        for classes in (2..=12).chain([19, 20, 33, 64]) {
            for value_bits in [3, 44, 60] {
                let shape = VoteShape { classes, batch: 9, value_bits, gadget: Gadget::Digits };
                let bound = (1i64 << value_bits) - 1;
                let mut values = encoded((0..classes * 9).map(|_| rng.random_range(-bound..=bound)));
                // The extremes against each other, in both orders.
                values[0] = bound as u64;
                values[9] = -bound as u64;
                values[1] = -bound as u64;
                values[10] = bound as u64;
                for shape in GADGETS.map(|gadget| VoteShape { gadget, ..shape }) {
                    assert_eq!(votes(&values, shape, 2), one_hot(&values, shape), "{shape:?}");
                    assert_eq!(winners(&values, shape, 3), one_hot(&values, shape), "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        for classes in 2..=5usize {
            // All assignments of three values to the classes, one query each.
            let batch = 3usize.pow(classes as u32);
            let value = |class: usize, query: usize| (query / 3usize.pow(class as u32) % 3) as i64 - 1;
            let values = encoded((0..classes * batch).map(|at| value(at / batch, at % batch)));
            for gadget in GADGETS {
                let shape = VoteShape { classes, batch, value_bits: 2, gadget };
                assert_eq!(votes(&values, shape, 4), one_hot(&values, shape));
                assert_eq!(winners(&values, shape, 5), one_hot(&values, shape));
            }
        }
        for gadget in GADGETS {
            let shape = VoteShape { classes: 64, batch: 1, value_bits: 40, gadget };
            assert_eq!(votes(&[7; 64], shape, 6)[..2], [1, 0]);
        }
    }

    #[test]
    fn garbage_gets_exactly_one_vote() {
        let mut rng = StdRng::seed_from_u64(7);
        let shapes = [2, 3, 5, 10, 11, 26, 64].into_iter().flat_map(|classes| {
            GADGETS.map(|gadget| VoteShape { classes, batch: 50, value_bits: 20, gadget })
        });
        for shape in shapes {
            let classes = shape.classes;
            let values: Vec<u64> = (0..classes * 50).map(|_| rng.random()).collect();
            for found in [votes(&values, shape, 8), winners(&values, shape, 9)] {
                assert!(found.iter().all(|vote| *vote <= 1));
                for query in 0..50 {
                    let sum: u64 = found.iter().skip(query).step_by(50).sum();
                    assert_eq!(sum, 1, "{classes} classes, query {query}");
                }
            }
        }
    }

    #[test]
    fn another_plans_entries_are_refused() {
        let others = GADGETS.map(|gadget| VoteShape { classes: 12, batch: 4, value_bits: 9, gadget });
        let shapes = others.into_iter().flat_map(|other| {
            [(VoteShape { classes: 3, ..other }, other), (VoteShape { batch: 5, ..other }, other)]
        });
        for (shape, other) in shapes {
            let dealt = Dealt::new(&other.vote_demands(), &[], 10).unwrap();
            let values = vec![1; shape.classes * shape.batch];
            let [zero, one] = dealt
                .run(&values, |mut context, values| {
                    Box::pin(async move { vote(&mut context, &values, shape).await })
                })
                .results;
            assert!(matches!(zero, Err(crate::context::ComputationError::Gate(StockError::Count { .. }))));
            assert!(one.is_err());
        }
    }
}
