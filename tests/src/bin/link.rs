//! A relay that makes two processes of one machine as far apart as wanted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where people read")]

use clap::Parser;
use consilium_tests::link::{Line, Link};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Carries TCP connections with the delay and the rate of a wide-area link.
///
/// Each party of a consortium that others dial needs one: it listens on an address of its own, and the roster
/// names the relay's. Runs until it is killed.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 takes any, and the first line of output names it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where to carry connections
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// From one end to the other, in milliseconds; a round trip takes twice as long
    #[arg(long, default_value_t = 20.0)]
    delay_ms: f64,
    /// Millions of bits a second in each direction, for all connections together; no limit if absent
    #[arg(long)]
    mbit: Option<f64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Ok(delay) = Duration::try_from_secs_f64(args.delay_ms / 1e3) else {
        eprintln!("--delay-ms must be a number of milliseconds");
        return ExitCode::FAILURE;
    };
    let bits_per_second = args.mbit.map(|mbit| (mbit * 1e6) as u64);
    match Link::start(args.listen, args.to, Line { delay, bits_per_second }) {
        Ok(link) => {
            println!("{}", link.address());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("cannot listen on {}: {error}", args.listen);
            ExitCode::FAILURE
        }
    }
}
