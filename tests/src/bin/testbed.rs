//! `testbed`: a consortium of eight daemons far apart, broken in many ways.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::Parser;
use consilium_tests::testbed::{Failure, Line, Plan, Summary, offer, run, sweep};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Forms a consortium of eight daemons in network namespaces of their own, 40 ms apart over links that lose one packet
/// in a hundred, one daemon or more behind address translation; asks it all the time, breaks it in one way after the other, and
/// prints what came of the questions and how long it took to heal. Ends with an error if a label is wrong, a question
/// hangs or is refused without a reason that the fault gives, something does not heal by itself, or the ledgers do not
/// hold. Takes the rights of root, /dev/net/tun and the program `ip`.
#[derive(Debug, Parser)]
struct Arguments {
    /// After the acts, faults at random for so long, such as 90s, 5m, 1h or 3d, while memory, descriptors and files of
    /// all daemons are watched
    #[arg(long, value_parser = length, value_name = "TIME")]
    duration: Option<Duration>,
    /// Only form, and go on with --duration
    #[arg(long, requires = "duration")]
    no_acts: bool,
    /// Give the second pair a task of its own, so that questions to the first one are refused while it is down
    #[arg(long)]
    apart: bool,
    /// Seed of packet losses, data and faults; drawn and printed if absent
    #[arg(long)]
    seed: Option<u64>,
    /// From one node to another, in milliseconds; a round trip takes twice as long
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
    /// Part of the packets that every link loses, in each direction
    #[arg(long, default_value_t = 0.01, value_parser = part)]
    loss: f64,
    /// Members behind address translation; the others are north, which founds, south, east and west, which compute,
    /// hill and lake, which own models, and clinic, which asks. Who computes or owns is then reached through relays
    #[arg(long, value_delimiter = ',', default_value = "practice", value_name = "NAMES")]
    nat: Vec<String>,
    /// The program `consilium` of the nodes; without it, this program is
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Keep configuration, state and logs of all nodes in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A number with a unit.
fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 90s, 5m, 1h or 3d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=0.5).contains(&part) { Ok(part) } else { Err("must be between 0 and 0.5".to_owned()) }
}

fn main() -> ExitCode {
    // The nodes of the run are this very program, called with a command of the product's.
    if std::env::args().nth(1).is_some_and(|first| !first.starts_with('-')) {
        return consilium::cli::run();
    }
    match start(&Arguments::parse()) {
        Ok(summary) if summary.good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<Summary, Failure> {
    let swept = sweep();
    if swept > 0 {
        eprintln!("removed {swept} namespaces of a run that was killed");
    }
    let offer = offer();
    if !offer.missing.is_empty() {
        return Err(format!("this machine lacks {}", offer.missing.join("; ")).into());
    }
    let temporary = tempfile::Builder::new().prefix("testbed-").tempdir()?;
    let root = arguments.keep.clone().unwrap_or_else(|| temporary.path().join("run"));
    std::fs::create_dir_all(&root)?;
    if std::fs::read_dir(&root)?.next().is_some() {
        return Err(format!("{} is not empty; a run needs a folder of its own", root.display()).into());
    }
    let root = root.canonicalize()?;
    let program = match &arguments.program {
        Some(program) => program.canonicalize()?,
        None => std::env::current_exe()?,
    };
    let plan = Plan {
        program,
        acts: !arguments.no_acts,
        apart: arguments.apart,
        soak: arguments.duration,
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        line: Line { delay: Duration::from_millis(arguments.delay_ms), loss: arguments.loss },
        nat: arguments.nat.clone(),
    };
    let started = Instant::now();
    let say = move |what: &str| eprintln!("{:7.1} s  {what}", started.elapsed().as_secs_f64());
    let netem = if offer.netem { "has" } else { "does not have" };
    say(&format!(
        "seed {}; the kernel {netem} netem, links are carried in user space in any case",
        plan.seed
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let summary = runtime.block_on(async {
        let mut ended = signal(SignalKind::terminate())?;
        tokio::select! {
            summary = run(&plan, &root, &say) => summary,
            _ = tokio::signal::ctrl_c() => Err("interrupted; processes, links and namespaces are gone".into()),
            _ = ended.recv() => Err("told to end; processes, links and namespaces are gone".into()),
        }
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}");
    }
    Ok(summary)
}
