//! What a long run must have shown, whatever came of it: where nobody asked, or nothing failed over, nothing was tested.

use super::tally::Tally;
use super::terms::{LABORATORY, Release, Second};
use serde::Serialize;
use std::time::Duration;

/// A run of so long has time for all of it.
const REQUIRED_FROM: Duration = Duration::from_secs(600);

/// What was not seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// In words.
    pub not_seen: Vec<String>,
    /// Whether the run was long enough for that to be a fault of it.
    pub required: bool,
}

impl Coverage {
    /// Of all questions of a run, whose faults at random came for so long.
    pub(super) fn of(tally: &Tally, second: Second, length: Duration) -> Self {
        let mut not_seen = Vec::new();
        for task in second.tasks().iter().chain([&LABORATORY]) {
            let counts = tally.of_task(task.name);
            if counts.answered == 0 {
                not_seen.push(format!("an answer about {}", task.name));
            }
            if task.release == Release::Spent && counts.over_budget == 0 {
                not_seen.push(format!("the end of the budget of {}", task.name));
            }
        }
        for source in ["module", "software"] {
            if tally.noise_of(source) == 0 {
                not_seen.push(format!("noise of the source {source}"));
            }
        }
        Self { not_seen, required: length >= REQUIRED_FROM }
    }

    /// Whether all was seen that the run had time for.
    pub fn is_good(&self) -> bool {
        !self.required || self.not_seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Outcome;
    use super::*;
    use consilium::message::{Obstacle, Refusal};

    #[test]
    fn a_long_run_must_show_every_task_both_sources_and_the_end_of_a_budget() {
        let second = Second::StandsIn;
        let mut tally = Tally::default();
        let long = |tally: &Tally| Coverage::of(tally, second, REQUIRED_FROM);
        let missing = long(&tally).not_seen.len();
        assert!(missing == second.tasks().len() + 4 && !long(&tally).is_good());
        assert!(Coverage::of(&tally, second, REQUIRED_FROM / 2).is_good(), "a short one had no time");
        for task in second.tasks().iter().chain([&LABORATORY]) {
            let outcomes = match task.release {
                Release::Exact => vec![Outcome::Right],
                Release::Lasting => vec![Outcome::Noisy("module"), Outcome::Noisy("software")],
                Release::Spent => {
                    let spent = Outcome::Refused(Refusal::new(Obstacle::Budget, "spent"));
                    vec![Outcome::Noisy("module"), spent]
                }
            };
            assert!(!long(&tally).is_good());
            outcomes.into_iter().for_each(|outcome| tally.note(task, outcome, Duration::ZERO));
        }
        assert!(long(&tally).is_good() && tally.is_good(), "{:?}", long(&tally));
    }
}
