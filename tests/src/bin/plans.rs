//! `plans`: what `consilium privacy plan` recommends on one half of recorded votes, measured on the other.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::planning::{Family, NoiseMaker};
use consilium_tests::data::shared_or_skip;
use consilium_tests::evaluation::{planned, recorded};
use consilium_tests::program::ended;
use std::process::ExitCode;

/// Plans with epsilon 8, delta 1e-6 and at most two points lost, then draws the noise.
#[derive(Debug, Parser)]
struct Arguments {
    /// Ensembles with recorded votes
    #[arg(default_values_t = ["mnist_iid_N50", "mnist_iid_N100", "fashion-mnist_iid_N100"].map(String::from))]
    ensembles: Vec<String>,
    /// Seed of the noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Some(shared) = shared_or_skip("plans against recorded votes") else { return Ok(()) };
    for name in &arguments.ensembles {
        let table = recorded(&shared, name)?;
        for noise in [NoiseMaker::Software, NoiseMaker::Enclave] {
            for family in [Family::Gaussian, Family::Confident, Family::Laplace] {
                for even in [true, false] {
                    let found = planned(&table, family, noise, even, arguments.seed)?;
                    if arguments.json {
                        println!("{}", serde_json::to_string(&found)?);
                        continue;
                    }
                    let percent = |share: f64| format!("{:.2}", share * 100.0);
                    let [right, same, answered] = [found.accuracy, found.agreement, found.answered]
                        .map(|figure| format!("{} / {}", percent(figure.planned), percent(figure.measured)));
                    println!(
                        "{name} {noise:?} {family:?} {}: {} answers; planned / measured %: right {right}, as \
                         without noise {same}, answered {answered}",
                        found.setting, found.answers as u64
                    );
                }
            }
        }
    }
    Ok(())
}
