//! `consilium he keygen`: a client's secret and what its owner needs.

use super::super::output::print_json;
use super::size;
use crate::homomorphic::{make_keys, read_plan};
use clap::Args;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// The owner's plan
    plan: PathBuf,
    /// Where the secret goes, readable by you alone; it must not exist
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// Where the evaluation keys for the owner go; older ones there are replaced, and nothing else
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeygenArgs) -> Result<()> {
    let plan = read_plan(&args.plan).into_diagnostic()?;
    let (key, bytes) = make_keys(&plan, &args.secret, &args.keys).into_diagnostic()?;
    if args.json {
        return print_json(&serde_json::json!({
            "secret": args.secret,
            "keys": args.keys,
            "key": key,
            "keys_bytes": bytes,
        }));
    }
    println!("{}: your secret, key {key}; keep it, and show it to nobody", args.secret.display());
    println!("{}: {}, public: send it to the owner once", args.keys.display(), size(bytes as f64));
    Ok(())
}
