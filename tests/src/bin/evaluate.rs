//! `evaluate`: the demo's processes on larger real data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::{Preprocessing, Progress, Report, evaluate};
use consilium::training::classify;
use consilium_tests::data::{Ensemble, shared_or_skip};
use consilium_tests::evaluation::{
    Choice, NoisyAccuracy, ShippedVotes, noisy_accuracies, scenario, shipped_votes,
};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Private accuracy may differ from the float ensemble's by this much.
const ACCURACY_GAP_MAX: f64 = 0.003;
/// Noisy accuracy may differ from the baseline's by this much (continuous against discrete noise).
const BASELINE_GAP_MAX: f64 = 0.01;
/// Fixed-point votes that must be as recorded.
const FIXED_VOTES_MIN: f64 = 0.995;

/// Runs a consortium of real processes on larger real data and compares every label with the oracle.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data set and network
    #[arg(long, value_enum)]
    dataset: Choice,
    /// Hospitals (heart disease has 4 real ones)
    #[arg(long, default_value_t = 10)]
    owners: usize,
    /// Models of each hospital, trained on disjoint patients: the privacy promise is then to a patient
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Held-out rows to ask about
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// Take the trained owner networks beside the repository instead of training, and check all their votes
    #[arg(long, conflicts_with = "shards")]
    shipped: bool,
    /// Who makes the correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Seed of split and training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep configuration, state and logs of all processes in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Evaluation {
    #[serde(flatten)]
    report: Report,
    dp: Vec<NoisyAccuracy>,
    shipped: Option<ShippedVotes>,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| first == "daemon") {
        return consilium::cli::run();
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Some(shared) = shared_or_skip("the evaluation") else { return Ok(()) };
    let progress = Progress::new(!arguments.json);
    let choice = arguments.dataset;
    let (owners, shards) = (arguments.owners, usize::from(arguments.shards));
    let mut scenario =
        scenario(choice, (owners, shards), arguments.shipped, arguments.seed, &shared, &progress)?;
    scenario.preprocessing = arguments.source;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = evaluate(&scenario, arguments.queries, arguments.keep.as_deref(), &progress);
    let measured = runtime.block_on(run).map_err(|report| format!("{report:?}"))?;
    let report = Report::new(&scenario, &measured);

    let mut votes = Vec::new();
    for model in scenario.voters() {
        votes.push(classify(model, &scenario.test)?);
    }
    let ensemble = Ensemble {
        name: choice.ensemble(owners * shards),
        classes: scenario.classes.len(),
        votes,
        labels: scenario.test.labels().to_vec(),
    };
    let split = if choice == Choice::Heart && owners == 4 { "hospital" } else { "iid" };
    let dp = noisy_accuracies(&ensemble, &shared, (choice.set().name(), split), arguments.seed)?;
    let shipped = if arguments.shipped {
        let (numbers, bound) = (scenario.numbers, scenario.input_abs_max);
        Some(shipped_votes(choice.set(), &ensemble.name, numbers, bound, usize::MAX, &shared)?)
    } else {
        None
    };
    let evaluation = Evaluation { report, dp, shipped };
    if arguments.json {
        println!("{}", serde_json::to_string(&evaluation)?);
    } else {
        evaluation.report.print(&scenario, &measured);
        print_noise(&evaluation.dp);
    }
    judge(&evaluation)
}

fn print_noise(dp: &[NoisyAccuracy]) {
    println!("\naccuracy of noisy votes on the whole test set (product samplers on plaintext votes):");
    println!("{:<14} {:>9} {:>10} {:>10}", "setting", "one draw", "two draws", "baseline");
    for row in dp {
        let baseline = row.baseline.map_or_else(String::new, |value| format!("{:.2} %", value * 100.0));
        println!(
            "{:<14} {:>7.2} % {:>8.2} % {baseline:>10}",
            row.setting,
            row.one_draw * 100.0,
            row.two_draws * 100.0
        );
    }
}

fn judge(evaluation: &Evaluation) -> Result<(), Box<dyn std::error::Error>> {
    evaluation.report.verdict(ACCURACY_GAP_MAX).map_err(|report| report.to_string())?;
    let Some(shipped) = &evaluation.shipped else { return Ok(()) };
    if shipped.float_equal != shipped.votes {
        return Err(format!(
            "{} of {} float votes differ from the record",
            shipped.votes - shipped.float_equal,
            shipped.votes
        )
        .into());
    }
    if (shipped.fixed_equal as f64) < FIXED_VOTES_MIN * shipped.votes as f64 {
        return Err(format!(
            "only {} of {} fixed-point votes are as recorded",
            shipped.fixed_equal, shipped.votes
        )
        .into());
    }
    for row in &evaluation.dp {
        let gap = row.baseline.map_or(0.0, |baseline| (row.one_draw - baseline).abs());
        if gap > BASELINE_GAP_MAX + 4.0 * row.standard_error {
            return Err(format!(
                "{}: accuracy {:.4} is {gap:.4} away from the baseline",
                row.setting, row.one_draw
            )
            .into());
        }
    }
    Ok(())
}
