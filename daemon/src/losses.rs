//! What a privacy loss means for those whom the promise covers, and for those who have more at stake.
//!
//! Noise hides one vote. A promise to owners covers all that one owner trained on, which is its one vote. A
//! promise to patients covers one patient of one owner, who is in the training of one of that owner's models.
//! Whoever moves several votes loses more: votes² times the zCDP, or votes times a pure epsilon. Answers,
//! `status` and reports say how much, so that nobody takes the promise for more than it is.
//!
//! A patient is in one data epoch of an owner, so its loss is that of one account. The owner is in all of its
//! data epochs, so its loss is their sum.

use crate::ledger::Account;
use crate::task::TaskTerms;
use consilium_config::Unit;
use consilium_protocol::privacy::{COST_ONE, Cost, Unit as Measure, epsilon_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers of owners with records of one patient for which the loss is told.
const PATIENT_AT: [u32; 2] = [2, 3];

/// One loss, for each who may ask what it means to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Whose data one promise covers: `owner`, or `patient` for one patient of one owner.
    pub unit: String,
    /// Models of each owner, each trained on patients of its own.
    pub shards: u32,
    /// Most data epochs that one owner has.
    pub data_epochs: u32,
    /// Loss of whom the promise covers, in one data epoch.
    pub promised: Loss,
    /// Loss of all that one owner trained on, in all its data epochs.
    pub owner: Loss,
    /// Loss of a patient with records at several owners.
    pub patient_at: Vec<PatientLoss>,
}

/// Loss of somebody whose data moves some votes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Votes that its data moves at most.
    pub votes: u32,
    /// Loss in zero-concentrated differential privacy; `None` under a pure promise.
    pub rho: Option<f64>,
    /// The epsilon of it, at the delta of the promise; `None` where it passes all that is counted.
    pub epsilon: Option<f64>,
}

/// Loss of a patient with records at several owners.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatientLoss {
    /// Number of owners.
    pub owners: u32,
    /// Its loss: one vote of each.
    pub loss: Loss,
}

/// What the owners' accounts come to, in units of 2^-40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    /// The largest account, which is of one owner in one data epoch.
    pub(crate) account: u64,
    /// The largest sum over the data epochs of one owner; `None` where it passes 64 bits.
    pub(crate) owner: Option<u64>,
    /// Most data epochs that one owner has, at least 1.
    pub(crate) data_epochs: u32,
}

impl Sums {
    /// Adds up an amount of every owner's accounts.
    pub(crate) fn of<'a>(
        accounts: impl IntoIterator<Item = &'a Account>,
        amount: impl Fn(&Account) -> u64,
    ) -> Self {
        let mut owners: BTreeMap<&str, (Option<u64>, u32)> = BTreeMap::new();
        let mut largest = 0;
        for account in accounts {
            let amount = amount(account);
            largest = amount.max(largest);
            let (sum, data_epochs) = owners.entry(account.name.as_str()).or_insert((Some(0), 0));
            *sum = sum.and_then(|sum| sum.checked_add(amount));
            *data_epochs += 1;
        }
        let mut sums = owners.values().map(|(sum, _)| *sum);
        Self {
            account: largest,
            owner: sums.try_fold(0, |most: u64, sum| sum.map(|sum| most.max(sum))),
            data_epochs: owners.values().map(|(_, data_epochs)| *data_epochs).max().unwrap_or(1),
        }
    }
}

impl Losses {
    /// What `spent`, charged for one vote in units of 2^-40 and in one data epoch, means for each; `None` for an
    /// exact release.
    pub fn of(terms: &TaskTerms, spent: u64) -> Option<Self> {
        Self::from_sums(terms, Sums { account: spent, owner: Some(spent), data_epochs: 1 })
    }

    /// What was lost so far by the accounts of all owners; `None` for an exact release.
    pub fn so_far(terms: &TaskTerms, accounts: &[Account]) -> Option<Self> {
        Self::from_sums(terms, Sums::of(accounts, |account| account.spent))
    }

    /// What is lost when every budget in force is spent; `None` for an exact release.
    ///
    /// A budget may have been lowered below what is spent, which stays lost. An owner that was never charged has
    /// the budget of the roster.
    pub fn at_budget(terms: &TaskTerms, accounts: &[Account]) -> Option<Self> {
        let budget = terms.budget?.owner;
        let mut sums = Sums::of(accounts, |account| account.limit.max(account.spent));
        let charged = |owner: &str| accounts.iter().any(|account| account.name == owner);
        if !terms.roster.owners.iter().all(|owner| charged(owner.as_str())) {
            sums.account = sums.account.max(budget);
            sums.owner = sums.owner.map(|owner| owner.max(budget));
        }
        Self::from_sums(terms, sums)
    }

    fn from_sums(terms: &TaskTerms, sums: Sums) -> Option<Self> {
        let (budget, unit) = (terms.budget?, terms.roster.release.terms()?.unit);
        let loss = |votes: u32, spent: Option<u64>| {
            let cost = spent.and_then(|spent| Cost::new(budget.unit, spent).of_group(votes).ok());
            let rho = cost.filter(|cost| cost.unit() == Measure::Zcdp);
            Loss {
                votes,
                rho: rho.map(|rho| rho.amount() as f64 / COST_ONE as f64),
                epsilon: cost.and_then(|cost| epsilon_of(cost, budget.delta).ok()),
            }
        };
        let owners = PATIENT_AT.into_iter().filter(|owners| *owners as usize <= terms.roster.owners.len());
        Some(Self {
            unit: unit.as_str().to_owned(),
            shards: terms.roster.shards,
            data_epochs: sums.data_epochs,
            promised: loss(1, Some(sums.account)),
            owner: loss(terms.roster.shards, sums.owner),
            patient_at: owners
                .map(|owners| PatientLoss { owners, loss: loss(owners, Some(sums.account)) })
                .collect(),
        })
    }

    /// Whom the promise covers, in words.
    pub fn covered(&self) -> String {
        if self.unit == Unit::Patient.as_str() {
            format!("one patient of one owner ({} models each, on disjoint patients)", self.shards)
        } else if self.data_epochs > 1 {
            "all that one owner trained on in one data epoch".to_owned()
        } else {
            "all that one owner trained on".to_owned()
        }
    }

    /// Each with its loss, whom the promise covers first.
    pub fn rows(&self) -> Vec<(String, Loss)> {
        let mut rows = vec![(self.covered(), self.promised)];
        if self.data_epochs > 1 {
            rows.push(("all that one owner trained on in all its data epochs".to_owned(), self.owner));
        } else if self.unit == Unit::Patient.as_str() {
            rows.push(("all that one owner trained on".to_owned(), self.owner));
        }
        let patients = self.patient_at.iter();
        rows.extend(
            patients.map(|patient| (format!("one patient of {} owners", patient.owners), patient.loss)),
        );
        rows
    }
}

impl Loss {
    /// The epsilon in words, rounded up.
    pub fn shown(&self) -> String {
        self.epsilon.map_or_else(|| "beyond counting".to_owned(), rounded_up)
    }
}

/// An epsilon with four places, never less than it is.
pub(crate) fn rounded_up(epsilon: f64) -> String {
    rounded_up_to(epsilon, 4)
}

/// An epsilon with so many places, never less than it is.
pub(crate) fn rounded_up_to(epsilon: f64, places: u8) -> String {
    let unit = 10f64.powi(i32::from(places));
    let (epsilon, places) = ((epsilon * unit).ceil() / unit, usize::from(places));
    format!("{epsilon:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_ROSTER, Release, Roster, Task};

    fn task(name: &str) -> Task {
        Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap().task(name).unwrap().clone()
    }

    fn losses(task: &Task, spent: u64) -> Option<Losses> {
        Losses::of(&TaskTerms::new(task).unwrap(), spent)
    }

    /// Accounts of data epochs with what is spent and the limit.
    fn accounts(of: &[(&str, u32, u64, u64)]) -> Vec<Account> {
        let account = |(name, data_epoch, spent, limit): &(&str, u32, u64, u64)| Account {
            name: (*name).to_owned(),
            data_epoch: *data_epoch,
            spent: *spent,
            limit: *limit,
        };
        of.iter().map(account).collect()
    }

    #[test]
    fn votes_count_squared_in_zcdp() {
        let terms = TaskTerms::new(&task("readmission")).unwrap();
        let spent = 4 * terms.budget.unwrap().price;
        let found = Losses::of(&terms, spent).unwrap();
        assert_eq!((found.unit.as_str(), found.shards), ("patient", 5));
        // Four answers at deviation 3.
        let rho = 4.0 / 9.0;
        let near = |loss: Loss, votes: u32| {
            let expected = rho * f64::from(votes * votes);
            assert!((loss.rho.unwrap() - expected).abs() < 1e-9, "{loss:?}");
            assert_eq!(loss.votes, votes);
            let amount = spent * u64::from(votes * votes);
            assert_eq!(loss.epsilon, terms.epsilon_spent(amount));
        };
        near(found.promised, 1);
        near(found.owner, 5);
        let at: Vec<u32> = found.patient_at.iter().map(|patient| patient.owners).collect();
        assert_eq!(at, [2, 3]);
        found.patient_at.iter().for_each(|patient| near(patient.loss, patient.owners));
        assert_eq!(found.rows().len(), 4);
        assert!(found.rows()[0].0.starts_with("one patient of one owner (5 models"), "{found:?}");
    }

    #[test]
    fn votes_count_singly_in_pure_epsilon() {
        let mut task = task("digits");
        task.shards = 7;
        let Release::Laplace { terms, .. } = &mut task.release else { panic!("{task:?}") };
        terms.unit = Unit::Patient;
        let found = losses(&task, 2 * COST_ONE).unwrap();
        for (loss, epsilon) in [(found.promised, 2.0), (found.owner, 14.0), (found.patient_at[1].loss, 6.0)] {
            assert_eq!(loss.rho, None);
            assert!((loss.epsilon.unwrap() - epsilon).abs() < 1e-9, "{loss:?}");
        }
    }

    #[test]
    fn an_owner_is_one_vote_where_the_promise_is_to_owners() {
        let found = losses(&task("breast-cancer"), COST_ONE).unwrap();
        assert_eq!((found.unit.as_str(), found.owner), ("owner", found.promised));
        assert_eq!(found.rows().len(), 3, "the owner stands there once");
        assert_eq!(losses(&task("digits-exact"), 0), None);
    }

    #[test]
    fn only_owners_that_there_are_count_and_nothing_wraps() {
        let mut task = task("readmission");
        task.owners.truncate(2);
        let found = losses(&task, u64::MAX / 2).unwrap();
        assert_eq!(found.patient_at.len(), 1);
        assert_eq!((found.owner.epsilon, found.owner.rho), (None, None));
        assert_eq!(found.owner.shown(), "beyond counting");
    }

    #[test]
    fn an_owner_loses_the_sum_over_its_data_epochs() {
        let books = accounts(&[("north", 0, 60, 100), ("north", 1, 50, 100), ("south", 0, 70, 100)]);
        for (name, squared) in [("breast-cancer", 1), ("readmission", 25)] {
            let terms = TaskTerms::new(&task(name)).unwrap();
            let found = Losses::so_far(&terms, &books).unwrap();
            let rho = |amount: u64| Some(amount as f64 / COST_ONE as f64);
            assert_eq!((found.promised.rho, found.owner.rho), (rho(70), rho(110 * squared)), "{name}");
            assert_eq!(found.patient_at[0].loss.rho, rho(4 * 70), "a patient is in one data epoch of each");
            let rows = found.rows();
            assert_eq!((rows.len(), rows[1].1), (4, found.owner));
            assert!(rows[1].0.contains("in all its data epochs"), "{rows:?}");
        }
        let terms = TaskTerms::new(&task("breast-cancer")).unwrap();
        let found = Losses::so_far(&terms, &books).unwrap();
        assert_eq!(found.covered(), "all that one owner trained on in one data epoch");
        assert_eq!(Losses::so_far(&terms, &books[2..]), Losses::of(&terms, 70));
        assert_eq!(Losses::so_far(&terms, &[]), Losses::of(&terms, 0));
        let endless = accounts(&[("north", 0, u64::MAX, 1), ("north", 1, 1, 1)]);
        assert_eq!(Losses::so_far(&terms, &endless).unwrap().owner.epsilon, None);
    }

    #[test]
    fn the_largest_budget_counts_also_where_less_is_spent() {
        let terms = TaskTerms::new(&task("breast-cancer")).unwrap();
        let roster = terms.budget.unwrap().owner;
        let at = |books: &[(&str, u32, u64, u64)]| {
            let found = Losses::at_budget(&terms, &accounts(books)).unwrap();
            [found.promised, found.owner].map(|loss| (loss.rho.unwrap() * COST_ONE as f64).round() as u64)
        };
        let (low, high) = (roster / 2, roster * 2);
        assert_eq!(at(&[]), [roster; 2]);
        assert_eq!(at(&[("north", 0, 9, low), ("south", 0, 5, high), ("west", 0, 5, low)]), [high; 2]);
        assert_eq!(at(&[("north", 0, 9, low)]), [roster; 2], "others have the budget of the roster");
        let three = [("north", 0, high, low), ("south", 0, 5, low), ("west", 0, 5, low)];
        assert_eq!(at(&three), [high; 2], "what is spent stays lost");
        let again = [("north", 0, 9, roster), ("north", 1, 5, roster)];
        assert_eq!(at(&again), [roster, 2 * roster]);
    }

    #[test]
    fn an_epsilon_is_never_shown_smaller_than_it_is() {
        assert_eq!(
            (rounded_up(0.50001), rounded_up(8.0), rounded_up(0.0)),
            ("0.5001".into(), "8.0000".into(), "0.0000".into())
        );
    }
}
