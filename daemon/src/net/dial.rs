//! When to dial whom.
//!
//! ```text
//!            due            established
//! Waiting ─────────▶ Trying ───────────▶ Linked
//!    ▲                 │ failed            │ lost
//!    └─────────────────┴───────────────────┘
//! ```
//!
//! Where several kinds of ways lead to a member, they take turns: first the addresses of the roster, which its
//! members have signed, then those that somebody told, then relays.

use std::{collections::HashMap, time::Duration};

use tokio::{net::lookup_host, time::Instant};

use super::{
    Address, PeerId,
    address::Host,
    limits::Limits,
    rendezvous::{ROUTES_MAX, Route},
};

/// Socket addresses taken from one host name.
const SOCKETS_PER_NAME_MAX: usize = 8;
/// Those whose word about one member is kept.
const TELLERS_MAX: usize = 8;
/// Ways tried in one dial.
const ROUTES_PER_DIAL_MAX: usize = 24;

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

/// What somebody said about a member.
#[derive(Debug)]
struct Told {
    by: PeerId,
    routes: Vec<Route>,
    until: Instant,
}

#[derive(Debug)]
struct Dial {
    /// By the roster.
    addresses: Vec<Address>,
    told: Vec<Told>,
    backoff: Backoff,
    phase: Phase,
    tried: Option<Instant>,
    /// Which kind of ways is next: those of the roster, those that were told, relays.
    turn: usize,
}

impl Dial {
    /// The ways by which the member may be reached, of each kind.
    fn ways(&self, now: Instant) -> [Vec<Route>; 3] {
        let listed: Vec<Route> = self.addresses.iter().cloned().map(Route::At).collect();
        let (mut told, mut relayed) = (Vec::new(), Vec::new());
        for route in self.told.iter().filter(|told| told.until > now).flat_map(|told| &told.routes) {
            let list = match route {
                Route::At(_) => &mut told,
                Route::Through(_) => &mut relayed,
            };
            if !listed.contains(route) && !list.contains(route) && list.len() < ROUTES_PER_DIAL_MAX {
                list.push(route.clone());
            }
        }
        [listed, told, relayed]
    }

    fn has_ways(&self, now: Instant) -> bool {
        !self.addresses.is_empty() || self.told.iter().any(|told| told.until > now && !told.routes.is_empty())
    }

    fn next_ways(&mut self, now: Instant) -> Vec<Route> {
        let mut ways = self.ways(now);
        let kinds = ways.len();
        let turns = (self.turn..self.turn + kinds).map(|turn| turn % kinds);
        let Some(turn) = turns.into_iter().find(|&turn| !ways[turn].is_empty()) else { return Vec::new() };
        self.turn = turn + 1;
        std::mem::take(&mut ways[turn])
    }
}

/// The dialling plan for all members; those of whom no address is known wait for one. Reads no clock and draws no chance of its own.
#[derive(Debug)]
pub(super) struct Dials {
    dials: HashMap<PeerId, Dial>,
    redial_after: Duration,
}

impl Dials {
    /// Everybody is due as soon as there is an address.
    pub(super) fn new(
        members: impl Iterator<Item = (PeerId, Vec<Address>)>,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let backoff = Backoff { first: limits.redial_after, most: limits.redial_after_max, failures: 0 };
        let dial = |addresses| Dial {
            addresses,
            told: Vec::new(),
            backoff: backoff.clone(),
            phase: Phase::Waiting { due: now },
            tried: None,
            turn: 0,
        };
        let dials = members.map(|(peer, list)| (peer, dial(list))).collect();
        Self { dials, redial_after: limits.redial_after }
    }

    /// Where `peer` answers, as `by` says; takes the place of what it said before. Says whether that is news about
    /// a peer that we do not reach.
    pub(super) fn learn(&mut self, peer: PeerId, by: PeerId, routes: Vec<Route>, until: Instant) -> bool {
        debug_assert!(routes.len() <= ROUTES_MAX, "cleaned before");
        let Some(dial) = self.dials.get_mut(&peer) else { return false };
        let before = dial.told.iter().position(|told| told.by == by).map(|place| dial.told.remove(place));
        let fresh = before.is_none_or(|before| before.routes != routes) && !routes.is_empty();
        if !routes.is_empty() {
            if dial.told.len() >= TELLERS_MAX {
                dial.told.remove(0);
            }
            dial.told.push(Told { by, routes, until });
        }
        fresh && !matches!(dial.phase, Phase::Linked)
    }

    /// The moment of the next dial, if any is planned.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let planned = self.dials.values().filter_map(|dial| match dial.phase {
            Phase::Waiting { due } if dial.has_ways(now) => Some(due),
            Phase::Waiting { .. } | Phase::Trying | Phase::Linked => None,
        });
        planned.min()
    }

    /// One peer whose time has come, now counted as being tried.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(PeerId, Vec<Route>)> {
        let (&peer, dial) = self.dials.iter_mut().find(|(_, dial)| {
            matches!(dial.phase, Phase::Waiting { due } if due <= now) && dial.has_ways(now)
        })?;
        dial.phase = Phase::Trying;
        dial.tried = Some(now);
        Some((peer, dial.next_ways(now)))
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

    /// Whether nobody is to be found.
    pub(super) fn all_linked(&self) -> bool {
        self.dials.values().all(|dial| dial.phase == Phase::Linked)
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
pub(super) async fn resolve(addresses: Vec<Address>, within: Duration) -> Vec<Address> {
    let mut found = Vec::with_capacity(addresses.len());
    for address in addresses.into_iter().filter(Address::is_spoken) {
        match address.host() {
            Host::Ip(_) => found.push(address),
            Host::Name(name) => {
                let looked = tokio::time::timeout(within, lookup_host((name.as_str(), address.port()))).await;
                if let Ok(Ok(sockets)) = looked {
                    found.extend(sockets.take(SOCKETS_PER_NAME_MAX).map(|socket| address.at(socket)));
                }
            }
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
        assert_eq!(dials.next_due(now), None);
        dials.linked(peer);
        dials.down(peer, now, 0);
        assert_eq!(dials.next_due(now), Some(now + Duration::from_millis(100)));
    }

    #[test]
    fn a_member_without_an_address_waits_until_one_is_told_and_forgets_it_in_time() {
        let (peer, teller, now) =
            (Identity::generate().peer_id(), Identity::generate().peer_id(), Instant::now());
        let mut dials = Dials::new([(peer, Vec::new())].into_iter(), &Limits::default(), now);
        assert_eq!((dials.next_due(now), dials.take_due(now)), (None, None));
        let at = Route::At("192.0.2.1:5".parse().unwrap());
        let until = now + Duration::from_secs(60);
        assert!(dials.learn(peer, teller, vec![at.clone()], until));
        assert!(!dials.learn(peer, teller, vec![at.clone()], until), "no news");
        assert_eq!(dials.next_due(now), Some(now));
        assert_eq!(dials.next_due(until), None);
        assert_eq!(dials.take_due(now), Some((peer, vec![at])));
        dials.down(peer, now, 0);
        assert!(!dials.learn(peer, teller, Vec::new(), until));
        assert_eq!(dials.next_due(now), None, "taken back");
        assert!(!dials.learn(teller, peer, Vec::new(), until), "nobody's member");
    }

    #[test]
    fn addresses_and_relays_take_turns() {
        let (mut dials, peer, now) = plan();
        let (teller, relay) = (Identity::generate().peer_id(), Identity::generate().peer_id());
        dials.learn(peer, teller, vec![Route::Through(relay)], now + Duration::from_secs(3600));
        let listed = vec![Route::At("127.0.0.1:1".parse().unwrap())];
        let mut later = now;
        for round in 0..4 {
            let expected = if round % 2 == 0 { listed.clone() } else { vec![Route::Through(relay)] };
            assert_eq!(dials.take_due(later), Some((peer, expected)), "{round}");
            dials.down(peer, later, 0);
            later += Duration::from_secs(60);
        }
        dials.learn(peer, teller, Vec::new(), later);
        for _ in 0..2 {
            assert_eq!(dials.take_due(later), Some((peer, listed.clone())), "nothing but the roster is left");
            dials.down(peer, later, 0);
            later += Duration::from_secs(60);
        }
    }

    #[test]
    fn what_is_told_of_a_member_is_bounded() {
        let (mut dials, peer, now) = plan();
        let until = now + Duration::from_secs(3600);
        for teller in 0..100_u16 {
            let routes =
                (1..=ROUTES_MAX).map(|n| Route::At(format!("192.0.2.{n}:{}", 1 + teller).parse().unwrap()));
            dials.learn(peer, Identity::generate().peer_id(), routes.collect(), until);
        }
        assert_eq!(dials.dials[&peer].told.len(), TELLERS_MAX);
        assert_eq!(dials.take_due(now).unwrap().1.len(), 1, "the roster comes first");
        dials.down(peer, now, 0);
        let later = now + Duration::from_secs(60);
        assert_eq!(dials.take_due(later).unwrap().1.len(), ROUTES_PER_DIAL_MAX);
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
            waits.push((dials.next_due(now).unwrap() - now).as_millis());
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
        assert_eq!(dials.next_due(later), Some(later + Duration::from_millis(200)));
        let idle = later + Duration::from_secs(10);
        dials.hurry(peer, idle);
        assert_eq!(dials.next_due(idle), Some(later + Duration::from_millis(200)), "never pushed back");
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
