//! `consilium privacy verify`: checks what a compute party has signed, without any node.

use super::words::amount;
use crate::admin::{ADMIN_BYTES_MAX, SignedReport};
use crate::cli::output::{print_json, table};
use crate::ledger::{Audit, compare};
use crate::net::PeerId;
use crate::vault::{hex, read_bounded};
use clap::Args;
use consilium_config::Roster;
use consilium_protocol::privacy::Ratio;
use miette::{IntoDiagnostic, Result, miette};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// How a report in JSON begins.
const REPORT: &[u8] = b"{\"report\":";

/// Arguments of `consilium privacy verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A file of `consilium privacy report --export`, or of `report --json`
    file: PathBuf,
    /// The other compute party's export, to compare with
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// The roster, to see that those who signed are its members
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let roster = args.roster.as_deref().map(Roster::load).transpose()?;
    if is_report(&args.file)? {
        return report(args, roster.as_ref());
    }
    let one = audit(&args.file, roster.as_ref())?;
    let two = args.with.as_deref().map(|file| audit(file, roster.as_ref())).transpose()?;
    let told = |audit: &Audit| {
        let party = audit.header().party.clone();
        audit.problems().iter().map(|problem| format!("{party}: {problem}")).collect::<Vec<_>>()
    };
    let mut problems = told(&one);
    if let Some(two) = &two {
        problems.extend(told(two));
        problems.extend(compare(&one, two));
    }
    if let Some(roster) = &roster {
        for audit in [Some(&one), two.as_ref()].into_iter().flatten() {
            let header = audit.header();
            problems.extend(other_slices(audit.slices(), (&header.party, &header.pair), roster));
        }
    }
    if args.json {
        let audits: Vec<_> = [Some(&one), two.as_ref()].into_iter().flatten().map(object).collect();
        let sound = problems.is_empty();
        print_json(&json!({ "sound": sound, "problems": problems, "exports": audits }))?;
    } else {
        [Some(&one), two.as_ref()].into_iter().flatten().for_each(print);
        if problems.is_empty() && two.is_some() {
            println!("the two parties agree on every answered release and on each other's heads");
        }
        problems.iter().for_each(|problem| println!("DOES NOT HOLD: {problem}"));
    }
    verdict(problems.len())
}

fn verdict(problems: usize) -> Result<()> {
    match problems {
        0 => Ok(()),
        1 => Err(miette!("1 thing does not hold")),
        several => Err(miette!("{several} things do not hold")),
    }
}

fn open(file: &Path) -> Result<BufReader<File>> {
    let opened = File::open(file).map_err(|error| miette!("cannot open {}: {error}", file.display()));
    Ok(BufReader::new(opened?))
}

fn is_report(file: &Path) -> Result<bool> {
    Ok(open(file)?.fill_buf().into_diagnostic()?.starts_with(REPORT))
}

fn key_in(roster: &Roster, name: &str) -> Option<PeerId> {
    roster.member(name)?.peer.as_str().parse().ok()
}

fn audit(file: &Path, roster: Option<&Roster>) -> Result<Audit> {
    let audit = Audit::read(open(file)?);
    let mut audit = audit.map_err(|error| miette!("{}: {error}", file.display()))?;
    if let Some(roster) = roster {
        audit.check_keys(|name| key_in(roster, name));
    }
    Ok(audit)
}

/// Books that were opened with another slice of the budget than the roster gives their pair. Where each pair of a task
/// has the slice of the roster, all of them together cannot spend more than the budget.
fn other_slices<'a>(
    slices: impl Iterator<Item = (&'a str, Option<Ratio>)>,
    (party, pair): (&str, &str),
    roster: &Roster,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (task, kept) in slices {
        let Some(due) = roster.task(task) else { continue };
        let due =
            due.slice_of(pair).and_then(|slice| Ratio::new(slice.numerator(), slice.denominator()).ok());
        if kept != due {
            let words =
                |slice: Option<Ratio>| slice.map_or_else(|| "all".to_owned(), |slice| slice.to_string());
            problems.push(format!(
                "{party}: the book of task {task} has {} of the budgets, the roster gives pair {pair} {}",
                words(kept),
                words(due)
            ));
        }
    }
    problems
}

/// A report has no chain; its signature is all that can be checked.
fn report(args: &VerifyArgs, roster: Option<&Roster>) -> Result<()> {
    if args.with.is_some() {
        return Err(miette!("a report cannot be compared; give the two parties' exports"));
    }
    let bytes = read_bounded(&args.file, ADMIN_BYTES_MAX as u64).into_diagnostic()?;
    let signed: SignedReport = serde_json::from_slice(&bytes)
        .map_err(|error| miette!("{}: not a report of this program: {error}", args.file.display()))?;
    let (party, peer) = (&signed.report.party, signed.report.peer);
    let mut problems = Vec::new();
    if !signed.is_genuine() {
        problems.push(format!("the signature is not {party}'s ({peer}) over this report"));
    }
    if roster.is_some_and(|roster| key_in(roster, party) != Some(peer)) {
        problems.push(format!("{peer} signed in the name of {party}; the roster has another key"));
    }
    if args.json {
        print_json(&json!({ "sound": problems.is_empty(), "problems": problems, "report_of": party }))?;
    } else if problems.is_empty() {
        println!("{party} ({peer}) signed this report; its sums can only be checked in an export");
    } else {
        problems.iter().for_each(|problem| println!("DOES NOT HOLD: {problem}"));
    }
    verdict(problems.len())
}

fn object(audit: &Audit) -> serde_json::Value {
    let accounts = |task: &str, clients: bool| {
        let accounts = audit.accounts(task, clients).map(|(name, data_epoch, spent, limit)| {
            json!({ "name": name, "data_epoch": data_epoch, "spent": spent, "limit": limit })
        });
        accounts.collect::<Vec<_>>()
    };
    let tasks = audit.tasks().map(
        |task| json!({ "task": task, "owners": accounts(task, false), "clients": accounts(task, true) }),
    );
    json!({
        "header": audit.header(),
        "records": audit.records(),
        "head": audit.head(),
        "answered": audit.releases().values().filter(|release| release.answered).count(),
        "tasks": tasks.collect::<Vec<_>>(),
        "problems": audit.problems(),
    })
}

fn print(audit: &Audit) {
    let header = audit.header();
    println!("ledger of {} ({}), pair {} of {}", header.party, header.peer, header.pair, header.consortium);
    let answered = audit.releases().values().filter(|release| release.answered).count();
    println!("{} records, {} releases, {answered} of them answered", audit.records(), audit.releases().len());
    if let Some(head) = audit.head() {
        println!("chain: record {}, {}", head.sequence, hex::encode(&head.hash));
    }
    let mut rows = table(&["task", "account", "data epoch", "spent", "of"]);
    for task in audit.tasks() {
        for (clients, who) in [(false, "owner"), (true, "client")] {
            for (name, data_epoch, spent, limit) in audit.accounts(task, clients) {
                let limit = if limit == u64::MAX { "-".to_owned() } else { amount(limit) };
                let account = format!("{who} {name}");
                rows.add_row([task.to_owned(), account, data_epoch.to_string(), amount(spent), limit]);
            }
        }
    }
    println!("{rows}");
    if audit.problems().is_empty() {
        println!("signature, chain, prices and sums hold");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::EXAMPLE_ROSTER;

    #[test]
    fn a_book_with_another_slice_than_the_roster_is_found() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let task = "readmission-twice";
        let found = |pair: &str, slice: Option<&str>| {
            let books =
                [("readmission", None), ("unknown", None), (task, slice.map(|text| text.parse().unwrap()))];
            other_slices(books.into_iter(), ("north", pair), &roster)
        };
        assert_eq!(found("main", Some("7/10")), [""; 0]);
        assert_eq!(found("second", Some("3/10")), [""; 0]);
        for (pair, slice) in
            [("main", None), ("main", Some("3/10")), ("second", Some("7/10")), ("third", Some("3/10"))]
        {
            assert_eq!(found(pair, slice).len(), 1, "{pair} {slice:?}");
        }
        assert_eq!(
            found("main", None),
            [
                "north: the book of task readmission-twice has all of the budgets, the roster gives pair main 7/10"
            ]
        );
    }
}
