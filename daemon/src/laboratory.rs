//! Files of encodings between hospitals, for experiments with images that may be public.
//!
//! Encodings are broken as protection ([`crate::lab`]), so nothing is sent and nothing is taken unless the roster says
//! `lab = true` for the task; each side goes by its own roster. What comes is a file of [`crate::lab`] with the figure of
//! its attack, or it is not kept:
//!
//! ```text
//! laboratory/<task>/<sender>/<digest>.safetensors   what came, the newest few of each sender
//! laboratory/.spool/                                files on their way in and out; emptied at every start
//! ```

mod message;
mod spool;
mod store;
mod taker;

pub use store::Held;

use crate::lab::{Figure, LabError, check_encodings};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError, Network, PeerId, Role, SeldomOf};
use crate::reception::Reception;
use crate::transfer::{local, send_file};
use crate::vault::private_directory;
use consilium_config::{EncodingsTask, Roster};
use message::{REPLY_BYTES_MAX, Reply, Request};
use serde::{Deserialize, Serialize};
use spool::{Berth, FILES_MAX as FILES_AT_ONCE, Spool, Way};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, name_of};
use tokio::sync::Semaphore;

/// Longest file that moves; on one's own disk they may be longer.
const FILE_BYTES_MAX: u64 = (256 << 20) + (1 << 20);
/// Longest wait for a receiver that reads a file, beside the time for its bytes and those of others before it.
const KEPT_WITHIN: Duration = Duration::from_secs(60);
/// How fast any disk is read.
const READ_BYTES_PER_SECOND: u64 = 32 << 20;
/// What to do instead of sending encodings.
const INSTEAD: &str = "To gain from each other's data without showing it, ask the consortium, or compute in an attested \
                       enclave";

/// What a node does for tasks of encodings.
pub(crate) struct Laboratory {
    me: String,
    tasks: BTreeMap<String, EncodingsTask>,
    network: Network,
    deadline: Duration,
    spool: Arc<Spool>,
    store: Store,
    /// Who reads a file: one at a time, so that peers do not keep all cores and the disk busy.
    turn: Arc<Semaphore>,
    said: SeldomOf<(String, Obstacle)>,
    taken: SeldomOf<String>,
    pub(crate) reception: Reception,
}

/// A task of encodings as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaboratoryStatus {
    /// The task.
    pub task: String,
    /// Members that send and take, this one included.
    pub hospitals: Vec<String>,
    /// Whether the roster lets any encoding move.
    pub lab: bool,
    /// Files that came and are kept.
    pub files: usize,
}

/// A file that arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The task.
    pub task: String,
    /// Who keeps it.
    pub to: String,
    /// Under which name: the start of its SHA-256.
    pub name: String,
    /// Its encodings.
    pub images: usize,
    /// How many of them the attack finds, as the file says.
    pub attack: Figure,
}

impl Laboratory {
    /// Opens what the roster has this member do, and empties the spool.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn open(
        state: &Path,
        (roster, me): (&Roster, &str),
        (network, deadline): (Network, Duration),
    ) -> Result<Self, Refusal> {
        let tasks: BTreeMap<_, _> =
            roster.encodings_tasks_of(me).map(|task| (task.name.to_string(), task.clone())).collect();
        let folder = state.join("laboratory");
        if !tasks.is_empty() {
            private_directory(&folder).map_err(local)?;
        }
        let spool = Spool::open(&folder.join(".spool"), !tasks.is_empty()).map_err(local)?;
        Ok(Self {
            me: me.to_owned(),
            tasks,
            network,
            deadline,
            spool: Arc::new(spool),
            store: Store::new(&folder),
            turn: Arc::new(Semaphore::new(1)),
            said: SeldomOf::default(),
            taken: SeldomOf::default(),
            reception: Reception::default(),
        })
    }

    /// The state of all its tasks. Blocks on the disk.
    pub(crate) fn status(&self) -> Vec<LaboratoryStatus> {
        let of = |task: &EncodingsTask| LaboratoryStatus {
            task: task.name.to_string(),
            hospitals: task.hospitals.iter().map(ToString::to_string).collect(),
            lab: task.lab,
            files: task
                .hospitals
                .iter()
                .map(|sender| self.store.files(task.name.as_str(), sender.as_str()).len())
                .sum(),
        };
        self.tasks.values().map(of).collect()
    }

    /// What came and is kept. Blocks on the disk.
    pub(crate) fn received(&self) -> Vec<Held> {
        let senders = |task: &EncodingsTask| {
            let of = |sender: &str| self.store.held(task.name.as_str(), sender);
            task.hospitals.iter().flat_map(|sender| of(sender.as_str())).collect::<Vec<_>>()
        };
        self.tasks.values().flat_map(senders).collect()
    }

    /// Whether a file of so many bytes may go to a member: a place for it. `figure` is what the file says of its attack.
    ///
    /// # Errors
    /// [`Obstacle::Laboratory`] where the roster does not say `lab = true`, [`Obstacle::NotAllowed`] for who is no
    /// hospital, [`Obstacle::Task`], [`Obstacle::Request`], [`Obstacle::Busy`].
    pub(crate) fn admit(&self, task: &str, to: &str, bytes: u64, figure: &Figure) -> Result<Berth, Refusal> {
        let task = self.task(task)?;
        if !task.lab {
            let text = format!(
                "nothing is sent: encodings are broken as protection (of 150 digits the attack finds 95 %), and the roster \
                 does not say `lab = true` for task {}. {INSTEAD}. This file's {figure}; of few images a low figure \
                 shows nothing",
                task.name
            );
            return Err(Refusal::new(Obstacle::Laboratory, text));
        }
        if to == self.me {
            return Err(Refusal::new(Obstacle::Request, format!("{to} would send to itself")));
        }
        hospital(task, to)?;
        bounded(bytes)?;
        self.spool.enter(Way::Out, to)
    }

    /// Sends the file in a place, and returns when the receiver keeps it.
    ///
    /// # Errors
    /// [`Obstacle::Request`] for what is no file of encodings, what the receiver refuses, [`Obstacle::Peer`].
    pub(crate) async fn send(
        self: &Arc<Self>,
        (task, to, peer): (&str, &str, PeerId),
        berth: Arc<Berth>,
    ) -> Result<Sent, Refusal> {
        let _visit = self.reception.enter()?;
        let task = self.task(task)?;
        let file = self.read(&berth).await?;
        let opened = self.network.open(peer, Role::Laboratory, self.deadline).await;
        let mut channel = opened.map_err(|error| Refusal::new(Obstacle::Peer, error))?;
        let offer = Request::Offer {
            task: task.name.to_string(),
            task_digest: task.digest().to_bytes(),
            bytes: file.bytes,
        };
        channel.send_value_within(&offer, self.deadline).await.map_err(|error| gone(to, &error))?;
        match heard(&mut channel, to, self.deadline).await? {
            Reply::Take => {}
            other => return Err(nonsense(to, &other)),
        }
        send_file(&mut channel, &berth.path, file.bytes).await?;
        let before = 2 * FILES_AT_ONCE * FILE_BYTES_MAX;
        let within = KEPT_WITHIN + Duration::from_secs(before / READ_BYTES_PER_SECOND);
        let kept = match heard(&mut channel, to, within).await? {
            Reply::Kept { name } => name,
            other => return Err(nonsense(to, &other)),
        };
        drop(channel.close().await);
        if kept != file.name {
            let text = format!("{to} keeps {kept:?}, the file is {}; ask its administrator", file.name);
            return Err(Refusal::new(Obstacle::Peer, text));
        }
        tracing::info!(task = %task.name, peer = to, file = file.name, "sent encodings, which protect nothing");
        let (task, to) = (task.name.to_string(), to.to_owned());
        Ok(Sent { task, to, name: file.name, images: file.images, attack: file.figure })
    }

    /// Reads a spooled file as a whole, in its turn.
    async fn read(&self, berth: &Arc<Berth>) -> Result<ReadFile, Refusal> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| Refusal::stopping())?;
        let berth = berth.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // A reading goes on when nobody waits for it any more, and so does its turn.
            let _turn = turn;
            ReadFile::of(&berth.path)
        });
        reading.await.map_err(|error| Refusal::new(Obstacle::Local, error))?
    }

    fn task(&self, name: &str) -> Result<&EncodingsTask, Refusal> {
        let unknown = || {
            let text =
                format!("the roster has no task of encodings {name:?} in which {} is a hospital", self.me);
            Refusal::new(Obstacle::Task, text)
        };
        self.tasks.get(name).ok_or_else(unknown)
    }
}

/// A file whose checksum, kind, version and figure are as they must be.
struct ReadFile {
    name: String,
    bytes: u64,
    images: usize,
    figure: Figure,
}

impl ReadFile {
    fn of(path: &Path) -> Result<Self, Refusal> {
        let (images, figure) = check_encodings(path).map_err(|error| match error {
            LabError::Vault(error) => local(error),
            // Where it lies meanwhile is nobody's business.
            error => {
                let text = error.to_string().replace(&path.display().to_string(), "the file");
                Refusal::new(Obstacle::Request, text)
            }
        })?;
        let (name, bytes) = name_of(path).map_err(local)?;
        Ok(Self { name, bytes, images, figure })
    }
}

/// That a member is a hospital of a task.
fn hospital(task: &EncodingsTask, member: &str) -> Result<(), Refusal> {
    if task.has_hospital(member) {
        return Ok(());
    }
    let text = format!("the roster does not list {member} as a hospital of task {}", task.name);
    Err(Refusal::new(Obstacle::NotAllowed, text))
}

/// That a file is not too long.
fn bounded(bytes: u64) -> Result<(), Refusal> {
    if (1..=FILE_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    let text = format!(
        "a file of {bytes} bytes; one of encodings that moves has at most {FILE_BYTES_MAX}: encode fewer images at a time"
    );
    Err(Refusal::new(Obstacle::Request, text))
}

async fn heard(channel: &mut Channel, to: &str, within: Duration) -> Result<Reply, Refusal> {
    match channel.receive_value_within(REPLY_BYTES_MAX, within).await {
        Ok(Reply::Refused(refusal)) => Err(refusal),
        Ok(reply) => Ok(reply),
        Err(error) => Err(gone(to, &error)),
    }
}

fn gone(to: &str, error: &ChannelError) -> Refusal {
    let obstacle = match error {
        ChannelError::Deadline { .. } => Obstacle::Deadline,
        _ => Obstacle::Peer,
    };
    Refusal::new(obstacle, format!("{to} did not take the file: {error}; send it again"))
}

fn nonsense(to: &str, reply: &Reply) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("{to} answered {reply:?}, which makes no sense here"))
}

/// Tells a member why its file is not even looked at.
///
/// # Errors
/// The channel failed.
pub(crate) async fn refuse(channel: &mut Channel, refusal: Refusal) -> Result<(), ChannelError> {
    channel.send_value(&Reply::Refused(refusal)).await
}
