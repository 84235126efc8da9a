//! One seat of a pair of compute parties.
//!
//! ```text
//! owner  --announce/share/activate-->  Zero --open--> One          models.rs
//! Zero   --activate--> One: which pool to go on with               start.rs, resume.rs
//! both   --make a batch, each its half--> disk                     refill.rs, source.rs, pairwise.rs
//! client --query--> both                                           query.rs, waiting.rs
//! both   --attest, one specification--> module, each its half      noise.rs
//! Zero --reserve--> One, rounds, commit                            lead.rs, follow.rs, online.rs
//! ```
//!
//! Party Zero leads: it names masks, begins epochs, picks serials, orders batches. Each party draws its own
//! seeds, unless the pair names a dealer. Nothing of a query is computed before both ledgers hold its
//! reservation.

mod allowance;
mod background;
mod books;
mod chores;
mod epoch;
mod follow;
mod lead;
mod link;
mod models;
mod noise;
mod online;
mod outlook;
mod pairwise;
mod progress;
mod query;
mod refill;
mod resume;
mod source;
mod start;
mod traffic;
mod waiting;
mod watch;

pub(crate) use allowance::Allowance;
pub(crate) use background::{Background, Yielding};
pub use epoch::{Epoch, EpochId};
pub(crate) use pairwise::Workshop;
pub(crate) use progress::{Progress, Seen};
pub(crate) use source::Source;
pub(crate) use traffic::Traffic;

use crate::ledger::LedgerHandle;
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, Network, PeerId, SeldomOf};
use crate::noise::{Module, Stock};
use crate::pool::Pools;
use crate::reception::Reception;
use crate::registry::{MaskStore, Registry};
use crate::tally::Tally;
use crate::task::TaskTerms;
use consilium_config::Transfers;
use consilium_protocol::party::Party;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most questions that share the rounds of one computation.
pub const TOGETHER_MAX: usize = 32;
/// Largest frame of such a round: beyond it a round takes as long as its bytes do, and sharing gains nothing.
const TOGETHER_FRAME_BYTES_MAX: usize = 4 << 20;
/// Computations of one task at the same time. Fewer would have a question wait for the rounds of others on a
/// long line; with more of them questions would share less.
const COMPUTATIONS_MAX: usize = 4;

/// Limits and deadlines of a compute party.
#[derive(Clone, Copy, Debug)]
pub struct ComputeLimits {
    /// Longest wait for the other party within a round.
    pub round_deadline: Duration,
    /// Longest time from a client's question to its answer.
    pub query_deadline: Duration,
    /// Bundles laid out ahead in memory; the rest stays on the disk.
    pub prepared_max: usize,
    /// How transfers between the two parties are made.
    pub transfers: Transfers,
    /// Questions that may wait for their turn or for the other party at the same time.
    pub waiting_max: usize,
    /// Largest frame between the two parties.
    pub frame_bytes_max: usize,
}

/// Everything that one seat holds.
pub struct Compute {
    pub(crate) seat: Party,
    pub(crate) other: PeerId,
    pub(crate) other_name: String,
    pub(crate) dealer: Option<PeerId>,
    pub(crate) network: Network,
    pub(crate) registry: Registry,
    pub(crate) pools: Arc<Pools>,
    pub(crate) source: Source,
    /// Own seeds of weight masks, where no dealer draws them.
    pub(crate) own_masks: Option<MaskStore>,
    /// Held while a batch is made together.
    pub(crate) workshop: tokio::sync::Mutex<Workshop>,
    /// Held by party Zero from asking for a batch that both make until it is made. Both workshops then see the
    /// batches of all tasks in the same order, and neither waits for the other.
    pub(crate) making: tokio::sync::Mutex<()>,
    pub(crate) traffic: Traffic,
    /// Makes batches. Questions wait for them when a pool is dry.
    pub(crate) background: Background,
    /// Lays bundles out ahead of questions, which do it themselves where it is not done.
    pub(crate) ahead: Arc<Background>,
    pub(crate) progress: HashMap<String, Progress>,
    pub(crate) ledger: LedgerHandle,
    /// Name of the consortium, which owners' statements carry.
    pub(crate) consortium: String,
    pub(crate) tasks: HashMap<String, Arc<TaskTerms>>,
    pub(crate) roster_digest: [u8; 32],
    pub(crate) limits: ComputeLimits,
    pub(crate) allowance: Allowance,
    /// Questions of clients that are not answered yet.
    pub(crate) reception: Reception,
    pub(crate) epochs: Mutex<HashMap<String, Arc<Epoch>>>,
    /// Held while a task's epoch begins or its models change, so that one happens at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Held by party Zero from reading its ledger's head until it has party One's in return.
    pub(crate) showing_heads: tokio::sync::Mutex<()>,
    pub(crate) idle: Mutex<Vec<Channel>>,
    pub(crate) waiting: waiting::WaitingRoom,
    /// The module that draws noise, where a task takes it from there.
    pub(crate) module: Option<Arc<Module>>,
    /// Its noise for each task with a noisy release.
    pub(crate) noise: HashMap<String, Stock>,
    /// Held by party Zero from ordering a batch of noise until both parties hold it.
    pub(crate) drawing: tokio::sync::Mutex<()>,
    pub(crate) desks: HashMap<String, waiting::Desk>,
    pub(crate) spare: tokio::sync::Notify,
    pub(crate) refill_fault: Mutex<Option<String>>,
    pub(crate) tally: Arc<Tally>,
    /// What was said of refusals, by member and reason: a member must not fill the log.
    pub(crate) said: SeldomOf<(String, Obstacle)>,
}

impl Compute {
    /// The task of this name, if this pair serves it.
    pub(crate) fn task(&self, name: &str) -> Result<Arc<TaskTerms>, Refusal> {
        let unknown = || Refusal::new(Obstacle::Task, format!("this pair serves no task {name:?}"));
        self.tasks.get(name).cloned().ok_or_else(unknown)
    }

    /// The epoch of a task that is in force, if any.
    pub fn epoch(&self, task: &str) -> Option<Arc<Epoch>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Ends an epoch. What is left of its pool stays on the disk.
    pub(crate) fn end_epoch(&self, task: &str) {
        if let Some(epoch) = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).remove(task) {
            epoch.end();
        }
    }

    pub(crate) fn put_epoch(&self, epoch: Arc<Epoch>) {
        let task = epoch.terms().name().to_owned();
        let old = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).insert(task, epoch);
        if let Some(old) = old {
            old.end();
        }
    }

    /// Why the last refill failed, if it did.
    pub fn refill_fault(&self) -> Option<String> {
        self.refill_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the refilling of a task's pool goes.
    pub(crate) fn refilling(&self, task: &str) -> Seen {
        self.progress.get(task).map(Progress::seen).unwrap_or_default()
    }

    /// This seat.
    pub fn seat(&self) -> Party {
        self.seat
    }

    /// The tasks that this pair serves.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<TaskTerms>> {
        self.tasks.values()
    }

    /// Owners of a task whose models are ready to vote.
    pub fn ready_owners(&self, task: &str) -> usize {
        let models = self.tasks.get(task).map(|terms| models::ready(&self.registry, terms));
        models.and_then(Result::ok).map_or(0, |models| models.len())
    }

    /// Computations of a task since the start, and the most questions that shared one.
    pub fn shared_computations(&self, task: &str) -> (u64, u64) {
        let tally = self.desks.get(task).map(waiting::Desk::tally).unwrap_or_default();
        (tally.computations, tally.together_most)
    }

    /// The ledger.
    pub fn ledger(&self) -> &LedgerHandle {
        &self.ledger
    }
}

pub(crate) fn peer_failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("the other compute party: {error}"))
}

pub(crate) fn local_failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Local, error)
}
