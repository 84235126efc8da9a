//! How members find those whom the roster alone does not lead to: places at relays, and members who keep addresses.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::pending,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, core::transport::ListenerId, dcutr, identify, mdns, multiaddr::Protocol, relay};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{Link, Service};
use crate::net::{
    Address, Channel, PeerId, Reach,
    admission::Arrival,
    behaviour::NodeEvent,
    limits::Limits,
    rendezvous::{self, Book, Listing, ROUTES_MAX, Route},
    role::Role,
    seldom::Seldom,
};

/// Members at whom we call; the same ones for everybody who reaches them, so that all meet.
const CALLS_MAX: usize = 8;
/// Calls of others that are answered at the same time; more are dropped.
const HOSTED_MAX: usize = 64;
/// A relay that said no is not asked again before this.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long an address of the local network counts. Its end is told before that.
const NEARBY_FOR: Duration = Duration::from_secs(3600);

/// What the handles of a network may look at.
#[derive(Clone, Debug)]
pub(in crate::net) struct RelayView {
    /// Relays that gave us a place.
    pub(in crate::net) held: watch::Receiver<BTreeSet<PeerId>>,
    /// Places and connections that we refused as a relay.
    pub(in crate::net) refused: Arc<AtomicU64>,
}

/// Our places at relays, and what we do as one.
#[derive(Debug)]
pub(in crate::net) struct Places {
    /// Zero for a node that others reach.
    wanted: usize,
    /// What was asked for; `true` once it was given.
    asked: HashMap<ListenerId, (PeerId, bool)>,
    not_before: HashMap<PeerId, Instant>,
    held: watch::Sender<BTreeSet<PeerId>>,
    refused: Arc<AtomicU64>,
    refusals: Seldom,
}

impl Places {
    pub(in crate::net) fn new(reach: &Reach, limits: &Limits) -> Self {
        Self {
            wanted: if reach.behind_nat { limits.relays_wanted } else { 0 },
            asked: HashMap::new(),
            not_before: HashMap::new(),
            held: watch::Sender::default(),
            refused: Arc::default(),
            refusals: Seldom::new(limits.refusals_logged_every),
        }
    }

    pub(in crate::net) fn view(&self) -> RelayView {
        RelayView { held: self.held.subscribe(), refused: self.refused.clone() }
    }

    /// One of `relays` to ask for a place now.
    fn next(&mut self, relays: impl Iterator<Item = PeerId>, now: Instant) -> Option<PeerId> {
        if self.asked.len() >= self.wanted {
            return None;
        }
        self.not_before.retain(|_, until| *until > now);
        let idle = |relay: &PeerId| {
            !self.not_before.contains_key(relay) && self.asked.values().all(|(asked, _)| asked != relay)
        };
        let relay = relays.filter(idle).min()?;
        self.not_before.insert(relay, now + ASK_AGAIN);
        Some(relay)
    }

    fn given(&mut self, relay: PeerId) {
        for (_, given) in self.asked.values_mut().filter(|(asked, _)| *asked == relay) {
            *given = true;
        }
        self.publish();
    }

    /// Whether the listener that ended was a place at a relay.
    pub(super) fn lost(&mut self, listener: ListenerId) -> bool {
        let Some((relay, given)) = self.asked.remove(&listener) else { return false };
        if given {
            warn!(%relay, "lost the place at a relay");
        } else {
            debug!(%relay, "a relay gave no place");
        }
        self.publish();
        true
    }

    fn publish(&self) {
        let held = self.asked.values().filter(|(_, given)| *given).map(|(relay, _)| *relay).collect();
        self.held.send_if_modified(|before| std::mem::replace(before, held) != *before);
    }

    fn note_refusal(&mut self, peer: libp2p::PeerId, what: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(others) = self.refusals.note(Instant::now()) {
            warn!(%peer, others_unlogged = others, "refused {what} as a relay");
        }
    }
}

/// What a connected member offers.
#[derive(Clone, Copy, Debug, Default)]
struct Offers {
    relay: bool,
    meets: bool,
}

/// What somebody told us.
#[derive(Debug)]
pub(super) struct Told {
    by: PeerId,
    at: Option<IpAddr>,
    members: Vec<Listing>,
}

/// The calls that we make and answer.
#[derive(Debug)]
pub(in crate::net) struct Meetings {
    book: Arc<Book>,
    arrivals: mpsc::Receiver<Arrival>,
    hosting: JoinSet<()>,
    calls: JoinSet<(PeerId, Option<Told>)>,
    /// Whom we are calling.
    calling: HashSet<PeerId>,
    offers: HashMap<PeerId, Offers>,
    /// What the local network says.
    nearby: HashMap<PeerId, Vec<Address>>,
    behind_nat: bool,
    /// Our addresses in the roster, which everybody knows.
    listed: Vec<Address>,
    every: Duration,
    spacing: Duration,
    counts_for: Duration,
    due: Instant,
    called: Instant,
}

impl Meetings {
    pub(in crate::net) fn new(
        reach: &Reach,
        listed: Vec<Address>,
        arrivals: mpsc::Receiver<Arrival>,
        limits: &Limits,
    ) -> Self {
        let now = Instant::now();
        Self {
            book: Arc::new(Book::new(limits.met_for)),
            arrivals,
            hosting: JoinSet::new(),
            calls: JoinSet::new(),
            calling: HashSet::new(),
            offers: HashMap::new(),
            nearby: HashMap::new(),
            behind_nat: reach.behind_nat,
            listed,
            every: limits.meet_every,
            spacing: limits.meet_spacing,
            counts_for: limits.met_for,
            due: now + limits.meet_every,
            called: now,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Brings the next calls forward, but not on top of the last ones.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.called + self.spacing));
    }

    pub(super) fn left(&mut self, peer: PeerId) {
        self.offers.remove(&peer);
    }

    /// Answers the calls of others, until one of ours is answered. May be dropped.
    pub(super) async fn heard(&mut self) -> Told {
        loop {
            tokio::select! {
                Some(arrival) = self.arrivals.recv() => self.host(arrival),
                Some(call) = self.calls.join_next() => match call {
                    Ok((peer, told)) => {
                        self.calling.remove(&peer);
                        if let Some(told) = told {
                            return told;
                        }
                    }
                    // A call that panicked, which is a bug, may be made again.
                    Err(_) => self.calling.clear(),
                },
                else => pending().await,
            }
        }
    }

    fn host(&mut self, (peer, _, channel): Arrival) {
        while self.hosting.try_join_next().is_some() {}
        if self.hosting.len() >= HOSTED_MAX {
            return;
        }
        let book = self.book.clone();
        self.hosting.spawn(async move {
            if let Err(error) = rendezvous::serve(&book, peer, channel).await {
                debug!(%peer, %error, "did not answer where members are");
            }
        });
    }

    /// Whether an address that we listen on is where others dial us, as far as we can know.
    pub(super) fn is_told_by_listening(&self) -> bool {
        !self.behind_nat && self.listed.is_empty()
    }

    /// The members at whom to call.
    fn hosts(&self) -> Vec<PeerId> {
        let meeting = self.offers.iter().filter(|(_, offers)| offers.meets).map(|(peer, _)| *peer);
        let mut hosts: Vec<PeerId> = meeting.collect();
        hosts.sort();
        hosts.truncate(CALLS_MAX);
        hosts
    }
}

impl Service {
    /// What a part of the swarm has to say.
    pub(super) fn on_part(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Ping(event) => self.on_ping(event),
            NodeEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    self.on_offers(peer, &info.protocols);
                }
            }
            NodeEvent::Places(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal,
                ..
            }) => {
                if let (false, Ok(relay)) = (renewal, PeerId::from_inner(relay_peer_id)) {
                    info!(%relay, "reachable through a relay");
                    self.places.given(relay);
                    self.meetings.hasten(Instant::now());
                }
            }
            NodeEvent::Relay(relay::Event::ReservationReqDenied { src_peer_id, .. }) => {
                self.places.note_refusal(src_peer_id, "a place");
            }
            NodeEvent::Relay(relay::Event::CircuitReqDenied { src_peer_id, .. }) => {
                self.places.note_refusal(src_peer_id, "a connection");
            }
            NodeEvent::Punch(dcutr::Event { remote_peer_id: peer, result }) => match result {
                Ok(_) => info!(%peer, "a direct connection takes the place of the relay"),
                Err(error) => debug!(%peer, %error, "no direct connection; the relay stays"),
            },
            NodeEvent::Nearby(event) => self.on_nearby(event),
            _ => {}
        }
    }

    fn on_offers(&mut self, peer: PeerId, protocols: &[libp2p::StreamProtocol]) {
        let speaks = |name: &str| protocols.iter().any(|protocol| protocol.as_ref() == name);
        let relay = speaks(relay::HOP_PROTOCOL_NAME.as_ref());
        self.meetings.offers.insert(peer, Offers { relay, meets: speaks(Role::Meet.protocol()) });
        let now = Instant::now();
        self.ask_relays(now);
        self.meetings.hasten(now);
    }

    /// The relay through which `peer` is connected, unless it is connected directly.
    pub(super) fn relay_between(&self, peer: PeerId) -> Option<PeerId> {
        let mut links = self.links.values().filter(|link| link.peer == peer).map(|link| link.relay);
        let first = links.next()?;
        links.fold(first, |relay, next| relay.and(next))
    }

    fn direct_link(&self, peer: PeerId) -> Option<&Link> {
        self.links.values().find(|link| link.peer == peer && link.relay.is_none())
    }

    /// The address of a place at `relay`, which must be connected: the place is asked for on that connection,
    /// whatever the address says.
    pub(super) fn place_at(&self, relay: PeerId) -> Option<Multiaddr> {
        let mut address = self.direct_link(relay)?.remote.clone();
        if let Some(Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        Some(address.with(Protocol::P2p(relay.inner())).with(Protocol::P2pCircuit))
    }

    fn ask_relays(&mut self, now: Instant) {
        loop {
            let offers = self.meetings.offers.iter().filter(|(_, offers)| offers.relay);
            let relays: Vec<PeerId> =
                offers.map(|(peer, _)| *peer).filter(|&peer| self.direct_link(peer).is_some()).collect();
            let Some(relay) = self.places.next(relays.into_iter(), now) else { return };
            let Some(place) = self.place_at(relay) else { return };
            match self.swarm.listen_on(place) {
                Ok(listener) => {
                    self.places.asked.insert(listener, (relay, false));
                }
                Err(error) => warn!(%relay, %error, "cannot ask a relay for a place"),
            }
        }
    }

    /// What others should know beyond the roster.
    fn routes(&self) -> Vec<Route> {
        if self.meetings.behind_nat {
            return self
                .places
                .held
                .borrow()
                .iter()
                .map(|&relay| Route::Through(relay))
                .take(ROUTES_MAX)
                .collect();
        }
        let listening = self.listening.borrow();
        let away = listening.iter().filter(|address| !is_loopback(address));
        let mut routes: Vec<&Address> = away.collect();
        if !self.meetings.listed.is_empty() {
            // Those that this machine has inside its hospital are nobody's business where the roster has others.
            routes.retain(|address| !is_inner(address) && !self.meetings.listed.contains(address));
        } else if routes.is_empty() {
            // A consortium on one machine.
            routes = listening.iter().collect();
        }
        routes.into_iter().take(ROUTES_MAX).cloned().map(Route::At).collect()
    }

    /// Calls at the members who keep addresses, if there is anything to say or to ask.
    pub(super) fn meet(&mut self, now: Instant) {
        if self.meetings.due > now {
            return;
        }
        self.ask_relays(now);
        self.meetings.called = now;
        self.meetings.due = now + self.meetings.every;
        let routes = self.routes();
        if routes.is_empty() && self.dials.all_linked() {
            return;
        }
        for peer in self.meetings.hosts() {
            if !self.meetings.calling.insert(peer) {
                continue;
            }
            let at = self.direct_link(peer).and_then(|link| ip_of(&link.remote));
            let (reply, answer) = oneshot::channel();
            self.swarm.behaviour_mut().streams.open(peer, Role::Meet, reply);
            let (routes, frame) = (routes.clone(), self.limits.frame_bytes_max);
            self.meetings.calls.spawn(async move {
                let Ok(Ok(halves)) = answer.await else { return (peer, None) };
                match rendezvous::call(Channel::uncounted(halves, frame), routes).await {
                    Ok(members) => (peer, Some(Told { by: peer, at, members })),
                    Err(error) => {
                        debug!(%peer, %error, "did not hear where members are");
                        (peer, None)
                    }
                }
            });
        }
    }

    pub(super) fn learn(&mut self, Told { by, at, members }: Told) {
        let now = Instant::now();
        for listing in members.into_iter().take(self.limits.members_max) {
            let Listing { peer, mut routes } = listing.cleaned(at);
            routes.retain(|route| match route {
                Route::Through(relay) => self.board.knows(*relay),
                Route::At(_) => true,
            });
            if self.dials.learn(peer, by, routes, now + self.meetings.counts_for) {
                debug!(%peer, %by, "heard where a member answers");
                self.dials.hurry(peer, now);
            }
        }
    }

    fn on_nearby(&mut self, event: mdns::Event) {
        let (list, live) = match event {
            mdns::Event::Discovered(list) => (list, true),
            mdns::Event::Expired(list) => (list, false),
        };
        let (now, me) = (Instant::now(), PeerId::from_inner(*self.swarm.local_peer_id()));
        let Ok(me) = me else { return };
        for (peer, address) in list {
            // Anybody can say anything there, so only members are remembered.
            let known = PeerId::from_inner(peer).ok().filter(|peer| self.board.knows(*peer));
            let (Some(peer), Some(address)) = (known, Address::from_multiaddr(&address)) else { continue };
            let addresses = self.meetings.nearby.entry(peer).or_default();
            addresses.retain(|known| *known != address);
            if live {
                addresses.insert(0, address);
                addresses.truncate(ROUTES_MAX);
            }
            let routes = addresses.iter().cloned().map(Route::At).collect();
            let listing = Listing { peer, routes }.cleaned(None);
            if self.dials.learn(peer, me, listing.routes, now + NEARBY_FOR) {
                self.dials.hurry(peer, now);
            }
        }
    }
}

fn is_loopback(address: &Address) -> bool {
    address.socket().is_some_and(|socket| socket.ip().to_canonical().is_loopback())
}

/// Whether an address means something within one network only, or within one link.
fn is_inner(address: &Address) -> bool {
    address.socket().is_some_and(|socket| match socket.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    })
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    Address::from_multiaddr(address)?.socket().map(|socket| socket.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    #[test]
    fn places_are_asked_for_once_and_a_refusal_is_waited_out() {
        let now = Instant::now();
        let relays: Vec<PeerId> = (0..3).map(|_| Identity::generate().peer_id()).collect();
        let all = || relays.iter().copied();
        let reach = Reach { behind_nat: true, ..Reach::default() };
        let mut places = Places::new(&reach, &Limits { relays_wanted: 2, ..Limits::default() });
        let view = places.view();
        let first = places.next(all(), now).unwrap();
        let listener = ListenerId::next();
        places.asked.insert(listener, (first, false));
        let second = places.next(all(), now).unwrap();
        assert_ne!(first, second);
        places.asked.insert(ListenerId::next(), (second, false));
        assert_eq!(places.next(all(), now), None, "two are enough");
        assert!(view.held.borrow().is_empty());
        places.given(first);
        assert_eq!(*view.held.borrow(), BTreeSet::from([first]));
        assert!(places.lost(listener));
        assert!(view.held.borrow().is_empty());
        assert!(!places.lost(listener), "no place of ours");
        assert_eq!(places.next([first].into_iter(), now), None, "asked a moment ago");
        assert_eq!(places.next([first].into_iter(), now + ASK_AGAIN), Some(first));
        let mut reached = Places::new(&Reach::default(), &Limits::default());
        assert_eq!(reached.next(all(), now), None, "whom others reach needs none");
    }
}
