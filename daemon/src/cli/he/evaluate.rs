//! `consilium he evaluate`: the owner answers a query.

use super::super::output::print_json;
use super::{WorkArgs, model, size, written};
use crate::homomorphic::{evaluate, prepare, read_keys, read_plan};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// Your model, the ONNX file that the plan was made of
    model: PathBuf,
    /// The plan
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The client's evaluation keys
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The client's query
    #[arg(long, value_name = "FILE")]
    query: PathBuf,
    /// Where the answer goes; an older one there is replaced, and nothing else
    #[arg(long, value_name = "ANSWER")]
    out: PathBuf,
    #[command(flatten)]
    work: WorkArgs,
}

pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    let plan = read_plan(&args.plan).into_diagnostic()?;
    let (model, _) = model(&args.model)?;
    let evaluator = prepare(&model, &plan).into_diagnostic();
    let evaluator = evaluator.wrap_err_with(|| format!("{} is refused", args.model.display()))?;
    let keys = read_keys(&args.keys, &plan).into_diagnostic()?;
    let (result, seconds) = args.work.watched("evaluating", |heard| {
        evaluate(&evaluator, &keys, &args.query, &args.out, args.work.threads(), heard)
    });
    let (ticket, bytes) = result.into_diagnostic()?;
    let query = std::fs::metadata(&args.query).map_or(0, |metadata| metadata.len());
    let rate = f64::from(ticket.used) / seconds.max(1e-9);
    if args.work.json {
        return print_json(&serde_json::json!({
            "query": ticket.query,
            "file": args.out,
            "inputs": ticket.used,
            "query_bytes": query,
            "bytes": bytes,
            "seconds": seconds,
            "inputs_per_second": rate,
        }));
    }
    println!("{}", written(&args.out, bytes, seconds));
    println!(
        "query {}: {} inputs, {rate:.1} a second; {}/s of the query; the client gets {} exact logits",
        ticket.query,
        ticket.used,
        size(query as f64 / seconds.max(1e-9)),
        u64::from(ticket.used) * plan.outputs() as u64
    );
    Ok(())
}
