//! `consilium privacy`: what answers cost, who paid, and what a budget buys.

mod account;
mod plan;
mod report;
mod verify;
mod words;

pub(super) use words::moment;

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
    /// Show the signed ledger of a task: who asked, who paid, what is left
    ///
    /// Run it on a compute party, which keeps the ledger; both parties keep one, and the report says whether
    /// they agree. With --json the report and this party's signature over it; with --export the whole chain of
    /// records in a signed file, which `consilium privacy verify` checks anywhere.
    Report(report::ReportArgs),
    /// Check an export: signature, chain of hashes, prices and sums, without any node
    ///
    /// Says by name what does not hold, and fails then. With --with the other party's export, also whether the
    /// two charged the same releases and hold what each has shown to the other; with --roster, whether those
    /// who signed have the keys of the roster. A report of `report --json` holds no chain: only its signature
    /// is checked.
    Verify(verify::VerifyArgs),
    /// Show this owner's own account in a task, or sign another budget for it
    ///
    /// Run it on an owner's node. A budget is what the owner accepts to lose in all, counted apart for each of
    /// its data epochs; it may rise or fall, below what is spent as well, which ends all answers with its
    /// model. Both compute parties record the signed statement in their ledgers; the lower of the two budgets
    /// counts until both have it. Running the same command again is safe and delivers what is missing.
    Budget(account::BudgetArgs),
    /// Sign that the next models are trained on other records, and begin an account of their own
    ///
    /// Run it on an owner's node, before the first model of the new records is published. A retrained model
    /// continues the account of its data; only this statement begins another one. It is a promise to your
    /// patients: a record that an earlier model of this task has used must not be used again, else more is
    /// lost about it than any account shows. Earlier models stay on their own account until they are replaced.
    ///
    /// Where the roster's unit is `owner`, the promise then covers the data of one epoch, so each patient in it,
    /// and no longer the owner as a whole: what all of its epochs spent adds up about the owner itself. The report
    /// and `consilium status` show that sum.
    Epoch(account::EpochArgs),
    /// Work out how many answers a budget buys, and how good they are, before anything is spent
    Plan(Box<plan::PlanArgs>),
}

pub(super) fn run(args: &PrivacyArgs) -> Result<()> {
    match &args.action {
        Action::Report(args) => report::run(args),
        Action::Verify(args) => verify::run(args),
        Action::Budget(args) => account::budget(args),
        Action::Epoch(args) => account::epoch(args),
        Action::Plan(args) => plan::run(args),
    }
}
