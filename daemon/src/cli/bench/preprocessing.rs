//! `consilium bench preprocessing`: what the pools cost.

use crate::bench::{NETS, Net, Source, measure};
use crate::cli::output::{print_json, table};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use miette::Result;

#[derive(Debug, Args)]
pub(super) struct PreprocessingArgs {
    /// Networks to prepare queries for (all if none is named)
    #[arg(long, value_enum)]
    net: Vec<Net>,
    /// Sources of correlated randomness (all if none is named)
    #[arg(long, value_enum)]
    source: Vec<Source>,
    /// Queries prepared at once
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &PreprocessingArgs) -> Result<()> {
    let nets = if args.net.is_empty() { NETS.to_vec() } else { args.net.clone() };
    let sources = if args.source.is_empty() {
        vec![Source::Dealer, Source::PairwiseIknp, Source::PairwiseSilent]
    } else {
        args.source.clone()
    };
    let bar = ProgressBar::new((nets.len() * sources.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos} of {len} {msg}") {
        bar.set_style(style);
    }
    let columns = ["net", "source", "kind", "CPU ms a query", "kB a query", "items a second", "rounds"];
    let mut rows = table(&columns);
    for net in nets {
        for source in &sources {
            bar.set_message(format!("{} {source:?}", net.name()));
            for line in measure(net, *source, usize::from(args.batch))? {
                if args.json {
                    bar.suspend(|| print_json(&line))?;
                }
                rows.add_row([
                    line.net.to_owned(),
                    format!("{:?}", line.source),
                    format!("{:?}", line.kind),
                    format!("{:.3}", line.cpu_ms_per_query),
                    format!("{:.1}", line.bytes_per_query / 1e3),
                    format!("{:.3e}", line.items_per_second),
                    line.rounds.to_string(),
                ]);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if !args.json {
        println!("{rows}");
        println!("batches of {} queries; CPU time and bytes of one party, bytes sent", args.batch);
    }
    Ok(())
}
