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
    /// What this pair may spend of it, in units of 2^-40.
    pub owner_limit: u64,
    /// The part of every limit that this pair may spend, where other pairs have the rest; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Ratio>,
}

/// The part of an amount that a pair may spend, rounded down: over all pairs of a task the parts sum to no more
/// than the amount.
pub fn sliced(amount: u64, slice: Option<Ratio>) -> u64 {
    let Some(slice) = slice else { return amount };
    let part = u128::from(amount) * u128::from(slice.numerator()) / u128::from(slice.denominator());
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Promise {
    /// A promise with its limit, kept by one pair alone.
    ///
    /// # Errors
    /// [`LedgerError::Promise`] for a zCDP promise without delta.
    pub fn new(
        covers: String,
        unit: Unit,
        epsilon: Ratio,
        delta: Option<Delta>,
    ) -> Result<Self, LedgerError> {
        Self { covers, unit, delta, epsilon, owner_limit: 0, slice: None }.limited()
    }

    /// The same promise, of which this pair may spend a part.
    ///
    /// # Errors
    /// As [`Promise::new`].
    pub fn of_pair(self, slice: Option<Ratio>) -> Result<Self, LedgerError> {
        Self { slice, ..self }.limited()
    }

    fn limited(self) -> Result<Self, LedgerError> {
        Ok(Self { owner_limit: self.limit(self.epsilon)?, ..self })
    }

    /// The most that an account of this pair may spend for `epsilon` to hold.
    ///
    /// # Errors
    /// [`LedgerError::Promise`].
    pub fn limit(&self, epsilon: Ratio) -> Result<u64, LedgerError> {
        let limit = Budget { epsilon, delta: self.delta }.limit(self.unit);
        let limit = limit.map_err(|error| LedgerError::Promise(error.to_string()))?;
        Ok(sliced(limit.amount(), self.slice))
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
            Some(Promise { covers, unit, delta, slice, .. }) => {
                let delta = delta.map_or_else(|| "no delta".to_owned(), |delta| format!("delta {delta}"));
                let slice = slice.map_or_else(|| "all".to_owned(), |slice| slice.to_string());
                format!("{unit}, {delta}, a promise to each {covers}, {slice} of the budget for this pair")
            }
        };
        let same = match (&self.promise, &now.promise) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                (&then.covers, then.unit, then.delta, then.slice)
                    == (&now.covers, now.unit, now.delta, now.slice)
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
        let slice = |slice: &str| {
            let promise = opened.promise.clone().unwrap().of_pair(Some(slice.parse().unwrap())).unwrap();
            Opening::new("chest".into(), Some(promise))
        };
        let mut patient = opened.clone();
        patient.promise.as_mut().unwrap().covers = "patient".into();
        let others = [
            opening(Unit::Zcdp, "8", Some("1e-5")),
            opening(Unit::Pure, "8", None),
            Opening::new("chest".into(), None),
            patient,
            slice("7/10"),
        ];
        for other in others {
            let error = opened.goes_on_as(&other).unwrap_err().to_string();
            assert!(error.contains("chest") && error.contains("delta 1e-6"), "{error}");
        }
        slice("7/10").goes_on_as(&slice("14/20")).unwrap();
        let error = slice("7/10").goes_on_as(&slice("3/5")).unwrap_err().to_string();
        assert!(error.contains("7/10 of the budget for this pair"), "{error}");
    }

    #[test]
    fn slices_of_a_limit_never_sum_to_more_than_it() {
        let whole = opening(Unit::Zcdp, "8", Some("1e-6")).promise.unwrap();
        for slices in
            [&["7/10", "3/10"][..], &["11/30", "3/10", "1/3"], &["997/1000", "1/1000", "1/1000", "1/1000"]]
        {
            let of = |text: &&str| whole.clone().of_pair(Some(text.parse().unwrap())).unwrap();
            let parts: Vec<Promise> = slices.iter().map(of).collect();
            let sum: u64 = parts.iter().map(|part| part.owner_limit).sum();
            assert!(sum <= whole.owner_limit && whole.owner_limit - sum < slices.len() as u64, "{slices:?}");
            // The same holds of whatever an owner signs.
            for epsilon in ["1/8", "3", "1000"].map(|text| text.parse().unwrap()) {
                let sum: u64 = parts.iter().map(|part| part.limit(epsilon).unwrap()).sum();
                assert!(sum <= whole.limit(epsilon).unwrap());
            }
        }
        let half = Some("1/2".parse().unwrap());
        assert_eq!(
            (sliced(u64::MAX, half), sliced(u64::MAX, None), sliced(1, half)),
            (u64::MAX / 2, u64::MAX, 0)
        );
    }

    #[test]
    fn a_book_that_was_opened_before_there_were_slices_reads_back() {
        let promise = opening(Unit::Pure, "2", None);
        let mut bytes = Vec::new();
        ciborium::into_writer(&promise, &mut bytes).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("slice"), "old records keep their bytes");
        assert_eq!(ciborium::from_reader::<Opening, _>(&bytes[..]).unwrap(), promise);
        let part = promise.promise.unwrap().of_pair(Some("1/4".parse().unwrap())).unwrap();
        assert_eq!(part.owner_limit, 1 << 39);
        let part = Opening::new("chest".into(), Some(part));
        part.check().unwrap();
        let mut bytes = Vec::new();
        ciborium::into_writer(&part, &mut bytes).unwrap();
        assert_eq!(ciborium::from_reader::<Opening, _>(&bytes[..]).unwrap(), part);
    }
}
