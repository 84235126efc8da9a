//! `consilium bench`: what things cost, on this machine and in a running consortium.

mod figures;
mod online;
mod preprocessing;

use clap::{Args, Subcommand};
use miette::Result;

/// Arguments of `consilium bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask many questions of a task through this node and measure them
    ///
    /// The inputs are random within the task's public range, or taken from a file in turn. Each question is
    /// a real one: it burns correlated randomness and is recorded in both ledgers. With --json one line for
    /// the whole way of a question (phase "query") and one for the rounds between the compute parties (phase
    /// "online"); times in milliseconds, bytes as each compute party sends them.
    Online(online::OnlineArgs),
    /// Make correlated randomness as the background pools do, both parties in this process
    ///
    /// Prints for each network and source the CPU time of one party, the bytes it sends and what it makes
    /// per second, apart for matrix triples and for bits. Needs no node and no configuration.
    Preprocessing(preprocessing::PreprocessingArgs),
}

pub(super) fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Online(args) => online::run(args),
        What::Preprocessing(args) => preprocessing::run(args),
    }
}
