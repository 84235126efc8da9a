//! `consilium identity`: the peer id that goes into the roster.

use super::NodeArgs;
use super::output::{node_file, print_json};
use crate::net::Identity;
use crate::vault::private_directory;
use clap::Args;
use miette::{IntoDiagnostic, Result};

/// Arguments of `consilium identity`.
#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &IdentityArgs) -> Result<()> {
    let node = node_file(&args.node)?;
    private_directory(&node.place().state).into_diagnostic()?;
    let identity = Identity::load_or_create(&node.place().identity).into_diagnostic()?;
    if args.node.json {
        return print_json(
            &serde_json::json!({ "name": node.name().to_string(), "peer": identity.peer_id().to_string() }),
        );
    }
    println!("{}", identity.peer_id());
    Ok(())
}
