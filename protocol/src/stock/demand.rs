//! What a plan demands of the preprocessing, gate by gate.

use super::compare::CompareShape;
use super::product::ProductSet;
use crate::algebra::linear::LinearShape;
use std::sync::Arc;

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
    /// Whether the sign is wanted.
    pub compare: bool,
    /// Whether value times sign is wanted (needs both).
    pub select: bool,
}

impl MaskedShape {
    /// Only the shifted value.
    pub fn truncate(count: usize, value_bits: u32, shift: u32) -> Self {
        let ring_bits = value_bits + 2;
        Self { count, ring_bits, value_bits, shift, lift: true, compare: false, select: false }
    }

    /// Only the sign, exactly.
    pub fn sign(count: usize, value_bits: u32) -> Self {
        let ring_bits = value_bits + 1;
        Self { count, ring_bits, value_bits, shift: 0, lift: false, compare: true, select: false }
    }

    /// `max(value >> shift, 0)`.
    pub fn rectify(count: usize, value_bits: u32, shift: u32) -> Self {
        let ring_bits = value_bits + 2;
        Self { count, ring_bits, value_bits, shift, lift: true, compare: true, select: true }
    }

    /// The comparison behind the sign.
    pub fn comparison(&self) -> Option<CompareShape> {
        self.compare.then(|| CompareShape::choose(self.value_bits - self.shift))
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
}
