//! A small database file: created whole, checked on every opening, two syncs per commit.
//!
//! An existing file is never initialised again, even when it is empty: what it held may be charges,
//! and charges that are forgotten can be spent twice.

use super::{VaultError, file};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CACHE_BYTES: usize = 16 << 20;
const KIND: TableDefinition<'static, &'static str, u64> = TableDefinition::new("kind");

/// What a store holds and in which version of its layout.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) version: u64,
}

/// Why a durable store cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such file.
    #[error(
        "{path} does not exist; if this node is new, create it, else restore it: what it held must not be forgotten"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file to be created is there already.
    #[error("{path} exists already and is not overwritten; open it instead")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another process; stop that one first")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk, or the quota of this user, is used up.
    #[error("no room left to write {path} ({action}); nothing was recorded. Free some space and restart")]
    Full {
        /// The file.
        path: PathBuf,
        /// What was being attempted.
        action: &'static str,
    },
    /// The content is not what was written.
    #[error(
        "{path} is damaged ({detail}). Stop this node, keep a copy of the file, and restore the newest backup; do not delete it: what it recorded would be forgotten"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// The file holds something else.
    #[error("{path} is not a {expected}; check the configured path")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// The file was written by another release of this program.
    #[error(
        "{path} has layout {found}, this program knows {known}; run the release that wrote it, or upgrade"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u64,
        /// Version known here.
        known: u64,
    },
    /// An earlier failure left the state of the disk unknown.
    #[error("{path} cannot be used since an earlier write failed; restart this node, which reads it afresh")]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being attempted.
        action: &'static str,
        /// What the system answered.
        source: Arc<io::Error>,
    },
}

impl StoreError {
    pub(crate) fn new(path: &Path, action: &'static str, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(source) => Self::io(path, action, source),
            redb::Error::PreviousIo => Self::Stopped { path },
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Busy { path },
            other => Self::Damaged { path, detail: format!("cannot {action}: {other}") },
        }
    }

    fn io(path: PathBuf, action: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, action },
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged { path, detail: format!("cannot {action}: {source}") }
            }
            _ => Self::Io { path, action, source: Arc::new(source) },
        }
    }

    fn vault(path: &Path, error: VaultError) -> Self {
        match error {
            VaultError::Io { action, source, .. } => {
                Self::Io { path: path.to_owned(), action, source: Arc::new(source) }
            }
            VaultError::Full { .. } => Self::Full { path: path.to_owned(), action: "create" },
            other => Self::Damaged { path: path.to_owned(), detail: other.to_string() },
        }
    }
}

/// An open store. Only one process can have it open.
pub(crate) struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Creates the file with what `fill` writes; it appears under its name only when complete.
    pub(crate) fn create(
        path: &Path,
        kind: Kind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Self, StoreError> {
        let staged = file::beside(path).map_err(|error| StoreError::vault(path, error))?;
        let failed = |error: redb::Error| StoreError::new(path, "initialise", error);
        let database = builder().create(staged.path()).map_err(|error| failed(error.into()))?;
        initialise(&database, kind, fill).map_err(failed)?;
        database.close().map_err(|error| failed(error.into()))?;
        let named = file::publish(staged, path).map_err(|error| StoreError::vault(path, error))?;
        if !named {
            return Err(StoreError::Exists { path: path.to_owned() });
        }
        Self::open(path, kind)
    }

    /// Opens an existing file after checking every page of it.
    pub(crate) fn open(path: &Path, kind: Kind) -> Result<Self, StoreError> {
        let length = std::fs::metadata(path)
            .map_err(|source| StoreError::io(path.to_owned(), "inspect", source))?
            .len();
        if length == 0 {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: "the file is empty".into() });
        }
        let database = builder().open(path).map_err(|error| StoreError::new(path, "open", error))?;
        let store = Self { path: path.to_owned(), database };
        store.check(kind)?;
        Ok(store)
    }

    /// A store on a backend that fails when a test wants it to.
    #[cfg(test)]
    pub(crate) fn on(
        backend: impl redb::StorageBackend,
        kind: Kind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Self {
        let database = Builder::new().create_with_backend(backend).unwrap();
        initialise(&database, kind, fill).unwrap();
        Self { path: PathBuf::from("on-test-backend.redb"), database }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the one write transaction that may be open, waiting for the one before.
    pub(crate) fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let begun = self.database.begin_write().map_err(redb::Error::from);
        begun
            .and_then(|mut transaction| {
                durable(&mut transaction)?;
                Ok(transaction)
            })
            .map_err(|error| self.failed("write", error))
    }

    /// Returns when the transaction is on the disk.
    pub(crate) fn commit(&self, transaction: WriteTransaction) -> Result<(), StoreError> {
        transaction.commit().map_err(|error| self.failed("write", error))
    }

    /// A view of everything committed so far, unmoved by later commits.
    pub(crate) fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.database.begin_read().map_err(|error| self.failed("read", error))
    }

    pub(crate) fn failed(&self, action: &'static str, error: impl Into<redb::Error>) -> StoreError {
        StoreError::new(&self.path, action, error)
    }

    fn check(&self, kind: Kind) -> Result<(), StoreError> {
        let other = || StoreError::OtherKind { path: self.path.clone(), expected: kind.name };
        let table = match self.read()?.open_table(KIND) {
            Ok(table) => table,
            Err(redb::TableError::Storage(error)) => return Err(self.failed("read", error)),
            Err(_) => return Err(other()),
        };
        let row = redb::ReadableTable::get(&table, kind.name).map_err(|error| self.failed("read", error))?;
        let found = row.ok_or_else(other)?.value();
        if found != kind.version {
            return Err(StoreError::Version { path: self.path.clone(), found, known: kind.version });
        }
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// One phase would let a crash choose between the last two states; two phases leave no choice, so that
/// a damaged last commit is an error and never a silent return to the one before. The allocator's state
/// is not written each time: every opening walks the whole file anyway.
fn durable(transaction: &mut WriteTransaction) -> Result<(), redb::Error> {
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    Ok(())
}

fn initialise(
    database: &Database,
    kind: Kind,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    durable(&mut transaction)?;
    transaction.open_table(KIND)?.insert(kind.name, kind.version)?;
    fill(&transaction)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const LEDGER: Kind = Kind { name: "ledger", version: 3 };

    fn create(path: &Path) -> Result<Store, StoreError> {
        Store::create(path, LEDGER, |_| Ok(()))
    }

    fn refusal(result: Result<Store, StoreError>) -> StoreError {
        result.err().unwrap()
    }

    #[test]
    fn a_store_is_private_and_never_created_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.redb");
        assert!(matches!(refusal(Store::open(&path, LEDGER)), StoreError::Missing { .. }));
        let open = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(refusal(create(&path)), StoreError::Exists { .. }));
        assert!(matches!(refusal(Store::open(&path, LEDGER)), StoreError::Busy { .. }));
        drop(open);
        Store::open(&path, LEDGER).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_kind_or_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.redb");
        drop(create(&path).unwrap());
        let other = Kind { name: "registry", version: 3 };
        assert!(matches!(refusal(Store::open(&path, other)), StoreError::OtherKind { .. }));
        let newer = Kind { name: "ledger", version: 4 };
        assert!(matches!(refusal(Store::open(&path, newer)), StoreError::Version { found: 3, known: 4, .. }));
    }

    #[test]
    fn a_shortened_file_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.redb");
        drop(create(&path).unwrap());
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, 63, 320, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = refusal(Store::open(&path, LEDGER));
            assert!(matches!(error, StoreError::Damaged { .. }), "{length}: {error}");
            assert!(error.to_string().contains("x.redb"));
            assert_eq!(fs::read(&path).unwrap().len(), length, "nothing was reset");
        }
    }
}
