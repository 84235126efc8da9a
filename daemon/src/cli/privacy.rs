//! `consilium privacy`: what answers cost, who paid, and what a budget buys.

mod plan;

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
    /// Work out how many answers a budget buys, and how good they are, before anything is spent
    Plan(plan::PlanArgs),
}

pub(super) fn run(args: &PrivacyArgs) -> Result<()> {
    match &args.action {
        Action::Plan(args) => plan::run(args),
    }
}
