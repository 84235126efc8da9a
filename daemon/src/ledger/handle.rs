//! The ledger for asynchronous callers: one thread, and one transaction for all who wait at once.
//!
//! A commit costs two syncs of the disk however much it holds. While one is on its way, further requests
//! queue up, and the next transaction takes them all. Nobody is answered before it is on the disk.

use super::books::{Books, Trouble};
use super::{
    Abort, Aborted, Committed, Head, Ledger, LedgerError, Receipt, ReleaseId, Report, Reservation, Reserve,
    SignedStatement, Snapshot,
};
use crate::pulse::{Probe, Pulse, pulse};
use crate::vault::StoreError;
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Most requests in one transaction.
const GROUP_MAX: usize = 64;

/// A cheap way to the ledger's thread; clones share it.
///
/// A future that is dropped before it is ready withdraws nothing: what it asked for may happen. A
/// reservation that nobody waits for any more is aborted and stays spent.
#[derive(Clone)]
pub struct LedgerHandle {
    queue: mpsc::Sender<Box<dyn Request>>,
    probe: Probe,
}

/// The owner of the ledger's thread. Dropping it finishes what is queued, closes the file and joins.
pub struct LedgerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LedgerHandle {
    /// Moves the ledger to a thread of its own. At most `queue_max` requests wait; further callers wait
    /// for a place.
    ///
    /// # Errors
    /// [`LedgerError::Thread`].
    pub fn start(ledger: Ledger, queue_max: usize) -> Result<(Self, LedgerThread), LedgerError> {
        let (queue, requests) = mpsc::channel(queue_max.max(1));
        let (stop, stopped) = oneshot::channel();
        let (probe, pulse) = pulse("ledger");
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || futures::executor::block_on(serve(ledger, requests, stopped, pulse)))
            .map_err(LedgerError::Thread)?;
        Ok((Self { queue, probe }, LedgerThread { stop: Some(stop), thread: Some(thread) }))
    }

    /// Asks the ledger's thread whether it turns: it does not while the disk does not answer.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// See [`Ledger::reserve`].
    ///
    /// # Errors
    /// As there, and [`LedgerError::Closed`]; so for all methods here.
    pub async fn reserve(&self, request: Reserve) -> Result<Reservation, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.hear(reserving(request, reply), answer).await
    }

    /// Reserves for several releases in one transaction; each is granted or refused by itself, in order.
    /// Where `shown` names a peer and the head of its ledger, that head is checked and kept first, and
    /// nothing is granted if it is refused. The serials of a refused request pass to the next one where
    /// `pass_on` says so, so that a refusal burns none.
    ///
    /// # Errors
    /// The refusal of the head, or of the disk, which is everybody's. Those of [`Ledger::reserve`] stand in
    /// the list.
    pub async fn reserve_all(
        &self,
        shown: Option<(String, Head)>,
        mut requests: Vec<Reserve>,
        pass_on: bool,
    ) -> Result<Vec<Result<Reservation, LedgerError>>, LedgerError> {
        let work = move |ledger: &Ledger, books: &mut Books<'_>| {
            if let Some((peer, head)) = shown {
                books.set_peer_head(&peer, head)?;
            }
            let mut serials =
                requests.iter().map(|request| request.correlations).collect::<Vec<_>>().into_iter();
            let mut next = serials.next();
            let mut outcomes = Vec::with_capacity(requests.len());
            for request in &mut requests {
                request.correlations = next.unwrap_or(request.correlations);
                let outcome = apart(books.reserve(&ledger.key, request))?;
                if !pass_on || matches!(outcome, Ok(Reservation::Reserved(_))) {
                    next = serials.next();
                }
                outcomes.push(outcome);
            }
            Ok(outcomes)
        };
        let orphan = |outcomes: Vec<_>| outcomes.into_iter().flatten().filter_map(unheard).collect();
        let (reply, answer) = oneshot::channel();
        self.hear(Box::new(Ask { work: Some(work), result: None, reply, orphan }), answer).await
    }

    /// Commits several releases in one transaction; each succeeds or is refused by itself, in order.
    ///
    /// # Errors
    /// That of the disk, which is everybody's. Those of [`Ledger::commit`] stand in the list.
    pub async fn commit_all(
        &self,
        answers: Vec<(Receipt, Zeroizing<Vec<u8>>)>,
    ) -> Result<Vec<Result<Committed, LedgerError>>, LedgerError> {
        let work = move |ledger: &Ledger, books: &mut Books<'_>| {
            let commit = |(receipt, share): (Receipt, Zeroizing<Vec<u8>>)| {
                apart(books.commit(&ledger.key, receipt, &share))
            };
            answers.into_iter().map(commit).collect()
        };
        self.ask(work).await
    }

    /// The stored answer to a question that was asked before under this id, `None` for a new id.
    ///
    /// # Errors
    /// As [`Ledger::reserve`] with an id that was used.
    pub async fn stored(
        &self,
        release: ReleaseId,
        (client, task): (String, String),
        content: [u8; 32],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, LedgerError> {
        let work = move |ledger: &Ledger, books: &mut Books<'_>| {
            books.stored(&ledger.key, release, (&client, &task, content))
        };
        self.ask(work).await
    }

    /// See [`Ledger::commit`].
    ///
    /// # Errors
    /// As there.
    pub async fn commit(
        &self,
        receipt: Receipt,
        output_share: Zeroizing<Vec<u8>>,
    ) -> Result<Committed, LedgerError> {
        self.ask(move |ledger, books| books.commit(&ledger.key, receipt, &output_share)).await
    }

    /// See [`Ledger::abort`].
    ///
    /// # Errors
    /// As there.
    pub async fn abort(&self, release: ReleaseId, abort: Abort) -> Result<Aborted, LedgerError> {
        self.ask(move |_, books| books.abort(release, abort)).await
    }

    /// See [`Ledger::state`].
    ///
    /// # Errors
    /// As there.
    pub async fn state(&self, signed: SignedStatement) -> Result<Head, LedgerError> {
        self.ask(move |_, books| books.state(&signed)).await
    }

    /// The data epoch that a model which `owner` publishes now belongs to.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub async fn data_epoch(&self, task: String, owner: String) -> Result<u32, LedgerError> {
        self.ask(move |_, books| Ok(books.standing(&task, &owner)?.data_epoch)).await
    }

    /// See [`Ledger::head`].
    ///
    /// # Errors
    /// As there.
    pub async fn head(&self) -> Result<Head, LedgerError> {
        self.ask(|_, books| books.head()).await
    }

    /// See [`Ledger::mark`].
    ///
    /// # Errors
    /// As there.
    pub async fn mark(&self, pool: [u8; 16]) -> Result<u64, LedgerError> {
        self.ask(move |_, books| books.mark(&pool)).await
    }

    /// See [`Ledger::burn`].
    ///
    /// # Errors
    /// As there.
    pub async fn burn(&self, pool: [u8; 16], below: u64) -> Result<u64, LedgerError> {
        self.ask(move |_, books| books.burn(pool, below)).await
    }

    /// See [`Ledger::peer_head`].
    ///
    /// # Errors
    /// As there.
    pub async fn peer_head(&self, peer: String) -> Result<Option<Head>, LedgerError> {
        self.ask(move |_, books| books.peer_head(&peer)).await
    }

    /// See [`Ledger::set_peer_head`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_peer_head(&self, peer: String, head: Head) -> Result<(), LedgerError> {
        self.ask(move |_, books| books.set_peer_head(&peer, head)).await
    }

    /// See [`Ledger::check_peer_head`].
    ///
    /// # Errors
    /// As there.
    pub async fn check_peer_head(&self, peer: String, claimed: Head) -> Result<(), LedgerError> {
        self.ask(move |_, books| books.check_peer_head(&peer, claimed)).await
    }

    /// See [`Ledger::check_own_head`].
    ///
    /// # Errors
    /// As there.
    pub async fn check_own_head(&self, seen: Head) -> Result<(), LedgerError> {
        self.ask(move |_, books| books.check_own_head(seen)).await
    }

    /// See [`Ledger::report`].
    ///
    /// # Errors
    /// As there.
    pub async fn report(&self, task: String) -> Result<Report, LedgerError> {
        self.snapshot().await?.report(&task)
    }

    /// A view of what is committed, for an export or a check on another thread.
    ///
    /// # Errors
    /// As [`Ledger::snapshot`].
    pub async fn snapshot(&self) -> Result<Snapshot, LedgerError> {
        self.ask(|ledger, _| Ok(ledger.snapshot()?)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger, &mut Books<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { work: Some(work), result: None, reply, orphan: |_| Vec::new() };
        self.hear(Box::new(ask), answer).await
    }

    async fn hear<T>(
        &self,
        request: Box<dyn Request>,
        answer: oneshot::Receiver<Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.queue.send(request).await.map_err(|_| LedgerError::Closed)?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }
}

impl LedgerThread {
    /// Answers what is queued, closes the file and waits for the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for LedgerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's thread panicked; reservations it held stay spent");
        }
    }
}

trait Request: Send {
    /// Works inside the transaction of the group. An error is the disk's and ends the group.
    fn run(&mut self, ledger: &Ledger, books: &mut Books<'_>) -> Result<(), redb::Error>;

    /// Answers, once the group is on the disk or has failed. Gives back the reservations that nobody
    /// waits for.
    fn answer(self: Box<Self>, broken: Option<&StoreError>) -> Vec<ReleaseId>;
}

struct Ask<T, F> {
    work: Option<F>,
    result: Option<Result<T, LedgerError>>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
    orphan: fn(T) -> Vec<ReleaseId>,
}

impl<T: Send, F: FnOnce(&Ledger, &mut Books<'_>) -> Result<T, Trouble> + Send> Request for Ask<T, F> {
    fn run(&mut self, ledger: &Ledger, books: &mut Books<'_>) -> Result<(), redb::Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.result = Some(match work(ledger, books) {
            Ok(value) => Ok(value),
            Err(Trouble::Refused(refusal)) => Err(refusal),
            Err(Trouble::Storage(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, broken: Option<&StoreError>) -> Vec<ReleaseId> {
        let result = match broken {
            Some(error) => Err(error.clone().into()),
            None => self.result.unwrap_or(Err(LedgerError::Closed)),
        };
        match self.reply.send(result) {
            Err(Ok(value)) => (self.orphan)(value),
            Ok(()) | Err(Err(_)) => Vec::new(),
        }
    }
}

fn reserving(request: Reserve, reply: oneshot::Sender<Result<Reservation, LedgerError>>) -> Box<dyn Request> {
    let work = move |ledger: &Ledger, books: &mut Books<'_>| books.reserve(&ledger.key, &request);
    let orphan = |reservation| unheard(reservation).into_iter().collect();
    Box::new(Ask { work: Some(work), result: None, reply, orphan })
}

fn unheard(reservation: Reservation) -> Option<ReleaseId> {
    match reservation {
        Reservation::Reserved(receipt) => Some(receipt.release()),
        Reservation::Stored(_) => None,
    }
}

/// A refusal concerns one request of a transaction, trouble with the disk all of them.
fn apart<T>(outcome: Result<T, Trouble>) -> Result<Result<T, LedgerError>, Trouble> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Trouble::Refused(refusal)) => Ok(Err(refusal)),
        Err(Trouble::Storage(error)) => Err(Trouble::Storage(error)),
    }
}

async fn serve(
    ledger: Ledger,
    mut requests: mpsc::Receiver<Box<dyn Request>>,
    mut stopped: oneshot::Receiver<()>,
    mut pulse: Pulse,
) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = pulse.beat() => {}
            taken = requests.recv_many(&mut group, GROUP_MAX) => {
                if taken == 0 {
                    break;
                }
                settle(&ledger, &mut group);
            }
        }
    }
    requests.close();
    while requests.recv_many(&mut group, GROUP_MAX).await > 0 {
        settle(&ledger, &mut group);
    }
}

fn settle(ledger: &Ledger, group: &mut Vec<Box<dyn Request>>) {
    let done = ledger.transact(|books| {
        group.iter_mut().try_for_each(|request| request.run(ledger, books)).map_err(Trouble::Storage)
    });
    let broken = done.err().map(|error| match error {
        LedgerError::Store(error) => error,
        _ => StoreError::Stopped { path: ledger.store.path().to_owned() },
    });
    if let Some(error) = &broken {
        tracing::error!(%error, requests = group.len(), "the ledger cannot be written");
    }
    let orphans: Vec<_> = group.drain(..).flat_map(|request| request.answer(broken.as_ref())).collect();
    for release in orphans {
        if let Err(error) = ledger.abort(release, Abort::Alone) {
            tracing::warn!(%error, %release, "a reservation that nobody waits for stays open until a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{Bench, filling_ledger, granted, receipt, request, wide_request};
    use futures::executor::block_on;
    use std::sync::atomic::{AtomicU64, Ordering};

    const QUEUE: usize = 8;

    #[test]
    fn sixteen_threads_never_overspend() {
        let mut bench = Bench::new();
        let (handle, owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        let granted = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..16 {
                let (handle, granted) = (handle.clone(), &granted);
                scope.spawn(move || {
                    for n in 0..20 {
                        match block_on(handle.reserve(wide_request(thread, n))) {
                            Ok(Reservation::Reserved(paid)) => {
                                granted.fetch_add(1, Ordering::Relaxed);
                                block_on(handle.commit(paid, Zeroizing::new(vec![n]))).unwrap();
                            }
                            Ok(Reservation::Stored(_)) => panic!("every id is new"),
                            Err(LedgerError::OwnerBudget { spent: 100, .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        let report = block_on(handle.report("chest".into())).unwrap();
        assert_eq!(granted.load(Ordering::Relaxed), 10, "100 units, 10 per release");
        assert_eq!((report.answered, report.owners[0].spent), (10, 100));
        owner.stop();
        bench.open();
        assert_eq!(bench.ledger().report("chest").unwrap(), report);
    }

    #[test]
    fn requests_that_wait_together_share_a_transaction_and_fail_apart() {
        let mut bench = Bench::new();
        let (handle, owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        let mut dear = request(2);
        dear.cost = 1000;
        let (one, two, three) = block_on(async {
            futures::join!(handle.reserve(request(1)), handle.reserve(dear), handle.reserve(request(3)))
        });
        granted(one);
        assert!(matches!(two, Err(LedgerError::OwnerBudget { .. })));
        granted(three);
        owner.stop();
        bench.open();
        assert_eq!(bench.ledger().report("chest").unwrap().dead, 2);
        assert!(bench.ledger().reserve(&request(2)).is_err(), "its serials are below the mark of request 3");
    }

    #[test]
    fn a_bunch_is_granted_apart_in_one_transaction_and_passes_serials_on() {
        let mut bench = Bench::new();
        let (handle, owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        let bunch = |numbers: [u8; 3], first: u64| -> Vec<Reserve> {
            let mut bunch: Vec<Reserve> = numbers.into_iter().map(request).collect();
            bunch[1].cost = 1000;
            for (serial, request) in (first..).zip(&mut bunch) {
                (request.correlations.first, request.correlations.count) = (serial, 1);
            }
            bunch
        };
        let receipts = |told: Vec<Result<Reservation, LedgerError>>| {
            let [one, two, three] = <[_; 3]>::try_from(told).unwrap();
            assert!(matches!(two, Err(LedgerError::OwnerBudget { .. })));
            vec![receipt(one), receipt(three)]
        };
        let first = receipts(block_on(handle.reserve_all(None, bunch([1, 2, 3], 40), true)).unwrap());
        let head = block_on(handle.head()).unwrap();
        assert_eq!(head, first[1].position());
        // Serials 40 and 41 are gone, 42 is not.
        receipts(block_on(handle.reserve_all(None, bunch([4, 5, 6], 42), false)).unwrap());
        let again = block_on(handle.reserve_all(None, bunch([7, 8, 9], 44), false)).unwrap();
        assert!(matches!(again[0], Err(LedgerError::SerialReused { mark: 45, .. })));

        let release = first[0].release();
        block_on(handle.abort(release, Abort::Alone)).unwrap();
        let answers = first.into_iter().map(|receipt| (receipt, Zeroizing::new(vec![1]))).collect();
        let [aborted, committed] = <[_; 2]>::try_from(block_on(handle.commit_all(answers)).unwrap()).unwrap();
        assert!(matches!(aborted, Err(LedgerError::Aborted { .. })));
        assert_eq!(committed.unwrap().release(), request(3).release);
        owner.stop();
        bench.open();
        let report = bench.ledger().report("chest").unwrap();
        assert_eq!((report.answered, report.kept, report.dead), (1, 1, 3));
    }

    #[test]
    fn a_bunch_is_granted_nothing_on_a_head_that_went_back() {
        let mut bench = Bench::new();
        let (handle, _owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        let shown = |sequence| Some(("peer".to_owned(), Head { sequence, hash: [1; 32] }));
        let told = block_on(handle.reserve_all(shown(5), vec![request(1)], false)).unwrap();
        assert!(told[0].is_ok());
        let told = block_on(handle.reserve_all(shown(4), vec![request(2)], false));
        assert!(matches!(told, Err(LedgerError::RolledBack { .. })));
        assert_eq!(block_on(handle.peer_head("peer".into())).unwrap(), shown(5).map(|(_, head)| head));
        assert_eq!(block_on(handle.report("chest".into())).unwrap().in_progress, 1);
    }

    #[test]
    fn a_reservation_that_nobody_waits_for_is_aborted_and_stays_spent() {
        let bench = Bench::new();
        let (heard, answer) = oneshot::channel();
        let (unheard, dropped) = oneshot::channel();
        drop(dropped);
        let mut group = vec![reserving(request(1), unheard), reserving(request(2), heard)];
        settle(bench.ledger(), &mut group);
        assert!(matches!(bench.ledger().reserve(&request(1)), Err(LedgerError::Aborted { .. })));
        granted(block_on(answer).unwrap());
        let report = bench.ledger().report("chest").unwrap();
        assert_eq!((report.kept, report.in_progress, report.owners[0].spent), (1, 1, 20));
    }

    #[test]
    fn a_group_that_does_not_reach_the_disk_is_granted_to_nobody() {
        let mut refused = 0;
        for room in 0..20 {
            let (ledger, left) = filling_ledger();
            left.store(room, Ordering::Relaxed);
            let (replies, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
            let asked = (0..).zip(replies).map(|(n, reply)| reserving(request(n), reply));
            settle(&ledger, &mut asked.collect());
            let answers: Vec<_> = answers.into_iter().map(|answer| block_on(answer).unwrap()).collect();
            let granted = answers.iter().filter(|answer| answer.is_ok()).count();
            assert!(granted == 0 || granted == 3, "{granted} with room for {room} writes");
            refused += usize::from(granted == 0);
            for error in answers.into_iter().filter_map(Result::err) {
                assert!(matches!(error, LedgerError::Store(StoreError::Full { .. })), "{error}");
            }
        }
        assert!(refused > 0);
    }

    #[test]
    fn a_stopped_ledger_says_so() {
        let mut bench = Bench::new();
        let (handle, owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        owner.stop();
        assert!(matches!(block_on(handle.reserve(request(1))), Err(LedgerError::Closed)));
        bench.open();
        assert_eq!(bench.ledger().report("chest").unwrap().dead, 0);
    }

    #[test]
    fn an_export_runs_beside_the_thread() {
        let mut bench = Bench::new();
        let (handle, _owner) = LedgerHandle::start(bench.take(), QUEUE).unwrap();
        let snapshot = block_on(handle.snapshot()).unwrap();
        granted(block_on(handle.reserve(request(1))));
        let mut lines = Vec::new();
        thread::spawn(move || {
            snapshot.verify().unwrap();
            snapshot.export(&mut lines).unwrap();
            assert_eq!(
                lines.iter().filter(|byte| **byte == b'\n').count(),
                2,
                "the creation and the opening"
            );
        })
        .join()
        .unwrap();
    }
}
