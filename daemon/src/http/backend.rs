//! What the interface needs of a node, so that tests can stand in for one.

use crate::admin::{Report, normalised};
use crate::client::Answer;
use crate::ledger::ReleaseId;
use crate::message::Refusal;
use crate::node::Shared;
use crate::outlook::Readiness;
use crate::tally::Tally;
use crate::task::TaskTerms;
use futures::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the compute parties to say what they have.
const OUTLOOK_WITHIN: Duration = Duration::from_secs(3);
/// Releases that a plot starts from.
const PAST_MAX: usize = 200;

/// Who computes in a pair.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PairSeats {
    pub(crate) pair: String,
    pub(crate) zero: String,
    pub(crate) one: String,
    pub(crate) dealer: Option<String>,
}

/// A release that was charged before the interface began to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// Answers that it was charged for.
    pub(crate) answers: u64,
}

/// A node.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Tasks that questions may be asked of.
    fn offers(&self) -> Vec<Arc<TaskTerms>>;

    /// Whether a task is homomorphic, which this interface does not ask.
    fn is_homomorphic(&self, task: &str) -> bool;

    /// Asks about raw rows.
    fn ask<'a>(
        &'a self,
        terms: &'a Arc<TaskTerms>,
        rows: Vec<Vec<f64>>,
        release: Option<ReleaseId>,
    ) -> BoxFuture<'a, Result<Answer, Refusal>>;

    /// What would become of questions now.
    fn readiness(&self) -> BoxFuture<'_, Vec<Readiness>>;

    /// The state of the node.
    fn report(&self) -> BoxFuture<'_, Report>;

    /// The latest releases of a task, newest first, where this node keeps a ledger.
    fn spent<'a>(&'a self, task: &'a str) -> BoxFuture<'a, Vec<Spent>>;

    /// Who computes.
    fn pairs(&self) -> Vec<PairSeats>;

    /// What became of questions.
    fn tally(&self) -> &Tally;
}

impl Backend for Shared {
    fn offers(&self) -> Vec<Arc<TaskTerms>> {
        self.offers()
    }

    fn is_homomorphic(&self, task: &str) -> bool {
        self.roster.homomorphic_task(task).is_some()
    }

    fn ask<'a>(
        &'a self,
        terms: &'a Arc<TaskTerms>,
        rows: Vec<Vec<f64>>,
        release: Option<ReleaseId>,
    ) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            let rows = normalised(terms, rows)?;
            self.client.ask(terms, &self.pairs_of(terms)?, &rows, release).await
        })
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<Readiness>> {
        Box::pin(self.readiness(OUTLOOK_WITHIN))
    }

    fn report(&self) -> BoxFuture<'_, Report> {
        Box::pin(Report::of(self))
    }

    fn spent<'a>(&'a self, task: &'a str) -> BoxFuture<'a, Vec<Spent>> {
        Box::pin(async move {
            let seat =
                self.seats.iter().find(|(_, compute)| compute.tasks().any(|terms| terms.name() == task));
            let Some((_, compute)) = seat else { return Vec::new() };
            let Ok(snapshot) = compute.ledger().snapshot().await else { return Vec::new() };
            let task = task.to_owned();
            let read = tokio::task::spawn_blocking(move || snapshot.latest(&task, PAST_MAX)).await;
            let Ok(Ok(past)) = read else { return Vec::new() };
            let charged = past.into_iter().filter(|past| past.outcome != "refunded");
            charged.map(|past| Spent { at: past.at, answers: past.answers.into() }).collect()
        })
    }

    fn pairs(&self) -> Vec<PairSeats> {
        let seats = |pair: &consilium_config::Pair| PairSeats {
            pair: pair.name.to_string(),
            zero: pair.zero.to_string(),
            one: pair.one.to_string(),
            dealer: pair.dealer.as_ref().map(ToString::to_string),
        };
        self.roster.pairs().iter().map(seats).collect()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}
