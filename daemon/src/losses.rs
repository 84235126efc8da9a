//! What a privacy loss means for those whom the promise covers, and for those who have more at stake.
//!
//! Noise hides one vote. A promise to owners covers all that one owner trained on, which is its one vote. A
//! promise to patients covers one patient of one owner, who is in the training of one of that owner's models.
//! Whoever moves several votes loses more: votes² times the zCDP, or votes times a pure epsilon. Answers,
//! `status` and reports say how much, so that nobody takes the promise for more than it is.

use crate::task::TaskTerms;
use consilium_config::Unit;
use consilium_protocol::privacy::{COST_ONE, Cost, Unit as Measure, epsilon_of};
use serde::{Deserialize, Serialize};

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
    /// Loss of whom the promise covers.
    pub promised: Loss,
    /// Loss of all that one owner trained on.
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

impl Losses {
    /// What `spent`, charged for one vote in units of 2^-40, means for each; `None` for an exact release.
    pub fn of(terms: &TaskTerms, spent: u64) -> Option<Self> {
        let (budget, unit) = (terms.budget?, terms.roster.release.terms()?.unit);
        let loss = |votes: u32| {
            let cost = Cost::new(budget.unit, spent).of_group(votes).ok();
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
            promised: loss(1),
            owner: loss(terms.roster.shards),
            patient_at: owners.map(|owners| PatientLoss { owners, loss: loss(owners) }).collect(),
        })
    }

    /// Whom the promise covers, in words.
    pub fn covered(&self) -> String {
        if self.unit == Unit::Patient.as_str() {
            format!("one patient of one owner ({} models each, on disjoint patients)", self.shards)
        } else {
            "all that one owner trained on".to_owned()
        }
    }

    /// Each with its loss, whom the promise covers first.
    pub fn rows(&self) -> Vec<(String, Loss)> {
        let mut rows = vec![(self.covered(), self.promised)];
        if self.unit == Unit::Patient.as_str() {
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
    /// The epsilon in words.
    pub fn shown(&self) -> String {
        self.epsilon.map_or_else(|| "beyond counting".to_owned(), |epsilon| format!("{epsilon:.3}"))
    }
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
}
