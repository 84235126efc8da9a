//! `consilium privacy`: what answers cost, who paid, and what a budget buys.

mod report;

use clap::{Args, Subcommand};
use miette::Result;

/// Arguments of `consilium privacy`.
#[derive(Debug, Args)]
pub(super) struct PrivacyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what a task's answers have cost every owner and client
    ///
    /// Run it on a compute party: it keeps the ledger.
    Report(report::ReportArgs),
}

pub(super) fn run(args: &PrivacyArgs) -> Result<()> {
    match &args.action {
        Action::Report(args) => report::run(args),
    }
}
