//! Which pairs are passed over for now, because they did not answer lately.
//!
//! A pair that cannot answer rests for a while, so that later questions do not wait for it each time; meanwhile
//! they go to the next pair. When the time is over, one question looks whether the pair is back, and the others
//! still go around it. Each time it is not, the rest grows, up to half a minute; nobody has to help.

use super::Tried;
use crate::ledger::ReleaseId;
use crate::message::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// First and longest rest.
const RESTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Questions for which it is known who answered them, beside the first pair.
const ANSWERED_MAX: usize = 4096;

/// Where a pair stands before a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is asked.
    Up,
    /// Its rest is over; one question looks whether it is back.
    Due(Refusal),
    /// It is passed over, and why.
    Resting(Refusal),
}

/// A pair that questions go around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detour {
    /// The task.
    pub task: String,
    /// The pair that is passed over.
    pub pair: String,
    /// Seconds until a question looks whether it is back; 0 where the next one does.
    pub looked_at_in: u64,
    /// Why it is passed over.
    pub reason: String,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    length: Duration,
    refusal: Refusal,
}

/// What is remembered of pairs, for as long as the node runs.
#[derive(Debug, Default)]
pub(super) struct Detours {
    rests: Mutex<HashMap<(String, String), Rest>>,
    answered: Mutex<VecDeque<(ReleaseId, String)>>,
}

impl Detour {
    /// The same in words.
    pub fn in_words(&self) -> String {
        let Self { task, pair, looked_at_in, reason } = self;
        let when = match looked_at_in {
            0 => "with the next question".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        format!("questions of {task} go around pair {pair}, looked at again {when}: {reason}")
    }
}

impl Detours {
    /// Where a pair stands.
    pub(super) fn standing(&self, (task, pair): (&str, &str), now: Instant) -> Standing {
        match self.rests().get(&(task.to_owned(), pair.to_owned())) {
            None => Standing::Up,
            Some(rest) if rest.until <= now => Standing::Due(rest.refusal.clone()),
            Some(rest) => Standing::Resting(rest.refusal.clone()),
        }
    }

    /// Whether the caller is to look if a pair that is due is back: it has `within` to do so, and the others go on
    /// around the pair.
    pub(super) fn looks(&self, (task, pair): (&str, &str), now: Instant, within: Duration) -> bool {
        let mut rests = self.rests();
        let rest = rests.get_mut(&(task.to_owned(), pair.to_owned())).filter(|rest| rest.until <= now);
        rest.map(|rest| rest.until = now + within).is_some()
    }

    /// The pair could not answer. Only whoever `looked` after a rest makes the next one longer: questions that were
    /// under way together fail together.
    pub(super) fn failed(&self, (task, pair): (&str, &str), refusal: &Refusal, now: Instant, looked: bool) {
        let [first, longest] = RESTS;
        let mut rests = self.rests();
        let name = (task.to_owned(), pair.to_owned());
        let length = match rests.get(&name) {
            None => first,
            Some(rest) if looked => (rest.length * 2).min(longest),
            Some(_) => return,
        };
        tracing::warn!(
            kind = "detour",
            task,
            pair,
            "questions go around a pair that cannot answer: {refusal}"
        );
        rests.insert(name, Rest { until: now + length, length, refusal: refusal.clone() });
    }

    /// The pair has answered.
    pub(super) fn answered(&self, (task, pair): (&str, &str)) {
        if self.rests().remove(&(task.to_owned(), pair.to_owned())).is_some() {
            tracing::info!(kind = "detour-over", task, pair, "the pair answers again");
        }
    }

    /// The pair says that it would answer, which ends a rest that is over; else its words must prove true first.
    pub(super) fn would_answer(&self, (task, pair): (&str, &str), now: Instant) {
        let name = (task.to_owned(), pair.to_owned());
        let due = self.rests().get(&name).is_some_and(|rest| rest.until <= now);
        if due {
            self.answered((task, pair));
        }
    }

    /// Remembers who answered a named question: asked again, it has an answer there for nothing.
    pub(super) fn remember(&self, release: ReleaseId, pair: &str) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|(known, _)| *known != release);
        if answered.len() >= ANSWERED_MAX {
            answered.pop_front();
        }
        answered.push_back((release, pair.to_owned()));
    }

    /// Who answered a named question.
    pub(super) fn who_answered(&self, release: ReleaseId) -> Option<String> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.iter().find(|(known, _)| *known == release).map(|(_, pair)| pair.clone())
    }

    /// The pairs that are passed over now.
    pub(super) fn list(&self, now: Instant) -> Vec<Detour> {
        let rests = self.rests();
        let detour = |((task, pair), rest): (&(String, String), &Rest)| Detour {
            task: task.clone(),
            pair: pair.clone(),
            looked_at_in: rest.until.saturating_duration_since(now).as_secs(),
            reason: rest.refusal.to_string(),
        };
        let mut list: Vec<Detour> = rests.iter().map(detour).collect();
        list.sort_by(|one, other| (&one.task, &one.pair).cmp(&(&other.task, &other.pair)));
        list
    }

    fn rests(&self) -> MutexGuard<'_, HashMap<(String, String), Rest>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pair that is passed over says in the provenance of an answer of another.
pub(super) fn passed_over(pair: &str, refusal: &Refusal) -> Tried {
    Tried {
        pair: pair.to_owned(),
        obstacle: refusal.obstacle,
        explanation: format!("not asked this time: {refusal}"),
        submitted: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Obstacle;

    const MAIN: (&str, &str) = ("chest", "main");
    const LOOKING: Duration = Duration::from_secs(2);

    fn away() -> Refusal {
        Refusal::new(Obstacle::Peer, "away")
    }

    #[test]
    fn a_pair_rests_one_looks_and_it_returns_by_itself() {
        let (detours, start) = (Detours::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let standing = |millis| detours.standing(MAIN, at(millis));
        let looks = |millis| detours.looks(MAIN, at(millis), LOOKING);
        assert_eq!(standing(0), Standing::Up);
        detours.failed(MAIN, &away(), at(0), false);
        assert_eq!(standing(0), Standing::Resting(away()));
        assert_eq!(standing(999), Standing::Resting(away()));
        assert_eq!(detours.standing(("brain", "main"), at(0)), Standing::Up, "another task");
        assert_eq!(detours.standing(("chest", "second"), at(0)), Standing::Up, "another pair");
        assert!(!looks(999));
        assert_eq!((standing(1000), standing(1001)), (Standing::Due(away()), Standing::Due(away())));
        assert_eq!((looks(1000), looks(1001)), (true, false), "one looks at a time");
        assert_eq!(standing(1001), Standing::Resting(away()));
        // It never came to an end, so somebody else looks.
        assert!(looks(3000));
        detours.answered(MAIN);
        assert!(standing(3000) == Standing::Up && !looks(3000));
        assert_eq!(detours.list(at(3000)), []);
    }

    #[test]
    fn a_pair_that_says_it_would_answer_is_asked_when_its_rest_is_over() {
        let (detours, start) = (Detours::default(), Instant::now());
        detours.failed(MAIN, &away(), start, false);
        detours.would_answer(MAIN, start);
        assert_eq!(detours.standing(MAIN, start), Standing::Resting(away()));
        detours.would_answer(MAIN, start + RESTS[0]);
        assert_eq!(detours.standing(MAIN, start), Standing::Up);
    }

    #[test]
    fn rests_grow_with_each_look_and_not_with_each_question() {
        let (detours, mut now) = (Detours::default(), Instant::now());
        for _ in 0..20 {
            detours.failed(MAIN, &away(), now, false);
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let list = detours.list(now);
            assert_eq!((list.len(), list[0].looked_at_in, list[0].reason.as_str()), (1, seconds, "away"));
            now += Duration::from_secs(seconds);
            assert!(detours.looks(MAIN, now, LOOKING));
            detours.failed(MAIN, &away(), now, false);
            detours.failed(MAIN, &away(), now, true);
        }
        detours.answered(MAIN);
        detours.failed(MAIN, &away(), now, false);
        assert_eq!(detours.list(now)[0].looked_at_in, 1, "the next time begins anew");
    }

    #[test]
    fn who_answered_is_known_for_the_latest_questions() {
        let detours = Detours::default();
        let release = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            ReleaseId(id)
        };
        for number in 0..=ANSWERED_MAX {
            detours.remember(release(number), "second");
        }
        detours.remember(release(7), "third");
        assert_eq!(detours.who_answered(release(0)), None);
        assert_eq!(detours.who_answered(release(1)).as_deref(), Some("second"));
        assert_eq!(detours.who_answered(release(7)).as_deref(), Some("third"));
        assert_eq!(detours.answered.lock().unwrap().len(), ANSWERED_MAX);
    }
}
