//! `membership`: how well an attacker tells who was trained on, from each signal and from what is released.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::Progress;
use consilium_tests::data::{shared_dir, shared_or_skip};
use consilium_tests::membership::{Outcome, Plan, Subject, repeat};
use consilium_tests::program::ended;
use std::process::ExitCode;

/// Membership inference against one owner of a consortium, from its own confidence down to noisy labels.
///
/// Trains one owner many times on random halves of a pool, casts every vote in the fixed point of the
/// protocol, draws noise with the product's own samplers, attacks every signal with one threshold and with a
/// likelihood ratio for each record, and holds the results against the promise and against the reference
/// figures beside the repository. Then starts a real consortium under epsilon 8 and asks about one record a
/// hundred times. Ends with an error where a bound is passed, a figure is not as the reference has it, the
/// attack on confidences fails, or the ledger does not refuse at the exact count.
///
/// Set RAYON_NUM_THREADS=1 to train on all cores at once. Some minutes for the largest sets.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data and networks
    #[arg(long, value_enum)]
    dataset: Subject,
    /// Owners, the victim among them [default: as in the reference figures]
    #[arg(long)]
    owners: Option<usize>,
    /// Records that each owner trains on [default: as in the reference figures]
    #[arg(long)]
    records: Option<usize>,
    /// Versions of the victim, an even number
    #[arg(long, default_value_t = 32)]
    versions: usize,
    /// Passes over the records [default: the preset of the trainer]
    #[arg(long)]
    epochs: Option<usize>,
    /// Seed of split, halves, training, noise and resampling. Each comparison with the reference allows two
    /// standard errors, so that with some seeds one of the seven or so of a data set fails by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often the real consortium is asked about one record; 0 starts none
    #[arg(long, default_value_t = 100)]
    repeats: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| first == "daemon") {
        return consilium::cli::run();
    }
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let subject = arguments.dataset;
    let shared = if subject.needs_shared() {
        let Some(shared) = shared_or_skip("membership inference") else { return Ok(()) };
        Some(shared)
    } else {
        shared_dir()
    };
    let plan = Plan {
        subject,
        owners: arguments.owners.unwrap_or_else(|| subject.owners()),
        records: arguments.records.unwrap_or_else(|| subject.records()),
        versions: arguments.versions,
        seed: arguments.seed,
        epochs: arguments.epochs,
    };
    let progress = Progress::new(!arguments.json);
    let (mut outcome, cohort) = Outcome::new(&plan, shared.as_deref(), &progress)?;
    if arguments.repeats > 0 {
        let scenario = Outcome::scenario(&plan, cohort);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let program = std::env::current_exe()?;
        let asked = repeat(&scenario, program, arguments.repeats, &progress);
        outcome.repeated = Some(runtime.block_on(asked)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome}");
    }
    let faults = outcome.faults();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}
