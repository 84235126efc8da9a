//! Truncation, sign and rectification from one opening.
//!
//! - Computes: for shared `y` with `-2^v <= y < 2^v`: `t = floor(y / 2^s) + c` with `c` in {0, 1}
//!   (*truncate*), whether `y >= 0` (*sign*), `max(t, 0)` (*rectify*, for `y < 2^v - 2^s`: a carry
//!   must not leave the compared bits; the bounds that owners prove keep that distance).
//! - Learns: nothing. The functionality includes the rounding bit `c`, a carry between the low bits
//!   of `y` and of the mask (Li et al., USENIX Security 2023): no truncated value is ever opened.
//! - Consumes: one [`MaskedShape`] entry.
//! - Costs: [`openings`]: 1 round to open `v + 2` bits per value (`v + 1` for a sign alone), 1 to
//!   combine the digits up to 54 bits (2 above), 1 for one bit per value to rectify. With comparison
//!   keys ([`super::keyed`]) 1 round to open `v + 1` bits per value, whatever is asked.
//! - Source: masked wires as in ABY2.0 (Patra et al., USENIX Security 2021); truncation by a dealt
//!   `(r, r >> s, msb r)` as in Escudero et al., CRYPTO 2020; the digits are one-time truth tables
//!   (Ishai et al., TCC 2013), so that the first level of the comparison tree costs no message.

use super::keyed;
use super::open::{low, masked_row, rows};
use crate::context::{Context, Step};
use crate::share::Additive;
use crate::stock::{CompareShape, Demand, Masked, MaskedShape, StockError, Tables};
use crate::wire::Opening;

/// `floor(y / 2^shift)`, at most one unit too large.
///
/// # Errors
/// The stock holds something else.
pub async fn truncate(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().masked(value.len())?;
    if !entry.shape.lift {
        return Err(StockError::Order { wanted: "a lift", found: "masks without one" });
    }
    let opened = open(context, value, &entry).await;
    Ok(lift(&opened, &entry, context.unit()))
}

/// Whether `y >= 0`, exactly where the entry drops no bits: XOR shares, packed. Bits beyond the count
/// are arbitrary.
///
/// # Errors
/// The stock holds something else.
pub async fn sign(context: &mut Context, value: &[u64]) -> Result<Vec<u64>, StockError> {
    let entry = context.enter().masked(value.len())?;
    if entry.shape.compare.is_none() {
        return Err(StockError::Order { wanted: "a comparison", found: "masks without one" });
    }
    let opened = open(context, value, &entry).await;
    if let Some(keyed) = &entry.keyed {
        return Ok(keyed::parities(&keyed::signs(&opened, entry.shape, keyed, context.party())));
    }
    compare(context, &opened, &entry).await
}

/// Whether `y >= 0` as additive shares of bits, from an entry with comparison keys.
///
/// # Errors
/// The stock holds something else.
pub async fn sign_sums(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().masked(value.len())?;
    let wanted = StockError::Order { wanted: "comparison keys", found: "masks without them" };
    let keyed = entry.keyed.as_ref().ok_or(wanted)?;
    let opened = open(context, value, &entry).await;
    Ok(keyed::signs(&opened, entry.shape, keyed, context.party()))
}

/// `max(floor(y / 2^shift), 0)`, the floor at most one unit too large.
///
/// # Errors
/// The stock holds something else.
pub async fn rectify(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().masked(value.len())?;
    if let Some(keyed) = entry.keyed.as_ref().filter(|_| entry.shape.select) {
        let opened = open(context, value, &entry).await;
        return Ok(keyed::select(&opened, entry.shape, keyed, context.party()));
    }
    let wanted = StockError::Order { wanted: "a selection", found: "masks without one" };
    let selection = entry.selection.as_ref().ok_or(wanted)?;
    let opened = open(context, value, &entry).await;
    let sign = compare(context, &opened, &entry).await?;
    let own = masked_row(&sign, &selection.bit.xor);
    let flipped = rows(context, Step::BitOpen, vec![own], value.len()).await.concat();
    Ok(select(&opened, &flipped, &entry, context.unit()))
}

/// What the gate that this entry serves opens, round by round.
pub fn openings(shape: MaskedShape) -> Vec<Opening> {
    let mut openings = vec![Opening::values(shape.count, shape.ring_bits)];
    if let Some(comparison) = shape.digits() {
        for sizes in comparison.groups() {
            let groups = sizes.iter().enumerate();
            let inputs = groups.filter_map(|(group, blocks)| CompareShape::product(group, *blocks));
            openings.push(Opening::bits(inputs.map(|set| set.inputs()).sum(), shape.count));
        }
    }
    if shape.select && shape.keys().is_none() {
        openings.push(Opening::bits(1, shape.count));
    }
    openings
}

/// The entry that a gate of this shape consumes.
pub fn demand(shape: MaskedShape) -> Demand {
    Demand::Masked(shape)
}

async fn open(context: &Context, value: &[u64], entry: &Masked) -> Vec<u64> {
    let shape = entry.shape;
    let offset = context.unit() << shape.value_bits;
    let masked = |(value, mask): (&u64, &u64)| value.wrapping_add(*mask).wrapping_add(offset);
    let own = value.iter().zip(entry.mask.iter()).map(masked).collect();
    low(context, Step::MaskedOpen, own, shape.ring_bits).await
}

/// `2^exponent` in the ring.
fn power(exponent: u32) -> u64 {
    1u64.checked_shl(exponent).unwrap_or(0)
}

fn lift(opened: &[u64], entry: &Masked, unit: u64) -> Additive {
    let shape = entry.shape;
    let wrapped = power(shape.ring_bits - shape.shift);
    let offset = power(shape.value_bits - shape.shift);
    let one = |at: usize| {
        let z = opened[at];
        let unwrapped = 1 - (z >> (shape.ring_bits - 1));
        let public = (z >> shape.shift).wrapping_sub(offset).wrapping_mul(unit);
        public
            .wrapping_sub(entry.high[at])
            .wrapping_add(entry.wrap[at].wrapping_mul(wrapped.wrapping_mul(unwrapped)))
    };
    (0..opened.len()).map(one).collect::<Vec<_>>().into()
}

fn select(opened: &[u64], flipped: &[u64], entry: &Masked, unit: u64) -> Additive {
    let shape = entry.shape;
    let Some(selection) = &entry.selection else { return Additive::default() };
    let wrapped = power(shape.ring_bits - shape.shift);
    let offset = power(shape.value_bits - shape.shift);
    let lifted = lift(opened, entry, unit);
    let one = |at: usize| {
        let z = opened[at];
        let unwrapped = 1 - (z >> (shape.ring_bits - 1));
        let public = (z >> shape.shift).wrapping_sub(offset);
        let product = public
            .wrapping_mul(selection.bit.sum[at])
            .wrapping_sub(selection.high[at])
            .wrapping_add(selection.wrap[at].wrapping_mul(wrapped.wrapping_mul(unwrapped)));
        let flip = flipped[at / 64] >> (at % 64) & 1;
        let signed = product.wrapping_sub(product.wrapping_mul(2 * flip));
        lifted[at].wrapping_mul(flip).wrapping_add(signed)
    };
    (0..opened.len()).map(one).collect::<Vec<_>>().into()
}

async fn compare(context: &Context, opened: &[u64], entry: &Masked) -> Result<Vec<u64>, StockError> {
    let wanted = StockError::Order { wanted: "a comparison", found: "masks without one" };
    let comparison = entry.shape.digits().ok_or(wanted)?;
    let unit = context.unit();
    let (mut less, mut equal) = digits(opened, entry, comparison, unit);
    for groups in &entry.combine {
        let mut inputs = Vec::new();
        let mut first = 0;
        let sizes: Vec<usize> =
            groups.iter().map(|group| group.as_ref().map_or(1, |g| g.set.inputs() / 2 + 1)).collect();
        for (group, (products, size)) in groups.iter().zip(&sizes).enumerate() {
            if let Some(products) = products {
                let digits = first..first + size;
                let equals = &equal[digits.start + usize::from(group == 0)..digits.end];
                let shares = equals.iter().chain(&less[digits.start..digits.end - 1]);
                inputs.extend(shares.zip(&products.masks).map(|(share, mask)| masked_row(share, mask)));
            }
            first += size;
        }
        let opened_rows = rows(context, Step::CompareBits, inputs, opened.len()).await;
        (less, equal) = combine(groups, &sizes, &opened_rows, (&less, &equal), unit);
    }
    let shape = entry.shape;
    let mut sign = masked_row(&less[0], &entry.top);
    if unit == 1 {
        for (at, z) in opened.iter().enumerate() {
            sign[at / 64] ^= (z >> shape.shift >> comparison.width & 1) << (at % 64);
        }
    }
    Ok(sign)
}

type Rows = Vec<Vec<u64>>;

/// Looks up, digit by digit, whether the public digit is less than the shared one, or equal to it.
fn digits(opened: &[u64], entry: &Masked, comparison: CompareShape, unit: u64) -> (Rows, Rows) {
    let look_up = match comparison.block_bits {
        1 => look_up::<1>,
        2 => look_up::<2>,
        3 => look_up::<3>,
        4 => look_up::<4>,
        5 => look_up::<5>,
        _ => look_up::<6>,
    };
    let row = |(block, table): (u32, &Vec<u64>)| {
        let low = block * comparison.block_bits;
        let digit_bits = comparison.block_bits.min(comparison.width - low);
        let digit = Digit { low: entry.shape.shift + low, mask: (1 << digit_bits) - 1 };
        look_up(opened, table, digit, unit)
    };
    (0..comparison.blocks).zip(&entry.thermometers).map(row).unzip()
}

/// Where a digit stands in a value.
#[derive(Clone, Copy)]
struct Digit {
    low: u32,
    mask: u64,
}

/// One digit of all values; a value has `2^BITS` entries of the table. Compiled for each `BITS`, the
/// loop needs no index arithmetic, which takes half of its time.
fn look_up<const BITS: u32>(opened: &[u64], table: &[u64], digit: Digit, unit: u64) -> (Vec<u64>, Vec<u64>) {
    let words = opened.len().div_ceil(64);
    let (mut less, mut equal) = (Vec::with_capacity(words), Vec::with_capacity(words));
    // 64 values take as many words of the table as a value has entries; the last may take fewer.
    let mut lines = table.chunks(1 << BITS);
    for values in opened.chunks(64) {
        let (mut places, mut line) = ([0; 64], [0; 64]);
        places[..values.len()].copy_from_slice(values);
        let held = lines.next().unwrap_or_default();
        line[..held.len()].copy_from_slice(held);
        let (mut less_word, mut equal_word) = (0, 0);
        for at in 0..64 {
            let c = places[at] >> digit.low & digit.mask;
            let entries = line[(at << BITS) / 64] >> ((at << BITS) % 64);
            let is_less = entries >> c & 1;
            let is_equal = (entries << 1 | unit) >> c & 1 ^ is_less;
            less_word |= is_less << at;
            equal_word |= is_equal << at;
        }
        less.push(less_word);
        equal.push(equal_word);
    }
    (less, equal)
}

fn combine(
    groups: &[Option<crate::stock::Products>],
    sizes: &[usize],
    opened: &[Vec<u64>],
    (less, equal): (&Rows, &Rows),
    unit: u64,
) -> (Rows, Rows) {
    let (mut next_less, mut next_equal) = (Vec::new(), Vec::new());
    let (mut first, mut used) = (0, 0);
    for (products, size) in groups.iter().zip(sizes) {
        let top = first + size - 1;
        match products {
            None => {
                next_less.push(less[top].clone());
                next_equal.push(equal[top].clone());
            }
            Some(products) => {
                let inputs = products.set.inputs();
                let tables = Tables {
                    opened: &opened[used..used + inputs],
                    masks: &products.masks,
                    monomials: &products.monomials,
                    constants: unit == 1,
                };
                let mut outputs = products.set.evaluate(tables).into_iter();
                let sum = outputs.next().unwrap_or_default();
                next_less.push(masked_row(&sum, &less[top]));
                next_equal.push(outputs.next().unwrap_or_default());
                used += inputs;
            }
        }
        first += size;
    }
    (next_less, next_equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::reconstruct;
    use crate::stock::Gadget;
    use crate::testing::{Dealt, Gate};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const GADGETS: [Gadget; 2] = [Gadget::Digits, Gadget::Keys];

    type Run = fn(Context, Additive) -> Gate<'static, Vec<u64>>;

    const TRUNCATE: Run =
        |mut context, value| Box::pin(async move { Ok(truncate(&mut context, &value).await?.into_words()) });
    const RECTIFY: Run =
        |mut context, value| Box::pin(async move { Ok(rectify(&mut context, &value).await?.into_words()) });
    const SIGN: Run = |mut context, value| Box::pin(async move { sign(&mut context, &value).await });

    /// Both parties' results; the meter must show what [`openings`] says.
    fn run(shape: MaskedShape, values: &[i64], seed: u64, gate: Run) -> [Vec<u64>; 2] {
        let values: Vec<u64> = values.iter().map(|value| *value as u64).collect();
        let dealt = Dealt::new(&[demand(shape)], &[], seed).unwrap();
        let outcome = dealt.run(&values, gate);
        let opened = openings(shape);
        let bytes: usize = opened.iter().map(|opening| opening.bytes() + crate::wire::HEADER_BYTES).sum();
        assert_eq!((outcome.meter.rounds as usize, outcome.meter.bytes), (opened.len(), bytes as u64));
        outcome.results.map(|result| result.unwrap())
    }

    fn words(shape: MaskedShape, values: &[i64], seed: u64, gate: Run) -> Vec<i64> {
        let [zero, one] = run(shape, values, seed, gate);
        reconstruct(&zero, &one).into_iter().map(|word| word as i64).collect()
    }

    /// Zero, the neighbours of zero and of both bounds, and random values; `top` is the largest allowed.
    fn values(value_bits: u32, top: i64, random: usize, rng: &mut StdRng) -> Vec<i64> {
        let bottom = -1i64 << value_bits;
        let mut values = vec![0, 1, -1, 2, -2, top, top - 1, bottom, bottom + 1];
        values.extend((0..random).map(|_| rng.random_range(bottom..=top)));
        values.retain(|value| (bottom..=top).contains(value));
        values
    }

    fn top(value_bits: u32, shift: u32) -> i64 {
        ((1i128 << value_bits) - if shift > 0 { 1 << shift } else { 0 } - 1) as i64
    }

    /// Every width of the value with a shift that depends on it, up to 20.
    fn shapes() -> impl Iterator<Item = (u32, u32)> {
        (1..=62u32).flat_map(|bits| [0, bits * 7 % 21, 20].map(|shift| (bits, shift.min(bits - 1))))
    }

    #[test]
    fn truncation_is_at_most_one_unit_too_large() {
        let mut rng = StdRng::seed_from_u64(1);
        for (bits, shift) in shapes() {
            let values = values(bits, top(bits, 0), 40, &mut rng);
            let shape = MaskedShape::truncate(values.len(), bits, shift);
            for (value, found) in values.iter().zip(words(shape, &values, 1, TRUNCATE)) {
                let error = found - (value >> shift);
                assert!(error == 0 || shift > 0 && error == 1, "{value} >> {shift} ({bits} bits): {found}");
            }
        }
    }

    #[test]
    fn truncation_never_fails_and_carries_as_often_as_the_low_bits_say() {
        const COUNT: usize = 60_000;
        let mut rng = StdRng::seed_from_u64(2);
        for (bits, shift) in [(44, 16), (28, 16), (62, 20)] {
            let mut values = values(bits, top(bits, 0), COUNT, &mut rng);
            values.extend((0..COUNT).map(|_| top(bits, 0)));
            values.extend((0..COUNT).map(|_| -1i64 << bits));
            let shape = MaskedShape::truncate(values.len(), bits, shift);
            let errors: Vec<i64> = values
                .iter()
                .zip(words(shape, &values, 3, TRUNCATE))
                .map(|(value, found)| found - (value >> shift))
                .collect();
            assert!(errors.iter().all(|error| [0, 1].contains(error)));
            // A carry has the probability of the low bits: a half on average, nearly one at the top,
            // none at the bottom, where the low bits are zero.
            let carries = |part: &[i64]| part.iter().sum::<i64>() as f64 / part.len() as f64;
            let (random, edges) = errors.split_at(errors.len() - 2 * COUNT);
            assert!((carries(random) - 0.5).abs() < 0.02, "{}", carries(random));
            assert!(carries(&edges[..COUNT]) > 0.998);
            assert_eq!(carries(&edges[COUNT..]), 0.0);
        }
    }

    const SUMS: Run =
        |mut context, value| Box::pin(async move { Ok(sign_sums(&mut context, &value).await?.into_words()) });

    #[test]
    fn sign_is_exact() {
        let mut rng = StdRng::seed_from_u64(4);
        for bits in 1..=63 {
            let values = values(bits, ((1i128 << bits) - 1) as i64, 130, &mut rng);
            for gadget in GADGETS {
                let [zero, one] = run(MaskedShape::sign(values.len(), bits, gadget), &values, 5, SIGN);
                for (at, value) in values.iter().enumerate() {
                    let found = (zero[at / 64] ^ one[at / 64]) >> (at % 64) & 1;
                    assert_eq!(found == 1, *value >= 0, "{value} ({bits} bits, {gadget:?})");
                }
            }
            let sums = words(MaskedShape::sign(values.len(), bits, Gadget::Keys), &values, 5, SUMS);
            assert!(values.iter().zip(sums).all(|(value, sum)| sum == i64::from(*value >= 0)), "{bits} bits");
        }
    }

    #[test]
    fn rectification_is_the_maximum_of_truncation_and_zero() {
        let mut rng = StdRng::seed_from_u64(6);
        for (bits, shift) in shapes() {
            let values = values(bits, top(bits, shift), 60, &mut rng);
            let shape = MaskedShape::rectify(values.len(), bits, shift, Gadget::Digits);
            let found = words(shape, &values, 7, RECTIFY);
            let lifted = words(MaskedShape { compare: None, select: false, ..shape }, &values, 7, TRUNCATE);
            // Both runs open the same values under the same masks, so that both carry alike.
            for (at, value) in values.iter().enumerate() {
                assert_eq!(found[at], lifted[at].max(0), "{value} >> {shift} ({bits} bits)");
            }
        }
    }

    #[test]
    fn rectification_by_keys_is_at_most_one_unit_too_large() {
        let mut rng = StdRng::seed_from_u64(6);
        for (bits, shift) in shapes() {
            let values = values(bits, top(bits, shift), 130, &mut rng);
            let shape = MaskedShape::rectify(values.len(), bits, shift, Gadget::Keys);
            for (value, found) in values.iter().zip(words(shape, &values, 7, RECTIFY)) {
                let floor = value >> shift;
                let right = found == floor.max(0) || shift > 0 && found == (floor + 1).max(0);
                assert!(right, "{value} >> {shift} ({bits} bits): {found}");
            }
        }
    }

    #[test]
    fn narrow_values_are_right_under_every_mask() {
        for gadget in GADGETS {
            for bits in 1..=4u32 {
                for shift in 0..bits {
                    // Each value often enough to meet all masks.
                    let all = (-1i64 << bits)..=top(bits, shift);
                    let values: Vec<i64> = all.flat_map(|value| vec![value; 300]).collect();
                    let shape = MaskedShape::rectify(values.len(), bits, shift, gadget);
                    for (value, found) in values.iter().zip(words(shape, &values, 12, RECTIFY)) {
                        let floor = value >> shift;
                        let carried = value & ((1 << shift) - 1) != 0;
                        let right = found == floor.max(0) || carried && found == (floor + 1).max(0);
                        assert!(right, "{value} >> {shift} ({bits} bits, {gadget:?}): {found}");
                    }
                }
            }
        }
    }

    #[test]
    fn rectification_rounds_both_ways_at_zero() {
        for gadget in GADGETS {
            let values = vec![-1; 1000];
            let found = words(MaskedShape::rectify(1000, 28, 16, gadget), &values, 8, RECTIFY);
            assert!(found.iter().all(|value| *value == 0), "a carry lifts -1 to 0, never above");
            let values = vec![1 << 15; 1000];
            let found = words(MaskedShape::rectify(1000, 28, 16, gadget), &values, 9, RECTIFY);
            assert!(found.contains(&0) && found.contains(&1));
            assert!(found.iter().all(|value| [0, 1].contains(value)));
        }
    }

    #[test]
    fn values_outside_the_bounds_break_nothing_else() {
        let mut values = vec![5 << 16; 70];
        values[3] = i64::MAX;
        values[66] = i64::MIN;
        for gadget in GADGETS {
            let found = words(MaskedShape::rectify(70, 28, 16, gadget), &values, 10, RECTIFY);
            for at in (0..70).filter(|at| ![3, 66].contains(at)) {
                assert!([5, 6].contains(&found[at]));
            }
        }
    }

    #[test]
    fn an_entry_for_something_else_is_refused() {
        let wrong = |demand: Demand, gate: Run| {
            let dealt = Dealt::new(&[demand], &[], 11).unwrap();
            match dealt.run(&[1, 2], gate).results {
                [Err(crate::context::ComputationError::Gate(zero)), Err(_)] => zero,
                other => panic!("{other:?}"),
            }
        };
        let wanted = "masks with shared bits";
        assert_eq!(
            wrong(Demand::Square { count: 2 }, TRUNCATE),
            StockError::Order { wanted, found: "a square pair" }
        );
        let sign = |count, gadget| demand(MaskedShape::sign(count, 9, gadget));
        for gadget in GADGETS {
            assert_eq!(wrong(sign(3, gadget), SIGN), StockError::Count { what: wanted, wanted: 2, found: 3 });
            let wanted = "a selection";
            let found = "masks without one";
            assert_eq!(wrong(sign(2, gadget), RECTIFY), StockError::Order { wanted, found });
            let wanted = "a lift";
            assert_eq!(wrong(sign(2, gadget), TRUNCATE), StockError::Order { wanted, found });
        }
        let (wanted, found) = ("comparison keys", "masks without them");
        assert_eq!(wrong(sign(2, Gadget::Digits), SUMS), StockError::Order { wanted, found });
        let wanted = "a comparison";
        assert_eq!(
            wrong(demand(MaskedShape::truncate(2, 9, 1)), SIGN),
            StockError::Order { wanted, found: "masks without one" }
        );
    }
}
