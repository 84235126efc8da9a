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
//! - Serials and noise tickets are used at most once, whatever happens afterwards: the mark of a pool is
//!   raised in the transaction of the reservation, a reservation below it is refused, and it never falls.
//! - Every change is a record of a hash chain. The peer remembers the head, so that a restored old disk
//!   is noticed ([`Ledger::check_peer_head`], [`Ledger::check_own_head`]).
//! - A task's book is opened once, for one delta, unit and meaning. An owner's account belongs to one *data
//!   epoch*: another model continues it, until the owner signs that its records are disjoint from all earlier
//!   ones. A budget is what the book was opened with, or what the owner signed last; never an edit.
//! - Where several pairs serve a task, each keeps the books of its own slice, which its opening fixes: limits are
//!   that part of what the budget gives, and no pair needs to hear of another.
//! - Times in records tell people when; nothing is decided by them.
//!
//! Amounts are zero-concentrated divergence in units of 2^-40.

mod audit;
mod books;
mod declare;
mod error;
mod export;
mod handle;
mod history;
mod opening;
mod peer;
mod record;
mod recover;
mod release;
mod report;
mod request;
mod spend;
mod statement;

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod full;
#[cfg(test)]
mod torn;
#[cfg(test)]
mod trial;

pub use audit::{AUDIT_LINE_BYTES_MAX, Audit, AuditError, Audited, compare};
pub use error::LedgerError;
pub use export::{ExportHeader, Exported};
pub use handle::{LedgerHandle, LedgerThread};
pub use history::{OwnerBooks, Past, RecordedStatement};
pub use opening::{CONVERSION, Opening, Promise, sliced};
pub use peer::compare_heads;
pub use record::{BURNT, Entry, Head, Record};
pub use release::{Abort, Aborted, Committed, Receipt, Reservation};
pub use report::{Account, Report, Snapshot};
pub use request::{Charged, Correlations, NoiseTicket, ReleaseId, Reserve, seconds_now};
pub use statement::{Change, SignedStatement, Statement};

use crate::crash::{self, Step};
use crate::vault::{Kind, StorageKey, Store};
use books::{Books, Trouble};
use std::path::Path;
use std::sync::Arc;

const KIND: Kind = Kind { name: "consilium privacy ledger", version: 3 };

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

    /// Opens the book of a task. Where it is open already, only its budget may differ, which then changes
    /// nothing: budgets change by [`Ledger::state`].
    ///
    /// # Errors
    /// [`LedgerError::OtherPromise`], [`LedgerError::Promise`], [`LedgerError::Conversion`].
    pub fn open_task(&self, opening: &Opening) -> Result<(), LedgerError> {
        self.transact(|books| books.open_task(opening))
    }

    /// Records an owner's statement about its account, and says where. That the signer is the owner, the
    /// caller knows. The same statement again is found where it stands.
    ///
    /// # Errors
    /// [`LedgerError::Signature`], [`LedgerError::StatementOrder`], [`LedgerError::StatementDiffers`],
    /// [`LedgerError::DataEpoch`], [`LedgerError::NotOpened`], [`LedgerError::NothingPromised`].
    pub fn state(&self, signed: &SignedStatement) -> Result<Head, LedgerError> {
        self.transact(|books| books.state(signed))
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

    /// First serial of a pool that may still be used: 0 for one that this ledger never saw, [`BURNT`] for
    /// one that is retired.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn mark(&self, pool: [u8; 16]) -> Result<u64, LedgerError> {
        self.transact(|books| books.mark(&pool))
    }

    /// Gives up all serials of a pool below `below`, durably, and says where its mark is then. A mark never
    /// falls.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn burn(&self, pool: [u8; 16], below: u64) -> Result<u64, LedgerError> {
        self.transact(|books| books.burn(pool, below))
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
    fn transact<T>(&self, work: impl FnOnce(&mut Books<'_>) -> Result<T, Trouble>) -> Result<T, LedgerError> {
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
            crash::at(Step::LedgerWrite);
            self.store.commit(transaction)?;
            crash::at(Step::LedgerDurable);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::trial::{Bench, charged, filling_ledger, receipt, request};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::sync::atomic::Ordering;

    #[test]
    fn a_full_disk_refuses_and_whatever_it_said_before_holds() {
        let mut refused = 0;
        for room in (0..60).step_by(3) {
            let (ledger, left) = filling_ledger();
            let mut answered = 0;
            left.store(room, Ordering::Relaxed);
            let error = (0..10).find_map(|n| {
                let paid = match ledger.reserve(&request(n)) {
                    Ok(paid) => receipt(Ok(paid)),
                    Err(error) => return Some(error),
                };
                ledger.commit(paid, &[n]).map(|_| answered += 1).err()
            });
            left.store(u64::MAX, Ordering::Relaxed);
            let Some(error) = error else { continue };
            refused += 1;
            assert!(error.to_string().contains("no room left"), "{error}");
            assert!(error.to_string().contains(".redb"), "{error}");
            let again = ledger.reserve(&request(11)).unwrap_err();
            assert!(again.to_string().contains("restart"), "nothing goes on: {again}");
            if let Ok(report) = ledger.report("chest") {
                assert!(report.answered >= answered);
            }
        }
        assert!(refused > 10, "{refused}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_and_not_reset() {
        let mut bench = Bench::new();
        for n in 0..3 {
            let paid = receipt(bench.ledger().reserve(&request(n)));
            bench.ledger().commit(paid, &[n]).unwrap();
        }
        bench.close();
        let whole = std::fs::read(bench.path()).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 64) {
            std::fs::write(bench.path(), &whole[..length]).unwrap();
            let error = bench.try_open().err().unwrap();
            assert!(error.to_string().contains("ledger.redb"), "{length}: {error}");
            assert_eq!(std::fs::read(bench.path()).unwrap().len(), length);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_or_changes_nothing() {
        let mut bench = Bench::new();
        for n in 0..3 {
            let paid = receipt(bench.ledger().reserve(&request(n)));
            bench.ledger().commit(paid, &[n]).unwrap();
        }
        let (head, report) = (bench.ledger().head().unwrap(), bench.ledger().report("chest").unwrap());
        bench.close();
        let whole = std::fs::read(bench.path()).unwrap();
        let mut found = 0;
        // A step that is prime to every power of two visits all offsets within pages.
        for position in (9..whole.len()).step_by((whole.len() / 300) | 1) {
            let mut spoilt = whole.clone();
            spoilt[position] ^= 0x10;
            std::fs::write(bench.path(), &spoilt).unwrap();
            match bench.try_open() {
                Err(_) => found += 1,
                Ok(ledger) => {
                    assert_eq!(ledger.head().unwrap(), head, "byte {position}");
                    assert_eq!(ledger.report("chest").unwrap(), report, "byte {position}");
                }
            }
        }
        assert!(found > 0);
    }

    /// Set for the child of the next test: where its ledger is.
    const CHILD: &str = "CONSILIUM_TEST_LEDGER_OF_CHILD";
    const CHILD_COST: u64 = 1;

    fn child_request(n: u64) -> Reserve {
        let mut request = request(0);
        request.release.0[..8].copy_from_slice(&n.to_le_bytes());
        request.content[..8].copy_from_slice(&n.to_le_bytes());
        (request.cost, request.owner_limit, request.client_limit) = (CHILD_COST, u64::MAX, u64::MAX);
        request.correlations.first = 10 * n;
        request.noise_ticket = Some(NoiseTicket { boot: [8; 16], batch: n, place: 0 });
        request
    }

    /// Reserves and commits until it is killed, and says each answer as a client would see it.
    fn live_as_child(path: &Path) {
        let directory = path.parent().unwrap();
        let key = Arc::new(StorageKey::load(&directory.join("storage.key")).unwrap());
        let ledger = Ledger::open(path, key).unwrap();
        let mark = ledger.snapshot().unwrap().marks().unwrap().values().copied().max().unwrap_or(0);
        for n in mark / 10.. {
            let paid = receipt(ledger.reserve(&child_request(n)));
            ledger.commit(paid, &n.to_le_bytes()).unwrap();
            writeln!(std::io::stdout(), "answered {n}").unwrap();
        }
    }

    #[test]
    fn nothing_is_forgotten_when_the_process_is_killed() {
        if let Some(path) = std::env::var_os(CHILD) {
            return live_as_child(Path::new(&path));
        }
        let mut bench = Bench::new();
        bench.close();
        let mut answers = Vec::new();
        for round in 0..12 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg("ledger::tests::nothing_is_forgotten_when_the_process_is_killed")
                .env(CHILD, bench.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            // The test harness writes its own words before the first answer, some on the same line.
            let answer = |line: String| Some(line.split_once("answered ")?.1.parse::<u64>().unwrap());
            answers.extend(lines.by_ref().filter_map(answer).take(3));
            // A different moment of its work in each round, spread over a few commits.
            for _ in 0..round * 10_000 {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            answers.extend(lines.filter_map(answer));
            child.wait().unwrap();

            bench.open();
            let report = bench.ledger().report("chest").unwrap();
            let answered = u64::try_from(answers.len()).unwrap();
            assert!(report.owners[0].spent >= CHILD_COST * answered);
            assert!(report.answered >= answered);
            assert_eq!(report.in_progress, 0, "what was not committed is dead");
            for n in &answers {
                let Reservation::Stored(share) = bench.ledger().reserve(&child_request(*n)).unwrap() else {
                    panic!("release {n} was answered before")
                };
                assert_eq!(share.as_slice(), n.to_le_bytes());
                let mut reuse = child_request(*n);
                reuse.release = ReleaseId([0xff; 16]);
                let refused = bench.ledger().reserve(&reuse);
                assert!(matches!(refused, Err(LedgerError::SerialReused { .. })));
            }
            bench.close();
        }
        answers.sort_unstable();
        let told = answers.len();
        answers.dedup();
        assert_eq!(told, answers.len(), "no release was answered twice");
        assert!(told >= 36, "three answers a round were waited for: {told}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve { id: u8, content: u8, client: u8, owners: u8, cost: u64, first: u64 },
        Commit { id: u8 },
        Abort { id: u8, both: bool },
        Reopen,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let reserve = (0..12_u8, 0..2_u8, 0..2_u8, 1..8_u8, 0..40_u64, 0..60_u64).prop_map(
            |(id, content, client, owners, cost, first)| Step::Reserve {
                id,
                content: content / 2 + u8::from(id % 5 == 0) * content,
                client,
                owners,
                cost,
                first,
            },
        );
        prop::collection::vec(
            prop_oneof![
                6 => reserve,
                3 => (0..12_u8).prop_map(|id| Step::Commit { id }),
                2 => (0..12_u8, any::<bool>()).prop_map(|(id, both)| Step::Abort { id, both }),
                1 => Just(Step::Reopen),
            ],
            1..40,
        )
    }

    /// The ledger as one would explain it: a list of what is paid, nothing durable.
    #[derive(Default)]
    struct Model {
        phases: BTreeMap<u8, (&'static str, Reserve)>,
        spent: BTreeMap<String, u64>,
        mark: u64,
    }

    impl Model {
        fn reserve(&mut self, id: u8, request: &Reserve) -> &'static str {
            if let Some((phase, first)) = self.phases.get(&id) {
                let same = first.content == request.content && first.client == request.client;
                return if same { phase } else { "differs" };
            }
            if request.correlations.first < self.mark {
                return "serial";
            }
            let accounts: Vec<_> = request.owners.iter().map(|owner| (owner.name.clone(), 100)).collect();
            let accounts = [accounts, vec![(request.client.clone(), 120)]].concat();
            for (name, limit) in &accounts {
                if self.spent.get(name).unwrap_or(&0) + request.cost > *limit {
                    return "budget";
                }
            }
            for (name, _) in accounts {
                *self.spent.entry(name).or_default() += request.cost;
            }
            self.mark = request.correlations.first + u64::from(request.correlations.count);
            self.phases.insert(id, ("reserved", request.clone()));
            "new"
        }

        fn abort(&mut self, id: u8, both: bool) {
            let Some((phase, request)) = self.phases.get_mut(&id) else { return };
            if *phase != "reserved" {
                return;
            }
            *phase = "aborted";
            let owners = request.owners.iter().map(|owner| &owner.name);
            for name in owners.chain([&request.client]).filter(|_| both) {
                *self.spent.get_mut(name).unwrap() -= request.cost;
            }
        }
    }

    fn named(result: &Result<Reservation, LedgerError>) -> &'static str {
        match result {
            Ok(Reservation::Reserved(_)) => "new",
            Ok(Reservation::Stored(_)) => "committed",
            Err(LedgerError::ContentDiffers { .. }) => "differs",
            Err(LedgerError::InProgress { .. }) => "reserved",
            Err(LedgerError::Dead { .. }) => "dead",
            Err(LedgerError::Aborted { .. }) => "aborted",
            Err(LedgerError::SerialReused { .. }) => "serial",
            Err(LedgerError::OwnerBudget { .. } | LedgerError::ClientBudget { .. }) => "budget",
            Err(other) => panic!("{other}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_ledger_does_what_a_trivial_model_does(steps in steps()) {
            let mut bench = Bench::new();
            let (mut model, mut receipts) = (Model::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Reserve { id, content, client, owners, cost, first } => {
                        let mut asked = request(id);
                        asked.content = [content; 32];
                        asked.client = format!("client-{client}");
                        asked.owners =
                            (0..3).filter(|bit| owners >> bit & 1 == 1).map(|bit| charged(&format!("owner-{bit}"))).collect();
                        (asked.cost, asked.client_limit, asked.noise_ticket) = (cost, 120, None);
                        (asked.correlations.first, asked.correlations.count) = (first, 3);
                        let expected = model.reserve(id, &asked);
                        let got = bench.ledger().reserve(&asked);
                        prop_assert_eq!(named(&got), expected);
                        match got {
                            Ok(Reservation::Reserved(paid)) => drop(receipts.insert(id, paid)),
                            Ok(Reservation::Stored(share)) => prop_assert_eq!(share.as_slice(), &[id, 77]),
                            Err(_) => {}
                        }
                    }
                    Step::Commit { id } => {
                        let Some(paid) = receipts.remove(&id) else { continue };
                        let (phase, _) = model.phases.get_mut(&id).unwrap();
                        let may = *phase == "reserved";
                        prop_assert_eq!(bench.ledger().commit(paid, &[id, 77]).is_ok(), may);
                        *phase = if may { "committed" } else { phase };
                    }
                    Step::Abort { id, both } => {
                        let abort = if both { Abort::Bilateral } else { Abort::Alone };
                        let _ = bench.ledger().abort(ReleaseId([id; 16]), abort);
                        model.abort(id, both);
                    }
                    Step::Reopen => {
                        bench.reopen();
                        for (phase, _) in model.phases.values_mut().filter(|(phase, _)| *phase == "reserved") {
                            *phase = "dead";
                        }
                    }
                }
            }
            let report = bench.ledger().report("chest").unwrap();
            let accounts = report.owners.iter().chain(&report.clients);
            let spent: BTreeMap<_, _> = accounts.map(|a| (a.name.clone(), a.spent)).collect();
            prop_assert_eq!(spent, model.spent);
            bench.ledger().verify().unwrap();
        }
    }
}
