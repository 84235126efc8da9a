//! What every source of correlated randomness must deliver, whatever it is made of.

use crate::algebra::ConvShape;
use crate::algebra::linear::LinearShape;
use crate::algebra::prg::{Prg, Seed};
use crate::algebra::z64::norms;
use crate::offline::dealer::weight_mask;
use crate::party::Party;
use crate::share::reconstruct;
use crate::stock::{
    BitMask, Demand, Gadget, Indicator, IndicatorShape, Keyed, Linear, Masked, MaskedShape, ProductSet,
    Products, Provision, StockError, Tape, WeightOpenings,
};
use std::collections::HashSet;

/// Both parties' seeds of every weight mask, by model and layer: the mask is the sum of both
/// [`crate::offline::dealer::weight_mask_share`]s.
#[derive(Debug)]
pub struct MaskSeeds(Vec<Vec<[Seed; 2]>>);

impl MaskSeeds {
    /// The seeds of one mask, Zero's first.
    pub fn of(&self, model: usize, layer: usize) -> &[Seed; 2] {
        &self.0[model][layer]
    }
}

/// How a source broke the contract.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A tape does not serve the plan.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// An entry does not open to its defining relation.
    #[error("bundle {bundle}, lane {lane}, entry {entry}: {relation} does not hold")]
    Relation {
        /// Which bundle.
        bundle: usize,
        /// Which lane of it.
        lane: usize,
        /// Which entry of the lane.
        entry: usize,
        /// The relation.
        relation: &'static str,
    },
    /// A mask, or one party's share of it, came twice.
    #[error("bundle {bundle}, lane {lane}, entry {entry}: a mask that was dealt before")]
    Repeated {
        /// Which bundle.
        bundle: usize,
        /// Which lane of it.
        lane: usize,
        /// Which entry of the lane.
        entry: usize,
    },
    /// Masks, or one party's words, are not uniform.
    #[error("{ones} of {bits} bits of {what} are one")]
    Biased {
        /// Which words.
        what: &'static str,
        /// Ones among them.
        ones: u64,
        /// Bits looked at.
        bits: u64,
    },
}

const BUNDLES: usize = 3;

struct Openings(Vec<Vec<u64>>);

impl WeightOpenings for Openings {
    fn opening(&self, model: usize, layer: usize) -> Option<&[u64]> {
        if model == 0 { self.0.get(layer).map(Vec::as_slice) } else { None }
    }
}

/// Asks `source` for tapes (Zero's first) of a few bundles with every kind of entry, opens them and
/// checks their relations, that no mask repeats, and that masks and single shares look uniform.
///
/// # Errors
/// The first [`Violation`].
pub fn contract(
    gadget: Gadget,
    mut source: impl FnMut(&[Vec<Demand>], &MaskSeeds) -> [Tape; 2],
) -> Result<(), Violation> {
    let lanes = lanes(gadget);
    let root = Seed::from_bytes(*b"source contract!");
    let seeds = (0..3).map(|layer| ["zero", "one"].map(|name| root.derive(name, layer))).collect();
    let seeds = MaskSeeds(vec![seeds]);
    let shapes = linear_shapes();
    let mut prg = Prg::new(&root.derive("weights", 0));
    let weights: Vec<Vec<u64>> = shapes.iter().map(|shape| prg.words(shape.weight_len())).collect();
    let masked = |(layer, weight): (usize, &Vec<u64>)| {
        let [zero, one] = seeds.of(0, layer);
        let mask = weight_mask(zero, one, weight.len());
        weight.iter().zip(mask.iter()).map(|(w, a)| w.wrapping_sub(*a)).collect()
    };
    let openings = Openings(weights.iter().enumerate().map(masked).collect());
    let mut seen = Seen::default();
    for bundle in 0..BUNDLES {
        let [zero, one] = source(&lanes, &seeds);
        let zero = Provision::lay_out(zero, &lanes, &openings)?;
        let one = Provision::lay_out(one, &lanes, &openings)?;
        let mut input = Vec::new();
        for (lane, ((demands, mut zero), mut one)) in lanes.iter().zip(zero).zip(one).enumerate() {
            for (entry, demand) in demands.iter().enumerate() {
                let mut stocks = [&mut zero, &mut one];
                let relation = check(demand, &mut stocks, &weights, &mut input, &mut seen)?;
                if let Some(relation) = relation {
                    return Err(Violation::Relation { bundle, lane, entry, relation });
                }
                if seen.repeated {
                    return Err(Violation::Repeated { bundle, lane, entry });
                }
            }
        }
    }
    seen.verdict()
}

fn linear_shapes() -> [LinearShape; 3] {
    let conv = ConvShape {
        channels: 2,
        height: 5,
        width: 4,
        outputs: 3,
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 0, 1, 1],
        batch: 3,
    };
    [
        LinearShape::Dense { outputs: 7, inputs: 40, batch: 3 },
        LinearShape::Dense { outputs: 5, inputs: 7, batch: 3 },
        LinearShape::Conv(conv),
    ]
}

fn lanes(gadget: Gadget) -> Vec<Vec<Demand>> {
    let shapes = linear_shapes();
    let linear = |layer: usize, first| Demand::Linear { model: 0, layer, shape: shapes[layer], first };
    let norm = |values, batch, first| Demand::Norm { values, batch, first };
    let mut gates = vec![linear(1, false), Demand::Square { count: 21 }, Demand::BitMask { count: 67 }];
    gates.extend([norm(9, 4, false), norm(1, 1, false)]);
    let mut keyed = Vec::new();
    for (value_bits, shift) in [(1, 0), (9, 8), (28, 16), (44, 16), (60, 3), (62, 0)] {
        gates.push(Demand::Masked(MaskedShape::truncate(65, value_bits, shift)));
        gates.push(Demand::Masked(MaskedShape::sign(33, value_bits, Gadget::Digits)));
        gates.push(Demand::Masked(MaskedShape::rectify(21, value_bits, shift, Gadget::Digits)));
        gates.push(Demand::Masked(MaskedShape::rectify(4, value_bits, shift, Gadget::Nibbles)));
        keyed.push(Demand::Masked(MaskedShape::sign(5, value_bits, Gadget::Keys)));
        keyed.push(Demand::Masked(MaskedShape::rectify(3, value_bits, shift, Gadget::Keys)));
    }
    gates.push(Demand::Masked(MaskedShape::sign(5, 63, Gadget::Digits)));
    keyed.push(Demand::Masked(MaskedShape::sign(2, 63, Gadget::Keys)));
    keyed.push(Demand::Masked(MaskedShape::rectify(130, 6, 2, Gadget::Keys)));
    keyed.push(Demand::Masked(MaskedShape::rectify(128, 10, 2, Gadget::Keys)));
    for (count, bits, target, sums) in
        [(67, 2, 2, true), (5, 6, 63, true), (67, 4, 9, false), (3, 1, 0, false), (5, 7, 0, false)]
    {
        keyed.push(Demand::Indicator(IndicatorShape { count, bits, target, sums }));
    }
    if gadget == Gadget::Keys {
        gates.append(&mut keyed);
    }
    for inputs in 2..=9 {
        gates.push(Demand::Products { count: 66, set: ProductSet::conjunction(inputs) });
        gates.push(Demand::Products { count: 3, set: ProductSet::chain(inputs, inputs % 2 == 0) });
        let exceptions = inputs.div_ceil(2);
        let set = ProductSet::unless(inputs - exceptions, exceptions);
        gates.push(Demand::Products { count: 5, set });
    }
    let first = vec![linear(0, true), norm(40, 3, true), linear(2, true), Demand::BitMask { count: 1 }];
    vec![vec![Demand::InputMask { count: 120 }], first, gates]
}

/// Masks met so far, and how many bits of them are one: both parties' sum, Zero's and One's share.
#[derive(Default)]
struct Seen {
    words: [HashSet<u64>; 3],
    ones: [u64; 3],
    bits: [u64; 3],
    repeated: bool,
}

impl Seen {
    fn masks(&mut self, secret: &[u64], zero: &[u64], one: &[u64]) {
        for (kind, words) in [secret, zero, one].into_iter().enumerate() {
            for word in words {
                self.repeated |= !self.words[kind].insert(*word);
                self.ones[kind] += u64::from(word.count_ones());
                self.bits[kind] += 64;
            }
        }
    }

    fn shares(&mut self, zero: &[u64], one: &[u64]) {
        for (kind, words) in [(1, zero), (2, one)] {
            self.ones[kind] += words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            self.bits[kind] += 64 * words.len() as u64;
        }
    }

    /// Single bits of both shares.
    fn bits(&mut self, zero: &[u64], one: &[u64], places: impl Iterator<Item = usize> + Clone) {
        for (kind, words) in [(1, zero), (2, one)] {
            self.ones[kind] += places.clone().map(|at| bit_at(words, at)).sum::<u64>();
            self.bits[kind] += places.clone().count() as u64;
        }
    }

    /// Six standard deviations of a fair coin.
    fn verdict(&self) -> Result<(), Violation> {
        for (kind, what) in ["the masks", "party Zero's words", "party One's words"].into_iter().enumerate() {
            let (ones, bits) = (self.ones[kind], self.bits[kind]);
            if ones.abs_diff(bits / 2).pow(2) > 9 * bits {
                return Err(Violation::Biased { what, ones, bits });
            }
        }
        Ok(())
    }
}

/// Opens the next entry; the name of the relation that fails, if any.
fn check(
    demand: &Demand,
    stocks: &mut [&mut Provision; 2],
    weights: &[Vec<u64>],
    input: &mut Vec<u64>,
    seen: &mut Seen,
) -> Result<Option<&'static str>, StockError> {
    let [zero, one] = stocks;
    let wrong = match demand {
        Demand::InputMask { count } => {
            let (zero, one) = (zero.input_mask(*count)?, one.input_mask(*count)?);
            *input = reconstruct(&zero.mask, &one.mask);
            seen.masks(input, &zero.mask, &one.mask);
            None
        }
        Demand::Linear { layer, shape, first, .. } => {
            let (zero, one) = (zero.linear(shape.output_len())?, one.linear(shape.output_len())?);
            triple((&zero, &one), (&weights[*layer], shape), first.then_some(&**input), seen)
        }
        Demand::Masked(shape) => masked(&*zero.masked(shape.count)?, &*one.masked(shape.count)?, seen),
        Demand::Square { count } => {
            let (zero, one) = (zero.square(*count)?, one.square(*count)?);
            let mask = reconstruct(&zero.mask, &one.mask);
            seen.masks(&mask, &zero.mask, &one.mask);
            seen.shares(&zero.square, &one.square);
            let squares: Vec<u64> = mask.iter().map(|b| b.wrapping_mul(*b)).collect();
            (reconstruct(&zero.square, &one.square) != squares).then_some("square = mask * mask")
        }
        Demand::Norm { values, batch, first } => {
            let (zero, one) = (zero.norm(values * batch)?, one.norm(values * batch)?);
            let mask = reconstruct(&zero.mask, &one.mask);
            if !first {
                seen.masks(&mask, &zero.mask, &one.mask);
            }
            seen.shares(&zero.norm, &one.norm);
            let right = reconstruct(&zero.norm, &one.norm) == norms(&mask, *batch);
            (!right || *first && mask != *input).then_some("norm = sum of mask * mask")
        }
        Demand::Products { count, .. } => {
            let words = count.div_ceil(64);
            products(&zero.products(words)?, &one.products(words)?, *count, seen)
        }
        Demand::BitMask { count } => bits(&zero.bits(*count)?, &one.bits(*count)?, seen).1,
        Demand::Indicator(shape) => {
            indicator(&zero.indicator(shape.count)?, &one.indicator(shape.count)?, seen)
        }
    };
    Ok(wrong)
}

fn triple(
    (zero, one): (&Linear, &Linear),
    (weight, shape): (&[u64], &LinearShape),
    input: Option<&[u64]>,
    seen: &mut Seen,
) -> Option<&'static str> {
    let own = reconstruct(&zero.mask, &one.mask);
    seen.masks(&own, &zero.mask, &one.mask);
    seen.shares(&zero.product, &one.product);
    let mut product = vec![0; shape.output_len()];
    shape.multiply_add(&mut product, weight, input.unwrap_or(&own));
    (reconstruct(&zero.product, &one.product) != product).then_some("product = weights * mask")
}

fn masked(zero: &Masked, one: &Masked, seen: &mut Seen) -> Option<&'static str> {
    let shape = zero.shape;
    let raw = reconstruct(&zero.mask, &one.mask);
    seen.masks(&raw, &zero.mask, &one.mask);
    let mask: Vec<u64> = raw.iter().map(|word| word & (u64::MAX >> (64 - shape.ring_bits))).collect();
    let high: Vec<u64> = mask.iter().map(|word| word >> shape.shift).collect();
    let wrap: Vec<u64> = mask.iter().map(|word| word >> (shape.ring_bits - 1)).collect();
    if shape.lift {
        seen.shares(&zero.high, &one.high);
        seen.shares(&zero.wrap, &one.wrap);
        if reconstruct(&zero.high, &one.high) != high {
            return Some("high = mask >> shift");
        }
        if reconstruct(&zero.wrap, &one.wrap) != wrap {
            return Some("wrap = top bit of the mask");
        }
    }
    if let Some((own, other)) = zero.keyed.as_ref().zip(one.keyed.as_ref()) {
        return keyed((own, other), &high, seen);
    }
    if let Some(wrong) = compared(zero, one, &high, seen) {
        return Some(wrong);
    }
    let (Some(own), Some(other)) = (&zero.selection, &one.selection) else { return None };
    let (bit, wrong) = bits(&own.bit, &other.bit, seen);
    let times =
        |words: &[u64]| -> Vec<u64> { words.iter().zip(&bit).map(|(word, bit)| word * bit).collect() };
    seen.shares(&own.high, &other.high);
    seen.shares(&own.wrap, &other.wrap);
    wrong
        .or_else(|| (reconstruct(&own.high, &other.high) != times(&high)).then_some("high * bit"))
        .or_else(|| (reconstruct(&own.wrap, &other.wrap) != times(&wrap)).then_some("wrap * bit"))
}

fn compared(zero: &Masked, one: &Masked, high: &[u64], seen: &mut Seen) -> Option<&'static str> {
    let comparison = zero.shape.digits()?;
    let entries = 1usize << comparison.block_bits;
    for (block, (own, other)) in zero.thermometers.iter().zip(&one.thermometers).enumerate() {
        let table = xor(own, other);
        let low = block as u32 * comparison.block_bits;
        let digit_bits = comparison.block_bits.min(comparison.width - low);
        // The other entries are 0 whatever the digit, and may be shared as zeros.
        let open = (1usize << digit_bits) - 1;
        seen.bits(own, other, (0..high.len()).flat_map(|at| (0..open).map(move |c| at * entries + c)));
        for (at, value) in high.iter().enumerate() {
            let digit = (value >> low & ((1 << digit_bits) - 1)) as usize;
            let entry = |c: usize| bit_at(&table, at * entries + c) == 1;
            if (0..entries).any(|c| entry(c) != (c < digit)) {
                return Some("entry c of a thermometer = (c < digit)");
            }
        }
    }
    seen.bits(&zero.top, &one.top, 0..high.len());
    let top = xor(&zero.top, &one.top);
    if high.iter().enumerate().any(|(at, value)| bit_at(&top, at) != value >> comparison.width & 1) {
        return Some("top = bit above the compared ones");
    }
    let groups = zero.combine.iter().flatten().zip(one.combine.iter().flatten());
    groups
        .filter_map(|(own, other)| own.as_ref().zip(other.as_ref()))
        .find_map(|(own, other)| products(own, other, high.len(), seen))
}

fn keyed((zero, one): (&Keyed, &Keyed), high: &[u64], seen: &mut Seen) -> Option<&'static str> {
    let shape = zero.key.shape;
    let low: Vec<u64> = high.iter().map(|value| value & ((1 << shape.width) - 1)).collect();
    let top: Vec<u64> = high.iter().map(|value| value >> shape.width & 1).collect();
    let product: Vec<u64> = low.iter().zip(&top).map(|(low, top)| low * top).collect();
    let dealt = [
        (&zero.top, &one.top, &top, "top = bit above the compared ones"),
        (&zero.low, &one.low, &low, "low = compared bits"),
        (&zero.product, &one.product, &product, "product = low * top"),
    ];
    // A sign alone needs no more than the first.
    for (own, other, value, relation) in dealt.into_iter().take(shape.words) {
        seen.shares(own, other);
        if reconstruct(own, other) != **value {
            return Some(relation);
        }
    }
    seen.shares(&zero.key.roots, &one.key.roots);
    // Rows of bits that are filled up would count as biased.
    if shape.count.is_multiple_of(64) {
        seen.shares(&zero.key.corrections, &one.key.corrections);
    }
    if (zero.key.hash, &zero.key.corrections) != (one.key.hash, &one.key.corrections) {
        return Some("both parties hold the same correction words");
    }
    let sign = |top: &u64| 1u64.wrapping_sub(2 * top);
    let payload: [Vec<u64>; 3] = [
        top.iter().map(sign).collect(),
        top.iter().zip(&low).map(|(top, low)| low.wrapping_mul(sign(top))).collect(),
        top.iter().map(|top| top.wrapping_neg()).collect(),
    ];
    let right = |points: Vec<u64>| {
        let shares = [(&zero.key, Party::Zero), (&one.key, Party::One)]
            .map(|(key, party)| key.evaluate(party, &points));
        shares[0].iter().zip(&shares[1]).zip(&payload).all(|((own, other), payload)| {
            let less = points.iter().zip(&low).map(|(point, low)| u64::from(point < low));
            let due = less.zip(payload).map(|(less, payload)| payload.wrapping_mul(less));
            reconstruct(own, other).into_iter().eq(due)
        })
    };
    let all_right = points(shape.width, &low).all(right);
    (!all_right).then_some("a key gives its payload below its threshold")
}

/// All points of a few bits; else the threshold, its neighbours, both ends, and what leaves the path of
/// the threshold at each level.
fn points(width: u32, thresholds: &[u64]) -> Box<dyn Iterator<Item = Vec<u64>> + '_> {
    let top = u64::MAX >> (64 - width);
    if width <= 4 {
        return Box::new((0..=top).map(|point| vec![point; thresholds.len()]));
    }
    let each = move |of: &dyn Fn(u64) -> u64| -> Vec<u64> {
        thresholds.iter().map(|threshold| of(*threshold) & top).collect()
    };
    let near = [0, 1, u64::MAX].map(|by| each(&|threshold| threshold.wrapping_add(by)));
    let leaving = (0..width).map(move |bit| each(&|threshold| threshold ^ 1 << bit));
    Box::new(near.into_iter().chain([each(&|_| 0), each(&|_| top)]).chain(leaving))
}

fn indicator(zero: &Indicator, one: &Indicator, seen: &mut Seen) -> Option<&'static str> {
    let shape = zero.shape;
    let mask = reconstruct(&zero.mask, &one.mask);
    seen.masks(&mask, &zero.mask, &one.mask);
    seen.shares(&zero.table, &one.table);
    let sums = shape.sums.then(|| reconstruct(&zero.table, &one.table));
    let bits = xor(&zero.table, &one.table);
    let entry = |place: usize| sums.as_ref().map_or_else(|| bit_at(&bits, place), |sums| sums[place]);
    let ring = (1 << shape.bits) - 1;
    let right = |(at, mask): (usize, &u64)| {
        (0..=ring).all(|c: u64| {
            let hit = u64::from(c.wrapping_sub(*mask) & ring == shape.target);
            entry(at << shape.bits | c as usize) == hit
        })
    };
    (!mask.iter().enumerate().all(right)).then_some("entry c of a table = (c - mask is the target)")
}

fn products(zero: &Products, one: &Products, count: usize, seen: &mut Seen) -> Option<&'static str> {
    let masks: Vec<Vec<u64>> = zero.masks.iter().zip(&one.masks).map(|(a, b)| xor(a, b)).collect();
    for (mask, (own, other)) in masks.iter().zip(zero.masks.iter().zip(&one.masks)) {
        seen.masks(mask, own, other);
    }
    for (set, (own, other)) in zero.set.monomials().iter().zip(zero.monomials.iter().zip(&one.monomials)) {
        seen.bits(own, other, 0..count);
        let chosen = masks.iter().enumerate().filter(|(input, _)| set >> input & 1 == 1);
        let product = chosen.fold(vec![u64::MAX; own.len()], |product, (_, mask)| {
            product.iter().zip(mask).map(|(a, b)| a & b).collect()
        });
        let monomial = xor(own, other);
        if (0..count).any(|at| bit_at(&monomial, at) != bit_at(&product, at)) {
            return Some("monomial = product of its masks");
        }
    }
    None
}

/// The bits and whether their two sharings disagree.
fn bits(zero: &BitMask, one: &BitMask, seen: &mut Seen) -> (Vec<u64>, Option<&'static str>) {
    let packed = xor(&zero.xor, &one.xor);
    seen.masks(&packed, &zero.xor, &one.xor);
    seen.shares(&zero.sum, &one.sum);
    let bits: Vec<u64> = (0..zero.sum.len()).map(|at| bit_at(&packed, at)).collect();
    let wrong = (reconstruct(&zero.sum, &one.sum) != bits).then_some("sum of shares = xor of shares");
    (bits, wrong)
}

fn xor(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(a, b)| a ^ b).collect()
}

fn bit_at(words: &[u64], at: usize) -> u64 {
    words[at / 64] >> (at % 64) & 1
}
