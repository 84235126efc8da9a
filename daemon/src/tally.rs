//! What became of questions: counters and latencies for metrics, and the latest ones for the dashboard.
//!
//! Tasks are the roster's, obstacles an enumeration; nothing that a peer sends makes a label. Neither inputs nor
//! labels come here.

use crate::ledger::seconds_now;
use crate::message::Obstacle;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Questions kept for the dashboard.
const LATEST_MAX: usize = 256;
/// What stands for a task that the roster does not have.
const UNKNOWN: &str = "unknown";

/// Labels of a metric.
pub type Labels = Vec<(&'static str, String)>;

/// On which side of a question this node was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// It asked.
    Client,
    /// It was asked, as a compute party.
    Compute,
    /// It was asked, as the owner of a homomorphic task.
    Owner,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Compute => "compute",
            Self::Owner => "owner",
        }
    }
}

/// A question that is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noted {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The task.
    pub task: String,
    /// On which side.
    pub side: Side,
    /// From question to answer or refusal.
    pub milliseconds: f64,
    /// What stood in the way; `None` where it was answered.
    pub obstacle: Option<Obstacle>,
}

/// Questions of one task on one side since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered.
    pub answered: u64,
    /// Nanoseconds of those.
    pub answered_ns: u64,
    /// Refused.
    pub refused: u64,
    /// Nanoseconds of those.
    pub refused_ns: u64,
    /// When the last one ended, in milliseconds since 1970; 0 if there was none.
    pub last_ms: u64,
}

/// Counts questions.
#[derive(Debug)]
pub struct Tally {
    tasks: BTreeSet<String>,
    answered: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Noted>,
    counts: BTreeMap<(Side, String), Counts>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new([])
    }
}

impl Tally {
    /// A tally of these tasks; questions of others are counted together.
    pub fn new(tasks: impl IntoIterator<Item = String>) -> Self {
        Self {
            tasks: tasks.into_iter().collect(),
            answered: Family::default(),
            refused: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            kept: Mutex::default(),
        }
    }

    /// Counts a question that is over.
    pub fn note(&self, side: Side, task: &str, taken: Duration, obstacle: Option<Obstacle>) {
        let task = if self.tasks.contains(task) { task } else { UNKNOWN };
        let labels = || vec![("task", task.to_owned()), ("side", side.name().to_owned())];
        match obstacle {
            None => {
                self.answered.get_or_create(&labels()).inc();
                self.seconds.get_or_create(&labels()).observe(taken.as_secs_f64());
            }
            Some(obstacle) => {
                let mut labels = labels();
                labels.push(("obstacle", name(obstacle).to_owned()));
                self.refused.get_or_create(&labels).inc();
            }
        }
        let mut kept = self.lock();
        let counts = kept.counts.entry((side, task.to_owned())).or_default();
        let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        let (number, total) = match obstacle {
            None => (&mut counts.answered, &mut counts.answered_ns),
            Some(_) => (&mut counts.refused, &mut counts.refused_ns),
        };
        *number += 1;
        *total = total.saturating_add(nanoseconds);
        counts.last_ms = seconds_now().saturating_mul(1000);
        if kept.latest.len() >= LATEST_MAX {
            kept.latest.pop_front();
        }
        let milliseconds = taken.as_secs_f64() * 1e3;
        kept.latest.push_back(Noted {
            at: seconds_now(),
            task: task.to_owned(),
            side,
            milliseconds,
            obstacle,
        });
    }

    /// The latest questions, oldest first.
    pub fn latest(&self) -> Vec<Noted> {
        self.lock().latest.iter().cloned().collect()
    }

    /// Questions of a task on one side since the start.
    pub fn counts(&self, side: Side, task: &str) -> Counts {
        self.lock().counts.get(&(side, task.to_owned())).copied().unwrap_or_default()
    }

    /// Adds the counters to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("queries", "Questions that were answered", self.answered.clone());
        registry.register(
            "refusals",
            "Questions that were refused, by what stood in the way",
            self.refused.clone(),
        );
        let help = "Time from question to answer";
        registry.register("query_seconds", help, self.seconds.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From 5 ms to 41 s.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

/// The name of an obstacle, as messages spell it.
pub fn name(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::NotAllowed => "not-allowed",
        Obstacle::Roster => "roster",
        Obstacle::Task => "task",
        Obstacle::Request => "request",
        Obstacle::Model => "model",
        Obstacle::Budget => "budget",
        Obstacle::Release => "release",
        Obstacle::Models => "models",
        Obstacle::Correlations => "correlations",
        Obstacle::Epoch => "epoch",
        Obstacle::Peer => "peer",
        Obstacle::Dealer => "dealer",
        Obstacle::Deadline => "deadline",
        Obstacle::Noise => "noise",
        Obstacle::Ledger => "ledger",
        Obstacle::Inputs => "inputs",
        Obstacle::Laboratory => "laboratory",
        Obstacle::Busy => "busy",
        Obstacle::Local => "local",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn questions_are_counted_and_strangers_make_no_labels() {
        let tally = Tally::new(["exact".to_owned()]);
        tally.note(Side::Client, "exact", Duration::from_millis(7), None);
        tally.note(Side::Client, "exact", Duration::from_millis(1), Some(Obstacle::Budget));
        for number in 0..LATEST_MAX {
            tally.note(Side::Compute, &format!("made up {number}"), Duration::ZERO, Some(Obstacle::Task));
        }
        let counts = tally.counts(Side::Client, "exact");
        assert_eq!((counts.answered, counts.refused, counts.answered_ns), (1, 1, 7_000_000));
        assert_eq!(tally.latest().len(), LATEST_MAX);
        let (mut registry, mut text) = (Registry::with_prefix("consilium"), String::new());
        tally.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        for line in [
            "consilium_queries_total{task=\"exact\",side=\"client\"} 1",
            "consilium_refusals_total{task=\"exact\",side=\"client\",obstacle=\"budget\"} 1",
            "consilium_refusals_total{task=\"unknown\",side=\"compute\",obstacle=\"task\"} 256",
            "consilium_query_seconds_bucket{le=\"0.01\",task=\"exact\",side=\"client\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("made up"), "{text}");
    }

    #[test]
    fn names_are_those_of_messages() {
        let all = [
            Obstacle::NotAllowed,
            Obstacle::Task,
            Obstacle::Request,
            Obstacle::Model,
            Obstacle::Budget,
            Obstacle::Release,
            Obstacle::Models,
            Obstacle::Correlations,
            Obstacle::Epoch,
            Obstacle::Peer,
            Obstacle::Dealer,
            Obstacle::Deadline,
            Obstacle::Noise,
            Obstacle::Ledger,
            Obstacle::Local,
        ];
        for obstacle in all {
            assert_eq!(serde_json::to_value(obstacle).unwrap(), name(obstacle));
        }
    }
}
