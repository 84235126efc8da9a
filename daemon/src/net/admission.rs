//! Who may open how many channels towards us.
//!
//! A place in the queue of new channels and a place among the peer's channels are both taken *before* the peer
//! hears that its channel is accepted; so an accepted channel is never lost, and a slow caller of
//! [`Incoming::next`](super::Incoming::next) makes peers hear "busy" instead of stopping the network.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{PeerId, channel::Channel, frame::Halves, limits::Limits, role::Role};

/// A peer's place for one channel; free again when the last half of the channel is dropped.
pub(super) type Lease = Arc<OwnedSemaphorePermit>;

/// A new channel, on its way to [`Incoming::next`](super::Incoming::next).
pub(super) type Arrival = (PeerId, Role, Channel);

/// The places of one member, and how often there was none.
#[derive(Debug)]
struct Gate {
    places: Arc<Semaphore>,
    refused: AtomicU64,
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
        let gate = |peer| {
            let places = Arc::new(Semaphore::new(limits.inbound_channels_per_peer_max));
            (peer, Gate { places, refused: AtomicU64::new(0) })
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
    queue: mpsc::Sender<Arrival>,
    frame_bytes_max: usize,
}

impl Doorkeeper {
    pub(super) fn new(
        peer: PeerId,
        gates: Gates,
        queue: mpsc::Sender<Arrival>,
        frame_bytes_max: usize,
    ) -> Self {
        let guest = (!gates.is_member(peer)).then(GuestRoom::new);
        let frame_bytes_max = if guest.is_some() { gates.guest_frame_bytes_max } else { frame_bytes_max };
        Self { peer, gates, guest, queue, frame_bytes_max }
    }

    /// What the peer may open; all else is not even offered.
    pub(super) fn roles(&self) -> &'static [Role] {
        if self.guest.is_some() { &Role::GUEST } else { &Role::ALL }
    }

    /// Both places for one more channel, or `None`, counted, if either is taken.
    pub(super) fn admit(&self) -> Option<Ticket> {
        let gate = self.gates.gates.get(&self.peer);
        let permit = match (gate, &self.guest) {
            (Some(gate), _) => gate.places.clone().try_acquire_owned().ok(),
            (None, Some(guest)) => guest.take(),
            (None, None) => None,
        };
        let taken = permit.and_then(|permit| {
            let place = self.queue.clone().try_reserve_owned().ok()?;
            Some(Ticket {
                peer: self.peer,
                place,
                lease: Arc::new(permit),
                frame_bytes_max: self.frame_bytes_max,
            })
        });
        if let (None, Some(gate)) = (&taken, gate) {
            gate.refused.fetch_add(1, Ordering::Relaxed);
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
        let limits = Limits { inbound_channels_per_peer_max: places, ..Limits::default() };
        let (sender, receiver) = mpsc::channel(queue);
        (Doorkeeper::new(peer, Gates::new([peer].into_iter(), &limits), sender, 1000), receiver)
    }

    #[test]
    fn a_peers_places_come_back_when_its_channels_are_dropped() {
        let (door, mut queue) = door(2, 10);
        for _ in 0..2 {
            door.admit().unwrap().deliver(Role::Query, halves());
        }
        assert!(door.admit().is_none());
        assert_eq!(door.gates.refused(door.peer), 1);
        let (peer, role, channel) = queue.try_recv().unwrap();
        assert_eq!((peer, role), (door.peer, Role::Query));
        let (sender, receiver) = channel.split();
        drop(sender);
        assert!(door.admit().is_none(), "half a channel still counts");
        drop(receiver);
        assert!(door.admit().is_some());
    }

    #[test]
    fn a_full_or_abandoned_queue_refuses_and_keeps_no_place() {
        let (door, mut queue) = door(5, 1);
        door.admit().unwrap().deliver(Role::Query, halves());
        assert!(door.admit().is_none());
        drop(queue.try_recv().unwrap());
        assert!(door.admit().is_some());
        drop(queue);
        assert!(door.admit().is_none());
        assert_eq!(door.gates.refused(door.peer), 2);
    }

    #[test]
    fn a_stranger_has_no_gate() {
        let (mut door, _queue) = door(5, 5);
        door.peer = Identity::generate().peer_id();
        assert!(door.admit().is_none());
    }

    #[test]
    fn a_guest_may_only_join_one_channel_at_a_time_and_a_few_in_all() {
        let (member, mut queue) = door(5, 50);
        assert_eq!(member.roles(), Role::ALL);
        let stranger = Identity::generate().peer_id();
        let guest = Doorkeeper::new(stranger, member.gates.clone(), member.queue.clone(), usize::MAX);
        assert_eq!(guest.roles(), [Role::Join]);
        assert_eq!(guest.frame_bytes_max, 4 << 20);
        guest.admit().unwrap().deliver(Role::Join, halves());
        assert!(guest.admit().is_none(), "one at a time");
        for _ in 2..CHANNELS_PER_GUEST {
            drop(queue.try_recv().unwrap());
            guest.admit().unwrap().deliver(Role::Join, halves());
        }
        drop(queue.try_recv().unwrap());
        assert!(guest.admit().is_none(), "a few in all");
    }
}
