//! `siege`: a consortium under attack, and what its questions, memory and logs show meanwhile.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::demo::{Preprocessing, Progress, Scenario, World, breast_cancer};
use consilium_tests::siege::{Attack, Plan, Row, hasten, siege};
use std::process::ExitCode;

const HEADER: &str = "\
Three hospitals, two compute parties and a client as real processes; party Zero is attacked (`http`: the client's
interface). Questions are asked one after the other, in turns without and with the attack.
  tried    connections, streams or requests that the attacker began in a second, and how many the node ended
  MiB      memory of party Zero before the attack, and the most during it; fds: its open descriptors
  lines    what party Zero wrote about this and attacks like it since the start, of what it may\n";

/// Attacks a consortium of real processes in several ways, one after the other, and shows the latency of questions
/// before and during each. Ends with an error if an answer is wrong or refused, memory grows, the log is flooded, or
/// questions take half as long again.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these attacks
    #[arg(long, value_enum, value_delimiter = ',')]
    attack: Vec<Attack>,
    /// Seconds of each attack, and as many without
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Who makes the correlated randomness; made by both, its work is in all latencies
    #[arg(long, value_enum, default_value_t = Preprocessing::Dealer)]
    source: Preprocessing,
    /// Print one JSON object a row
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| first == "daemon") {
        return consilium::cli::run();
    }
    match run(&Arguments::parse()) {
        Ok(rows) if rows.iter().all(Row::is_good) => ExitCode::SUCCESS,
        Ok(rows) => {
            let bad = rows.iter().filter(|row| !row.is_good()).map(|row| row.attack.as_str());
            eprintln!("not withstood: {}", bad.collect::<Vec<_>>().join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Row>, Box<dyn std::error::Error + Send + Sync>> {
    let progress = Progress::new(!arguments.json);
    let scenario = breast_cancer(3, 1, &progress)?;
    let scenario = Scenario { preprocessing: arguments.source, pool: (64, 256), ..scenario };
    let attacks = if arguments.attack.is_empty() { Attack::ALL.to_vec() } else { arguments.attack.clone() };
    let plan = Plan { attacks, seconds: arguments.seconds };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if !arguments.json {
        println!("{HEADER}");
        print_cells(&Row::COLUMNS.map(str::to_owned));
    }
    runtime.block_on(async {
        let mut world = World::prepare(&scenario, std::env::current_exe()?, None)?;
        hasten(&world)?;
        world.launch_all().await?;
        let tell = |row: &Row| {
            if arguments.json {
                println!("{}", serde_json::json!(row));
            } else {
                print_cells(&row.cells());
            }
        };
        siege(world, scenario, &plan, tell).await
    })
}

/// Columns that line up as rows come one by one.
fn print_cells(cells: &[String; 9]) {
    const WIDTHS: [usize; 9] = [11, 8, 7, 25, 22, 15, 17, 5, 0];
    let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}"));
    println!("{}", padded.collect::<Vec<_>>().join(" ").trim_end());
}
