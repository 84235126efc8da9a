//! Tables for people, one JSON object for machines.

use crate::admin::{AdminReply, AdminRequest, call};
use crate::message::Refusal;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use consilium_config::{Node, Settings};
use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use std::future::Future;

/// An empty table with these columns.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().copied());
    table
}

/// Prints one JSON object on one line.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value).into_diagnostic()?);
    Ok(())
}

/// The settings of the node that a command talks to, with errors shown at the line at fault.
pub(crate) fn node_file(args: &super::NodeArgs) -> Result<Node> {
    Ok(Settings::in_force(&args.config, &args.set)?.node)
}

/// Runs a short exchange with the node.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    Ok(runtime.block_on(future))
}

/// One request to the node; a refusal becomes an error.
pub(crate) fn request(args: &super::NodeArgs, request: &AdminRequest) -> Result<AdminReply> {
    let node = node_file(args)?;
    let reply = block_on(call(&node.admin().socket, request))?.into_diagnostic()?;
    granted(args.json, reply)
}

/// The reply unless it is a refusal.
pub(crate) fn granted(json: bool, reply: AdminReply) -> Result<AdminReply> {
    granted_with(json, reply, |refusal| serde_json::json!({ "refused": refusal }))
}

/// As [`granted`], with what machines are told of a refusal.
pub(crate) fn granted_with(
    json: bool,
    reply: AdminReply,
    told: impl FnOnce(&Refusal) -> serde_json::Value,
) -> Result<AdminReply> {
    match reply {
        AdminReply::Refused(refusal) => {
            if json {
                print_json(&told(&refusal))?;
            }
            Err(refused(&refusal))
        }
        reply => Ok(reply),
    }
}

fn refused(refusal: &Refusal) -> miette::Report {
    miette!("refused ({:?}): {}", refusal.obstacle, refusal.explanation)
}

/// What the node must not answer.
pub(crate) fn unexpected() -> miette::Report {
    miette!("the node answered something else than was asked; is it of the same version?")
}
