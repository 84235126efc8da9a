//! Plans held against measurements: planned on one half of recorded votes, measured on the other.

use consilium::planning::{
    Family, NoiseMaker, Plan, PrivacyUnit, Profile, ProfileError, Row, Service, ServiceError, Setting,
    VoteTable, VotesError, Wanted,
};
use consilium_protocol::privacy::{Budget, NumberError, Sampler};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use std::path::Path;

/// Noisy decisions behind each measured figure.
const DECISIONS_MIN: usize = 40_000;

/// One figure as planned and as measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// By the plan, from one half of the questions.
    pub planned: f64,
    /// With drawn noise, on the other half.
    pub measured: f64,
}

impl Compared {
    /// How far the two are apart.
    pub fn gap(&self) -> f64 {
        (self.planned - self.measured).abs()
    }
}

/// The recommendation for one ensemble, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The ensemble.
    pub ensemble: String,
    /// Kind of release.
    pub family: Family,
    /// Who draws the noise.
    pub noise: NoiseMaker,
    /// Whether the even questions were planned on and the odd ones measured, or the other way round.
    pub planned_on_even: bool,
    /// The recommended setting.
    pub setting: String,
    /// Answers that the budget pays for, as planned.
    pub answers: f64,
    /// Share of right answers.
    pub accuracy: Compared,
    /// Share of the answers that are those of the vote without noise.
    pub agreement: Compared,
    /// Share of the questions that get an answer.
    pub answered: Compared,
}

/// Why a plan could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum PlannedError {
    /// The votes.
    #[error(transparent)]
    Votes(#[from] VotesError),
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The plan.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The budget.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// Nothing was recommended, or right classes are not known.
    #[error("nothing is recommended for {0}, or its right classes are not known")]
    Nothing(String),
}

/// The recorded votes of an ensemble such as `mnist_iid_N50`.
///
/// # Errors
/// The file or its manifest is missing or damaged.
pub fn recorded(shared: &Path, ensemble: &str) -> Result<VoteTable, VotesError> {
    VoteTable::load(&shared.join("data/baselines/votes").join(format!("{ensemble}.u8.gz")), &[])
}

/// A service of one vote an owner, with epsilon 8 and delta 1e-6, in which noise may cost two points.
///
/// # Errors
/// None with these numbers.
pub fn service(table: &VoteTable, family: Family, noise: NoiseMaker) -> Result<Service, NumberError> {
    let delta = if family == Family::Laplace { None } else { Some("1e-6".parse()?) };
    Ok(Service {
        owners: table.models(),
        shards: 1,
        classes: table.classes(),
        unit: PrivacyUnit::Owner,
        noise,
        family,
        budget: Budget { epsilon: "8".parse()?, delta },
        loss_max: 0.02,
        answers_wanted: 50,
    })
}

/// Plans on every second question and measures the recommendation on the others, with the product's own
/// samplers.
///
/// # Errors
/// [`PlannedError`].
pub fn planned(
    table: &VoteTable,
    family: Family,
    noise: NoiseMaker,
    planned_on_even: bool,
    seed: u64,
) -> Result<Planned, PlannedError> {
    let half = |first: bool| (usize::from(!first)..table.questions()).step_by(2);
    let profile = Profile::measured(table, half(planned_on_even))?;
    let plan = Plan::new(service(table, family, noise)?, vec![profile], &Wanted::default())?;
    let nothing = || PlannedError::Nothing(table.name().to_owned());
    let row: Row = plan.recommended.ok_or_else(nothing)?;
    let outlook = *row.outlooks.first().ok_or_else(nothing)?;
    let measured = measured(table, half(!planned_on_even), row.setting, noise.draws(), seed)?;
    let compared = |planned: f64, measured: f64| Compared { planned, measured };
    Ok(Planned {
        ensemble: table.name().to_owned(),
        family,
        noise,
        planned_on_even,
        setting: row.setting.to_string(),
        answers: row.answers().unwrap_or(f64::INFINITY),
        accuracy: compared(outlook.accuracy.ok_or_else(nothing)?, measured[0]),
        agreement: compared(outlook.agreement, measured[1]),
        answered: compared(outlook.answered, measured[2]),
    })
}

/// Shares of right answers, of those that are the vote's, and of questions answered.
fn measured(
    table: &VoteTable,
    rows: impl Iterator<Item = usize> + Clone,
    setting: Setting,
    draws: u32,
    seed: u64,
) -> Result<[f64; 3], PlannedError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let sampler = Sampler::new(&setting.mechanism()?);
    let test = setting.test()?.map(|(noise, threshold)| (Sampler::new(&noise), i64::from(threshold)));
    let mut noise = |sampler: &Sampler| -> i64 { (0..draws).map(|_| sampler.draw(&mut rng)).sum() };
    let repeats = DECISIONS_MIN.div_ceil(rows.clone().count().max(1));
    let (mut right, mut same, mut answered, mut asked) = (0u32, 0u32, 0u32, 0u32);
    for row in rows {
        let counts = table.histogram(row);
        let vote = first_largest(counts.iter().map(|count| i64::from(*count)));
        let most = counts.iter().max().map_or(0, |count| i64::from(*count));
        for _ in 0..repeats {
            asked += 1;
            if test.as_ref().is_some_and(|(sampler, threshold)| most + noise(sampler) < *threshold) {
                continue;
            }
            let label = first_largest(counts.iter().map(|count| i64::from(*count) + noise(&sampler)));
            answered += 1;
            right += u32::from(table.truth(row) == Some(label));
            same += u32::from(label == vote);
        }
    }
    let share = |part: u32, of: u32| f64::from(part) / f64::from(of.max(1));
    Ok([share(right, answered), share(same, answered), share(answered, asked)])
}

/// Position of the largest, the lowest of equals.
fn first_largest(values: impl Iterator<Item = i64>) -> usize {
    let larger = |best: (usize, i64), next: (usize, i64)| if next.1 > best.1 { next } else { best };
    values.enumerate().fold((0, i64::MIN), larger).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shared_or_skip;
    use consilium::planning::{Advice, Verdict};

    /// One point.
    const GAP_MAX: f64 = 0.01;

    #[test]
    fn measured_accuracy_is_within_a_point_of_the_plan() {
        let Some(shared) = shared_or_skip("plans against recorded votes") else { return };
        for (name, noise, family) in [
            ("mnist_iid_N50", NoiseMaker::Software, Family::Gaussian),
            ("mnist_iid_N50", NoiseMaker::Enclave, Family::Gaussian),
            ("mnist_iid_N50", NoiseMaker::Software, Family::Confident),
            ("mnist_iid_N50", NoiseMaker::Enclave, Family::Laplace),
            ("mnist_iid_N100", NoiseMaker::Software, Family::Gaussian),
            ("mnist_iid_N100", NoiseMaker::Software, Family::Confident),
        ] {
            let table = recorded(&shared, name).unwrap();
            for even in [true, false] {
                let found = planned(&table, family, noise, even, 7).unwrap();
                for figure in [found.accuracy, found.agreement, found.answered] {
                    assert!(figure.gap() <= GAP_MAX, "{found:?}");
                }
                assert!(found.accuracy.measured > 0.89, "{found:?}");
            }
        }
    }

    #[test]
    fn a_model_of_three_numbers_stands_in_for_the_votes() {
        let Some(shared) = shared_or_skip("modelled against recorded votes") else { return };
        for name in ["mnist_iid_N50", "fashion-mnist_iid_N100", "mnist_dir0.5_N50", "diabetes_iid_N50"] {
            let table = recorded(&shared, name).unwrap();
            let votes = Profile::measured(&table, 0..table.questions()).unwrap();
            let model =
                Profile::modelled(table.models(), table.classes(), table.tendency().unwrap()).unwrap();
            let service = service(&table, Family::Gaussian, NoiseMaker::Enclave).unwrap();
            let plan = |profile| Plan::new(service, vec![profile], &Wanted::default()).unwrap();
            let (votes, model) = (plan(votes), plan(model));
            let mut compared = 0;
            for row in &votes.rows {
                let Some(other) = model.rows.iter().find(|other| other.setting == row.setting) else {
                    continue;
                };
                let gap = row.outlooks[0].accuracy.unwrap() - other.outlooks[0].accuracy.unwrap();
                assert!(gap.abs() < 0.02, "{name}, {}: {gap:.4}", row.setting);
                compared += 1;
            }
            assert!(compared >= 10, "{name}: {compared} settings");
        }
    }

    #[test]
    fn four_hospitals_are_told_that_it_cannot_work() {
        let Some(shared) = shared_or_skip("the plan of four hospitals") else { return };
        let table = recorded(&shared, "heart_hospital_N4").unwrap();
        for noise in [NoiseMaker::Software, NoiseMaker::Enclave] {
            let service = service(&table, Family::Gaussian, noise).unwrap();
            let profile = Profile::measured(&table, 0..table.questions()).unwrap();
            let plan = Plan::new(service, vec![profile], &Wanted::default()).unwrap();
            let advice = Advice::of(&plan).unwrap();
            assert_eq!(advice.verdict, Verdict::NotUseful);
            let paying = plan.paying.unwrap();
            assert!(paying.outlooks[0].accuracy.unwrap() < 0.62, "two classes at chance: {paying:?}");
            assert!(advice.ways.len() >= 4 && advice.summary[0].contains("4 votes cannot"), "{advice:?}");
        }
    }
}
