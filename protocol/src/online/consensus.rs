//! The winner of a vote, told only if some value reaches a threshold.
//!
//! - Computes: for shared `y_0..y_(k-1)` and `m_0..m_(k-1)` of each query the one-hot vector of
//!   [`super::vote`] over `y` if any `m_j >= 0`, else zeros, and whether it is so: the largest `m` is not
//!   looked for, since it reaches zero exactly if any of them does. XOR shares of the vector without its
//!   last entry, then of that bit.
//! - Learns: nothing. What is opened has one shape and is uniform whether there is a consensus or not.
//! - Consumes: one sign entry for all pairs and all `m`. By digits: the products of [`levels`], then those
//!   of [`ProductSet::unless`]. By keys: one indicator per result bit and one more per class but the last.
//! - Costs: a sign, in which the thresholds ride with the duels. By digits then 1 round per level and 1 more:
//!   as many as [`super::vote::winner`] for 3 to 5 and 11 to 36 classes (nibbles: 6 to 8 and 18 to 32), else
//!   1 more. By keys then 1 round to open `ceil(log2 2k)` bits of each of `2k - 1` numbers: as many as the
//!   winner, but for 2 classes.
//! - Source: Confident-GNMax (Papernot et al., ICLR 2018), with its threshold test under sharing.

use super::indicator::{self, equal};
use super::masked::{self, sign, sign_sums};
use super::open::{masked_row, rows};
use super::vote::{VoteShape, conjoin, differences, tallies};
use crate::context::{Context, Step};
use crate::share::Additive;
use crate::stock::{Demand, FAN_MAX, Gadget, IndicatorShape, MaskedShape, ProductSet, StockError, Tables};
use crate::wire::Opening;

/// Bits of the result: one for each class but the last, and whether there is a consensus.
pub fn bits(shape: &VoteShape) -> usize {
    shape.classes * shape.batch
}

/// Group size and groups of each level of conjunctions before the last products. Each class has its duels to
/// win, and all have one list of missed thresholds to be cut down alike.
pub fn levels(shape: &VoteShape) -> Vec<(usize, usize)> {
    let fan = shape.gadget.fan().unwrap_or(FAN_MAX) as usize;
    if 2 * shape.classes - 1 <= fan { Vec::new() } else { shortest(shape.classes, fan) }
}

/// The fewest levels after which the groups of a class and those of the thresholds fit one product, and
/// among them those with the fewest monomials.
fn shortest(inputs: usize, fan: usize) -> Vec<(usize, usize)> {
    let with = |size: usize| {
        let groups = inputs.div_ceil(size);
        let mut levels = vec![(inputs.div_ceil(groups), groups)];
        if 2 * groups > fan {
            levels.extend(shortest(groups, fan));
        }
        levels
    };
    let monomials = |levels: &Vec<(usize, usize)>| {
        let last = levels.last().map_or(0, |(_, groups)| 1 << (2 * groups));
        levels.iter().map(|(size, groups)| groups << size).sum::<usize>() + last
    };
    let plans = (2..=fan).map(with);
    plans.min_by_key(|levels| (levels.len(), monomials(levels))).unwrap_or_default()
}

/// Bits of a class and bits of the thresholds that the last products take.
fn last_inputs(shape: &VoteShape) -> (usize, usize) {
    let thresholds = levels(shape).last().map_or(shape.classes, |(_, groups)| *groups);
    (thresholds.min(shape.classes - 1), thresholds)
}

fn comparison(shape: &VoteShape) -> MaskedShape {
    let signs = (shape.pairs() + shape.classes) * shape.batch;
    MaskedShape::sign(signs, shape.value_bits + 1, shape.gadget)
}

/// How a class lost or a threshold was missed is counted up to `2k - 1`; nobody lost where it is 0.
fn tally(shape: &VoteShape) -> IndicatorShape {
    let most = 2 * shape.classes as u64 - 1;
    let count = (2 * shape.classes - 1) * shape.batch;
    IndicatorShape { count, bits: u64::BITS - most.leading_zeros(), target: 0, sums: false }
}

/// Correlations of [`consensus`], in order.
pub fn demands(shape: &VoteShape) -> Vec<Demand> {
    let mut demands = vec![masked::demand(comparison(shape))];
    if shape.gadget == Gadget::Keys {
        demands.push(Demand::Indicator(tally(shape)));
        return demands;
    }
    let level = |(size, groups): (usize, usize)| Demand::Products {
        count: bits(shape) * groups,
        set: ProductSet::conjunction(size as u32),
    };
    demands.extend(levels(shape).into_iter().map(level));
    let (own, thresholds) = last_inputs(shape);
    let set = ProductSet::unless(own as u32, thresholds as u32);
    demands.push(Demand::Products { count: bits(shape), set });
    demands
}

/// What [`consensus`] opens, round by round.
pub fn openings(shape: &VoteShape) -> Vec<Opening> {
    let mut openings = masked::openings(comparison(shape));
    if shape.gadget == Gadget::Keys {
        openings.push(indicator::opening(tally(shape)));
        return openings;
    }
    let level = |(size, groups): (usize, usize)| Opening::bits(size, bits(shape) * groups);
    openings.extend(levels(shape).into_iter().map(level));
    let (own, thresholds) = last_inputs(shape);
    openings.push(Opening::bits(own + thresholds, bits(shape)));
    openings
}

/// XOR shares of [`bits`] bits, `[class][query]`, packed: the winner's bits without those of the last class,
/// all zero where no margin is at least zero, and in the place of the last class whether one is. `values` and
/// `margins` are `[class][query]`, both below `2^(value_bits + 1)` in magnitude as are differences of values.
///
/// # Errors
/// The stock holds something else.
pub async fn consensus(
    context: &mut Context,
    values: &[u64],
    margins: &[u64],
    shape: VoteShape,
) -> Result<Vec<u64>, StockError> {
    let compared = Additive::from([&differences(values, &shape)[..], margins].concat());
    if shape.gadget == Gadget::Keys {
        let signs = sign_sums(context, &compared).await?;
        return by_tallies(context, &signs, &shape).await;
    }
    let signs = sign(context, &compared).await?;
    let mut inputs = slots(&signs, &shape, context.unit());
    for (size, groups) in levels(&shape) {
        inputs = conjoin(context, inputs, size, groups, bits(&shape)).await?;
    }
    unless_missed(context, &inputs, &shape).await
}

/// With keys: a class has won where it lost no duel, and there is no consensus where also no threshold was
/// reached. Both are sums that nothing makes negative, so that each is one number to compare with zero.
async fn by_tallies(context: &mut Context, signs: &[u64], shape: &VoteShape) -> Result<Vec<u64>, StockError> {
    let (duels, reached) = signs.split_at(shape.pairs() * shape.batch);
    let unit = context.unit();
    let all = (shape.classes as u64 - 1).wrapping_mul(unit);
    let won = tallies(duels, shape, shape.classes - 1, unit);
    let at_threshold = |query: usize| {
        let each = reached.iter().skip(query).step_by(shape.batch);
        each.fold(0u64, |sum, sign| sum.wrapping_add(*sign))
    };
    let common: Additive = (0..shape.batch).map(at_threshold).collect::<Vec<_>>().into();
    let lost = won.iter().map(|won| all.wrapping_sub(*won));
    let both = lost.clone().enumerate().map(|(at, lost)| lost.wrapping_add(common[at % shape.batch]));
    let numbers: Additive = lost.chain(both).chain(common.iter().copied()).collect::<Vec<_>>().into();
    let zero = equal(context, &numbers).await?;
    // What a class won and lost again for want of a consensus cancels; the last row stands for any class.
    let first = won.len();
    let own = |at: usize| if at < first { bit(&zero, at) } else { unit };
    Ok(packed(bits(shape), |at| own(at) ^ bit(&zero, first + at)))
}

/// One row for each duel of a class, whether it is won, `[class][query]`; in the place of the last class, which
/// needs no duels, whether the values miss the threshold, one row for each.
fn slots(signs: &[u64], shape: &VoteShape, unit: u64) -> Vec<Vec<u64>> {
    let (last, batch) = (shape.classes - 1, shape.batch);
    let slot = |slot: usize| {
        packed(bits(shape), |at| {
            let (class, query) = (at / batch, at % batch);
            let other = if slot < class { slot } else { slot + 1 };
            let (sign, negated) = if class == last {
                (shape.pairs() + slot, true)
            } else if other <= last {
                shape.duel(class, other)
            } else {
                // There is one threshold more than a class has opponents.
                return unit;
            };
            bit(signs, sign * batch + query) ^ (u64::from(negated) & unit)
        })
    };
    (0..shape.classes).map(slot).collect()
}

/// Each class that won all its groups, unless all groups of the thresholds were missed; in the last place
/// whether they were not.
async fn unless_missed(
    context: &mut Context,
    inputs: &[Vec<u64>],
    shape: &VoteShape,
) -> Result<Vec<u64>, StockError> {
    let (count, unit) = (bits(shape), context.unit());
    let first = count - shape.batch;
    let entry = context.enter().products(count.div_ceil(64))?;
    let own = inputs.len().min(shape.classes - 1);
    if entry.masks.len() != own + inputs.len() {
        let (wanted, found) = (own + inputs.len(), entry.masks.len());
        return Err(StockError::Count { what: "inputs of a consensus", wanted, found });
    }
    let won = |row: &Vec<u64>| packed(count, |at| if at < first { bit(row, at) } else { unit });
    let missed = |row: &Vec<u64>| packed(count, |at| bit(row, first + at % shape.batch));
    let shares = inputs[..own].iter().map(won).chain(inputs.iter().map(missed));
    let masked = shares.zip(&entry.masks).map(|(share, mask)| masked_row(&share, mask)).collect();
    let opened = rows(context, Step::ConjunctionBits, masked, count).await;
    let tables =
        Tables { opened: &opened, masks: &entry.masks, monomials: &entry.monomials, constants: unit == 1 };
    let result = entry.set.evaluate(tables).swap_remove(0);
    // Bits beyond the count are no shares of anything, and go no further.
    Ok(packed(count, |at| bit(&result, at)))
}

fn bit(words: &[u64], at: usize) -> u64 {
    words[at / 64] >> (at % 64) & 1
}

fn packed(count: usize, bit: impl Fn(usize) -> u64) -> Vec<u64> {
    let word = |at: usize| (at..count.min(at + 64)).fold(0, |word, place| word | bit(place) << (place - at));
    (0..count).step_by(64).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dealt;
    use crate::wire::HEADER_BYTES;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

    /// Both parties' results put together, `[class][query]`; the meter must show what [`openings`] says.
    fn results(values: &[i64], margins: &[i64], shape: VoteShape, seed: u64) -> Vec<u64> {
        let words: Vec<u64> = values.iter().chain(margins).map(|value| *value as u64).collect();
        let dealt = Dealt::new(&demands(&shape), &[], seed).unwrap();
        let outcome = dealt.run(&words, |mut context, words| {
            Box::pin(async move {
                let (values, margins) = words.split_at(words.len() / 2);
                consensus(&mut context, values, margins, shape).await
            })
        });
        let opened = openings(&shape);
        let bytes: usize = opened.iter().map(|opening| opening.bytes() + HEADER_BYTES).sum();
        assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (opened.len(), bytes as u64));
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        assert_eq!((zero.len(), one.len()), (bits(&shape).div_ceil(64), bits(&shape).div_ceil(64)));
        let tail = bits(&shape) % 64;
        assert!(tail == 0 || (zero[zero.len() - 1] ^ one[one.len() - 1]) >> tail == 0);
        (0..bits(&shape)).map(|at| bit(&zero, at) ^ bit(&one, at)).collect()
    }

    fn expected(values: &[i64], margins: &[i64], shape: VoteShape) -> Vec<u64> {
        let of = |row: &[i64], class: usize, query: usize| row[class * shape.batch + query];
        let decide = |query: usize| {
            let reached = (0..shape.classes).any(|class| of(margins, class, query) >= 0);
            let best = (0..shape.classes).rev().max_by_key(|class| of(values, *class, query));
            (reached, best.unwrap_or_default())
        };
        let entry = |class: usize, query: usize| match decide(query) {
            (reached, _) if class == shape.classes - 1 => u64::from(reached),
            (reached, best) => u64::from(reached && best == class),
        };
        (0..bits(&shape)).map(|at| entry(at / shape.batch, at % shape.batch)).collect()
    }

    #[test]
    fn the_winner_is_told_only_at_the_threshold() {
        let mut rng = StdRng::seed_from_u64(1);
        for classes in (2..=14).chain([18, 19, 26, 36, 37, 64]) {
            let batch = 11;
            for value_bits in [4, 20] {
                let bound = (1i64 << value_bits) - 1;
                let mut draw = || rng.random_range(-bound..=bound);
                let values: Vec<i64> = (0..classes * batch).map(|_| draw()).collect();
                let mut margins: Vec<i64> = (0..classes * batch).map(|_| -draw().abs() - 1).collect();
                // No margin reaches in the first query; one alone does in the others, and all do in the last.
                for query in 1..batch {
                    let all = query == batch - 1;
                    let alone = query * 7 % classes;
                    for class in (0..classes).filter(|class| all || *class == alone) {
                        margins[class * batch + query] = if query % 2 == 0 { 0 } else { bound };
                    }
                }
                for gadget in GADGETS {
                    let shape = VoteShape { classes, batch, value_bits, gadget };
                    let found = results(&values, &margins, shape, 2);
                    assert_eq!(found, expected(&values, &margins, shape), "{shape:?}");
                    assert_eq!(found[(classes - 1) * batch], 0);
                }
            }
        }
    }

    #[test]
    fn every_vote_of_few_classes_is_right() {
        for classes in 2..=3usize {
            // All values and margins of two numbers each.
            let batch = 4usize.pow(classes as u32);
            let digit = |class: usize, query: usize| query / 4usize.pow(class as u32) % 4;
            let row = |of: &dyn Fn(usize) -> i64| -> Vec<i64> {
                (0..classes * batch).map(|at| of(digit(at / batch, at % batch))).collect()
            };
            let (values, margins) = (row(&|digit| digit as i64 % 2), row(&|digit| digit as i64 / 2 - 1));
            for gadget in GADGETS {
                let shape = VoteShape { classes, batch, value_bits: 1, gadget };
                assert_eq!(results(&values, &margins, shape, 3), expected(&values, &margins, shape));
            }
        }
    }

    #[test]
    fn thresholds_ride_in_the_rounds_of_the_duels() {
        let rounds = |classes: usize, gadget: Gadget| {
            let shape = VoteShape { classes, batch: 1, value_bits: 9, gadget };
            (openings(&shape).len(), shape.winner_openings().len())
        };
        for classes in 2..=64 {
            let (found, winner) = rounds(classes, Gadget::Digits);
            let none_more = (3..=5).contains(&classes) || (11..=36).contains(&classes);
            assert_eq!(found, winner + usize::from(!none_more), "{classes} classes by digits");
            let (found, winner) = rounds(classes, Gadget::Nibbles);
            let none_more = (6..=8).contains(&classes) || (18..=32).contains(&classes);
            assert_eq!(found, winner + usize::from(!none_more), "{classes} classes by nibbles");
            let (found, winner) = rounds(classes, Gadget::Keys);
            assert_eq!(found, winner + usize::from(classes == 2), "{classes} classes by keys");
        }
        // Ten classes: two halves of a class's duels and of the thresholds, then all four.
        let shape = VoteShape { classes: 10, batch: 1, value_bits: 9, gadget: Gadget::Digits };
        assert_eq!((levels(&shape), last_inputs(&shape)), (vec![(5, 2)], (2, 2)));
    }

    #[test]
    fn garbage_gives_at_most_one_label_and_none_without_a_consensus() {
        let mut rng = StdRng::seed_from_u64(7);
        for classes in [2, 3, 5, 10, 11, 26, 64] {
            for gadget in GADGETS {
                let shape = VoteShape { classes, batch: 30, value_bits: 20, gadget };
                let mut draw = || -> Vec<i64> { (0..bits(&shape)).map(|_| rng.random()).collect() };
                let (values, margins) = (draw(), draw());
                let found = results(&values, &margins, shape, 8);
                for query in 0..30 {
                    let label = |class: usize| found[class * 30 + query];
                    let sum: u64 = (0..classes - 1).map(label).sum();
                    assert!(sum <= label(classes - 1), "{classes} classes, query {query}, {gadget:?}");
                }
            }
        }
    }

    #[test]
    fn the_entries_of_a_plain_winner_are_refused() {
        for gadget in GADGETS {
            let shape = VoteShape { classes: 12, batch: 4, value_bits: 9, gadget };
            let dealt = Dealt::new(&shape.winner_demands(), &[], 10).unwrap();
            let [zero, one] = dealt
                .run(&[1; 96], |mut context, words| {
                    Box::pin(async move { consensus(&mut context, &words[..48], &words[48..], shape).await })
                })
                .results;
            assert!(matches!(zero, Err(crate::context::ComputationError::Gate(StockError::Count { .. }))));
            assert!(one.is_err());
        }
    }
}
