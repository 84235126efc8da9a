//! The tables of the ledger, open for one exclusive transaction.
//!
//! Everything but the sealed answers and the peers' heads follows from the chain and is kept only so
//! that a reservation need not read it all.

use super::record::{BEFORE_FIRST, Entry, Head, Record, VERSION, link};
use super::statement::Standing;
use super::{LedgerError, Opening, ReleaseId};
use crate::vault::VaultError;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use ring::rand::{SecureRandom, SystemRandom};
use std::path::Path;

type Name = &'static [u8; 16];
/// Hash of the chain after the record, and the record.
pub(super) type Link = (&'static [u8; 32], &'static [u8]);
/// Task, [`OWNER`] or [`CLIENT`], whose account it is, and the data epoch; clients have one account.
pub(super) type AccountKey = (&'static str, u8, &'static str, u32);
/// Task and owner.
type OwnerKey = (&'static str, &'static str);
/// Number of the last statement, data epoch, signed budget: a [`Standing`].
type Stands = (u64, u32, Option<u64>);

pub(super) const OWNER: u8 = 1;
pub(super) const CLIENT: u8 = 2;

pub(super) const CHAIN: TableDefinition<'static, u64, Link> = TableDefinition::new("chain");
/// Phase, and number of the record that reserved it.
pub(super) const RELEASES: TableDefinition<'static, Name, (u8, u64)> = TableDefinition::new("releases");
pub(super) const UNFINISHED: TableDefinition<'static, Name, ()> = TableDefinition::new("unfinished");
pub(super) const ANSWERS: TableDefinition<'static, Name, &'static [u8]> = TableDefinition::new("answers");
/// Spent, and the limit that was in force at the last reservation.
pub(super) const ACCOUNTS: TableDefinition<'static, AccountKey, (u64, u64)> =
    TableDefinition::new("accounts");
/// Releases of a task by [`Phase`].
pub(super) const TASKS: TableDefinition<'static, &'static str, [u64; PHASES]> = TableDefinition::new("tasks");
/// Record that opened the book of a task.
pub(super) const OPENINGS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("openings");
pub(super) const OWNERS: TableDefinition<'static, OwnerKey, Stands> = TableDefinition::new("owners");
/// Record of a statement, by task, owner and number.
pub(super) const STATEMENTS: TableDefinition<'static, (&'static str, &'static str, u64), u64> =
    TableDefinition::new("statements");
pub(super) const MARKS: TableDefinition<'static, Name, u64> = TableDefinition::new("marks");
pub(super) const TICKETS: TableDefinition<'static, (Name, u64), Name> = TableDefinition::new("tickets");
pub(super) const PEERS: TableDefinition<'static, &'static str, (u64, &'static [u8; 32])> =
    TableDefinition::new("peers");

pub(super) const PHASES: usize = 5;

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Reserved,
    Committed,
    Kept,
    Refunded,
    Dead,
}

impl Phase {
    pub(super) const ALL: [Self; PHASES] =
        [Self::Reserved, Self::Committed, Self::Kept, Self::Refunded, Self::Dead];

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::Committed => 1,
            Self::Kept => 2,
            Self::Refunded => 3,
            Self::Dead => 4,
        }
    }

    pub(super) fn slot(self) -> usize {
        usize::from(self.number())
    }
}

/// Why work inside a transaction stopped: the caller's fault, or the disk's. After a refusal nothing
/// was written; after a fault of the disk the whole transaction is given up.
pub(super) enum Trouble {
    Refused(LedgerError),
    Storage(redb::Error),
}

impl From<LedgerError> for Trouble {
    fn from(refusal: LedgerError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<redb::StorageError> for Trouble {
    fn from(error: redb::StorageError) -> Self {
        Self::Storage(error.into())
    }
}

/// All tables of one transaction.
pub(super) struct Books<'t> {
    pub(super) path: &'t Path,
    pub(super) chain: Table<'t, u64, Link>,
    pub(super) releases: Table<'t, Name, (u8, u64)>,
    pub(super) unfinished: Table<'t, Name, ()>,
    pub(super) answers: Table<'t, Name, &'static [u8]>,
    pub(super) accounts: Table<'t, AccountKey, (u64, u64)>,
    pub(super) tasks: Table<'t, &'static str, [u64; PHASES]>,
    pub(super) openings: Table<'t, &'static str, u64>,
    pub(super) owners: Table<'t, OwnerKey, Stands>,
    pub(super) statements: Table<'t, (&'static str, &'static str, u64), u64>,
    pub(super) marks: Table<'t, Name, u64>,
    pub(super) tickets: Table<'t, (Name, u64), Name>,
    pub(super) peers: Table<'t, &'static str, (u64, &'static [u8; 32])>,
    written: bool,
}

impl<'t> Books<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, path: &'t Path) -> Result<Self, redb::Error> {
        Ok(Self {
            path,
            chain: transaction.open_table(CHAIN)?,
            releases: transaction.open_table(RELEASES)?,
            unfinished: transaction.open_table(UNFINISHED)?,
            answers: transaction.open_table(ANSWERS)?,
            accounts: transaction.open_table(ACCOUNTS)?,
            tasks: transaction.open_table(TASKS)?,
            openings: transaction.open_table(OPENINGS)?,
            owners: transaction.open_table(OWNERS)?,
            statements: transaction.open_table(STATEMENTS)?,
            marks: transaction.open_table(MARKS)?,
            tickets: transaction.open_table(TICKETS)?,
            peers: transaction.open_table(PEERS)?,
            written: false,
        })
    }

    /// Whether the transaction changed anything that is worth a sync of the disk.
    pub(super) fn written(&self) -> bool {
        self.written
    }

    pub(super) fn touch(&mut self) {
        self.written = true;
    }

    pub(super) fn head(&self) -> Result<Head, Trouble> {
        Ok(last(&self.chain)?.ok_or_else(|| damaged(self.path, 0, "the chain is empty"))?)
    }

    pub(super) fn record(&self, sequence: u64) -> Result<Record, Trouble> {
        let row = self.chain.get(sequence)?.ok_or_else(|| damaged(self.path, sequence, "missing"))?;
        Ok(decode(self.path, sequence, row.value().1)?)
    }

    /// The random name of this ledger.
    pub(super) fn origin(&self) -> Result<[u8; 16], Trouble> {
        match self.record(0)?.entry {
            Entry::Created { ledger } => Ok(ledger),
            _ => Err(damaged(self.path, 0, "not the creation of a ledger").into()),
        }
    }

    /// How the book of a task was opened.
    pub(super) fn opening(&self, task: &str) -> Result<Opening, Trouble> {
        let unopened = || LedgerError::NotOpened { task: task.to_owned() };
        let sequence = self.openings.get(task)?.ok_or_else(unopened)?.value();
        match self.record(sequence)?.entry {
            Entry::Open(opening) if opening.task == task => Ok(opening),
            _ => Err(inconsistent(self.path, format!("the book of {task}")).into()),
        }
    }

    /// Where an owner's statements about a task have led.
    pub(super) fn standing(&self, task: &str, owner: &str) -> Result<Standing, Trouble> {
        let row = self.owners.get((task, owner))?;
        Ok(row.map_or_else(Standing::default, |row| standing(row.value())))
    }

    pub(super) fn append(&mut self, entry: Entry) -> Result<Head, Trouble> {
        let before = self.head()?;
        let sequence = before.sequence.checked_add(1).expect("2^64 records do not fit a disk");
        let bytes = Record { version: VERSION, sequence, entry }.encode();
        let hash = link(&before.hash, &bytes);
        self.chain.insert(sequence, (&hash, bytes.as_slice()))?;
        self.touch();
        Ok(Head { sequence, hash })
    }

    /// Phase of a release and the number of the record that reserved it.
    pub(super) fn release(&self, release: ReleaseId) -> Result<Option<(Phase, u64)>, Trouble> {
        let Some(row) = self.releases.get(&release.0)? else { return Ok(None) };
        let (number, reserved) = row.value();
        let phase = Phase::ALL.into_iter().find(|phase| phase.number() == number);
        Ok(Some((phase.ok_or_else(|| inconsistent(self.path, format!("release {release}")))?, reserved)))
    }

    /// Moves a release to another phase and counts it there.
    pub(super) fn enter(
        &mut self,
        task: &str,
        release: ReleaseId,
        phase: Phase,
        reserved: u64,
    ) -> Result<(), Trouble> {
        let mut counts = self.tasks.get(task)?.map_or([0; PHASES], |row| row.value());
        if let Some((former, _)) = self.release(release)? {
            counts[former.slot()] = counts[former.slot()].saturating_sub(1);
        }
        counts[phase.slot()] = counts[phase.slot()].saturating_add(1);
        self.tasks.insert(task, counts)?;
        self.releases.insert(&release.0, (phase.number(), reserved))?;
        if phase == Phase::Reserved {
            self.unfinished.insert(&release.0, ())?;
        } else {
            self.unfinished.remove(&release.0)?;
        }
        Ok(())
    }
}

/// The first record and empty tables.
pub(super) fn initialise(transaction: &WriteTransaction, ledger: [u8; 16]) -> Result<(), redb::Error> {
    let mut books = Books::open(transaction, Path::new(""))?;
    let bytes = Record { version: VERSION, sequence: 0, entry: Entry::Created { ledger } }.encode();
    books.chain.insert(0, (&link(&BEFORE_FIRST, &bytes), bytes.as_slice()))?;
    Ok(())
}

pub(super) fn standing((number, data_epoch, limit): Stands) -> Standing {
    Standing { number, data_epoch, limit }
}

pub(super) fn random_id() -> Result<[u8; 16], LedgerError> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| VaultError::Random)?;
    Ok(id)
}

pub(super) fn last(chain: &impl ReadableTable<u64, Link>) -> Result<Option<Head>, redb::StorageError> {
    Ok(chain.last()?.map(|(sequence, row)| Head { sequence: sequence.value(), hash: *row.value().0 }))
}

pub(super) fn decode(path: &Path, sequence: u64, bytes: &[u8]) -> Result<Record, LedgerError> {
    use super::record::Unreadable;
    let record = Record::decode(bytes).map_err(|unreadable| match unreadable {
        Unreadable::Version(version) => {
            LedgerError::RecordVersion { path: path.to_owned(), sequence, version }
        }
        Unreadable::Malformed(detail) => damaged(path, sequence, detail),
    })?;
    if record.sequence != sequence {
        return Err(damaged(path, sequence, "it carries another number"));
    }
    Ok(record)
}

pub(super) fn damaged(path: &Path, sequence: u64, detail: &str) -> LedgerError {
    LedgerError::Record { path: path.to_owned(), sequence, detail: detail.to_owned() }
}

pub(super) fn inconsistent(path: &Path, what: String) -> LedgerError {
    LedgerError::Inconsistent { path: path.to_owned(), what }
}
