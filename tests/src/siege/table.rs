//! Latency, memory and log of a consortium under attack, beside the same without.

use super::{Attack, Done, Target, ask, attack, descriptors, dialling, resident};
use consilium::admin::{AdminReply, publish};
use consilium::demo::{Scenario, World, names, tasks};
use consilium::net::Identity;
use consilium_config::{Network, Node, Roster};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, Verdict, verdict};
use consilium_protocol::model::export;
use serde::Serialize;
use std::error::Error;
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

/// The node that is attacked.
const VICTIM: &str = names::ZERO;
const FILLED_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Turns without and with the attack.
const TURNS: u32 = 4;
/// An attack counts as begun when this much of it was tried.
const BEGUN: u64 = 20;
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait within a round, and for a request that has begun; shorter than a turn.
const ROUND_DEADLINE: Duration = Duration::from_secs(2);
/// Growth of the victim's memory that buffers of its limits explain.
const GROWTH_MAX: f64 = 64.0;
/// How much longer than without an attack the median may be before a question counts as harmed.
const SLOWER_MAX: f64 = 1.5;
/// The same in milliseconds, where the machine's own noise is as large as a question is short.
const SLACK_MS: f64 = 10.0;

/// How to attack.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which attacks.
    pub attacks: Vec<Attack>,
    /// Seconds of each, and as many without it.
    pub seconds: f64,
}

/// What one attack did.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub attack: String,
    /// Connections, streams or requests that were begun in a second.
    pub tried_per_second: f64,
    /// Part of them that were refused or ended by the node.
    pub ended: f64,
    /// Questions without and with the attack.
    pub questions: [usize; 2],
    /// Median latency in milliseconds without and with it.
    pub median_ms: [f64; 2],
    /// The same for the 95th percentile.
    pub p95_ms: [f64; 2],
    /// Answers that are not what the oracle is sure of.
    pub wrong: usize,
    /// Questions that were refused.
    pub refused: usize,
    /// Memory of the attacked process in MiB before it, and the most during it.
    pub memory_mib: [f64; 2],
    /// The most open descriptors of that process during it.
    pub descriptors: usize,
    /// Lines that the attacked node wrote about this and attacks like it, since the start.
    pub lines: usize,
    /// Lines that it may have written.
    pub lines_max: usize,
}

impl Row {
    /// The columns.
    pub const COLUMNS: [&'static str; 9] = [
        "attack",
        "tried/s",
        "ended",
        "median ms before/during",
        "p95 ms before/during",
        "wrong/refused",
        "MiB before/most",
        "fds",
        "log lines",
    ];

    /// The text of each column.
    pub fn cells(&self) -> [String; 9] {
        let pair = |[before, during]: [f64; 2]| format!("{before:.1} / {during:.1}");
        [
            self.attack.clone(),
            format!("{:.0}", self.tried_per_second),
            format!("{:.0} %", 100.0 * self.ended),
            pair(self.median_ms),
            pair(self.p95_ms),
            format!("{} / {}", self.wrong, self.refused),
            pair(self.memory_mib),
            self.descriptors.to_string(),
            format!("{} of {}", self.lines, self.lines_max),
        ]
    }

    /// Whether the node was right, stayed small and quiet, and as quick as before.
    pub fn is_good(&self) -> bool {
        self.wrong == 0
            && self.refused == 0
            && self.questions.iter().all(|count| *count > 0)
            && self.memory_mib[1] <= self.memory_mib[0] + GROWTH_MAX
            && (self.lines_max.min(1)..=self.lines_max).contains(&self.lines)
            && self.median_ms[1] <= SLOWER_MAX * self.median_ms[0] + SLACK_MS
    }
}

/// A consortium with published models and an attacker in it.
pub struct Siege {
    world: World,
    scenario: Scenario,
    verdicts: Vec<Verdict>,
    target: Target,
    row: usize,
    began: Instant,
}

/// Latencies of right answers, and how many were wrong or refused.
#[derive(Default)]
struct Told {
    milliseconds: Vec<f64>,
    wrong: usize,
    refused: usize,
}

/// Has the victim wait for nobody for long, in its node file as an administrator would.
///
/// # Errors
/// The file.
pub fn hasten(world: &World) -> Result<(), Failure> {
    let file = world.folder_of(VICTIM).join("consilium.toml");
    let node = Node::load(&file)?;
    let network = Network { round_deadline: ROUND_DEADLINE, ..node.network().clone() };
    let node = Node::new(
        node.place().clone(),
        network,
        *node.pools(),
        node.admin().clone(),
        node.log().clone(),
        node.module().clone(),
        node.http().clone(),
    )?;
    Ok(std::fs::write(file, node.to_toml())?)
}

impl Siege {
    /// Publishes all models of a running consortium and waits for its pool; then the last hospital's node is killed
    /// and its key is in the attacker's hands.
    ///
    /// # Errors
    /// A process failed.
    pub async fn prepare(mut world: World, scenario: Scenario) -> Result<Self, Failure> {
        let began = Instant::now();
        for hospital in &scenario.hospitals {
            let file = export(&hospital.model, "consilium");
            match publish(&world.socket(&hospital.name), tasks::EXACT.to_owned(), &file).await? {
                AdminReply::Published { .. } => {}
                other => return Err(format!("{} was not published: {other:?}", hospital.name).into()),
            }
        }
        while bundles(&world).await? < u64::from(scenario.pool.1) {
            if began.elapsed() > FILLED_WITHIN {
                return Err("the pool was not filled in time".into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let hostile = scenario.hospitals.last().ok_or("a siege needs a hospital")?;
        world.kill(&hostile.name)?;
        let key = Identity::load(&world.folder_of(&hostile.name).join("identity.key"))?;
        let roster = Roster::load(&world.folder_of("roster.toml"))?;
        let peer = roster.member(VICTIM).ok_or("the victim is no member")?.peer.as_str().parse()?;
        let node = Node::load(&world.folder_of(VICTIM).join("consilium.toml"))?;
        let listen = node.network().listen.first().ok_or("the victim does not listen")?;
        let address: consilium::net::Address = listen.as_str().parse()?;
        let address = address.socket().ok_or("the victim listens on a name")?;
        let target = Target {
            peer,
            address,
            http: world.http(names::CLIENT).ok_or("the client has no HTTP interface")?,
            member: dialling(key, peer, address)?,
            task: tasks::EXACT.to_owned(),
            architecture: hostile.model.network().clone(),
        };
        target.member.connected(peer)?.wait_connected().await?;
        let verdicts = verdicts(&scenario)?;
        Ok(Self { world, scenario, verdicts, target, row: 0, began })
    }

    /// Asks without and with one attack in turns.
    ///
    /// # Errors
    /// A process died.
    pub async fn endure(&mut self, kind: Attack, seconds: f64) -> Result<Row, Failure> {
        let turn = Duration::from_secs_f64(seconds / f64::from(TURNS));
        let pid = self.world.pid(VICTIM).ok_or("the victim does not run")?;
        let memory = || resident(pid).unwrap_or(0) as f64 / f64::from(1 << 20);
        let before = memory();
        let (mut quiet, mut loud, done) = (Told::default(), Told::default(), Done::default());
        let (mut most, mut files, mut lasted) = (before, 0, Duration::ZERO);
        for _ in 0..TURNS {
            self.ask_for(turn, &mut quiet, || {}).await?;
            let tried = done.tried();
            let started = Instant::now();
            let attacking = Attacker::start(kind, self.target.clone(), done.clone())?;
            while done.tried() < tried + BEGUN {
                if started.elapsed() > BEGUN_WITHIN {
                    return Err(format!("{kind:?} did not begin").into());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let mut look = || {
                most = most.max(memory());
                files = files.max(descriptors(pid).unwrap_or(0));
            };
            self.ask_for(turn, &mut loud, &mut look).await?;
            drop(attacking);
            lasted += started.elapsed();
        }
        let intervals = 1 + self.began.elapsed().as_secs() as usize / 60;
        let (questions, wrong) =
            ([&quiet, &loud].map(|told| told.milliseconds.len()), quiet.wrong + loud.wrong);
        let refused = quiet.refused + loud.refused;
        let (quiet, loud) = (sorted(quiet.milliseconds), sorted(loud.milliseconds));
        Ok(Row {
            attack: format!("{kind:?}").to_lowercase(),
            tried_per_second: done.tried() as f64 / lasted.as_secs_f64(),
            ended: done.ended() as f64 / done.tried().max(1) as f64,
            questions,
            median_ms: [at(&quiet, 0.5), at(&loud, 0.5)],
            p95_ms: [at(&quiet, 0.95), at(&loud, 0.95)],
            wrong,
            refused,
            memory_mib: [before, most],
            descriptors: files,
            lines: self.lines(kind)?,
            lines_max: kind.line().map_or(0, |_| kind.lines_max() * intervals),
        })
    }

    fn lines(&self, kind: Attack) -> Result<usize, Failure> {
        let Some(line) = kind.line() else { return Ok(0) };
        let log = std::fs::read_to_string(self.world.folder_of(VICTIM).join("log.txt"))?;
        Ok(log.lines().filter(|one| one.contains(line)).count())
    }

    async fn ask_for(
        &mut self,
        length: Duration,
        told: &mut Told,
        mut look: impl FnMut(),
    ) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < length {
            self.row = (self.row + 1) % self.scenario.test.rows();
            // As a clinician has it; the client's node normalises it.
            let row = self.scenario.test.row(self.row).iter().map(|value| f64::from(*value)).collect();
            let verdict = &self.verdicts[self.row];
            match ask(&self.world.socket(names::CLIENT), tasks::EXACT, row).await {
                Ok((_, label)) if verdict.certain && label != Some(verdict.label as u32) => told.wrong += 1,
                Ok((milliseconds, _)) => told.milliseconds.push(milliseconds),
                Err(_) => told.refused += 1,
            }
            look();
        }
        Ok(())
    }

    /// Stops all processes.
    pub fn stop(mut self) {
        self.world.stop();
    }
}

/// An attack in a runtime of its own, so that it does not share a thread with those who ask.
struct Attacker {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Attacker {
    fn start(kind: Attack, target: Target, done: Done) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(attack(kind, target, done));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Within another runtime nothing may be waited for.
            runtime.shutdown_background();
        }
    }
}

/// All attacks of a plan, one after the other; each row is told as it comes.
///
/// # Errors
/// A process failed.
pub async fn siege(
    world: World,
    scenario: Scenario,
    plan: &Plan,
    mut tell: impl FnMut(&Row),
) -> Result<Vec<Row>, Failure> {
    let mut siege = Siege::prepare(world, scenario).await?;
    let mut rows = Vec::new();
    for kind in &plan.attacks {
        let row = siege.endure(*kind, plan.seconds).await?;
        tell(&row);
        rows.push(row);
    }
    siege.stop();
    Ok(rows)
}

async fn bundles(world: &World) -> Result<u64, Failure> {
    let report = world.status(VICTIM).await?;
    let tasks = report.seats.into_iter().next().ok_or("the victim has no seat")?.tasks;
    let task = tasks.into_iter().find(|task| task.task == tasks::EXACT).ok_or("no such task")?;
    Ok(task.pool.map_or(0, |pool| pool.left))
}

fn verdicts(scenario: &Scenario) -> Result<Vec<Verdict>, Failure> {
    let oracles =
        scenario.hospitals.iter().map(|hospital| Oracle::new(hospital.model.clone(), scenario.numbers));
    let oracles = oracles.collect::<Result<Vec<_>, _>>()?;
    let fixed = Fixed { fraction_bits: scenario.numbers.fraction_bits };
    let of = |row: usize| {
        let words = fixed.encode_all(&scenario.prepared(row), scenario.input_abs_max)?;
        let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(&words)).collect();
        Ok(verdict(&votes, scenario.classes.len()))
    };
    (0..scenario.test.rows()).map(of).collect()
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this part of sorted values lies.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
}
