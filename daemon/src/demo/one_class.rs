//! Whose model knows an image? Users with a digit each in real processes, and strangers among those who ask.

mod crowd;
mod font;
mod grid;
mod report;

pub use crowd::{Crowd, CrowdError, User, digits_crowd};
pub use report::{ClassRow, OneClassReport};

use super::measure::{Progress, ask_about, wait_for_pools};
use super::world::{Layout, World, tasks};
use super::{DemoArgs, NoiseFrom};
use crate::admin::{AdminReply, ModelFile, publish_all};
use crate::client::Answer;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{DistanceOracle, Nearest, nearest};
use consilium_protocol::model::export_one_class;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images asked about unless said otherwise.
const QUERIES: usize = 200;
/// Images side by side in the picture.
const SIDE_BY_SIDE: usize = 16;
const PICTURE: &str = "one-class.png";

/// What a run found, row by row of the held-out images.
#[derive(Debug)]
pub struct Named {
    /// Who was named.
    pub who: Vec<Option<usize>>,
    /// The answers.
    pub answers: Vec<Answer>,
    /// Whom the oracle names.
    pub oracle: Vec<Nearest>,
    /// Processes that ran beside this one.
    pub processes: usize,
    /// Seconds of publishing (with filling the pool) and of asking.
    pub seconds: [f64; 2],
    /// Where configuration, state and logs were kept.
    pub state: Option<PathBuf>,
}

/// Runs the scenario in real processes of this very program.
///
/// # Errors
/// An argument that the scenario has no use for, a process that failed, or a wrong answer.
pub(super) fn run(args: &DemoArgs, progress: &Progress) -> Result<()> {
    check(args)?;
    let mut crowd = digits_crowd(args.seed, progress).into_diagnostic()?;
    crowd.preprocessing = args.source;
    let queries = args.queries.map_or(QUERIES, usize::from).min(crowd.test.rows());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .into_diagnostic()?;
    let keep = args.keep.as_deref();
    let named = runtime.block_on(async {
        tokio::select! {
            named = name_users(&crowd, queries, keep, progress) => named,
            _ = tokio::signal::ctrl_c() => Err(miette!("interrupted; the processes are stopped")),
        }
    })?;
    let picture = args.picture.clone().unwrap_or_else(|| keep.unwrap_or(Path::new("")).join(PICTURE));
    draw(&crowd, &named, &picture)?;
    let report = OneClassReport::new(&crowd, &named, &picture);
    if args.json {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        report.print(&crowd, &named);
    }
    report.verdict()
}

/// Nothing that was asked for is left out in silence.
fn check(args: &DemoArgs) -> Result<()> {
    let noise = args.noise != NoiseFrom::Software || args.module.is_some();
    for (given, option, why) in [
        (args.owners.is_some(), "--owners", "there is a user for each digit but two"),
        (args.shards != 1, "--shards", "a user has one model"),
        (noise, "--noise", "its release is exact"),
        (args.serve, "--serve", "it only measures"),
    ] {
        if given {
            return Err(miette!("the one-class scenario does not take {option}: {why}; leave it out"));
        }
    }
    Ok(())
}

/// Publishes the models of all users on real processes of this very program, and asks about the first held-out rows.
/// Whoever calls this answers to `daemon` as the first argument.
///
/// # Errors
/// A process that failed, or a refusal.
pub async fn name_users(
    crowd: &Crowd,
    queries: usize,
    keep: Option<&Path>,
    progress: &Progress,
) -> Result<Named> {
    let program = std::env::current_exe().into_diagnostic()?;
    let layout = Layout::one_class(crowd).into_diagnostic()?;
    let bar = progress.bar("processes start", 1);
    let mut world = World::lay_out(&layout, program, keep).into_diagnostic()?;
    world.launch_all().await.into_diagnostic()?;
    bar.finish_and_clear();
    let started = Instant::now();
    publish(&world, crowd, progress).await?;
    wait_for_pools(&world, progress).await?;
    let publishing = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let answers = ask_all(&world, crowd, queries, progress).await?;
    let asking = started.elapsed().as_secs_f64();
    let processes = world.processes();
    world.stop();
    let who = answers.iter().map(|answer| user(crowd, answer)).collect::<Result<Vec<_>>>()?;
    let oracle = oracle(crowd, queries)?;
    let seconds = [publishing, asking];
    Ok(Named { who, answers, oracle, processes, seconds, state: keep.map(Path::to_owned) })
}

async fn publish(world: &World, crowd: &Crowd, progress: &Progress) -> Result<()> {
    let bar = progress.bar("users publish shares", crowd.users.len() as u64);
    for user in &crowd.users {
        let file = world.folder_of(&user.name).join("model.onnx");
        std::fs::write(&file, export_one_class(&user.model, "consilium").into_diagnostic()?)
            .into_diagnostic()?;
        let bytes = std::fs::read(&file).into_diagnostic()?;
        let files = [ModelFile { name: file.display().to_string(), bytes }];
        let reply = publish_all(&world.socket(&user.name), tasks::EXACT.to_owned(), &files).await;
        if let AdminReply::Refused(refusal) = reply.into_diagnostic()? {
            return Err(miette!("{} cannot publish: {refusal}", user.name));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn ask_all(world: &World, crowd: &Crowd, queries: usize, progress: &Progress) -> Result<Vec<Answer>> {
    let bar = progress.bar("images asked about", queries as u64);
    let mut answers = Vec::with_capacity(queries);
    for row in 0..queries {
        let answer = ask_about(world, tasks::EXACT, crowd.test.row(row)).await?;
        answers.push(answer.map_err(|refusal| miette!("question {row} was refused: {refusal}"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(answers)
}

/// Who an answer names; the label after the users' is nobody's.
fn user(crowd: &Crowd, answer: &Answer) -> Result<Option<usize>> {
    let users = crowd.users.len();
    match answer.labels.first().copied().flatten().map(|label| label as usize) {
        Some(label) if label <= users => Ok(Some(label).filter(|label| *label < users)),
        other => Err(miette!("an answer has the label {other:?}, where there are {users} users and nobody")),
    }
}

/// Whom the fixed-point oracle names for each image.
fn oracle(crowd: &Crowd, queries: usize) -> Result<Vec<Nearest>> {
    let fixed = Fixed { fraction_bits: crowd.shape.numbers.fraction_bits };
    let made = crowd.users.iter().map(|user| DistanceOracle::new(user.model.clone(), crowd.shape));
    let oracles = made.collect::<Result<Vec<_>, _>>().into_diagnostic()?;
    let mut found = Vec::with_capacity(queries);
    for row in 0..queries {
        let words = fixed.encode_all(crowd.test.row(row), crowd.input_abs_max).into_diagnostic()?;
        let distances: Vec<_> = oracles.iter().map(|oracle| oracle.measure(&words)).collect();
        found.push(nearest(&distances));
    }
    Ok(found)
}

fn draw(crowd: &Crowd, named: &Named, picture: &Path) -> Result<()> {
    let sides = (crowd.shape.input.height as usize, crowd.shape.input.width as usize);
    let bytes = grid::picture(&report::tiles(crowd, named), sides, SIDE_BY_SIDE).into_diagnostic()?;
    let written = std::fs::write(picture, bytes).into_diagnostic();
    written.wrap_err_with(|| format!("cannot write the picture {}", picture.display()))
}
