//! What the book of a task is opened with, for its whole life.
//!
//! Losses that were added up under one delta, unit and meaning cannot be read under another, so these stand
//! in the first record of a task's book and never change. Budgets do change, by signed statements.

use super::LedgerError;
use super::request::named;
use consilium_protocol::privacy::{Budget, Delta, Mechanism, Ratio, Unit};
use serde::{Deserialize, Serialize};

/// Version of the rule that turns an epsilon into units of an account: Canonne, Kamath and Steinke's
/// bound for zCDP and the epsilon itself for pure losses, either rounded down to 2^-40.
pub const CONVERSION: u64 = 1;

/// The first record of a task's book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The task.
    pub task: String,
    /// Version of the conversion between epsilon and amounts, [`CONVERSION`].
    pub conversion: u64,
    /// What every owner is promised; `None` where answers are exact, which promises nothing.
    pub promise: Option<Promise>,
}

/// What every owner of a task is promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Whose data one promise covers, in words.
    pub covers: String,
    /// What the amounts of the book measure.
    pub unit: Unit,
    /// Probability outside the promise; a pure promise has none.
    pub delta: Option<Delta>,
    /// What an owner accepts in all for one data epoch until it signs otherwise.
    pub epsilon: Ratio,
    /// The same in units of 2^-40.
    pub owner_limit: u64,
}

impl Promise {
    /// A promise with its limit.
    ///
    /// # Errors
    /// [`LedgerError::Promise`] for a zCDP promise without delta.
    pub fn new(
        covers: String,
        unit: Unit,
        epsilon: Ratio,
        delta: Option<Delta>,
    ) -> Result<Self, LedgerError> {
        let mut promise = Self { covers, unit, delta, epsilon, owner_limit: 0 };
        promise.owner_limit = promise.limit(epsilon)?;
        Ok(promise)
    }

    /// The most that an account may spend for `epsilon` to hold.
    ///
    /// # Errors
    /// [`LedgerError::Promise`].
    pub fn limit(&self, epsilon: Ratio) -> Result<u64, LedgerError> {
        let limit = Budget { epsilon, delta: self.delta }.limit(self.unit);
        limit.map(|limit| limit.amount()).map_err(|error| LedgerError::Promise(error.to_string()))
    }
}

impl Opening {
    /// Opens a book under the conversion of this program.
    pub fn new(task: String, promise: Option<Promise>) -> Self {
        Self { task, conversion: CONVERSION, promise }
    }

    /// Budget of every owner until it signs another one.
    pub fn owner_limit(&self) -> u64 {
        self.promise.as_ref().map_or(u64::MAX, |promise| promise.owner_limit)
    }

    /// Refuses what no honest party records.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        named("task", &self.task)?;
        if self.conversion != CONVERSION {
            return Err(LedgerError::Conversion { task: self.task.clone(), found: self.conversion });
        }
        match &self.promise {
            Some(promise) if promise.owner_limit != promise.limit(promise.epsilon)? => {
                Err(LedgerError::Promise("its limit does not follow from its epsilon".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an answer whose loss this book cannot count: exact where noise is promised, or one that is
    /// measured in something else.
    pub(super) fn counts(&self, mechanism: &Mechanism) -> Result<(), LedgerError> {
        if mechanism.unit() == self.promise.as_ref().map(|promise| promise.unit) {
            return Ok(());
        }
        let text = format!("the book of task {} does not count answers with {mechanism}", self.task);
        Err(LedgerError::Promise(text))
    }

    /// Whether a book that was opened like this may go on under `now`, whose budget may differ.
    pub(super) fn goes_on_as(&self, now: &Self) -> Result<(), LedgerError> {
        let in_words = |opening: &Self| match &opening.promise {
            None => "exact answers".to_owned(),
            Some(Promise { covers, unit, delta, .. }) => {
                let delta = delta.map_or_else(|| "no delta".to_owned(), |delta| format!("delta {delta}"));
                format!("{unit}, {delta}, a promise to each {covers}")
            }
        };
        let same = match (&self.promise, &now.promise) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                (&then.covers, then.unit, then.delta) == (&now.covers, now.unit, now.delta)
            }
            _ => false,
        };
        if same {
            return Ok(());
        }
        let (opened, asked) = (in_words(self), in_words(now));
        Err(LedgerError::OtherPromise { task: self.task.clone(), opened, asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(unit: Unit, epsilon: &str, delta: Option<&str>) -> Opening {
        let delta = delta.map(|text| text.parse().unwrap());
        let promise = Promise::new("owner".into(), unit, epsilon.parse().unwrap(), delta).unwrap();
        Opening::new("chest".into(), Some(promise))
    }

    #[test]
    fn a_limit_follows_from_its_epsilon() {
        let good = opening(Unit::Zcdp, "8", Some("1e-6"));
        good.check().unwrap();
        let mut bad = good.clone();
        bad.promise.as_mut().unwrap().owner_limit += 1;
        assert!(matches!(bad.check(), Err(LedgerError::Promise(_))));
        let later = Opening { conversion: 2, ..good };
        assert!(matches!(later.check(), Err(LedgerError::Conversion { found: 2, .. })));
        assert!(Promise::new("owner".into(), Unit::Zcdp, "8".parse().unwrap(), None).is_err());
        assert_eq!(opening(Unit::Pure, "2", None).owner_limit(), 2 << 40);
        assert_eq!(Opening::new("exact".into(), None).owner_limit(), u64::MAX);
    }

    #[test]
    fn a_book_counts_in_one_measure() {
        let gaussian = Mechanism::Gaussian { sigma_squared: "4".parse().unwrap() };
        let laplace = Mechanism::Laplace { epsilon: "1".parse().unwrap() };
        let books = [
            Opening::new("chest".into(), None),
            opening(Unit::Zcdp, "8", Some("1e-6")),
            opening(Unit::Pure, "8", None),
        ];
        let mechanisms = [Mechanism::Exact, gaussian, laplace];
        for (at, book) in books.iter().enumerate() {
            for (of, mechanism) in mechanisms.iter().enumerate() {
                assert_eq!(book.counts(mechanism).is_ok(), at == of, "{book:?} {mechanism}");
            }
        }
    }

    #[test]
    fn a_budget_may_differ_from_the_opening_and_nothing_else() {
        let opened = opening(Unit::Zcdp, "8", Some("1e-6"));
        opened.goes_on_as(&opening(Unit::Zcdp, "9", Some("1e-6"))).unwrap();
        let mut patient = opened.clone();
        patient.promise.as_mut().unwrap().covers = "patient".into();
        let others = [
            opening(Unit::Zcdp, "8", Some("1e-5")),
            opening(Unit::Pure, "8", None),
            Opening::new("chest".into(), None),
            patient,
        ];
        for other in others {
            let error = opened.goes_on_as(&other).unwrap_err().to_string();
            assert!(error.contains("chest") && error.contains("delta 1e-6"), "{error}");
        }
    }
}
