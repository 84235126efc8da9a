//! Additive shares over Z_2^64. XOR shares are [`crate::algebra::bits::Packed`].

use crate::algebra::prg::{Prg, Seed};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One party's additive share of a vector: the two shares add up to it modulo 2^64.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Additive(Vec<u64>);

impl std::fmt::Debug for Additive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Additive({})", self.0.len())
    }
}

impl From<Vec<u64>> for Additive {
    fn from(words: Vec<u64>) -> Self {
        Self(words)
    }
}

impl std::ops::Deref for Additive {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl std::ops::DerefMut for Additive {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

impl Additive {
    /// A share of zeros that is zero itself.
    pub fn zeros(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// The share that a seed stands for.
    pub fn expand(seed: &Seed, length: usize) -> Self {
        Self(Prg::new(seed).words(length))
    }

    /// Splits `values` so that party Zero's share is [`Additive::expand`] of `seed`; returns party
    /// One's share. The seed must be fresh.
    pub fn complement(values: &[u64], seed: &Seed) -> Self {
        let mut share = Self::expand(seed, values.len());
        for (mask, value) in share.0.iter_mut().zip(values) {
            *mask = value.wrapping_sub(*mask);
        }
        share
    }

    /// Adds another vector of the same length, entry by entry.
    pub fn add(&mut self, other: &[u64]) {
        assert_eq!(self.0.len(), other.len(), "shares of one length");
        for (sum, term) in self.0.iter_mut().zip(other) {
            *sum = sum.wrapping_add(*term);
        }
    }

    /// The words, for arithmetic that consumes them.
    pub fn into_words(mut self) -> Vec<u64> {
        std::mem::take(&mut self.0)
    }
}

/// The vector behind both shares. Only the receiver of a result calls this.
pub fn reconstruct(zero: &[u64], one: &[u64]) -> Vec<u64> {
    assert_eq!(zero.len(), one.len(), "shares of one length");
    zero.iter().zip(one).map(|(a, b)| a.wrapping_add(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complement_and_expansion_reconstruct() {
        let seed = Seed::random().unwrap();
        let values = [0, 1, u64::MAX, 1 << 63];
        let one = Additive::complement(&values, &seed);
        assert_eq!(reconstruct(&Additive::expand(&seed, 4), &one), values);
    }

    #[test]
    fn debug_hides_content() {
        assert_eq!(format!("{:?}", Additive::from(vec![41, 42])), "Additive(2)");
    }
}
