//! A third peer deals a bundle: a seed to party Zero, a seed and corrections to party One.
//!
//! - Computes: for every [`Demand`] of the plan shares of fresh correlated randomness.
//! - Learns: the dealer learns the plan and all correlations, never an input, a weight or a result;
//!   each party learns its own shares. Trusted not to collude with either party.
//! - Consumes: nothing.
//! - Costs: no round between the parties; 16 bytes to Zero, 16 bytes and 8 bytes per dependent word
//!   to One ([`dependent_words`]).
//! - Source: Beaver 1995 (commodity-based cryptography) with pseudorandom correlations expanded from
//!   seeds; thermometer-coded masks are one-time truth tables (Ishai et al., TCC 2013) of one digit.

use crate::algebra::prg::{Prg, Seed};
use crate::stock::{CompareShape, Demand, Desk, MaskedShape, ProductSet};
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

/// Party One's dependent words for one bundle, given both parties' seeds for it.
///
/// The seeds must be fresh for this bundle.
pub fn corrections(lanes: &[Vec<Demand>], zero: &Seed, one: &Seed, masks: &impl WeightMasks) -> Vec<u64> {
    let mut desk = Desk::new(zero, one, dependent_words(lanes));
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
            Demand::Products { count, set } => products(&mut desk, *count, set),
            Demand::BitMask { count } => {
                bits(&mut desk, *count);
            }
        }
    }
    desk.corrections()
}

/// Dependent words of a plan's bundle.
pub fn dependent_words(lanes: &[Vec<Demand>]) -> usize {
    let of_products = |count: usize, set: &ProductSet| set.monomials().len() * count.div_ceil(64);
    let words = |demand: &Demand| match demand {
        Demand::InputMask { .. } => 0,
        Demand::Linear { shape, .. } => shape.output_len(),
        Demand::Square { count } | Demand::BitMask { count } => *count,
        Demand::Products { count, set } => of_products(*count, set),
        Demand::Masked(shape) => {
            let lifted = if shape.lift { 2 * shape.count } else { 0 };
            let selected = if shape.select { 3 * shape.count } else { 0 };
            let compared = shape.comparison().map_or(0, |comparison| {
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
            lifted + selected + compared
        }
    };
    lanes.iter().flatten().map(words).sum()
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
    if let Some(comparison) = shape.comparison() {
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
    if shape.select {
        let bit = bits(desk, shape.count);
        let times = |values: &[u64]| -> Zeroizing<Vec<u64>> {
            Zeroizing::new(values.iter().zip(bit.iter()).map(|(value, bit)| value * bit).collect())
        };
        desk.settle_sum(&times(&high));
        desk.settle_sum(&times(&wrap));
    }
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
    use crate::stock::{Provision, StockError, Tape, WeightOpenings};
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
    fn dealt(mut tamper: impl FnMut(u64, &mut Vec<u64>)) -> Result<(), Violation> {
        let root = Seed::from_bytes([9; 16]);
        let mut bundle = 0;
        contract(|lanes, seeds| {
            let [zero, one] = ["zero", "one"].map(|name| root.derive(name, bundle));
            let mut corrections = corrections(lanes, &zero, &one, &expand(lanes, seeds));
            assert_eq!(corrections.len(), dependent_words(lanes));
            tamper(bundle, &mut corrections);
            bundle += 1;
            [Tape::seeded(&zero), Tape::stored(&one, corrections)]
        })
    }

    #[test]
    fn the_contract_of_sources_holds() {
        assert_eq!(dealt(|_, _| {}), Ok(()));
    }

    #[test]
    fn the_contract_sees_any_wrong_word() {
        let mut length = 0;
        dealt(|_, corrections| length = corrections.len()).unwrap();
        for at in (0..length).step_by(97).chain([length - 1]) {
            let flipped = dealt(|bundle, corrections| {
                if bundle == 1 {
                    // The low half, since the bits beyond the count of a packed row mean nothing.
                    corrections[at] ^= 1;
                }
            });
            assert!(
                matches!(flipped, Err(Violation::Relation { bundle: 1, .. })),
                "word {at} of {length}: {flipped:?}"
            );
        }
    }

    #[test]
    fn the_contract_sees_a_bundle_dealt_twice() {
        let root = Seed::from_bytes([9; 16]);
        let repeated = contract(|lanes, seeds| {
            let [zero, one] = ["zero", "one"].map(|name| root.derive(name, 0));
            let corrections = corrections(lanes, &zero, &one, &expand(lanes, seeds));
            [Tape::seeded(&zero), Tape::stored(&one, corrections)]
        });
        assert!(matches!(repeated, Err(Violation::Repeated { bundle: 1, .. })), "{repeated:?}");
    }

    #[test]
    fn a_tape_for_another_plan_is_refused() {
        let shape = LinearShape::Dense { outputs: 2, inputs: 3, batch: 1 };
        let lanes = vec![vec![
            Demand::Linear { model: 0, layer: 0, shape, first: false },
            Demand::Masked(MaskedShape::rectify(70, 20, 8)),
        ]];
        let masks = Expanded(vec![vec![vec![0; 6]]]);
        let [zero, one] = [[1; 16], [2; 16]].map(Seed::from_bytes);
        let words = corrections(&lanes, &zero, &one, &masks);
        let held = words.len();
        let lay_out = |words: Vec<u64>| Provision::lay_out(Tape::stored(&one, words), &lanes, &masks).err();
        assert_eq!(lay_out(words.clone()), None);
        assert_eq!(lay_out(words[1..].to_vec()), Some(StockError::TapeShort { held: held - 1 }));
        assert_eq!(lay_out(Vec::new()), Some(StockError::TapeShort { held: 0 }));
        let longer = [words.clone(), vec![0]].concat();
        assert_eq!(lay_out(longer), Some(StockError::TapeLong { used: held, held: held + 1 }));
        let missing = Provision::lay_out(Tape::seeded(&zero), &lanes, &Expanded(Vec::new())).err();
        assert_eq!(missing, Some(StockError::Opening { model: 0, layer: 0 }));
        let short = Expanded(vec![vec![vec![0; 5]]]);
        let short = Provision::lay_out(Tape::seeded(&zero), &lanes, &short).err();
        assert_eq!(short, Some(StockError::Opening { model: 0, layer: 0 }));
    }
}
