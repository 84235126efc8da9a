//! What questions would become, asked at most once a second, and how budgets went.

use super::backend::{Backend, Spent};
use crate::ledger::seconds_now;
use crate::outlook::Readiness;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer of the compute parties serves everybody who asks.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Points of one plot.
const POINTS_MAX: usize = 512;

/// A point of a plot: seconds since 1970, and the answers that the budget still paid for.
pub(crate) type Point = (u64, u64);

/// How the budget of a task went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Course {
    pub(crate) task: String,
    pub(crate) points: Vec<Point>,
}

/// The latest outlooks.
#[derive(Debug, Default)]
pub(crate) struct Outlooks {
    /// Held while the compute parties are asked: whoever comes meanwhile gets the same.
    latest: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Readiness>>)>>,
    courses: Mutex<BTreeMap<String, Vec<Point>>>,
}

impl Outlooks {
    /// The outlooks, not older than a second.
    pub(crate) async fn get(&self, backend: &dyn Backend) -> Arc<Vec<Readiness>> {
        let mut latest = self.latest.lock().await;
        if let Some((at, outlooks)) = &*latest
            && at.elapsed() < FRESH_FOR
        {
            return outlooks.clone();
        }
        let outlooks = Arc::new(backend.readiness().await);
        for one in outlooks.iter() {
            let left = match &one.outlook {
                Ok(supply) => supply.answers_left,
                Err(refusal) if refusal.obstacle == crate::message::Obstacle::Budget => Some(0),
                Err(_) => None,
            };
            let Some(left) = left else { continue };
            let known = self.lock().contains_key(&one.task);
            let past = if known { Vec::new() } else { backend.spent(&one.task).await };
            self.add(&one.task, left, &past);
        }
        *latest = Some((Instant::now(), outlooks.clone()));
        outlooks
    }

    /// How budgets went, as far as it is known here.
    pub(crate) fn courses(&self) -> Vec<Course> {
        let courses = self.lock();
        courses.iter().map(|(task, points)| Course { task: task.clone(), points: points.clone() }).collect()
    }

    /// The newest point of a task.
    pub(crate) fn left(&self, task: &str) -> Option<u64> {
        self.lock().get(task).and_then(|points| points.last()).map(|(_, left)| *left)
    }

    fn add(&self, task: &str, left: u64, past: &[Spent]) {
        let now = seconds_now();
        let mut courses = self.lock();
        let points = courses.entry(task.to_owned()).or_insert_with(|| before(left, past));
        match points.as_slice() {
            // The end of a level stretch moves.
            [.., (_, before), (_, last)] if *before == left && *last == left => {
                if let Some(last) = points.last_mut() {
                    last.0 = now;
                }
            }
            _ => points.push((now, left)),
        }
        let excess = points.len().saturating_sub(POINTS_MAX);
        points.drain(..excess);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Point>>> {
        self.courses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was left after each earlier release, oldest first. `past` is newest first.
fn before(left: u64, past: &[Spent]) -> Vec<Point> {
    let mut points = Vec::with_capacity(past.len() + 1);
    let mut left = left;
    for spent in past {
        points.push((spent.at, left));
        left = left.saturating_add(spent.answers);
    }
    if let Some(first) = past.last() {
        points.push((first.at, left));
    }
    points.reverse();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_begins_with_the_ledger_and_level_stretches_have_two_points() {
        let spent = |at, answers| Spent { at, answers };
        assert_eq!(before(4, &[spent(30, 1), spent(20, 2)]), [(20, 7), (20, 5), (30, 4)]);
        let outlooks = Outlooks::default();
        for left in [9, 9, 9, 8, 8] {
            outlooks.add("exact", left, &[]);
        }
        let courses = outlooks.courses();
        let left: Vec<u64> = courses[0].points.iter().map(|(_, left)| *left).collect();
        assert_eq!((left, outlooks.left("exact")), (vec![9, 9, 8, 8], Some(8)));
        for left in (0..2 * POINTS_MAX as u64).rev() {
            outlooks.add("exact", left, &[]);
        }
        assert_eq!(outlooks.courses()[0].points.len(), POINTS_MAX);
        assert_eq!(outlooks.left("exact"), Some(0));
    }
}
