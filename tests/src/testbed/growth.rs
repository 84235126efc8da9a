//! What every daemon holds, over time: memory, descriptors, files. What only ever grows is a leak.

use super::load::Board;
use super::module::MODULE;
use super::terms::MEMBERS;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Samples of a run that are judged at most; more are thinned out.
const SAMPLES: usize = 400;
/// The first part of the run, in which caches and pools still fill.
const WARM_UP: f64 = 0.2;
/// A process is looked at when it is so old: a start needs memory of its own.
const GROWN_UP: Duration = Duration::from_secs(20);
/// Fewest samples that say anything.
const SAMPLES_MIN: usize = 8;
const MIB: f64 = 1_048_576.0;

/// What is measured of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// Resident memory in bytes.
    Memory,
    /// Open descriptors.
    Descriptors,
    /// Files of the state folder.
    Files,
    /// Bytes of them, the ledger's aside.
    Bytes,
    /// Bytes of the ledger, which keeps every answer.
    Ledger,
}

impl Holding {
    /// Growth over the judged part of the run that still counts as none, given the median. The rest of a pool goes
    /// up and down by whole files, and a process that was started anew holds less for a while. A ledger may grow by
    /// so much for each answer.
    fn allowed(self, median: f64, answers: u64) -> f64 {
        match self {
            Self::Memory => (16.0 * MIB).max(0.15 * median),
            Self::Descriptors => 16.0,
            Self::Files => 16.0,
            Self::Bytes => (16.0 * MIB).max(0.25 * median),
            Self::Ledger => 8.0 * MIB + 16_384.0 * answers as f64,
        }
    }

    const ALL: [Self; 5] = [Self::Memory, Self::Descriptors, Self::Files, Self::Bytes, Self::Ledger];
}

/// What a daemon held at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    values: [f64; 5],
}

/// One quantity of one daemon over the judged part of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// The member.
    pub node: &'static str,
    /// The quantity.
    pub holding: Holding,
    /// Its median.
    pub median: f64,
    /// Its maximum.
    pub most: f64,
    /// Growth by the median slope, over the judged part.
    pub growth: f64,
    /// What would still count as none.
    pub allowed: f64,
}

impl Growth {
    /// Whether it is within bounds.
    pub fn is_flat(&self) -> bool {
        self.growth <= self.allowed
    }
}

/// Looks at all daemons from time to time.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    samples: BTreeMap<&'static str, Vec<Sample>>,
}

impl Watch {
    /// Looks until it is told to stop; `every` between two looks.
    pub(super) async fn look(
        board: Arc<Board>,
        root: PathBuf,
        every: Duration,
        mut stop: tokio::sync::oneshot::Receiver<()>,
    ) -> Self {
        let mut watch = Self { started: Instant::now(), samples: BTreeMap::new() };
        loop {
            watch.sample(&board, &root);
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = &mut stop => return watch,
            }
        }
    }

    fn sample(&mut self, board: &Board, root: &Path) {
        let seconds = self.started.elapsed().as_secs_f64();
        for running in board.running().into_iter().filter(|running| running.since.elapsed() > GROWN_UP) {
            let process = PathBuf::from(format!("/proc/{}", running.pid));
            let (Some(memory), Some(descriptors)) = (resident(&process), entries(&process.join("fd"))) else {
                continue;
            };
            let (files, bytes, ledger) = state(&root.join(running.node).join("state"));
            let values = [memory, descriptors, files, bytes, ledger];
            self.samples.entry(running.node).or_default().push(Sample { seconds, values });
        }
    }

    /// Every quantity of every daemon, while clients were given so many answers.
    pub(super) fn judge(&self, answers: u64) -> Vec<Growth> {
        let end = self.started.elapsed().as_secs_f64();
        let mut judged = Vec::new();
        for node in nodes() {
            let Some(samples) = self.samples.get(node) else { continue };
            let late: Vec<Sample> =
                samples.iter().filter(|sample| sample.seconds >= WARM_UP * end).copied().collect();
            let step = late.len().div_ceil(SAMPLES).max(1);
            let late: Vec<Sample> = late.into_iter().step_by(step).collect();
            if late.len() < SAMPLES_MIN {
                continue;
            }
            for (at, holding) in Holding::ALL.into_iter().enumerate() {
                let points: Vec<(f64, f64)> =
                    late.iter().map(|sample| (sample.seconds, sample.values[at])).collect();
                let median = median(points.iter().map(|point| point.1).collect());
                let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
                let length = points[points.len() - 1].0 - points[0].0;
                let (growth, allowed) = (slope(&points) * length, holding.allowed(median, answers));
                judged.push(Growth { node, holding, median, most, growth, allowed });
            }
        }
        judged
    }
}

/// All that is watched: the daemons of the members, and the module.
pub(super) fn nodes() -> impl Iterator<Item = &'static str> {
    MEMBERS.iter().map(|member| member.name).chain([MODULE])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The median of the slopes between all points (Theil and Sen): a few that stand out do not move it.
fn slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let later = points[at + 1..].iter().filter(|later| later.0 > *x);
        slopes.extend(later.map(|later| (later.1 - y) / (later.0 - x)));
    }
    median(slopes)
}

fn resident(process: &Path) -> Option<f64> {
    let text = fs::read_to_string(process.join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

fn entries(folder: &Path) -> Option<f64> {
    Some(fs::read_dir(folder).ok()?.count() as f64)
}

/// Files of a folder, bytes without those of ledgers, and bytes of ledgers.
fn state(folder: &Path) -> (f64, f64, f64) {
    let (mut files, mut bytes, mut ledger) = (0.0, 0.0, 0.0);
    let Ok(entries) = fs::read_dir(folder) else { return (0.0, 0.0, 0.0) };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let inner = state(&entry.path());
            (files, bytes, ledger) = (files + inner.0, bytes + inner.1, ledger + inner.2);
        } else {
            files += 1.0;
            let sum = if entry.file_name() == "ledger.redb" { &mut ledger } else { &mut bytes };
            *sum += meta.len() as f64;
        }
    }
    (files, bytes, ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(memory: impl Fn(f64) -> f64) -> Growth {
        let samples = (0..100).map(|at| {
            let seconds = f64::from(at) * 36.0;
            Sample { seconds, values: [memory(seconds), 40.0, 9.0, 1e6, 1e6] }
        });
        let watch = Watch {
            started: Instant::now().checked_sub(Duration::from_secs(3600)).unwrap(),
            samples: BTreeMap::from([("north", samples.collect())]),
        };
        let judged = watch.judge(0);
        assert_eq!(judged.len(), 5);
        assert!(judged[1..].iter().all(Growth::is_flat), "{judged:?}");
        judged.into_iter().next().unwrap()
    }

    #[test]
    fn a_leak_is_caught_and_a_start_or_a_peak_is_none() {
        let leak = watched(|seconds| 50.0 * MIB + seconds * 10.0 * 1024.0);
        assert!(!leak.is_flat() && (leak.growth / MIB - 28.0).abs() < 1.0, "{leak:?}");
        assert!(watched(|seconds| 50.0 * MIB + seconds.min(600.0) * 100.0 * 1024.0).is_flat());
        let peaks =
            watched(|seconds| if (seconds as u64).is_multiple_of(720) { 500.0 * MIB } else { 50.0 * MIB });
        assert!(peaks.is_flat() && peaks.most > 400.0 * MIB, "{peaks:?}");
    }

    #[test]
    fn this_process_and_its_files_are_seen() {
        let this = Path::new("/proc/self");
        assert!(resident(this).unwrap() > 65_536.0 && entries(&this.join("fd")).unwrap() >= 3.0);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/ledger.redb"), [0; 100]).unwrap();
        fs::write(folder.path().join("other"), [0; 7]).unwrap();
        assert_eq!(state(folder.path()), (2.0, 7.0, 100.0));
    }
}
