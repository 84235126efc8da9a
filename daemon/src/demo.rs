//! A whole consortium on one machine: real processes, real sockets, real data, one report.

#![allow(clippy::print_stdout, reason = "the report is for people, or JSON on standard output")]

mod measure;
mod report;
mod scenario;
mod shards;
mod tour;
mod world;

pub use measure::{Measured, Progress, evaluate};
pub use report::{Accuracy, Agreement, Correlations, Latency, Online, Privacy, Report};
pub use scenario::{
    Confident, Hospital, Preprocessing, Releases, Scenario, ScenarioError, Shard, breast_cancer,
    breast_cancer_shards, train_all, train_shards,
};
pub use shards::{ShardOf, Split};
pub use world::{Process, World, WorldError, names, tasks};

use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;

/// Private accuracy may differ from the float ensemble's by this much.
const ACCURACY_GAP_MAX: f64 = 0.005;

/// Arguments of `consilium demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Hospitals, each with its own disjoint part of the training data
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=40))]
    owners: u16,
    /// Models of each hospital. With more than one, each hospital splits its patients into as many disjoint
    /// shards and trains a model on each; every model has a vote, and the privacy promise is to one patient
    /// instead of one hospital
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Held-out patients to ask about
    #[arg(long, default_value_t = 114, value_parser = clap::value_parser!(u16).range(1..=114))]
    queries: u16,
    /// Seed of the split and of the training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who makes the correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Keep configuration, state and logs of all processes in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print one JSON object instead of the report
    #[arg(long)]
    json: bool,
}

/// Runs `consilium demo`.
///
/// # Errors
/// A process failed, or the consortium gave a wrong answer.
pub fn run(args: &DemoArgs) -> Result<()> {
    let progress = measure::Progress::new(!args.json);
    let owners = usize::from(args.owners);
    let scenario = breast_cancer_shards(owners, usize::from(args.shards), args.seed, &progress);
    let mut scenario = scenario.into_diagnostic()?;
    scenario.preprocessing = args.source;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .into_diagnostic()?;
    let measured =
        runtime.block_on(evaluate(&scenario, usize::from(args.queries), args.keep.as_deref(), &progress))?;
    let report = Report::new(&scenario, &measured);
    if args.json {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        report.print(&scenario, &measured);
    }
    report.verdict(ACCURACY_GAP_MAX)
}
