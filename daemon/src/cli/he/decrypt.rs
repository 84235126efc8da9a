//! `consilium he decrypt`: the client opens an answer.

use super::super::output::{print_json, table};
use super::WorkArgs;
use crate::homomorphic::{QueryId, class, decrypt, read_plan, read_secret, read_ticket};
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct DecryptArgs {
    /// The owner's plan
    plan: PathBuf,
    /// Your secret, from `consilium he keygen`
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// The ticket of your query, or the query itself
    #[arg(long, value_name = "FILE")]
    query: PathBuf,
    /// The owner's answer
    #[arg(long, value_name = "FILE")]
    answer: PathBuf,
    /// Names of the classes in the order of the model's outputs, separated by commas
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    classes: Vec<String>,
    /// Print the logits too: the integers, and what they mean
    #[arg(long)]
    logits: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// An opened answer.
#[derive(Debug, Serialize)]
struct Opened {
    query: QueryId,
    /// Places of the largest logits.
    labels: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    /// Integers, exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<Vec<i128>>>,
    /// By which a logit of the model was multiplied.
    output_scale: f64,
    margin_bits: f64,
    seconds: f64,
}

pub(super) fn run(args: &DecryptArgs) -> Result<()> {
    let plan = read_plan(&args.plan).into_diagnostic()?;
    let classes = plan.outputs().max(2);
    if !args.classes.is_empty() && args.classes.len() != classes {
        return Err(miette!("--classes names {}, and the model has {classes}", args.classes.len()));
    }
    let secret = read_secret(&args.secret, &plan).into_diagnostic()?;
    let ticket = read_ticket(&args.query, &plan, &secret).into_diagnostic()?;
    let (result, seconds) = args.work.watched("opening", |heard| {
        decrypt(&plan, &secret, &ticket, &args.answer, args.work.threads(), heard)
    });
    let decrypted = result.into_diagnostic()?;
    let labels: Vec<usize> = decrypted.logits.iter().map(|logits| class(logits)).collect();
    let opened = Opened {
        query: ticket.query,
        classes: labels.iter().filter_map(|label| args.classes.get(*label).cloned()).collect(),
        labels,
        logits: args.logits.then_some(decrypted.logits),
        output_scale: plan.scales.output(),
        margin_bits: decrypted.margin,
        seconds,
    };
    if args.work.json {
        return print_json(&opened);
    }
    show(&opened);
    Ok(())
}

fn show(opened: &Opened) {
    let columns: &[&str] =
        if opened.logits.is_some() { &["row", "class", "logits"] } else { &["row", "class"] };
    let mut rows = table(columns);
    for (row, label) in opened.labels.iter().enumerate() {
        let name = opened.classes.get(row).cloned().unwrap_or_else(|| label.to_string());
        let mut cells = vec![(row + 1).to_string(), name];
        if let Some(logits) = &opened.logits {
            let meant = |logit: &i128| format!("{logit} ({:.4})", *logit as f64 / opened.output_scale);
            cells.push(logits[row].iter().map(meant).collect::<Vec<_>>().join(", "));
        }
        rows.add_row(cells);
    }
    println!("{rows}");
    println!(
        "query {}: {} rows opened in {:.2} s, {:.1} bits left between noise and modulus",
        opened.query,
        opened.labels.len(),
        opened.seconds,
        opened.margin_bits
    );
}
