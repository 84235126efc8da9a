//! Truncation, sign and rectification from one opening.
//!
//! - Computes: for shared `y` with `|y| < 2^v`: `t = floor(y / 2^s) + c` with `c` in {0, 1}
//!   (*truncate*), whether `t >= 0` (*sign*; exact where `s = 0`), `max(t, 0)` (*rectify*).
//! - Learns: nothing. The functionality includes the rounding bit `c`, a carry between the low bits
//!   of `y` and of the mask (Li et al., USENIX Security 2023): no truncated value is ever opened.
//! - Consumes: one [`MaskedShape`] entry.
//! - Costs: [`openings`]: 1 round to open `v + 2` bits per value (`v + 1` for a sign alone), 1 to
//!   combine the digits up to 54 bits (2 above), 1 for one bit per value to rectify.
//! - Source: masked wires as in ABY2.0 (Patra et al., USENIX Security 2021); truncation by a dealt
//!   `(r, r >> s, msb r)` as in Escudero et al., CRYPTO 2020; the digits are one-time truth tables
//!   (Ishai et al., TCC 2013), so that the first level of the comparison tree costs no message.

use super::open::{masked_row, rows};
use crate::algebra::stream;
use crate::context::{Context, Step};
use crate::share::Additive;
use crate::stock::{CompareShape, Demand, Masked, MaskedShape, StockError, Tables};
use crate::wire::Opening;

/// `floor(y / 2^shift)`, at most one unit too large.
///
/// # Errors
/// The stock holds something else.
pub async fn truncate(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().masked()?;
    let opened = open(context, value, &entry).await;
    Ok(lift(&opened, &entry, context.unit()))
}

/// Whether `y >= 0`: XOR shares, packed. Bits beyond the count are arbitrary.
///
/// # Errors
/// The stock holds something else.
pub async fn sign(context: &mut Context, value: &[u64]) -> Result<Vec<u64>, StockError> {
    let entry = context.enter().masked()?;
    let opened = open(context, value, &entry).await;
    compare(context, &opened, &entry).await
}

/// `max(floor(y / 2^shift), 0)`, the floor at most one unit too large.
///
/// # Errors
/// The stock holds something else.
pub async fn rectify(context: &mut Context, value: &[u64]) -> Result<Additive, StockError> {
    let entry = context.enter().masked()?;
    let opened = open(context, value, &entry).await;
    let sign = compare(context, &opened, &entry).await?;
    let wanted = StockError::Order { wanted: "a selection", found: "masks without one" };
    let selection = entry.selection.as_ref().ok_or(wanted)?;
    let own = masked_row(&sign, &selection.bit.xor);
    let flipped = rows(context, Step::BitOpen, vec![own], value.len()).await.concat();
    Ok(select(&opened, &flipped, &entry, context.unit()))
}

/// What the gate that this entry serves opens, round by round.
pub fn openings(shape: MaskedShape) -> Vec<Opening> {
    let mut openings = vec![Opening::values(shape.count, shape.ring_bits)];
    if let Some(comparison) = shape.comparison() {
        for sizes in comparison.groups() {
            let groups = sizes.iter().enumerate();
            let inputs = groups.filter_map(|(group, blocks)| CompareShape::product(group, *blocks));
            openings.push(Opening::bits(inputs.map(|set| set.inputs()).sum(), shape.count));
        }
    }
    if shape.select {
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
    let mut own: Vec<u64> = value
        .iter()
        .zip(entry.mask.iter())
        .map(|(value, mask)| value.wrapping_add(*mask).wrapping_add(offset))
        .collect();
    let reply = context.lane().exchange(Step::MaskedOpen, stream::pack(&own, shape.ring_bits)).await;
    let ring = u64::MAX >> (64 - shape.ring_bits);
    for (word, other) in own.iter_mut().zip(stream::unpack(&reply, value.len(), shape.ring_bits)) {
        *word = word.wrapping_add(other) & ring;
    }
    own
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
    let comparison = entry.shape.comparison().ok_or(wanted)?;
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
    let entries = 1usize << comparison.block_bits;
    let per_word = 64 / entries;
    let words = opened.len().div_ceil(64);
    let (mut less, mut equal) = (Vec::new(), Vec::new());
    for (block, table) in (0..comparison.blocks).zip(&entry.thermometers) {
        let low = block * comparison.block_bits;
        let digit_bits = comparison.block_bits.min(comparison.width - low);
        let digit_mask = (1u64 << digit_bits) - 1;
        let (mut less_row, mut equal_row) = (vec![0u64; words], vec![0u64; words]);
        for (at, z) in opened.iter().enumerate() {
            let digit = z >> entry.shape.shift >> low & digit_mask;
            let line = table[at / per_word] >> (at % per_word * entries);
            let is_less = line >> digit & 1;
            let is_equal = (line << 1 | unit) >> digit & 1 ^ is_less;
            less_row[at / 64] |= is_less << (at % 64);
            equal_row[at / 64] |= is_equal << (at % 64);
        }
        less.push(less_row);
        equal.push(equal_row);
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
