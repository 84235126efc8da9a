//! Test bench: a ledger in a temporary directory, requests, and a disk that fills up.

use super::{
    Change, Charged, Correlations, Ledger, LedgerError, NoiseTicket, Opening, Promise, Receipt, ReleaseId,
    Reservation, Reserve, Statement, books,
};
use crate::vault::{StorageKey, Store};
use consilium_protocol::privacy::{Mechanism, Unit};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Bench {
    _directory: tempfile::TempDir,
    path: PathBuf,
    key: Arc<StorageKey>,
    ledger: Option<Ledger>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// A bench whose folder lies in this one.
    pub(super) fn within(folder: &Path) -> Self {
        let directory = tempfile::tempdir_in(folder).unwrap();
        let path = directory.path().join("ledger.redb");
        let key = Arc::new(StorageKey::load_or_create(&directory.path().join("storage.key")).unwrap());
        let ledger = Ledger::create(&path, Arc::clone(&key)).unwrap();
        ledger.open_task(&opening()).unwrap();
        Self { _directory: directory, path, key, ledger: Some(ledger) }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    pub(super) fn take(&mut self) -> Ledger {
        self.ledger.take().unwrap()
    }

    pub(super) fn key(&self) -> Arc<StorageKey> {
        Arc::clone(&self.key)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn close(&mut self) {
        self.ledger = None;
    }

    pub(super) fn try_open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.path, Arc::clone(&self.key))
    }

    pub(super) fn open(&mut self) {
        self.ledger = Some(self.try_open().unwrap());
    }

    pub(super) fn reopen(&mut self) {
        self.close();
        self.open();
    }
}

/// A book whose own budget is far above what tests ask for.
pub(super) fn opening() -> Opening {
    let epsilon = "1048576".parse().unwrap();
    let promise = Promise::new("owner".into(), Unit::Pure, epsilon, None).unwrap();
    Opening::new("chest".into(), Some(promise))
}

/// A statement of north, to be signed.
pub(super) fn statement(number: u64, change: Change) -> Statement {
    let (consortium, task, owner) = ("hospitals".into(), "chest".into(), "north".into());
    Statement { consortium, task, owner, number, at: 7, change }
}

/// An owner with its first data.
pub(super) fn charged(name: &str) -> Charged {
    Charged { name: name.into(), data_epoch: 0 }
}

/// Release `n`: 10 of 100 units, ten serials from `10 n`.
pub(super) fn request(n: u8) -> Reserve {
    Reserve {
        release: ReleaseId([n; 16]),
        task: "chest".into(),
        task_digest: [1; 32],
        client: "clinic".into(),
        owners: vec![charged("north"), charged("south")],
        content: [n; 32],
        mechanism: Mechanism::Laplace { epsilon: "1".parse().unwrap() },
        answers: 1,
        cost: 10,
        owner_limit: 100,
        client_limit: 1000,
        correlations: Correlations { epoch: [5; 16], first: 10 * u64::from(n), count: 10 },
        noise_ticket: Some(NoiseTicket { boot: [8; 16], batch: 0, place: u32::from(n) }),
        at: 1_700_000_000,
    }
}

/// Request `n` of one of many threads, each with its own epoch.
pub(super) fn wide_request(thread: u8, n: u8) -> Reserve {
    let mut request = request(n);
    request.release.0[0] = thread;
    request.correlations.epoch = [thread; 16];
    request.noise_ticket = request.noise_ticket.map(|ticket| NoiseTicket { boot: [thread; 16], ..ticket });
    request
}

pub(super) fn receipt(reservation: Result<Reservation, LedgerError>) -> Receipt {
    match reservation.unwrap() {
        Reservation::Reserved(receipt) => receipt,
        Reservation::Stored(_) => panic!("expected a new reservation"),
    }
}

/// A reservation that is left as it is.
pub(super) fn granted(reservation: Result<Reservation, LedgerError>) {
    drop(receipt(reservation));
}

/// A disk in memory with room for a number of writes; then it is full.
#[derive(Debug)]
pub(super) struct Filling {
    inner: InMemoryBackend,
    room: Arc<AtomicU64>,
}

impl Filling {
    fn take_room(&self) -> io::Result<()> {
        let taken = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1));
        taken.map(|_| ()).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl StorageBackend for Filling {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.take_room()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.take_room()?;
        self.inner.write(offset, data)
    }
}

/// A ledger on a disk whose room is set by the test.
pub(super) fn filling_ledger() -> (Ledger, Arc<AtomicU64>) {
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let backend = Filling { inner: InMemoryBackend::new(), room: Arc::clone(&room) };
    let store = Store::on(backend, super::KIND, |transaction| books::initialise(transaction, [1; 16]));
    let ledger = Ledger { store, key: Arc::new(StorageKey::random().unwrap()) };
    ledger.open_task(&opening()).unwrap();
    (ledger, room)
}
