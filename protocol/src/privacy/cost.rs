//! Privacy loss in integers that only ever round against the spender.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One rho or one epsilon in the units of a [`Cost`]: 2^40.
pub const COST_ONE: u64 = 1 << 40;

/// What the numbers of a ledger measure. Losses of different units are never added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Rho of zero-concentrated differential privacy.
    Zcdp,
    /// Epsilon of pure differential privacy.
    Pure,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zcdp => "zCDP",
            Self::Pure => "pure epsilon",
        })
    }
}

/// Why two losses cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// Rho and epsilon do not add up; a ledger keeps one unit for its life.
    #[error("a loss in {found} cannot be counted in a ledger of {expected}; use a mechanism of that unit")]
    Units {
        /// Unit of the left-hand side.
        expected: Unit,
        /// Unit of the right-hand side.
        found: Unit,
    },
    /// The sum leaves 64 bits: more than 16 million rho or epsilon.
    #[error("the sum of {unit} losses passes 2^64 units; no budget is that large")]
    Overflow {
        /// Unit of the sum.
        unit: Unit,
    },
}

/// A privacy loss, spent or allowed, as an integer count of 2^-40 rho or epsilon.
///
/// Losses of adaptively chosen releases simply add up in either unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    unit: Unit,
    amount: u64,
}

impl Cost {
    /// A loss of `amount` times 2^-40.
    pub const fn new(unit: Unit, amount: u64) -> Self {
        Self { unit, amount }
    }

    /// What the amount measures.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The loss in units of 2^-40.
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// The loss of both.
    ///
    /// # Errors
    /// [`CostError::Units`] if they differ in unit, [`CostError::Overflow`] beyond 64 bits.
    pub fn plus(self, other: Self) -> Result<Self, CostError> {
        self.same_unit(other)?;
        let sum = self.amount.checked_add(other.amount);
        sum.map(|amount| Self { amount, ..self }).ok_or(CostError::Overflow { unit: self.unit })
    }

    /// The loss of `count` such releases.
    ///
    /// # Errors
    /// [`CostError::Overflow`] beyond 64 bits.
    pub fn times(self, count: u64) -> Result<Self, CostError> {
        let product = self.amount.checked_mul(count);
        product.map(|amount| Self { amount, ..self }).ok_or(CostError::Overflow { unit: self.unit })
    }

    /// The loss of somebody whose data moves `votes` votes: votes² times rho, votes times epsilon.
    ///
    /// # Errors
    /// [`CostError::Overflow`] beyond 64 bits.
    pub fn of_group(self, votes: u32) -> Result<Self, CostError> {
        let votes = u64::from(votes);
        match self.unit {
            Unit::Zcdp => self.times(votes * votes),
            Unit::Pure => self.times(votes),
        }
    }

    /// The same loss counted in rho: a pure loss of epsilon is one of `epsilon² / 2`, rounded up.
    ///
    /// # Errors
    /// [`CostError::Overflow`] beyond 64 bits.
    pub fn in_zcdp(self) -> Result<Self, CostError> {
        let amount = match self.unit {
            Unit::Zcdp => return Ok(self),
            // Both sides in units of 2^-40: the square is in units of 2^-80, and its half in 2^-81.
            Unit::Pure => (u128::from(self.amount) * u128::from(self.amount)).div_ceil(2 << 40),
        };
        let amount = u64::try_from(amount).map_err(|_| CostError::Overflow { unit: Unit::Zcdp })?;
        Ok(Self { unit: Unit::Zcdp, amount })
    }

    /// Whether this much, spent in all, stays within `limit`.
    ///
    /// # Errors
    /// [`CostError::Units`] if they differ in unit.
    pub fn is_within(self, limit: Self) -> Result<bool, CostError> {
        limit.same_unit(self)?;
        Ok(self.amount <= limit.amount)
    }

    fn same_unit(self, other: Self) -> Result<(), CostError> {
        if self.unit == other.unit {
            return Ok(());
        }
        Err(CostError::Units { expected: self.unit, found: other.unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_refuse_to_wrap() {
        let most = Cost::new(Unit::Zcdp, u64::MAX);
        let overflow = Err(CostError::Overflow { unit: Unit::Zcdp });
        assert_eq!(most.plus(Cost::new(Unit::Zcdp, 1)), overflow);
        assert_eq!(Cost::new(Unit::Zcdp, 1 << 33).times(1 << 31), overflow);
        assert_eq!(Cost::new(Unit::Zcdp, 2).of_group(u32::MAX), overflow);
        assert_eq!(most.plus(Cost::new(Unit::Zcdp, 0)), Ok(most));
    }

    #[test]
    fn units_do_not_mix() {
        let (rho, epsilon) = (Cost::new(Unit::Zcdp, 1), Cost::new(Unit::Pure, 1));
        let error = CostError::Units { expected: Unit::Zcdp, found: Unit::Pure };
        assert_eq!(rho.plus(epsilon), Err(error));
        assert_eq!(epsilon.is_within(rho), Err(error));
        assert!(error.to_string().contains("pure epsilon"));
    }

    #[test]
    fn group_loss_is_quadratic_in_rho_only() {
        assert_eq!(Cost::new(Unit::Zcdp, 7).of_group(3).unwrap().amount(), 63);
        assert_eq!(Cost::new(Unit::Pure, 7).of_group(3).unwrap().amount(), 21);
    }

    #[test]
    fn a_pure_loss_has_a_rho() {
        let rho = |amount| Cost::new(Unit::Pure, amount).in_zcdp();
        assert_eq!(rho(COST_ONE), Ok(Cost::new(Unit::Zcdp, COST_ONE / 2)));
        assert_eq!(rho(4 * COST_ONE), Ok(Cost::new(Unit::Zcdp, 8 * COST_ONE)));
        assert_eq!(rho(0), Ok(Cost::new(Unit::Zcdp, 0)));
        assert_eq!(rho(1), Ok(Cost::new(Unit::Zcdp, 1)));
        assert_eq!(rho(u64::MAX), Err(CostError::Overflow { unit: Unit::Zcdp }));
        assert_eq!(Cost::new(Unit::Zcdp, 7).in_zcdp(), Ok(Cost::new(Unit::Zcdp, 7)));
    }

    #[test]
    fn the_limit_itself_may_be_spent() {
        let limit = Cost::new(Unit::Pure, 5);
        assert!(limit.is_within(limit).unwrap());
        assert!(!Cost::new(Unit::Pure, 6).is_within(limit).unwrap());
    }
}
