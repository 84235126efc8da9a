//! A long run: a steady stream of questions, and what memory, pools and latency do meanwhile.

use consilium::admin::{AdminReply, AdminRequest, Caller, TaskStatus, publish};
use consilium::client::Answer;
use consilium::demo::{Progress, Scenario, World, names, tasks};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, Verdict, verdict};
use consilium_protocol::model::export;
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Questions that may be under way at once.
const ASKERS: usize = 8;
/// The first part of the run in which buffers and caches still grow.
const WARM_UP: f64 = 0.2;
/// Growth of memory after that which still counts as flat.
const GROWTH_MAX: f64 = 0.10;
const PARTIES: [&str; 2] = [names::ZERO, names::ONE];

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long.
    pub minutes: f64,
    /// Part of the measured refill rate.
    pub share: f64,
    /// Whether progress is shown.
    pub shown: bool,
}

/// Latency of some questions in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// How many.
    pub questions: usize,
    /// The median.
    pub median: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
}

/// Memory of one party's process in MiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Largest in the first fifth of the run.
    pub early: f64,
    /// Median of the rest.
    pub median: f64,
    /// At the end: largest of the last tenth.
    pub late: f64,
}

/// What the run showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How long it was.
    pub minutes: f64,
    /// Bundles that one refill made in a second, measured before.
    pub refill_per_second: f64,
    /// Questions asked in a second.
    pub asked_per_second: f64,
    /// Questions that were answered.
    pub answered: usize,
    /// Questions that were refused.
    pub refused: usize,
    /// Answers that are not what the oracle is sure of.
    pub wrong: usize,
    /// Latency while a batch was being made.
    pub refilling: Latency,
    /// Latency while none was.
    pub quiet: Latency,
    /// Memory of both compute parties, Zero's first.
    pub memory: [Memory; 2],
    /// Fewest and most bundles at hand, after the pool was first full.
    pub pool: [u64; 2],
    /// Bundles at hand at the end.
    pub pool_at_end: u64,
    /// Low and high watermark.
    pub watermarks: [u32; 2],
}

impl Summary {
    /// Whether nothing went wrong, no pool ran dry and memory stayed flat.
    pub fn is_good(&self) -> bool {
        let flat = |memory: &Memory| memory.late <= memory.early * (1.0 + GROWTH_MAX);
        self.answered > 0
            && self.refused == 0
            && self.wrong == 0
            && self.pool[0] > 0
            && self.memory.iter().all(flat)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} questions in {:.1} minutes ({:.1} a second, refill {:.1}), {} refused, {} wrong",
            self.answered,
            self.minutes,
            self.asked_per_second,
            self.refill_per_second,
            self.refused,
            self.wrong
        )?;
        for (what, latency) in [("with a refill under way", self.refilling), ("without", self.quiet)] {
            writeln!(
                f,
                "latency {what}: median {:.1} ms, p95 {:.1} ms, p99 {:.1} ms ({} questions)",
                latency.median, latency.p95, latency.p99, latency.questions
            )?;
        }
        for (name, memory) in PARTIES.iter().zip(&self.memory) {
            writeln!(
                f,
                "memory of {name}: {:.1} MiB early, {:.1} in the middle, {:.1} late",
                memory.early, memory.median, memory.late
            )?;
        }
        let [low, high] = self.watermarks;
        writeln!(
            f,
            "pool: {} to {} bundles, {} at the end (watermarks {low} and {high})",
            self.pool[0], self.pool[1], self.pool_at_end
        )?;
        write!(f, "{}", if self.is_good() { "good" } else { "NOT good" })
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// Publishes all models, lets the pool fill, and asks.
///
/// # Errors
/// A process failed.
pub async fn soak(mut world: World, scenario: &Scenario, plan: Plan) -> Result<Summary, Failure> {
    for hospital in &scenario.hospitals {
        let file = export(&hospital.model, "consilium");
        match publish(&world.socket(&hospital.name), tasks::EXACT.to_owned(), &file).await? {
            AdminReply::Published { .. } => {}
            other => return Err(format!("{} was not published: {other:?}", hospital.name).into()),
        }
    }
    let full = loop {
        let status = status(&world).await?;
        let level = status.pool.map_or(0, |pool| pool.left);
        if level >= u64::from(scenario.pool.1) {
            break status;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let rate = full.refill.and_then(|refill| refill.bundles_per_second).unwrap_or(1.0);
    let verdicts = verdicts(scenario)?;
    let summary = run(&world, scenario, &verdicts, plan, rate).await;
    world.stop();
    summary
}

async fn status(world: &World) -> Result<TaskStatus, Failure> {
    let report = world.status(names::ZERO).await?;
    let tasks = report.seats.into_iter().next().ok_or("party Zero has no seat")?.tasks;
    Ok(tasks.into_iter().find(|task| task.task == tasks::EXACT).ok_or("no such task")?)
}

fn verdicts(scenario: &Scenario) -> Result<Vec<Verdict>, Failure> {
    let oracles = scenario
        .hospitals
        .iter()
        .map(|hospital| Oracle::new(hospital.model.clone(), scenario.numbers))
        .collect::<Result<Vec<_>, _>>()?;
    let fixed = Fixed { fraction_bits: scenario.numbers.fraction_bits };
    let of = |row: usize| {
        let words = fixed.encode_all(&scenario.prepared(row), scenario.input_abs_max)?;
        let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(&words)).collect();
        Ok(verdict(&votes, scenario.classes.len()))
    };
    (0..scenario.test.rows()).map(of).collect()
}

/// One question that came back.
struct Told {
    row: usize,
    outcome: Result<Answer, String>,
    refilling: bool,
    milliseconds: f64,
}

async fn run(
    world: &World,
    scenario: &Scenario,
    verdicts: &[Verdict],
    plan: Plan,
    rate: f64,
) -> Result<Summary, Failure> {
    let length = Duration::from_secs_f64(plan.minutes * 60.0);
    let pause = Duration::from_secs_f64(1.0 / (rate * plan.share).max(0.1));
    let (started, refilling) = (Instant::now(), &AtomicBool::new(false));
    let (tell, mut hear) = mpsc::channel(1024);
    let asking = (0..ASKERS).map(|asker| {
        let tell = tell.clone();
        async move {
            let mut caller = Caller::open(&world.socket(names::CLIENT)).await?;
            // Each asker has its own share of one steady stream.
            let mut due = started + pause * asker as u32;
            let mut row = asker;
            while due.duration_since(started) < length {
                tokio::time::sleep_until(due.into()).await;
                due += pause * ASKERS as u32;
                row = (row + ASKERS) % scenario.test.rows();
                let values = scenario.test.row(row).iter().map(|value| f64::from(*value)).collect();
                let request =
                    AdminRequest::Ask { task: tasks::EXACT.to_owned(), rows: vec![values], release: None };
                let (asked, before) = (Instant::now(), refilling.load(Ordering::Relaxed));
                let outcome = match caller.call(&request).await? {
                    AdminReply::Answer(answer) => Ok(*answer),
                    other => Err(format!("{other:?}")),
                };
                let refilling = before || refilling.load(Ordering::Relaxed);
                let milliseconds = asked.elapsed().as_secs_f64() * 1e3;
                if tell.send(Told { row, outcome, refilling, milliseconds }).await.is_err() {
                    break;
                }
            }
            Ok::<_, Failure>(())
        }
    });
    let asking = futures::future::try_join_all(asking.collect::<Vec<_>>());
    drop(tell);
    let watching = watch(world, started, length, refilling, plan.shown);
    let counting = async {
        let mut told = Vec::new();
        while let Some(one) = hear.recv().await {
            if let Err(refusal) = &one.outcome
                && told.iter().filter(|told: &&Told| told.outcome.is_err()).count() < 3
            {
                tracing_line(refusal);
            }
            told.push(one);
        }
        told
    };
    let (asked, told, watched) = tokio::join!(asking, counting, watching);
    asked?;
    let mut summary = summarise(&told, verdicts, &watched?);
    summary.minutes = started.elapsed().as_secs_f64() / 60.0;
    summary.refill_per_second = rate;
    summary.asked_per_second = told.len() as f64 / started.elapsed().as_secs_f64();
    summary.watermarks = [scenario.pool.0, scenario.pool.1];
    Ok(summary)
}

#[allow(clippy::print_stderr, reason = "the program's own words")]
fn tracing_line(text: &str) {
    eprintln!("refused: {text}");
}

/// What was seen of the parties: seconds, bundles at hand, memory of both in bytes.
struct Seen(f64, u64, [u64; 2]);

async fn watch(
    world: &World,
    started: Instant,
    length: Duration,
    refilling: &AtomicBool,
    shown: bool,
) -> Result<Vec<Seen>, Failure> {
    let mut seen = Vec::new();
    let bar = Progress::new(shown).bar("questions", length.as_secs());
    let mut next = started;
    while started.elapsed() < length {
        let status = status(world).await?;
        refilling.store(status.refill.is_some_and(|refill| refill.batch.is_some()), Ordering::Relaxed);
        if Instant::now() >= next {
            next += LOOK_EVERY;
            let level = status.pool.map_or(0, |pool| pool.left);
            let memory = PARTIES.map(|name| world.pid(name).and_then(resident).unwrap_or(0));
            seen.push(Seen(started.elapsed().as_secs_f64(), level, memory));
            bar.set_position(started.elapsed().as_secs());
        }
        tokio::time::sleep(LOOK_EVERY / 20).await;
    }
    bar.finish_and_clear();
    Ok(seen)
}

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn summarise(told: &[Told], verdicts: &[Verdict], seen: &[Seen]) -> Summary {
    let wrong = |told: &&Told| {
        let verdict = &verdicts[told.row];
        told.outcome
            .as_ref()
            .is_ok_and(|answer| verdict.certain && answer.labels != [Some(verdict.label as u32)])
    };
    let latency = |refilling: bool| {
        let of = told.iter().filter(|told| told.refilling == refilling && told.outcome.is_ok());
        let mut times: Vec<f64> = of.map(|told| told.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        Latency {
            questions: times.len(),
            median: at(&times, 0.5),
            p95: at(&times, 0.95),
            p99: at(&times, 0.99),
        }
    };
    let end = seen.last().map_or(0.0, |last| last.0);
    let memory = |party: usize| {
        let part = |from: f64, to: f64| -> Vec<f64> {
            let within = seen.iter().filter(|seen| (from * end..=to * end).contains(&seen.0));
            let mut sizes: Vec<f64> = within.map(|seen| seen.2[party] as f64 / f64::from(1 << 20)).collect();
            sizes.sort_by(f64::total_cmp);
            sizes
        };
        Memory {
            early: at(&part(0.0, WARM_UP), 1.0),
            median: at(&part(WARM_UP, 1.0), 0.5),
            late: at(&part(0.9, 1.0), 1.0),
        }
    };
    Summary {
        answered: told.iter().filter(|told| told.outcome.is_ok()).count(),
        refused: told.iter().filter(|told| told.outcome.is_err()).count(),
        wrong: told.iter().filter(wrong).count(),
        refilling: latency(true),
        quiet: latency(false),
        memory: [memory(0), memory(1)],
        pool: [
            seen.iter().map(|seen| seen.1).min().unwrap_or(0),
            seen.iter().map(|seen| seen.1).max().unwrap_or(0),
        ],
        pool_at_end: seen.last().map_or(0, |last| last.1),
        ..Summary::default()
    }
}

/// The value below which this part of sorted values lies.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
}
