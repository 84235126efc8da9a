//! `consilium privacy report`: the ledger of a compute party, for people and machines.

use super::words::{amount, change, epsilon, moment, spent_of};
use crate::admin::{AdminReply, AdminRequest, LedgerReport, Loss, SignedReport, export};
use crate::cli::NodeArgs;
use crate::cli::output::{block_on, granted, node_file, print_json, request, table, unexpected};
use crate::ledger::Promise;
use crate::losses::Sums;
use crate::planning::{ANSWERS_WANTED, NoiseMaker, SHARE_USUAL, answers_within};
use crate::vault::hex;
use clap::Args;
use consilium_config::{NoiseRule, Unit as Covered};
use consilium_protocol::privacy::{Cost, Mechanism, Ratio};
use miette::{IntoDiagnostic, Result, miette};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Arguments of `consilium privacy report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The task
    task: String,
    /// List this many of the latest releases; the sums cover all
    #[arg(long, value_name = "N", default_value_t = 20)]
    latest: u32,
    /// Write the whole ledger, all tasks, as a signed file for `consilium privacy verify`
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let ask = AdminRequest::Ledger { task: args.task.clone(), latest: args.latest };
    let AdminReply::Ledger(signed) = request(&args.node, &ask)? else {
        return Err(unexpected());
    };
    if let Some(file) = &args.export {
        write_export(&args.node, file)?;
    }
    if args.node.json {
        return print_json(&signed);
    }
    print(&signed);
    if let Some(file) = &args.export {
        println!("the whole ledger is in {}", file.display());
    }
    Ok(())
}

/// The file appears only when it is complete.
fn write_export(args: &NodeArgs, file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let staged = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
    let staged = staged.map_err(|error| miette!("cannot write beside {}: {error}", file.display()))?;
    let socket = node_file(args)?.admin().socket.clone();
    let writer: BufWriter<&File> = BufWriter::new(staged.as_file());
    let reply = block_on(export(&socket, writer))?.into_diagnostic()?;
    let AdminReply::Exported { .. } = granted(args.json, reply)? else {
        return Err(unexpected());
    };
    staged.as_file().sync_all().into_diagnostic()?;
    let placed = staged.persist(file);
    placed.map_err(|error| miette!("cannot write {}: {}", file.display(), error.error))?;
    Ok(())
}

fn print(signed: &SignedReport) {
    let report = &signed.report;
    let LedgerReport { consortium, pair, party, opening, .. } = report;
    println!("privacy ledger of task {}, kept by {party} (pair {pair}) of {consortium}", opening.task);
    println!("written {} UTC by the clock of {party}", moment(report.at));
    promise(report);
    if let Some(text) = too_small(report) {
        println!("\n{text}\n");
    }
    losses("owner", report, &report.owners);
    losses("client", report, &report.clients);
    let LedgerReport { answered, in_progress, kept, refunded, dead, .. } = report;
    println!(
        "{answered} answered, {in_progress} in progress, {kept} given up and still charged, {dead} cut off by a \
         crash and still charged, {refunded} refunded since nothing was computed"
    );
    statements(report);
    releases(report);
    heads(report);
    println!("signed by {party}, key {}: {}", report.peer, hex::encode(&signed.signature));
    println!("the signature is over the report of --json; `consilium privacy verify` checks it");
}

fn promise(report: &LedgerReport) {
    println!("{} models may vote; {}{}", report.votes, report.mechanism, deviation(&report.mechanism));
    let Some(promise) = &report.opening.promise else {
        return println!("answers are exact: nothing is promised about anybody's data");
    };
    let delta = promise.delta.map_or_else(String::new, |delta| format!(", delta {delta}"));
    println!(
        "promised to each {}: epsilon {} unless signed otherwise{delta}; counted in {} by conversion {}",
        promise.covers, promise.epsilon, promise.unit, report.opening.conversion
    );
    if let Some(slice) = promise.slice {
        println!(
            "of which this pair may spend {slice}, in {}: other pairs have the rest, and what all spend adds up",
            promise.unit
        );
    }
    if let Some(alone) = epsilon(promise, report.price) {
        println!(
            "one answer costs every voting owner {} {}: epsilon {alone} if it were the only one",
            amount(report.price),
            promise.unit
        );
    }
    if let Some(text) = beyond_the_promise(promise, report) {
        println!("{text}");
    }
}

/// What a promise to owners means where one has several data epochs: records of theirs are in one, they in all.
fn beyond_the_promise(promise: &Promise, report: &LedgerReport) -> Option<String> {
    let accounts = report.owners.iter().map(|loss| &loss.account);
    let sums = Sums::of(accounts, |account| account.spent);
    if promise.covers != Covered::Owner.as_str() || sums.data_epochs < 2 {
        return None;
    }
    let whole = sums.owner.and_then(|spent| epsilon(promise, spent));
    Some(format!(
        "an owner has {} data epochs: the promise covers what an owner trained on in one of them, so each patient in \
         it, and not the owner as a whole, whose epochs add up: epsilon {} so far, for the owner with most",
        sums.data_epochs,
        whole.unwrap_or_else(|| "beyond counting".to_owned())
    ))
}

fn deviation(mechanism: &Mechanism) -> String {
    match sigma(mechanism) {
        Some(sigma) => format!(" (sigma {sigma:.3})"),
        None => String::new(),
    }
}

fn sigma(mechanism: &Mechanism) -> Option<f64> {
    if let Mechanism::Gaussian { sigma_squared } = mechanism {
        return Some(value(sigma_squared).sqrt());
    }
    None
}

fn value(ratio: &Ratio) -> f64 {
    ratio.numerator() as f64 / ratio.denominator() as f64
}

/// What an attempt costs, by the price of its label alone: more where a threshold is tested first.
fn price_of_attempt(mechanism: &Mechanism) -> f64 {
    match mechanism {
        Mechanism::ConfidentGaussian { sigma_squared, threshold_sigma_squared, .. } => {
            1.0 + value(sigma_squared) / (2.0 * value(threshold_sigma_squared))
        }
        _ => 1.0,
    }
}

/// Says plainly when the owners are too few for a private service; the plan has the figures in full.
fn too_small(report: &LedgerReport) -> Option<String> {
    let promise = report.opening.promise.as_ref()?;
    let least = report.owners.iter().map(|loss| loss.account.limit).min()?;
    let deviation = SHARE_USUAL * report.votes as f64;
    let (maker, whose) = match report.noise {
        Some(NoiseRule::Module) => (NoiseMaker::Enclave, "the module's draw"),
        // What can be counted on: software may have to step in at any time.
        _ => (NoiseMaker::Software, "both parties' draws together"),
    };
    let labels = answers_within(Cost::new(promise.unit, least), deviation, maker);
    let answers = labels / price_of_attempt(&report.mechanism);
    if answers >= ANSWERS_WANTED as f64 {
        return None;
    }
    let paid = least.checked_div(report.price).unwrap_or(0);
    Some(format!(
        "{} votes are too few for a useful private service: noise that leaves most labels right (deviation about \
         {deviation:.1} votes, {whose}) would let the smallest budget pay for {:.0} answers \
         in all, to all clients together; with the noise in force it pays for {paid}. `consilium privacy plan {}` \
         shows the figures and what to do instead.",
        report.votes,
        answers.floor(),
        report.opening.task
    ))
}

fn losses(who: &str, report: &LedgerReport, losses: &[Loss]) {
    let mut rows = table(&[who, "data epoch", "epsilon spent", "of", "amount spent", "answers left"]);
    for loss in losses {
        let account = &loss.account;
        let [spent, limit] = spent_of(loss);
        let left = account.limit.saturating_sub(account.spent).checked_div(report.price);
        let unlimited = account.limit == u64::MAX;
        rows.add_row([
            account.name.clone(),
            if who == "owner" { account.data_epoch.to_string() } else { "-".to_owned() },
            spent,
            limit,
            amount(account.spent),
            left.filter(|_| !unlimited).map_or_else(|| "-".to_owned(), |left| left.to_string()),
        ]);
    }
    if !losses.is_empty() {
        println!("{rows}");
    }
}

fn statements(report: &LedgerReport) {
    let mut rows = table(&["record", "signed at (UTC)", "owner", "number", "statement"]);
    for recorded in &report.statements {
        let statement = &recorded.signed.statement;
        rows.add_row([
            recorded.record.to_string(),
            moment(statement.at),
            statement.owner.clone(),
            statement.number.to_string(),
            change(&recorded.signed),
        ]);
    }
    if !report.statements.is_empty() {
        println!("signed by owners:\n{rows}");
    }
}

fn releases(report: &LedgerReport) {
    let mut rows = table(&["record", "at (UTC)", "client", "owners", "answers", "noise", "price", "outcome"]);
    for past in &report.releases {
        let named = |owner: &crate::ledger::Charged| match owner.data_epoch {
            0 => owner.name.clone(),
            data_epoch => format!("{} (data epoch {data_epoch})", owner.name),
        };
        rows.add_row([
            past.record.to_string(),
            moment(past.at),
            past.client.clone(),
            past.owners.iter().map(named).collect::<Vec<_>>().join(", "),
            past.answers.to_string(),
            format!("{}{}", past.mechanism, deviation(&past.mechanism)),
            amount(past.cost),
            past.outcome.clone(),
        ]);
    }
    if !report.releases.is_empty() {
        println!("latest releases:\n{rows}");
    }
}

fn heads(report: &LedgerReport) {
    println!("chain: record {}, {}", report.head.sequence, hex::encode(&report.head.hash));
    let other = &report.other;
    match (&other.fault, other.now) {
        (None, Some(now)) => println!(
            "{} agrees: either party's chain holds what it has shown to the other; its own is at record {}",
            other.party, now.sequence
        ),
        (fault, _) => {
            let fault = fault.as_deref().unwrap_or("no answer");
            println!("{} does not agree, or cannot be asked: {fault}", other.party);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::OtherView;
    use crate::ledger::{Account, Head, Opening};
    use crate::net::Identity;
    use consilium_protocol::privacy::{COST_ONE, Unit};

    /// A report of `votes` owners with a budget of `epsilon`.
    fn report(votes: u64, unit: Unit, epsilon: &str) -> LedgerReport {
        let delta = (unit == Unit::Zcdp).then(|| "1e-6".parse().unwrap());
        let promise = Promise::new("owner".into(), unit, epsilon.parse().unwrap(), delta).unwrap();
        let (name, limit) = ("north".to_owned(), promise.owner_limit);
        let account = Account { name, data_epoch: 0, spent: 0, limit };
        let head = Head { sequence: 1, hash: [1; 32] };
        LedgerReport {
            consortium: "hospitals".into(),
            pair: "main".into(),
            party: "zero".into(),
            peer: Identity::generate().peer_id(),
            at: 0,
            opening: Opening::new("heart".into(), Some(promise)),
            mechanism: Mechanism::Gaussian { sigma_squared: "1/4".parse().unwrap() },
            noise: Some(NoiseRule::Software),
            price: 4 * COST_ONE,
            votes,
            owners: vec![Loss { account, epsilon_spent: None, epsilon_limit: None }],
            clients: Vec::new(),
            answered: 0,
            in_progress: 0,
            kept: 0,
            refunded: 0,
            dead: 0,
            statements: Vec::new(),
            releases: Vec::new(),
            head,
            other: OtherView { party: "one".into(), shown: None, now: Some(head), agrees: true, fault: None },
        }
    }

    #[test]
    fn few_owners_are_told_plainly() {
        let four = too_small(&report(4, Unit::Zcdp, "8")).unwrap();
        assert!(four.contains("4 votes are too few") && four.contains("pay for 0 answers"), "{four}");
        assert!(four.contains("consilium privacy plan heart"), "{four}");
        let forty = too_small(&report(40, Unit::Zcdp, "8")).unwrap();
        assert!(forty.contains("pay for 33 answers"), "{forty}");
        assert_eq!(too_small(&report(50, Unit::Zcdp, "8")), None, "52 answers");
        assert!(too_small(&report(51, Unit::Pure, "8")).unwrap().contains("pay for 20 answers"));
        assert_eq!(too_small(&report(200, Unit::Pure, "8")), None);
        // A module's draw is one, and pays for twice as many; what may fall back to software is not counted on.
        let mut attested = report(40, Unit::Zcdp, "8");
        attested.noise = Some(NoiseRule::Module);
        assert_eq!(too_small(&attested), None, "67 answers");
        attested.noise = Some(NoiseRule::ModuleElseSoftware);
        assert!(too_small(&attested).unwrap().contains("pay for 33 answers"));
        // Testing a threshold under the same noise costs half of a label more.
        let mut confident = report(50, Unit::Zcdp, "8");
        let [sigma_squared, threshold_sigma_squared] = ["1/4"; 2].map(|text| text.parse().unwrap());
        confident.mechanism =
            Mechanism::ConfidentGaussian { sigma_squared, threshold: 30, threshold_sigma_squared };
        assert!(too_small(&confident).unwrap().contains("pay for 35 answers"));
        let mut exact = report(4, Unit::Zcdp, "8");
        exact.opening.promise = None;
        assert_eq!(too_small(&exact), None);
    }

    #[test]
    fn data_epochs_add_up_for_the_owner_itself() {
        let mut report = report(4, Unit::Zcdp, "8");
        let promise = report.opening.promise.clone().unwrap();
        report.owners[0].account.spent = COST_ONE / 4;
        assert_eq!(beyond_the_promise(&promise, &report), None);
        let mut next = report.owners[0].clone();
        next.account.data_epoch = 1;
        report.owners.push(next);
        let text = beyond_the_promise(&promise, &report).unwrap();
        let whole = epsilon(&promise, COST_ONE / 2).unwrap();
        assert!(
            text.contains("2 data epochs") && text.contains(&format!("epsilon {whole} so far")),
            "{text}"
        );
        let patient = Promise { covers: "patient (3 models of each owner)".to_owned(), ..promise };
        assert_eq!(beyond_the_promise(&patient, &report), None, "a patient is in one of them");
    }
}
