//! Homomorphic tasks over the network: one owner, its clients, and nobody between them.
//!
//! The network carries the very files of [`crate::homomorphic`], each checked by its checksum, its kind and its plan. An
//! owner keeps its model, its plans, evaluation keys and counts below its state, a client its secrets:
//!
//! ```text
//! homomorphic/counts.redb      inputs answered, by task and client; nothing lowers a count
//! homomorphic/models/          what is published
//! homomorphic/keys/<client>/   evaluation keys, as many as the quota allows
//! homomorphic/spool/           queries on their way; emptied at every start
//! homomorphic/secrets/<task>/  a client's secret and keys for each mode
//! homomorphic/asked/           a client's queries on their way; emptied at every start
//! ```

mod books;
mod client;
mod keyring;
mod message;
mod owner;
mod shelf;
mod spool;

pub use client::{Opened, OpenedTerms, Unanswered};
pub use shelf::{PlanEntry, Planned, ToPublish};

pub(crate) use client::Asker;
pub(crate) use owner::Owner;

use crate::message::Refusal;
use crate::net::{Channel, ChannelError, Network};
use crate::tally::{Side, Tally};
use crate::transfer;
use crate::vault::{StorageKey, private_directory};
use consilium_config::{HomomorphicTask, Roster};
use serde::{Deserialize, Serialize};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a node does for homomorphic tasks.
#[derive(Clone)]
pub(crate) struct Encrypted {
    /// Where it has the model of one.
    pub(crate) owner: Option<Arc<Owner>>,
    /// Where it may ask.
    pub(crate) asker: Option<Arc<Asker>>,
    tasks: Arc<[HomomorphicTask]>,
    tally: Arc<Tally>,
}

/// A homomorphic task as its owner or a client sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptedStatus {
    /// The task.
    pub task: String,
    /// Who computes.
    pub owner: String,
    /// Inputs that each client may have answered, ever.
    pub inputs_per_client_max: u64,
    /// What is in force; only the owner knows without asking.
    pub published: Option<Planned>,
    /// Inputs counted, by client; at the owner only.
    pub clients: Vec<ClientCount>,
    /// Queries of all tasks that are here now; at the owner only.
    pub queries: usize,
    /// Queries answered since the start: to clients at the owner, to this node at a client.
    pub answered: u64,
    /// Queries refused since the start.
    pub refused: u64,
}

/// What is counted for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCount {
    /// The client.
    pub client: String,
    /// Inputs counted.
    pub counted: u64,
    /// Inputs left.
    pub left: u64,
}

impl Encrypted {
    /// Opens what the roster has this member do.
    ///
    /// # Errors
    /// A file is damaged or cannot be had, or the counts of an owner are gone.
    pub(crate) fn open(
        state: &Path,
        (roster, me): (&Roster, &str),
        (network, deadline): (Network, Duration),
        key: &Arc<StorageKey>,
        tally: &Arc<Tally>,
    ) -> Result<Self, Refusal> {
        let tasks: Vec<HomomorphicTask> = roster.homomorphic_tasks_of(me).cloned().collect();
        let (owned, asked): (Vec<_>, Vec<_>) =
            tasks.iter().cloned().partition(|task| task.owner.as_str() == me);
        let (folder, threads) = (state.join("homomorphic"), threads());
        if !tasks.is_empty() {
            private_directory(&folder).map_err(transfer::local)?;
        }
        client::sweep_secrets(&folder, &asked).map_err(transfer::local)?;
        let (owner, asker) = (!owned.is_empty(), !asked.is_empty());
        let owner =
            owner.then(|| Owner::open(&folder, owned, key.clone(), threads, tally.clone())).transpose()?;
        let asker = asker.then(|| Asker::open(&folder, &asked, (network, deadline), threads, tally.clone()));
        let asker = asker.transpose().map_err(transfer::local)?;
        Ok(Self {
            owner: owner.map(Arc::new),
            asker: asker.map(Arc::new),
            tasks: tasks.into(),
            tally: tally.clone(),
        })
    }

    /// Lets nobody begin, and returns when what was begun is over. May be dropped.
    pub(crate) async fn close(&self) {
        let owner = async {
            if let Some(owner) = &self.owner {
                owner.reception.close().await;
            }
        };
        let asker = async {
            if let Some(asker) = &self.asker {
                asker.reception.close().await;
            }
        };
        tokio::join!(owner, asker);
    }

    /// The state of all its tasks. Blocks on the disk.
    pub(crate) fn status(&self) -> Vec<EncryptedStatus> {
        let of = |task: &HomomorphicTask| {
            let name = task.name.as_str();
            let owner = self.owner.as_ref().filter(|owner| owner.owns(name));
            let side = if owner.is_some() { Side::Owner } else { Side::Client };
            let counts = self.tally.counts(side, name);
            let clients = owner.and_then(|owner| owner.counts(task).ok()).unwrap_or_default();
            let count = |(client, counted, left)| ClientCount { client, counted, left };
            EncryptedStatus {
                task: name.to_owned(),
                owner: task.owner.to_string(),
                inputs_per_client_max: task.inputs_per_client_max,
                published: owner
                    .and_then(|owner| owner.published().into_iter().find(|entry| entry.task == name)),
                clients: clients.into_iter().map(count).collect(),
                queries: owner.map_or(0, |owner| owner.queries()),
                answered: counts.answered,
                refused: counts.refused,
            }
        };
        self.tasks.iter().map(of).collect()
    }
}

/// Tells a member why its question is not even looked at.
///
/// # Errors
/// The channel failed.
pub(crate) async fn refuse(channel: &mut Channel, refusal: Refusal) -> Result<(), ChannelError> {
    channel.send_value(&message::Reply::Refused(refusal)).await
}

/// Half of the cores: the other half is for everything else that a node does.
fn threads() -> NonZero<usize> {
    let all = std::thread::available_parallelism().map_or(1, NonZero::get);
    NonZero::new(all / 2).unwrap_or(NonZero::<usize>::MIN)
}
