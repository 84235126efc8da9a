//! How votes usually split: what a plan has to know or assume about the questions that will come.

use super::votes::VoteTable;
use serde::Serialize;
use std::collections::BTreeMap;

/// Modelled cases rarer than this change no figure that is shown.
const WEIGHT_MIN: f64 = 1e-9;
/// Beyond this many votes, neighbouring numbers of right votes are taken together.
const BLOCKS_MAX: u32 = 512;

/// One way in which a question's votes may fall.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Votes for each class.
    pub counts: Vec<u32>,
    /// The right class, where it is known.
    pub truth: Option<usize>,
    /// Share of the questions that fall so.
    pub weight: f64,
}

impl Case {
    /// The class with most votes, the lowest of equals, as an exact release names it.
    pub fn favourite(&self) -> usize {
        let most = self.counts.iter().max();
        self.counts.iter().position(|count| Some(count) == most).unwrap_or(0)
    }
}

/// A distribution of cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What it is called in tables.
    pub name: String,
    /// What it takes for granted, for people.
    pub assumption: String,
    /// Votes on every question.
    pub votes: u32,
    /// Classes.
    pub classes: usize,
    /// The cases; their weights sum to one.
    pub cases: Vec<Case>,
}

/// Three numbers from which a profile can be modelled.
///
/// For each question there is a chance with which an owner is right, drawn from a Beta distribution of mean
/// `accuracy`; given it, owners are right independently. On public image and table data with 4 to 100 owners,
/// evenly split or not, accuracy under noise by this model is mostly within one point, and within three, of
/// what the real votes give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tendency {
    /// Share of questions that one owner gets right.
    pub accuracy: f64,
    /// How alike the owners are: correlation between two of them being right about the same question. 0:
    /// they err independently; 1: they are all right or all wrong together.
    pub likeness: f64,
    /// Share of the wrong votes on a question that fall on one class; the rest spread evenly.
    pub rival: f64,
}

/// Why a profile cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// A number outside its range.
    #[error("{what} = {found} does not lie {range}")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: f64,
        /// What would do.
        range: &'static str,
    },
    /// There is no question to learn from.
    #[error("the votes at hand cover no question")]
    Empty,
}

impl Profile {
    /// What the questions of a table show, or some of its rows. Equal cases are counted together.
    ///
    /// # Errors
    /// [`ProfileError::Empty`] without a row.
    pub fn measured(table: &VoteTable, rows: impl Iterator<Item = usize>) -> Result<Self, ProfileError> {
        let mut seen: BTreeMap<(Vec<u32>, Option<usize>), u64> = BTreeMap::new();
        let mut total = 0u64;
        for row in rows.filter(|row| *row < table.questions()) {
            *seen.entry((table.histogram(row), table.truth(row))).or_default() += 1;
            total += 1;
        }
        if total == 0 {
            return Err(ProfileError::Empty);
        }
        let case = |((counts, truth), times): ((Vec<u32>, Option<usize>), u64)| Case {
            counts,
            truth,
            weight: times as f64 / total as f64,
        };
        let truth = if table.truth(0).is_some() { "" } else { ", whose right classes are not in the file" };
        Ok(Self {
            name: "measured votes".into(),
            assumption: format!(
                "questions to come split the votes like the {total} of {}{truth}",
                table.name()
            ),
            votes: table.models(),
            classes: table.classes(),
            cases: seen.into_iter().map(case).collect(),
        })
    }

    /// All ways in which `votes` owners of a tendency may be right, each with its exact weight. The right
    /// class is numbered before its rival in half of the cases, because ties go to the lower number.
    ///
    /// # Errors
    /// [`ProfileError::Range`].
    pub fn modelled(votes: u32, classes: usize, tendency: Tendency) -> Result<Self, ProfileError> {
        let range = |what, found, range, good| {
            if good { Ok(()) } else { Err(ProfileError::Range { what, found, range }) }
        };
        let Tendency { accuracy, likeness, rival } = tendency;
        range("accuracy", accuracy, "above 0 and below 1", accuracy > 0.0 && accuracy < 1.0)?;
        range("likeness", likeness, "from 0 up to, but not including, 1", (0.0..1.0).contains(&likeness))?;
        range("rival", rival, "from 0 to 1", (0.0..=1.0).contains(&rival))?;
        let mut cases = Vec::new();
        let weights = beta_binomial(votes, accuracy, likeness);
        let block = votes.div_ceil(BLOCKS_MAX).max(1);
        for (start, weights) in (0..).step_by(block as usize).zip(weights.chunks(block as usize)) {
            let weight: f64 = weights.iter().sum();
            if weight < WEIGHT_MIN {
                continue;
            }
            let right = (start + block / 2).min(votes);
            let wrong = spread(votes - right, classes - 1, rival);
            let (first, rest) = wrong.split_at(1);
            let before = [&[right][..], first, rest].concat();
            let after = [first, &[right][..], rest].concat();
            cases.push(Case { counts: before, truth: Some(0), weight: weight / 2.0 });
            cases.push(Case { counts: after, truth: Some(1), weight: weight / 2.0 });
        }
        let total: f64 = cases.iter().map(|case| case.weight).sum();
        cases.iter_mut().for_each(|case| case.weight /= total);
        Ok(Self { name: "modelled votes".into(), assumption: tendency.assumption(), votes, classes, cases })
    }

    /// Three profiles that bracket what real owners show, for when nothing else is known.
    ///
    /// # Errors
    /// As [`Profile::modelled`].
    pub fn family(votes: u32, classes: usize) -> Result<Vec<Self>, ProfileError> {
        // In the order of the accuracy, likeness and rival measured on public data: MNIST split evenly;
        // MNIST and Fashion-MNIST where owners see different classes; readmission of diabetics, letters.
        let members = [
            ("clear questions", Tendency { accuracy: 0.9, likeness: 0.55, rival: 0.8 }),
            ("owners unlike each other", Tendency { accuracy: 0.7, likeness: 0.15, rival: 0.7 }),
            ("hard questions", Tendency { accuracy: 0.6, likeness: 0.3, rival: 0.7 }),
        ];
        let named = |(name, tendency): (&str, Tendency)| {
            Self::modelled(votes, classes, tendency).map(|profile| Self { name: name.into(), ..profile })
        };
        members.into_iter().map(named).collect()
    }

    /// Accuracy of the vote without noise, where the truth is known.
    pub fn noise_free(&self) -> Option<f64> {
        let right = |case: &Case| Some(if case.truth? == case.favourite() { case.weight } else { 0.0 });
        self.cases.iter().map(right).sum()
    }
}

impl Tendency {
    /// What a model of these numbers takes for granted, for people.
    fn assumption(&self) -> String {
        let Self { accuracy, likeness, rival } = self;
        let alike = match *likeness {
            0.0 => "independently of the others (real owners are not: they stumble over the same questions)"
                .into(),
            likeness => format!("with a correlation of {likeness:.2} between two owners on one question"),
        };
        format!(
            "each owner is right about {:.0} % of the questions, {alike}; {:.0} % of the wrong votes on a \
             question fall on one class, the rest evenly",
            accuracy * 100.0,
            rival * 100.0
        )
    }
}

/// Probability of 0, 1, ... `votes` right votes. Ratios of neighbours, so no gamma function is needed.
fn beta_binomial(votes: u32, accuracy: f64, likeness: f64) -> Vec<f64> {
    let size = (1.0 - likeness) / likeness;
    let (above, below) = (accuracy * size, (1.0 - accuracy) * size);
    let mut logs = vec![0.0_f64];
    for right in 0..votes {
        let (done, left) = (f64::from(right), f64::from(votes - right));
        let odds =
            if likeness == 0.0 { accuracy / (1.0 - accuracy) } else { (done + above) / (left - 1.0 + below) };
        let last = logs.last().copied().unwrap_or(0.0);
        logs.push(last + (left / (done + 1.0) * odds).ln());
    }
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.into_iter().map(|log| (log - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Wrong votes over the wrong classes: a share on the first, at least as many as on any other.
fn spread(wrong: u32, classes: usize, rival: f64) -> Vec<u32> {
    let classes = u32::try_from(classes).unwrap_or(1).max(1);
    // A float is cut to the range of the integer.
    let wanted = (rival * f64::from(wrong)).round() as u32;
    let first = if classes == 1 { wrong } else { wanted.clamp(wrong.div_ceil(classes), wrong) };
    let (left, others) = (wrong - first, (classes - 1).max(1));
    let rest = (0..classes - 1).map(|class| left / others + u32::from(class < left % others));
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_likeness_right_votes_are_binomial() {
        let weights = beta_binomial(4, 0.75, 0.0);
        for (found, expected) in weights.iter().zip([1.0, 12.0, 54.0, 108.0, 81.0]) {
            assert!((found * 256.0 - expected).abs() < 1e-9, "{weights:?}");
        }
    }

    #[test]
    fn wrong_votes_fall_on_a_rival_first() {
        assert_eq!(spread(10, 9, 0.8), [8, 1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(spread(10, 1, 0.0), [10]);
        assert_eq!(spread(10, 3, 0.0), [4, 3, 3]);
        assert_eq!(spread(0, 3, 0.5), [0, 0, 0]);
    }

    #[test]
    fn owners_that_err_together_are_no_better_together() {
        let vote = |likeness| {
            let tendency = Tendency { accuracy: 0.7, likeness, rival: 1.0 };
            Profile::modelled(51, 2, tendency).unwrap().noise_free().unwrap()
        };
        assert!(vote(0.0) > 0.99 && (vote(0.99) - 0.7).abs() < 0.02, "{} {}", vote(0.0), vote(0.99));
    }

    #[test]
    fn impossible_tendencies_are_refused() {
        let plain = Tendency { accuracy: 0.9, likeness: 0.5, rival: 0.5 };
        for wrong in [
            Tendency { accuracy: 1.0, ..plain },
            Tendency { accuracy: f64::NAN, ..plain },
            Tendency { likeness: 1.0, ..plain },
            Tendency { rival: 1.1, ..plain },
        ] {
            assert!(matches!(Profile::modelled(5, 2, wrong), Err(ProfileError::Range { .. })), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn modelled_cases_are_whole(
            votes in 2u32..200, classes in 2usize..12,
            accuracy in 0.05f64..0.95, likeness in 0.0f64..0.95, rival in 0.0f64..=1.0,
        ) {
            let profile = Profile::modelled(votes, classes, Tendency { accuracy, likeness, rival }).unwrap();
            let mut right = 0.0;
            for case in &profile.cases {
                prop_assert_eq!(case.counts.len(), classes);
                prop_assert_eq!(case.counts.iter().sum::<u32>(), votes);
                right += case.weight * f64::from(case.counts[case.truth.unwrap()]);
            }
            let total: f64 = profile.cases.iter().map(|case| case.weight).sum();
            prop_assert!((total - 1.0).abs() < 1e-9);
            prop_assert!((right / f64::from(votes) - accuracy).abs() < 1e-5, "{} {}", right / f64::from(votes), accuracy);
        }
    }
}
