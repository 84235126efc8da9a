//! The command line. One file a command; nothing else in the project prints.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where people read")]

mod ask;
mod bench;
mod completions;
mod config;
mod consortium;
mod daemon;
mod dashboard;
mod distill;
mod he;
mod identity;
mod lab;
mod model;
mod module;
mod output;
mod privacy;
mod status;
mod student;
mod train;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Hospitals ask each other's models for an opinion without showing anyone the patient or the model.
///
/// Start with `consilium demo`: it runs a whole consortium on this machine. A real node reads a node
/// file (`consilium.toml`) and the consortium's roster (`roster.toml`); `consilium config init` writes the first one,
/// `consilium config check` finds what is wrong, `consilium daemon` runs the node, and the other commands talk to the
/// running node through its administration socket.
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
    ///
    /// SIGHUP reads the node file and the roster again. Both are checked first: if either is bad, what is in force
    /// stays in force. `log.filter`, `pool.bytes_max` and `pool.refill_batch_queries` change at once. For a roster with
    /// more members, pairs, tasks, or other addresses, clients, owners, titles and pool marks, the node answers the
    /// questions in progress and begins anew as the same process. The log names whatever else has changed; that needs
    /// a restart.
    ///
    /// SIGTERM and SIGINT refuse further questions, answer those in progress within `query_deadline_ms`, and stop; a
    /// second one stops at once.
    ///
    /// Ends with 0 when it was told to stop, 69 when an address or the admin socket cannot be had, 70 after a fault
    /// of the program, 74 when a file of the state cannot be used, 77 when a secret is open to others, 78 when a file
    /// is wrong, and 1 otherwise.
    Daemon(daemon::DaemonArgs),
    /// Write, check and show the settings of a node
    Config(config::ConfigArgs),
    /// Found a consortium, invite and join, propose and sign changes of its roster
    Consortium(consortium::ConsortiumArgs),
    /// Train a model of your own data on this machine
    Train(train::TrainArgs),
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
    /// Ask one owner's network under your own key: two sides, files between them, no compute party
    He(he::HeArgs),
    /// A broken idea, encodings by secret random networks, with the attack that breaks it: protects nothing
    Lab(lab::LabArgs),
    /// Measure questions to a running consortium, or what preprocessing costs on this machine
    Bench(bench::BenchArgs),
    /// What answers cost in privacy: the ledger, budgets and what they buy
    Privacy(privacy::PrivacyArgs),
    /// Show what the node does: peers, seats, pools, privacy spent
    Status(status::StatusArgs),
    /// Show the address of this node's dashboard, with its token
    Dashboard(dashboard::DashboardArgs),
    /// Draw noise for two compute parties: what `consilium-enclave` does, for the demo's public testing
    #[command(hide = true)]
    Module(module::ModuleArgs),
    /// Show the peer id of this node for the roster, making its key if there is none
    Identity(identity::IdentityArgs),
    /// Print the completions of a shell
    ///
    /// For bash: `consilium completions bash > /usr/share/bash-completion/completions/consilium`.
    Completions(completions::CompletionsArgs),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// The usual node file.
const NODE_FILE: &str = "/etc/consilium/consilium.toml";

/// Which node a command talks to.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node file
    #[arg(long, short, value_name = "FILE", default_value = NODE_FILE)]
    pub config: PathBuf,
    /// Override one setting of the node file, such as `admin.socket=/run/other.sock`
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    pub json: bool,
}

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Module(args) => return module::run(args),
        Command::Daemon(args) => return daemon::run(&args),
        Command::Config(args) => return ended(config::run(&args)),
        Command::Demo(args) => crate::demo::run(&args),
        Command::Consortium(args) => consortium::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Ask(args) => ask::run(&args),
        Command::Distill(args) => distill::run(&args),
        Command::He(args) => he::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Privacy(args) => privacy::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Dashboard(args) => dashboard::run(&args),
        Command::Identity(args) => identity::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    ended(outcome.map(|()| ExitCode::SUCCESS))
}

/// Shows what went wrong, if anything did.
fn ended(outcome: miette::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}
