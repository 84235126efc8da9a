//! Who may hold a connection to us: members, and guests for a moment while somebody is expected.
//!
//! A connection is judged when its handshake has proved the peer's key, before anything else sees it. A guest gets
//! one of few places, for a short time, and [`Doorkeeper`](super::admission::Doorkeeper) offers it one role only;
//! so those who guess can at worst keep other guests out, and never a member. Before that, a connection is judged
//! by where it comes from: each source has its measure of handshakes, which only members get back.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::{ConnectionClosed, ListenFailure},
        dummy,
    },
};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    PeerId,
    admission::Gates,
    anteroom::Anteroom,
    limits::Limits,
    measure::{Source, Sources},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Why a peer may not hold a connection.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Stranger {
    #[error("the peer is not on the roster")]
    Unknown,
    #[error("the peer is not on the roster, and the few places for those who want to join are taken")]
    Crowd,
    #[error("too many connections from its address were refused or came to nothing")]
    Throng,
    #[error("the peer has no Ed25519 key, so it is nobody's member")]
    OtherKey,
}

/// Judges connections; holds no streams of its own.
pub(super) struct Gatehouse {
    gates: Gates,
    anteroom: Anteroom,
    guests_max: usize,
    guests_per_minute: usize,
    guest_within: Duration,
    guests: HashMap<ConnectionId, libp2p::PeerId>,
    /// When each guest must leave, the earliest first; may name connections that are gone.
    leaving: VecDeque<(Instant, ConnectionId)>,
    /// When guests came within the last minute, the earliest first.
    came: VecDeque<Instant>,
    sources: Sources,
    /// Where the connections come from whose handshake goes on.
    arriving: HashMap<ConnectionId, Source>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Gatehouse {
    pub(super) fn new(gates: Gates, anteroom: Anteroom, limits: &Limits) -> Self {
        Self {
            gates,
            anteroom,
            guests_max: limits.guests_max,
            guests_per_minute: limits.guests_per_minute,
            guest_within: limits.guest_within,
            guests: HashMap::new(),
            leaving: VecDeque::new(),
            came: VecDeque::new(),
            sources: Sources::new(
                limits.sources_max,
                limits.arrivals_burst,
                limits.arrivals_per_second,
                Instant::now(),
            ),
            arriving: HashMap::new(),
            alarm: None,
        }
    }

    fn judge(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        now: Instant,
    ) -> Result<(), Stranger> {
        let known = PeerId::from_inner(peer).map_err(|_| Stranger::OtherKey)?;
        if self.gates.is_member(known) {
            return Ok(());
        }
        if !self.gates.is_expecting() {
            return Err(Stranger::Unknown);
        }
        while self.came.front().is_some_and(|&came| came + MINUTE <= now) {
            self.came.pop_front();
        }
        let full = self.guests.len() >= self.guests_max || self.came.len() >= self.guests_per_minute;
        if full || self.guests.values().any(|&guest| guest == peer) {
            return Err(Stranger::Crowd);
        }
        self.came.push_back(now);
        self.guests.insert(connection, peer);
        self.leaving.push_back((now + self.guest_within, connection));
        Ok(())
    }

    /// Before the handshake, which costs us more than it costs a stranger.
    fn announce(&mut self, connection: ConnectionId, from: &Multiaddr, now: Instant) -> Result<(), Stranger> {
        let Some(source) = Source::of(from) else { return Ok(()) };
        let measure = self.sources.take(source, now).ok_or(Stranger::Throng)?;
        self.arriving.insert(connection, measure);
        Ok(())
    }

    /// The handshake is over, well or not.
    fn arrived(&mut self, connection: ConnectionId, is_member: bool) {
        if let Some(source) = self.arriving.remove(&connection)
            && is_member
        {
            self.sources.give(source);
        }
    }

    /// Whom we dial ourselves is a member, or the address was wrong.
    fn judge_dialled(&self, peer: libp2p::PeerId) -> Result<(), ConnectionDenied> {
        match PeerId::from_inner(peer) {
            Ok(known) if self.gates.is_member(known) => Ok(()),
            _ => Err(ConnectionDenied::new(Stranger::Unknown)),
        }
    }
}

impl NetworkBehaviour for Gatehouse {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.announce(connection, from, Instant::now()).map_err(ConnectionDenied::new)?;
        self.anteroom.enter(connection, from);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.anteroom.leave(connection);
        let is_member = PeerId::from_inner(peer).is_ok_and(|peer| self.gates.is_member(peer));
        self.arrived(connection, is_member);
        self.judge(connection, peer, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<libp2p::PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.judge_dialled(peer))?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge_dialled(peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            // Another part may refuse a connection after we let it in.
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.anteroom.leave(connection_id);
                self.guests.remove(&connection_id);
                self.arrived(connection_id, false);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Polled again after every connection, so that a new guest finds its alarm set.
        while let Some(&(due, connection)) = self.leaving.front() {
            let Some(&peer_id) = self.guests.get(&connection) else {
                self.leaving.pop_front();
                continue;
            };
            if due > Instant::now() {
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
                alarm.as_mut().reset(due);
                ready!(alarm.as_mut().poll(cx));
            }
            self.leaving.pop_front();
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    fn house(limits: &Limits) -> (Gatehouse, PeerId) {
        let member = Identity::generate().peer_id();
        let anteroom = Anteroom::new(limits.connections_pending_max);
        (Gatehouse::new(Gates::new([member].into_iter(), limits), anteroom, limits), member)
    }

    fn stranger() -> libp2p::PeerId {
        Identity::generate().peer_id().inner()
    }

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn strangers_are_refused_unless_a_guest_is_expected() {
        let (mut house, member) = house(&Limits::default());
        let now = Instant::now();
        assert_eq!(house.judge(connection(1), member.inner(), now), Ok(()));
        assert_eq!(house.judge(connection(2), stranger(), now), Err(Stranger::Unknown));
        house.gates.expect_guests(true);
        assert_eq!(house.judge(connection(3), stranger(), now), Ok(()));
        house.gates.expect_guests(false);
        assert_eq!(house.judge(connection(4), stranger(), now), Err(Stranger::Unknown));
        assert_eq!(house.guests.len(), 1);
    }

    #[test]
    fn guests_have_few_places_and_never_take_those_of_members() {
        let limits = Limits { guests_max: 2, guests_per_minute: 3, ..Limits::default() };
        let (mut house, member) = house(&limits);
        house.gates.expect_guests(true);
        let now = Instant::now();
        let first = stranger();
        assert_eq!(house.judge(connection(1), first, now), Ok(()));
        assert_eq!(house.judge(connection(2), first, now), Err(Stranger::Crowd), "once each");
        assert_eq!(house.judge(connection(3), stranger(), now), Ok(()));
        assert_eq!(house.judge(connection(4), stranger(), now), Err(Stranger::Crowd), "two at a time");
        house.guests.remove(&connection(1));
        assert_eq!(house.judge(connection(5), stranger(), now), Ok(()));
        house.guests.clear();
        assert_eq!(house.judge(connection(6), stranger(), now), Err(Stranger::Crowd), "three a minute");
        assert_eq!(house.judge(connection(7), member.inner(), now), Ok(()));
        assert_eq!(house.judge(connection(8), stranger(), now + MINUTE), Ok(()));
    }

    #[test]
    fn strangers_use_up_the_measure_of_their_source_and_members_do_not() {
        let limits = Limits { arrivals_burst: 2, arrivals_per_second: 1, ..Limits::default() };
        let (mut house, member) = house(&limits);
        let now = Instant::now();
        let from: Multiaddr = "/ip4/192.0.2.1/tcp/5".parse().unwrap();
        for number in 0..20 {
            assert_eq!(house.announce(connection(number), &from, now), Ok(()));
            house.arrived(connection(number), true);
            assert_eq!(house.judge(connection(number), member.inner(), now), Ok(()));
        }
        // Where members came from there is room for twenty.
        for number in 20..40 {
            assert_eq!(house.announce(connection(number), &from, now), Ok(()));
            house.arrived(connection(number), false);
        }
        assert_eq!(house.announce(connection(50), &from, now), Err(Stranger::Throng));
        let other: Multiaddr = "/ip4/192.0.2.2/tcp/5".parse().unwrap();
        assert_eq!(house.announce(connection(51), &other, now), Ok(()));
        assert_eq!(house.announce(connection(52), &from, now + Duration::from_secs(1)), Ok(()));
        let relayed = format!("/p2p/{}", member).parse().unwrap();
        assert_eq!(house.announce(connection(53), &relayed, now), Ok(()), "its relay answers for it");
        assert_eq!(house.arriving.len(), 2);
    }

    #[tokio::test]
    async fn a_guest_must_leave_in_time() {
        let limits = Limits { guest_within: Duration::from_millis(20), ..Limits::default() };
        let (mut house, _) = house(&limits);
        house.gates.expect_guests(true);
        let (guest, start) = (stranger(), Instant::now());
        house.judge(connection(9), guest, start).unwrap();
        let Ok(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(closed) }) =
            tokio::time::timeout(MINUTE, std::future::poll_fn(|cx| house.poll(cx))).await
        else {
            panic!("the guest stays")
        };
        assert_eq!((peer_id, closed), (guest, connection(9)));
        assert!(start.elapsed() >= limits.guest_within);
    }
}
