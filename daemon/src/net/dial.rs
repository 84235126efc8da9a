//! When to dial whom.
//!
//! ```text
//!            due            established
//! Waiting ─────────▶ Trying ───────────▶ Linked
//!    ▲                 │ failed            │ lost
//!    └─────────────────┴───────────────────┘
//! ```

use std::{collections::HashMap, time::Duration};

use libp2p::Multiaddr;
use tokio::{net::lookup_host, time::Instant};

use super::{
    Address, PeerId,
    address::{Host, multiaddr},
    limits::Limits,
};

/// Socket addresses taken from one host name.
const SOCKETS_PER_NAME_MAX: usize = 8;

/// Exponential back-off with jitter, so that nodes which lost the same peer do not come back in step.
#[derive(Clone, Debug)]
struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// The next wait: between half and all of `first` doubled once for each failure so far, at most `most`.
    /// `draw` is uniform.
    fn next(&mut self, draw: u32) -> Duration {
        let doubled =
            1_u32.checked_shl(self.failures).map_or(self.most, |factor| self.first.saturating_mul(factor));
        let ceiling = doubled.min(self.most);
        self.failures = self.failures.saturating_add(1).min(31);
        ceiling / 2 + (ceiling / 2).mul_f64(f64::from(draw) / f64::from(u32::MAX))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { due: Instant },
    Trying,
    Linked,
}

#[derive(Debug)]
struct Dial {
    addresses: Vec<Address>,
    backoff: Backoff,
    phase: Phase,
    tried: Option<Instant>,
}

/// The dialling plan for all members that have addresses. Reads no clock and draws no chance of its own.
#[derive(Debug)]
pub(super) struct Dials {
    dials: HashMap<PeerId, Dial>,
    redial_after: Duration,
}

impl Dials {
    /// Everybody with an address is due at once.
    pub(super) fn new(
        members: impl Iterator<Item = (PeerId, Vec<Address>)>,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let backoff = Backoff { first: limits.redial_after, most: limits.redial_after_max, failures: 0 };
        let dial = |addresses| Dial {
            addresses,
            backoff: backoff.clone(),
            phase: Phase::Waiting { due: now },
            tried: None,
        };
        let dials =
            members.filter(|(_, list)| !list.is_empty()).map(|(peer, list)| (peer, dial(list))).collect();
        Self { dials, redial_after: limits.redial_after }
    }

    /// The moment of the next dial, if any is planned.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.dials
            .values()
            .filter_map(|dial| match dial.phase {
                Phase::Waiting { due } => Some(due),
                Phase::Trying | Phase::Linked => None,
            })
            .min()
    }

    /// One peer whose time has come, now counted as being tried.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(PeerId, Vec<Address>)> {
        let (&peer, dial) = self
            .dials
            .iter_mut()
            .find(|(_, dial)| matches!(dial.phase, Phase::Waiting { due } if due <= now))?;
        dial.phase = Phase::Trying;
        dial.tried = Some(now);
        Some((peer, dial.addresses.clone()))
    }

    /// Somebody waits for `peer`: brings its dial forward, but not closer to the last one than the first
    /// back-off, so that impatient callers cannot make us hammer a dead address.
    pub(super) fn hurry(&mut self, peer: PeerId, now: Instant) {
        let spacing = self.redial_after;
        if let Some(dial) = self.dials.get_mut(&peer)
            && let Phase::Waiting { due } = &mut dial.phase
        {
            let earliest = dial.tried.map_or(now, |tried| tried + spacing).max(now);
            *due = (*due).min(earliest);
        }
    }

    pub(super) fn linked(&mut self, peer: PeerId) {
        if let Some(dial) = self.dials.get_mut(&peer) {
            dial.phase = Phase::Linked;
        }
    }

    /// The peer answered on its connection. Only this ends the back-off: a peer that does not know us lets the
    /// connection come up and then closes it.
    pub(super) fn alive(&mut self, peer: PeerId) {
        if let Some(dial) = self.dials.get_mut(&peer) {
            dial.backoff.failures = 0;
        }
    }

    /// The dial failed or the last connection is gone. `draw` is uniform.
    pub(super) fn down(&mut self, peer: PeerId, now: Instant, draw: u32) {
        if let Some(dial) = self.dials.get_mut(&peer)
            && !matches!(dial.phase, Phase::Waiting { .. })
        {
            dial.phase = Phase::Waiting { due: now + dial.backoff.next(draw) };
        }
    }
}

/// What can be dialled for `addresses`: names looked up, within `within` each; empty if nothing was found.
/// May be dropped.
pub(super) async fn resolve(addresses: Vec<Address>, within: Duration) -> Vec<Multiaddr> {
    let mut found = Vec::with_capacity(addresses.len());
    for address in addresses {
        match (address.socket(), address.host()) {
            (Some(socket), _) => found.push(multiaddr(socket)),
            (None, Host::Name(name)) => {
                let looked = tokio::time::timeout(within, lookup_host((name.as_str(), address.port()))).await;
                if let Ok(Ok(sockets)) = looked {
                    found.extend(sockets.take(SOCKETS_PER_NAME_MAX).map(multiaddr));
                }
            }
            (None, Host::Ip(_)) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    fn plan() -> (Dials, PeerId, Instant) {
        let (peer, now) = (Identity::generate().peer_id(), Instant::now());
        let silent = Identity::generate().peer_id();
        let addresses = vec!["127.0.0.1:1".parse().unwrap()];
        let members = [(peer, addresses), (silent, Vec::new())];
        (Dials::new(members.into_iter(), &Limits::default(), now), peer, now)
    }

    #[test]
    fn waits_double_up_to_the_ceiling_and_stay_within_the_jitter() {
        let limits = Limits::default();
        for draw in [0, u32::MAX / 2, u32::MAX] {
            let mut backoff =
                Backoff { first: limits.redial_after, most: limits.redial_after_max, failures: 0 };
            let mut ceiling = limits.redial_after;
            for _ in 0..100 {
                let wait = backoff.next(draw);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} for {ceiling:?}");
                ceiling = (ceiling * 2).min(limits.redial_after_max);
            }
        }
    }

    #[test]
    fn a_member_with_an_address_is_tried_once_at_a_time() {
        let (mut dials, peer, now) = plan();
        assert_eq!(dials.take_due(now).unwrap().0, peer);
        assert!(dials.take_due(now + Duration::from_secs(60)).is_none());
        assert_eq!(dials.next_due(), None);
        dials.linked(peer);
        dials.down(peer, now, 0);
        assert_eq!(dials.next_due(), Some(now + Duration::from_millis(100)));
    }

    #[test]
    fn only_an_answer_resets_the_wait() {
        let (mut dials, peer, now) = plan();
        let mut waits = Vec::new();
        for round in 0..4 {
            dials.take_due(now + Duration::from_secs(3600)).unwrap();
            dials.linked(peer);
            if round == 3 {
                dials.alive(peer);
            }
            dials.down(peer, now, u32::MAX);
            waits.push((dials.next_due().unwrap() - now).as_millis());
        }
        assert_eq!(waits, [200, 400, 800, 200]);
    }

    #[test]
    fn hurry_brings_a_dial_forward_but_not_on_top_of_the_last() {
        let (mut dials, peer, now) = plan();
        dials.take_due(now).unwrap();
        for _ in 0..10 {
            dials.down(peer, now, u32::MAX);
            dials.take_due(now + Duration::from_secs(3600));
        }
        let later = now + Duration::from_secs(3600);
        dials.down(peer, later, u32::MAX);
        dials.hurry(peer, later);
        assert_eq!(dials.next_due(), Some(later + Duration::from_millis(200)));
        let idle = later + Duration::from_secs(10);
        dials.hurry(peer, idle);
        assert_eq!(dials.next_due(), Some(later + Duration::from_millis(200)), "never pushed back");
    }

    #[tokio::test]
    async fn addresses_resolve_and_unknown_names_are_left_out() {
        let addresses = ["127.0.0.1:5", "[::1]:6"].map(|text| text.parse().unwrap()).to_vec();
        let found = resolve(addresses, Duration::from_secs(5)).await;
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/ip4/127.0.0.1/tcp/5", "/ip6/::1/tcp/6"]);
        let unknown = vec!["no-such-host.invalid:7".parse().unwrap()];
        assert!(resolve(unknown, Duration::from_secs(5)).await.is_empty());
    }
}
