//! The task that owns the swarm.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, ping,
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
    role::Role,
    seldom::Seldom,
    stream::Reply,
};
use crate::pulse::Pulse;

/// What handles ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody waits for this peer to be connected.
    Dial { peer: PeerId },
    /// Somebody wants a stream.
    Open { peer: PeerId, role: Role, reply: Reply },
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
    pub(super) refusals: Seldom,
    pub(super) lookups: JoinSet<(PeerId, Vec<Multiaddr>)>,
    /// When each connection last showed life.
    pub(super) heard: HashMap<ConnectionId, Instant>,
    pub(super) pulse: Pulse,
}

impl Service {
    /// Runs until told to stop or until every handle is gone, then says goodbye to all peers.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.dials.next_due().into_iter().chain(self.next_silence()).min();
            let alarm = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = told_to_stop(&mut self.stop) => break,
                () = self.pulse.beat() => {}
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(command) = self.commands.recv() => self.on_command(command),
                Some(looked_up) = self.lookups.join_next() => {
                    if let Ok((peer, addresses)) = looked_up {
                        self.dial(peer, addresses);
                    }
                }
                () = alarm => {
                    self.start_dials();
                    self.close_silent();
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
            Command::Dial { peer } => self.dials.hurry(peer, Instant::now()),
            Command::Open { peer, role, reply } => self.swarm.behaviour_mut().streams.open(peer, role, reply),
        }
    }

    fn next_silence(&self) -> Option<Instant> {
        self.heard.values().min().map(|&heard| heard + self.limits.silence())
    }

    /// The library's ping forgives a first failure and then waits ten seconds more; a round cannot.
    fn close_silent(&mut self) {
        let now = Instant::now();
        let silence = self.limits.silence();
        for (connection, _) in self.heard.extract_if(|_, heard| *heard + silence <= now) {
            info!(?connection, "gave up a connection that does not answer");
            self.swarm.close_connection(connection);
        }
    }

    fn start_dials(&mut self) {
        while let Some((peer, addresses)) = self.dials.take_due(Instant::now()) {
            let within = self.limits.handshake_within;
            self.lookups.spawn(async move { (peer, resolve(addresses, within).await) });
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            self.dial_failed(peer, Some(DialFault::Unresolved));
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
            SwarmEvent::Behaviour(NodeEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                self.heard.insert(connection_id, Instant::now());
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    self.on_established(peer, num_established.get());
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.heard.remove(&connection_id);
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
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "stopped listening");
                for address in &addresses {
                    self.on_address(address, false);
                }
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener failed to accept"),
            _ => {}
        }
    }

    /// Strangers can come as often as they like, so of them one line is written per interval.
    fn on_refused(&mut self, from: &Multiaddr, error: &ListenError, peer: Option<libp2p::PeerId>) {
        debug!(%from, %error, "refused a connection");
        if !matches!(error, ListenError::Denied { .. } | ListenError::WrongPeerId { .. }) {
            return;
        }
        self.strangers.fetch_add(1, Ordering::Relaxed);
        let ListenError::Denied { cause } = error else { return };
        let Some(stranger) = cause.downcast_ref::<Stranger>() else { return };
        if let Some(others) = self.refusals.note(Instant::now()) {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            warn!(peer, %from, others_unlogged = others, "refused a connection: {stranger}");
        }
    }

    fn on_ping(&mut self, ping::Event { peer, connection, result }: ping::Event) {
        let Ok(member) = PeerId::from_inner(peer) else { return };
        // Failures are left to `close_silent`.
        let Ok(round_trip) = result else { return };
        if let Some(heard) = self.heard.get_mut(&connection) {
            *heard = Instant::now();
        }
        self.dials.alive(member);
        self.board.set(member, |state| {
            state.last_seen = Some(Instant::now());
            state.round_trip = Some(round_trip);
        });
    }

    fn on_established(&mut self, peer: PeerId, count: u32) {
        self.dials.linked(peer);
        self.board.set(peer, |state| {
            state.connections = count;
            state.last_seen = Some(Instant::now());
            state.dial_fault = None;
        });
        debug!(%peer, count, "connected");
    }

    fn on_closed(&mut self, peer: PeerId, left: u32) {
        self.board.set(peer, |state| {
            state.connections = left;
            if left == 0 {
                state.round_trip = None;
            }
        });
        if left == 0 {
            self.dials.down(peer, Instant::now(), rand::random());
        }
        debug!(%peer, left, "disconnected");
    }

    fn on_address(&mut self, address: &Multiaddr, live: bool) {
        let Some(address) = Address::from_multiaddr(address) else { return };
        self.listening.send_modify(|list| {
            if live {
                list.insert(address);
            } else {
                list.remove(&address);
            }
        });
    }
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
