//! `evaluate`: the demo's processes on larger real data.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::{Parser, ValueEnum};
use consilium::demo::{Confident, Preprocessing, Progress, Report, evaluate};
use consilium::planning::NoiseMaker;
use consilium::training::classify;
use consilium_protocol::stock::Gadget;
use consilium_tests::data::{Ensemble, ensemble, shared_or_skip};
use consilium_tests::evaluation::{
    self, Accuracy, Choice, Estimate, MakerRow, Makers, NoisyAccuracy, ReleasedRow, ShippedVotes, makers,
    noisy_accuracies, recorded, released_rows, scenario, shipped_votes,
};
use consilium_tests::program::ended;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Rows asked about unless said otherwise.
const QUERIES: usize = 200;
/// Private accuracy may differ from the float ensemble's by this much.
const ACCURACY_GAP_MAX: f64 = 0.003;
/// Noisy accuracy may differ from the baseline's by this much (continuous against discrete noise).
const BASELINE_GAP_MAX: f64 = 0.01;
/// Answers behind each figure of --noise unless said otherwise.
const ANSWERS: usize = 40_000;
/// Fixed-point votes that must be as recorded.
const FIXED_VOTES_MIN: f64 = 0.995;

/// Runs a consortium of real processes on larger real data and compares every label with the oracle.
///
/// With --votes only the release runs: two parties over a socket, with the noise of the product, answer from
/// shares of the votes that the recorded owner networks cast, once for each noisy setting of the baselines. That
/// takes seconds for 100 owners and 10,000 queries, where whole models would take hours, and measures the same:
/// a vote is a vote, whoever made it.
///
/// With --votes --noise both the release runs at growing deviations with the noise of the sampling module, served in
/// this process and proven by software evidence to either party, and with software noise of both parties: what each
/// costs in accuracy, and how many answers a budget pays for.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data set and network
    #[arg(long, value_enum)]
    dataset: Choice,
    /// Hospitals (heart disease has 4 real ones)
    #[arg(long, default_value_t = 10)]
    owners: usize,
    /// Held-out rows to ask about [default: 200, or all of them with --votes]
    #[arg(long)]
    queries: Option<usize>,
    /// Models of each hospital, trained on disjoint patients: the privacy promise is then to a patient
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Take the trained owner networks beside the repository instead of training, and check all their votes
    #[arg(long, conflicts_with = "shards")]
    shipped: bool,
    /// Who makes the correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Run the release alone over the recorded votes, at every noisy setting of the baselines
    #[arg(long, conflicts_with_all = ["shipped", "keep", "sigma", "threshold"])]
    votes: bool,
    /// How --votes compares shared values
    #[arg(long, value_enum, default_value_t = Comparing::Digits, requires = "votes")]
    gadget: Comparing,
    /// Compare makers of noise over the recorded votes instead, at equal price and at equal accuracy
    #[arg(long, value_enum, requires = "votes")]
    noise: Option<Noise>,
    /// How often --noise asks each question, with fresh noise [default: until there are 40,000 answers]
    #[arg(long, value_name = "TIMES", requires = "noise", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    asks: Option<u32>,
    /// Deviation of each party's noise on a count, in votes, as an exact number [default: a fifth of the owners]
    #[arg(long, value_name = "VOTES")]
    sigma: Option<String>,
    /// Votes that the top count must reach for a noisy answer [default: every question is answered]
    #[arg(long, value_name = "VOTES", requires = "threshold_sigma")]
    threshold: Option<u32>,
    /// Deviation of each party's noise on the top count
    #[arg(long, value_name = "VOTES", requires = "threshold")]
    threshold_sigma: Option<String>,
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

/// How shared values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Comparing {
    /// By shared tables of digits
    Digits,
    /// By small digits
    Nibbles,
    /// By comparison keys
    Keys,
}

/// Who draws the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Noise {
    /// One draw of the sampling module
    #[value(alias = "enclave")]
    Module,
    /// A full draw of each party
    Software,
    /// Either, side by side
    Both,
}

#[derive(Serialize)]
struct Votes {
    ensemble: String,
    release: Vec<ReleasedRow>,
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
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Some(shared) = shared_or_skip("the evaluation") else { return Ok(()) };
    if arguments.votes {
        return votes(arguments, &shared);
    }
    let progress = Progress::new(!arguments.json);
    let choice = arguments.dataset;
    let (owners, shards) = (arguments.owners, usize::from(arguments.shards));
    let mut scenario =
        scenario(choice, (owners, shards), arguments.shipped, arguments.seed, &shared, &progress)?;
    scenario.preprocessing = arguments.source;
    if let Some(sigma) = &arguments.sigma {
        scenario.releases.sigma.clone_from(sigma);
    }
    let confident = arguments.threshold.zip(arguments.threshold_sigma.clone());
    scenario.releases.confident = confident.map(|(threshold, sigma)| Confident { threshold, sigma });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let queries = arguments.queries.unwrap_or(QUERIES);
    let run = evaluate(&scenario, queries, arguments.keep.as_deref(), &progress);
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
    let record = (choice.set().name(), choice.split(arguments.owners));
    let dp = noisy_accuracies(&ensemble, &shared, record, arguments.seed)?;
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

/// The release alone, over recorded votes.
fn votes(arguments: &Arguments, shared: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let choice = arguments.dataset;
    let ensemble = ensemble(shared, &choice.ensemble(arguments.owners))?;
    let gadget = match arguments.gadget {
        Comparing::Digits => Gadget::Digits,
        Comparing::Nibbles => Gadget::Nibbles,
        Comparing::Keys => Gadget::Keys,
    };
    if let Some(noise) = arguments.noise {
        return compare(arguments, noise, &ensemble, gadget, shared);
    }
    let record = (choice.set().name(), choice.split(arguments.owners));
    let queries = arguments.queries.unwrap_or(usize::MAX);
    let release = released_rows(&ensemble, shared, record, queries, gadget)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&Votes { ensemble: ensemble.name, release: release.clone() })?);
    } else {
        print_release(&ensemble.name, &release);
    }
    Ok(evaluation::judge(&release)?)
}

/// Makers of noise side by side, over recorded votes.
fn compare(
    arguments: &Arguments,
    noise: Noise,
    ensemble: &Ensemble,
    gadget: Gadget,
    shared: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let who: &[NoiseMaker] = match noise {
        Noise::Module => &[NoiseMaker::Enclave],
        Noise::Software => &[NoiseMaker::Software],
        Noise::Both => &[NoiseMaker::Enclave, NoiseMaker::Software],
    };
    let queries = arguments.queries.unwrap_or(usize::MAX).clamp(1, ensemble.labels.len().max(1));
    let asks = arguments.asks.map_or(ANSWERS.div_ceil(queries), |asks| asks as usize);
    let table = recorded(shared, &ensemble.name)?;
    let found = makers(ensemble, &table, who, (queries, asks), gadget)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        print_makers(&found);
    }
    Ok(found.judge()?)
}

fn print_makers(found: &Makers) {
    let Makers { ensemble, queries, asks, budget, plain, .. } = found;
    println!("{ensemble}: the release of two parties over the recorded votes");
    println!("{queries} questions, each asked {asks} times; labels: all that {budget} pays for");
    println!("vote without noise or privacy: {}", percent(*plain));
    if let Some(module) = &found.module {
        println!("module: {module};");
        println!("        {} batches, each with equal receipts at both parties", found.batches);
    }
    println!("errors are standard errors over questions; differences are taken question by question\n");
    println!(
        "{:<16} | {:^54} | {:^59}",
        "each draw", "same price, same labels", "the module at software's accuracy"
    );
    println!(
        "{:>5} {:>10} | {:>6} {:>15} {:>15} {:>15} | {:>5} {:>15} {:>15} {:>6} {:>14}",
        "sigma",
        "rho/answer",
        "labels",
        "module",
        "software",
        "gain",
        "sigma",
        "accuracy",
        "difference",
        "labels",
        "times software"
    );
    found.rows.iter().for_each(print_maker_row);
    println!("\nfurthest from the law of its noise: {:.1} standard errors of the noise", found.errors_max());
    if let Some(Estimate { value, error }) = found.factor {
        println!(
            "labels with the module for one with software, same accuracy, pooled: {value:.3} ± {error:.3}"
        );
    }
}

fn print_maker_row(row: &MakerRow) {
    let accuracy = |found: Option<Accuracy>| found.map_or_else(String::new, |found| percent(found.measured));
    print!(
        "{:>5.1} {:>10.6} | {:>6} {:>15} {:>15} {:>15} |",
        row.sigma,
        row.rho,
        row.labels,
        accuracy(row.module),
        accuracy(row.software),
        row.gain.map_or_else(String::new, percent),
    );
    let Some(equal) = row.equal else { return println!() };
    println!(
        " {:>5.1} {:>15} {:>15} {:>6} {:>14}",
        equal.sigma,
        percent(equal.module.measured),
        percent(equal.difference),
        equal.labels,
        equal.measured_ratio.map_or_else(
            || format!("{:.2} by price", equal.ratio),
            |Estimate { value, error }| format!("{value:.2} ± {error:.2}")
        ),
    );
}

fn percent(Estimate { value, error }: Estimate) -> String {
    format!("{:.2} ± {:.2} %", 100.0 * value, 100.0 * error)
}

fn print_release(name: &str, rows: &[ReleasedRow]) {
    let queries = rows.first().map_or(0, |row| row.queries);
    println!("{name}: the release of two parties over the recorded votes, {queries} queries a row");
    println!(
        "\"together\": both parties' noise is that of the setting, as in the baselines; \"each\": one party's is"
    );
    println!(
        "{:<20} {:>8} {:>17} {:>17} {:>17} {:>6} {:>8} {:>8} {:>8} {:>6} {:>7}",
        "setting",
        "noise",
        "answered, right",
        "in the clear",
        "baseline",
        "errors",
        "rho",
        "epsilon",
        "eps. 8",
        "rounds",
        "bytes"
    );
    let pair = |rate: f64, accuracy: f64| format!("{:.2} % {:.2} %", rate * 100.0, accuracy * 100.0);
    for row in rows {
        println!(
            "{:<20} {:>8} {:>17} {:>17} {:>17} {:>6} {:>8.5} {:>8.2} {:>8} {:>6} {:>7.0}",
            row.setting,
            if row.noise_together { "together" } else { "each" },
            pair(row.answer_rate, row.accuracy),
            pair(row.clear.answer_rate, row.clear.accuracy),
            row.baseline.map_or_else(String::new, |figures| pair(figures.answer_rate, figures.accuracy)),
            row.errors_from_baseline.map_or_else(String::new, |errors| format!("{errors:.1}")),
            row.rho,
            row.epsilon,
            row.attempts,
            row.rounds,
            row.bytes,
        );
    }
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
