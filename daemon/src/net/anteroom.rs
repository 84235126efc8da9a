//! Connections towards us that have not proved yet whose they are, of which anybody can bring any number.
//!
//! There are few places. Whoever comes when all are taken gets the place of the connection that has waited longest,
//! among those of the address that has the most. A member's handshake takes a few round trips and is over before
//! its turn comes; one that is stretched out is not, and cannot keep the member out.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Waker},
};

use futures::task::AtomicWaker;
use libp2p::{Multiaddr, multiaddr::Protocol, swarm::ConnectionId};

const WAITING: u8 = 0;
const THROUGH: u8 = 1;
const SENT_AWAY: u8 = 2;
/// Bits of an IPv6 address that one subscriber has as a rule.
const SUBSCRIBER_BITS: u32 = 64;

/// One connection's place, which its stream looks at.
#[derive(Debug, Default)]
pub(super) struct Place {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// What a stream learns from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The handshake may go on.
    Wait,
    /// It is over; there is nothing to look at any more.
    Through,
    /// Somebody else has the place.
    SentAway,
}

impl Place {
    /// Where the connection stands. Wakes the task of `cx` if it is sent away later.
    pub(super) fn turn(&self, cx: &Context<'_>) -> Turn {
        self.waker.register(cx.waker());
        match self.state.load(Ordering::Acquire) {
            WAITING => Turn::Wait,
            THROUGH => Turn::Through,
            _ => Turn::SentAway,
        }
    }

    fn becomes(&self, state: u8) -> Option<Waker> {
        self.state.store(state, Ordering::Release);
        self.waker.take()
    }
}

#[derive(Debug)]
struct Visitor {
    connection: ConnectionId,
    from: Multiaddr,
    source: Option<IpAddr>,
    place: Arc<Place>,
}

/// All places; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Anteroom {
    places: usize,
    /// The longest wait first.
    visitors: Arc<Mutex<VecDeque<Visitor>>>,
}

impl Anteroom {
    pub(super) fn new(places: u32) -> Self {
        Self { places: places as usize, visitors: Arc::default() }
    }

    /// A place for a new connection, at the cost of another one where none is free.
    pub(super) fn enter(&self, connection: ConnectionId, from: &Multiaddr) {
        let mut visitors = self.lock();
        let gone = if visitors.len() >= self.places { take_from_the_most(&mut visitors) } else { None };
        let (from, source) = (from.clone(), source(from));
        visitors.push_back(Visitor { connection, from, source, place: Arc::default() });
        drop(visitors);
        // Not under the lock: this may run the other connection's task.
        if let Some(waker) = gone.and_then(|visitor| visitor.place.becomes(SENT_AWAY)) {
            waker.wake();
        }
    }

    /// The place of a connection that entered from there. If it has lost that already, so does its stream.
    pub(super) fn place(&self, from: &Multiaddr) -> Arc<Place> {
        let found =
            self.lock().iter().rev().find(|visitor| visitor.from == *from).map(|one| one.place.clone());
        found.unwrap_or_else(|| Arc::new(Place { state: SENT_AWAY.into(), waker: AtomicWaker::new() }))
    }

    /// The handshake is over, well or not.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut visitors = self.lock();
        if let Some(at) = visitors.iter().position(|visitor| visitor.connection == connection)
            && let Some(visitor) = visitors.remove(at)
        {
            visitor.place.becomes(THROUGH);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Visitor>> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the longest wait of the source with the most connections; of several, of the one that came first.
fn take_from_the_most(visitors: &mut VecDeque<Visitor>) -> Option<Visitor> {
    let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
    for visitor in visitors.iter() {
        *counts.entry(visitor.source).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let at = visitors.iter().position(|visitor| counts.get(&visitor.source) == Some(&most))?;
    visitors.remove(at)
}

/// Whom connections from there are counted for; those without an IP address are one crowd.
fn source(from: &Multiaddr) -> Option<IpAddr> {
    match from.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => {
            let kept = u128::MAX << (128 - SUBSCRIBER_BITS);
            Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & kept)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn from(ip: u8, port: usize) -> Multiaddr {
        format!("/ip4/10.0.0.{ip}/tcp/{port}").parse().unwrap()
    }

    fn turn(place: &Place) -> Turn {
        place.turn(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_longest_wait_of_the_greediest_address_ends() {
        let room = Anteroom::new(4);
        let member = from(1, 9);
        room.enter(connection(0), &member);
        let held = room.place(&member);
        for number in 1..=3 {
            room.enter(connection(number), &from(66, number));
        }
        let oldest = room.place(&from(66, 1));
        for number in 4..1000 {
            room.enter(connection(number), &from(66, number));
            assert_eq!(room.lock().len(), 4);
        }
        assert_eq!((turn(&held), turn(&oldest)), (Turn::Wait, Turn::SentAway));
        assert_eq!(turn(&room.place(&from(66, 999))), Turn::Wait);
        assert_eq!(turn(&room.place(&from(66, 5))), Turn::SentAway, "lost before its stream began");
        room.leave(connection(0));
        assert_eq!(turn(&held), Turn::Through);
    }

    #[test]
    fn a_flood_from_everywhere_takes_the_oldest() {
        let room = Anteroom::new(3);
        for number in 0..3 {
            room.enter(connection(number), &from(number as u8, 1));
        }
        let places: Vec<_> = (0..3).map(|number| room.place(&from(number, 1))).collect();
        room.enter(connection(3), &from(3, 1));
        let turns: Vec<Turn> = places.iter().map(|place| turn(place)).collect();
        assert_eq!(turns, [Turn::SentAway, Turn::Wait, Turn::Wait]);
    }

    #[test]
    fn addresses_of_one_subscriber_count_together() {
        let parse = |text: &str| source(&text.parse().unwrap());
        assert_eq!(parse("/ip6/2001:db8:1:2::3/tcp/1"), parse("/ip6/2001:db8:1:2:ffff::9/tcp/2"));
        assert_ne!(parse("/ip6/2001:db8:1:2::3/tcp/1"), parse("/ip6/2001:db8:1:3::3/tcp/1"));
        assert_ne!(parse("/ip4/10.0.0.1/tcp/1"), parse("/ip4/10.0.0.2/tcp/1"));
        assert_eq!(parse("/memory/7"), None);
    }

    #[tokio::test]
    async fn a_stream_that_waits_hears_that_it_is_sent_away() {
        let room = Anteroom::new(1);
        room.enter(connection(1), &from(1, 1));
        let place = room.place(&from(1, 1));
        let waiting = tokio::spawn(std::future::poll_fn(move |cx| match place.turn(cx) {
            Turn::Wait => std::task::Poll::Pending,
            turn => std::task::Poll::Ready(turn),
        }));
        tokio::task::yield_now().await;
        room.enter(connection(2), &from(2, 1));
        assert_eq!(waiting.await.unwrap(), Turn::SentAway);
    }
}
