//! The run itself: publish, ask, compare with the oracle, count.

use super::scenario::Scenario;
use super::world::{World, names, tasks};
use crate::admin::{AdminReply, AdminRequest, ModelFile, Report, TaskStatus, call, publish_all};
use crate::client::Answer;
use crate::message::{Obstacle, Refusal};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, Verdict, verdict};
use consilium_protocol::evaluate::float;
use consilium_protocol::model::export;
use consilium_protocol::party::Party;
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, Result, miette};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a bar redraws while nothing happens.
const BAR_TICK: Duration = Duration::from_millis(200);
/// How long to wait for a first pool.
const POOL_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bars on a terminal, nothing where a machine reads.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Bars on standard error if `shown` and a terminal is there.
    pub fn new(shown: bool) -> Self {
        Self { shown }
    }

    /// A bar of `steps` steps.
    pub fn bar(&self, what: &str, steps: u64) -> ProgressBar {
        self.of(what, steps, "{msg:28} [{bar:30}] {pos}/{len} {elapsed}")
    }

    /// A bar of so many bytes, with how many there are in a second.
    pub fn bytes(&self, what: &str, bytes: u64) -> ProgressBar {
        self.of(what, bytes, "{msg:28} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {elapsed}")
    }

    fn of(&self, what: &str, steps: u64, template: &str) -> ProgressBar {
        if !self.shown {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::new(steps).with_style(style.progress_chars("=> ")).with_message(what.to_owned());
        bar.enable_steady_tick(BAR_TICK);
        bar
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Measured {
    /// Processes that ran beside this one.
    pub processes: usize,
    /// The oracle's verdict on each query.
    pub verdicts: Vec<Verdict>,
    /// Label of the majority of float models for each query.
    pub float: Vec<usize>,
    /// Mean accuracy of one hospital alone on all queries.
    pub owner_mean: f64,
    /// The true labels.
    pub truth: Vec<usize>,
    /// Exact private answers.
    pub exact: Vec<Answer>,
    /// Noisy private answers under the evaluation ledger.
    pub noisy: Vec<Answer>,
    /// Noisy answers that the service gave before its ledger refused.
    pub served: usize,
    /// The refusal.
    pub refusal: Option<Refusal>,
    /// State of party Zero's tasks at the end.
    pub tasks: Vec<TaskStatus>,
    /// Seconds of publishing and of asking.
    pub seconds: [f64; 2],
    /// Where configuration, state and logs were kept.
    pub state: Option<PathBuf>,
}

/// Runs a scenario in real processes of this very program.
///
/// # Errors
/// A process failed or refused what it should grant.
pub async fn evaluate(
    scenario: &Scenario,
    queries: usize,
    keep: Option<&Path>,
    progress: &Progress,
) -> Result<Measured> {
    let program = std::env::current_exe().into_diagnostic()?;
    tokio::select! {
        measured = run(scenario, queries.min(scenario.test.rows()), program, keep, progress) => measured,
        _ = tokio::signal::ctrl_c() => Err(miette!("interrupted; the processes are stopped")),
    }
}

async fn run(
    scenario: &Scenario,
    queries: usize,
    program: PathBuf,
    keep: Option<&Path>,
    progress: &Progress,
) -> Result<Measured> {
    let bar = progress.bar("processes start", 1);
    let mut world = World::start(scenario, program, keep).await.into_diagnostic()?;
    bar.finish_and_clear();
    let started = Instant::now();
    publish(&world, scenario, progress).await?;
    wait_for_pools(&world, progress).await?;
    let publishing = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let exact = ask_all(&world, scenario, tasks::EXACT, queries, progress).await?;
    let noisy = ask_all(&world, scenario, tasks::EVALUATION, queries, progress).await?;
    let (served, refusal) = ask_until_refused(&world, scenario, queries).await?;
    let asking = started.elapsed().as_secs_f64();
    let report = world.status(names::ZERO).await.into_diagnostic()?;
    let processes = world.processes();
    world.stop();
    let (verdicts, float, owner_mean) = oracle(scenario, queries, progress)?;
    let truth = scenario.test.labels().iter().take(queries).map(|label| usize::from(*label)).collect();
    Ok(Measured {
        processes,
        verdicts,
        float,
        owner_mean,
        truth,
        exact,
        noisy,
        served,
        refusal,
        tasks: tasks_of(report),
        seconds: [publishing, asking],
        state: keep.map(Path::to_owned),
    })
}

fn tasks_of(report: Report) -> Vec<TaskStatus> {
    let zero = report.seats.into_iter().find(|seat| seat.seat == Party::Zero);
    zero.map_or_else(Vec::new, |seat| seat.tasks)
}

pub(super) async fn publish(world: &World, scenario: &Scenario, progress: &Progress) -> Result<()> {
    let bar = progress.bar("hospitals publish shares", (scenario.hospitals.len() * tasks::ALL.len()) as u64);
    for hospital in &scenario.hospitals {
        let mut files = Vec::new();
        for (number, model) in hospital.voters().into_iter().enumerate() {
            let file = world.folder_of(&hospital.name).join(format!("model-{}.onnx", number + 1));
            std::fs::write(&file, export(model, "consilium")).into_diagnostic()?;
            let bytes = std::fs::read(&file).into_diagnostic()?;
            files.push(ModelFile { name: file.display().to_string(), bytes });
        }
        for task in tasks::ALL {
            let reply = publish_all(&world.socket(&hospital.name), task.to_owned(), &files).await;
            let reply = reply.into_diagnostic()?;
            if let AdminReply::Refused(refusal) = reply {
                return Err(miette!("{} cannot publish to {task}: {refusal}", hospital.name));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits until every task has bundles at hand.
pub(super) async fn wait_for_pools(world: &World, progress: &Progress) -> Result<()> {
    let bar = progress.bar("pools fill", tasks::ALL.len() as u64);
    let started = Instant::now();
    loop {
        let report = world.status(names::ZERO).await.into_diagnostic()?;
        let fault = report.seats.first().and_then(|seat| seat.refill_fault.clone());
        let tasks = tasks_of(report);
        let filled = tasks.iter().filter(|task| task.pool.is_some_and(|pool| pool.left > 0)).count();
        bar.set_length(tasks.len() as u64);
        bar.set_position(filled as u64);
        if filled == tasks.len() {
            bar.finish_and_clear();
            return Ok(());
        }
        if started.elapsed() > POOL_WITHIN {
            return Err(miette!("the pools are not filled: {}", fault.unwrap_or_default()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn ask(world: &World, scenario: &Scenario, task: &str, row: usize) -> Result<Result<Answer, Refusal>> {
    ask_about(world, task, scenario.test.row(row)).await
}

/// Puts one row to the client's node.
pub(super) async fn ask_about(world: &World, task: &str, row: &[f32]) -> Result<Result<Answer, Refusal>> {
    let values = row.iter().map(|value| f64::from(*value)).collect();
    let request = AdminRequest::Ask { task: task.to_owned(), rows: vec![values], release: None };
    match call(&world.socket(names::CLIENT), &request).await.into_diagnostic()? {
        AdminReply::Answer(answer) => Ok(Ok(*answer)),
        AdminReply::Refused(refusal) => Ok(Err(refusal)),
        _ => Err(miette!("the client's node answered something else than was asked")),
    }
}

async fn ask_all(
    world: &World,
    scenario: &Scenario,
    task: &str,
    queries: usize,
    progress: &Progress,
) -> Result<Vec<Answer>> {
    let bar = progress.bar(&format!("patients asked ({task})"), queries as u64);
    let mut answers = Vec::with_capacity(queries);
    for row in 0..queries {
        let answer = ask(world, scenario, task, row).await?;
        answers.push(answer.map_err(|refusal| miette!("question {row} of {task} was refused: {refusal}"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(answers)
}

/// Asks the service with the real budget until its ledger refuses.
async fn ask_until_refused(
    world: &World,
    scenario: &Scenario,
    queries: usize,
) -> Result<(usize, Option<Refusal>)> {
    for served in 0..queries {
        match ask(world, scenario, tasks::SERVICE, served).await? {
            Ok(_) => {}
            Err(refusal) if refusal.obstacle == Obstacle::Budget => return Ok((served, Some(refusal))),
            Err(refusal) => return Err(miette!("question {served} of the service was refused: {refusal}")),
        }
    }
    Ok((queries, None))
}

/// Verdicts of the fixed-point oracle, labels of the float ensemble, and the accuracy of one alone.
fn oracle(
    scenario: &Scenario,
    queries: usize,
    progress: &Progress,
) -> Result<(Vec<Verdict>, Vec<usize>, f64)> {
    let classes = scenario.classes.len();
    let fixed = Fixed { fraction_bits: scenario.numbers.fraction_bits };
    let mut oracles = Vec::new();
    let voters = scenario.voters();
    for model in &voters {
        oracles.push(Oracle::new((*model).clone(), scenario.numbers).into_diagnostic()?);
    }
    let bar = progress.bar("plaintext oracle", queries as u64);
    let (mut verdicts, mut labels, mut right) = (Vec::new(), Vec::new(), 0usize);
    for row in 0..queries {
        let prepared = scenario.prepared(row);
        let words = fixed.encode_all(&prepared, scenario.input_abs_max).into_diagnostic()?;
        let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(&words)).collect();
        verdicts.push(verdict(&votes, classes));
        let single: Vec<f32> = prepared.iter().map(|value| *value as f32).collect();
        let mut counts = vec![0usize; classes];
        for model in &voters {
            counts[float::argmax(&float::logits(model, &single))] += 1;
        }
        for hospital in &scenario.hospitals {
            let alone = float::argmax(&float::logits(&hospital.model, &single));
            right += usize::from(alone == usize::from(scenario.test.labels()[row]));
        }
        labels.push((0..classes).rev().max_by_key(|class| counts[*class]).unwrap_or(0));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((verdicts, labels, right as f64 / (queries * scenario.hospitals.len()).max(1) as f64))
}
