//! `consilium bench online`: measures a running consortium from the client's side.

use super::figures::{Figures, Round};
use crate::admin::{AdminReply, AdminRequest, Caller};
use crate::cli::NodeArgs;
use crate::cli::ask::cases;
use crate::cli::output::{block_on, node_file, print_json, table};
use crate::client::Answer;
use crate::consortium;
use crate::message::Refusal;
use clap::Args;
use consilium_config::{Release, Task};
use futures::future::try_join_all;
use miette::{IntoDiagnostic, Result, miette};
use rand::RngExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct OnlineArgs {
    /// The task
    #[arg(long, short)]
    task: String,
    /// Questions that are measured
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queries: u32,
    /// Questions that are under way at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    concurrency: u32,
    /// Cases in each question, at most the task's batch
    #[arg(long, default_value_t = 1)]
    rows: u32,
    /// Questions asked before, which are not measured
    #[arg(long, default_value_t = 3)]
    warm_up: u32,
    /// A file with one case a line, instead of random ones ("-" reads standard input)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the link between the compute parties, for the output
    #[arg(long, value_name = "NAME", default_value = "as-deployed")]
    link: String,
    /// Spend the privacy budget of a task that has one
    #[arg(long)]
    spend_budget: bool,
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs the command.
pub(super) fn run(args: &OnlineArgs) -> Result<()> {
    let node = node_file(&args.node)?;
    let roster = consortium::roster_in_use(&node).into_diagnostic()?;
    let task =
        roster.task(&args.task).ok_or_else(|| miette!("no task {:?} in this node's roster", args.task))?;
    permit(args, task)?;
    let cases = match &args.file {
        Some(_) => cases(None, args.file.as_deref())?,
        None => random_cases(task, 64.max(args.rows as usize)),
    };
    let socket = &node.admin().socket;
    block_on(ask_all(socket, args, &cases, args.warm_up as usize))??;
    let started = Instant::now();
    let rounds = block_on(ask_all(socket, args, &cases, args.queries as usize))??;
    let figures = Figures::of(&rounds, started.elapsed()).map_err(|refusal| failed(&refusal))?;
    if args.node.json {
        for line in figures.lines(&args.task, args.rows, &args.link, args.concurrency) {
            print_json(&line)?;
        }
        return Ok(());
    }
    let mut rows = table(&["phase", "median", "least", "95 %", "99 %", "rounds", "bytes", "cpu"]);
    for row in figures.rows() {
        rows.add_row(row);
    }
    println!("{rows}");
    for line in figures.remarks() {
        println!("{line}");
    }
    Ok(())
}

/// Measuring is no reason to spend what cannot be bought back.
fn permit(args: &OnlineArgs, task: &Task) -> Result<()> {
    if args.rows == 0 || args.rows > task.batch_queries {
        return Err(miette!(
            "--rows must be from 1 to {}, the batch of task {}",
            task.batch_queries,
            task.name
        ));
    }
    if task.release == Release::Exact || args.spend_budget {
        return Ok(());
    }
    let answers = u64::from(args.rows) * (u64::from(args.queries) + u64::from(args.warm_up));
    Err(miette!(
        "task {} has a privacy budget, and {answers} answers would spend it for every owner, for good. Measure an \
         exact task, or say --spend-budget",
        task.name
    ))
}

/// Cases whose values fill the task's public range.
fn random_cases(task: &Task, count: usize) -> Vec<Vec<f64>> {
    let mut random = rand::rng();
    let bound = task.input_abs_max;
    let mut value = |index: usize| {
        let normal: f64 = random.random_range(-bound..=bound);
        match &task.features {
            Some(features) => {
                let zero = features.normalise(index, 0.0);
                (normal - zero) / (features.normalise(index, 1.0) - zero)
            }
            None => normal,
        }
    };
    (0..count).map(|_| (0..task.input.len()).map(&mut value).collect()).collect()
}

/// Asks `count` questions, as many at once as wanted, each line of the file in turn.
async fn ask_all(socket: &Path, args: &OnlineArgs, cases: &[Vec<f64>], count: usize) -> Result<Vec<Round>> {
    let (next, rows) = (&AtomicUsize::new(0), args.rows as usize);
    let asking = (0..args.concurrency as usize).map(|_| async move {
        let mut caller = Caller::open(socket).await.into_diagnostic()?;
        let mut told = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok::<_, miette::Report>(told);
            }
            let rows = (0..rows).map(|row| cases[(number * rows + row) % cases.len()].clone()).collect();
            let started = Instant::now();
            let outcome = ask(&mut caller, &args.task, rows).await?;
            told.push(Round { outcome, taken: started.elapsed() });
        }
    });
    Ok(try_join_all(asking).await?.into_iter().flatten().collect())
}

async fn ask(caller: &mut Caller, task: &str, rows: Vec<Vec<f64>>) -> Result<Result<Answer, Refusal>> {
    let request = AdminRequest::Ask { task: task.to_owned(), rows, release: None };
    match caller.call(&request).await.into_diagnostic()? {
        AdminReply::Answer(answer) => Ok(Ok(*answer)),
        AdminReply::Refused(refusal) => Ok(Err(refusal)),
        _ => Err(crate::cli::output::unexpected()),
    }
}

fn failed(refusal: &Option<Refusal>) -> miette::Report {
    match refusal {
        Some(refusal) => miette!("no question was answered; the first was refused: {refusal}"),
        None => miette!("no question was asked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{Features, Roster};

    fn task(exact: bool) -> Task {
        let text = include_str!("../../../../config/src/example/roster.toml");
        let roster = Roster::parse("roster.toml", text).unwrap();
        let found = roster.tasks().iter().find(|task| (task.release == Release::Exact) == exact);
        found.unwrap().clone()
    }

    fn args(rows: u32, spend_budget: bool) -> OnlineArgs {
        OnlineArgs {
            task: "task".into(),
            queries: 10,
            concurrency: 1,
            rows,
            warm_up: 1,
            file: None,
            link: "test".into(),
            spend_budget,
            node: NodeArgs { config: PathBuf::new(), set: Vec::new(), json: false },
        }
    }

    #[test]
    fn a_budget_is_only_spent_when_told_so() {
        let (noisy, mut exact) = (task(false), task(false));
        exact.release = Release::Exact;
        permit(&args(1, false), &exact).unwrap();
        permit(&args(1, true), &noisy).unwrap();
        let refused = permit(&args(1, false), &noisy).unwrap_err().to_string();
        assert!(refused.contains("11 answers") && refused.contains("--spend-budget"), "{refused}");
        for rows in [0, exact.batch_queries + 1] {
            assert!(permit(&args(rows, true), &exact).is_err());
        }
    }

    #[test]
    fn random_cases_fill_the_range_after_the_normalisation() {
        let mut task = task(false);
        task.features = Some(Features { names: Vec::new(), offset: vec![5.0], scale: vec![-0.25] });
        let features = task.features.clone().unwrap();
        let cases = random_cases(&task, 200);
        let normal = cases.iter().flat_map(|case| {
            assert_eq!(case.len(), task.input.len());
            case.iter().enumerate().map(|(index, raw)| features.normalise(index, *raw))
        });
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in normal {
            (least, most) = (least.min(value), most.max(value));
        }
        let bound = task.input_abs_max * (1.0 + 1e-9);
        assert!(-bound <= least && least < -0.9 * bound && 0.9 * bound < most && most <= bound);
    }
}
