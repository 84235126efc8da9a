//! Faults at random for a long time, each of which the consortium has to heal from by itself.

use super::load::Asker;
use super::terms::MEMBERS;
use super::world::{Fault, World};
use super::{Failure, LOOK_EVERY, Say};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Those that are never stopped, so that what they hold is seen over the whole run: one of each kind. Their links
/// break like all others.
const STEADFAST: [&str; 3] = ["east", "hill", "clinic"];
/// Seconds between two faults, and seconds that a fault lasts.
const CALM: std::ops::Range<f64> = 4.0..15.0;
const LASTING: std::ops::Range<f64> = 2.0..20.0;
/// How long the module stays away for its noise to run out, which was drawn ahead.
const RUNS_OUT_WITHIN: Duration = Duration::from_secs(120);
/// Part of the faults that come in twos.
const DOUBLE: f64 = 0.2;

/// How one kind of fault went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Healed {
    /// How often it came.
    pub times: u64,
    /// Seconds from its end until all was whole, the median and the most.
    pub median: f64,
    /// The longest.
    pub most: f64,
    #[serde(skip)]
    seconds: Vec<f64>,
}

/// All faults of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Faults {
    /// By kind; those that came together count as one of the first one's kind.
    pub kinds: BTreeMap<&'static str, Healed>,
    /// What did not heal, and stopped the run.
    pub unhealed: Option<String>,
}

impl Faults {
    fn note(&mut self, kind: &'static str, heal: Duration) {
        let healed = self.kinds.entry(kind).or_default();
        healed.times += 1;
        healed.seconds.push(heal.as_secs_f64());
        healed.seconds.sort_by(f64::total_cmp);
        healed.median = healed.seconds[healed.seconds.len() / 2];
        healed.most = f64::max(healed.most, heal.as_secs_f64());
    }

    /// Faults in all.
    pub fn times(&self) -> u64 {
        self.kinds.values().map(|healed| healed.times).sum()
    }
}

/// A fault by chance, that goes with another one.
fn draw(random: &mut StdRng, beside: Option<Fault>) -> Option<Fault> {
    let name = |random: &mut StdRng| MEMBERS.choose(random).map(|member| member.name);
    let mortal: Vec<&str> =
        MEMBERS.iter().map(|member| member.name).filter(|name| !STEADFAST.contains(name)).collect();
    let fault = match random.random_range(0..11) {
        0..3 => Fault::Killed(mortal.choose(random)?),
        3..5 => Fault::Stopped(mortal.choose(random)?),
        5 => Fault::Paused(mortal.choose(random)?),
        6..8 => {
            let (one, two) = (name(random)?, name(random)?);
            // Every third cut parts a pair, else most would be hardly felt.
            let parts = [("north", "south"), ("east", "west")];
            match random.random_bool(0.33) {
                true => parts.choose(random).map(|(one, two)| Fault::Cut(one, two))?,
                false if one != two => Fault::Cut(one, two),
                false => return None,
            }
        }
        8 => Fault::Isolated(name(random)?),
        9 => Fault::NoModule,
        _ => Fault::Lossy(random.random_range(0.03..0.15)),
    };
    // One process cannot be stopped twice.
    let twice = |other: Fault| other == fault || other.stops().is_some() && other.stops() == fault.stops();
    (!beside.is_some_and(twice)).then_some(fault)
}

fn drawn(random: &mut StdRng) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let count = if random.random_bool(DOUBLE) { 2 } else { 1 };
    while faults.len() < count {
        faults.extend(draw(random, faults.first().copied()));
    }
    faults
}

/// Breaks things for so long. Each time all must be whole again before the next one.
pub(super) async fn endure(
    world: &mut World,
    length: Duration,
    seed: u64,
    probes: &[Asker],
    say: Say<'_>,
) -> Result<Faults, Failure> {
    let (started, mut random) = (Instant::now(), StdRng::seed_from_u64(seed));
    let mut seen = Faults::default();
    loop {
        let calm = Duration::from_secs_f64(random.random_range(CALM));
        if started.elapsed() + calm > length {
            tokio::time::sleep(length.saturating_sub(started.elapsed())).await;
            return Ok(seen);
        }
        tokio::time::sleep(calm).await;
        // First the module, so that no run ends without it.
        let faults = if seen.times() == 0 { vec![Fault::NoModule] } else { drawn(&mut random) };
        let software = world.board.software();
        for fault in &faults {
            world.begin(*fault).await?;
        }
        if faults.contains(&Fault::NoModule) {
            // What else is broken may leave nobody to ask; whether it was seen at all is asked at the end.
            let steps_in = async {
                while world.board.software() == software {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            let _ = tokio::time::timeout(RUNS_OUT_WITHIN, steps_in).await;
        }
        tokio::time::sleep(Duration::from_secs_f64(random.random_range(LASTING))).await;
        for fault in &faults {
            world.end(*fault).await?;
        }
        let kind = faults.first().map_or("none", |fault| fault.kind());
        match world.heal(probes).await {
            Ok(heal) => {
                seen.note(kind, heal);
                let minutes = started.elapsed().as_secs_f64() / 60.0;
                say(&format!("{minutes:6.1} min  {faults:?}  whole after {:.1} s", heal.as_secs_f64()));
            }
            Err(error) => {
                seen.unhealed = Some(format!("{faults:?}: {error}"));
                return Ok(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_of_all_kinds_repeat_with_their_seed_and_spare_the_steadfast() {
        let run = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..500).map(|_| drawn(&mut random)).collect::<Vec<_>>()
        };
        let faults = run(7);
        assert_eq!(faults, run(7));
        assert_ne!(faults, run(8));
        let kinds: std::collections::BTreeSet<_> =
            faults.iter().flatten().map(|fault| fault.kind()).collect();
        assert_eq!(kinds.len(), 7);
        for together in &faults {
            let stopped: Vec<_> = together.iter().filter_map(|fault| fault.stops()).collect();
            assert!(stopped.iter().all(|name| !STEADFAST.contains(name)), "{together:?}");
            assert!(stopped.len() < 2 || stopped[0] != stopped[1], "{together:?}");
        }
        assert!(faults.iter().any(|together| together.len() == 2));
        assert!(faults.iter().flatten().any(|fault| *fault == Fault::Cut("north", "south")));
    }
}
