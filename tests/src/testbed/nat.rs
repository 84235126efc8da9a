//! Network address translation for one host, as a hospital's firewall does it.
//!
//! A port of the host gets one port outside, whomever it talks to, and only ends that the host has sent something
//! to may answer. Everything else from outside is dropped without a word.

use super::packet::{End, Flow, flow, readdress};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// The ports outside.
const PORTS: std::ops::Range<u16> = 20_000..60_000;
/// What nothing passed for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// A port of the host: which protocol, which port.
type Inner = (u8, u16);

#[derive(Debug)]
struct Mapping {
    outer: u16,
    used: Instant,
    /// Ends that the host has sent something to.
    known: HashMap<SocketAddrV4, Instant>,
}

/// The translation.
#[derive(Debug)]
pub(super) struct Nat {
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    next: u16,
    mappings: HashMap<Inner, Mapping>,
    inner_of: HashMap<(u8, u16), u16>,
}

impl Nat {
    /// For the host at `inside`, which others know as `outside`.
    pub(super) fn new(inside: Ipv4Addr, outside: Ipv4Addr) -> Self {
        Self { inside, outside, next: PORTS.start, mappings: HashMap::new(), inner_of: HashMap::new() }
    }

    /// A packet of the host; whether it may pass.
    pub(super) fn leave(&mut self, packet: &mut [u8], now: Instant) -> bool {
        let Some(Flow { protocol, source, destination }) = flow(packet) else { return false };
        if *source.ip() != self.inside {
            return false;
        }
        let Some(outer) = self.outer(protocol, source.port(), destination, now) else { return false };
        readdress(packet, End::Source, SocketAddrV4::new(self.outside, outer));
        true
    }

    /// A packet for the host; whether it may pass.
    pub(super) fn arrive(&mut self, packet: &mut [u8], now: Instant) -> bool {
        let Some(Flow { protocol, source, destination }) = flow(packet) else { return false };
        let Some(inner) = self.inner_of.get(&(protocol, destination.port())).copied() else { return false };
        let Some(mapping) = self.mappings.get_mut(&(protocol, inner)) else { return false };
        let Some(known) = mapping.known.get_mut(&source) else { return false };
        (*known, mapping.used) = (now, now);
        readdress(packet, End::Destination, SocketAddrV4::new(self.inside, inner));
        true
    }

    fn outer(&mut self, protocol: u8, inner: u16, to: SocketAddrV4, now: Instant) -> Option<u16> {
        if let Some(mapping) = self.mappings.get_mut(&(protocol, inner)) {
            mapping.used = now;
            mapping.known.insert(to, now);
            return Some(mapping.outer);
        }
        self.forget(now);
        let outer = self.free(protocol)?;
        let known = HashMap::from([(to, now)]);
        self.mappings.insert((protocol, inner), Mapping { outer, used: now, known });
        self.inner_of.insert((protocol, outer), inner);
        Some(outer)
    }

    /// The next port that is not taken; the last one used comes round last.
    fn free(&mut self, protocol: u8) -> Option<u16> {
        for _ in PORTS {
            let port = self.next;
            self.next = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
            if !self.inner_of.contains_key(&(protocol, port)) {
                return Some(port);
            }
        }
        None
    }

    fn forget(&mut self, now: Instant) {
        let old = |since: Instant| now.duration_since(since) > FORGOTTEN_AFTER;
        let inner_of = &mut self.inner_of;
        self.mappings.retain(|(protocol, _), mapping| {
            mapping.known.retain(|_, used| !old(*used));
            let kept = !old(mapping.used);
            if !kept {
                inner_of.remove(&(*protocol, mapping.outer));
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::packet;
    use super::*;

    const TCP: u8 = 6;
    const HOST: &str = "192.168.7.2:5000";
    const OUTSIDE: &str = "10.0.0.8";

    fn nat() -> Nat {
        Nat::new("192.168.7.2".parse().unwrap(), OUTSIDE.parse().unwrap())
    }

    /// What the world sees of a packet of the host.
    fn sent(nat: &mut Nat, from: &str, to: &str, now: Instant) -> SocketAddrV4 {
        let mut bytes = packet(TCP, from, to, b"x");
        assert!(nat.leave(&mut bytes, now));
        flow(&bytes).unwrap().source
    }

    #[test]
    fn only_those_may_answer_who_were_spoken_to() {
        let (mut nat, now) = (nat(), Instant::now());
        let outside = sent(&mut nat, HOST, "10.0.0.1:4710", now);
        assert_eq!(outside.ip().to_string(), OUTSIDE);
        let mut answer = packet(TCP, "10.0.0.1:4710", &outside.to_string(), b"y");
        assert!(nat.arrive(&mut answer, now));
        assert_eq!(answer, packet(TCP, "10.0.0.1:4710", HOST, b"y"));
        for stranger in ["10.0.0.1:4711", "10.0.0.2:4710"] {
            assert!(!nat.arrive(&mut packet(TCP, stranger, &outside.to_string(), b"y"), now));
        }
        let unasked = format!("{OUTSIDE}:5000");
        assert!(!nat.arrive(&mut packet(TCP, "10.0.0.1:4710", &unasked, b"y"), now));
        // The same port outside for everybody, which is what hole punching needs.
        assert_eq!(sent(&mut nat, HOST, "10.0.0.2:4710", now), outside);
        assert!(nat.arrive(&mut packet(TCP, "10.0.0.2:4710", &outside.to_string(), b"y"), now));
        assert_ne!(sent(&mut nat, "192.168.7.2:5001", "10.0.0.2:4710", now), outside);
        assert!(!nat.leave(&mut packet(TCP, "192.168.7.3:5000", "10.0.0.2:4710", b"y"), now));
    }

    #[test]
    fn what_is_not_used_is_forgotten_and_its_port_free_again() {
        let (mut nat, now) = (nat(), Instant::now());
        let outside = sent(&mut nat, HOST, "10.0.0.1:4710", now);
        let later = now + FORGOTTEN_AFTER + Duration::from_secs(1);
        sent(&mut nat, "192.168.7.2:5001", "10.0.0.1:4710", later);
        assert_eq!((nat.mappings.len(), nat.inner_of.len()), (1, 1));
        assert!(!nat.arrive(&mut packet(TCP, "10.0.0.1:4710", &outside.to_string(), b"y"), later));
    }
}
