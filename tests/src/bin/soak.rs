//! `soak`: questions for a long time, at a rate that the refill can sustain.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::{Preprocessing, Progress, Scenario, World, breast_cancer};
use consilium_tests::soak::{Plan, Summary, soak};
use std::process::ExitCode;

/// Asks a consortium of real processes without a dealer for a long time, at a rate that the refill can sustain,
/// and watches memory, pools and latency. Ends with an error if a label is wrong, a question is refused, a pool
/// runs dry or memory grows.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long to ask
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Hospitals, each with a model
    #[arg(long, default_value_t = 3)]
    owners: usize,
    /// Part of the measured refill rate at which questions are asked
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// Who makes the correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| first == "daemon") {
        return consilium::cli::run();
    }
    match run(&Arguments::parse()) {
        Ok(summary) if summary.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Summary, Box<dyn std::error::Error + Send + Sync>> {
    let progress = Progress::new(!arguments.json);
    let scenario = breast_cancer(arguments.owners, 1, &progress)?;
    let scenario = Scenario { preprocessing: arguments.source, pool: (256, 768), ..scenario };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let plan = Plan { minutes: arguments.minutes, share: arguments.share, shown: !arguments.json };
    let summary = runtime.block_on(async {
        let world = World::start(&scenario, std::env::current_exe()?, None).await?;
        soak(world, &scenario, plan).await
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}");
    }
    Ok(summary)
}
