//! The command line. One file a command; nothing else in the project prints.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where people read")]

mod ask;
mod bench;
mod daemon;
mod distill;
mod identity;
mod model;
mod module;
mod output;
mod privacy;
mod status;
mod student;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Hospitals ask each other's models for an opinion without showing anyone the patient or the model.
///
/// Start with `consilium demo`: it runs a whole consortium on this machine. A real node reads a node
/// file (`consilium.toml`) and the consortium's roster (`roster.toml`); `consilium daemon` runs it,
/// the other commands talk to the running node through its administration socket.
#[derive(Debug, Parser)]
#[command(name = "consilium", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole consortium of real processes on this machine and measure it
    Demo(crate::demo::DemoArgs),
    /// Run the node that a node file describes
    Daemon(daemon::DaemonArgs),
    /// Publish, list and withdraw models of this node
    Model(model::ModelArgs),
    /// Ask the consortium for the class of one or more cases
    ///
    /// Where the task's release is `confident-gaussian`, the answer may be that there is no consensus: too few
    /// models agree, under noise, to name a class. With --json the label and the class are then null. Such an
    /// attempt costs the same privacy as a class, because the compute parties cannot tell it from one; to ask
    /// again about the same case costs it again.
    Ask(ask::AskArgs),
    /// Spend a privacy budget once, on a student that then answers without limit on this machine
    Distill(distill::DistillArgs),
    /// Measure questions to a running consortium, or what preprocessing costs on this machine
    Bench(bench::BenchArgs),
    /// What answers cost in privacy: the ledger, budgets and what they buy
    Privacy(privacy::PrivacyArgs),
    /// Show what the node does: peers, seats, pools, privacy spent
    Status(status::StatusArgs),
    /// Draw noise for two compute parties: what `consilium-enclave` does, for the demo's public testing
    #[command(hide = true)]
    Module(module::ModuleArgs),
    /// Show the peer id of this node for the roster, making its key if there is none
    Identity(identity::IdentityArgs),
}

/// Which node a command talks to.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/consilium/consilium.toml")]
    pub config: PathBuf,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    pub json: bool,
}

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Module(args) => return module::run(args),
        Command::Demo(args) => crate::demo::run(&args),
        Command::Daemon(args) => daemon::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Ask(args) => ask::run(&args),
        Command::Distill(args) => distill::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Privacy(args) => privacy::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Identity(args) => identity::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}
