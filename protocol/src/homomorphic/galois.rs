//! Where the slots of a plaintext stand among the values at the roots, and how rotations move them.
//!
//! Value `i` of a transform is the one at the root `r^e` for `e = 2 j + 1`, where `j` has the bits of `i` in reverse after
//! its lowest three and the next three have changed places. The substitution of `X^g` for `X` moves the value at `r^(e g)` to `r^e`. The powers of 3 are half of all odd exponents
//! modulo twice the degree, and their negatives the other half: slot `k` of the first row is at `3^k`, of the second at
//! `-3^k`, so that `g = 3^k` rotates both rows by `k` to the left.

use super::key::Origin;

/// The exponents of a degree.
pub(super) struct Galois {
    degree: usize,
}

/// A permutation of the values at the roots.
pub(super) struct Places(Vec<u32>);

impl Places {
    /// `to[i] = from[places[i]]`.
    pub(super) fn apply(&self, from: &[f64], to: &mut [f64]) {
        for (value, place) in to.iter_mut().zip(&self.0) {
            *value = from[*place as usize];
        }
    }
}

impl Galois {
    /// For a power of two.
    pub(super) fn new(degree: usize) -> Self {
        Self { degree }
    }

    /// Slots of a row.
    fn row(&self) -> usize {
        self.degree / 2
    }

    /// The exponent of a value.
    fn exponent(&self, index: usize) -> usize {
        2 * (turned(index).reverse_bits() >> (usize::BITS - self.degree.ilog2())) + 1
    }

    /// Which value has an exponent below twice the degree.
    fn index(&self, exponent: usize) -> usize {
        turned((exponent / 2).reverse_bits() >> (usize::BITS - self.degree.ilog2()))
    }

    /// `3^step` modulo twice the degree; steps to the right are negative.
    fn element(&self, step: i32) -> usize {
        let step = step.rem_euclid(self.row() as i32);
        (0..step).fold(1, |power, _| power * 3 % (2 * self.degree))
    }

    /// How what a key is for moves values at the roots: powers of the secret not at all.
    pub(super) fn of(&self, origin: Origin) -> Places {
        match origin {
            Origin::Power(_) => self.places(1),
            Origin::Rotated(step) => self.places(self.element(step)),
            Origin::Swapped => self.places(2 * self.degree - 1),
        }
    }

    fn places(&self, element: usize) -> Places {
        let place = |index: usize| self.index(self.exponent(index) * element % (2 * self.degree)) as u32;
        Places((0..self.degree).map(place).collect())
    }

    /// For each slot, the first row before the second, where its value stands.
    pub(super) fn slots(&self) -> Vec<u32> {
        let mut exponent = 1;
        let mut slots = vec![0; self.degree];
        for slot in 0..self.row() {
            slots[slot] = self.index(exponent) as u32;
            slots[self.row() + slot] = self.index(2 * self.degree - exponent) as u32;
            exponent = exponent * 3 % (2 * self.degree);
        }
        slots
    }
}

/// An index with its lowest three bits and the next three exchanged.
fn turned(index: usize) -> usize {
    index & !63 | (index & 7) << 3 | index >> 3 & 7
}
