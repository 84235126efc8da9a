//! Who is connected, as seen by everybody who wants to know.

use std::{collections::HashMap, time::Duration};

use thiserror::Error;
use tokio::{sync::watch, time::Instant};

use super::{NetError, PeerId};

/// Why the last dial of a member failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DialFault {
    /// None of the member's host names has an address.
    #[error("no address found for the member's host names")]
    Unresolved,
    /// Nothing answered, or the handshake failed.
    #[error("no address of the member answered")]
    Unreachable,
    /// Somebody else answers at the member's address.
    #[error("{found} answers at the member's address; correct the address or the roster")]
    WrongIdentity {
        /// Who answers.
        found: String,
    },
    /// The member is behind relays, none of which is connected to us.
    #[error("none of the relays that lead to the member is connected")]
    RelayAway,
    /// Our own limits forbade the connection.
    #[error("our connection limits are reached")]
    Denied,
}

/// What is known about one member.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// The member.
    pub peer: PeerId,
    /// Whether at least one connection is up.
    pub connected: bool,
    /// Connections that are up.
    pub connections: u32,
    /// The relay that carries the connection, while there is no direct one.
    pub relay: Option<PeerId>,
    /// When the member last connected or answered a ping.
    pub last_seen: Option<Instant>,
    /// Round trip of the last ping.
    pub round_trip: Option<Duration>,
    /// Why the last dial failed; `None` while connected.
    pub dial_fault: Option<DialFault>,
}

impl PeerState {
    fn new(peer: PeerId) -> Self {
        Self {
            peer,
            connected: false,
            connections: 0,
            relay: None,
            last_seen: None,
            round_trip: None,
            dial_fault: None,
        }
    }
}

/// A view of one member's connection that follows its changes.
#[derive(Clone, Debug)]
pub struct Presence {
    state: watch::Receiver<PeerState>,
}

impl Presence {
    /// Whether the member is connected now.
    pub fn is_connected(&self) -> bool {
        self.state.borrow().connected
    }

    /// What is known now.
    pub fn state(&self) -> PeerState {
        self.state.borrow().clone()
    }

    /// Returns when the member is connected, at once if it is. May be dropped.
    ///
    /// # Errors
    /// [`NetError::Stopped`] when the network is shut down.
    pub async fn wait_connected(&mut self) -> Result<(), NetError> {
        self.wait_for(|state| state.connected).await
    }

    /// Returns when the member is not connected, at once if it is not. May be dropped. A member that is lost and
    /// back before the caller looks is not noticed; compare channels for that, they do not survive.
    ///
    /// # Errors
    /// [`NetError::Stopped`] when the network is shut down.
    pub async fn wait_lost(&mut self) -> Result<(), NetError> {
        self.wait_for(|state| !state.connected).await
    }

    /// Returns at the next change, pings included. May be dropped.
    ///
    /// # Errors
    /// [`NetError::Stopped`] when the network is shut down.
    pub async fn changed(&mut self) -> Result<(), NetError> {
        self.state.changed().await.map_err(|_| NetError::Stopped)
    }

    pub(super) async fn wait_for(&mut self, wanted: impl FnMut(&PeerState) -> bool) -> Result<(), NetError> {
        self.state.wait_for(wanted).await.map(drop).map_err(|_| NetError::Stopped)
    }
}

/// The writing side, owned by the swarm's task: when it ends, everybody waiting hears that.
pub(super) struct Board {
    states: HashMap<PeerId, watch::Sender<PeerState>>,
}

impl Board {
    pub(super) fn new(members: impl Iterator<Item = PeerId>) -> Self {
        Self { states: members.map(|peer| (peer, watch::Sender::new(PeerState::new(peer)))).collect() }
    }

    pub(super) fn views(&self) -> HashMap<PeerId, Presence> {
        self.states.iter().map(|(&peer, state)| (peer, Presence { state: state.subscribe() })).collect()
    }

    /// Whether it is a member, and not ourselves.
    pub(super) fn knows(&self, peer: PeerId) -> bool {
        self.states.contains_key(&peer)
    }

    pub(super) fn set(&self, peer: PeerId, change: impl FnOnce(&mut PeerState)) {
        if let Some(state) = self.states.get(&peer) {
            state.send_modify(|state| {
                change(state);
                state.connected = state.connections > 0;
            });
        }
    }

    pub(super) fn all_lost(&self) {
        for &peer in self.states.keys() {
            self.set(peer, |state| {
                state.connections = 0;
                state.relay = None;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    #[tokio::test]
    async fn connection_loss_and_the_end_of_the_network_are_noticed() {
        let peer = Identity::generate().peer_id();
        let board = Board::new([peer].into_iter());
        let mut view = board.views()[&peer].clone();
        assert!(!view.is_connected());
        board.set(peer, |state| state.connections = 2);
        view.wait_connected().await.unwrap();
        board.set(peer, |state| state.connections = 1);
        assert!(view.is_connected());
        let watching = tokio::spawn({
            let mut view = view.clone();
            async move { view.wait_lost().await }
        });
        board.set(peer, |state| state.connections = 0);
        watching.await.unwrap().unwrap();
        drop(board);
        assert!(matches!(view.wait_connected().await, Err(NetError::Stopped)));
    }
}
