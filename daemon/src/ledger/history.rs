//! What happened in a task, for those who look back: auditors, and owners at their own accounts.

use super::books::{self, CHAIN, OPENINGS, OWNERS, PEERS, Phase, RELEASES, STATEMENTS};
use super::report::Account;
use super::{Charged, Entry, Head, LedgerError, Opening, Promise, ReleaseId, SignedStatement, Snapshot};
use consilium_protocol::privacy::Mechanism;
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// A release as its record tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Number of the record that reserved it.
    pub record: u64,
    /// The release.
    pub release: ReleaseId,
    /// When, in seconds since 1970 by this party's clock.
    pub at: u64,
    /// Who asked.
    pub client: String,
    /// Who was charged.
    pub owners: Vec<Charged>,
    /// How its answers were protected.
    pub mechanism: Mechanism,
    /// Answers that it gave, or would have given.
    pub answers: u32,
    /// Price in units of 2^-40.
    pub cost: u64,
    /// What became of it: `answered`, `in progress`, `kept`, `refunded` or `dead`.
    pub outcome: String,
}

/// A statement and the record that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedStatement {
    /// Number of the record.
    pub record: u64,
    /// What was signed.
    pub signed: SignedStatement,
}

/// One owner's accounts in one task, as a compute party keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerBooks {
    /// What the book was opened with; `None` where answers are exact.
    pub promise: Option<Promise>,
    /// The data epoch that newly published models belong to.
    pub data_epoch: u32,
    /// One account for each data epoch that was charged.
    pub accounts: Vec<Account>,
    /// Everything that the owner signed about this task.
    pub statements: Vec<SignedStatement>,
    /// The end of this party's chain, as a receipt.
    pub head: Head,
}

impl Snapshot {
    /// How the book of a task was opened; `None` if there is none.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Record`].
    pub fn opening(&self, task: &str) -> Result<Option<Opening>, LedgerError> {
        let row = self.table(OPENINGS)?.get(task).map_err(|error| self.failed(error))?;
        let Some(sequence) = row.map(|row| row.value()) else { return Ok(None) };
        match self.entry(sequence)? {
            Entry::Open(opening) => Ok(Some(opening)),
            _ => Err(books::inconsistent(self.path(), format!("the book of {task}"))),
        }
    }

    /// All statements about a task, those of `owner` alone if one is given, by owner and number.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Record`].
    pub fn statements(&self, task: &str, owner: Option<&str>) -> Result<Vec<RecordedStatement>, LedgerError> {
        let mut found = Vec::new();
        let table = self.table(STATEMENTS)?;
        for row in table.range((task, owner.unwrap_or(""), 0)..).map_err(|error| self.failed(error))? {
            let (key, row) = row.map_err(|error| self.failed(error))?;
            let (of, by, _) = key.value();
            if of != task || owner.is_some_and(|owner| owner != by) {
                break;
            }
            let record = row.value();
            match self.entry(record)? {
                Entry::State(signed) => found.push(RecordedStatement { record, signed }),
                _ => return Err(books::inconsistent(self.path(), format!("record {record}"))),
            }
        }
        Ok(found)
    }

    /// The accounts of one owner.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Record`].
    pub fn owner_books(&self, task: &str, owner: &str) -> Result<OwnerBooks, LedgerError> {
        let mut accounts = self.report(task)?.owners;
        accounts.retain(|account| account.name == owner);
        let statements = self.statements(task, Some(owner))?;
        Ok(OwnerBooks {
            promise: self.opening(task)?.and_then(|opening| opening.promise),
            data_epoch: self.standing(task, owner)?.0,
            accounts,
            statements: statements.into_iter().map(|recorded| recorded.signed).collect(),
            head: self.head()?,
        })
    }

    /// The data epoch that an owner's new models belong to, and its budget if it signed one.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn standing(&self, task: &str, owner: &str) -> Result<(u32, Option<u64>), LedgerError> {
        let row = self.table(OWNERS)?.get((task, owner)).map_err(|error| self.failed(error))?;
        let stands = row.map(|row| row.value());
        Ok(stands.map_or((0, None), |(_, data_epoch, limit)| (data_epoch, limit)))
    }

    /// The latest releases of a task, at most `most`, newest first.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Record`].
    pub fn latest(&self, task: &str, most: usize) -> Result<Vec<Past>, LedgerError> {
        let mut found = Vec::new();
        let (chain, releases) = (self.table(CHAIN)?, self.table(RELEASES)?);
        for row in chain.iter().map_err(|error| self.failed(error))?.rev() {
            if found.len() >= most {
                break;
            }
            let (sequence, row) = row.map_err(|error| self.failed(error))?;
            let record = books::decode(self.path(), sequence.value(), row.value().1)?;
            let Entry::Reserve(request) = record.entry else { continue };
            if request.task != task {
                continue;
            }
            let phase = releases.get(&request.release.0).map_err(|error| self.failed(error))?;
            let phase = phase.map(|row| row.value().0);
            let phase = Phase::ALL.into_iter().find(|known| Some(known.number()) == phase);
            found.push(Past {
                record: record.sequence,
                release: request.release,
                at: request.at,
                client: request.client,
                owners: request.owners,
                mechanism: request.mechanism,
                answers: request.answers,
                cost: request.cost,
                outcome: phase.map_or("unknown", Phase::word).to_owned(),
            });
        }
        Ok(found)
    }

    /// The newest head that a peer has shown.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn seen_of(&self, peer: &str) -> Result<Option<Head>, LedgerError> {
        let row = self.table(PEERS)?.get(peer).map_err(|error| self.failed(error))?;
        Ok(row.map(|row| {
            let (sequence, hash) = row.value();
            Head { sequence, hash: *hash }
        }))
    }

    fn entry(&self, sequence: u64) -> Result<Entry, LedgerError> {
        let row = self.table(CHAIN)?.get(sequence).map_err(|error| self.failed(error))?;
        let row = row.ok_or_else(|| books::damaged(self.path(), sequence, "missing"))?;
        Ok(books::decode(self.path(), sequence, row.value().1)?.entry)
    }
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Reserved => "in progress",
            Self::Committed => "answered",
            Self::Kept => "kept",
            Self::Refunded => "refunded",
            Self::Dead => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{Bench, granted, opening, receipt, request, statement};
    use crate::ledger::{Abort, Change};
    use crate::net::Identity;

    #[test]
    fn the_past_is_told_newest_first_with_what_became_of_it() {
        let mut bench = Bench::new();
        let other = Opening { task: "brain".into(), ..opening() };
        bench.ledger().open_task(&other).unwrap();
        granted(bench.ledger().reserve(&request(0)));
        bench.reopen();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        bench.ledger().commit(paid, b"share").unwrap();
        let mut elsewhere = request(2);
        elsewhere.task = "brain".into();
        granted(bench.ledger().reserve(&elsewhere));
        let given_up = receipt(bench.ledger().reserve(&request(3)));
        bench.ledger().abort(given_up.release(), Abort::Bilateral).unwrap();
        let view = bench.ledger().snapshot().unwrap();
        let told = view.latest("chest", 9).unwrap();
        let outcomes: Vec<_> = told.iter().map(|past| past.outcome.as_str()).collect();
        assert_eq!(outcomes, ["refunded", "answered", "dead"]);
        assert_eq!((told[1].release, told[1].cost, told[1].at), (request(1).release, 10, request(1).at));
        assert_eq!(view.latest("chest", 2).unwrap(), told[..2]);
        assert_eq!(view.latest("brain", 2).unwrap()[0].outcome, "in progress");
        assert!(view.latest("heart", 2).unwrap().is_empty());
    }

    #[test]
    fn an_owner_sees_its_own_books_only() {
        let bench = Bench::new();
        granted(bench.ledger().reserve(&request(0)));
        let identity = Identity::generate();
        let changes = [Change::Budget { epsilon: "2".parse().unwrap() }, Change::Disjoint { data_epoch: 1 }];
        let mut signed = Vec::new();
        for (number, change) in (1..).zip(changes) {
            let one = statement(number, change).sign(&identity).unwrap();
            bench.ledger().state(&one).unwrap();
            signed.push(one);
        }
        let view = bench.ledger().snapshot().unwrap();
        let books = view.owner_books("chest", "north").unwrap();
        assert_eq!((books.data_epoch, books.statements), (1, signed));
        let account = Account { name: "north".into(), data_epoch: 0, spent: 10, limit: 2 << 40 };
        assert_eq!((books.accounts, books.promise), (vec![account], opening().promise));
        assert_eq!(books.head, bench.ledger().head().unwrap());
        let south = view.owner_books("chest", "south").unwrap();
        assert_eq!((south.data_epoch, south.statements.len(), south.accounts[0].limit), (0, 0, 100));
        assert_eq!(view.statements("chest", None).unwrap().len(), 2);
    }
}
