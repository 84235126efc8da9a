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

    /// How many labels the budget pays for; `None` for an exact release, which nothing limits.
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

/// The sum of one ledger: an odometer, which says what is spent so far, and a filter, which says whether one
/// more charge fits.
///
/// Everything is in whole units of 2^-40, so both compute parties find the same. The plain sum bounds the loss
/// of all releases together even where each question, and the wish to ask it, depends on earlier answers
/// (Whitehouse, Ramdas, Rogers and Wu, "Fully adaptive composition in differential privacy", 2022), provided
/// that a release is charged before it is made and the limit is fixed in advance.
///
/// ```
/// use consilium_protocol::privacy::{Account, Budget, Mechanism, Unit};
///
/// let budget = Budget { epsilon: "8".parse()?, delta: Some("1e-6".parse()?) };
/// let label = Mechanism::Gaussian { sigma_squared: "100".parse()? }.cost().ok_or("exact")?;
/// let mut account = Account::new(budget.limit(Unit::Zcdp)?);
/// for _ in 0..105 {
///     account.charge(label)?;
/// }
/// assert!(!account.fits(label)?);
/// assert!((7.9..=8.0).contains(&account.epsilon(budget.delta)?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    limit: Cost,
    spent: Cost,
}

/// Why an account does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The charge does not fit; nothing was charged.
    #[error(
        "a loss of {charge} does not fit: {spent} of {limit} are spent, in units of 2^-40 {unit}; ask for a \
         larger budget"
    )]
    Exhausted {
        /// What is counted.
        unit: Unit,
        /// Amount of the charge.
        charge: u64,
        /// Amount spent before.
        spent: u64,
        /// Amount that may be spent in all.
        limit: u64,
    },
    /// More would be given back than was ever charged; nothing was given back.
    #[error("a loss of {refund} cannot be given back where only {spent} were spent")]
    Refund {
        /// Amount to be given back.
        refund: u64,
        /// Amount spent.
        spent: u64,
    },
    /// Losses that do not add up.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Account {
    /// An account of which nothing is spent.
    pub const fn new(limit: Cost) -> Self {
        Self { limit, spent: Cost::new(limit.unit(), 0) }
    }

    /// An account of which something is spent, perhaps more than a limit lowered since.
    ///
    /// # Errors
    /// [`CostError::Units`] if the two differ in unit.
    pub fn resume(limit: Cost, spent: Cost) -> Result<Self, CostError> {
        Ok(Self { limit, spent: Self::new(limit).spent.plus(spent)? })
    }

    /// What may be spent in all.
    pub const fn limit(&self) -> Cost {
        self.limit
    }

    /// The odometer: what is spent so far.
    pub const fn spent(&self) -> Cost {
        self.spent
    }

    /// What may still be spent; nothing where the limit was lowered below what is spent.
    pub const fn left(&self) -> Cost {
        Cost::new(self.limit.unit(), self.limit.amount().saturating_sub(self.spent.amount()))
    }

    /// The filter: whether this charge would still fit.
    ///
    /// # Errors
    /// [`CostError::Units`] if it is counted in another unit; see [`Cost::in_zcdp`].
    pub fn fits(&self, charge: Cost) -> Result<bool, CostError> {
        match self.spent.plus(charge) {
            Ok(after) => after.is_within(self.limit),
            // A sum that leaves 64 bits is over any limit.
            Err(CostError::Overflow { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Charges if it fits, else changes nothing.
    ///
    /// # Errors
    /// [`AccountError::Exhausted`] if it does not fit, [`CostError::Units`] in another unit.
    pub fn charge(&mut self, charge: Cost) -> Result<(), AccountError> {
        if !self.fits(charge)? {
            return Err(AccountError::Exhausted {
                unit: self.limit.unit(),
                charge: charge.amount(),
                spent: self.spent.amount(),
                limit: self.limit.amount(),
            });
        }
        self.spent = self.spent.plus(charge)?;
        Ok(())
    }

    /// Takes a charge back whose release was never made.
    ///
    /// # Errors
    /// [`AccountError::Refund`] if less than that was spent, [`CostError::Units`] in another unit.
    pub fn refund(&mut self, charge: Cost) -> Result<(), AccountError> {
        charge.is_within(self.spent)?;
        let (refund, spent) = (charge.amount(), self.spent.amount());
        let left = spent.checked_sub(refund).ok_or(AccountError::Refund { refund, spent })?;
        self.spent = Cost::new(self.spent.unit(), left);
        Ok(())
    }

    /// The epsilon that the odometer stands for, rounded up, for display only.
    ///
    /// # Errors
    /// [`BudgetError::DeltaMissing`] for a zCDP account without a delta.
    pub fn epsilon(&self, delta: Option<Delta>) -> Result<f64, BudgetError> {
        epsilon_of(self.spent, delta)
    }
}

fn pure_limit(epsilon: Ratio) -> u64 {
    let amount = u128::from(epsilon.numerator()) * u128::from(COST_ONE) / u128::from(epsilon.denominator());
    u64::try_from(amount).expect("a ratio is at most 2^20, so 2^60 units")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn an_account_ends_at_its_limit() {
        let cost = |amount| Cost::new(Unit::Zcdp, amount);
        let mut account = Account::new(cost(10));
        assert_eq!(account.charge(cost(7)), Ok(()));
        assert_eq!((account.spent(), account.left(), account.fits(cost(3))), (cost(7), cost(3), Ok(true)));
        let refused = AccountError::Exhausted { unit: Unit::Zcdp, charge: 4, spent: 7, limit: 10 };
        assert_eq!(account.charge(cost(4)), Err(refused));
        assert_eq!(account.charge(cost(u64::MAX)).is_err(), account.fits(cost(u64::MAX)) == Ok(false));
        assert_eq!(account.spent(), cost(7), "a refused charge changes nothing");
        assert_eq!(account.charge(cost(3)), Ok(()));
        assert_eq!(
            (account.left(), account.fits(cost(1)), account.fits(cost(0))),
            (cost(0), Ok(false), Ok(true))
        );
        assert_eq!(account.refund(cost(11)), Err(AccountError::Refund { refund: 11, spent: 10 }));
        assert_eq!(account.refund(cost(4)), Ok(()));
        assert_eq!(account, Account::resume(cost(10), cost(6)).unwrap());
        let pure = Cost::new(Unit::Pure, 1);
        assert!(
            account.charge(pure).is_err() && account.refund(pure).is_err() && account.fits(pure).is_err()
        );
        assert!(Account::resume(cost(10), pure).is_err());
        let lowered = Account::resume(cost(10), cost(12)).unwrap();
        assert_eq!((lowered.left(), lowered.fits(cost(0))), (cost(0), Ok(false)));
    }

    #[test]
    fn the_odometer_speaks_of_epsilon() {
        let budget = budget("8", Some("1e-6"));
        let mut account = Account::new(budget.limit(Unit::Zcdp).unwrap());
        assert_eq!(account.epsilon(budget.delta), Ok(0.0));
        account.charge(account.left()).unwrap();
        assert!((7.999_999..=8.0 + 1e-12).contains(&account.epsilon(budget.delta).unwrap()));
        assert_eq!(account.epsilon(None), Err(BudgetError::DeltaMissing));
    }

    proptest! {
        #[test]
        fn accounts_never_pass_their_limit(
            limit in 0u64..1000, steps in prop::collection::vec((any::<bool>(), 0u64..200), 0..60),
        ) {
            // Against plain numbers that cannot overflow.
            let (mut account, mut spent) = (Account::new(Cost::new(Unit::Pure, limit)), 0i128);
            for (charging, amount) in steps {
                let (cost, change) = (Cost::new(Unit::Pure, amount), i128::from(amount));
                let after = if charging { spent + change } else { spent - change };
                let allowed = (0..=i128::from(limit)).contains(&after);
                let done = if charging { account.charge(cost) } else { account.refund(cost) };
                prop_assert_eq!(done.is_ok(), allowed);
                spent = if allowed { after } else { spent };
                prop_assert_eq!(i128::from(account.spent().amount()), spent);
                prop_assert_eq!(i128::from(account.left().amount()), i128::from(limit) - spent);
            }
        }
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
