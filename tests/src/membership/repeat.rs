//! The same question again and again, put to a consortium of real processes.

use consilium::admin::{AdminError, AdminReply, AdminRequest, TaskStatus, call, publish};
use consilium::client::Answer;
use consilium::demo::{Progress, Scenario, World, WorldError, names, tasks};
use consilium::ledger::ReleaseId;
use consilium::message::{Obstacle, Refusal};
use consilium::task::TaskTerms;
use consilium_config::Roster;
use consilium_protocol::model::export;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long to wait for the first bundles.
const POOL_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeated {
    /// Processes that ran.
    pub processes: usize,
    /// How the label was released.
    pub mechanism: String,
    /// Questions, each under a name of its own.
    pub asked: usize,
    /// Answers that the budget pays for.
    pub paid: u64,
    /// Questions that were answered before the first refusal.
    pub answered: usize,
    /// Questions that were refused because a budget is spent.
    pub refused: usize,
    /// Questions that were answered after a refusal.
    pub answered_late: usize,
    /// Answers on the books of each party.
    pub booked: [u64; 2],
    /// Epsilon on the books of each party.
    pub epsilon_spent: [f64; 2],
    /// What every owner accepts.
    pub epsilon_budget: f64,
    /// Bundles of correlated randomness that refused questions used up.
    pub bundles_lost: u64,
    /// Whether the first question under its old name still gets its old label, without a charge.
    pub repeated: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RepeatError {
    /// The processes.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An administration socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A refusal that has nothing to do with a budget.
    #[error("{what} was refused: {refusal}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The refusal.
        refusal: Refusal,
    },
    /// Something that should not be.
    #[error("{0}")]
    Odd(String),
}

impl Repeated {
    /// What is wrong with it, in words.
    pub fn faults(&self) -> Vec<String> {
        let exact = self.answered as u64 == self.paid
            && self.answered + self.refused == self.asked
            && self.answered_late == 0
            && self.booked == [self.paid; 2]
            && self.refused > 0;
        let within = self.epsilon_spent.iter().all(|spent| *spent > 0.0 && *spent <= self.epsilon_budget);
        [
            (exact, "the ledger did not refuse at the exact count"),
            (within, "the ledgers say that the budget is exceeded"),
            (self.bundles_lost == 0, "refused questions used up correlated randomness"),
            (self.repeated, "the first answer is not given again"),
        ]
        .into_iter()
        .filter(|(good, _)| !good)
        .map(|(_, fault)| format!("{fault}: {self:?}"))
        .collect()
    }
}

/// Starts the consortium of a scenario with processes of `program`, and asks its service about the first row
/// `asks` times, each time under a fresh name.
///
/// # Errors
/// A process failed, or refused for another reason than a budget.
pub async fn repeat(
    scenario: &Scenario,
    program: PathBuf,
    asks: usize,
    progress: &Progress,
) -> Result<Repeated, RepeatError> {
    let bar = progress.bar("processes start", 1 + scenario.hospitals.len() as u64);
    let mut world = World::start(scenario, program, None).await?;
    bar.inc(1);
    for hospital in &scenario.hospitals {
        let file = export(&hospital.model, "consilium");
        let reply = publish(&world.socket(&hospital.name), tasks::SERVICE.to_owned(), &file).await?;
        if let AdminReply::Refused(refusal) = reply {
            let what = format!("the model of {}", hospital.name);
            return Err(RepeatError::Refused { what, refusal });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let paid = paid(&world)?;
    filled(&world).await?;
    let bar = progress.bar("the same question", asks as u64);
    let mut told = Told::default();
    let first = told.note(ask(&world, scenario, None).await?)?;
    let first = first.ok_or_else(|| RepeatError::Odd("the budget does not pay for one answer".into()))?;
    for _ in 1..asks {
        if told.refused == 1 && told.used_at_refusal.is_none() {
            told.used_at_refusal = Some(used(&service(&world, names::ZERO).await?));
        }
        told.note(ask(&world, scenario, None).await?)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let again = ask(&world, scenario, Some(first.release)).await?;
    let repeated = again.is_ok_and(|again| again.terms.repeated && again.labels == first.labels);
    let (zero, one) = (service(&world, names::ZERO).await?, service(&world, names::ONE).await?);
    world.stop();
    Ok(Repeated {
        processes: world.processes(),
        mechanism: first.mechanism,
        asked: asks,
        paid,
        answered: told.answered,
        refused: told.refused,
        answered_late: told.answered_late,
        booked: [zero.answered, one.answered],
        epsilon_spent: [&zero, &one].map(|status| status.epsilon_spent.unwrap_or(f64::INFINITY)),
        epsilon_budget: zero.epsilon_budget.unwrap_or(0.0),
        bundles_lost: used(&zero).saturating_sub(told.used_at_refusal.unwrap_or(0)),
        repeated,
    })
}

#[derive(Default)]
struct Told {
    answered: usize,
    refused: usize,
    answered_late: usize,
    used_at_refusal: Option<u64>,
}

impl Told {
    fn note(&mut self, told: Result<Answer, Refusal>) -> Result<Option<Answer>, RepeatError> {
        match told {
            Ok(answer) => {
                self.answered += usize::from(self.refused == 0);
                self.answered_late += usize::from(self.refused > 0);
                Ok(Some(answer))
            }
            Err(refusal) if refusal.obstacle == Obstacle::Budget => {
                self.refused += 1;
                Ok(None)
            }
            Err(refusal) => Err(RepeatError::Refused { what: "a question".into(), refusal }),
        }
    }
}

/// How many answers the roster's budget pays for.
fn paid(world: &World) -> Result<u64, RepeatError> {
    let odd = |error: &dyn std::fmt::Display| RepeatError::Odd(error.to_string());
    let roster = Roster::load(&world.folder_of("roster.toml")).map_err(|error| odd(&error))?;
    let task = roster.tasks().iter().find(|task| task.name.as_str() == tasks::SERVICE);
    let task = task.ok_or_else(|| odd(&"the roster has no service"))?;
    let budget = TaskTerms::new(task).map_err(|error| odd(&error))?.budget;
    let budget = budget.ok_or_else(|| odd(&"the service has no budget"))?;
    Ok(budget.owner / budget.price)
}

async fn service(world: &World, party: &str) -> Result<TaskStatus, RepeatError> {
    let seats = world.status(party).await?.seats;
    let task = seats.into_iter().flat_map(|seat| seat.tasks).find(|task| task.task == tasks::SERVICE);
    task.ok_or_else(|| RepeatError::Odd(format!("{party} does not serve the task")))
}

fn used(status: &TaskStatus) -> u64 {
    status.pool.map_or(0, |pool| pool.used)
}

async fn filled(world: &World) -> Result<(), RepeatError> {
    let started = Instant::now();
    while service(world, names::ZERO).await?.pool.is_none_or(|pool| pool.left == 0) {
        if started.elapsed() > POOL_WITHIN {
            return Err(RepeatError::Odd(format!("no bundle was made within {POOL_WITHIN:?}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn ask(
    world: &World,
    scenario: &Scenario,
    release: Option<ReleaseId>,
) -> Result<Result<Answer, Refusal>, RepeatError> {
    let row = scenario.test.row(0).iter().map(|value| f64::from(*value)).collect();
    let request = AdminRequest::Ask { task: tasks::SERVICE.to_owned(), rows: vec![row], release };
    match call(&world.socket(names::CLIENT), &request).await? {
        AdminReply::Answer(answer) => Ok(Ok(*answer)),
        AdminReply::Refused(refusal) => Ok(Err(refusal)),
        _ => Err(RepeatError::Odd("the client's node answered something else than was asked".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_at_the_exact_count_is_good() {
        let good = Repeated {
            processes: 6,
            mechanism: "noise".into(),
            asked: 100,
            paid: 4,
            answered: 4,
            refused: 96,
            answered_late: 0,
            booked: [4, 4],
            epsilon_spent: [7.7, 7.7],
            epsilon_budget: 8.0,
            bundles_lost: 0,
            repeated: true,
        };
        assert_eq!(good.faults(), [] as [String; 0]);
        for bad in [
            Repeated { answered: 5, refused: 95, ..good.clone() },
            Repeated { answered: 3, refused: 97, ..good.clone() },
            Repeated { answered: 4, refused: 95, answered_late: 1, ..good.clone() },
            Repeated { booked: [4, 5], ..good.clone() },
            Repeated { epsilon_spent: [7.7, 8.1], ..good.clone() },
            Repeated { bundles_lost: 1, ..good.clone() },
            Repeated { repeated: false, ..good.clone() },
        ] {
            assert_eq!(bad.faults().len(), 1, "{bad:?}");
        }
    }
}
