//! Which pairs compute a task, and what each of them may spend.

use super::Shared;
use crate::message::{Obstacle, Refusal};
use crate::net::PeerId;
use crate::owner::TaskPair;
use crate::task::{TaskError, TaskTerms};
use consilium_config::{Member, Pair, Task};
use std::collections::HashMap;
use std::sync::Arc;

/// The tasks that a pair serves, by name, in its own view: with its slice of each budget.
pub(super) fn served(
    tasks: &HashMap<String, Arc<TaskTerms>>,
    pair: &Pair,
) -> Result<HashMap<String, Arc<TaskTerms>>, TaskError> {
    let computes = |terms: &&Arc<TaskTerms>| terms.roster.pairs().any(|name| *name == pair.name);
    let view = |terms: &Arc<TaskTerms>| {
        let terms = match terms.roster.slice_of(pair.name.as_str()) {
            Some(_) => Arc::new(TaskTerms::of_pair(&terms.roster, pair.name.as_str())?),
            None => terms.clone(),
        };
        Ok((terms.name().to_owned(), terms))
    };
    tasks.values().filter(computes).map(view).collect()
}

/// Checks a task as a whole and as each of its pairs would.
pub(super) fn check(task: &Task) -> Result<(), TaskError> {
    TaskTerms::new(task)?;
    task.pairs().try_for_each(|pair| TaskTerms::of_pair(task, pair.as_str()).map(drop))
}

impl Shared {
    /// The pairs that compute a task, in the order in which they are asked.
    pub(crate) fn pairs_of(&self, terms: &TaskTerms) -> Result<Vec<TaskPair>, Refusal> {
        let pairs = self.roster.seats_of(&terms.roster);
        let pairs =
            pairs.ok_or_else(|| Refusal::new(Obstacle::Task, "the roster lacks a pair of the task"))?;
        let peer = |member: &Member| {
            member.peer.as_str().parse::<PeerId>().map_err(|error| Refusal::new(Obstacle::Task, error))
        };
        let of = |(pair, seats): &(&Pair, consilium_config::Seats<'_>)| {
            Ok(TaskPair { name: pair.name.to_string(), peers: [peer(seats.zero)?, peer(seats.one)?] })
        };
        pairs.iter().map(of).collect()
    }

    /// Whether a member computes a task that takes noise from the module.
    pub(super) fn draws_for(&self, member: &Member) -> bool {
        let mut takers = self.tasks.values().filter(|terms| terms.takes_module_noise());
        takers.any(|terms| self.roster.seat_in(&terms.roster, member.name.as_str()).is_some())
    }
}
