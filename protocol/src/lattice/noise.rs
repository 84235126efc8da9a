//! How much noise a product makes, and for how many products the flood hides it.
//!
//! The derivation is in [`crate::manual::lattice`].

use super::packing::Packing;
use super::prime::DEGREE;
use super::sample::{FLOOD_BITS, NOISE_MAX};

/// Statistical security: everything the evaluator's tensor leaves in the noise of its whole life is hidden
/// up to a distance of 2^-40.
pub const STATISTICAL_BITS: u32 = 40;

impl Packing {
    /// Largest noise of a coefficient before it is flooded.
    pub fn noise_max(&self) -> u128 {
        // Half a unit of rounding on each message, on top of the noise: in half units. A word of the
        // evaluator is at most 2^63 in magnitude.
        let half_units = u128::from(2 * NOISE_MAX + 1);
        let product = (self.noise_terms() as u128 * half_units) << 62;
        let fresh = u128::from(NOISE_MAX) * (2 * DEGREE as u128 + 1);
        product + fresh + 1
    }

    /// How many products one tensor of the evaluator may take part in: the flood is uniform over
    /// `2^(FLOOD_BITS + 1)` numbers, so each coefficient that is returned costs a distance of
    /// [`Self::noise_max`] over that, and all of them together [`STATISTICAL_BITS`]. The tensor must be
    /// replaced after so many.
    pub fn products_max(&self) -> u64 {
        let coefficients = (1_u128 << (FLOOD_BITS + 1 - STATISTICAL_BITS)) / self.noise_max();
        let products = coefficients / self.output_len().max(1) as u128;
        u64::try_from(products).unwrap_or(u64::MAX)
    }
}
