//! What a plan demands of the preprocessing, gate by gate.

use super::compare::{CompareShape, FAN_MAX, SMALL_FAN_MAX};
use super::key::KeyShape;
use super::product::ProductSet;
use crate::algebra::linear::LinearShape;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How shared values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gadget {
    /// By shared tables of digits: small stock that any source can make, one round or two more.
    #[default]
    Digits,
    /// The same with smaller digits, combined in one round more: a third of the work for two parties that
    /// make their stock themselves.
    Nibbles,
    /// By comparison keys: no further round, stock of a kilobyte and more per value, from a dealer only.
    Keys,
}

impl Gadget {
    /// Most digits, or bits of a conjunction, that one round combines; none where keys compare.
    pub fn fan(self) -> Option<u32> {
        match self {
            Self::Digits => Some(FAN_MAX),
            Self::Nibbles => Some(SMALL_FAN_MAX),
            Self::Keys => None,
        }
    }
}

/// Masks with shared bits for `count` values.
///
/// The masked value is opened modulo `2^ring_bits`. From the one opening follow, as asked: the
/// value shifted right by `shift` bits (`lift`), its sign (`compare`), and the product of both
/// (`select`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedShape {
    /// Values.
    pub count: usize,
    /// Bits of the opened ring, at most 64.
    pub ring_bits: u32,
    /// The values are below `2^(value_bits)` in magnitude.
    pub value_bits: u32,
    /// Low bits dropped.
    pub shift: u32,
    /// Whether the shifted value is wanted as an additive share.
    pub lift: bool,
    /// Whether the sign is wanted, and by which means.
    pub compare: Option<Gadget>,
    /// Whether value times sign is wanted.
    pub select: bool,
}

impl MaskedShape {
    /// Only the shifted value.
    pub fn truncate(count: usize, value_bits: u32, shift: u32) -> Self {
        let ring_bits = value_bits + 2;
        Self { count, ring_bits, value_bits, shift, lift: true, compare: None, select: false }
    }

    /// Only the sign, exactly.
    pub fn sign(count: usize, value_bits: u32, gadget: Gadget) -> Self {
        let (ring_bits, compare) = (value_bits + 1, Some(gadget));
        Self { count, ring_bits, value_bits, shift: 0, lift: false, compare, select: false }
    }

    /// `max(value >> shift, 0)`.
    pub fn rectify(count: usize, value_bits: u32, shift: u32, gadget: Gadget) -> Self {
        // Digits give the shifted value and the sign, each by itself; keys give the product alone,
        // which needs no bit above the sign.
        let (lift, above) = match gadget {
            Gadget::Digits | Gadget::Nibbles => (true, 2),
            Gadget::Keys => (false, 1),
        };
        let ring_bits = value_bits + above;
        Self { count, ring_bits, value_bits, shift, lift, compare: Some(gadget), select: true }
    }

    /// Bits that the comparison behind the sign compares.
    pub fn width(&self) -> u32 {
        self.value_bits - self.shift
    }

    /// The comparison by digits behind the sign.
    pub fn digits(&self) -> Option<CompareShape> {
        let fan = self.compare.and_then(Gadget::fan)?;
        Some(CompareShape::choose(self.width(), fan))
    }

    /// The comparison keys behind the sign.
    pub fn keys(&self) -> Option<KeyShape> {
        let words = if self.select { 3 } else { 1 };
        let shape = KeyShape { count: self.count, width: self.width(), words };
        (self.compare == Some(Gadget::Keys)).then_some(shape)
    }
}

/// Shared tables that say whether a small number is `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndicatorShape {
    /// Numbers.
    pub count: usize,
    /// They are opened modulo `2^bits`, at most 7.
    pub bits: u32,
    /// The number looked for, below `2^bits`.
    pub target: u64,
    /// Whether the tables are shared additively, a word an entry, or by XOR, a bit an entry.
    pub sums: bool,
}

impl IndicatorShape {
    /// Words of all tables.
    pub fn table_words(&self) -> usize {
        let entries = self.count << self.bits;
        if self.sums { entries } else { entries.div_ceil(64) }
    }
}

/// One entry of a bundle, in the order in which the plan uses them.
#[derive(Clone, Debug)]
pub enum Demand {
    /// The mask of the task's input, shared by the first layers of all models.
    InputMask {
        /// Values, batch included.
        count: usize,
    },
    /// A product with fixed weights.
    Linear {
        /// Position of the model in the task.
        model: usize,
        /// Position of the weights in the model.
        layer: usize,
        /// Shapes of weights, operand and result.
        shape: LinearShape,
        /// Whether the operand is the task's input, under the input mask.
        first: bool,
    },
    /// Masks with shared bits.
    Masked(MaskedShape),
    /// Squares of `count` values.
    Square {
        /// Values.
        count: usize,
    },
    /// Sums of squares.
    Norm {
        /// Values of which each sum has one.
        values: usize,
        /// Sums side by side.
        batch: usize,
        /// Whether the operand is the task's input, under the input mask.
        first: bool,
    },
    /// Products of masked bits at `count` positions.
    Products {
        /// Positions.
        count: usize,
        /// The products.
        set: Arc<ProductSet>,
    },
    /// Random bits with XOR and additive shares.
    BitMask {
        /// Bits.
        count: usize,
    },
    /// Tables that say whether a small number is a certain one.
    Indicator(IndicatorShape),
}
