//! `wire`: streams between members beside bare TCP.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium::net::{Identity, PeerId};
use consilium_tests::wire::{Distance, Far, Load, Row, measure, serve};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

const HEADER: &str = "\
Two processes; messages of one frame each over a stream between members (TCP, Noise, Yamux), and the same bytes over
bare TCP, in turns. Medians over all turns; the ratio is of times. `20ms` is a relay in user space with 20 ms there
and back and 200 Mbit/s for either kind, `20ms-fast` the same without a limit of rate.";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures round trips and bulk over the streams between members beside bare TCP, in one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only at this distance
    #[arg(long, value_enum)]
    distance: Option<Distance>,
    /// Threads of each process that carry streams [default: half of the processors, since both processes share this
    /// machine]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: Option<u8>,
    /// End with an error where a goal is missed
    #[arg(long)]
    check: bool,
    /// Print one JSON object a row
    #[arg(long)]
    json: bool,
    /// Be the far side for these peers
    #[arg(long, hide = true, num_args = 1..)]
    far: Vec<PeerId>,
}

/// The far side; ends with this process.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(rows) if !arguments.check || rows.iter().all(Row::is_good) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Row>, Failure> {
    let workers = workers(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    if !arguments.far.is_empty() {
        let served = runtime.block_on(serve(&arguments.far, |far| {
            println!("{}", serde_json::json!(far));
            drop(std::io::stdout().flush());
        }));
        return served.map(|()| Vec::new()).map_err(|error| error.to_string().into());
    }
    let distances =
        Distance::ALL.into_iter().filter(|one| arguments.distance.is_none_or(|only| only == *one));
    let near: Vec<(Distance, Identity)> =
        distances.map(|distance| (distance, Identity::generate())).collect();
    let (_other, far) = start(workers, &near)?;
    if !arguments.json {
        println!("{HEADER}\nThreads of each process that carry streams: {workers}\n");
        print_cells(&Row::COLUMNS.map(str::to_owned));
    }
    let mut rows = Vec::new();
    for (distance, identity) in near {
        let loads: &'static [Load] = if distance == Distance::Fast { &[Load::Bulk] } else { &Load::ALL };
        let (tell, mut told) = tokio::sync::mpsc::channel(Load::ALL.len());
        runtime.block_on(async {
            // On a worker, as the product's own tasks are, and not on the thread that waits.
            let measured = tokio::spawn(measure(far.clone(), identity, distance, loads, tell));
            while let Some(row) = told.recv().await {
                show(&row, arguments.json);
                rows.push(row);
            }
            measured.await?
        })?;
    }
    Ok(rows)
}

fn show(row: &Row, json: bool) {
    if json {
        println!("{}", serde_json::json!(row));
    } else {
        print_cells(&row.cells());
    }
}

fn workers(arguments: &Arguments) -> usize {
    let half = || std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1));
    arguments.workers.map_or_else(half, usize::from)
}

fn start(workers: usize, near: &[(Distance, Identity)]) -> Result<(Other, Far), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--workers", &workers.to_string(), "--far"]);
    command.args(near.iter().map(|(_, identity)| identity.peer_id().to_string()));
    let mut other = Other(command.stdout(Stdio::piped()).spawn()?);
    let told = other.0.stdout.take().ok_or("the far side has no output")?;
    let mut line = String::new();
    BufReader::new(told).read_line(&mut line)?;
    Ok((other, serde_json::from_str(&line)?))
}

/// Columns that line up as rows come one by one.
fn print_cells(cells: &[String; 6]) {
    const WIDTHS: [usize; 6] = [11, 22, 16, 16, 8, 0];
    let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}"));
    println!("{}", padded.collect::<Vec<_>>().join(" ").trim_end());
}
