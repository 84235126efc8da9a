//! `one_class`: whose model knows an input, told by two parties, beside plaintext, on real data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::Progress;
use consilium_tests::data::shared_or_skip;
use consilium_tests::one_class::{Kind, Outcome, Setting, Subject};
use consilium_tests::program::ended;
use std::process::ExitCode;

/// Principal directions of images, and of the sixteen features of letters.
const RANKS: [usize; 2] = [25, 8];

/// One-class tasks on real data: each user trains on one class alone, and two parties tell whose model is nearest to an
/// input, or that it is too far from all.
///
/// The rows are split once into training, validation and test, whose hashes are printed. Precision and recall come
/// from the test rows, from two parties and from the same models in plaintext, and every answer is held against the
/// fixed-point oracle. Ends with an error where a certain answer differs from the oracle's, where a plan foretells
/// other costs than there are, where compression changes more than one answer in twenty, where 33 users cost more
/// than 3.5 times the bytes of ten about an image, or where the digits are told apart worse than they can be.
///
/// Set RAYON_NUM_THREADS=1 where autoencoders train beside other work.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data set
    #[arg(long, value_enum, default_value_t = Subject::Mnist)]
    dataset: Subject,
    /// How models measure
    #[arg(long, value_enum, default_value_t = Kind::Pca)]
    kind: Kind,
    /// Principal directions of each model [default: 25 for images, 8 for letters]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    rank: Option<u16>,
    /// Users, one for each of the first classes [default: all classes]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    users: Option<u16>,
    /// Most test rows to ask about [default: all of them]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    queries: Option<u32>,
    /// Seed of split, training, masks and shares
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of a user's own validation rows that its threshold accepts
    #[arg(long, value_name = "SHARE", default_value_t = 0.99)]
    accept: f64,
    /// Leave out one class after the other, and refuse its rows at growing factors of all thresholds
    #[arg(long)]
    strangers: bool,
    /// Ask again about the images after JPEG compression at quality 50
    #[arg(long)]
    jpeg: bool,
    /// Measure what 10 and 33 users cost
    #[arg(long)]
    costs: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn setting(&self) -> Setting {
        let subject = self.dataset;
        Setting {
            subject,
            kind: self.kind,
            rank: self.rank.map_or(RANKS[usize::from(!subject.is_image())], usize::from),
            users: self.users.map_or(subject.classes(), usize::from),
            queries: self.queries.map(|queries| queries as usize),
            seed: self.seed,
            accepted: self.accept,
            strangers: self.strangers,
            jpeg: self.jpeg,
            costs: self.costs,
        }
    }
}

fn main() -> ExitCode {
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Some(shared) = shared_or_skip("one-class tasks") else { return Ok(()) };
    let setting = arguments.setting();
    let path = setting.subject.path(&shared);
    if !path.is_file() {
        eprintln!("SKIPPED one-class tasks: there is no {}", path.display());
        return Ok(());
    }
    if !(0.0..=1.0).contains(&setting.accepted) {
        return Err(format!("--accept {} is no share; choose one from 0 to 1", setting.accepted).into());
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
