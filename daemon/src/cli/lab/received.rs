//! `consilium lab received`: which encodings came.

use super::super::NodeArgs;
use super::super::output::{print_json, request, table, unexpected};
use super::warn;
use crate::admin::{AdminReply, AdminRequest};
use crate::lab::NOT_CONFIDENTIAL;
use clap::Args;
use miette::Result;

#[derive(Debug, Args)]
pub(super) struct ReceivedArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ReceivedArgs) -> Result<()> {
    let AdminReply::Received(held) = request(&args.node, &AdminRequest::Received)? else {
        return Err(unexpected());
    };
    if args.node.json {
        return print_json(&serde_json::json!({ "received": held, "warning": NOT_CONFIDENTIAL }));
    }
    let mut rows = table(&["task", "sender", "images", "attack", "file"]);
    for file in held {
        let changed = || "changed since it came".to_owned();
        // Who attacks it anew knows; this is what somebody else wrote.
        let said = file.attack.map(|figure| format!("{figure}, as {} says", file.sender));
        rows.add_row([
            file.task,
            file.sender,
            file.images.map_or_else(changed, |images| images.to_string()),
            said.unwrap_or_else(changed),
            file.path.display().to_string(),
        ]);
    }
    println!("{rows}");
    warn(None);
    Ok(())
}
