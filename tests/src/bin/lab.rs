//! `lab`: how encodings by secret random networks are broken, and what they were worth, on real images.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::Progress;
use consilium_tests::data::{shared_or_skip, test_path};
use consilium_tests::lab::{Outcome, Setting, Subject};
use consilium_tests::program::ended;
use std::process::ExitCode;

/// The laboratory's figures on real images.
///
/// Encodings by keys of their own are attacked at depths 3 and 7; classifiers are trained on the encodings of several
/// hospitals, of one, and on plain images; and the stage by distances of images is pointed at what either party of a
/// two-party evaluation sees, where it must find as much as a guess, at labels with noise, where it must find no more
/// than their class tells, and at leaks planted in the same tables, which it must find. Ends with an error where the
/// attack finds less than it can at width 256 with 200 images and five encoders of its own (other sizes have no goal, which
/// is said), where a joint classifier is hardly better than chance or clearly worse than one hospital's, or where the
/// control is not as it must be.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data set
    #[arg(long, value_enum, default_value_t = Subject::Pneumonia)]
    dataset: Subject,
    /// Images of an attack
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=1000))]
    images: u32,
    /// Widths that are attacked
    #[arg(long, value_delimiter = ',', default_values_t = [256, 128, 64])]
    widths: Vec<usize>,
    /// Encoders of the attacker's own
    #[arg(long, default_value_t = 5)]
    own: usize,
    /// Repetitions, with other keys, images and first weights
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Train clones at depth 7 and the first width, from what images alone tell
    #[arg(long)]
    clone: bool,
    /// Numbers of hospitals that train together; 0 trains nothing
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4])]
    hospitals: Vec<usize>,
    /// Training images of each hospital
    #[arg(long, default_value_t = 1000)]
    per_hospital: usize,
    /// Width of their encoders
    #[arg(long, default_value_t = 128)]
    joint_width: usize,
    /// Repetitions of the control, with other images and masks; the more, the smaller a leak that is told from a guess
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    control_repetitions: u64,
    /// Leave out the control
    #[arg(long)]
    no_control: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn setting(&self) -> Setting {
        Setting {
            subject: self.dataset,
            images: self.images as usize,
            widths: self.widths.clone(),
            own: self.own,
            seeds: self.seeds,
            clone: self.clone,
            hospitals: self.hospitals.iter().copied().filter(|hospitals| *hospitals > 0).collect(),
            per_hospital: self.per_hospital,
            joint_width: self.joint_width,
            control_repetitions: if self.no_control { 0 } else { self.control_repetitions },
        }
    }
}

fn main() -> ExitCode {
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Some(shared) = shared_or_skip("the laboratory") else { return Ok(()) };
    let setting = arguments.setting();
    let path = test_path(setting.subject.set(), &shared);
    if !path.is_file() {
        eprintln!("SKIPPED the laboratory: there is no {}", path.display());
        return Ok(());
    }
    let outcome = Outcome::new(&setting, &shared, &Progress::new(!arguments.json))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome}");
    }
    let faults = outcome.faults();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}
