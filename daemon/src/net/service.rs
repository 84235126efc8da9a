//! The task that owns the swarm.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm,
    core::ConnectedPoint,
    multiaddr::Protocol,
    ping,
    swarm::{
        ConnectionId, DialError, ListenError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{
    Address, PeerId,
    behaviour::{Node, NodeEvent},
    dial::{Dials, resolve},
    gatehouse::Stranger,
    limits::Limits,
    presence::{Board, DialFault},
    rendezvous::Route,
    role::Role,
    seldom::Seldom,
    stream::Reply,
};
use crate::pulse::Pulse;

mod reach;

pub(super) use reach::{Meetings, Places, RelayView};

/// What handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody waits for this peer to be connected.
    Dial { peer: PeerId },
    /// Somebody wants a stream.
    Open { peer: PeerId, role: Role, reply: Reply },
}

/// What is said of connections that came to nothing, of which anybody can cause any number.
pub(super) struct Refusals {
    strangers: Seldom,
    crowds: Seldom,
    unfinished: Seldom,
    deaf: Seldom,
}

impl Refusals {
    pub(super) fn new(every: Duration) -> Self {
        let seldom = || Seldom::new(every);
        Self { strangers: seldom(), crowds: seldom(), unfinished: seldom(), deaf: seldom() }
    }
}

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Link {
    peer: PeerId,
    /// The relay that carries it.
    relay: Option<PeerId>,
    remote: Multiaddr,
    /// When it last showed life.
    heard: Instant,
}

/// What became of the addresses of a member that is to be dialled.
#[derive(Debug)]
pub(super) struct Lookup {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    /// What is wrong if there are none.
    otherwise: DialFault,
}

pub(super) struct Service {
    pub(super) swarm: Swarm<Node>,
    pub(super) dials: Dials,
    pub(super) board: Board,
    pub(super) limits: Limits,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) listening: watch::Sender<BTreeSet<Address>>,
    pub(super) strangers: Arc<AtomicU64>,
    pub(super) refusals: Refusals,
    pub(super) lookups: JoinSet<Lookup>,
    pub(super) links: HashMap<ConnectionId, Link>,
    pub(super) places: Places,
    pub(super) meetings: Meetings,
    pub(super) pulse: Pulse,
}

impl Service {
    /// Runs until told to stop or until every handle is gone, then says goodbye to all peers.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            let due = self.dials.next_due(now).into_iter().chain(self.next_silence());
            let due = due.fold(self.meetings.due(), Instant::min);
            tokio::select! {
                () = told_to_stop(&mut self.stop) => break,
                () = self.pulse.beat() => {}
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(looked_up) = self.lookups.join_next() => {
                    if let Ok(lookup) = looked_up {
                        self.dial(lookup);
                    }
                }
                told = self.meetings.heard() => self.learn(told),
                () = tokio::time::sleep_until(due) => {
                    self.start_dials();
                    self.close_silent();
                    self.meet(Instant::now());
                }
            }
        }
        self.leave().await;
    }

    /// Closes every connection in good order, so that peers hear of it at once and not by a missed ping.
    async fn leave(mut self) {
        self.board.all_lost();
        self.lookups.abort_all();
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that the peer is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let emptied = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(self.limits.shutdown_within, emptied).await.is_err() {
            warn!("some peers did not take leave in time; their connections are cut");
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { peer } => {
                let now = Instant::now();
                self.dials.hurry(peer, now);
                self.meetings.hasten(now);
            }
            Command::Open { peer, role, reply } => self.swarm.behaviour_mut().streams.open(peer, role, reply),
        }
    }

    fn next_silence(&self) -> Option<Instant> {
        self.links.values().map(|link| link.heard + self.limits.silence()).min()
    }

    /// The library's ping forgives a first failure and then waits ten seconds more; a round cannot.
    fn close_silent(&mut self) {
        let now = Instant::now();
        let silence = self.limits.silence();
        for (&connection, link) in &mut self.links {
            if link.heard + silence <= now {
                info!(?connection, peer = %link.peer, "gave up a connection that does not answer");
                self.swarm.close_connection(connection);
                // The end follows as an event; it is not to be asked for again meanwhile.
                link.heard = now;
            }
        }
    }

    fn start_dials(&mut self) {
        while let Some((peer, ways)) = self.dials.take_due(Instant::now()) {
            let within = self.limits.handshake_within;
            let (mut listed, mut circuits, mut otherwise) = (Vec::new(), Vec::new(), DialFault::Unresolved);
            for way in ways {
                match way {
                    Route::At(address) => listed.push(address),
                    Route::Through(relay) => {
                        otherwise = DialFault::RelayAway;
                        circuits.extend(
                            self.place_at(relay).map(|place| place.with(Protocol::P2p(peer.inner()))),
                        );
                    }
                }
            }
            self.lookups.spawn(async move {
                let found = resolve(listed, within).await;
                let addresses = found.iter().map(Address::multiaddr).chain(circuits).collect();
                Lookup { peer, addresses, otherwise }
            });
        }
    }

    fn dial(&mut self, Lookup { peer, addresses, otherwise }: Lookup) {
        if addresses.is_empty() {
            self.dial_failed(peer, Some(otherwise));
            return;
        }
        let options = DialOpts::peer_id(peer.inner())
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            // Two nodes that dial each other from their listening ports would meet in one half-open connection.
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(peer, fault_of(&error));
        }
    }

    fn dial_failed(&mut self, peer: PeerId, fault: Option<DialFault>) {
        if self.swarm.is_connected(&peer.inner()) {
            self.dials.linked(peer);
            return;
        }
        self.dials.down(peer, Instant::now(), rand::random());
        if let Some(fault) = fault {
            debug!(%peer, %fault, "dial failed");
            self.board.set(peer, |state| state.dial_fault = Some(fault));
        }
    }

    fn on_event(&mut self, event: SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_part(event),
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, endpoint, num_established, ..
            } => {
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    self.links.insert(connection_id, Link::new(peer, &endpoint));
                    self.on_established(peer, num_established.get());
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.links.remove(&connection_id);
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    self.on_closed(peer, num_established);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    self.dial_failed(peer, fault_of(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, peer_id, .. } => {
                self.on_refused(&send_back_addr, &error, peer_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_address(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_address(&address, false),
            SwarmEvent::ListenerClosed { listener_id, .. } if self.places.lost(listener_id) => {
                self.meetings.hasten(Instant::now());
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "stopped listening");
                for address in &addresses {
                    self.on_address(address, false);
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                if let Some(unlogged) = self.refusals.deaf.note(Instant::now()) {
                    warn!(%error, unlogged, "a listener failed to accept");
                }
            }
            _ => {}
        }
    }

    /// Anybody can come as often as they like, so of each kind one line is written per interval.
    fn on_refused(&mut self, from: &Multiaddr, error: &ListenError, peer: Option<libp2p::PeerId>) {
        debug!(%from, %error, "refused a connection");
        let now = Instant::now();
        let (seldom, reason): (_, &dyn fmt::Display) = match error {
            ListenError::Denied { cause } => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                match cause.downcast_ref::<Stranger>() {
                    Some(throng @ Stranger::Throng) => (&mut self.refusals.crowds, throng),
                    Some(stranger) => (&mut self.refusals.strangers, stranger),
                    None => (&mut self.refusals.crowds, cause),
                }
            }
            ListenError::WrongPeerId { .. } => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                return;
            }
            ListenError::Transport(_) => (
                &mut self.refusals.unfinished,
                &"its handshake failed, took too long, or made room for others",
            ),
            ListenError::Aborted | ListenError::LocalPeerId { .. } => return,
        };
        if let Some(others) = seldom.note(now) {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            warn!(peer, %from, others_unlogged = others, "refused a connection: {reason}");
        }
    }

    fn on_ping(&mut self, ping::Event { peer, connection, result }: ping::Event) {
        let Ok(member) = PeerId::from_inner(peer) else { return };
        // Failures are left to `close_silent`.
        let Ok(round_trip) = result else { return };
        if let Some(link) = self.links.get_mut(&connection) {
            link.heard = Instant::now();
        }
        self.dials.alive(member);
        self.board.set(member, |state| {
            state.last_seen = Some(Instant::now());
            state.round_trip = Some(round_trip);
        });
    }

    fn on_established(&mut self, peer: PeerId, count: u32) {
        self.dials.linked(peer);
        let relay = self.relay_between(peer);
        self.board.set(peer, |state| {
            state.connections = count;
            state.relay = relay;
            state.last_seen = Some(Instant::now());
            state.dial_fault = None;
        });
        debug!(%peer, count, relay = relay.map(tracing::field::display), "connected");
    }

    fn on_closed(&mut self, peer: PeerId, left: u32) {
        let relay = self.relay_between(peer);
        self.board.set(peer, |state| {
            state.connections = left;
            state.relay = relay;
            if left == 0 {
                state.round_trip = None;
            }
        });
        if left == 0 {
            self.meetings.left(peer);
            self.dials.down(peer, Instant::now(), rand::random());
        }
        debug!(%peer, left, "disconnected");
    }

    fn on_address(&mut self, address: &Multiaddr, live: bool) {
        let Some(address) = Address::from_multiaddr(address) else { return };
        if live && self.meetings.is_told_by_listening() {
            self.swarm.add_external_address(address.multiaddr());
        }
        self.listening.send_modify(|list| {
            if live {
                list.insert(address);
            } else {
                list.remove(&address);
            }
        });
    }
}

impl Link {
    fn new(peer: PeerId, endpoint: &ConnectedPoint) -> Self {
        let ours = match endpoint {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { local_addr, .. } => local_addr,
        };
        let remote = endpoint.get_remote_address().clone();
        Self { peer, relay: relay_of(ours), remote, heard: Instant::now() }
    }
}

/// The relay of an address that leads through one.
fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return last.and_then(|peer| PeerId::from_inner(peer).ok()),
            _ => {}
        }
    }
    None
}

/// May be dropped. An error means that the last handle is gone, which is a stop as well.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// What the user should know about a failed dial; nothing if there was no need to dial.
fn fault_of(error: &DialError) -> Option<DialFault> {
    match error {
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => None,
        DialError::WrongPeerId { obtained, .. } => {
            Some(DialFault::WrongIdentity { found: obtained.to_string() })
        }
        DialError::LocalPeerId { .. } => {
            Some(DialFault::WrongIdentity { found: "this node itself".to_owned() })
        }
        DialError::Denied { .. } => Some(DialFault::Denied),
        DialError::NoAddresses => Some(DialFault::Unresolved),
        DialError::Transport(_) => Some(DialFault::Unreachable),
    }
}
