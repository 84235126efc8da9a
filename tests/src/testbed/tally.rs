//! What came of questions, counted.

use super::subject::About;
use super::terms::{Release, Task};
use consilium::message::{Obstacle, Refusal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What may stand in the way of a question while something is broken. Any other refusal is of a mistake: of the
/// question, of the files, or of the two ledgers.
const EXPECTED: [Obstacle; 6] = [
    Obstacle::Peer,
    Obstacle::Deadline,
    Obstacle::Correlations,
    Obstacle::Epoch,
    Obstacle::Release,
    Obstacle::Models,
];
/// Examples that are kept of what must not be.
const EXAMPLES: usize = 5;

/// Whether a refusal is one that the run gives reasons for. A budget ends where it is meant to. The parties may differ
/// for a moment about what the module drew; that they refuse its evidence is another matter.
fn is_expected(task: &Task, refusal: &Refusal) -> bool {
    match refusal.obstacle {
        Obstacle::Budget => task.release == Release::Spent,
        Obstacle::Noise => task.release != Release::Exact && !refusal.explanation.contains("was refused"),
        // One client at a time, where one owner computes; and whoever is stopped in order says so, among what a
        // client tells of each pair.
        Obstacle::Busy => {
            let stopping = Refusal::stopping().explanation;
            task.about == About::Encrypted || refusal.explanation.contains(&stopping)
        }
        obstacle => EXPECTED.contains(&obstacle),
    }
}

/// What came of the questions about one task.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Answers as they should be.
    pub answered: u64,
    /// All others.
    pub unanswered: u64,
    /// Those of them that were refused because the budget was spent.
    pub over_budget: u64,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The label of the oracle.
    Right,
    /// A label where the oracle is not certain.
    NearTie,
    /// A label under noise of this source.
    Noisy(&'static str),
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
        matches!(self, Self::Right | Self::NearTie | Self::Noisy(_))
    }

    /// Whether it is what a consortium answers of which nothing is broken, its module included.
    pub(super) fn is_whole(&self) -> bool {
        self.is_answer() && *self != Self::Noisy("software")
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
    /// Noisy answers by the source of their noise: "module" or "software".
    pub by_noise: BTreeMap<&'static str, u64>,
    /// Questions by task.
    pub by_task: BTreeMap<&'static str, Counts>,
    /// Seconds that answers took.
    #[serde(skip)]
    seconds: Vec<f32>,
}

impl Tally {
    pub(super) fn note(&mut self, task: &'static Task, outcome: Outcome, took: Duration) {
        self.asked += 1;
        let counts = self.by_task.entry(task.name).or_default();
        if outcome.is_answer() {
            counts.answered += 1;
            self.seconds.push(took.as_secs_f32());
        } else {
            counts.unanswered += 1;
        }
        match outcome {
            Outcome::Right => self.right += 1,
            Outcome::NearTie => self.near_ties += 1,
            Outcome::Noisy(source) => {
                self.noisy += 1;
                *self.by_noise.entry(source).or_default() += 1;
            }
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
                counts.over_budget += u64::from(refusal.obstacle == Obstacle::Budget);
                if !is_expected(task, &refusal) {
                    self.example(format!("{}: {obstacle}: {refusal}", task.name));
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
        for (source, count) in &other.by_noise {
            *self.by_noise.entry(source).or_default() += count;
        }
        for (task, counts) in &other.by_task {
            let sums = self.by_task.entry(task).or_default();
            sums.answered += counts.answered;
            sums.unanswered += counts.unanswered;
            sums.over_budget += counts.over_budget;
        }
        other.bad.iter().for_each(|what| self.example(what.clone()));
        self.seconds.extend(&other.seconds);
    }

    /// Answers with noise of a source.
    pub(super) fn noise_of(&self, source: &str) -> u64 {
        self.by_noise.get(source).copied().unwrap_or_default()
    }

    /// What came of the questions of a task.
    pub(super) fn of_task(&self, task: &str) -> Counts {
        self.by_task.get(task).copied().unwrap_or_default()
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
    use super::super::terms::{ENCRYPTED, EXACT, NOISY, PRIVATE, named};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(obstacle: Obstacle) -> Outcome {
        Outcome::Refused(Refusal::new(obstacle, "why"))
    }

    fn counted(outcomes: impl IntoIterator<Item = Outcome>, name: &str) -> Tally {
        let mut tally = Tally::default();
        outcomes.into_iter().for_each(|outcome| tally.note(named(name), outcome, SECOND));
        tally
    }

    #[test]
    fn refusals_with_a_reason_of_the_run_are_good_and_all_else_is_not() {
        let outcomes = EXPECTED.map(refused).into_iter().chain([Outcome::Right, Outcome::Down]);
        let good = counted(outcomes, EXACT);
        assert!(good.is_good(), "{good:?}");
        let counts = good.of_task(EXACT);
        assert_eq!((good.asked, counts.answered, counts.unanswered, counts.over_budget), (8, 1, 7, 0));
        let bad = [
            Outcome::Wrong("case 1".to_owned()),
            Outcome::Untyped("hangs".to_owned()),
            refused(Obstacle::Ledger),
            refused(Obstacle::Request),
        ];
        for outcome in bad {
            let mut tally = good.clone();
            tally.note(named(EXACT), outcome.clone(), SECOND);
            assert!(!tally.is_good(), "{outcome:?}");
            let mut sum = Tally::default();
            sum.add(&tally);
            assert!(!sum.is_good(), "{outcome:?}");
        }
    }

    #[test]
    fn a_budget_ends_and_noise_is_missing_only_where_they_may() {
        for (task, budget, noise) in [(EXACT, false, false), (PRIVATE, true, true), (NOISY, false, true)] {
            assert_eq!(counted([refused(Obstacle::Budget)], task).is_good(), budget, "{task}");
            assert_eq!(counted([refused(Obstacle::Noise)], task).is_good(), noise, "{task}");
            let evidence =
                Refusal::new(Obstacle::Noise, "the evidence of the module was refused: debug mode");
            assert!(!counted([Outcome::Refused(evidence)], task).is_good(), "{task}");
        }
    }

    #[test]
    fn only_an_owner_who_computes_alone_may_be_busy_and_who_is_stopped() {
        let busy = |task| counted([refused(Obstacle::Busy)], task).is_good();
        assert_eq!([ENCRYPTED, EXACT, NOISY].map(busy), [true, false, false]);
        let Refusal { obstacle, explanation } = Refusal::stopping();
        let told =
            Refusal::new(obstacle, format!("pair main: {explanation}; pair second: the budget is spent"));
        assert!(counted([Outcome::Refused(told)], EXACT).is_good());
        let wrong = Refusal::new(Obstacle::Local, explanation);
        assert!(!counted([Outcome::Refused(wrong)], EXACT).is_good());
        assert!(!counted([refused(Obstacle::Inputs)], ENCRYPTED).is_good());
    }

    #[test]
    fn noise_is_counted_by_its_source() {
        let tally = counted(["module", "software", "module"].map(Outcome::Noisy), NOISY);
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!(sum.by_noise, BTreeMap::from([("module", 4), ("software", 2)]));
        assert_eq!((sum.noisy, sum.of_task(NOISY).answered), (6, 6));
        assert!(Outcome::Noisy("module").is_whole() && !Outcome::Noisy("software").is_whole());
    }

    #[test]
    fn quantiles_are_of_answers_alone() {
        let mut tally = Tally::default();
        assert_eq!(tally.within(0.5), None);
        for seconds in (1..=100).rev() {
            tally.note(named(EXACT), Outcome::Right, SECOND * seconds);
        }
        tally.note(named(EXACT), refused(Obstacle::Peer), 1000 * SECOND);
        assert_eq!((tally.within(0.5), tally.within(0.95)), (Some(50.0), Some(95.0)));
    }
}
