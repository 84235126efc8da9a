//! One running node: its network, its seats, its dealer, its owner and client sides.

mod deal;
mod error;
mod loops;
mod module;
mod pairs;
mod readiness;
mod roster;
mod serve;

use crate::client::Client;
use crate::compute::{Allowance, Background, Compute, ComputeLimits, Progress, Source, Traffic, Yielding};
use crate::consortium::{self, Council};
use crate::dealer::Dealer;
use crate::encrypted::Encrypted;
use crate::laboratory::Laboratory;
use crate::ledger::{Ledger, LedgerHandle, LedgerThread};
use crate::message::{Obstacle, Refusal};
use crate::net::{self, Address, ChannelError, Identity, Incoming, Limits, Network, PeerId, SeldomOf};
use crate::owner::Owner;
use crate::pool::Pools;
use crate::pulse::{Probe, pulse};
use crate::registry::{MaskStore, Registry};
use crate::tally::Tally;
use crate::task::TaskTerms;
use crate::vault::{StorageKey, credential, private_directory, sweep_unfinished};
use consilium_config::Node as NodeConfig;
use consilium_config::{Member, Pair, Roster};
use consilium_protocol::party::Party;
pub use error::NodeError;
use futures::future::join_all;
use loops::Loops;
use std::collections::HashMap;
use std::mem::Discriminant;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Questions that may wait at party One.
const WAITING_MAX: usize = 256;
/// Credentials that take the place of key files.
const IDENTITY: &str = "consilium.identity";
const STORAGE: &str = "consilium.storage";
/// Requests that may wait for a ledger.
const LEDGER_QUEUE_MAX: usize = 256;

/// A running node. [`Node::stop`] ends it in order.
pub struct Node {
    shared: Arc<Shared>,
    running: Loops,
    ledgers: Vec<LedgerThread>,
    probes: Vec<Probe>,
}

/// What the node's parts and its administrator see.
pub struct Shared {
    pub(crate) me: Member,
    pub(crate) roster: Roster,
    /// What keeps the roster, where it is signed.
    pub(crate) council: Option<Arc<Council>>,
    pub(crate) network: Network,
    pub(crate) tasks: HashMap<String, Arc<TaskTerms>>,
    pub(crate) seats: Vec<(String, Arc<Compute>)>,
    pub(crate) dealer: Option<Arc<Dealer>>,
    /// Where the module is that this node carries bytes to, if the roster has it do so.
    pub(crate) hosted: Option<module::Hosted>,
    pub(crate) owner: Owner,
    pub(crate) client: Client,
    pub(crate) encrypted: Encrypted,
    pub(crate) laboratory: Arc<Laboratory>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) tally: Arc<Tally>,
    faults: Mutex<u64>,
    /// What was said of channels that members misused.
    misused: SeldomOf<(String, Discriminant<ChannelError>)>,
}

impl Node {
    /// Starts everything that the roster asks of this node.
    ///
    /// # Errors
    /// [`NodeError`] says what to change.
    pub async fn start(config: &NodeConfig) -> Result<Self, NodeError> {
        let state = &config.place().state;
        private_directory(state)?;
        let identity = Arc::new(match credential(IDENTITY) {
            Some(path) => Identity::load(&path)?,
            None => Identity::load_or_create(&config.place().identity)?,
        });
        let (roster, council) = consortium::open(config, &identity)?;
        let me = own_member(config, &roster, identity.peer_id())?;
        let key = Arc::new(match credential(STORAGE) {
            Some(path) => StorageKey::load(&path)?,
            None => StorageKey::load_or_create(&state.join("storage.key"))?,
        });
        let mut tasks = HashMap::new();
        for task in roster.tasks() {
            tasks.insert(task.name.to_string(), Arc::new(TaskTerms::new(task)?));
        }
        let tally = Arc::new(Tally::new(task_names(&roster)));
        let (network, incoming) = start_network(config, &roster, &identity)?;
        let hosted = module::Hosted::new(config, &roster, &me)?;
        let mut ledgers = Vec::new();
        let mut seats = Vec::new();
        for pair in roster.pairs() {
            if let Some(seat) = seat_in(pair, &me) {
                let (mut compute, ledger) =
                    seat_of(config, &roster, (pair, seat), (&network, &identity), &key, &tasks)?;
                compute.tally = tally.clone();
                compute.sweep_pools().await?;
                ledgers.push(ledger);
                seats.push((pair.name.to_string(), Arc::new(compute)));
                if let [(first, _), (second, _), ..] = seats.as_slice() {
                    return Err(NodeError::Seats(first.clone(), second.clone()));
                }
            }
        }
        let dealer = dealer_of(&roster, &me, state, &key)?;
        let deadline = config.network().query_deadline;
        let mine = (&roster, me.name.as_str());
        let encrypted = Encrypted::open(state, mine, (network.clone(), deadline), &key, &tally)?;
        let laboratory = Arc::new(Laboratory::open(state, mine, (network.clone(), deadline))?);
        let name = me.name.to_string();
        let owner = Owner::new(name, network.clone(), deadline * 4, state.join("published.json"));
        let client =
            Client::new(network.clone(), identity.clone(), deadline + config.network().round_deadline)
                .counting(tally.clone());
        let shared = Arc::new(Shared {
            me,
            roster,
            council,
            network,
            tasks,
            seats,
            dealer,
            hosted,
            owner,
            client,
            encrypted,
            laboratory,
            identity,
            tally,
            faults: Mutex::new(0),
            misused: SeldomOf::default(),
        });
        let (running, probes) = start_loops(&shared, incoming);
        tracing::info!(kind = "up", member = %shared.me.name, id = %shared.network.peer_id(), "the node is up");
        Ok(Self { shared, running, ledgers, probes })
    }

    /// What the administrator sees.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whom to ask whether the node's loops turn.
    pub fn probes(&self) -> Vec<Probe> {
        self.probes.clone()
    }

    /// Returns when a loop of the node has failed, with its name; the node does not serve fully any more. May be
    /// dropped.
    pub async fn failed(&mut self) -> String {
        self.running.failed().await
    }

    /// Refuses further questions, and returns when those in progress have their answers. May be dropped.
    pub async fn drain(&self) {
        let seats = join_all(self.shared.seats.iter().map(|(_, compute)| compute.reception.close()));
        let laboratory = self.shared.laboratory.reception.close();
        tokio::join!(seats, self.shared.client.close(), self.shared.encrypted.close(), laboratory);
    }

    /// Stops serving, closes the network and the stores. Queries in progress fail on the other side.
    pub async fn stop(self) {
        self.running.stop().await;
        for (_, compute) in &self.shared.seats {
            for task in compute.tasks() {
                compute.end_epoch(task.name());
            }
        }
        self.shared.network.shutdown().await;
        for ledger in self.ledgers {
            ledger.stop();
        }
        tracing::info!(kind = "stopped", "the node has stopped");
    }
}

impl Shared {
    /// The task of this name.
    pub(crate) fn task(&self, name: &str) -> Result<Arc<TaskTerms>, Refusal> {
        let known: Vec<&str> = self.tasks.keys().map(String::as_str).collect();
        let unknown = || {
            let text = match self.roster.homomorphic_task(name) {
                Some(task) => format!(
                    "task {name} is homomorphic: {} computes on encrypted inputs, and there is no pair and no ledger",
                    task.owner
                ),
                None if self.roster.encodings_task(name).is_some() => format!(
                    "task {name} is of encodings, of which nothing is computed; `consilium lab send` sends them"
                ),
                None => format!("no task {name:?} in the roster; it has {}", known.join(", ")),
            };
            Refusal::new(Obstacle::Task, text)
        };
        self.tasks.get(name).cloned().ok_or_else(unknown)
    }

    /// Addresses that the network listens on.
    pub fn listening(&self) -> Vec<Address> {
        self.network.listening()
    }

    /// Waits until every listening address is there. May be dropped.
    ///
    /// # Errors
    /// The network has stopped.
    pub async fn wait_listening(&self) -> Result<(), net::NetError> {
        self.network.wait_listening().await.map(drop)
    }

    /// Channels that ended in an error since the start.
    pub fn faults(&self) -> u64 {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts what runs until the node stops, and whom to ask whether it does.
fn start_loops(shared: &Arc<Shared>, incoming: Incoming) -> (Loops, Vec<Probe>) {
    let mut running = Loops::default();
    let (probe, pulse) = pulse("incoming channels");
    let mut probes = vec![shared.network.probe(), probe];
    running.spawn("incoming channels", serve::accept(shared.clone(), incoming, pulse));
    if let Some(council) = &shared.council {
        running.spawn("roster", consortium::keep(council.clone(), shared.network.clone()));
    }
    for (pair, compute) in &shared.seats {
        probes.push(compute.ledger().probe());
        running.spawn(format!("watch over pair {pair}"), compute.clone().watch());
        running.spawn(format!("watch over the module of pair {pair}"), compute.clone().watch_module());
        if compute.seat() == Party::Zero {
            for task in compute.tasks().map(|task| task.name().to_owned()) {
                running.spawn(format!("pool of {task}"), compute.clone().keep(task.clone()));
                running.spawn(format!("questions of {task}"), compute.clone().lead(task.clone()));
                running.spawn(format!("noise of {task}"), compute.clone().keep_noise(task));
            }
        }
    }
    (running, probes)
}

/// Checks a roster for this node as a start would, without starting anything. The node is looked for in it where
/// its peer id is known.
///
/// # Errors
/// What a start would say.
pub fn check(config: &NodeConfig, roster: &Roster, peer: Option<PeerId>) -> Result<(), NodeError> {
    for member in roster.members() {
        peer_of(member)?;
        addresses_of(member)?;
    }
    for task in roster.tasks() {
        pairs::check(task)?;
    }
    let Some(peer) = peer else { return Ok(()) };
    let me = own_member(config, roster, peer)?;
    let seats: Vec<&Pair> = roster.pairs().iter().filter(|pair| seat_in(pair, &me).is_some()).collect();
    if let [first, second, ..] = seats.as_slice() {
        return Err(NodeError::Seats(first.name.to_string(), second.name.to_string()));
    }
    Ok(())
}

/// The names of all tasks, of any kind.
fn task_names(roster: &Roster) -> impl Iterator<Item = String> {
    let encrypted = roster.homomorphic_tasks().iter().map(|task| &task.name);
    roster.tasks().iter().map(|task| &task.name).chain(encrypted).map(ToString::to_string)
}

fn own_member(config: &NodeConfig, roster: &Roster, peer: PeerId) -> Result<Member, NodeError> {
    let place = config.place();
    let signed = || format!("in {}", place.state.join("consortium").display());
    let file = if place.unsigned_roster { place.roster.display().to_string() } else { signed() };
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

fn address(member: &str, text: &str) -> Result<Address, NodeError> {
    text.parse::<Address>()
        .map_err(|error| NodeError::Member { member: member.to_owned(), explanation: error.to_string() })
}

fn addresses_of(member: &Member) -> Result<Vec<Address>, NodeError> {
    // Its relays are found by themselves.
    let listed = member.addresses.iter().filter(|address| !address.is_relayed());
    listed.map(|text| address(member.name.as_str(), text.as_str())).collect()
}

fn start_network(
    config: &NodeConfig,
    roster: &Roster,
    identity: &Arc<Identity>,
) -> Result<(Network, Incoming), NodeError> {
    let settings = config.network();
    let mut members = Vec::new();
    for member in roster.members() {
        members.push(net::Member { peer: peer_of(member)?, addresses: addresses_of(member)? });
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
        reach: net::Reach { behind_nat: settings.behind_nat, relay: settings.relay, mdns: settings.mdns },
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
    let registry = open_registry(&models, key)?;
    let (pools, fault) = Pools::open(&folder.join("pools"), key.clone())?;
    if let Some(fault) = fault {
        tracing::error!("{fault}");
    }
    let served = pairs::served(tasks, pair)?;
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
        allowance: Allowance::new(config.pools()),
        reception: Default::default(),
        epochs: Mutex::default(),
        changing: tokio::sync::Mutex::new(()),
        showing_heads: tokio::sync::Mutex::new(()),
        idle: Mutex::default(),
        waiting: Default::default(),
        spare: tokio::sync::Notify::new(),
        refill_fault: Mutex::default(),
        tally: Arc::default(),
        said: Default::default(),
    };
    Ok((compute, thread))
}

fn open_registry(models: &std::path::Path, key: &Arc<StorageKey>) -> Result<Registry, NodeError> {
    // A start that was killed may have left the folder without its database.
    if models.exists() && !is_empty(models)? {
        return Ok(Registry::open(models, key.clone())?);
    }
    Ok(Registry::create(models, key.clone())?)
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
        prepared_max: limits.prepared_max as usize,
        transfers: limits.transfers,
        waiting_max: WAITING_MAX,
        frame_bytes_max: settings.frame_bytes_max as usize,
    }
}

/// What deals to pairs, where the roster has this member do that.
fn dealer_of(
    roster: &Roster,
    me: &Member,
    state: &std::path::Path,
    key: &Arc<StorageKey>,
) -> Result<Option<Arc<Dealer>>, NodeError> {
    if !roster.pairs().iter().any(|pair| pair.dealer.as_ref() == Some(&me.name)) {
        return Ok(None);
    }
    Ok(Some(Arc::new(Dealer::new(open_masks(&state.join("masks.redb"), key.clone())?)?)))
}

fn open_masks(path: &std::path::Path, key: Arc<StorageKey>) -> Result<MaskStore, NodeError> {
    Ok(if path.exists() { MaskStore::open(path, key)? } else { MaskStore::create(path, key)? })
}

/// Whether nothing is left in a folder when unfinished files are gone.
fn is_empty(folder: &std::path::Path) -> Result<bool, NodeError> {
    sweep_unfinished(folder)?;
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()))
}

impl Shared {
    fn first_seat(&self) -> Option<Arc<Compute>> {
        self.seats.first().map(|(_, compute)| compute.clone())
    }
}

/// How long an administrator's request may take beside the deadlines of the network.
pub const ADMIN_WITHIN: Duration = Duration::from_secs(600);
