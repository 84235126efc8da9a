//! `consilium lab send`: a file of encodings to another hospital, where the roster calls it an experiment.

use super::super::NodeArgs;
use super::super::output::{block_on, granted_with, node_file, print_json, unexpected};
use super::warn;
use crate::admin::{AdminReply, send_encodings};
use crate::lab::{Figure, NOT_CONFIDENTIAL, check_encodings};
use crate::message::Refusal;
use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The encodings, from `consilium lab encode`
    file: PathBuf,
    /// A task of kind "encodings" in the roster
    #[arg(long, short)]
    task: String,
    /// The member that is to have them
    #[arg(long, value_name = "MEMBER")]
    to: String,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &SendArgs) -> Result<()> {
    let (_, figure) = check_encodings(&args.file).into_diagnostic()?;
    if !args.node.json {
        warn(Some(&figure));
    }
    let socket = node_file(&args.node)?.admin().socket.clone();
    let sending = send_encodings(&socket, (&args.task, &args.to), &args.file, figure.clone());
    let reply = block_on(sending)?.into_diagnostic()?;
    let reply = granted_with(args.node.json, reply, |refusal| told_of(refusal, &figure))?;
    let AdminReply::EncodingsSent(sent) = reply else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&serde_json::json!({ "sent": sent, "warning": NOT_CONFIDENTIAL }));
    }
    println!("{} has the {} encodings of task {} as {}", sent.to, sent.images, sent.task, sent.name);
    Ok(())
}

/// What machines are told of a refusal: the figure and the warning with it, as always.
fn told_of(refusal: &Refusal, figure: &Figure) -> serde_json::Value {
    serde_json::json!({ "refused": refusal, "attack": figure, "warning": NOT_CONFIDENTIAL })
}
