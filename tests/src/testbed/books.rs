//! The ledgers at the end of a run: sound, agreed between the parties of each pair, with a charge for every answer
//! that a client holds, and no bundle used twice.

use super::node::Node;
use super::terms::{PAIRS, index};
use super::{Failure, LOOK_EVERY};
use consilium::admin::{AdminReply, export};
use consilium::ledger::{Audit, Entry, Ledger, Record, ReleaseId, compare};
use consilium::net::PeerId;
use consilium::vault::StorageKey;
use consilium_config::Roster;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While questions and refills end, two exports that were not taken at one moment may differ.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// Examples that are kept.
const EXAMPLES: usize = 10;

/// What the two ledgers of a pair have.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Books {
    /// The pair.
    pub pair: String,
    /// Records of party Zero.
    pub records: usize,
    /// Releases that party Zero reserved.
    pub reserved: usize,
    /// Releases that both answered.
    pub answered: usize,
    /// Largest part of any account that is spent, of those with a limit.
    pub spent: Option<f64>,
    /// What does not hold, in words.
    pub problems: Vec<String>,
}

/// A pair's exports, of party Zero and party One.
type Exports = (&'static str, [Audit; 2]);

/// Checks the ledgers of all pairs while their nodes run and nobody asks.
pub(super) async fn check(nodes: &[Node], answers: &[(ReleaseId, u64)]) -> Result<Vec<Books>, Failure> {
    let mut pairs = Vec::new();
    for (pair, zero, one) in PAIRS {
        pairs.push((pair, exports(nodes, [zero, one]).await?));
    }
    let mut books: Vec<Books> = pairs.iter().map(books).collect();
    for (release, charged) in answers {
        if let Some(problem) = uncharged(&pairs, *release, *charged)
            && books[0].problems.len() < EXAMPLES
        {
            books[0].problems.push(problem);
        }
    }
    Ok(books)
}

/// Both exports, once they agree, or the last ones.
async fn exports(nodes: &[Node], parties: [&str; 2]) -> Result<[Audit; 2], Failure> {
    let started = Instant::now();
    loop {
        let mut both = Vec::new();
        for name in parties {
            let (node, mut bytes) = (&nodes[index(name)], Vec::new());
            match export(&node.socket(), &mut bytes).await? {
                AdminReply::Exported { .. } => {}
                other => return Err(format!("{name} does not export its ledger: {other:?}").into()),
            }
            let mut audit = Audit::read(bytes.as_slice())?;
            let roster = Roster::parse("roster.toml", &roster_of(node).await?)?;
            audit.check_keys(|name| roster.member(name)?.peer.as_str().parse::<PeerId>().ok());
            both.push(audit);
        }
        let both = <[Audit; 2]>::try_from(both).map_err(|_| "an export is missing")?;
        if compare(&both[0], &both[1]).is_empty() || started.elapsed() > QUIET_WITHIN {
            return Ok(both);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn roster_of(node: &Node) -> Result<String, Failure> {
    let view = node.told(&["consortium", "roster", "show"]).await?;
    Ok(view["text"].as_str().ok_or("a roster without a text")?.to_owned())
}

fn books((pair, both): &Exports) -> Books {
    let [zero, one] = both;
    let mut problems = compare(zero, one);
    for audit in both {
        problems
            .extend(audit.problems().iter().map(|problem| format!("{}: {problem}", audit.header().party)));
    }
    let mut most = None;
    for audit in both {
        for (task, clients) in audit.tasks().flat_map(|task| [(task, false), (task, true)]) {
            for (name, _, spent, limit) in audit.accounts(task, clients) {
                if spent > limit {
                    problems.push(format!(
                        "{}: {name} spent {spent} of {limit} for {task}",
                        audit.header().party
                    ));
                }
                if spent > 0 {
                    most = Some(f64::max(most.unwrap_or(0.0), spent as f64 / limit as f64));
                }
            }
        }
    }
    problems.truncate(EXAMPLES);
    let answered = |release: &ReleaseId| one.releases().get(release).is_some_and(|found| found.answered);
    Books {
        pair: (*pair).to_owned(),
        records: zero.records(),
        reserved: zero.releases().len(),
        answered: zero.releases().iter().filter(|(name, found)| found.answered && answered(name)).count(),
        spent: most,
        problems,
    }
}

/// An answer that a client holds is on record with both parties of a pair, at the price that the client was told.
/// Another pair may have answered too, where its answer did not reach the client.
fn uncharged(pairs: &[Exports], release: ReleaseId, charged: u64) -> Option<String> {
    let at = |audit: &Audit| {
        let found = audit.releases().get(&release);
        found.is_some_and(|found| found.answered && !found.refunded && found.request.cost == charged)
    };
    let told = pairs.iter().any(|(_, both)| both.iter().all(at));
    (!told).then(|| format!("answer {release} at price {charged} is on record with no pair"))
}

#[derive(Deserialize)]
struct Line {
    record: Record,
}

/// What one party's ledger says about bundles.
#[derive(Default)]
struct Burnt {
    /// First serial and number of serials of each release, and of which pool.
    reserved: BTreeMap<ReleaseId, ([u8; 16], u64, u64)>,
    problems: Vec<String>,
}

/// Checks the ledgers on the disks of processes that have ended: their chains, and that no serial of any pool was
/// reserved for two releases, by one party or by both together.
pub(super) fn check_disks(nodes: &[Node]) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    for (pair, zero, one) in PAIRS {
        let both = [zero, one].map(|name| burnt(&nodes[index(name)], pair));
        let [zero, one] = both;
        let (zero, one) = (zero?, one?);
        for (release, serials) in &one.reserved {
            if zero.reserved.get(release).is_some_and(|found| found != serials) {
                problems.push(format!("{pair}: {release} burnt other serials on the two sides"));
            }
        }
        let mut users: BTreeMap<([u8; 16], u64), ReleaseId> = BTreeMap::new();
        for (release, (pool, first, count)) in zero.reserved.iter().chain(&one.reserved) {
            for serial in *first..first + count {
                if *users.entry((*pool, serial)).or_insert(*release) != *release {
                    problems.push(format!("{pair}: serial {serial} was used twice"));
                }
            }
        }
        problems.extend(zero.problems.into_iter().chain(one.problems));
    }
    problems.truncate(EXAMPLES);
    Ok(problems)
}

fn burnt(node: &Node, pair: &str) -> Result<Burnt, Failure> {
    let key = Arc::new(StorageKey::load(&node.state().join("storage.key"))?);
    let ledger = Ledger::open(&node.state().join("pairs").join(pair).join("ledger.redb"), key)?;
    ledger.verify()?;
    let mut text = Vec::new();
    ledger.export(&mut text)?;
    let (mut burnt, name) = (Burnt::default(), node.name);
    let mut marks: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let mut committed = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line)?;
        match line.record.entry {
            Entry::Reserve(request) => {
                let (pool, first) = (request.correlations.epoch, request.correlations.first);
                let count = u64::from(request.correlations.count);
                let mark = marks.entry(pool).or_insert(0);
                if first < *mark {
                    burnt.problems.push(format!("{name}: serial {first} again"));
                }
                *mark = first + count;
                if burnt.reserved.insert(request.release, (pool, first, count)).is_some() {
                    burnt.problems.push(format!("{name}: {} was reserved twice", request.release));
                }
            }
            Entry::Burn { epoch, below } => {
                let mark = marks.entry(epoch).or_insert(0);
                if below <= *mark {
                    burnt.problems.push(format!("{name}: a mark fell to {below}"));
                }
                *mark = below;
            }
            Entry::Commit { release, .. } => {
                let paid = burnt.reserved.contains_key(&release);
                if !paid || !committed.insert(release) {
                    burnt.problems.push(format!("{name}: {release} was answered unpaid or twice"));
                }
            }
            _ => {}
        }
    }
    Ok(burnt)
}
