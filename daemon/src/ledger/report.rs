//! What the ledger tells operators and auditors.

use super::books::{
    self, ACCOUNTS, ANSWERS, CHAIN, CLIENT, MARKS, OPENINGS, OWNER, OWNERS, Phase, RELEASES, STATEMENTS,
    TASKS, TICKETS,
};
use super::record::{BEFORE_FIRST, digest};
use super::recover::Replay;
use super::{Head, LedgerError, Record, ReleaseId};
use crate::vault::{Store, hex};
use redb::{Key, ReadTransaction, ReadableTable, TableDefinition, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

/// The account of one owner or client in one task, in units of 2^-40.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Whose account.
    pub name: String,
    /// An owner's data epoch; 0 for a client.
    pub data_epoch: u32,
    /// Spent so far.
    pub spent: u64,
    /// The budget in force: what its owner signed last, else that of the latest reservation.
    pub limit: u64,
}

/// The books of one task. A task without releases has empty books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The task.
    pub task: String,
    /// One account per owner and data epoch that was ever charged, by name.
    pub owners: Vec<Account>,
    /// One account per client that ever asked, by name.
    pub clients: Vec<Account>,
    /// Releases that were answered.
    pub answered: u64,
    /// Releases that are being computed.
    pub in_progress: u64,
    /// Releases that were aborted but stay spent.
    pub kept: u64,
    /// Releases that were aborted and refunded.
    pub refunded: u64,
    /// Releases that a crash interrupted; they stay spent.
    pub dead: u64,
}

/// The ledger at one moment. Later changes do not move it; holding it keeps disk space in use.
pub struct Snapshot {
    transaction: ReadTransaction,
    path: PathBuf,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(with = "hex")]
    previous: [u8; 32],
    #[serde(with = "hex")]
    hash: [u8; 32],
    record: &'a Record,
}

impl Snapshot {
    pub(super) fn of(store: &Store) -> Result<Self, LedgerError> {
        Ok(Self { transaction: store.read()?, path: store.path().to_owned() })
    }

    /// The last record.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn head(&self) -> Result<Head, LedgerError> {
        let head = books::last(&self.table(CHAIN)?).map_err(|error| self.failed(error))?;
        head.ok_or_else(|| books::damaged(&self.path, 0, "the chain is empty"))
    }

    /// The books of a task.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn report(&self, task: &str) -> Result<Report, LedgerError> {
        let counts = self.table(TASKS)?.get(task).map_err(|error| self.failed(error))?;
        let counts = counts.map_or_else(Default::default, |row| row.value());
        let of = |phase: Phase| counts[phase.slot()];
        Ok(Report {
            task: task.to_owned(),
            owners: self.accounts(task, OWNER)?,
            clients: self.accounts(task, CLIENT)?,
            answered: of(Phase::Committed),
            in_progress: of(Phase::Reserved),
            kept: of(Phase::Kept),
            refunded: of(Phase::Refunded),
            dead: of(Phase::Dead),
        })
    }

    /// Writes one JSON object per record: `previous`, `hash` and `record`, byte strings in hexadecimal.
    /// The chain is checked on the way; output shares are not part of it.
    ///
    /// # Errors
    /// [`LedgerError::Export`] when `writer` fails, otherwise as [`Snapshot::verify`].
    pub fn export(&self, mut writer: impl Write) -> Result<(), LedgerError> {
        let mut previous = BEFORE_FIRST;
        self.walk(|record, hash| {
            let line = Line { previous, hash, record };
            serde_json::to_writer(&mut writer, &line).map_err(|error| LedgerError::Export(error.into()))?;
            previous = hash;
            writer.write_all(b"\n").map_err(LedgerError::Export)
        })?;
        writer.flush().map_err(LedgerError::Export)
    }

    /// Walks the chain, recomputes everything that follows from it, and compares.
    ///
    /// # Errors
    /// [`LedgerError::Record`], [`LedgerError::RecordVersion`], [`LedgerError::Inconsistent`].
    pub fn verify(&self) -> Result<Head, LedgerError> {
        let replay = self.walk(|_, _| Ok(()))?;
        let differs = |what: &str| books::inconsistent(&self.path, what.to_owned());
        let agree = |same: bool, what| if same { Ok(()) } else { Err(differs(what)) };

        let name = |name: &[u8; 16]| ReleaseId(*name);
        let releases: BTreeMap<_, _> = self.rows(RELEASES, |key, row| (name(key), row))?;
        agree(releases == replay.releases(), "the state of a release")?;
        let unfinished: BTreeSet<_> = self.rows(books::UNFINISHED, |key, ()| name(key))?;
        agree(unfinished == replay.unfinished(), "the list of unfinished releases")?;
        let answers: BTreeMap<_, _> = self.rows(ANSWERS, |key, row| (name(key), digest(row)))?;
        agree(answers == replay.answers, "a stored answer")?;
        let accounts: BTreeMap<_, _> = self.rows(ACCOUNTS, |(task, kind, name, epoch), row| {
            ((task.to_owned(), kind, name.to_owned(), epoch), row)
        })?;
        agree(accounts == replay.accounts, "a balance")?;
        let tasks: BTreeMap<_, _> = self.rows(TASKS, |task, row| (task.to_owned(), row))?;
        let tasks = tasks.into_iter().filter(|(_, counts)| counts.iter().any(|count| *count > 0));
        agree(tasks.eq(replay.tasks()), "the count of releases")?;
        let openings: BTreeMap<_, _> = self.rows(OPENINGS, |task, row| (task.to_owned(), row))?;
        let opened = replay.openings.iter().map(|(task, (sequence, _))| (task, *sequence));
        agree(openings.iter().map(|(task, row)| (task, *row)).eq(opened), "the opening of a book")?;
        let owners: BTreeMap<_, _> = self
            .rows(OWNERS, |(task, owner), row| ((task.to_owned(), owner.to_owned()), books::standing(row)))?;
        agree(owners == replay.owners, "what an owner signed")?;
        let statements: BTreeMap<_, _> = self.rows(STATEMENTS, |(task, owner, number), row| {
            (((task.to_owned(), owner.to_owned()), number), row)
        })?;
        agree(statements == replay.statements, "the place of a statement")?;
        agree(self.marks()? == replay.marks, "a mark of serials")?;
        let tickets: BTreeMap<_, _> = self.rows(TICKETS, |(boot, ticket), by| ((*boot, ticket), name(by)))?;
        agree(tickets == replay.tickets, "a noise ticket")?;
        replay.head().ok_or_else(|| books::damaged(&self.path, 0, "the chain is empty"))
    }

    /// Per epoch, the first serial that is surely unused.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn marks(&self) -> Result<BTreeMap<[u8; 16], u64>, LedgerError> {
        self.rows(MARKS, |epoch, mark| (*epoch, mark))
    }

    /// Replays the chain, showing each record and the hash after it.
    pub(super) fn walk(
        &self,
        mut visit: impl FnMut(&Record, [u8; 32]) -> Result<(), LedgerError>,
    ) -> Result<Replay, LedgerError> {
        let mut replay = Replay::default();
        let chain = self.table(CHAIN)?;
        for row in chain.iter().map_err(|error| self.failed(error))? {
            let (sequence, row) = row.map_err(|error| self.failed(error))?;
            let (sequence, (hash, bytes)) = (sequence.value(), row.value());
            let record = books::decode(&self.path, sequence, bytes)?;
            visit(&record, *hash)?;
            let added = replay.add(bytes, record, *hash);
            added.map_err(|detail| books::damaged(&self.path, sequence, &detail))?;
        }
        Ok(replay)
    }

    fn accounts(&self, task: &str, kind: u8) -> Result<Vec<Account>, LedgerError> {
        let mut accounts = Vec::new();
        let table = self.table(ACCOUNTS)?;
        let owners = self.table(OWNERS)?;
        for row in table.range((task, kind, "", 0)..).map_err(|error| self.failed(error))? {
            let (key, row) = row.map_err(|error| self.failed(error))?;
            let (of, its, name, data_epoch) = key.value();
            if (of, its) != (task, kind) {
                break;
            }
            let (spent, limit) = row.value();
            let stands = owners.get((task, name)).map_err(|error| self.failed(error))?;
            let signed = stands.filter(|_| kind == OWNER).and_then(|row| row.value().2);
            let limit = signed.unwrap_or(limit);
            accounts.push(Account { name: name.to_owned(), data_epoch, spent, limit });
        }
        Ok(accounts)
    }

    pub(super) fn rows<K: Key, V: Value, T, C: FromIterator<T>>(
        &self,
        definition: TableDefinition<'static, K, V>,
        take: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> T,
    ) -> Result<C, LedgerError> {
        let table = self.table(definition)?;
        let rows = table.iter().map_err(|error| self.failed(error))?;
        rows.map(|row| row.map(|(key, value)| take(key.value(), value.value())))
            .collect::<Result<C, _>>()
            .map_err(|error| self.failed(error))
    }

    pub(super) fn table<K: Key, V: Value>(
        &self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, LedgerError> {
        self.transaction.open_table(definition).map_err(|error| self.failed(error))
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(super) fn failed(&self, error: impl Into<redb::Error>) -> LedgerError {
        crate::vault::StoreError::new(&self.path, "read", error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::books::Trouble;
    use crate::ledger::record::VERSION;
    use crate::ledger::trial::{Bench, granted, opening, receipt, request, statement};
    use crate::ledger::{Abort, Change, Entry};
    use crate::net::Identity;

    /// One release of each phase.
    fn varied() -> Bench {
        let mut bench = Bench::new();
        granted(bench.ledger().reserve(&request(0)));
        bench.reopen();
        let committed = receipt(bench.ledger().reserve(&request(1)));
        bench.ledger().commit(committed, b"hidden output").unwrap();
        for (n, abort) in [(2, Abort::Alone), (3, Abort::Bilateral)] {
            let aborted = receipt(bench.ledger().reserve(&request(n)));
            bench.ledger().abort(aborted.release(), abort).unwrap();
        }
        granted(bench.ledger().reserve(&request(4)));
        let budget = Change::Budget { epsilon: "9".parse().unwrap() };
        let signed = statement(1, budget).sign(&Identity::generate()).unwrap();
        bench.ledger().state(&signed).unwrap();
        bench
    }

    #[test]
    fn a_report_counts_every_phase_and_only_its_task() {
        let bench = varied();
        let mut other = request(5);
        other.task.push('2');
        bench.ledger().open_task(&crate::ledger::Opening { task: "chest2".into(), ..opening() }).unwrap();
        granted(bench.ledger().reserve(&other));
        let report = bench.ledger().report("chest").unwrap();
        let Report { answered, in_progress, kept, refunded, dead, .. } = report;
        assert_eq!([answered, in_progress, kept, refunded, dead], [1, 1, 1, 1, 1]);
        let account = |name: &str, limit| Account { name: name.into(), data_epoch: 0, spent: 40, limit };
        assert_eq!(report.owners, [account("north", 9 << 40), account("south", 100)]);
        assert_eq!(report.clients, [account("clinic", 1000)]);
        assert!(bench.ledger().report("unknown").unwrap().owners.is_empty());
    }

    #[test]
    fn an_export_can_be_checked_and_holds_no_answer() {
        let bench = varied();
        let mut lines = Vec::new();
        bench.ledger().export(&mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        assert!(!text.contains("hidden output") && !text.contains(&hex::encode(b"hidden output")));
        let mut previous = hex::encode(&BEFORE_FIRST);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["previous"], previous);
            let record: Record = serde_json::from_value(line["record"].clone()).unwrap();
            let bytes = [BEFORE_FIRST.to_vec(), record.encode()].concat();
            if matches!(record.entry, Entry::Created { .. }) {
                assert_eq!(line["hash"], hex::encode(&digest(&bytes)));
            }
            previous = line["hash"].as_str().unwrap().to_owned();
        }
        assert_eq!(previous, hex::encode(&bench.ledger().head().unwrap().hash));
        assert_eq!(text.lines().count(), 12);
    }

    #[test]
    fn a_changed_table_is_found_whichever_it_is() {
        type Spoil = fn(&mut super::books::Books<'_>) -> Result<bool, Trouble>;
        let changes: [(&str, Spoil); 10] = [
            ("a balance", |b| Ok(b.accounts.insert(("chest", OWNER, "north", 0), (10, 100))?.is_some())),
            ("a mark", |b| Ok(b.marks.insert(&request(1).correlations.epoch, 3)?.is_some())),
            ("a noise ticket", |b| {
                let (boot, ticket) = request(2).ticket()?.unwrap();
                Ok(b.tickets.remove((&boot, ticket))?.is_some())
            }),
            ("a stored answer", |b| {
                Ok(b.answers.insert(&request(1).release.0, [0; 9].as_slice())?.is_some())
            }),
            ("state of a release", |b| Ok(b.releases.remove(&request(3).release.0)?.is_some())),
            ("unfinished", |b| Ok(b.unfinished.remove(&request(4).release.0)?.is_some())),
            ("the opening", |b| Ok(b.openings.insert("chest", 2)?.is_some())),
            ("an owner signed", |b| Ok(b.owners.insert(("chest", "north"), (1, 1, None))?.is_some())),
            ("a statement", |b| Ok(b.statements.insert(("chest", "north", 1), 2)?.is_some())),
            ("the count", |b| Ok(b.tasks.insert("chest", [0, 9, 0, 0, 0])?.is_some())),
        ];
        for (what, change) in changes {
            let mut bench = varied();
            let spoilt = bench.ledger().transact(|books| {
                books.touch();
                change(books)
            });
            assert!(spoilt.unwrap(), "{what} was there");
            bench.close();
            let error = bench.try_open().err().unwrap();
            assert!(matches!(error, LedgerError::Inconsistent { .. }), "{what}: {error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
    }

    #[test]
    fn a_changed_or_unknown_record_stops_the_opening() {
        let swap = |sequence: u64, bytes: Vec<u8>| {
            let mut bench = varied();
            let spoilt = bench.ledger().transact(|books| {
                let hash = *books.chain.get(sequence)?.unwrap().value().0;
                books.chain.insert(sequence, (&hash, bytes.as_slice()))?;
                books.touch();
                Ok(())
            });
            spoilt.unwrap();
            bench.close();
            bench.try_open().err().unwrap()
        };
        let mut cheaper = request(1);
        cheaper.cost = 1;
        let record = Record { version: VERSION, sequence: 3, entry: Entry::Reserve(cheaper) };
        assert!(matches!(swap(3, record.encode()), LedgerError::Record { sequence: 3, .. }));
        assert!(matches!(swap(3, vec![0xff]), LedgerError::Record { sequence: 3, .. }));
        let later = Record { version: VERSION + 1, ..record };
        let LedgerError::RecordVersion { version, .. } = swap(3, later.encode()) else { panic!("read") };
        assert_eq!(version, VERSION + 1);
    }
}
