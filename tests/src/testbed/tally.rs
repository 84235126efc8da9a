//! What came of questions, counted.

use consilium::message::{Obstacle, Refusal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What may stand in the way of a question while something is broken, or its budget is spent. Any other refusal is
/// of a mistake: of the question, of the files, or of the two ledgers.
const EXPECTED: [Obstacle; 8] = [
    Obstacle::Peer,
    Obstacle::Deadline,
    Obstacle::Correlations,
    Obstacle::Epoch,
    Obstacle::Release,
    Obstacle::Models,
    Obstacle::Budget,
    Obstacle::Busy,
];
/// Examples that are kept of what must not be.
const EXAMPLES: usize = 5;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The label of the oracle.
    Right,
    /// A label where the oracle is not certain.
    NearTie,
    /// A label under noise.
    Noisy,
    /// Another label, or other voters.
    Wrong(String),
    /// A refusal with its reason.
    Refused(Refusal),
    /// The client's own node was stopped meanwhile.
    Down,
    /// Neither an answer nor a refusal.
    Untyped(String),
}

impl Outcome {
    /// Whether it is an answer as it should be.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Right | Self::NearTie | Self::Noisy)
    }
}

/// Questions of a part of the run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// All of them.
    pub asked: u64,
    /// Labels as the oracle's.
    pub right: u64,
    /// Labels where the oracle is not certain.
    pub near_ties: u64,
    /// Labels under noise.
    pub noisy: u64,
    /// Other labels.
    pub wrong: u64,
    /// Refusals by what stood in the way.
    pub refused: BTreeMap<String, u64>,
    /// Questions whose own node was stopped meanwhile.
    pub down: u64,
    /// Neither answered nor refused.
    pub untyped: u64,
    /// Answers by the pair that gave them, where they say so.
    pub by_pair: BTreeMap<String, u64>,
    /// Examples of what must not be.
    pub bad: Vec<String>,
    /// Examples of reasons, one of each kind.
    pub reasons: BTreeMap<String, String>,
    /// Answers and refusals by task, for conditions of the run.
    #[serde(skip)]
    by_task: BTreeMap<&'static str, (u64, u64)>,
    /// Seconds that answers took.
    #[serde(skip)]
    seconds: Vec<f32>,
}

impl Tally {
    pub(super) fn note(&mut self, task: &'static str, outcome: Outcome, took: Duration) {
        self.asked += 1;
        let counts = self.by_task.entry(task).or_default();
        if outcome.is_answer() {
            counts.0 += 1;
            self.seconds.push(took.as_secs_f32());
        } else {
            counts.1 += 1;
        }
        match outcome {
            Outcome::Right => self.right += 1,
            Outcome::NearTie => self.near_ties += 1,
            Outcome::Noisy => self.noisy += 1,
            Outcome::Down => self.down += 1,
            Outcome::Wrong(what) => {
                self.wrong += 1;
                self.example(what);
            }
            Outcome::Untyped(what) => {
                self.untyped += 1;
                self.example(what);
            }
            Outcome::Refused(refusal) => {
                let obstacle = format!("{:?}", refusal.obstacle).to_lowercase();
                if !EXPECTED.contains(&refusal.obstacle) {
                    self.example(format!("{obstacle}: {refusal}"));
                }
                *self.refused.entry(obstacle.clone()).or_default() += 1;
                self.reasons.entry(obstacle).or_insert_with(|| refusal.to_string());
            }
        }
    }

    /// Notes who answered.
    pub(super) fn note_pair(&mut self, pair: String) {
        *self.by_pair.entry(pair).or_default() += 1;
    }

    fn example(&mut self, what: String) {
        if self.bad.len() < EXAMPLES {
            self.bad.push(what);
        }
    }

    /// Adds another part to this one.
    pub(super) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.right += other.right;
        self.near_ties += other.near_ties;
        self.noisy += other.noisy;
        self.wrong += other.wrong;
        self.down += other.down;
        self.untyped += other.untyped;
        for (obstacle, count) in &other.refused {
            *self.refused.entry(obstacle.clone()).or_default() += count;
        }
        for (obstacle, reason) in &other.reasons {
            self.reasons.entry(obstacle.clone()).or_insert_with(|| reason.clone());
        }
        for (pair, count) in &other.by_pair {
            *self.by_pair.entry(pair.clone()).or_default() += count;
        }
        for (task, counts) in &other.by_task {
            let sums = self.by_task.entry(task).or_default();
            *sums = (sums.0 + counts.0, sums.1 + counts.1);
        }
        other.bad.iter().for_each(|what| self.example(what.clone()));
        self.seconds.extend(&other.seconds);
    }

    /// Answers to questions of a task.
    pub(super) fn answered(&self, task: &str) -> u64 {
        self.by_task.get(task).map_or(0, |counts| counts.0)
    }

    /// Questions of a task that were not answered.
    pub(super) fn unanswered(&self, task: &str) -> u64 {
        self.by_task.get(task).map_or(0, |counts| counts.1)
    }

    /// Whether nothing was wrong, hung, or refused for a reason that nothing here gives.
    pub fn is_good(&self) -> bool {
        self.bad.is_empty() && self.wrong == 0 && self.untyped == 0
    }

    /// Seconds within which this part of the answers came, if there are any.
    pub fn within(&self, part: f64) -> Option<f64> {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f32::total_cmp);
        let index = (seconds.len() as f64 * part).ceil() as usize;
        seconds.get(index.saturating_sub(1)).map(|seconds| f64::from(*seconds))
    }

    /// The refusals in a few words.
    pub fn refusals(&self) -> String {
        let mut words: Vec<String> =
            self.refused.iter().map(|(obstacle, count)| format!("{count} {obstacle}")).collect();
        words.extend((self.down > 0).then(|| format!("{} own node down", self.down)));
        words.extend((self.untyped > 0).then(|| format!("{} UNTYPED", self.untyped)));
        if words.is_empty() { "-".to_owned() } else { words.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(obstacle: Obstacle) -> Outcome {
        Outcome::Refused(Refusal::new(obstacle, "why"))
    }

    #[test]
    fn refusals_with_a_reason_of_the_run_are_good_and_all_else_is_not() {
        let mut good = Tally::default();
        for outcome in
            EXPECTED.map(refused).into_iter().chain([Outcome::Right, Outcome::Noisy, Outcome::Down])
        {
            good.note("a", outcome, SECOND);
        }
        assert!(good.is_good(), "{good:?}");
        assert_eq!((good.asked, good.answered("a"), good.unanswered("a")), (11, 2, 9));
        let bad = [
            Outcome::Wrong("case 1".to_owned()),
            Outcome::Untyped("hangs".to_owned()),
            refused(Obstacle::Ledger),
            refused(Obstacle::Request),
        ];
        for outcome in bad {
            let mut tally = good.clone();
            tally.note("a", outcome.clone(), SECOND);
            assert!(!tally.is_good(), "{outcome:?}");
            let mut sum = Tally::default();
            sum.add(&tally);
            assert!(!sum.is_good(), "{outcome:?}");
        }
    }

    #[test]
    fn quantiles_are_of_answers_alone() {
        let mut tally = Tally::default();
        assert_eq!(tally.within(0.5), None);
        for seconds in (1..=100).rev() {
            tally.note("a", Outcome::Right, SECOND * seconds);
        }
        tally.note("a", refused(Obstacle::Peer), 1000 * SECOND);
        assert_eq!((tally.within(0.5), tally.within(0.95)), (Some(50.0), Some(95.0)));
    }
}
