//! Pools of correlated randomness on disk: made ahead of demand, kept over restarts, used at most once.
//!
//! A *pool* belongs to a task, its plan, and its models with the masks of their weights. It is named by fresh
//! randomness of both parties when it begins. Its *bundles* are numbered; a *batch* of consecutive serials is
//! one spool file, `<task>/<pool>/<first>.spool`, beside the index `pools.redb`:
//!
//! ```text
//!   both make a batch ─▶ file, renamed, synced ─▶ row in the index ─▶ One confirms ─▶ Zero offers its serials
//!   reserve a serial  ─▶ mark raised in the ledger, on both sides ─▶ record read ─▶ first byte to the peer
//!   all serials spent ─▶ row goes, and with it the key of the file ─▶ file removed
//! ```
//!
//! **At most once.** This module only stores; what may be used is for the ledger to say. Its mark of a pool, the
//! first serial not yet burnt, rises in the very transaction that records a reservation, on both sides before
//! any byte that depends on the serial is sent, and a reservation below the mark is refused. So no state of
//! these files, however old, brings a serial back. When the parties meet again they take the higher of both
//! marks and only the batches that both hold with the same tag; what one of them reserved and the other did not
//! is burnt on both. A retired pool has the mark [`BURNT`](crate::ledger::BURNT), for ever.
//!
//! **A disk that went back.** The copy of one party is noticed: the peer remembers the newest head of that
//! party's ledger, which every reservation and every burn moves. The pools are then given up on both sides, and
//! nothing is served until the newer ledger is back. A copy from before which nothing was reserved or burnt since
//! is not old in any way that matters. What no disk can tell is that *both* parties were restored to the same
//! moment: their heads agree, and serials that were used after it may be used again. Operators who restore
//! both disks must remove `pools` on one of them first; its pools are then unknown there and burnt on the other.
//!
//! **At rest.** Each file has a random key of its own, which is stored in the index under the storage key and
//! goes when the batch is spent. A backup of the whole state folder that was taken before still opens the
//! bundles of that time; keep `storage.key` out of backups.
//!
//! **Loss is cheap.** A file that is cut, damaged or not ours costs its batch, an index that cannot be read costs
//! all pools: both are discarded on both sides by the same rule as after a crash, and made anew.

mod error;
mod record;
mod spool;
#[cfg(test)]
mod tests;

pub use error::PoolError;
pub use record::{Batch, Holding, Purpose};
pub use spool::BUNDLE_WORDS_MAX;

use crate::crash::{self, Step};
use crate::vault::{self, Kind, StorageKey, Store, StoreError, hex};
use consilium_protocol::algebra::Seed;
use consilium_protocol::party::Party;
use consilium_protocol::stock::Tape;
use record::{BatchRow, PoolRow, decode, encode};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use spool::{HEADER_BYTES, Spool, record_bytes};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Name of a pool.
pub type PoolId = [u8; 16];

const KIND: Kind = Kind { name: "consilium pools", version: 1 };
const INDEX_FILE: &str = "pools.redb";
const POOLS: TableDefinition<'static, &'static [u8; 16], &'static [u8]> = TableDefinition::new("pools");
const BATCHES: TableDefinition<'static, (&'static [u8; 16], u64), &'static [u8]> =
    TableDefinition::new("batches");

/// One party's half of the correlated randomness of one evaluation.
pub enum Bundle {
    /// Everything expands from the seed.
    Seeded(Seed, Zeroizing<Vec<u64>>),
    /// The dependent words are spelt out.
    Stored(Seed, Zeroizing<Vec<u64>>),
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bundle")
    }
}

impl Bundle {
    /// The tape that gates read from.
    pub fn into_tape(self) -> Tape {
        match self {
            Self::Seeded(seed, mut words) => Tape::new(Party::Zero, &seed, std::mem::take(&mut *words)),
            Self::Stored(seed, mut words) => Tape::stored(&seed, std::mem::take(&mut *words)),
        }
    }
}

/// All pools of one seat. All methods block on the disk.
pub struct Pools {
    /// Closed after a failure: a store whose write failed works again only when it is opened afresh.
    store: Mutex<Option<Store>>,
    directory: PathBuf,
    key: Arc<StorageKey>,
    /// Held while a batch is written and while a pool's folder is removed, which must not meet.
    folders: Mutex<()>,
}

struct Rows<'t> {
    pools: Table<'t, &'static [u8; 16], &'static [u8]>,
    batches: Table<'t, (&'static [u8; 16], u64), &'static [u8]>,
}

impl Pools {
    /// Opens the pools in a directory of their own, made if absent, and removes files that no row knows.
    /// An index that cannot be read is discarded with all files, since the ledger says what is burnt; the
    /// second value tells of it.
    ///
    /// # Errors
    /// [`PoolError::Vault`], [`PoolError::Store`] where the directory cannot be written.
    pub fn open(directory: &Path, key: Arc<StorageKey>) -> Result<(Self, Option<PoolError>), PoolError> {
        vault::private_directory(directory)?;
        let index = directory.join(INDEX_FILE);
        let (store, fault) = match Store::open(&index, KIND) {
            Ok(store) => (store, None),
            Err(StoreError::Missing { .. }) => (create(&index)?, None),
            Err(
                error @ (StoreError::Damaged { .. }
                | StoreError::OtherKind { .. }
                | StoreError::Version { .. }),
            ) => {
                let fault = PoolError::Index { path: index.clone(), detail: error.to_string() };
                vault::remove_durably(&index)?;
                (create(&index)?, Some(fault))
            }
            Err(error) => return Err(error.into()),
        };
        let (store, folders) = (Mutex::new(Some(store)), Mutex::default());
        let pools = Self { store, directory: directory.to_owned(), key, folders };
        pools.sweep()?;
        Ok((pools, fault))
    }

    /// All pools with what they are for.
    ///
    /// # Errors
    /// [`PoolError::Store`].
    pub fn list(&self) -> Result<Vec<(PoolId, Purpose)>, PoolError> {
        self.transact(|rows| {
            let mut found = Vec::new();
            for row in rows.pools.iter()? {
                let (pool, row) = row?;
                if let Some(row) = decode::<PoolRow>(row.value()) {
                    found.push((*pool.value(), row.purpose));
                }
            }
            Ok((found, false))
        })
    }

    /// Begins a pool.
    ///
    /// # Errors
    /// [`PoolError::Store`].
    pub fn create(&self, pool: PoolId, purpose: Purpose) -> Result<(), PoolError> {
        let row = encode(&PoolRow { purpose, next: 0 });
        self.transact(|rows| {
            rows.pools.insert(&pool, row.as_slice())?;
            Ok(((), true))
        })
    }

    /// Forgets a pool and removes its files. One that is not here is fine.
    ///
    /// # Errors
    /// [`PoolError::Store`], [`PoolError::Vault`]; the rows are gone then, and the next opening removes
    /// the files.
    pub fn retire(&self, pool: PoolId) -> Result<(), PoolError> {
        let _folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.transact(|rows| {
            let Some(row) = rows.pools.remove(&pool)?.map(|row| row.value().to_vec()) else {
                return Ok((None, false));
            };
            rows.batches.retain(|(of, _), _| *of != pool)?;
            Ok((decode::<PoolRow>(&row), true))
        })?;
        crash::at(Step::BurnFile);
        match former {
            Some(row) => Ok(vault::remove_tree(&self.folder(&row.purpose.task, pool))?),
            None => Ok(()),
        }
    }

    /// What is held of a pool whose mark in the ledger is `mark`. Batches below it and batches whose file
    /// is damaged are removed; the second value tells of the damage.
    ///
    /// # Errors
    /// [`PoolError::Gone`], [`PoolError::Store`], [`PoolError::Vault`].
    pub fn holding(&self, pool: PoolId, mark: u64) -> Result<(Holding, Vec<PoolError>), PoolError> {
        let (row, batches) = self.rows_of(pool)?;
        let mut held = Holding { pool, mark, next: row.next, batches: Vec::new() };
        let mut faults = Vec::new();
        for (batch, batch_row) in batches {
            let path = self.file(&row.purpose.task, pool, batch.first);
            let spool = Spool { path: &path, pool, purpose: &row.purpose, batch };
            let checked = if batch.end() > mark { spool.check(&batch_row) } else { Ok(()) };
            let whole = checked.is_ok();
            faults.extend(checked.err());
            if whole && batch.end() > mark {
                held.batches.push(batch);
            } else {
                self.discard(pool, batch.first)?;
            }
        }
        Ok((held, faults))
    }

    /// Keeps of a pool only what both parties agreed on.
    ///
    /// # Errors
    /// As [`Pools::holding`].
    pub fn settle(&self, agreed: &Holding) -> Result<(), PoolError> {
        let (_, batches) = self.rows_of(agreed.pool)?;
        for (batch, _) in batches {
            if !agreed.batches.contains(&batch) {
                self.discard(agreed.pool, batch.first)?;
            }
        }
        self.transact(|rows| {
            let mut row = rows.pool(agreed.pool)?;
            let rises = row.next < agreed.next;
            row.next = row.next.max(agreed.next);
            rows.pools.insert(&agreed.pool, encode(&row).as_slice())?;
            Ok(((), rises))
        })
    }

    /// Writes this party's half of a batch. When this returns it is on the disk.
    ///
    /// # Errors
    /// [`PoolError::Falls`], [`PoolError::Shape`], [`PoolError::Gone`], [`PoolError::Vault`] (a full disk
    /// among others), [`PoolError::Store`]; the pool is as before then.
    pub fn write(
        &self,
        pool: PoolId,
        first: u64,
        tag: [u8; 16],
        bundles: &[Bundle],
    ) -> Result<Batch, PoolError> {
        let record_bytes = record_bytes(bundles)?;
        let _folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(bundles.len()).map_err(|_| PoolError::Shape { count: bundles.len() })?;
        let batch = Batch { first, count, tag };
        let (row, _) = self.rows_of(pool)?;
        if first < row.next {
            return Err(PoolError::Falls { first, next: row.next });
        }
        let path = self.file(&row.purpose.task, pool, first);
        let key = StorageKey::random()?;
        let sealed = self.key.seal_key(&key_context(pool, first), &key)?;
        crash::at(Step::RefillWrite);
        vault::private_directory(&self.folder(&row.purpose.task, pool))?;
        Spool { path: &path, pool, purpose: &row.purpose, batch }.write(&key, bundles)?;
        crash::at(Step::RefillIndex);
        let entered = self.transact(|rows| {
            let mut row = rows.pool(pool)?;
            if first < row.next {
                return Err(PoolError::Falls { first, next: row.next }.into());
            }
            row.next = batch.end();
            let batch_row = BatchRow { count, record_bytes, tag, key: sealed };
            rows.pools.insert(&pool, encode(&row).as_slice())?;
            rows.batches.insert((&pool, first), encode(&batch_row).as_slice())?;
            Ok(((), true))
        });
        if entered.is_err() {
            vault::remove_durably(&path)?;
        }
        entered.map(|()| batch)
    }

    /// Reads the bundle of one serial. The caller has its reservation, or reads ahead for one.
    ///
    /// # Errors
    /// [`PoolError::NotHeld`], [`PoolError::Damaged`], [`PoolError::Gone`], [`PoolError::Store`].
    pub fn read(&self, pool: PoolId, serial: u64) -> Result<Bundle, PoolError> {
        let (row, first, batch_row) = self.transact(|rows| {
            let row = rows.pool(pool)?;
            let mut below = rows.batches.range((&pool, 0)..=(&pool, serial))?;
            let last = below.next_back().transpose()?;
            let held =
                last.and_then(|(key, value)| Some((key.value().1, decode::<BatchRow>(value.value())?)));
            let (first, batch_row) = held.ok_or(PoolError::NotHeld { pool, serial })?;
            Ok(((row, first, batch_row), false))
        })?;
        let batch = Batch { first, count: batch_row.count, tag: batch_row.tag };
        if serial >= batch.end() {
            return Err(PoolError::NotHeld { pool, serial });
        }
        let path = self.file(&row.purpose.task, pool, first);
        let spool = Spool { path: &path, pool, purpose: &row.purpose, batch };
        let key = self.key.open_key(&key_context(pool, first), &batch_row.key);
        let key = key.map_err(|_| PoolError::Damaged {
            path: self.directory.join(INDEX_FILE),
            detail: format!("does not give the key of {}", path.display()),
        })?;
        spool.read(&batch_row, &key, serial)
    }

    /// Forgets one batch: first its key, then its file. One that is not here is fine.
    ///
    /// # Errors
    /// [`PoolError::Store`], [`PoolError::Vault`].
    pub fn discard(&self, pool: PoolId, first: u64) -> Result<(), PoolError> {
        crash::at(Step::BurnRow);
        let task = self.transact(|rows| {
            let there = rows.batches.remove((&pool, first))?.is_some();
            let task = rows.pools.get(&pool)?.and_then(|row| decode::<PoolRow>(row.value()));
            Ok((task.map(|row| row.purpose.task), there))
        })?;
        crash::at(Step::BurnFile);
        let Some(task) = task else { return Ok(()) };
        Ok(vault::remove_durably(&self.file(&task, pool, first))?)
    }

    /// Bytes on the disk of a pool.
    ///
    /// # Errors
    /// [`PoolError::Gone`], [`PoolError::Store`].
    pub fn bytes(&self, pool: PoolId) -> Result<u64, PoolError> {
        let (_, batches) = self.rows_of(pool)?;
        let size = |row: &BatchRow| {
            HEADER_BYTES.saturating_add(row.record_bytes.saturating_mul(u64::from(row.count)))
        };
        Ok(batches.iter().fold(0, |sum: u64, (_, row)| sum.saturating_add(size(row))))
    }

    fn rows_of(&self, pool: PoolId) -> Result<(PoolRow, Vec<(Batch, BatchRow)>), PoolError> {
        self.transact(|rows| {
            let row = rows.pool(pool)?;
            let mut batches = Vec::new();
            for found in rows.batches.range((&pool, 0)..=(&pool, u64::MAX))? {
                let (key, value) = found?;
                if let Some(value) = decode::<BatchRow>(value.value()) {
                    batches.push((Batch { first: key.value().1, count: value.count, tag: value.tag }, value));
                }
            }
            Ok(((row, batches), false))
        })
    }

    /// Removes what a crash left, or a restored backup brought: every file without a row.
    fn sweep(&self) -> Result<(), PoolError> {
        let mut known = BTreeSet::new();
        for (pool, purpose) in self.list()? {
            for (batch, _) in self.rows_of(pool)?.1 {
                known.insert(self.file(&purpose.task, pool, batch.first));
            }
            known.insert(self.folder(&purpose.task, pool));
            known.insert(self.directory.join(&purpose.task));
        }
        known.insert(self.directory.join(INDEX_FILE));
        prune(&self.directory, &known)
    }

    fn folder(&self, task: &str, pool: PoolId) -> PathBuf {
        self.directory.join(task).join(hex::encode(&pool))
    }

    fn file(&self, task: &str, pool: PoolId, first: u64) -> PathBuf {
        self.folder(task, pool).join(format!("{first}.spool"))
    }

    /// Runs `work` in one exclusive transaction, which is kept if `work` succeeds and says that it wrote.
    fn transact<T>(
        &self,
        work: impl FnOnce(&mut Rows<'_>) -> Result<(T, bool), Trouble>,
    ) -> Result<T, PoolError> {
        let mut held = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match held.take() {
            Some(store) => store,
            None => Store::open(&self.directory.join(INDEX_FILE), KIND)?,
        };
        let done = transact(&store, work);
        if !matches!(done, Err(PoolError::Store(_))) {
            *held = Some(store);
        }
        done
    }
}

fn transact<T>(
    store: &Store,
    work: impl FnOnce(&mut Rows<'_>) -> Result<(T, bool), Trouble>,
) -> Result<T, PoolError> {
    let transaction = store.begin()?;
    let (value, written) = {
        let mut rows = Rows::open(&transaction).map_err(|error| store.failed("read", error))?;
        work(&mut rows).map_err(|trouble| match trouble {
            Trouble::Refused(refusal) => refusal,
            Trouble::Storage(error) => store.failed("write", error).into(),
        })?
    };
    if written {
        store.commit(transaction)?;
    }
    Ok(value)
}

/// Why work in a transaction stopped; nothing of it is kept.
enum Trouble {
    Refused(PoolError),
    Storage(redb::Error),
}

impl From<PoolError> for Trouble {
    fn from(refusal: PoolError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<redb::StorageError> for Trouble {
    fn from(error: redb::StorageError) -> Self {
        Self::Storage(error.into())
    }
}

impl<'t> Rows<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { pools: transaction.open_table(POOLS)?, batches: transaction.open_table(BATCHES)? })
    }

    fn pool(&self, pool: PoolId) -> Result<PoolRow, Trouble> {
        let row = self.pools.get(&pool)?.and_then(|row| decode(row.value()));
        Ok(row.ok_or(PoolError::Gone { pool })?)
    }
}

fn create(index: &Path) -> Result<Store, PoolError> {
    Ok(Store::create(index, KIND, |transaction| Rows::open(transaction).map(|_| ()))?)
}

fn key_context(pool: PoolId, first: u64) -> String {
    format!("spool key of pool {} from serial {first}", hex::encode(&pool))
}

/// Removes everything below `folder` that is not in `known`.
fn prune(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<(), PoolError> {
    let failed = |source| vault::VaultError::io(folder, "list", source);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, directory) = (entry.path(), entry.file_type().map_err(failed)?.is_dir());
        match (known.contains(&path), directory) {
            (true, true) => prune(&path, known)?,
            (true, false) => {}
            (false, true) => vault::remove_tree(&path)?,
            (false, false) => vault::remove_durably(&path)?,
        }
    }
    Ok(())
}
