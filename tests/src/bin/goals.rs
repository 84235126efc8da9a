//! `goals`: the goals of the online phase, measured on real processes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use clap::{Parser, ValueEnum};
use consilium::bench::{NETS, Net};
use consilium::demo::Preprocessing;
use consilium_protocol::stock::Gadget;
use consilium_tests::goals::{Case, LinkKind, Row, pin_by_name};
use consilium_tests::program::ended;
use std::process::ExitCode;

const HEADER: &str = "\
One model of random weights, exact release, two compute daemons with a core each, `consilium bench online` at the
client. Medians, in ms.
  query    whole way of a question at the client: its upload, reservation and commit in both ledgers (fsync), answer
  online   the rounds between the parties with their computing, vote and release included
  network  the same without a bare exchange of the frames of vote and release, which is less than these take
  ping     bare TCP exchange of all frames over the same link: the floor of `online`, which over a delay may be one
           round less, since party One's first frame comes with its consent
  rounds, kB (both directions): of the network alone / with vote and release;  cpu: a party's thread for the rounds
Goals are for the network alone: `network` holds the definition to the letter, `online` and `query` are what the
product takes. Beside a goal stands the strictest of the three that meets it, or MISSED.";
const BATCHES: [u32; 2] = [1, 32];

/// Measures the goals of the online phase, network by network, on real processes of this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this network
    #[arg(long, value_enum)]
    net: Option<Net>,
    /// Only this many rows in a question
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Option<u32>,
    /// Only this link
    #[arg(long, value_enum)]
    link: Option<LinkKind>,
    /// Only this way to compare
    #[arg(long, value_enum)]
    gadget: Option<Comparing>,
    /// Who makes the material of digits; keys always come from a dealer. The rounds are the same
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Questions measured in each row; by the size of the network if absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    queries: Option<u32>,
    /// Print one JSON object a row
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Comparing {
    /// By digits
    Digits,
    /// By small digits
    Nibbles,
    /// By comparison keys
    Keys,
}

fn main() -> ExitCode {
    // The processes of the run are this very program.
    if std::env::args().nth(1).is_some_and(|first| ["daemon", "bench"].contains(&first.as_str())) {
        pin_by_name(std::env::args());
        return consilium::cli::run();
    }
    ended(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if !arguments.json {
        println!("{HEADER}\n");
        print_cells(&Row::COLUMNS.map(str::to_owned));
    }
    for case in cases(arguments) {
        let row = runtime.block_on(case.measure())?;
        if arguments.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            print_cells(&row.cells());
        }
    }
    Ok(())
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for net in NETS.into_iter().filter(|net| arguments.net.is_none_or(|only| only == *net)) {
        for batch in arguments.batch.map_or(BATCHES.to_vec(), |only| vec![only]) {
            for link in [LinkKind::Loopback, LinkKind::Wide] {
                for comparing in [Comparing::Digits, Comparing::Nibbles, Comparing::Keys] {
                    if arguments.link.is_some_and(|only| only != link)
                        || arguments.gadget.is_some_and(|only| only != comparing)
                    {
                        continue;
                    }
                    cases.push(case(arguments, net, batch, link, comparing));
                }
            }
        }
    }
    cases
}

fn case(arguments: &Arguments, net: Net, batch: u32, link: LinkKind, comparing: Comparing) -> Case {
    let usual = match (net, batch) {
        (Net::Cnn, 1) => 15,
        (Net::Cnn, _) => 5,
        (_, 1) => 100,
        _ => 30,
    };
    let (gadget, source) = match comparing {
        Comparing::Digits => (Gadget::Digits, arguments.source),
        Comparing::Nibbles => (Gadget::Nibbles, arguments.source),
        Comparing::Keys => (Gadget::Keys, Preprocessing::Dealer),
    };
    Case { net, batch, link, gadget, source, queries: arguments.queries.unwrap_or(usual) }
}

/// Columns that line up as rows come one by one.
fn print_cells(cells: &[String]) {
    const WIDTHS: [usize; 15] = [15, 5, 8, 6, 8, 8, 8, 8, 8, 8, 8, 7, 17, 8, 0];
    let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}"));
    println!("{}", padded.collect::<Vec<_>>().join(" ").trim_end());
}
