//! Further pairs of a task, and what each may spend.
//!
//! Every pair keeps two ledgers of its own and none talks to another, so a budget that several pairs serve is cut
//! into slices beforehand, in exact parts that sum to one. A slice is a part of the amount that an account may
//! spend, which is rho of zero-concentrated differential privacy for Gaussian noise and epsilon for Laplace noise.
//! Losses in either unit add up, whoever caused them and in whatever order: while each pair stays within its
//! slice, all pairs together stay within the whole amount, and the task's epsilon and delta hold for all of them.
//!
//! The epsilons of Gaussian slices do not add up to the task's, since epsilon grows with the root of rho. Slices
//! of epsilon and delta themselves would be sound too, by basic composition, but waste: two pairs with an epsilon
//! of 4 each pay for about half of the answers for which one epsilon of 8 pays, two halves of its rho for all.

use crate::{digest::Hasher, fraction::Fraction, name::Name};
use serde::Serialize;

/// A pair that is asked when those before it cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standby {
    /// The pair.
    pub pair: Name,
    /// The part of every owner's and client's budget that it may spend; `None` where the release has no budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<Fraction>,
}

impl Standby {
    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.text(self.pair.as_str());
        hasher.list(self.slice.as_slice(), |hasher, slice| {
            hasher.number(slice.numerator());
            hasher.number(slice.denominator());
        });
    }
}

/// What the others leave to the first pair; `None` where there are none, and where they leave less than nothing.
pub(super) fn first_slice(others: impl Iterator<Item = Fraction>) -> Option<Fraction> {
    others.map(Some).reduce(|sum, slice| sum?.plus(slice?))??.rest_of_one()
}
