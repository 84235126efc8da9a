//! Who may open how many channels towards us.
//!
//! A place in the queue of new channels and a place among the peer's channels are both taken *before* the peer
//! hears that its channel is accepted; so an accepted channel is never lost, and a slow caller of
//! [`Incoming::next`](super::Incoming::next) makes peers hear "busy" instead of stopping the network.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::{
    PeerId, channel::Channel, frame::Halves, limits::Limits, measure::Measure, role::Role, seldom::Seldom,
};

/// A peer's place for one channel; free again when the last half of the channel is dropped.
pub(super) type Lease = Arc<OwnedSemaphorePermit>;

/// A new channel, on its way to [`Incoming::next`](super::Incoming::next).
pub(super) type Arrival = (PeerId, Role, Channel);

/// Where new channels go.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    /// To [`Incoming::next`](super::Incoming::next).
    pub(super) callers: mpsc::Sender<Arrival>,
    /// Those of [`Role::Meet`], to the swarm's task.
    pub(super) meet: mpsc::Sender<Arrival>,
}

impl Queues {
    fn of(&self, role: Role) -> &mpsc::Sender<Arrival> {
        if role == Role::Meet { &self.meet } else { &self.callers }
    }
}

/// The places of one member, and how often there was none.
#[derive(Debug)]
struct Gate {
    places: Arc<Semaphore>,
    /// A channel that is closed at once takes no place, but work.
    openings: Mutex<Measure>,
    refused: AtomicU64,
    said: Mutex<Seldom>,
}

impl Gate {
    /// Counts a channel that found no place, and speaks of it once per interval.
    fn refuse(&self, peer: PeerId) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unlogged) = said.note(Instant::now()) {
            tracing::warn!(%peer, unlogged, "refused a channel: there is no place for another one of this member");
        }
    }
}

impl Gate {
    fn may_open(&self, now: Instant) -> bool {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

/// Channels that a guest may open on one connection, one after the other.
const CHANNELS_PER_GUEST: u32 = 8;

/// The gates of all members. Members are fixed at start, so nothing here needs a lock.
///
/// Everybody else is a guest: let in only while somebody is expected, and only to ask to join.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    gates: Arc<HashMap<PeerId, Gate>>,
    expecting: Arc<AtomicBool>,
    guest_frame_bytes_max: usize,
}

/// What one connection of a guest has left.
#[derive(Debug)]
struct GuestRoom {
    place: Arc<Semaphore>,
    channels_left: AtomicU32,
}

impl GuestRoom {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            place: Arc::new(Semaphore::new(1)),
            channels_left: AtomicU32::new(CHANNELS_PER_GUEST),
        })
    }

    /// The place for one channel, counted whether or not it is opened in the end.
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        let spend = |left: u32| left.checked_sub(1);
        self.channels_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).ok()?;
        self.place.clone().try_acquire_owned().ok()
    }
}

impl Gates {
    pub(super) fn new(members: impl Iterator<Item = PeerId>, limits: &Limits) -> Self {
        let now = Instant::now();
        let gate = |peer| {
            let places = Arc::new(Semaphore::new(limits.inbound_channels_per_peer_max));
            let openings = Mutex::new(Measure::new(limits.channels_burst, limits.channels_per_second, now));
            let said = Mutex::new(Seldom::new(limits.refusals_logged_every));
            (peer, Gate { places, openings, refused: AtomicU64::new(0), said })
        };
        Self {
            gates: Arc::new(members.map(gate).collect()),
            expecting: Arc::default(),
            guest_frame_bytes_max: limits.guest_frame_bytes_max.min(limits.frame_bytes_max),
        }
    }

    pub(super) fn is_member(&self, peer: PeerId) -> bool {
        self.gates.contains_key(&peer)
    }

    /// Whether guests are let in at all.
    pub(super) fn is_expecting(&self) -> bool {
        self.expecting.load(Ordering::Relaxed)
    }

    pub(super) fn expect_guests(&self, expecting: bool) {
        self.expecting.store(expecting, Ordering::Relaxed);
    }

    /// Channels of `peer` that were refused since the start.
    pub(super) fn refused(&self, peer: PeerId) -> u64 {
        self.gates.get(&peer).map_or(0, |gate| gate.refused.load(Ordering::Relaxed))
    }
}

/// Admits the channels of one connection.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    peer: PeerId,
    gates: Gates,
    /// For somebody who is no member.
    guest: Option<Arc<GuestRoom>>,
    queues: Queues,
    frame_bytes_max: usize,
}

impl Doorkeeper {
    pub(super) fn new(peer: PeerId, gates: Gates, queues: Queues, frame_bytes_max: usize) -> Self {
        let guest = (!gates.is_member(peer)).then(GuestRoom::new);
        let frame_bytes_max = if guest.is_some() { gates.guest_frame_bytes_max } else { frame_bytes_max };
        Self { peer, gates, guest, queues, frame_bytes_max }
    }

    /// What the peer may open; all else is not even offered.
    pub(super) fn roles(&self) -> &'static [Role] {
        if self.guest.is_some() { &Role::GUEST } else { &Role::MEMBER }
    }

    /// Both places for one more channel, or `None`, counted, if either is taken or they are asked for too fast.
    pub(super) fn admit(&self, role: Role) -> Option<Ticket> {
        let gate = self.gates.gates.get(&self.peer);
        let permit = match (gate, &self.guest) {
            (Some(gate), _) if !gate.may_open(Instant::now()) => None,
            (Some(gate), _) => gate.places.clone().try_acquire_owned().ok(),
            (None, Some(guest)) => guest.take(),
            (None, None) => None,
        };
        let taken = permit.and_then(|permit| {
            let place = self.queues.of(role).clone().try_reserve_owned().ok()?;
            Some(Ticket {
                peer: self.peer,
                place,
                lease: Arc::new(permit),
                frame_bytes_max: self.frame_bytes_max,
            })
        });
        if let (None, Some(gate)) = (&taken, gate) {
            gate.refuse(self.peer);
        }
        taken
    }
}

/// The right to deliver one channel.
#[derive(Debug)]
pub(super) struct Ticket {
    peer: PeerId,
    place: mpsc::OwnedPermit<Arrival>,
    lease: Lease,
    frame_bytes_max: usize,
}

impl Ticket {
    pub(super) fn deliver(self, role: Role, halves: Halves) {
        let channel = Channel::between(halves, self.frame_bytes_max, self.lease);
        self.place.send((self.peer, role, channel));
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;
    use crate::net::Identity;

    fn halves() -> Halves {
        Halves { reader: Box::new(Cursor::new(Vec::new())), writer: Box::new(Cursor::new(Vec::new())) }
    }

    fn door(places: usize, queue: usize) -> (Doorkeeper, mpsc::Receiver<Arrival>) {
        let peer = Identity::generate().peer_id();
        let limits =
            Limits { inbound_channels_per_peer_max: places, channels_burst: 20, ..Limits::default() };
        let (callers, receiver) = mpsc::channel(queue);
        let queues = Queues { callers, meet: mpsc::channel(1).0 };
        (Doorkeeper::new(peer, Gates::new([peer].into_iter(), &limits), queues, 1000), receiver)
    }

    #[test]
    fn channels_that_are_closed_at_once_are_bounded_by_their_rate() {
        let (door, mut queue) = door(50, 50);
        let begun = std::time::Instant::now();
        let mut admitted = 0;
        while let Some(ticket) = door.admit(Role::Query) {
            ticket.deliver(Role::Query, halves());
            drop(queue.try_recv().unwrap());
            admitted += 1;
        }
        let more = begun.elapsed().as_secs() * u64::from(Limits::default().channels_per_second);
        assert!((20..=220 + more).contains(&admitted), "{admitted}");
        assert_eq!(door.gates.refused(door.peer), 1);
    }

    #[test]
    fn members_meet_without_the_callers_queue() {
        let (mut door, mut queue) = door(5, 1);
        let (meet, mut meetings) = mpsc::channel(1);
        door.queues.meet = meet;
        door.admit(Role::Meet).unwrap().deliver(Role::Meet, halves());
        assert_eq!(meetings.try_recv().unwrap().1, Role::Meet);
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn a_peers_places_come_back_when_its_channels_are_dropped() {
        let (door, mut queue) = door(2, 10);
        for _ in 0..2 {
            door.admit(Role::Query).unwrap().deliver(Role::Query, halves());
        }
        assert!(door.admit(Role::Query).is_none());
        assert_eq!(door.gates.refused(door.peer), 1);
        let (peer, role, channel) = queue.try_recv().unwrap();
        assert_eq!((peer, role), (door.peer, Role::Query));
        let (sender, receiver) = channel.split();
        drop(sender);
        assert!(door.admit(Role::Query).is_none(), "half a channel still counts");
        drop(receiver);
        assert!(door.admit(Role::Query).is_some());
    }

    #[test]
    fn a_full_or_abandoned_queue_refuses_and_keeps_no_place() {
        let (door, mut queue) = door(5, 1);
        door.admit(Role::Query).unwrap().deliver(Role::Query, halves());
        assert!(door.admit(Role::Query).is_none());
        drop(queue.try_recv().unwrap());
        assert!(door.admit(Role::Query).is_some());
        drop(queue);
        assert!(door.admit(Role::Query).is_none());
        assert_eq!(door.gates.refused(door.peer), 2);
    }

    #[test]
    fn a_stranger_has_no_gate() {
        let (mut door, _queue) = door(5, 5);
        door.peer = Identity::generate().peer_id();
        assert!(door.admit(Role::Query).is_none());
    }

    #[test]
    fn a_guest_may_only_join_one_channel_at_a_time_and_a_few_in_all() {
        let (member, mut queue) = door(5, 50);
        assert_eq!(member.roles(), Role::MEMBER);
        let stranger = Identity::generate().peer_id();
        let guest = Doorkeeper::new(stranger, member.gates.clone(), member.queues.clone(), usize::MAX);
        assert_eq!(guest.roles(), [Role::Join]);
        assert_eq!(guest.frame_bytes_max, 4 << 20);
        guest.admit(Role::Join).unwrap().deliver(Role::Join, halves());
        assert!(guest.admit(Role::Join).is_none(), "one at a time");
        for _ in 2..CHANNELS_PER_GUEST {
            drop(queue.try_recv().unwrap());
            guest.admit(Role::Join).unwrap().deliver(Role::Join, halves());
        }
        drop(queue.try_recv().unwrap());
        assert!(guest.admit(Role::Join).is_none(), "a few in all");
    }
}
