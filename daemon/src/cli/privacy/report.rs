//! `consilium privacy report`: the ledger of a compute party, for people and machines.

use crate::admin::{AdminReply, AdminRequest};
use crate::cli::NodeArgs;
use crate::cli::output::{print_json, request, unexpected};
use clap::Args;
use miette::{Result, miette};

/// Arguments of `consilium privacy report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The task
    task: String,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let AdminReply::Status(report) = request(&args.node, &AdminRequest::Status)? else {
        return Err(unexpected());
    };
    let found = report.seats.iter().flat_map(|seat| &seat.tasks).find(|status| status.task == args.task);
    let status = found.ok_or_else(|| miette!("this node computes no task {:?}", args.task))?;
    if args.node.json {
        return print_json(&status);
    }
    println!("task {}: {}, {} answers", status.task, status.mechanism, status.answered);
    if let (Some(spent), Some(budget)) = (status.epsilon_spent, status.epsilon_budget) {
        println!("epsilon {spent:.3} of {budget:.3} spent by the owner with the largest loss");
    }
    Ok(())
}
