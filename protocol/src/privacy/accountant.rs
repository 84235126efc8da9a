//! How much a ledger may spend, and what its sum means in epsilon.

use super::conversion::{cks_epsilon, rho_limit};
use super::{COST_ONE, Cost, CostError, Delta, Mechanism, Ratio, Unit};
use serde::{Deserialize, Serialize};

/// What a ledger promises at most, over its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Total epsilon.
    pub epsilon: Ratio,
    /// Probability outside the promise. Needed by zCDP mechanisms; a pure mechanism has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
}

/// Why a budget does not bound a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// zCDP becomes an epsilon only at some delta.
    #[error("a zCDP ledger needs a delta: set `delta` beside `epsilon`, well below one over the patients")]
    DeltaMissing,
    /// Costs that do not add up.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Budget {
    /// The most that a ledger of `unit` may spend, rounded down to 2^-40.
    ///
    /// # Errors
    /// [`BudgetError::DeltaMissing`] for a zCDP ledger without a delta.
    pub fn limit(&self, unit: Unit) -> Result<Cost, BudgetError> {
        let amount = match unit {
            Unit::Zcdp => rho_limit(self.epsilon, self.delta.ok_or(BudgetError::DeltaMissing)?),
            Unit::Pure => pure_limit(self.epsilon),
        };
        Ok(Cost::new(unit, amount))
    }

    /// How many releases the budget pays for, with a label or without one; `None` for an exact release, which nothing limits.
    ///
    /// A loss off the grid is rounded up, so 2 pays for 16 labels of 1/8 but for only 19 of 1/10.
    ///
    /// # Errors
    /// As [`Budget::limit`].
    pub fn labels(&self, mechanism: &Mechanism) -> Result<Option<u64>, BudgetError> {
        let Some(cost) = mechanism.cost() else { return Ok(None) };
        let limit = self.limit(cost.unit())?;
        Ok(Some(limit.amount() / cost.amount()))
    }
}

/// The epsilon that a sum of losses stands for, rounded up, for display only.
///
/// # Errors
/// [`BudgetError::DeltaMissing`] for a zCDP loss without a delta.
pub fn epsilon_of(spent: Cost, delta: Option<Delta>) -> Result<f64, BudgetError> {
    match spent.unit() {
        Unit::Zcdp => Ok(cks_epsilon(spent.amount(), delta.ok_or(BudgetError::DeltaMissing)?)),
        Unit::Pure if spent.amount() == 0 => Ok(0.0),
        Unit::Pure => Ok((spent.amount() as f64 / COST_ONE as f64).next_up()),
    }
}

fn pure_limit(epsilon: Ratio) -> u64 {
    let amount = u128::from(epsilon.numerator()) * u128::from(COST_ONE) / u128::from(epsilon.denominator());
    u64::try_from(amount).expect("a ratio is at most 2^20, so 2^60 units")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(epsilon: &str, delta: Option<&str>) -> Budget {
        Budget { epsilon: epsilon.parse().unwrap(), delta: delta.map(|text| text.parse().unwrap()) }
    }

    #[test]
    fn known_label_counts() {
        // (epsilon, rho to four digits, labels at sigma 5, 10, 20, 40, 100), all at delta 1e-6.
        let rows = [
            ("1", 0.0244, [0, 2, 9, 38, 243]),
            ("2", 0.0882, [2, 8, 35, 141, 881]),
            ("4", 0.3111, [7, 31, 124, 497, 3_110]),
            ("8", 1.0524, [26, 105, 420, 1_683, 10_523]),
            ("16", 3.3505, [83, 335, 1_340, 5_360, 33_504]),
        ];
        for (epsilon, rho, labels) in rows {
            let budget = budget(epsilon, Some("1e-6"));
            let limit = budget.limit(Unit::Zcdp).unwrap();
            assert!((limit.amount() as f64 / COST_ONE as f64 - rho).abs() < 6e-5, "{epsilon}: {limit:?}");
            for (sigma, expected) in [5, 10, 20, 40, 100].into_iter().zip(labels) {
                let sigma_squared = Ratio::new(sigma * sigma, 1).unwrap();
                let found = budget.labels(&Mechanism::Gaussian { sigma_squared }).unwrap().unwrap();
                assert!(found.abs_diff(expected) <= expected / 5_000, "{epsilon} {sigma}: {found}");
            }
        }
    }

    #[test]
    fn pure_budgets_need_no_delta() {
        let (laplace, budget) = (Mechanism::Laplace { epsilon: "1/10".parse().unwrap() }, budget("2", None));
        // A tenth is rounded up to the grid, so the twentieth label would pass the limit by 2^-37.
        assert_eq!(budget.labels(&laplace), Ok(Some(19)));
        assert_eq!(budget.labels(&Mechanism::Laplace { epsilon: "1/8".parse().unwrap() }), Ok(Some(16)));
        assert_eq!(budget.limit(Unit::Pure), Ok(Cost::new(Unit::Pure, 2 * COST_ONE)));
        assert_eq!(budget.limit(Unit::Zcdp), Err(BudgetError::DeltaMissing));
        assert_eq!(budget.labels(&Mechanism::Exact), Ok(None));
    }

    #[test]
    fn shown_epsilon_is_not_below_the_loss() {
        let spent = Cost::new(Unit::Pure, (1 << 60) - 1);
        assert!(epsilon_of(spent, None).unwrap() > (1u64 << 20) as f64 * (1.0 - 1e-15));
        assert_eq!(epsilon_of(Cost::new(Unit::Pure, 0), None), Ok(0.0));
        assert_eq!(epsilon_of(Cost::new(Unit::Zcdp, 1), None), Err(BudgetError::DeltaMissing));
    }

    #[test]
    fn spending_the_limit_shows_the_budget() {
        let budget = budget("8", Some("1e-6"));
        let limit = budget.limit(Unit::Zcdp).unwrap();
        let shown = epsilon_of(limit, budget.delta).unwrap();
        assert!((7.999_999..=8.0 + 1e-12).contains(&shown), "{shown}");
    }

    #[test]
    fn the_file_form_is_strict() {
        let read = serde_json::from_str::<Budget>;
        assert_eq!(read(r#"{"epsilon": "8", "delta": "1e-6"}"#).unwrap(), budget("8", Some("1e-6")));
        assert_eq!(read(r#"{"epsilon": "8"}"#).unwrap(), budget("8", None));
        assert!(read(r#"{"epsilon": "8", "rho": "1"}"#).is_err());
        assert!(read(r#"{"epsilon": "8", "delta": "1"}"#).is_err());
    }
}
