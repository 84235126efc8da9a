//! `consilium model`: publish, list, withdraw.

use super::NodeArgs;
use super::output::{block_on, granted, node_file, print_json, request, table, unexpected};
use crate::admin::{AdminReply, AdminRequest, publish};
use crate::registry::ModelId;
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, Result, miette};
use std::path::PathBuf;

/// Arguments of `consilium model`.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Share an ONNX model between the compute parties of a task
    Publish {
        /// The ONNX file
        file: PathBuf,
        /// The task to vote in
        #[arg(long, short)]
        task: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the models that this node has published
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Have both compute parties delete a model
    Withdraw {
        /// Its name, from `consilium model list`
        model: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

pub(crate) fn run(args: &ModelArgs) -> Result<()> {
    match &args.action {
        Action::Publish { file, task, node } => {
            let bytes =
                std::fs::read(file).map_err(|error| miette!("cannot read {}: {error}", file.display()))?;
            let socket = node_file(node)?.admin().socket.clone();
            let reply = block_on(publish(&socket, task.clone(), &bytes))?.into_diagnostic()?;
            let AdminReply::Published { entry, warnings } = granted(node.json, reply)? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&serde_json::json!({ "published": entry, "warnings": warnings }));
            }
            for warning in warnings {
                eprintln!("note: {warning}");
            }
            println!(
                "model {} (version {}) of task {} is ready to vote",
                entry.model, entry.version, entry.task
            );
            println!("{} with {} parameters", entry.summary, entry.parameters);
        }
        Action::List { node } => {
            let AdminReply::Models(models) = request(node, &AdminRequest::Models)? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&models);
            }
            let mut rows = table(&["model", "task", "version", "architecture", "parameters"]);
            for entry in models {
                rows.add_row([
                    entry.model.to_string(),
                    entry.task,
                    entry.version.to_string(),
                    entry.summary,
                    entry.parameters.to_string(),
                ]);
            }
            println!("{rows}");
        }
        Action::Withdraw { model, node } => {
            let model = ModelId(parse_id(model)?);
            let AdminReply::Withdrawn = request(node, &AdminRequest::Withdraw { model })? else {
                return Err(unexpected());
            };
            if node.json {
                return print_json(&serde_json::json!({ "withdrawn": model }));
            }
            println!("model {model} is gone from both compute parties");
        }
    }
    Ok(())
}

/// Sixteen bytes in hexadecimal digits.
pub(crate) fn parse_id(text: &str) -> Result<[u8; 16]> {
    let value = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    let value = value.ok_or_else(|| miette!("{text:?} is not a name: it has 32 hexadecimal digits"))?;
    Ok(value.to_be_bytes())
}
