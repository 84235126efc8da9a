//! A third peer deals a bundle: a seed to each party, corrections to party One, keys to both.
//!
//! - Computes: for every [`Demand`] of the plan shares of fresh correlated randomness.
//! - Learns: the dealer learns the plan and all correlations, never an input, a weight or a result;
//!   each party learns its own shares. Trusted not to collude with either party.
//! - Consumes: nothing.
//! - Costs: no round between the parties; a seed of 16 bytes and 8 bytes per word to each
//!   ([`sent_words`]). Without comparison keys Zero is sent nothing but its seed.
//! - Source: Beaver 1995 (commodity-based cryptography) with pseudorandom correlations expanded from
//!   seeds; thermometer-coded masks are one-time truth tables (Ishai et al., TCC 2013) of one digit;
//!   comparison keys as in Boyle et al., Eurocrypt 2021.

use crate::algebra::prg::{Prg, Seed};
use crate::algebra::z64::norms;
use crate::party::Party;
use crate::stock::{
    CompareShape, Demand, Desk, HASH_KEY_WORDS, IndicatorShape, KeyShape, MaskedShape, ProductSet, correct,
};
use zeroize::Zeroizing;

/// The masks of the weights that the dealer deals for, by model and layer.
pub trait WeightMasks {
    /// `A` of one layer, row-major.
    fn mask(&self, model: usize, layer: usize) -> &[u64];
}

/// Expands the mask that both seeds of one registration stand for, `words` long.
pub fn weight_mask(zero: &Seed, one: &Seed, words: usize) -> Zeroizing<Vec<u64>> {
    let mut mask = weight_mask_share(zero, words);
    for (word, other) in mask.iter_mut().zip(weight_mask_share(one, words).iter()) {
        *word = word.wrapping_add(*other);
    }
    mask
}

/// One party's share of a weight mask.
pub fn weight_mask_share(seed: &Seed, words: usize) -> Zeroizing<Vec<u64>> {
    Zeroizing::new(Prg::new(&seed.derive("consilium weight mask", 0)).words(words))
}

/// The words that each party is sent for one bundle, Zero's first, given both parties' seeds for it.
///
/// The seeds must be fresh for this bundle.
pub fn corrections(
    lanes: &[Vec<Demand>],
    zero: &Seed,
    one: &Seed,
    masks: &impl WeightMasks,
) -> [Vec<u64>; 2] {
    let mut desk = Desk::new(zero, one, Party::BOTH.map(|party| sent_words(lanes, party)));
    let mut input = Zeroizing::new(Vec::new());
    for demand in lanes.iter().flatten() {
        match demand {
            Demand::InputMask { count } => input = Zeroizing::new(desk.free_sum(*count)),
            Demand::Linear { model, layer, shape, first } => {
                let own;
                let operand: &[u64] = if *first {
                    &input
                } else {
                    own = Zeroizing::new(desk.free_sum(shape.input_len()));
                    &own
                };
                let mut product = Zeroizing::new(vec![0; shape.output_len()]);
                shape.multiply_add(&mut product, masks.mask(*model, *layer), operand);
                desk.settle_sum(&product);
            }
            Demand::Masked(shape) => masked(&mut desk, *shape),
            Demand::Square { count } => {
                let mut values = Zeroizing::new(desk.free_sum(*count));
                values.iter_mut().for_each(|value| *value = value.wrapping_mul(*value));
                desk.settle_sum(&values);
            }
            Demand::Norm { values, batch, first } => {
                let own = if *first { Vec::new() } else { desk.free_sum(values * batch) };
                let own = Zeroizing::new(own);
                let operand: &[u64] = if *first { &input } else { &own };
                desk.settle_sum(&Zeroizing::new(norms(operand, *batch)));
            }
            Demand::Products { count, set } => products(&mut desk, *count, set),
            Demand::BitMask { count } => {
                bits(&mut desk, *count);
            }
            Demand::Indicator(shape) => indicator(&mut desk, *shape),
        }
    }
    desk.sent()
}

/// Words that a party is sent for one bundle of a plan.
pub fn sent_words(lanes: &[Vec<Demand>], party: Party) -> usize {
    let common = |demand: &Demand| match demand {
        Demand::Masked(shape) => shape.keys().map_or(0, |keys| HASH_KEY_WORDS + keys.correction_words()),
        _ => 0,
    };
    let dependent = |demand: &Demand| if party == Party::One { dependent_words(demand) } else { 0 };
    lanes.iter().flatten().map(|demand| common(demand) + dependent(demand)).sum()
}

fn dependent_words(demand: &Demand) -> usize {
    let of_products = |count: usize, set: &ProductSet| set.monomials().len() * count.div_ceil(64);
    match demand {
        Demand::InputMask { .. } => 0,
        Demand::Linear { shape, .. } => shape.output_len(),
        Demand::Square { count } | Demand::BitMask { count } => *count,
        Demand::Norm { batch, .. } => *batch,
        Demand::Products { count, set } => of_products(*count, set),
        Demand::Indicator(shape) => shape.table_words(),
        Demand::Masked(shape) => {
            let lifted = if shape.lift { 2 * shape.count } else { 0 };
            let compared = shape.digits().map_or(0, |comparison| {
                let digits = comparison.blocks as usize * (shape.count << comparison.block_bits).div_ceil(64);
                let combined: usize = comparison
                    .groups()
                    .iter()
                    .flat_map(|sizes| sizes.iter().enumerate())
                    .filter_map(|(group, blocks)| CompareShape::product(group, *blocks))
                    .map(|set| of_products(shape.count, &set))
                    .sum();
                digits + shape.count.div_ceil(64) + combined
            });
            let keyed = if shape.keys().is_some() { shape.count } else { 0 };
            let selected = match (shape.select, shape.keys()) {
                (false, _) => 0,
                (true, None) => 3 * shape.count,
                (true, Some(_)) => 2 * shape.count,
            };
            lifted + selected + compared + keyed
        }
    }
}

fn masked(desk: &mut Desk, shape: MaskedShape) {
    let ring = u64::MAX >> (64 - shape.ring_bits);
    let mut mask = Zeroizing::new(desk.free_sum(shape.count));
    mask.iter_mut().for_each(|value| *value &= ring);
    let high = Zeroizing::new(mask.iter().map(|value| value >> shape.shift).collect::<Vec<u64>>());
    let wrap = Zeroizing::new(mask.iter().map(|value| value >> (shape.ring_bits - 1)).collect::<Vec<u64>>());
    if shape.lift {
        desk.settle_sum(&high);
        desk.settle_sum(&wrap);
    }
    if let Some(comparison) = shape.digits() {
        for block in 0..comparison.blocks {
            desk.settle_xor(&thermometers(&high, comparison, block));
        }
        let top = high.iter().map(|value| value >> comparison.width & 1);
        desk.settle_xor(&pack(top, shape.count));
        for sizes in comparison.groups() {
            for (group, blocks) in sizes.iter().enumerate() {
                if let Some(set) = CompareShape::product(group, *blocks) {
                    products(desk, shape.count, &set);
                }
            }
        }
    }
    if let Some(keys) = shape.keys() {
        keyed(desk, keys, &high);
    } else if shape.select {
        let bit = bits(desk, shape.count);
        let times = |values: &[u64]| -> Zeroizing<Vec<u64>> {
            Zeroizing::new(values.iter().zip(bit.iter()).map(|(value, bit)| value * bit).collect())
        };
        desk.settle_sum(&times(&high));
        desk.settle_sum(&times(&wrap));
    }
}

/// Keys at the compared bits of `high`; see [`crate::stock::Keyed`] for what is shared.
fn keyed(desk: &mut Desk, shape: KeyShape, high: &[u64]) {
    let rows = |of: fn(u64, u64) -> u64| -> Zeroizing<Vec<u64>> {
        let bits = |high: &u64| (high & ((1 << shape.width) - 1), high >> shape.width & 1);
        Zeroizing::new(high.iter().map(bits).map(|(low, top)| of(low, top)).collect())
    };
    let (low, top) = (rows(|low, _| low), rows(|_, top| top));
    desk.settle_sum(&top);
    if shape.words > 1 {
        desk.settle_sum(&low);
        desk.settle_sum(&rows(|low, top| low * top));
    }
    let [zero, one] = desk.free(shape.root_words());
    let hash = desk.free_xor(HASH_KEY_WORDS).first_chunk().copied().unwrap_or_default();
    let payload = [
        rows(|_, top| 1u64.wrapping_sub(2 * top)),
        rows(|low, top| low.wrapping_mul(1u64.wrapping_sub(2 * top))),
        rows(|_, top| top.wrapping_neg()),
    ];
    let payload: [&[u64]; 3] = payload.each_ref().map(|row| &***row);
    desk.publish(&hash);
    desk.publish(&correct(shape, hash, [&zero, &one], &low, &payload));
}

/// Entry `c` of a value's thermometer is 1 if `c` is less than the value's digit.
fn thermometers(values: &[u64], comparison: CompareShape, block: u32) -> Zeroizing<Vec<u64>> {
    let bits = comparison.block_bits;
    let entries = 1usize << bits;
    let low = block * bits;
    let digit_bits = bits.min(comparison.width - low);
    let mut words = Zeroizing::new(vec![0u64; (values.len() * entries).div_ceil(64)]);
    for (at, value) in values.iter().enumerate() {
        let digit = value >> low & ((1 << digit_bits) - 1);
        let place = at << bits;
        words[place / 64] |= ((1u64 << digit) - 1) << (place % 64);
    }
    words
}

fn products(desk: &mut Desk, count: usize, set: &ProductSet) {
    let words = count.div_ceil(64);
    let masks: Zeroizing<Vec<Vec<u64>>> =
        Zeroizing::new((0..set.inputs()).map(|_| desk.free_xor(words)).collect());
    for monomial in set.monomials() {
        let mut product = Zeroizing::new(vec![u64::MAX; words]);
        for (input, row) in masks.iter().enumerate() {
            if monomial >> input & 1 == 1 {
                product.iter_mut().zip(row).for_each(|(word, mask)| *word &= mask);
            }
        }
        desk.settle_xor(&product);
    }
}

fn bits(desk: &mut Desk, count: usize) -> Zeroizing<Vec<u64>> {
    let packed = Zeroizing::new(desk.free_xor(count.div_ceil(64)));
    let bits = Zeroizing::new((0..count).map(|at| packed[at / 64] >> (at % 64) & 1).collect::<Vec<u64>>());
    desk.settle_sum(&bits);
    bits
}

fn indicator(desk: &mut Desk, shape: IndicatorShape) {
    let masks = Zeroizing::new(desk.free_sum(shape.count));
    let ring = (1u64 << shape.bits) - 1;
    let entry = |mask: u64, at: u64| u64::from(at.wrapping_sub(mask) & ring == shape.target);
    let entries = masks.iter().flat_map(|mask| (0..=ring).map(move |at| entry(*mask, at)));
    if shape.sums {
        desk.settle_sum(&Zeroizing::new(entries.collect::<Vec<u64>>()));
    } else {
        desk.settle_xor(&pack(entries, shape.count << shape.bits));
    }
}

fn pack(bits: impl Iterator<Item = u64>, count: usize) -> Zeroizing<Vec<u64>> {
    let mut words = Zeroizing::new(vec![0u64; count.div_ceil(64)]);
    for (at, bit) in bits.enumerate() {
        words[at / 64] |= bit << (at % 64);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::linear::LinearShape;
    use crate::stock::{Gadget, Provision, StockError, Tape, WeightOpenings};
    use crate::testing::{MaskSeeds, Violation, contract};

    struct Expanded(Vec<Vec<Vec<u64>>>);

    impl WeightMasks for Expanded {
        fn mask(&self, model: usize, layer: usize) -> &[u64] {
            &self.0[model][layer]
        }
    }

    impl WeightOpenings for Expanded {
        fn opening(&self, model: usize, layer: usize) -> Option<&[u64]> {
            self.0.get(model)?.get(layer).map(Vec::as_slice)
        }
    }

    /// The masks behind the seeds of a task's linear layers.
    fn expand(lanes: &[Vec<Demand>], seeds: &MaskSeeds) -> Expanded {
        let mut masks = Vec::new();
        for demand in lanes.iter().flatten() {
            if let Demand::Linear { model, layer, shape, .. } = demand {
                masks.resize(masks.len().max(model + 1), Vec::new());
                let layers: &mut Vec<Vec<u64>> = &mut masks[*model];
                layers.resize(layers.len().max(layer + 1), Vec::new());
                let [zero, one] = seeds.of(*model, *layer);
                layers[*layer] = weight_mask(zero, one, shape.weight_len()).to_vec();
            }
        }
        Expanded(masks)
    }

    /// A dealer whose seeds are known, and whose corrections pass through `tamper` for each bundle.
    fn dealt(mut tamper: impl FnMut(u64, &mut [Vec<u64>; 2])) -> Result<(), Violation> {
        let root = Seed::from_bytes([9; 16]);
        let mut bundle = 0;
        contract(Gadget::Keys, |lanes, seeds| {
            let [zero, one] = ["zero", "one"].map(|name| root.derive(name, bundle));
            let mut sent = corrections(lanes, &zero, &one, &expand(lanes, seeds));
            assert_eq!(sent.each_ref().map(Vec::len), Party::BOTH.map(|party| sent_words(lanes, party)));
            tamper(bundle, &mut sent);
            bundle += 1;
            let [to_zero, to_one] = sent;
            [Tape::new(Party::Zero, &zero, to_zero), Tape::new(Party::One, &one, to_one)]
        })
    }

    #[test]
    fn the_contract_of_sources_holds() {
        assert_eq!(dealt(|_, _| {}), Ok(()));
    }

    #[test]
    fn the_contract_sees_any_wrong_word() {
        let mut lengths = [0; 2];
        dealt(|_, sent| lengths = sent.each_ref().map(Vec::len)).unwrap();
        for (party, length) in lengths.into_iter().enumerate() {
            for at in (0..length).step_by(length / 300).chain([length - 1]) {
                let flipped = dealt(|bundle, sent| {
                    if bundle == 1 {
                        // The low half, since the bits beyond the count of a packed row mean nothing.
                        sent[party][at] ^= 1;
                    }
                });
                assert!(
                    matches!(flipped, Err(Violation::Relation { bundle: 1, .. })),
                    "word {at} of {length} to {party}: {flipped:?}"
                );
            }
        }
    }

    #[test]
    fn the_contract_sees_a_bundle_dealt_twice() {
        let root = Seed::from_bytes([9; 16]);
        let repeated = contract(Gadget::Keys, |lanes, seeds| {
            let [zero, one] = ["zero", "one"].map(|name| root.derive(name, 0));
            let [to_zero, to_one] = corrections(lanes, &zero, &one, &expand(lanes, seeds));
            [Tape::new(Party::Zero, &zero, to_zero), Tape::new(Party::One, &one, to_one)]
        });
        assert!(matches!(repeated, Err(Violation::Repeated { bundle: 1, .. })), "{repeated:?}");
    }

    #[test]
    fn a_tape_for_another_plan_is_refused() {
        let shape = LinearShape::Dense { outputs: 2, inputs: 3, batch: 1 };
        let masks = Expanded(vec![vec![vec![0; 6]]]);
        let [zero, one] = [[1; 16], [2; 16]].map(Seed::from_bytes);
        let linear = Demand::Linear { model: 0, layer: 0, shape, first: false };
        let rectify = |gadget| Demand::Masked(MaskedShape::rectify(70, 20, 8, gadget));
        let by_digits = vec![vec![linear.clone(), rectify(Gadget::Digits)]];
        let by_keys = vec![vec![linear, rectify(Gadget::Keys)]];
        let lay_out = |party, words: Vec<u64>, lanes: &[Vec<Demand>]| {
            let seed = if party == Party::Zero { &zero } else { &one };
            Provision::lay_out(Tape::new(party, seed, words), lanes, &masks).err()
        };
        let refused = |party, words: Vec<u64>, lanes: &[Vec<Demand>]| {
            let held = words.len();
            assert_eq!(lay_out(party, words.clone(), lanes), None);
            let shorter = words[1..].to_vec();
            assert_eq!(lay_out(party, shorter, lanes), Some(StockError::TapeShort { held: held - 1 }));
            assert_eq!(lay_out(party, Vec::new(), lanes), Some(StockError::TapeShort { held: 0 }));
            let longer = [words, vec![0]].concat();
            let long = StockError::TapeLong { used: held, held: held + 1 };
            assert_eq!(lay_out(party, longer, lanes), Some(long));
        };
        let [to_zero, to_one] = corrections(&by_digits, &zero, &one, &masks);
        assert!(to_zero.is_empty(), "digits need no more than Zero's seed");
        refused(Party::One, to_one, &by_digits);
        let [to_zero, to_one] = corrections(&by_keys, &zero, &one, &masks);
        refused(Party::Zero, to_zero, &by_keys);
        refused(Party::One, to_one, &by_keys);
        let lanes = by_digits;
        let seeded = || Tape::new(Party::Zero, &zero, Vec::new());
        let missing = Provision::lay_out(seeded(), &lanes, &Expanded(Vec::new())).err();
        assert_eq!(missing, Some(StockError::Opening { model: 0, layer: 0 }));
        let short = Expanded(vec![vec![vec![0; 5]]]);
        let short = Provision::lay_out(seeded(), &lanes, &short).err();
        assert_eq!(short, Some(StockError::Opening { model: 0, layer: 0 }));
    }
}
