//! How good the answers of one setting are.

use super::{Case, Profile, Setting};
use consilium_protocol::privacy::{Cost, Law};
use serde::Serialize;
use std::collections::BTreeMap;

/// What to expect of the answers when the votes fall as in one profile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// Share of the answers that name the class which a vote without noise would name.
    pub agreement: f64,
    /// Share of the answers that are right, where that is known.
    pub accuracy: Option<f64>,
    /// Share of the attempts that end in an answer; the others end in "no consensus".
    pub answered: f64,
    /// Share of right answers that noise costs against the vote without noise on all questions; where the
    /// right classes are not known, the share of changed answers. Below zero when unclear questions go
    /// unanswered.
    pub loss: f64,
}

/// One setting with what it costs and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Kind and amount of noise.
    pub setting: Setting,
    /// Loss of one attempt; `None` for an exact release.
    pub price: Option<Cost>,
    /// Attempts that the budget pays for; `None` for an exact release, which nothing limits.
    pub attempts: Option<u64>,
    /// The epsilon of one attempt alone.
    pub epsilon: Option<f64>,
    /// One for each profile of the plan.
    pub outlooks: Vec<Outlook>,
}

impl Row {
    /// Answers to expect from the budget under the least favourable profile.
    pub fn answers(&self) -> Option<f64> {
        let answered = self.outlooks.iter().map(|outlook| outlook.answered).fold(1.0, f64::min);
        self.attempts.map(|attempts| attempts as f64 * answered)
    }

    /// The largest loss over the profiles.
    pub fn loss(&self) -> f64 {
        self.outlooks.iter().map(|outlook| outlook.loss).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The smallest and the largest of a figure over the profiles.
    pub fn range(&self, figure: impl Fn(&Outlook) -> f64) -> (f64, f64) {
        let extremes = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        self.outlooks.iter().map(figure).fold((f64::INFINITY, f64::NEG_INFINITY), extremes)
    }
}

/// One case under some noise.
pub(super) struct Chance {
    weight: f64,
    most: u32,
    agree: f64,
    right: Option<f64>,
}

/// How every case of a profile may end under noise of a law.
pub(super) fn chances(profile: &Profile, law: &Law) -> Vec<Chance> {
    let chance = |case: &Case| {
        let favourite = case.favourite();
        let agree = wins(&case.counts, favourite, law);
        let right =
            case.truth.map(|truth| if truth == favourite { agree } else { wins(&case.counts, truth, law) });
        Chance { weight: case.weight, most: case.counts.iter().copied().max().unwrap_or(0), agree, right }
    };
    profile.cases.iter().map(chance).collect()
}

/// Sums up. With a test, a case is answered with the chance that its largest count passes the threshold;
/// that noise is independent of the noise that chooses the class.
pub(super) fn outlook(profile: &Profile, chances: &[Chance], test: Option<(&Law, u32)>) -> Outlook {
    let (mut answered, mut agree, mut right) = (0.0, 0.0, Some(0.0));
    for chance in chances {
        let passes =
            |(law, threshold): (&Law, u32)| law.at_least(i64::from(threshold) - i64::from(chance.most));
        let weight = chance.weight * test.map_or(1.0, passes);
        answered += weight;
        agree += weight * chance.agree;
        right = right.zip(chance.right).map(|(sum, right)| sum + weight * right);
    }
    let of_answered = |sum: f64| if answered > 0.0 { sum / answered } else { 0.0 };
    let (agreement, accuracy) = (of_answered(agree), right.map(of_answered));
    let loss = match profile.noise_free().zip(accuracy) {
        Some((without, with)) => without - with,
        None => 1.0 - agreement,
    };
    Outlook { agreement, accuracy, answered, loss }
}

/// Probability that one class is chosen, ties going to the lowest class. As the protocol crate's `winners`,
/// but for one class, and with equal rivals taken together: most classes of most questions have no vote.
fn wins(counts: &[u32], class: usize, law: &Law) -> f64 {
    let own = i64::from(counts[class]);
    let mut rivals: BTreeMap<i64, i32> = BTreeMap::new();
    for (other, votes) in counts.iter().enumerate().filter(|(other, _)| *other != class) {
        // A higher class must not pass, a lower one must not even tie.
        *rivals.entry(i64::from(*votes) - i64::from(other > class)).or_default() += 1;
    }
    let noise = -law.reach()..=law.reach();
    let beaten = |noise: i64| -> f64 {
        rivals.iter().map(|(bar, many)| law.below(own + noise - bar).powi(*many)).product()
    };
    noise.map(|noise| law.at(noise) * beaten(noise)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::Tendency;
    use consilium_protocol::privacy::{Mechanism, winners_under};
    use proptest::prelude::*;

    fn law(variance: &str, draws: u32) -> Law {
        Law::of(&Mechanism::Gaussian { sigma_squared: variance.parse().unwrap() }, draws)
    }

    fn profile(cases: &[(&[u32], Option<usize>, f64)]) -> Profile {
        let case = |(counts, truth, weight): &(&[u32], Option<usize>, f64)| Case {
            counts: counts.to_vec(),
            truth: *truth,
            weight: *weight,
        };
        let cases: Vec<Case> = cases.iter().map(case).collect();
        let (votes, classes) = (cases[0].counts.iter().sum(), cases[0].counts.len());
        Profile { name: "t".into(), assumption: String::new(), votes, classes, cases }
    }

    fn seen(profile: &Profile, law: &Law, test: Option<(&Law, u32)>) -> Outlook {
        outlook(profile, &chances(profile, law), test)
    }

    #[test]
    fn without_noise_the_vote_is_the_answer() {
        let profile = profile(&[(&[3, 1], Some(0), 0.75), (&[3, 1], Some(1), 0.25)]);
        let found = seen(&profile, &Law::of(&Mechanism::Exact, 1), None);
        assert_eq!(found, Outlook { agreement: 1.0, accuracy: Some(0.75), answered: 1.0, loss: 0.0 });
    }

    #[test]
    fn without_truth_every_changed_answer_is_a_loss() {
        let profile = profile(&[(&[3, 2], None, 1.0)]);
        let found = seen(&profile, &law("100", 1), None);
        assert!(found.accuracy.is_none() && (0.3..0.5).contains(&found.loss), "{found:?}");
        assert!((found.loss + found.agreement - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_threshold_holds_back_the_unclear() {
        let profile = profile(&[(&[50, 0], Some(0), 0.5), (&[26, 24], Some(1), 0.5)]);
        let (noise, test) = (law("25", 1), law("9", 1));
        let found = seen(&profile, &noise, Some((&test, 38)));
        assert!((found.answered - 0.5).abs() < 1e-3 && found.accuracy.unwrap() > 0.999, "{found:?}");
        assert!(found.loss < -0.49, "the unclear half is not counted: {found:?}");
        let never = seen(&profile, &noise, Some((&test, 1000)));
        assert_eq!((never.answered, never.agreement), (0.0, 0.0));
    }

    #[test]
    fn two_draws_are_one_of_twice_the_variance() {
        let profile =
            Profile::modelled(50, 10, Tendency { accuracy: 0.9, likeness: 0.5, rival: 0.8 }).unwrap();
        let (two, one) = (seen(&profile, &law("50", 2), None), seen(&profile, &law("100", 1), None));
        assert!((two.agreement - one.agreement).abs() < 1e-6, "{two:?} {one:?}");
    }

    proptest! {
        #[test]
        fn one_class_wins_as_the_protocol_says(
            counts in prop::collection::vec(0u32..30, 2..8), variance in 1u64..400, draws in 1u32..3,
        ) {
            let law = law(&variance.to_string(), draws);
            for (class, expected) in winners_under(&counts, &law).into_iter().enumerate() {
                prop_assert!((wins(&counts, class, &law) - expected).abs() < 1e-12);
            }
        }
    }
}
