//! `distill`: how good a student a privacy budget buys.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::chart::{Axis, Chart};
use consilium::demo::Progress;
use consilium_protocol::privacy::{Delta, Ratio};
use consilium_tests::data::{ensemble, shared_or_skip};
use consilium_tests::evaluation::{
    Choice, Distilled, Distilling, Division, Draws, LiveOptions, distilled, live,
};
use consilium_tests::program::ended;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// How far below the vote a student may be at the goal's budget.
const GAP_MAX: f64 = 0.03;
const GOAL_EPSILON: f64 = 8.0;
const GOAL_VOTES: usize = 100;

/// Distils students from recorded votes under growing budgets, with the product's own noise, and measures them
/// on records that were no part of it; or, with `--live`, from a consortium of real processes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Data set
    #[arg(long, value_enum, default_value_t = Choice::Mnist)]
    dataset: Choice,
    /// Owners whose recorded votes are taken
    #[arg(long, default_value_t = 100)]
    votes: usize,
    /// Total privacy losses to spend
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16")]
    epsilon: Vec<Ratio>,
    /// Probability with which the promise may fail
    #[arg(long, default_value = "0.000001")]
    delta: Delta,
    /// Deviations of the noise of one draw, in votes; a fifth of the votes if absent
    #[arg(long, value_delimiter = ',')]
    sigma: Vec<Ratio>,
    /// Divisions of the test records that are averaged
    #[arg(long, default_value_t = 5)]
    splits: u64,
    /// Records of each division to measure on
    #[arg(long, default_value_t = 1000)]
    test_rows: usize,
    /// Take dense students also for images: a tenth of the time
    #[arg(long)]
    dense: bool,
    /// Draw the curve into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Ask a consortium of real processes instead: breast cancer, this many hospitals, first epsilon and sigma
    #[arg(long, value_name = "HOSPITALS", value_parser = clap::value_parser!(u16).range(2..=40))]
    live: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Evaluation {
    dataset: String,
    votes: usize,
    delta: String,
    divisions: Vec<Division>,
    results: Vec<Distilled>,
}

fn main() -> ExitCode {
    // The processes of a live run are this very program.
    if std::env::args().nth(1).is_some_and(|first| ["daemon", "distill"].contains(&first.as_str())) {
        return consilium::cli::run();
    }
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let progress = Progress::new(!arguments.json);
    if let Some(owners) = arguments.live {
        let epsilon = arguments.epsilon.first().map_or_else(|| "60".into(), ToString::to_string);
        let sigma = arguments.sigma.first().map_or_else(|| format!("{owners}/5"), ToString::to_string);
        let options = LiveOptions { owners: usize::from(owners), epsilon, sigma, json: arguments.json };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return Ok(runtime.block_on(live(&options, &progress))?);
    }
    let Some(shared) = shared_or_skip("the distillation") else { return Ok(()) };
    let fifth = || Ratio::new(arguments.votes as u64, 5);
    let sigmas = if arguments.sigma.is_empty() { vec![fifth()?] } else { arguments.sigma.clone() };
    let wanted = Distilling {
        set: arguments.dataset.set(),
        epsilons: arguments.epsilon.clone(),
        delta: arguments.delta,
        sigmas,
        splits: arguments.splits,
        test_rows: arguments.test_rows,
        convolutions: !arguments.dense,
    };
    let recorded = ensemble(&shared, &arguments.dataset.ensemble(arguments.votes))?;
    let bar = progress.bar("students", 1);
    let (divisions, results) = distilled(&wanted, &recorded, &shared, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let (dataset, delta) = (wanted.set.name().to_owned(), arguments.delta.to_string());
    let evaluation = Evaluation { dataset, votes: arguments.votes, delta, divisions, results };
    let chart = chart(&evaluation);
    if let Some(file) = &arguments.svg {
        chart.write_svg(file)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&evaluation)?);
    } else {
        print(&evaluation);
        println!("\n{}", chart.to_text(100, 24));
    }
    judge(&evaluation)
}

fn print(evaluation: &Evaluation) {
    let Evaluation { dataset, votes, delta, .. } = evaluation;
    println!(
        "{dataset}, {votes} votes, delta {delta}; shares in percent, mean of {} divisions",
        evaluation.divisions.len()
    );
    for (number, division) in evaluation.divisions.iter().enumerate() {
        println!(
            "division {number}: {} unlabelled {}, {} to measure on {}",
            division.unlabelled,
            &division.unlabelled_sha256[..16],
            division.test,
            &division.test_sha256[..16]
        );
    }
    println!(
        "{:>6} {:>7} {:>6} {:>6} {:>13} {:>8} {:>15} {:>10} {:>6}",
        "sigma", "epsilon", "draws", "labels", "labels right", "beliefs", "student", "exact vote", "gap"
    );
    for row in &evaluation.results {
        println!(
            "{:>6} {:>7} {:>6} {:>6} {:>13.2} {:>8.2} {:>8.2} ± {:>4.2} {:>10.2} {:>6.2}",
            row.sigma,
            row.epsilon,
            format!("{:?}", row.draws).to_lowercase(),
            row.labels,
            100.0 * row.labels_right,
            100.0 * row.spread,
            100.0 * row.student,
            100.0 * row.student_deviation,
            100.0 * row.vote,
            100.0 * (row.vote - row.student)
        );
    }
}

/// The best deviation for each budget, as a consortium that measured on public data would choose it.
fn chart(evaluation: &Evaluation) -> Chart {
    let rows = &evaluation.results;
    let line = |draws: Draws| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for row in rows.iter().filter(|row| row.draws == draws) {
            let right = 100.0 * row.student;
            match points.iter_mut().find(|point| point.0 == row.epsilon) {
                Some(point) => point.1 = point.1.max(right),
                None => points.push((row.epsilon, right)),
            }
        }
        points
    };
    let vote: Vec<(f64, f64)> = rows.iter().map(|row| (row.epsilon, 100.0 * row.vote)).collect();
    let title = format!("Student of {} votes on {}", evaluation.votes, evaluation.dataset);
    Chart::new(title, Axis::new("total privacy loss of each owner, epsilon").log(), "right, %")
        .subtitle(format!("delta {}; best sigma of those measured", evaluation.delta))
        .series("vote without noise", vote)
        .series("student, one draw of noise", line(Draws::One))
        .series("student, two full draws", line(Draws::Two))
}

fn judge(evaluation: &Evaluation) -> Result<(), Box<dyn std::error::Error>> {
    let at_goal = |row: &&Distilled| row.draws == Draws::Two && row.epsilon == GOAL_EPSILON;
    let gaps = evaluation.results.iter().filter(at_goal).map(|row| row.vote - row.student);
    let Some(gap) = gaps.reduce(f64::min).filter(|_| evaluation.votes >= GOAL_VOTES) else { return Ok(()) };
    if gap > GAP_MAX {
        return Err(format!(
            "at epsilon {GOAL_EPSILON} the student is {:.2} points below the vote; the goal is {:.0}",
            100.0 * gap,
            100.0 * GAP_MAX
        )
        .into());
    }
    Ok(())
}
