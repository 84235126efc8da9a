//! Checks exports without a node: signature, chain, prices and sums of one, and whether two parties agree.
//!
//! The reader trusts nothing in the file. It replays the records by the rules of a ledger and says by name
//! what does not hold; what follows a broken record is not judged any more.

use super::books::{CLIENT, OWNER, Phase};
use super::export::{DOMAIN, Ends, ExportHeader, FORMAT, Summary, SummaryAccount};
use super::record::BEFORE_FIRST;
use super::recover::Replay;
use super::{Correlations, Entry, Head, Record, ReleaseId, Reserve, SignedStatement};
use crate::net::PeerId;
use crate::vault::hex;
use consilium_protocol::privacy::Ratio;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

/// Longest line that is read.
pub const AUDIT_LINE_BYTES_MAX: usize = 4 << 20;
/// Problems that are told; a file with more of them is no better.
const PROBLEMS_MAX: usize = 64;

/// Why a file cannot be audited at all.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read.
    #[error("cannot read the export: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("this is no ledger export: it does not begin with an `export` line")]
    NotAnExport,
    /// An export of another release of this program.
    #[error("this export has format {found}, this program knows {FORMAT}")]
    Format {
        /// Format found.
        found: u64,
    },
    /// A line that no ledger writes.
    #[error("line {line} is longer than {AUDIT_LINE_BYTES_MAX} bytes")]
    LongLine {
        /// Its number, from 1.
        line: u64,
    },
}

/// A release as an export tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The reservation.
    pub request: Reserve,
    /// Whether it was answered.
    pub answered: bool,
    /// Whether its price was given back.
    pub refunded: bool,
}

/// An export that was read to its end.
pub struct Audit {
    header: ExportHeader,
    replay: Replay,
    hashes: Vec<[u8; 32]>,
    releases: BTreeMap<ReleaseId, Audited>,
    statements: Vec<SignedStatement>,
    other_head: Option<Head>,
    problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(with = "hex")]
    previous: [u8; 32],
    #[serde(with = "hex")]
    hash: [u8; 32],
    record: Record,
}

/// The lines of a file with their numbers, and the hash of those that were read.
struct Lines<R> {
    reader: R,
    number: u64,
    hash: Context,
}

impl<R: BufRead> Lines<R> {
    fn read_next(&mut self) -> Result<Option<Vec<u8>>, AuditError> {
        let mut line = Vec::new();
        let limit = AUDIT_LINE_BYTES_MAX as u64 + 1;
        self.number += 1;
        self.reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.len() > AUDIT_LINE_BYTES_MAX {
            return Err(AuditError::LongLine { line: self.number });
        }
        Ok((!line.is_empty()).then_some(line))
    }

    /// Hash of the lines so far; a line counts once it is taken in.
    fn digest(&self) -> ring::digest::Digest {
        self.hash.clone().finish()
    }
}

impl Audit {
    /// Reads an export and checks all that it says about itself.
    ///
    /// # Errors
    /// [`AuditError`] where there is nothing to judge; what does not hold stands in [`Audit::problems`].
    pub fn read(reader: impl BufRead) -> Result<Self, AuditError> {
        let mut lines = Lines { reader, number: 0, hash: Context::new(&SHA256) };
        let first = lines.read_next()?.ok_or(AuditError::NotAnExport)?;
        let Ok(Ends::Export(header)) = serde_json::from_slice(&first) else {
            return Err(AuditError::NotAnExport);
        };
        if header.format != FORMAT {
            return Err(AuditError::Format { found: header.format });
        }
        lines.hash.update(&first);
        let mut audit = Self {
            header,
            replay: Replay::default(),
            hashes: Vec::new(),
            releases: BTreeMap::new(),
            statements: Vec::new(),
            other_head: None,
            problems: Vec::new(),
        };
        audit.read_on(&mut lines)?;
        Ok(audit)
    }

    fn read_on(&mut self, lines: &mut Lines<impl BufRead>) -> Result<(), AuditError> {
        let (mut sound, mut summary, mut signed) = (true, None, false);
        while let Some(bytes) = lines.read_next()? {
            if signed {
                self.problem(format!("line {} stands behind the signature", lines.number));
                break;
            }
            match serde_json::from_slice::<Ends>(&bytes) {
                Ok(Ends::Signature(signature)) => {
                    signed = true;
                    if !self.header.peer.verify(DOMAIN, lines.digest().as_ref(), &signature) {
                        let (party, peer) = (&self.header.party, self.header.peer);
                        self.problem(format!("the signature is not {party}'s ({peer}) over these lines"));
                    }
                }
                Ok(Ends::Summary(found)) if summary.is_none() => summary = Some(found),
                Ok(_) => self.problem(format!("line {} stands there twice", lines.number)),
                Err(_) if summary.is_some() => {
                    self.problem(format!("line {} is a record behind the summary", lines.number));
                }
                Err(_) if sound => {
                    if let Err(problem) = self.add(&bytes) {
                        self.problem(format!("line {}: {problem}", lines.number));
                        sound = false;
                    }
                }
                Err(_) => {}
            }
            lines.hash.update(&bytes);
        }
        match summary {
            Some(summary) if sound => self.compare_summary(summary),
            Some(_) => {}
            None => self.problem("the summary is missing: the file was cut".to_owned()),
        }
        if !signed {
            self.problem("the signature is missing: the file was cut".to_owned());
        }
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// The next record.
    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(bytes).map_err(|error| format!("no record: {error}"))?;
        let (record, hash) = (line.record, line.hash);
        let number = record.sequence;
        let before = self.hashes.last().copied().unwrap_or(BEFORE_FIRST);
        if line.previous != before {
            return Err(format!("record {number} does not name the hash of the record before it"));
        }
        let canonical = record.encode();
        let decoded = Record::decode(&canonical);
        if decoded.as_ref() != Ok(&record) {
            return Err(format!("record {number} has a format that this program does not know"));
        }
        let entry = record.entry.clone();
        let added = self.replay.add(&canonical, record, hash);
        added.map_err(|problem| format!("record {number}: {problem}"))?;
        self.hashes.push(hash);
        self.note(number, entry);
        Ok(())
    }

    fn note(&mut self, number: u64, entry: Entry) {
        match entry {
            Entry::Reserve(request) => {
                if let Some(problem) = wrong_price(&request) {
                    self.problem(format!("record {number}: {problem}"));
                }
                let release = request.release;
                self.releases.insert(release, Audited { request, answered: false, refunded: false });
            }
            Entry::Commit { release, .. } => {
                if let Some(audited) = self.releases.get_mut(&release) {
                    audited.answered = true;
                }
            }
            Entry::Abort { release, refunded: true } => {
                if let Some(audited) = self.releases.get_mut(&release) {
                    audited.refunded = true;
                }
            }
            Entry::State(signed) => self.statements.push(signed),
            _ => {}
        }
    }

    /// What the party says of its own books against what follows from its records.
    fn compare_summary(&mut self, summary: Summary) {
        self.other_head = summary.other_head;
        let records = self.hashes.len() as u64;
        if summary.records != records {
            self.problem(format!("the summary counts {} records, the file has {records}", summary.records));
        }
        if self.replay.head() != Some(summary.head) {
            self.problem(format!("the head is not record {} as the summary has it", summary.head.sequence));
        }
        let mut followed = self.replay.accounts.clone();
        for account in summary.accounts {
            let SummaryAccount { task, client, name, data_epoch, spent, limit } = account;
            let kind = if client { CLIENT } else { OWNER };
            let sums = followed.remove(&(task.clone(), kind, name.clone(), data_epoch));
            if sums != Some((spent, limit)) {
                let (summed, allowed) = sums.unwrap_or_default();
                self.problem(format!(
                    "the account of {name} in {task}, data epoch {data_epoch}: the summary says {spent} of \
                     {limit}, the records come to {summed} of {allowed}"
                ));
            }
        }
        for (task, _, name, data_epoch) in followed.into_keys() {
            let text = format!("the account of {name} in {task}, data epoch {data_epoch}, is missing");
            self.problem(text);
        }
    }

    /// Whose export it is.
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// What does not hold, in words; empty for a sound export.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Records that were read and fit.
    pub fn records(&self) -> usize {
        self.hashes.len()
    }

    /// The last record that was read and fits.
    pub fn head(&self) -> Option<Head> {
        self.replay.head()
    }

    /// The newest head that the other party has shown to this one.
    pub fn other_head(&self) -> Option<Head> {
        self.other_head
    }

    /// All releases by name.
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Audited> {
        &self.releases
    }

    /// The tasks that have a book.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.replay.openings.keys().map(String::as_str)
    }

    /// The part of every limit that the book of each task says its pair may spend; `None` for all of it.
    pub fn slices(&self) -> impl Iterator<Item = (&str, Option<Ratio>)> {
        let slice = |opening: &super::Opening| opening.promise.as_ref()?.slice;
        self.replay.openings.iter().map(move |(task, (_, opening))| (task.as_str(), slice(opening)))
    }

    /// Owners, or else clients, of a task: name, data epoch, spent and limit as the records have it.
    pub fn accounts<'a>(
        &'a self,
        task: &'a str,
        clients: bool,
    ) -> impl Iterator<Item = (&'a str, u32, u64, u64)> {
        let kind = if clients { CLIENT } else { OWNER };
        let wanted = move |(of, its, ..): &(String, u8, String, u32)| of == task && *its == kind;
        let accounts = self.replay.accounts.iter().filter(move |(account, _)| wanted(account));
        accounts.map(|((_, _, name, epoch), (spent, limit))| (name.as_str(), *epoch, *spent, *limit))
    }

    /// Checks that everybody who signed has the key that `key_of` gives for the name.
    pub fn check_keys(&mut self, key_of: impl Fn(&str) -> Option<PeerId>) {
        let (party, peer) = (self.header.party.clone(), self.header.peer);
        let signers = self.statements.iter().map(|signed| (signed.statement.owner.clone(), signed.signer));
        let wrong: Vec<String> = [(party, peer)]
            .into_iter()
            .chain(signers)
            .filter(|(name, peer)| key_of(name) != Some(*peer))
            .map(|(name, peer)| format!("{peer} signed in the name of {name}; the roster has another key"))
            .collect();
        wrong.into_iter().for_each(|problem| self.problem(problem));
    }

    fn outcome(&self, release: &ReleaseId) -> &'static str {
        self.replay.phase(release).map_or("unknown", Phase::word)
    }
}

/// A price must follow from the mechanism that the record names.
fn wrong_price(request: &Reserve) -> Option<String> {
    let each = request.mechanism.cost().map_or(0, |cost| cost.amount());
    let price = each.checked_mul(u64::from(request.answers));
    (price != Some(request.cost)).then(|| {
        let price = price.map_or_else(|| "more than 2^64".to_owned(), |price| price.to_string());
        format!(
            "its price {} is not that of {} answers with {}, {price}",
            request.cost, request.answers, request.mechanism
        )
    })
}

/// What two parties' exports of one pair do not agree on, in words. A release that either answered must be
/// charged on both, to the same owners and client at the same price; and each party's records must contain
/// what it has shown to the other.
pub fn compare(one: &Audit, two: &Audit) -> Vec<String> {
    let (a, b) = (&one.header, &two.header);
    let mut problems = Vec::new();
    if (&a.consortium, &a.pair) != (&b.consortium, &b.pair) || (&a.other, &b.other) != (&b.party, &a.party) {
        problems.push(format!("{} and {} are not the two parties of one pair", a.party, b.party));
        return problems;
    }
    for (seeing, seen) in [(one, two), (two, one)] {
        problems.extend(wrong_head(seeing, seen));
        for (release, audited) in seeing.releases.iter().filter(|(_, audited)| audited.answered) {
            problems.extend(uncharged(seeing, seen, release, audited));
        }
    }
    for (task, (_, opening)) in &one.replay.openings {
        let other = two.replay.openings.get(task);
        if other.is_some_and(|(_, other)| opening.goes_on_as(other).is_err()) {
            problems.push(format!(
                "{} and {} opened the book of task {task} for other promises",
                a.party, b.party
            ));
        }
    }
    for (release, audited) in &one.releases {
        let burnt = two.releases.get(release).map(|other| other.request.correlations);
        if burnt.is_some_and(|burnt: Correlations| burnt != audited.request.correlations) {
            problems
                .push(format!("release {release} burnt other serials at {} than at {}", a.party, b.party));
        }
    }
    problems.truncate(PROBLEMS_MAX);
    problems
}

fn wrong_head(seeing: &Audit, seen: &Audit) -> Option<String> {
    let head = seeing.other_head?;
    let (seeing, name) = (&seeing.header.party, &seen.header.party);
    match usize::try_from(head.sequence).ok().and_then(|sequence| seen.hashes.get(sequence)) {
        Some(hash) if *hash == head.hash => None,
        Some(_) => Some(format!(
            "record {} of {name} is another one than {seeing} was shown: two copies of it are in use",
            head.sequence
        )),
        None => Some(format!(
            "{seeing} was shown record {} of {name}, whose export ends before: it was taken earlier, or the \
             disk of {name} was restored",
            head.sequence
        )),
    }
}

fn uncharged(by: &Audit, at: &Audit, release: &ReleaseId, audited: &Audited) -> Option<String> {
    let (name, other) = (&by.header.party, &at.header.party);
    let Some(found) = at.releases.get(release) else {
        return Some(format!("release {release} was answered by {name} and is not charged at {other}"));
    };
    if found.refunded {
        return Some(format!("release {release} was answered by {name} and refunded at {other}"));
    }
    let terms = |request: &Reserve| {
        let Reserve { task, client, owners, cost, answers, mechanism, .. } = request.clone();
        (task, client, owners, cost, answers, mechanism)
    };
    (terms(&found.request) != terms(&audited.request)).then(|| {
        format!(
            "release {release} has other terms at {name} ({}) than at {other} ({})",
            by.outcome(release),
            at.outcome(release)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{Bench, charged, granted, receipt, request, statement};
    use crate::ledger::{Abort, Change};
    use crate::net::Identity;
    use consilium_protocol::privacy::Mechanism;

    /// Price of a release below: epsilon 1/1024 in units of 2^-40.
    const PRICE: u64 = 1 << 30;

    fn priced(n: u8) -> Reserve {
        let mut priced = request(n);
        priced.mechanism = Mechanism::Laplace { epsilon: "1/1024".parse().unwrap() };
        (priced.cost, priced.answers) = (2 * PRICE, 2);
        (priced.owner_limit, priced.client_limit) = (u64::MAX, u64::MAX);
        priced
    }

    struct Party {
        bench: Bench,
        identity: Identity,
        names: [&'static str; 2],
    }

    impl Party {
        fn new(name: &'static str, other: &'static str) -> Self {
            Self { bench: Bench::new(), identity: Identity::generate(), names: [name, other] }
        }

        /// Reserves and answers.
        fn answer(&self, request: &Reserve) {
            let paid = receipt(self.bench.ledger().reserve(request));
            self.bench.ledger().commit(paid, b"hidden output").unwrap();
        }

        fn export(&self) -> String {
            let [name, other] = self.names;
            let header = ExportHeader::new("hospitals", "main", (name, &self.identity), other, 7);
            let mut bytes = Vec::new();
            let view = self.bench.ledger().snapshot().unwrap();
            let exported = view.export_signed(header, &self.identity, &mut bytes).unwrap();
            assert_eq!(exported.head, self.bench.ledger().head().unwrap());
            String::from_utf8(bytes).unwrap()
        }

        /// The same lines with a signature that fits them.
        fn signed_anew(&self, text: &str) -> String {
            let end = text.trim_end().rfind('\n').unwrap() + 1;
            let digest = ring::digest::digest(&SHA256, &text.as_bytes()[..end]);
            let signature = self.identity.sign(DOMAIN, digest.as_ref()).try_into().unwrap();
            let line = serde_json::to_string(&Ends::Signature(signature)).unwrap();
            format!("{}{line}\n", &text[..end])
        }

        fn show_head_to(&self, other: &Self) {
            let head = self.bench.ledger().head().unwrap();
            other.bench.ledger().set_peer_head(self.names[0], head).unwrap();
        }
    }

    fn both() -> [Party; 2] {
        [Party::new("zero", "one"), Party::new("one", "zero")]
    }

    /// One of each kind of record.
    fn varied() -> Party {
        let party = Party::new("zero", "one");
        let ledger = party.bench.ledger();
        let signed = statement(1, Change::Budget { epsilon: "9".parse().unwrap() });
        ledger.state(&signed.sign(&party.identity).unwrap()).unwrap();
        party.answer(&priced(1));
        let given_up = receipt(ledger.reserve(&priced(2)));
        ledger.abort(given_up.release(), Abort::Bilateral).unwrap();
        granted(ledger.reserve(&priced(3)));
        ledger.burn([5; 16], 100).unwrap();
        party
    }

    fn read(text: &str) -> Audit {
        Audit::read(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn blamed(text: &str, words: &[&str]) {
        let audit = read(text);
        let told = audit.problems().join("\n");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told:?}");
    }

    #[test]
    fn a_sound_export_has_no_problems_and_the_sums_of_the_ledger() {
        let party = varied();
        let text = party.export();
        assert!(!text.contains("hidden") && !text.contains(&hex::encode(b"hidden output")));
        let mut audit = read(&text);
        assert_eq!(audit.problems(), [""; 0]);
        assert_eq!(audit.head(), Some(party.bench.ledger().head().unwrap()));
        let owners: Vec<_> = audit.accounts("chest", false).collect();
        assert_eq!(owners, [("north", 0, 4 * PRICE, 9 << 40), ("south", 0, 4 * PRICE, 1 << 60)]);
        let release = &audit.releases()[&priced(2).release];
        assert!(release.refunded && !release.answered);
        let key = party.identity.peer_id();
        audit.check_keys(|name| ["zero", "north"].contains(&name).then_some(key));
        assert_eq!(audit.problems(), [""; 0]);
        audit.check_keys(|name| (name == "zero").then_some(key));
        assert!(audit.problems()[0].contains("in the name of north"));
    }

    #[test]
    fn a_change_of_any_line_is_named_even_under_a_fitting_signature() {
        let party = varied();
        let text = party.export();
        let lines: Vec<&str> = text.lines().collect();
        for at in 1..lines.len() {
            for digit in lines[at].char_indices().filter(|(_, c)| c.is_ascii_digit()).step_by(7) {
                let mut line = lines[at].to_owned();
                let other = if digit.1 == '1' { "2" } else { "1" };
                line.replace_range(digit.0..=digit.0, other);
                let mut changed = lines.clone();
                changed[at] = &line;
                let changed = changed.join("\n") + "\n";
                blamed(&changed, &["signature"]);
                if at + 1 < lines.len() {
                    let signed = read(&party.signed_anew(&changed));
                    assert!(!signed.problems().is_empty(), "line {at}: {line}");
                    assert!(!signed.problems()[0].contains("signature is not"), "{:?}", signed.problems());
                }
            }
        }
    }

    #[test]
    fn a_cut_or_longer_file_is_named() {
        let text = varied().export();
        let lines: Vec<&str> = text.lines().collect();
        for length in 1..lines.len() {
            blamed(&(lines[..length].join("\n") + "\n"), &["cut"]);
        }
        blamed(&(text.clone() + "{}\n"), &["stands behind the signature"]);
        assert!(matches!(Audit::read(&b""[..]), Err(AuditError::NotAnExport)));
        assert!(matches!(Audit::read(&b"{}\n"[..]), Err(AuditError::NotAnExport)));
        let later = text.replacen("\"format\":1", "\"format\":2", 1);
        assert!(matches!(Audit::read(later.as_bytes()), Err(AuditError::Format { found: 2 })));
        let endless = vec![b' '; AUDIT_LINE_BYTES_MAX + 1];
        let read = Audit::read([text.as_bytes(), &endless].concat().as_slice());
        assert!(matches!(read, Err(AuditError::LongLine { .. })));
    }

    #[test]
    fn another_signer_a_lying_summary_and_a_wrong_price_are_named() {
        let party = varied();
        let text = party.export();
        let stranger = Party { identity: Identity::generate(), ..varied() };
        blamed(&stranger.signed_anew(&text), &["the signature is not zero's"]);

        let account = format!("\"spent\":{},\"limit\":{}", 4 * PRICE, 9_u64 << 40);
        assert_eq!(text.matches(&account).count(), 1);
        let less = text.replace(&account, &account.replace(&(4 * PRICE).to_string(), "5"));
        blamed(&party.signed_anew(&less), &["the account of north in chest", "summary says 5"]);
        let account = "{\"task\":\"chest\",\"client\":true";
        let hidden = text.replace(account, "{\"task\":\"chest2\",\"client\":true");
        blamed(
            &party.signed_anew(&hidden),
            &["clinic in chest2", "clinic in chest, data epoch 0, is missing"],
        );

        let cheap = Party::new("zero", "one");
        let mut request = priced(1);
        request.cost -= 1;
        cheap.answer(&request);
        blamed(&cheap.export(), &["record 2", "price", "2 answers"]);
    }

    #[test]
    fn two_parties_agree_or_the_difference_is_named() {
        let [zero, one] = both();
        for n in 1..4 {
            zero.answer(&priced(n));
            one.answer(&priced(n));
            zero.show_head_to(&one);
            one.show_head_to(&zero);
        }
        // Only one of them got as far as to reserve: no answer, no difference.
        granted(zero.bench.ledger().reserve(&priced(4)));
        assert_eq!(compare(&read(&zero.export()), &read(&one.export())), [""; 0]);
        let differ =
            |zero: &Party, one: &Party| compare(&read(&zero.export()), &read(&one.export())).join("\n");

        zero.answer(&priced(5));
        assert!(differ(&zero, &one).contains("answered by zero and is not charged at one"));
        let given_up = receipt(one.bench.ledger().reserve(&priced(5)));
        one.bench.ledger().abort(given_up.release(), Abort::Bilateral).unwrap();
        assert!(differ(&zero, &one).contains("answered by zero and refunded at one"));

        zero.answer(&priced(6));
        let mut cheaper = priced(6);
        cheaper.owners = vec![charged("north")];
        granted(one.bench.ledger().reserve(&cheaper));
        assert!(differ(&zero, &one).contains("has other terms at zero (answered) than at one (in progress)"));
        zero.answer(&priced(7));
        let mut serial = priced(7);
        serial.correlations.first += 1;
        granted(one.bench.ledger().reserve(&serial));
        assert!(differ(&zero, &one).contains("other serials"));
        let stranger = Party::new("three", "zero");
        assert!(differ(&zero, &stranger).contains("not the two parties"));
    }

    #[test]
    fn a_restored_ledger_is_named_by_what_the_other_party_was_shown() {
        let [zero, one] = both();
        zero.answer(&priced(1));
        let before = zero.export();
        zero.answer(&priced(2));
        zero.show_head_to(&one);
        one.answer(&priced(1));
        one.answer(&priced(2));
        let restored = compare(&read(&before), &read(&one.export())).join("\n");
        assert!(
            restored.contains("one was shown record 5 of zero") && restored.contains("restored"),
            "{restored}"
        );
        let fork = Party::new("zero", "one");
        for n in [1, 2, 9] {
            fork.answer(&priced(n));
        }
        let forked = compare(&read(&fork.export()), &read(&one.export())).join("\n");
        assert!(forked.contains("record 5 of zero is another one"), "{forked}");
    }
}
