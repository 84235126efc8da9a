//! Authenticated channels between the members of one closed roster.
//!
//! This module alone names libp2p. A node listens on TCP, encrypts and authenticates every connection by Noise,
//! and multiplexes it by Yamux; it keeps one connection to each member and redials a lost one. A member that nobody
//! can dial, such as one behind a NAT, takes places at members that relay, and says so at those whom others reach;
//! whoever is dialled by such word must prove its key as anybody else. On a connection
//! lie [`Channel`]s, one for each [`Role`] and session, long-lived: opening one costs a round trip, a message on
//! it costs half of one.
//!
//! ```text
//! Settings ─▶ Network::start ─┬─▶ Network   open(peer, role) ─▶ Channel    connected(peer) ─▶ Presence
//!                             └─▶ Incoming  next() ─▶ (peer, role, Channel)
//! ```
//!
//! The swarm's tasks run in the runtime that called [`Network::start`]. That is the fastest place for rounds: a
//! message that arrives wakes its reader on the same worker. It asks for one thing in return: arithmetic longer
//! than a few hundred microseconds belongs on other threads.
//!
//! Names in this module say *peer* for a member as seen from here.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::pulse::{Probe, pulse};

mod address;
mod admission;
mod anteroom;
mod behaviour;
mod channel;
pub mod codec;
mod dial;
mod error;
mod frame;
mod gatehouse;
mod identity;
mod limits;
mod measure;
mod members;
mod presence;
mod rendezvous;
mod role;
mod seldom;
mod service;
mod stream;
mod tether;
mod transport;

pub use address::{Address, AddressError, PeerId, PeerIdError};
pub use channel::Channel;
pub use error::NetError;
pub use frame::{ChannelError, ChannelReceiver, ChannelSender, PREFIX_BYTES};
pub use identity::{Identity, IdentityError};
pub use limits::Limits;
pub use presence::{DialFault, PeerState, Presence};
pub use role::Role;
pub(crate) use seldom::{Seldom, SeldomOf};

use admission::{Arrival, Gates, Queues};
use dial::Dials;
use presence::Board;
use service::{Command, Meetings, Places, Refusals, RelayView, Service};
use stream::{OpenFault, Streams};

/// Commands on their way to the swarm; senders wait when it is full.
const COMMAND_QUEUE: usize = 64;
/// Calls of members that ask where others are, on their way to the swarm's task; more are refused.
const MEET_QUEUE: usize = 64;
/// After a stream was lost with its connection, how long to wait for news of the connection before trying anew.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Somebody we talk to.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name, which it proves in every handshake.
    pub peer: PeerId,
    /// Where it answers; may be empty for a member that dials us.
    pub addresses: Vec<Address>,
}

/// How a node and those whom nobody can dial find each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Nobody can dial us: take places at members that relay, and be dialled through them.
    pub behind_nat: bool,
    /// Relay for members: give them places and carry their connections, within [`Limits`].
    pub relay: bool,
    /// Look for members on the local network by multicast DNS, and be found by it.
    pub mdns: bool,
}

/// What a node needs in order to take part.
#[derive(Debug)]
pub struct Settings {
    /// Our own key.
    pub identity: Identity,
    /// IP addresses to listen on; port 0 takes any free port. May be empty for a node that only dials.
    pub listen: Vec<Address>,
    /// Everybody whom we dial and who may connect. Our own entry, if there is one, says where others dial us.
    pub members: Vec<Member>,
    /// How those find each other whom nobody can dial.
    pub reach: Reach,
    /// Bounds and clocks.
    pub limits: Limits,
}

/// The handle of a running network; clones share it. The network stops when the last one is dropped.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    peer_id: PeerId,
    peers: HashMap<PeerId, Peer>,
    gates: Gates,
    limits: Limits,
    commands: mpsc::Sender<Command>,
    /// Weak, so that the queue of arrivals ends with the network.
    arrivals: mpsc::WeakSender<Arrival>,
    listening: watch::Receiver<BTreeSet<Address>>,
    listeners: usize,
    strangers: Arc<AtomicU64>,
    relays: RelayView,
    stop: watch::Sender<bool>,
    task: Shared<BoxFuture<'static, ()>>,
    probe: Probe,
}

struct Peer {
    presence: Presence,
    places: Arc<Semaphore>,
}

/// Channels that peers open towards us; once dropped, every further one is refused.
#[derive(Debug)]
pub struct Incoming {
    queue: mpsc::Receiver<Arrival>,
}

impl Incoming {
    /// The next channel that a member opened; `None` once the network is shut down. May be dropped.
    ///
    /// Channels that find the queue full are refused, so call this from a loop that does nothing slow.
    pub async fn next(&mut self) -> Option<(PeerId, Role, Channel)> {
        self.queue.recv().await
    }
}

impl Network {
    /// Listens, and starts to dial all members that have addresses.
    ///
    /// # Errors
    /// [`NetError`] for settings that contradict themselves, an address that cannot be listened on, or a call
    /// from outside a tokio runtime.
    pub fn start(settings: Settings) -> Result<(Self, Incoming), NetError> {
        let runtime = Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        let Settings { identity, listen, members, reach, limits } = settings;
        limits.check()?;
        reach.check(&listen)?;
        let peer_id = identity.peer_id();
        let (members, listed) = roster(members, peer_id, &limits)?;
        let names = || members.iter().map(|member| member.peer);
        let (queue, incoming) = mpsc::channel(limits.incoming_queue_channels);
        let arrivals = queue.downgrade();
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (stop, stopped) = watch::channel(false);
        let (listening, addresses) = watch::channel(BTreeSet::new());
        let gates = Gates::new(names(), &limits);
        let board = Board::new(names());
        let strangers = Arc::new(AtomicU64::new(0));
        let peer = |(peer, presence)| {
            let places = Arc::new(Semaphore::new(limits.outbound_channels_per_peer_max));
            (peer, Peer { presence, places })
        };
        let peers = board.views().into_iter().map(peer).collect();

        let (meet, meet_arrivals) = mpsc::channel(MEET_QUEUE);
        let streams = Streams::new(gates.clone(), Queues { callers: queue, meet }, limits.clone());
        let mut swarm = behaviour::swarm(&identity, &gates, streams, &reach, &limits)?;
        behaviour::listen(&mut swarm, &listen)?;
        if !reach.behind_nat {
            // A relay tells those to whom it gives a place where it is itself.
            listed.iter().for_each(|address| swarm.add_external_address(address.multiaddr()));
        }
        let places = Places::new(&reach, &limits);
        let relays = places.view();
        let plan = members.iter().map(|member| (member.peer, member.addresses.clone()));
        let (probe, pulse) = pulse("network");
        let service = Service {
            swarm,
            dials: Dials::new(plan, &limits, Instant::now()),
            board,
            limits: limits.clone(),
            commands: command_queue,
            stop: stopped,
            listening,
            strangers: strangers.clone(),
            refusals: Refusals::new(limits.refusals_logged_every),
            lookups: JoinSet::new(),
            links: HashMap::new(),
            places,
            meetings: Meetings::new(&reach, listed, meet_arrivals, &limits),
            pulse,
        };
        let inner = Inner {
            peer_id,
            peers,
            gates,
            limits,
            commands,
            arrivals,
            listening: addresses,
            listeners: listen.len(),
            strangers,
            relays,
            stop,
            task: watched(runtime.spawn(service.run())),
            probe,
        };
        Ok((Self { inner: Arc::new(inner) }, Incoming { queue: incoming }))
    }

    /// Asks the network's loop whether it turns.
    pub fn probe(&self) -> Probe {
        self.inner.probe.clone()
    }

    /// Our own name.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
    }

    /// Opens a channel to `peer`, waiting for it to be connected first, all within `deadline`. A channel to
    /// ourselves stays in this process.
    ///
    /// May be dropped; the peer can then see a channel that ends at once. A channel counts against
    /// [`Limits::outbound_channels_per_peer_max`] until it is dropped; when all places are taken, this waits.
    ///
    /// # Errors
    /// [`NetError::NotAMember`], [`NetError::Busy`], [`NetError::Unsupported`], [`NetError::Deadline`] or
    /// [`NetError::Stopped`].
    pub async fn open(&self, peer: PeerId, role: Role, deadline: Duration) -> Result<Channel, NetError> {
        if peer == self.inner.peer_id {
            return self.open_to_ourselves(role);
        }
        let entry = self.peer(peer)?;
        match tokio::time::timeout(deadline, self.open_patiently(peer, entry, role)).await {
            Ok(result) => result,
            Err(_) => {
                let state = entry.presence.state();
                let (connected, fault) = (state.connected, state.dial_fault);
                Err(NetError::Deadline { peer, role, within: deadline, connected, fault })
            }
        }
    }

    /// A member may use its own services: an owner that computes, a client that computes.
    fn open_to_ourselves(&self, role: Role) -> Result<Channel, NetError> {
        let (here, there) = Channel::pair();
        let limit = self.inner.limits.frame_bytes_max;
        let peer = self.inner.peer_id;
        let queue = self.inner.arrivals.upgrade().ok_or(NetError::Stopped)?;
        let arrival = (peer, role, there.with_frame_bytes_max(limit));
        queue.try_send(arrival).map_err(|_| NetError::Busy { peer, role })?;
        Ok(here.with_frame_bytes_max(limit))
    }

    async fn open_patiently(&self, peer: PeerId, entry: &Peer, role: Role) -> Result<Channel, NetError> {
        let place = entry.places.clone().acquire_owned().await.map_err(|_| NetError::Stopped)?;
        let mut presence = entry.presence.clone();
        loop {
            if !presence.is_connected() {
                self.command(Command::Dial { peer }).await?;
                presence.wait_connected().await?;
            }
            let (reply, answer) = oneshot::channel();
            self.command(Command::Open { peer, role, reply }).await?;
            match answer.await {
                Ok(Ok(halves)) => {
                    return Ok(Channel::between(halves, self.inner.limits.frame_bytes_max, Arc::new(place)));
                }
                Ok(Err(OpenFault::Busy)) => return Err(NetError::Busy { peer, role }),
                Ok(Err(OpenFault::Unsupported)) => return Err(NetError::Unsupported { peer, role }),
                Ok(Err(OpenFault::Lost)) | Err(_) => {
                    // The loss of the connection may reach us a moment later than the loss of the stream.
                    if let Ok(changed) = tokio::time::timeout(RETRY_AFTER, presence.changed()).await {
                        changed?;
                    }
                }
            }
        }
    }

    async fn command(&self, command: Command) -> Result<(), NetError> {
        self.inner.commands.send(command).await.map_err(|_| NetError::Stopped)
    }

    fn peer(&self, peer: PeerId) -> Result<&Peer, NetError> {
        self.inner.peers.get(&peer).ok_or(NetError::NotAMember { peer })
    }

    /// A view of the connection to `peer` that follows its changes.
    ///
    /// # Errors
    /// [`NetError::NotAMember`].
    pub fn connected(&self, peer: PeerId) -> Result<Presence, NetError> {
        self.peer(peer).map(|entry| entry.presence.clone())
    }

    /// What is known of every member, in the order of their names.
    pub fn peers(&self) -> Vec<PeerState> {
        let mut states: Vec<_> = self.inner.peers.values().map(|entry| entry.presence.state()).collect();
        states.sort_by_key(|state| state.peer);
        states
    }

    /// The addresses we listen on now, with real ports; a wildcard shows as one address for each interface.
    pub fn listening(&self) -> Vec<Address> {
        self.inner.listening.borrow().iter().cloned().collect()
    }

    /// Waits until as many addresses are listened on as were asked for, and returns them. May be dropped.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn wait_listening(&self) -> Result<Vec<Address>, NetError> {
        let (mut listening, wanted) = (self.inner.listening.clone(), self.inner.listeners);
        let addresses =
            listening.wait_for(|list| list.len() >= wanted).await.map_err(|_| NetError::Stopped)?;
        Ok(addresses.iter().cloned().collect())
    }

    /// Channels of `peer` that we refused since the start for want of a place.
    pub fn refused_channels(&self, peer: PeerId) -> u64 {
        self.inner.gates.refused(peer)
    }

    /// Connections that we refused since the start: strangers, and members above their limit.
    pub fn refused_connections(&self) -> u64 {
        self.inner.strangers.load(Ordering::Relaxed)
    }

    /// The relays at which we have a place now, by which others reach us.
    pub fn relays(&self) -> Vec<PeerId> {
        self.inner.relays.held.borrow().iter().copied().collect()
    }

    /// Waits until `count` relays have given us a place. May be dropped.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn wait_relays(&self, count: usize) -> Result<(), NetError> {
        let mut held = self.inner.relays.held.clone();
        held.wait_for(|held| held.len() >= count).await.map(drop).map_err(|_| NetError::Stopped)
    }

    /// Places and connections that we refused to members as a relay since the start.
    pub fn refused_relaying(&self) -> u64 {
        self.inner.relays.refused.load(Ordering::Relaxed)
    }

    /// Whether peers that are no members may connect, few and briefly, to ask to join. They are refused until this
    /// is called with `true`.
    pub fn expect_guests(&self, expecting: bool) {
        self.inner.gates.expect_guests(expecting);
    }

    /// Takes leave of all peers, stops listening, and returns when the network's task has ended. Any number of
    /// handles may call this; later calls return at once. May be dropped: the shutdown then goes on by itself.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        self.inner.task.clone().await;
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("peer_id", &self.inner.peer_id).finish_non_exhaustive()
    }
}

/// The end of the swarm's task, for any number of handles to wait for.
fn watched(task: JoinHandle<()>) -> Shared<BoxFuture<'static, ()>> {
    let end = async move {
        if let Err(error) = task.await {
            tracing::error!(%error, "the network task failed; this is a bug");
        }
    };
    end.boxed().shared()
}

impl Reach {
    fn check(&self, listen: &[Address]) -> Result<(), NetError> {
        if self.behind_nat && self.relay {
            return Err(NetError::RelayBehindNat);
        }
        if cfg!(feature = "quic") && std::env::var_os("SSLKEYLOGFILE").is_some() {
            return Err(NetError::KeyLog);
        }
        for address in listen {
            if address.socket().is_none() {
                return Err(NetError::ListenName { address: address.clone() });
            }
            if !address.is_spoken() {
                return Err(NetError::NoQuic { address: address.clone() });
            }
        }
        Ok(())
    }
}

/// The members without ourselves, each once, and our own addresses.
fn roster(
    members: Vec<Member>,
    ourselves: PeerId,
    limits: &Limits,
) -> Result<(Vec<Member>, Vec<Address>), NetError> {
    if members.len() > limits.members_max {
        return Err(NetError::TooManyMembers { found: members.len(), limit: limits.members_max });
    }
    let mut seen = HashSet::new();
    if let Some(twice) = members.iter().find(|member| !seen.insert(member.peer)) {
        return Err(NetError::DuplicateMember { peer: twice.peer });
    }
    let (own, others): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| member.peer == ourselves);
    Ok((others, own.into_iter().flat_map(|member| member.addresses).collect()))
}

#[cfg(test)]
mod tests;
