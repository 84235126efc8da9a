//! `consilium he encrypt`: rows become a query.

use super::super::output::print_json;
use super::{RowsArgs, WorkArgs, written};
use crate::homomorphic::{encode, encrypt, read_plan, read_secret};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct EncryptArgs {
    /// The owner's plan
    plan: PathBuf,
    /// Your secret, from `consilium he keygen`
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    #[command(flatten)]
    rows: RowsArgs,
    /// Where the query goes; an older one there is replaced, and nothing else
    #[arg(long, value_name = "QUERY")]
    out: PathBuf,
    /// Where its ticket goes, which you keep [default: QUERY with .ticket added]
    #[arg(long, value_name = "FILE")]
    ticket: Option<PathBuf>,
    #[command(flatten)]
    work: WorkArgs,
}

/// Beside the query.
fn beside(query: &Path) -> PathBuf {
    let mut name = query.as_os_str().to_owned();
    name.push(".ticket");
    name.into()
}

pub(super) fn run(args: &EncryptArgs) -> Result<()> {
    let plan = read_plan(&args.plan).into_diagnostic()?;
    let secret = read_secret(&args.secret, &plan).into_diagnostic()?;
    let range = plan.input_range.map(|end| end as f64 / f64::from(plan.scales.input));
    let (rows, places) = args.rows.read(plan.network.input(), range)?;
    let skip = places.start;
    let inputs = encode(&plan, places.map(|place| rows.examples().row(place))).into_diagnostic();
    let inputs = inputs.wrap_err_with(|| match skip {
        0 => format!("{} is not encrypted", args.rows.rows.display()),
        _ => format!(
            "{} is not encrypted; rows count from behind the {skip} left out",
            args.rows.rows.display()
        ),
    })?;
    drop(rows);
    let ticket = args.ticket.clone().unwrap_or_else(|| beside(&args.out));
    let (result, seconds) = args.work.watched("encrypting", |heard| {
        encrypt(&plan, &secret, &inputs, (&args.out, &ticket), args.work.threads(), heard)
    });
    let (made, bytes) = result.into_diagnostic()?;
    if args.work.json {
        return print_json(&serde_json::json!({
            "query": made.query,
            "file": args.out,
            "ticket": ticket,
            "inputs": made.used,
            "bytes": bytes,
            "seconds": seconds,
        }));
    }
    println!("{}", written(&args.out, bytes, seconds));
    println!("query {} of {} rows: send it to the owner", made.query, made.used);
    println!("{}: keep it to open the answer", ticket.display());
    Ok(())
}
