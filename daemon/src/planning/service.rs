//! The public terms of a service whose budget is planned.

use super::Family;
use consilium_protocol::privacy::{Budget, BudgetError, COST_ONE, Cost, CostError, Ratio, Unit, epsilon_of};
use serde::Serialize;

/// Whose data one promise covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PrivacyUnit {
    /// All that one owner trained on, so every one of its patients too
    Owner,
    /// One patient: each owner publishes several models trained on disjoint patients
    Patient,
}

/// Who draws the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NoiseMaker {
    /// Each compute party adds a full draw of its own, so that either alone keeps the promise
    Software,
    /// An attested module adds one draw that nobody knows
    Enclave,
}

impl NoiseMaker {
    /// Full draws added to every count.
    pub const fn draws(self) -> u32 {
        match self {
            Self::Software => 2,
            Self::Enclave => 1,
        }
    }
}

/// Why a plan cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Fewer than two votes or classes, or more than are supported.
    #[error("{what} = {found}; a plan needs {least} to {most}")]
    Size {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// Fewest.
        least: u64,
        /// Most.
        most: u64,
    },
    /// The deviation has no exact square.
    #[error("sigma = {sigma} is outside what the samplers support; use 0.1 to 1000 with few digits")]
    Deviation {
        /// As given.
        sigma: Ratio,
    },
    /// The profile counts other votes than the service.
    #[error(
        "the votes at hand are {found} a question over {found_classes} classes, but the service has {votes} \
         over {classes}; give --votes {found} --classes {found_classes}, or describe the votes by --accuracy"
    )]
    Profile {
        /// Votes of the service.
        votes: u32,
        /// Its classes.
        classes: usize,
        /// Votes of the profile.
        found: u32,
        /// Its classes.
        found_classes: usize,
    },
    /// The budget does not bound anything.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Losses that do not add up.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// Fewest answers, to all clients together and for ever, that make a service worth running, unless said otherwise.
pub(crate) const ANSWERS_WANTED: u64 = 50;
/// Noise on a count in all, as a share of the votes, that costs 1 to 3 points on evenly split data.
pub(crate) const SHARE_USUAL: f64 = 0.2;
/// Most votes that are planned for: 1024 owners with 8 models each.
pub(super) const VOTES_MAX: u32 = 8192;
/// Most classes, as in a roster.
pub(super) const CLASSES_MAX: usize = 64;

/// The public terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Service {
    /// Model owners.
    pub owners: u32,
    /// Models of each owner; 1 unless the unit is a patient.
    pub shards: u32,
    /// Classes that votes tell apart.
    pub classes: usize,
    /// Whose data one promise covers.
    pub unit: PrivacyUnit,
    /// Who draws the noise.
    pub noise: NoiseMaker,
    /// Kind of release.
    pub family: Family,
    /// What may be spent in all, for one unit.
    pub budget: Budget,
    /// Share of right answers that noise may cost at most, between 0 and 1.
    pub loss_max: f64,
    /// Fewest answers that make the service worth running.
    pub answers_wanted: u64,
}

impl Service {
    /// Votes on each question.
    ///
    /// # Errors
    /// [`ServiceError::Size`] outside 2 to 8192 votes or 2 to 64 classes.
    pub fn votes(&self) -> Result<u32, ServiceError> {
        let votes = u64::from(self.owners) * u64::from(self.shards);
        let size = |what, found: u64, most: u64| ServiceError::Size { what, found, least: 2, most };
        if !(2..=CLASSES_MAX).contains(&self.classes) {
            return Err(size("classes", self.classes as u64, CLASSES_MAX as u64));
        }
        let fits = u32::try_from(votes).ok().filter(|votes| (2..=VOTES_MAX).contains(votes));
        fits.ok_or_else(|| size("votes", votes, u64::from(VOTES_MAX)))
    }

    /// The unit that its ledger counts in; none for an exact release.
    pub const fn ledger_unit(&self) -> Option<Unit> {
        match self.family {
            Family::Gaussian | Family::Confident => Some(Unit::Zcdp),
            Family::Laplace => Some(Unit::Pure),
            Family::Exact => None,
        }
    }

    /// All that one unit of privacy may lose; none for an exact release.
    ///
    /// # Errors
    /// As [`Budget::limit`].
    pub fn limit(&self) -> Result<Option<Cost>, ServiceError> {
        Ok(self.ledger_unit().map(|unit| self.budget.limit(unit)).transpose()?)
    }

    /// The epsilon of somebody whose data moves `votes` votes, when one unit's budget is spent: an owner
    /// with k models where the unit is a patient, or a patient known to several owners.
    ///
    /// # Errors
    /// As [`Budget::limit`].
    pub fn group_epsilon(&self, votes: u32) -> Result<Option<f64>, ServiceError> {
        let Some(limit) = self.limit()? else { return Ok(None) };
        Ok(Some(epsilon_of(limit.of_group(votes)?, self.budget.delta)?))
    }

    /// Answers, without a threshold, that the budget would pay for with `votes` votes, when noise of deviation
    /// `share` of the votes reaches every count in all.
    ///
    /// # Errors
    /// As [`Budget::limit`].
    pub fn answers_at(&self, votes: f64, share: f64) -> Result<Option<f64>, ServiceError> {
        Ok(self.limit()?.map(|limit| answers_within(limit, share * votes, self.noise)))
    }
}

/// Answers, without a threshold, that a loss of `limit` pays for when noise of this deviation reaches every count
/// in all.
pub(crate) fn answers_within(limit: Cost, deviation: f64, noise: NoiseMaker) -> f64 {
    let total = limit.amount() as f64 / COST_ONE as f64;
    let variance = deviation.powi(2) / f64::from(noise.draws());
    match limit.unit() {
        Unit::Zcdp => total * variance,
        // A deviation of √8/ε for each label.
        Unit::Pure => total * (variance / 8.0).sqrt(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn service(owners: u32, classes: usize, family: Family) -> Service {
        let delta = (family != Family::Laplace).then(|| "1e-6".parse().unwrap());
        Service {
            owners,
            shards: 1,
            classes,
            unit: PrivacyUnit::Owner,
            noise: NoiseMaker::Enclave,
            family,
            budget: Budget { epsilon: "8".parse().unwrap(), delta },
            loss_max: 0.02,
            answers_wanted: 50,
        }
    }

    #[test]
    fn a_budget_of_eight_buys_labels_with_the_square_of_the_votes() {
        for (votes, answers) in [(10.0, 4.2), (20.0, 16.8), (50.0, 105.2), (100.0, 421.0)] {
            let found = service(10, 10, Family::Gaussian).answers_at(votes, 0.2).unwrap().unwrap();
            assert!((found - answers).abs() < 0.05 * answers, "{votes}: {found}");
        }
        let software = Service { noise: NoiseMaker::Software, ..service(10, 10, Family::Gaussian) };
        let found = software.answers_at(50.0, 0.2).unwrap().unwrap();
        assert!((found - 52.6).abs() < 0.1, "two draws buy half: {found}");
    }

    #[test]
    fn an_owner_of_many_models_loses_with_their_square() {
        let service = service(4, 2, Family::Gaussian);
        let epsilons = [1, 2, 3].map(|votes| service.group_epsilon(votes).unwrap().unwrap());
        assert!((epsilons[0] - 8.0).abs() < 1e-5 && epsilons[1] > 16.0 && epsilons[2] > 24.0, "{epsilons:?}");
        let laplace = super::tests::service(4, 2, Family::Laplace);
        assert!((laplace.group_epsilon(3).unwrap().unwrap() - 24.0).abs() < 1e-9);
        assert_eq!(super::tests::service(4, 2, Family::Exact).group_epsilon(3), Ok(None));
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let plain = service(4, 2, Family::Gaussian);
        assert_eq!(Service { shards: 13, ..plain }.votes(), Ok(52));
        for wrong in [
            Service { owners: 1, ..plain },
            Service { classes: 1, ..plain },
            Service { shards: 5000, ..plain },
        ] {
            assert!(matches!(wrong.votes(), Err(ServiceError::Size { .. })), "{wrong:?}");
        }
    }
}
