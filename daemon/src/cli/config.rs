//! `consilium config`: what a node's settings are, and what is wrong with them.

mod check;
mod init;
mod show;

use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `consilium config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Find everything that is wrong with a node's settings and the roster
    ///
    /// Reads the node file, conf.d, the environment and the roster, as the daemon would, and looks at the machine: is
    /// the key that of the member, may others read it, can the state folder be used. All problems are shown, each with
    /// its line and what to write instead. Nothing is changed, and the node may be running. Run it as the node's user.
    ///
    /// Ends with 0 if the node could start, with 1 if not, with 2 for wrong arguments. Warnings do not count.
    Check(check::CheckArgs),
    /// Show the settings in force and where each comes from
    ///
    /// Later ones win: default, node file, conf.d/*.toml beside it by name, environment, command line. A variable is
    /// called CONSILIUM_NODE__SECTION__KEY, such as CONSILIUM_NODE__NETWORK__LISTEN='["/ip4/0.0.0.0/tcp/4710"]'; words
    /// and paths need no quotes. None of them takes a secret: keys are files.
    Show(show::ShowArgs),
    /// Print the JSON Schema of a settings file, for editors and programs
    Schema {
        /// Which file
        #[arg(value_enum, default_value = "node")]
        file: SchemaFile,
    },
    /// Write the first node file of a member, and make its key and state folder
    ///
    /// Asks nothing and overwrites nothing. The file shows every key, with its default commented out.
    Init(init::InitArgs),
}

/// A settings file that has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaFile {
    /// The node file, consilium.toml
    Node,
    /// The roster, roster.toml
    Roster,
}

/// Where a node's settings stand.
#[derive(Clone, Debug, Args)]
struct FileArgs {
    /// The node file
    #[arg(default_value = super::NODE_FILE, value_name = "FILE")]
    file: PathBuf,
    /// Override one setting, such as `log.filter=debug`
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Check(args) => check::run(args),
        Action::Show(args) => show::run(args).map(|()| ExitCode::SUCCESS),
        Action::Schema { file } => schema(*file).map(|()| ExitCode::SUCCESS),
        Action::Init(args) => init::run(args).map(|()| ExitCode::SUCCESS),
    }
}

fn schema(file: SchemaFile) -> Result<()> {
    let schema = match file {
        SchemaFile::Node => consilium_config::schema::node(),
        SchemaFile::Roster => consilium_config::schema::roster(),
    };
    println!("{}", serde_json::to_string_pretty(&schema).into_diagnostic()?);
    Ok(())
}
