//! How often something may happen.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::Instant;

/// So many at once, and so many each second after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    burst: f64,
    each_second: f64,
    left: f64,
    at: Instant,
}

impl Measure {
    pub(super) fn new(burst: u32, each_second: u32, now: Instant) -> Self {
        Self { burst: f64::from(burst), each_second: f64::from(each_second), left: f64::from(burst), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.each_second).min(self.burst);
        self.at = self.at.max(now);
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }

    /// Gives one back.
    pub(super) fn give(&mut self) {
        self.left = (self.left + 1.0).min(self.burst);
    }

    /// From now on so many times as much.
    fn widen(&mut self, times: f64) {
        self.burst *= times;
        self.each_second *= times;
        self.left = self.burst;
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.burst
    }
}

/// Where a connection comes from, as far as somebody can be held to it: one address of IP version 4, and what one
/// customer is commonly given in version 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4(Ipv4Addr),
    V6(u64),
    /// All those above the number that is told apart.
    Others,
}

impl Source {
    /// `None` for what does not come by IP, such as a connection through a relay.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        match address.iter().next()? {
            Protocol::Ip4(ip) => Some(Self::V4(ip)),
            Protocol::Ip6(ip) => Some(match ip.to_canonical() {
                IpAddr::V4(ip) => Self::V4(ip),
                IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
            }),
            _ => None,
        }
    }
}

/// A measure for every source, in bounded memory.
#[derive(Debug)]
pub(super) struct Sources {
    most: usize,
    fresh: (u32, u32),
    measures: HashMap<Source, Measure>,
    /// Where members have come from. They are kept, and have more: what shares an address with a member, behind a
    /// proxy say, must not keep the member out.
    proven: HashSet<Source>,
    others: Measure,
    swept: Instant,
}

/// Those that are whole again are forgotten at most this often, so that a flood from everywhere stays cheap.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What an address has from which a member came, for each one that another has.
const PROVEN_TIMES: f64 = 10.0;

impl Sources {
    pub(super) fn new(most: usize, burst: u32, each_second: u32, now: Instant) -> Self {
        let others = Measure::new(burst, each_second, now);
        Self {
            most,
            fresh: (burst, each_second),
            measures: HashMap::new(),
            proven: HashSet::new(),
            others,
            swept: now,
        }
    }

    /// Takes one from the measure of `source`; `Some` says which measure gave it.
    pub(super) fn take(&mut self, source: Source, now: Instant) -> Option<Source> {
        if !self.measures.contains_key(&source) && self.measures.len() >= self.most {
            if self.swept + SWEEP_EVERY <= now {
                self.swept = now;
                self.measures.retain(|source, measure| self.proven.contains(source) || !measure.is_full(now));
            }
            if self.measures.len() >= self.most {
                return self.others.take(now).then_some(Source::Others);
            }
        }
        let (burst, each_second) = self.fresh;
        let measure = self.measures.entry(source).or_insert_with(|| Measure::new(burst, each_second, now));
        measure.take(now).then_some(source)
    }

    /// A member has proved itself from there: gives back what [`Sources::take`] took.
    pub(super) fn give(&mut self, source: Source) {
        match source {
            Source::Others => self.others.give(),
            _ => {
                let Some(measure) = self.measures.get_mut(&source) else { return };
                measure.give();
                // At most half of all places: the addresses of a member that has many are no way to fill them.
                if self.proven.len() < self.most / 2 && self.proven.insert(source) {
                    measure.widen(PROVEN_TIMES);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_source_has_a_burst_and_then_a_rate_and_more_where_a_member_came_from() {
        let now = Instant::now();
        let mut sources = Sources::new(10, 3, 2, now);
        let (one, other) = (source("/ip4/192.0.2.1/tcp/5"), source("/ip4/192.0.2.2/tcp/5"));
        for _ in 0..3 {
            assert_eq!(sources.take(one, now), Some(one));
        }
        assert_eq!(sources.take(one, now), None);
        assert_eq!(sources.take(other, now), Some(other), "another is not held to it");
        assert_eq!(sources.take(one, now + Duration::from_millis(400)), None);
        assert_eq!(sources.take(one, now + Duration::from_millis(500)), Some(one));
        let later = now + Duration::from_secs(3600);
        for _ in 0..3 {
            assert_eq!(sources.take(one, later), Some(one));
        }
        assert_eq!(sources.take(one, later), None, "no more than the burst is saved up");
        for _ in 0..2 {
            sources.give(one);
        }
        for _ in 0..30 {
            assert_eq!(sources.take(one, later), Some(one));
        }
        assert_eq!(sources.take(one, later), None, "ten times as much, once");
        sources.give(one);
        assert_eq!(sources.take(one, later), Some(one), "and what a member took is given back");
    }

    #[test]
    fn the_sources_told_apart_are_bounded_and_idle_ones_forgotten() {
        let now = Instant::now();
        let mut sources = Sources::new(2, 1, 1, now);
        let all: Vec<Source> = (1..=4).map(|n| source(&format!("/ip4/192.0.2.{n}/tcp/5"))).collect();
        assert_eq!(sources.take(all[0], now), Some(all[0]));
        assert_eq!(sources.take(all[1], now), Some(all[1]));
        assert_eq!(sources.take(all[2], now), Some(Source::Others));
        assert_eq!(sources.take(all[3], now), None, "the others share one measure");
        let later = now + 2 * SWEEP_EVERY;
        assert_eq!(sources.take(all[3], later), Some(all[3]));
        assert!(sources.measures.len() <= 2);
    }

    #[test]
    fn neighbours_in_version_six_are_one_source() {
        assert_eq!(source("/ip6/2001:db8::1/tcp/5"), source("/ip6/2001:db8::ffff:2/tcp/6"));
        assert_ne!(source("/ip6/2001:db8::1/tcp/5"), source("/ip6/2001:db8:0:1::1/tcp/5"));
        assert_eq!(source("/ip6/::ffff:192.0.2.1/tcp/5"), source("/ip4/192.0.2.1/tcp/5"));
        let peer = crate::net::Identity::generate().peer_id();
        assert_eq!(Source::of(&format!("/p2p/{peer}").parse().unwrap()), None);
    }
}
