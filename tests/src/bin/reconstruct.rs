//! `reconstruct`: reconstructors of users from ONNX files on real processes, and what a question about one image costs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::{Crowd, Named, Preprocessing, Progress, User, name_users};
use consilium::training::{OwnRows, Reading};
use consilium_protocol::graph::{Numbers, OneClassShape, Plan, ReleaseShape};
use consilium_protocol::model::fixed::prove_one_class;
use consilium_protocol::model::{OneClass, import_one_class};
use consilium_protocol::party::Party;
use consilium_protocol::stock::Gadget;
use consilium_tests::one_class::{Effort, PAPER};
use consilium_tests::program::ended;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

/// Largest magnitude of a value of an input.
const INPUT_ABS_MAX: f64 = 1.0;
/// A large network takes its time between two far parties.
const QUERY_DEADLINE: Duration = Duration::from_secs(1800);

/// Publishes reconstructors from ONNX files on real processes of this machine, as many as there are users, and asks
/// whose image each of the first rows is. Ends with an error where a certain answer differs from the oracle's; over many
/// layers what roundings could do at most is so wide that no answer is certain, so the answers are shown beside the
/// oracle's as well.
///
/// Train them by `tests/clients/ran.py`, which has the shape of the PrivEdge paper, or `consilium train one-class`.
#[derive(Debug, Parser)]
struct Arguments {
    /// ONNX files with thresholds; users take turns where there are fewer
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Rows to ask about: values separated by commas, one row a line, or an IDX file of images
    #[arg(long)]
    rows: PathBuf,
    /// Users
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=64))]
    users: u16,
    /// Rows asked about
    #[arg(long, default_value_t = 1)]
    queries: u16,
    /// Bits after the point
    #[arg(long, default_value_t = 16)]
    fraction_bits: u32,
    /// Bits before it
    #[arg(long, default_value_t = 24)]
    value_bits: u32,
    /// Bits of a distance
    #[arg(long, default_value_t = 20)]
    distance_bits: u32,
    /// Who makes correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Dealer)]
    source: Preprocessing,
    /// Keep configuration, state and logs here
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run cost.
#[derive(Debug, Serialize)]
struct Report {
    users: usize,
    measure: String,
    numbers: Numbers,
    /// One user's network, and that of the paper.
    effort: Effort,
    paper: Effort,
    /// By the plan: bytes of correlated randomness for a question, of party Zero and of party One.
    bundle_bytes: [u64; 2],
    source: String,
    rounds: u32,
    /// Bytes that each party sends, by the plan and as measured.
    bytes: [u64; 2],
    /// Milliseconds from question to answer, and within them the rounds between the parties.
    milliseconds: Vec<f64>,
    rounds_milliseconds: Vec<f64>,
    /// Seconds of publishing (with filling the pool) and of asking.
    seconds: [f64; 2],
    /// Whom the answers name, and the oracle.
    named: Vec<Option<usize>>,
    oracle: Vec<Option<usize>>,
    certain: Vec<bool>,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| first == "daemon") {
        return consilium::cli::run();
    }
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let crowd = crowd(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let progress = Progress::new(!arguments.json);
    let asking = name_users(&crowd, arguments.queries.into(), arguments.keep.as_deref(), &progress);
    let named = runtime.block_on(asking).map_err(|error| format!("{error:?}"))?;
    let report = report(&crowd, &named)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        show(&report);
    }
    let pairs = report.named.iter().zip(&report.oracle).zip(&report.certain);
    let wrong = pairs.filter(|((named, oracle), certain)| **certain && named != oracle).count();
    if wrong > 0 { Err(format!("{wrong} certain answers differ from the oracle's").into()) } else { Ok(()) }
}

fn crowd(arguments: &Arguments) -> Result<Crowd, Failure> {
    let models = arguments.models.iter().map(|path| -> Result<OneClass, Failure> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let imported = import_one_class(&bytes, None, None);
        let imported = imported.map_err(|error| format!("{}: {error}", path.display()))?;
        imported.warnings.iter().for_each(|warning| eprintln!("{}: {warning}", path.display()));
        Ok(imported.model)
    });
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let input = models[0].measure().input();
    let Arguments { fraction_bits, value_bits, distance_bits, .. } = *arguments;
    let shape = OneClassShape { input, numbers: Numbers { fraction_bits, value_bits }, distance_bits };
    for (model, path) in models.iter().zip(&arguments.models) {
        prove_one_class(model, shape, INPUT_ABS_MAX)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let user = |(at, model): (usize, &OneClass)| User {
        name: format!("user-{}", at + 1),
        rows: 0,
        model: model.clone(),
    };
    let users: Vec<User> = models.iter().cycle().take(arguments.users.into()).enumerate().map(user).collect();
    let reading = Reading { shape: Some(input), range: [-1.0, 1.0], class: None };
    let rows = OwnRows::read(&arguments.rows, &reading)?.examples().clone();
    let queries = usize::from(arguments.queries);
    if queries > rows.rows() {
        return Err(format!("{} has {} rows", arguments.rows.display(), rows.rows()).into());
    }
    Ok(Crowd {
        title: "Whose image is this?".into(),
        credit: arguments.rows.display().to_string(),
        shape,
        input_abs_max: INPUT_ABS_MAX,
        classes: users.iter().map(|user| user.name.clone()).collect(),
        users,
        test: rows,
        preprocessing: arguments.source,
        pool: (0, 1),
        query_deadline: QUERY_DEADLINE,
    })
}

fn report(crowd: &Crowd, named: &Named) -> Result<Report, Failure> {
    let first = named.answers.first().ok_or("no answer")?;
    let gadget = match first.terms.gadget.as_str() {
        "keys" => Gadget::Keys,
        "nibbles" => Gadget::Nibbles,
        _ => Gadget::Digits,
    };
    let measures: Vec<_> = crowd.users.iter().map(|user| user.model.measure()).collect();
    let exact = ReleaseShape { noise_magnitude_max: 0, threshold: None };
    let plan = Plan::one_class(&measures, crowd.shape, 1, gadget, exact)?;
    let network = crowd.users[0].model.reconstructor().ok_or("the first model is no network")?;
    let rounds = |answer: &consilium::client::Answer| answer.terms.rounds_us as f64 / 1e3;
    Ok(Report {
        users: crowd.users.len(),
        measure: measures[0].summary(),
        numbers: crowd.shape.numbers,
        effort: Effort::of(network.network()),
        paper: PAPER,
        bundle_bytes: [plan.stock_bytes(Party::Zero), plan.stock_bytes(Party::One)],
        source: first.terms.preprocessing.clone(),
        rounds: first.terms.rounds,
        bytes: [plan.cost().bytes, first.terms.bytes],
        milliseconds: named.answers.iter().map(|answer| answer.milliseconds).collect(),
        rounds_milliseconds: named.answers.iter().map(rounds).collect(),
        seconds: named.seconds,
        named: named.who.clone(),
        oracle: named.oracle.iter().map(|nearest| nearest.user).collect(),
        certain: named.oracle.iter().map(|nearest| nearest.certain).collect(),
    })
}

fn show(report: &Report) {
    let Report { effort, paper, bytes, bundle_bytes, .. } = report;
    println!("{} users, each {}", report.users, report.measure);
    println!(
        "a user's network: {} parameters, {} multiply-adds, {} comparisons (the paper's: {}, {}, {})",
        effort.parameters,
        effort.multiply_adds,
        effort.comparisons,
        paper.parameters,
        paper.multiply_adds,
        paper.comparisons
    );
    println!(
        "online, a question: {} rounds, {:.1} MB from each party ({:.1} by the plan)",
        report.rounds,
        bytes[1] as f64 / 1e6,
        bytes[0] as f64 / 1e6
    );
    println!(
        "correlated randomness ({}): {:.1} and {:.1} MB",
        report.source,
        bundle_bytes[0] as f64 / 1e6,
        bundle_bytes[1] as f64 / 1e6
    );
    println!(
        "seconds: publishing with the first bundle {:.1}, asking {:.1}",
        report.seconds[0], report.seconds[1]
    );
    for (at, milliseconds) in report.milliseconds.iter().enumerate() {
        let who = |user: Option<usize>| {
            user.map_or_else(|| "nobody".to_owned(), |user| format!("user-{}", user + 1))
        };
        println!(
            "row {at}: {} after {:.1} s, of which rounds {:.1} s; the oracle names {}{}",
            who(report.named[at]),
            milliseconds / 1e3,
            report.rounds_milliseconds[at] / 1e3,
            who(report.oracle[at]),
            if report.certain[at] { "" } else { " (a near tie)" }
        );
    }
}
