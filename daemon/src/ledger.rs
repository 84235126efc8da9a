//! The privacy ledger of one compute party: what was paid for, by whom, and what was answered.
//!
//! ```text
//!              reserve                    commit
//!   (no id) ───────────▶ Reserved ───────────────────▶ Committed   retries get the stored share
//!                          │  │  └───── open again ──▶ Dead        spent, never answered
//!                          │  └── abort, one side ───▶ Kept        spent, never answered
//!                          └───── abort, both sides ─▶ Refunded    cost given back, serials not
//! ```
//!
//! - An id leaves `Reserved` once and never comes back: only `Committed` ever answers.
//! - Checking the budgets and recording the charge are one exclusive transaction; there is no way to do
//!   one without the other. A refused reservation leaves no trace.
//! - A [`Receipt`] exists only for a reservation that is on the disk, and a [`Committed`] only for an
//!   output share that is. Code that computes or sends one asks for them.
//! - Serials and noise tickets are used at most once, whatever happens afterwards.
//! - Every change is a record of a hash chain. The peer remembers the head, so that a restored old disk
//!   is noticed ([`Ledger::check_peer_head`], [`Ledger::check_own_head`]).
//! - Budgets are kept per task name: another model or another data epoch of the same owner continues
//!   the same account.
//!
//! Amounts are zero-concentrated divergence in units of 2^-40.

mod books;
mod error;
mod handle;
mod peer;
mod record;
mod recover;
mod release;
mod report;
mod request;
mod spend;

#[cfg(test)]
mod trial;

pub use error::LedgerError;
pub use handle::{LedgerHandle, LedgerThread};
pub use record::{Entry, Head, Record};
pub use release::{Abort, Aborted, Committed, Receipt, Reservation};
pub use report::{Account, Report, Snapshot};
pub use request::{Correlations, ReleaseId, Reserve};

use crate::vault::{Kind, StorageKey, Store};
use books::{Books, Trouble};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const KIND: Kind = Kind { name: "consilium privacy ledger", version: 1 };

/// The ledger file, open. All methods block on the disk; [`LedgerHandle`] serves asynchronous callers.
pub struct Ledger {
    store: Store,
    key: Arc<StorageKey>,
}

impl Ledger {
    /// Creates the ledger of a new compute party.
    ///
    /// # Errors
    /// [`LedgerError::Store`] when the file exists already or cannot be written.
    pub fn create(path: &Path, key: Arc<StorageKey>) -> Result<Self, LedgerError> {
        let origin = books::random_id()?;
        let store = Store::create(path, KIND, |transaction| books::initialise(transaction, origin))?;
        Ok(Self { store, key })
    }

    /// Opens an existing ledger: checks the whole chain and every balance, then marks reservations that
    /// were never committed as dead. A missing file is an error, since an empty ledger would give all
    /// budgets back.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Record`], [`LedgerError::RecordVersion`],
    /// [`LedgerError::Inconsistent`]: the file stays as it is.
    pub fn open(path: &Path, key: Arc<StorageKey>) -> Result<Self, LedgerError> {
        let ledger = Self { store: Store::open(path, KIND)?, key };
        ledger.verify()?;
        ledger.transact(|books| books.bury_unfinished())?;
        Ok(ledger)
    }

    /// Charges all owners and the client of a release and marks its serials as used, or refuses.
    /// An id that was committed before, by the same client with the same content, costs nothing and
    /// gives the stored output share.
    ///
    /// # Errors
    /// The refusals of [`LedgerError`]; nothing is recorded then.
    pub fn reserve(&self, request: &Reserve) -> Result<Reservation, LedgerError> {
        self.transact(|books| books.reserve(&self.key, request))
    }

    /// Stores the output share of a reserved release. Only after this may the share leave this party.
    ///
    /// # Errors
    /// [`LedgerError::Aborted`] when the release was aborted meanwhile, [`LedgerError::AnswerSize`],
    /// [`LedgerError::Store`]. The receipt is used up in any case.
    pub fn commit(&self, receipt: Receipt, output_share: &[u8]) -> Result<Committed, LedgerError> {
        self.transact(|books| books.commit(&self.key, receipt, output_share))
    }

    /// Ends a reserved release without an answer. Aborting twice gives the first outcome again.
    ///
    /// # Errors
    /// [`LedgerError::Unknown`], [`LedgerError::Dead`], [`LedgerError::AlreadyCommitted`].
    pub fn abort(&self, release: ReleaseId, abort: Abort) -> Result<Aborted, LedgerError> {
        self.transact(|books| books.abort(release, abort))
    }

    /// Sequence number and hash of the last record.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn head(&self) -> Result<Head, LedgerError> {
        self.snapshot()?.head()
    }

    /// Spent amounts and limits of a task.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn report(&self, task: &str) -> Result<Report, LedgerError> {
        self.snapshot()?.report(task)
    }

    /// Writes the chain as JSON lines, without any output share.
    ///
    /// # Errors
    /// [`LedgerError::Export`] when `writer` fails, otherwise as [`Ledger::verify`].
    pub fn export(&self, writer: impl std::io::Write) -> Result<(), LedgerError> {
        self.snapshot()?.export(writer)
    }

    /// Walks the chain from its first record, recomputes every balance, mark and state, and compares.
    ///
    /// # Errors
    /// [`LedgerError::Record`], [`LedgerError::RecordVersion`], [`LedgerError::Inconsistent`].
    pub fn verify(&self) -> Result<Head, LedgerError> {
        self.snapshot()?.verify()
    }

    /// A view of the ledger as it is now, which later changes do not move.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn snapshot(&self) -> Result<Snapshot, LedgerError> {
        Snapshot::of(&self.store)
    }

    /// Runs `work` in one exclusive transaction, which is kept only if `work` succeeds.
    fn transact<T>(
        &self,
        work: impl FnOnce(&mut Books<'_>) -> Result<T, Trouble>,
    ) -> Result<T, LedgerError> {
        let transaction = self.store.begin()?;
        let (value, written) = {
            let mut books = Books::open(&transaction, self.store.path())
                .map_err(|error| self.store.failed("read", error))?;
            let value = work(&mut books).map_err(|trouble| match trouble {
                Trouble::Refused(refusal) => refusal,
                Trouble::Storage(error) => self.store.failed("write", error).into(),
            })?;
            (value, books.written())
        };
        if written {
            self.store.commit(transaction)?;
        }
        Ok(value)
    }

    /// The stored share of a committed release; see [`Reservation::Stored`].
    fn answer(
        key: &StorageKey,
        origin: &[u8; 16],
        release: ReleaseId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, LedgerError> {
        Ok(key.open(&answer_context(origin, release), sealed)?)
    }
}

fn answer_context(origin: &[u8; 16], release: ReleaseId) -> String {
    format!("ledger {} answer {release}", crate::vault::hex::encode(origin))
}
