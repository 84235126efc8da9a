//! A bundle laid out entry by entry, ready for the online phase.

use super::demand::{Demand, IndicatorShape, MaskedShape};
use super::key::{HASH_KEY_WORDS, Key, KeyShape};
use super::product::ProductSet;
use super::tape::Tape;
use crate::share::Additive;
use std::collections::VecDeque;
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a bundle does not serve the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// A tape ended early: it was made for another plan.
    #[error("a bundle of {held} words is too short for the plan; it was made for another one")]
    TapeShort {
        /// Words held.
        held: usize,
    },
    /// A tape has words left: it was made for another plan.
    #[error("a bundle has {held} words, the plan uses {used}; it was made for another one")]
    TapeLong {
        /// Words that the plan uses.
        used: usize,
        /// Words held.
        held: usize,
    },
    /// A gate asked for another entry than the plan foresaw.
    #[error("a gate wanted {wanted}, the next entry is {found}")]
    Order {
        /// What the gate wanted.
        wanted: &'static str,
        /// What came next.
        found: &'static str,
    },
    /// A gate asked for another number of words than the entry has.
    #[error("a gate wanted {wanted} words of {what}, the next entry has {found}")]
    Count {
        /// What the gate wanted.
        what: &'static str,
        /// Words wanted.
        wanted: usize,
        /// Words found.
        found: usize,
    },
    /// The opened weights of a layer are missing or of the wrong length.
    #[error("the opened weights of model {model}, layer {layer} are missing or have the wrong length")]
    Opening {
        /// Position of the model in the task.
        model: usize,
        /// Position of the weights in the model.
        layer: usize,
    },
}

/// The opened masked weights of all models, by model and layer.
pub trait WeightOpenings {
    /// `W - A` of one layer, row-major.
    fn opening(&self, model: usize, layer: usize) -> Option<&[u64]>;
}

/// Share of the mask of a task's input.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct MaskedInput {
    /// One word per value.
    pub mask: Additive,
}

/// What a product with fixed weights consumes.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct Linear {
    /// Share of the operand's mask; empty where the operand is under the input mask.
    pub mask: Additive,
    /// Share of weights times mask.
    pub product: Additive,
}

/// Shares of `b` and `b^2` for random `b`.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct SquarePair {
    /// Share of `b`.
    pub mask: Additive,
    /// Share of `b^2`.
    pub square: Additive,
}

/// Shares of `b` and of the sum of squares of each query's part of it, for random `b`.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct NormPair {
    /// Share of `b`, `[value][query]`.
    pub mask: Additive,
    /// Share of the sums.
    pub norm: Additive,
}

/// Masks of bits and shares of their monomials, a row of words each.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Products {
    /// The products.
    #[zeroize(skip)]
    pub set: Arc<ProductSet>,
    /// One row per input.
    pub masks: Vec<Vec<u64>>,
    /// One row per monomial.
    pub monomials: Vec<Vec<u64>>,
}

impl std::fmt::Debug for Products {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Products({} inputs)", self.masks.len())
    }
}

/// Random bits, shared both ways.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct BitMask {
    /// XOR shares, packed.
    pub xor: Vec<u64>,
    /// Additive shares.
    pub sum: Additive,
}

impl std::fmt::Debug for BitMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BitMask({})", self.sum.len())
    }
}

/// What turning a sign and an opening into `value * sign` consumes.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct Selection {
    /// Random bit `b`.
    pub bit: BitMask,
    /// Share of `b * (r >> shift)`.
    pub high: Additive,
    /// Share of `b * msb(r)`.
    pub wrap: Additive,
}

/// What reading a sign, and a value times it, off an opening consumes.
///
/// With `a` the compared bits of `r >> shift` and `b` the bit above them, the keys' threshold is `a`;
/// their payload is `1 - 2b`, and where values are selected also `a (1 - 2b)` and `-b`.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct Keyed {
    /// Share of `b`.
    pub top: Additive,
    /// Share of `a`, if selected.
    pub low: Additive,
    /// Share of `a b`, if selected.
    pub product: Additive,
    /// The keys.
    pub key: Key,
}

/// Masks `r` with shared bits.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Masked {
    /// What it serves.
    #[zeroize(skip)]
    pub shape: MaskedShape,
    /// Share of `r` modulo `2^ring_bits`; the bits above are uniform.
    pub mask: Additive,
    /// Share of `r >> shift`, if lifted.
    pub high: Additive,
    /// Share of the top bit of `r`, if lifted.
    pub wrap: Additive,
    /// XOR shares of the thermometers of `r >> shift`, digit by digit, least significant first; each
    /// digit's entries of all values stand together.
    pub thermometers: Vec<Vec<u64>>,
    /// XOR shares of the bit of `r >> shift` just above the compared ones, packed.
    pub top: Vec<u64>,
    /// Products of each combining round and group.
    pub combine: Vec<Vec<Option<Products>>>,
    /// If selected by digits.
    pub selection: Option<Selection>,
    /// If compared by keys.
    pub keyed: Option<Keyed>,
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masked({:?})", self.shape)
    }
}

/// Masks of small numbers and tables of where they hit.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Indicator {
    /// What it serves.
    #[zeroize(skip)]
    pub shape: IndicatorShape,
    /// Share of the mask `m` modulo `2^bits`; the bits above are uniform.
    pub mask: Additive,
    /// Share of the tables of all numbers, one after the other: entry `c` says whether `c - m` is the
    /// target.
    pub table: Vec<u64>,
}

impl std::fmt::Debug for Indicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Indicator({:?})", self.shape)
    }
}

enum Entry {
    Input(MaskedInput),
    Linear(Linear),
    Masked(Box<Masked>),
    Square(SquarePair),
    Norm(NormPair),
    Products(Products),
    Bits(BitMask),
    Indicator(Indicator),
}

impl Entry {
    fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "an input mask",
            Self::Linear(_) => "a matrix triple",
            Self::Masked(_) => "masks with shared bits",
            Self::Square(_) => "a square pair",
            Self::Norm(_) => "a norm pair",
            Self::Products(_) => "bit products",
            Self::Bits(_) => "bit masks",
            Self::Indicator(_) => "an indicator",
        }
    }

    /// Values served; words of a row for bit products, results for a matrix triple.
    fn count(&self) -> usize {
        match self {
            Self::Input(entry) => entry.mask.len(),
            Self::Linear(entry) => entry.product.len(),
            Self::Masked(entry) => entry.shape.count,
            Self::Square(entry) => entry.mask.len(),
            Self::Norm(entry) => entry.mask.len(),
            Self::Products(entry) => entry.masks.first().map_or(0, Vec::len),
            Self::Bits(entry) => entry.sum.len(),
            Self::Indicator(entry) => entry.shape.count,
        }
    }
}

/// Entries of one lane in the order of the plan. Each can be taken once.
#[derive(Default)]
pub struct Provision {
    entries: VecDeque<Entry>,
}

impl std::fmt::Debug for Provision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provision({} entries)", self.entries.len())
    }
}

macro_rules! taking {
    ($name:ident, $variant:ident, $result:ty, $wanted:literal, $unit:literal) => {
        #[doc = concat!("Takes the next entry, which must be ", $wanted, " for `count` ", $unit, ".")]
        ///
        /// # Errors
        /// [`StockError::Order`] or [`StockError::Count`] if the plan foresaw something else here.
        pub fn $name(&mut self, count: usize) -> Result<$result, StockError> {
            match self.entries.pop_front() {
                Some(entry) if entry.name() == $wanted && entry.count() != count => {
                    Err(StockError::Count { what: $wanted, wanted: count, found: entry.count() })
                }
                Some(Entry::$variant(entry)) => Ok(entry),
                Some(other) => Err(StockError::Order { wanted: $wanted, found: other.name() }),
                None => Err(StockError::Order { wanted: $wanted, found: "nothing" }),
            }
        }
    };
}

impl Provision {
    taking!(input_mask, Input, MaskedInput, "an input mask", "values");
    taking!(linear, Linear, Linear, "a matrix triple", "results");
    taking!(masked, Masked, Box<Masked>, "masks with shared bits", "values");
    taking!(square, Square, SquarePair, "a square pair", "values");
    taking!(norm, Norm, NormPair, "a norm pair", "values");
    taking!(products, Products, Products, "bit products", "words of a row");
    taking!(bits, Bits, BitMask, "bit masks", "bits");
    taking!(indicator, Indicator, Indicator, "an indicator", "numbers");

    /// Entries left.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all entries are taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lays out a tape, lane by lane. Heavy: multiplies the opened weights with the masks.
    ///
    /// # Errors
    /// The tape was made for another plan, or an opening is missing.
    pub fn lay_out(
        mut tape: Tape,
        lanes: &[Vec<Demand>],
        openings: &impl WeightOpenings,
    ) -> Result<Vec<Self>, StockError> {
        let mut input = Additive::default();
        let mut provisions = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let mut entries = VecDeque::with_capacity(lane.len());
            for demand in lane {
                entries.push_back(match demand {
                    Demand::InputMask { count } => {
                        input = tape.free(*count).into();
                        Entry::Input(MaskedInput { mask: input.clone() })
                    }
                    Demand::Linear { .. } => Entry::Linear(linear(&mut tape, demand, &input, openings)?),
                    Demand::Masked(shape) => Entry::Masked(Box::new(masked(&mut tape, *shape)?)),
                    Demand::Square { count } => {
                        let mask = tape.free(*count).into();
                        Entry::Square(SquarePair { mask, square: tape.dependent(*count)?.into() })
                    }
                    Demand::Norm { values, batch, first } => {
                        let mask = if *first { input.clone() } else { tape.free(values * batch).into() };
                        Entry::Norm(NormPair { mask, norm: tape.dependent(*batch)?.into() })
                    }
                    Demand::Products { count, set } => Entry::Products(products(&mut tape, *count, set)?),
                    Demand::BitMask { count } => Entry::Bits(bits(&mut tape, *count)?),
                    Demand::Indicator(shape) => {
                        let mask = tape.free(shape.count).into();
                        let table = tape.dependent(shape.table_words())?;
                        Entry::Indicator(Indicator { shape: *shape, mask, table })
                    }
                });
            }
            provisions.push(Self { entries });
        }
        tape.finish()?;
        Ok(provisions)
    }
}

fn linear(
    tape: &mut Tape,
    demand: &Demand,
    input: &Additive,
    openings: &impl WeightOpenings,
) -> Result<Linear, StockError> {
    let Demand::Linear { model, layer, shape, first } = demand else {
        return Err(StockError::Order { wanted: "a matrix triple", found: "another demand" });
    };
    let weights = openings
        .opening(*model, *layer)
        .filter(|weights| weights.len() == shape.weight_len())
        .ok_or(StockError::Opening { model: *model, layer: *layer })?;
    let mask: Additive = if *first { Additive::default() } else { tape.free(shape.input_len()).into() };
    let operand = if *first { input } else { &mask };
    let mut product = tape.dependent(shape.output_len())?;
    shape.multiply_add(&mut product, weights, operand);
    Ok(Linear { mask, product: product.into() })
}

fn masked(tape: &mut Tape, shape: MaskedShape) -> Result<Masked, StockError> {
    let count = shape.count;
    let mask = tape.free(count).into();
    let lifted = if shape.lift { count } else { 0 };
    let high = tape.dependent(lifted)?.into();
    let wrap = tape.dependent(lifted)?.into();
    let (mut thermometers, mut top, mut combine) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(comparison) = shape.digits() {
        let words = (count << comparison.block_bits).div_ceil(64);
        for _ in 0..comparison.blocks {
            thermometers.push(tape.dependent(words)?);
        }
        top = tape.dependent(count.div_ceil(64))?;
        for sizes in comparison.groups() {
            let mut groups = Vec::with_capacity(sizes.len());
            for (group, blocks) in sizes.iter().enumerate() {
                let set = super::CompareShape::product(group, *blocks);
                groups.push(set.map(|set| products(tape, count, &set)).transpose()?);
            }
            combine.push(groups);
        }
    }
    let keyed = shape.keys().map(|keys| self::keyed(tape, keys, shape.select)).transpose()?;
    let selection = if shape.select && keyed.is_none() {
        let bit = bits(tape, count)?;
        Some(Selection { bit, high: tape.dependent(count)?.into(), wrap: tape.dependent(count)?.into() })
    } else {
        None
    };
    Ok(Masked { shape, mask, high, wrap, thermometers, top, combine, selection, keyed })
}

fn keyed(tape: &mut Tape, shape: KeyShape, select: bool) -> Result<Keyed, StockError> {
    let selected = if select { shape.count } else { 0 };
    let top = tape.dependent(shape.count)?.into();
    let low = tape.dependent(selected)?.into();
    let product = tape.dependent(selected)?.into();
    let roots = tape.free(shape.root_words());
    // The key of the hash is made of what follows in both parties' free words.
    tape.free(HASH_KEY_WORDS);
    let words = tape.common(HASH_KEY_WORDS)?;
    let hash = words.first_chunk().copied().unwrap_or_default();
    let corrections = tape.common(shape.correction_words())?;
    Ok(Keyed { top, low, product, key: Key { shape, hash, roots, corrections } })
}

fn products(tape: &mut Tape, count: usize, set: &Arc<ProductSet>) -> Result<Products, StockError> {
    let words = count.div_ceil(64);
    let masks = (0..set.inputs()).map(|_| tape.free(words)).collect();
    let monomials = set.monomials().iter().map(|_| tape.dependent(words)).collect::<Result<_, _>>()?;
    Ok(Products { set: set.clone(), masks, monomials })
}

fn bits(tape: &mut Tape, count: usize) -> Result<BitMask, StockError> {
    let xor = tape.free(count.div_ceil(64));
    Ok(BitMask { xor, sum: tape.dependent(count)?.into() })
}
