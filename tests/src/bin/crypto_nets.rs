//! `crypto_nets`: a network of squares under one client's key and by two parties, on real data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::Progress;
use consilium_tests::data::{Set, load, shared_or_skip};
use consilium_tests::homomorphic::{Amounts, Outcome, OwnerRun, Subject, evaluate_alone, known_answers};
use consilium_tests::program::ended;
use std::path::PathBuf;
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

/// Asks about all test images of MNIST in batches and about some of them one by one, encrypted, and compares every logit
/// with the same integers in the clear. Measures the owner in a process of its own, the client, and the same model by two
/// parties, and prints them side by side. Ends with an error where a logit differs or too few labels are right.
///
/// Train a model by `tests/fixtures/square_torch.py`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The model, as ONNX: convolutions, dense layers, average pools and squares
    model: PathBuf,
    /// Test images that are asked about one by one
    #[arg(long, default_value_t = 1000)]
    singles: usize,
    /// Runs of the first batch by each number of threads, of which the fastest counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    repeats: u8,
    /// Threads that are measured beside one
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// `Weights.cs` of microsoft/CryptoNets, whose known answers are checked as well
    #[arg(long, value_name = "FILE")]
    published: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    ended(if words.next().as_deref() == Some("owner") {
        owner(&words.collect::<Vec<_>>())
    } else {
        run(&Arguments::parse())
    })
}

/// The owner's process of a batch.
fn owner(arguments: &[String]) -> Result<(), Failure> {
    let run = OwnerRun::of_arguments(arguments).ok_or("`owner` is for this program's own use")?;
    println!("{}", serde_json::to_string(&evaluate_alone(&run)?)?);
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(shared) = shared_or_skip("networks of squares") else { return Ok(()) };
    let progress = Progress::new(!arguments.json);
    let data = load(Set::Mnist, &shared)?;
    if let Some(file) = &arguments.published {
        for known in known_answers(file, &data.test)? {
            println!(
                "published weights at scales {:?}: {} errors, known {}",
                known.scales, known.found, known.expected
            );
            if known.found != known.expected {
                return Err("the known answers were not reproduced".into());
            }
        }
    }
    let subject = Subject::new(&arguments.model, &data.train, data.test)?;
    let folder = tempfile::tempdir()?;
    let amounts = Amounts {
        singles: arguments.singles,
        repeats: arguments.repeats.into(),
        threads: arguments.threads.into(),
    };
    let rows = (subject.test.rows() + arguments.singles.min(subject.test.rows())) as u64;
    let bar = progress.bar("asking, encrypted", rows);
    let outcome = Outcome::new(&subject, folder.path(), amounts, &|rows| bar.inc(rows as u64))?;
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome}");
    }
    let faults = outcome.faults();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}
