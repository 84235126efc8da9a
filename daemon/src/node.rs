//! One running node: its network, its seats, its dealer, its owner and client sides.

mod deal;
mod module;

use crate::client::Client;
use crate::compute::{Background, Compute, ComputeLimits, Progress, Source, Traffic, Yielding};
use crate::dealer::Dealer;
use crate::ledger::{Ledger, LedgerHandle, LedgerThread};
use crate::message::{Obstacle, Refusal};
use crate::net::{self, Address, Channel, Identity, Incoming, Limits, Network, PeerId, Role};
use crate::noise::JournalError;
use crate::owner::{Owner, PairPeers};
use crate::pool::Pools;
use crate::registry::{MaskStore, Registry};
use crate::task::{TaskError, TaskTerms};
use crate::vault::{StorageKey, private_directory, sweep_unfinished};
use consilium_config::Node as NodeConfig;
use consilium_config::{Member, Pair, Roster};
use consilium_protocol::party::Party;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Questions that may wait at party One.
const WAITING_MAX: usize = 256;
/// Requests that may wait for a ledger.
const LEDGER_QUEUE_MAX: usize = 256;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// This machine's key is not in the roster.
    #[error(
        "the roster {roster} has no member with this node's peer id {peer}; add it there, or check node.identity"
    )]
    NotAMember {
        /// The roster's file.
        roster: String,
        /// This node's peer id.
        peer: PeerId,
    },
    /// The roster names this node otherwise.
    #[error("this node is called {found} in its configuration and {expected} in the roster; use one name")]
    Name {
        /// The roster's name.
        expected: String,
        /// The configuration's name.
        found: String,
    },
    /// A peer id or address of the roster is not valid.
    #[error("member {member} of the roster: {explanation}")]
    Member {
        /// Its name.
        member: String,
        /// What is wrong.
        explanation: String,
    },
    /// Two seats on one node.
    #[error(
        "this node sits in pairs {0} and {1}; run one node for each seat, with its own key and state folder"
    )]
    Seats(String, String),
    /// The roster has this node carry bytes to the module, and it does not know where the module is.
    #[error(
        "the roster names this node as the host of the noise module; write `socket = \"unix:/run/consilium-enclave/\
         socket\"` under `[module]` in the node file, and start `consilium-enclave` there"
    )]
    ModuleSocket,
    /// The roster names a host of the module who is no member.
    #[error("the roster names {0} as the host of the noise module, who is no member")]
    Host(String),
    /// The record of the module's draws.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A pair names somebody who is no member.
    #[error("pair {0} names somebody who is no member of the roster")]
    Pair(String),
    /// A configuration file.
    #[error(transparent)]
    Config(#[from] consilium_config::ConfigError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The network.
    #[error(transparent)]
    Network(#[from] Box<net::NetError>),
    /// This node's key.
    #[error(transparent)]
    Identity(#[from] net::IdentityError),
    /// Files.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// The pools of correlated randomness.
    #[error(transparent)]
    Pools(#[from] crate::pool::PoolError),
    /// The dealer, or a seat, cannot begin.
    #[error(transparent)]
    Dealer(#[from] Refusal),
}

/// A running node. [`Node::stop`] ends it in order.
pub struct Node {
    shared: Arc<Shared>,
    running: JoinSet<()>,
    ledgers: Vec<LedgerThread>,
}

/// What the node's parts and its administrator see.
pub struct Shared {
    pub(crate) me: Member,
    pub(crate) roster: Roster,
    pub(crate) network: Network,
    pub(crate) tasks: HashMap<String, Arc<TaskTerms>>,
    pub(crate) seats: Vec<(String, Arc<Compute>)>,
    pub(crate) dealer: Option<Arc<Dealer>>,
    /// Where the module is that this node carries bytes to, if the roster has it do so.
    pub(crate) hosted: Option<module::Hosted>,
    pub(crate) owner: Owner,
    pub(crate) client: Client,
    pub(crate) identity: Arc<Identity>,
    faults: Mutex<u64>,
}

impl Node {
    /// Starts everything that the roster asks of this node.
    ///
    /// # Errors
    /// [`NodeError`] says what to change.
    pub async fn start(config: &NodeConfig) -> Result<Self, NodeError> {
        let state = &config.place().state;
        private_directory(state)?;
        let identity = Arc::new(Identity::load_or_create(&config.place().identity)?);
        let roster = Roster::load(&config.place().roster)?;
        let me = own_member(config, &roster, identity.peer_id())?;
        let key = Arc::new(StorageKey::load_or_create(&state.join("storage.key"))?);
        let mut tasks = HashMap::new();
        for task in roster.tasks() {
            tasks.insert(task.name.to_string(), Arc::new(TaskTerms::new(task)?));
        }
        let (network, incoming) = start_network(config, &roster, &identity)?;
        let hosted = module::Hosted::new(config, &roster, &me)?;
        let mut ledgers = Vec::new();
        let mut seats = Vec::new();
        for pair in roster.pairs() {
            if let Some(seat) = seat_in(pair, &me) {
                let (compute, ledger) =
                    seat_of(config, &roster, (pair, seat), (&network, &identity), &key, &tasks)?;
                compute.sweep_pools().await?;
                ledgers.push(ledger);
                seats.push((pair.name.to_string(), Arc::new(compute)));
                if let [(first, _), (second, _), ..] = seats.as_slice() {
                    return Err(NodeError::Seats(first.clone(), second.clone()));
                }
            }
        }
        let deals = roster.pairs().iter().any(|pair| pair.dealer.as_ref() == Some(&me.name));
        let dealer = if deals {
            Some(Arc::new(Dealer::new(open_masks(&state.join("masks.redb"), key)?)?))
        } else {
            None
        };
        let deadline = config.network().query_deadline;
        let name = me.name.to_string();
        let owner = Owner::new(name, network.clone(), deadline * 4, state.join("published.json"));
        let client =
            Client::new(network.clone(), identity.clone(), deadline + config.network().round_deadline);
        let shared = Arc::new(Shared {
            me,
            roster,
            network,
            tasks,
            seats,
            dealer,
            hosted,
            owner,
            client,
            identity,
            faults: Mutex::new(0),
        });
        let mut running = JoinSet::new();
        running.spawn(accept(shared.clone(), incoming));
        for (_, compute) in &shared.seats {
            running.spawn(compute.clone().watch());
            running.spawn(compute.clone().watch_module());
            if compute.seat() == Party::Zero {
                for task in compute.tasks() {
                    running.spawn(compute.clone().keep(task.name().to_owned()));
                    running.spawn(compute.clone().lead(task.name().to_owned()));
                    running.spawn(compute.clone().keep_noise(task.name().to_owned()));
                }
            }
        }
        tracing::info!(member = %shared.me.name, peer = %shared.network.peer_id(), "the node is up");
        Ok(Self { shared, running, ledgers })
    }

    /// What the administrator sees.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops serving, closes the network and the stores. Queries in progress fail on the other side.
    pub async fn stop(mut self) {
        self.running.shutdown().await;
        for (_, compute) in &self.shared.seats {
            for task in compute.tasks() {
                compute.end_epoch(task.name());
            }
        }
        self.shared.network.shutdown().await;
        for ledger in self.ledgers {
            ledger.stop();
        }
        tracing::info!("the node has stopped");
    }
}

impl Shared {
    /// The task of this name.
    pub(crate) fn task(&self, name: &str) -> Result<Arc<TaskTerms>, Refusal> {
        let known: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
        let unknown = || {
            let text = format!("no task {name:?} in the roster; it has {}", known.join(", "));
            Refusal::new(Obstacle::Task, text)
        };
        self.tasks.get(name).cloned().ok_or_else(unknown)
    }

    /// The compute parties of a task.
    pub(crate) fn pair_of(&self, terms: &TaskTerms) -> Result<PairPeers, Refusal> {
        let seats = self.roster.seats_of(&terms.roster);
        let seats = seats.ok_or_else(|| Refusal::new(Obstacle::Task, "the roster lacks the task's pair"))?;
        let peer = |member: &Member| {
            member.peer.as_str().parse::<PeerId>().map_err(|error| Refusal::new(Obstacle::Task, error))
        };
        Ok([peer(seats.zero)?, peer(seats.one)?])
    }

    /// Addresses that the network listens on.
    pub fn listening(&self) -> Vec<Address> {
        self.network.listening()
    }

    /// Channels that ended in an error since the start.
    pub fn faults(&self) -> u64 {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_fault(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

fn own_member(config: &NodeConfig, roster: &Roster, peer: PeerId) -> Result<Member, NodeError> {
    let file = config.place().roster.display().to_string();
    let me = roster.member_by_peer(&peer.to_string()).ok_or(NodeError::NotAMember { roster: file, peer })?;
    if me.name != *config.name() {
        return Err(NodeError::Name { expected: me.name.to_string(), found: config.name().to_string() });
    }
    Ok(me.clone())
}

fn seat_in(pair: &Pair, me: &Member) -> Option<Party> {
    if pair.zero == me.name {
        Some(Party::Zero)
    } else if pair.one == me.name {
        Some(Party::One)
    } else {
        None
    }
}

fn peer_of(member: &Member) -> Result<PeerId, NodeError> {
    member.peer.as_str().parse().map_err(|error: net::PeerIdError| NodeError::Member {
        member: member.name.to_string(),
        explanation: error.to_string(),
    })
}

fn start_network(
    config: &NodeConfig,
    roster: &Roster,
    identity: &Arc<Identity>,
) -> Result<(Network, Incoming), NodeError> {
    let settings = config.network();
    let address = |member: &str, text: &str| {
        text.parse::<Address>()
            .map_err(|error| NodeError::Member { member: member.to_owned(), explanation: error.to_string() })
    };
    let mut members = Vec::new();
    for member in roster.members() {
        let peer = peer_of(member)?;
        if peer == identity.peer_id() {
            continue;
        }
        let addresses = member.addresses.iter().map(|text| address(member.name.as_str(), text.as_str()));
        members.push(net::Member { peer, addresses: addresses.collect::<Result<_, _>>()? });
    }
    let listen = settings.listen.iter().map(|text| address(config.name().as_str(), text.as_str()));
    let limits = Limits {
        connections_per_peer_max: settings.connections_per_peer_max,
        inbound_channels_per_peer_max: settings.streams_per_peer_max as usize,
        outbound_channels_per_peer_max: settings.streams_per_peer_max as usize,
        frame_bytes_max: settings.frame_bytes_max as usize,
        handshake_within: settings.dial_timeout,
        ..Limits::default()
    };
    let settings = net::Settings {
        identity: (**identity).clone(),
        listen: listen.collect::<Result<_, _>>()?,
        members,
        limits,
    };
    Network::start(settings).map_err(|error| Box::new(error).into())
}

fn seat_of(
    config: &NodeConfig,
    roster: &Roster,
    (pair, seat): (&Pair, Party),
    (network, identity): (&Network, &Arc<Identity>),
    key: &Arc<StorageKey>,
    tasks: &HashMap<String, Arc<TaskTerms>>,
) -> Result<(Compute, LedgerThread), NodeError> {
    let seats = roster.seats(pair).ok_or_else(|| NodeError::Pair(pair.name.to_string()))?;
    let other = if seat == Party::Zero { seats.one } else { seats.zero };
    let folder = config.place().state.join("pairs").join(pair.name.as_str());
    private_directory(&config.place().state.join("pairs"))?;
    private_directory(&folder)?;
    let (books, models) = (folder.join("ledger.redb"), folder.join("models"));
    // Models without a ledger are not a new seat: an empty ledger would give all budgets back.
    let new = !books.exists() && !models.exists();
    let ledger = if new { Ledger::create(&books, key.clone())? } else { Ledger::open(&books, key.clone())? };
    // A start that was killed may have left the folder without its database.
    let registry = if models.exists() && !is_empty(&models)? {
        Registry::open(&models, key.clone())?
    } else {
        Registry::create(&models, key.clone())?
    };
    let (pools, fault) = Pools::open(&folder.join("pools"), key.clone())?;
    if let Some(fault) = fault {
        tracing::error!("{fault}");
    }
    let served = tasks.iter().filter(|(_, terms)| terms.roster.pair == pair.name);
    let served: HashMap<_, _> = served.map(|(name, terms)| (name.clone(), terms.clone())).collect();
    open_books(&ledger, &served)?;
    let (ledger, thread) = LedgerHandle::start(ledger, LEDGER_QUEUE_MAX)?;
    let compute = Compute {
        seat,
        other: peer_of(other)?,
        other_name: other.name.to_string(),
        dealer: seats.dealer.map(peer_of).transpose()?,
        network: network.clone(),
        registry,
        pools: Arc::new(pools),
        source: if seats.dealer.is_some() { Source::Dealer } else { Source::Pairwise },
        own_masks: match seats.dealer {
            Some(_) => None,
            None => Some(open_masks(&folder.join("masks.redb"), key.clone())?),
        },
        workshop: tokio::sync::Mutex::default(),
        making: tokio::sync::Mutex::default(),
        traffic: Traffic::default(),
        background: Background::new(Yielding::Most)?,
        ahead: Arc::new(Background::new(Yielding::All)?),
        progress: served.keys().map(|name| (name.clone(), Progress::default())).collect(),
        ledger,
        consortium: roster.consortium().to_owned(),
        module: module::of_seat(config, roster, (network, identity), &served, &folder)?,
        noise: module::stocks(&served),
        drawing: tokio::sync::Mutex::default(),
        desks: served.keys().map(|name| (name.clone(), Default::default())).collect(),
        tasks: served,
        roster_digest: roster.digest().to_bytes(),
        limits: limits_of(config),
        epochs: Mutex::default(),
        changing: tokio::sync::Mutex::new(()),
        showing_heads: tokio::sync::Mutex::new(()),
        idle: Mutex::default(),
        waiting: Default::default(),
        spare: tokio::sync::Notify::new(),
        refill_fault: Mutex::default(),
    };
    Ok((compute, thread))
}

/// Opens the book of every task that has none yet.
fn open_books(ledger: &Ledger, served: &HashMap<String, Arc<TaskTerms>>) -> Result<(), NodeError> {
    let mut terms: Vec<_> = served.values().collect();
    terms.sort_by(|one, other| one.name().cmp(other.name()));
    for terms in terms {
        ledger.open_task(&terms.opening()?)?;
    }
    Ok(())
}

fn limits_of(config: &NodeConfig) -> ComputeLimits {
    let (settings, limits) = (config.network(), config.pools());
    ComputeLimits {
        round_deadline: settings.round_deadline,
        query_deadline: settings.query_deadline,
        refill_batch_queries: limits.refill_batch_queries,
        prepared_max: limits.prepared_max as usize,
        pool_bytes_max: limits.bytes_max,
        transfers: limits.transfers,
        waiting_max: WAITING_MAX,
        frame_bytes_max: settings.frame_bytes_max as usize,
    }
}

fn open_masks(path: &std::path::Path, key: Arc<StorageKey>) -> Result<MaskStore, NodeError> {
    Ok(if path.exists() { MaskStore::open(path, key)? } else { MaskStore::create(path, key)? })
}

/// Whether nothing is left in a folder when unfinished files are gone.
fn is_empty(folder: &std::path::Path) -> Result<bool, NodeError> {
    sweep_unfinished(folder)?;
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()))
}

/// Hands every incoming channel to the part that serves it. Ends with the network.
async fn accept(shared: Arc<Shared>, mut incoming: Incoming) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            arrival = incoming.next() => match arrival {
                Some((peer, role, channel)) => {
                    serving.spawn(serve(shared.clone(), peer, role, channel));
                }
                None => break,
            },
            Some(_) = serving.join_next() => {}
        }
    }
    serving.shutdown().await;
}

async fn serve(shared: Arc<Shared>, peer: PeerId, role: Role, channel: Channel) {
    let Some(member) = shared.roster.member_by_peer(&peer.to_string()) else { return };
    let name = member.name.to_string();
    let served = match role {
        Role::Query => match shared.first_seat() {
            Some(compute) => compute.serve_client(channel, name.clone()).await,
            None => return,
        },
        Role::Publish => match shared.first_seat() {
            Some(compute) => compute.serve_owner(channel, (name.clone(), peer)).await,
            None => return,
        },
        Role::Online | Role::Pair => match shared.seats.iter().find(|(_, compute)| compute.other == peer) {
            Some((_, compute)) if role == Role::Online => compute.clone().serve_online(channel).await,
            Some((_, compute)) => compute.clone().serve_pair(channel).await,
            None => return,
        },
        Role::Deal => deal::serve(&shared, member, channel).await,
        Role::Mask => match (&shared.dealer, shared.dealt_seat(member)) {
            (Some(dealer), Some((pair, seat))) => dealer.mask(channel, &pair, seat).await,
            _ => return,
        },
        Role::Module => match &shared.hosted {
            Some(hosted) if shared.draws_for(member) => hosted.carry(channel, peer).await,
            _ => return,
        },
        Role::Status => return,
    };
    if let Err(error) = served {
        shared.note_fault();
        tracing::debug!(member = name, role = role.name(), "a channel ended: {error}");
    }
}

impl Shared {
    /// Whether a member computes a task that takes noise from the module.
    fn draws_for(&self, member: &Member) -> bool {
        let takers = self.tasks.values().filter(|terms| terms.takes_module_noise());
        let mut pairs = takers.filter_map(|terms| self.roster.pair(terms.roster.pair.as_str()));
        pairs.any(|pair| seat_in(pair, member).is_some())
    }

    fn first_seat(&self) -> Option<Arc<Compute>> {
        self.seats.first().map(|(_, compute)| compute.clone())
    }
}

/// How long an administrator's request may take beside the deadlines of the network.
pub const ADMIN_WITHIN: Duration = Duration::from_secs(600);
