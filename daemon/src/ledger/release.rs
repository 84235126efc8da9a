//! The life of one release: reserve, then commit or abort.
//!
//! Each step decides first and writes afterwards, so that a refusal in the middle of a group of requests
//! leaves nothing behind.

use super::books::{Books, Phase, Trouble, inconsistent};
use super::record::{Entry, Head, digest};
use super::{Correlations, LedgerError, ReleaseId, Reserve};
use crate::vault::{StorageKey, hex};
use redb::ReadableTable;
use zeroize::Zeroizing;

/// Longest output share that is stored, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Proof that a release was paid for, durably, and not yet answered. One per reservation.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receipt that is neither committed nor aborted stays spent"]
pub struct Receipt {
    release: ReleaseId,
    position: Head,
    task_digest: [u8; 32],
    cost: u64,
    correlations: Correlations,
}

impl Receipt {
    /// The release that was paid for.
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// The record of the reservation, to be exchanged with the peer.
    pub fn position(&self) -> Head {
        self.position
    }

    /// Digest of the task description under which it was paid.
    pub fn task_digest(&self) -> [u8; 32] {
        self.task_digest
    }

    /// What each owner paid, in units of 2^-40.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// The serials that were burnt for it.
    pub fn correlations(&self) -> Correlations {
        self.correlations
    }
}

/// Proof that the output share of a release is stored, durably, and may be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    release: ReleaseId,
    position: Head,
}

impl Committed {
    /// The release that may be answered.
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// The record of the commit.
    pub fn position(&self) -> Head {
        self.position
    }
}

/// What a reservation gives.
pub enum Reservation {
    /// The release is paid for; compute it once.
    Reserved(Receipt),
    /// It was answered before; this is the output share, nothing was charged.
    Stored(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reserved(receipt) => f.debug_tuple("Reserved").field(receipt).finish(),
            Self::Stored(_) => f.write_str("Stored"),
        }
    }
}

/// Who gives a release up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// Both parties, before either formed a noisy output share. The cost is given back.
    Bilateral,
    /// This party alone, or too late to be sure. The cost stays spent.
    Alone,
}

/// What became of the cost of an aborted release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It was given back.
    Refunded,
    /// It stays spent.
    Kept,
}

impl Books<'_> {
    pub(super) fn reserve(&mut self, key: &StorageKey, request: &Reserve) -> Result<Reservation, Trouble> {
        request.check()?;
        let release = request.release;
        if let Some((phase, reserved)) = self.release(release)? {
            let asked = (request.client.as_str(), request.task.as_str(), request.content);
            return self.repeat(key, release, asked, phase, reserved).map(Reservation::Stored);
        }
        let mark = self.unused_serials(request)?;
        self.unused_ticket(request)?;
        let balances = self.price(request)?;

        let epoch = &request.correlations.epoch;
        self.settle(&request.task, &balances)?;
        self.marks.insert(epoch, mark)?;
        if let Some((boot, ticket)) = request.ticket()? {
            self.tickets.insert((&boot, ticket), &release.0)?;
        }
        let position = self.append(Entry::Reserve(request.clone()))?;
        self.enter(&request.task, release, Phase::Reserved, position.sequence)?;
        let Reserve { task_digest, cost, correlations, .. } = *request;
        Ok(Reservation::Reserved(Receipt { release, position, task_digest, cost, correlations }))
    }

    pub(super) fn commit(
        &mut self,
        key: &StorageKey,
        receipt: Receipt,
        output_share: &[u8],
    ) -> Result<Committed, Trouble> {
        let release = receipt.release;
        if output_share.len() > ANSWER_BYTES_MAX {
            let found = output_share.len();
            return Err(LedgerError::AnswerSize { found, limit: ANSWER_BYTES_MAX }.into());
        }
        let (phase, reserved) = self.release(release)?.ok_or(LedgerError::Unknown { release })?;
        match phase {
            Phase::Reserved => {}
            Phase::Committed => return Err(LedgerError::AlreadyCommitted { release }.into()),
            Phase::Kept | Phase::Refunded => return Err(LedgerError::Aborted { release }.into()),
            Phase::Dead => return Err(LedgerError::Dead { release }.into()),
        }
        let request = self.reservation(release, reserved)?;
        let issued = self.chain.get(reserved)?.is_some_and(|row| *row.value().0 == receipt.position.hash);
        if !issued {
            return Err(LedgerError::Unknown { release }.into());
        }
        let sealed = key.seal(&answer_context(&self.origin()?, release), output_share);
        let sealed = sealed.map_err(LedgerError::from)?;

        self.answers.insert(&release.0, sealed.as_slice())?;
        let position = self.append(Entry::Commit { release, sealed_digest: digest(&sealed) })?;
        self.enter(&request.task, release, Phase::Committed, reserved)?;
        Ok(Committed { release, position })
    }

    pub(super) fn abort(&mut self, release: ReleaseId, abort: Abort) -> Result<Aborted, Trouble> {
        let (phase, reserved) = self.release(release)?.ok_or(LedgerError::Unknown { release })?;
        match phase {
            Phase::Reserved => {}
            Phase::Refunded => return Ok(Aborted::Refunded),
            Phase::Kept => return Ok(Aborted::Kept),
            Phase::Dead => return Err(LedgerError::Dead { release }.into()),
            Phase::Committed => return Err(LedgerError::AlreadyCommitted { release }.into()),
        }
        let request = self.reservation(release, reserved)?;
        let refunded = abort == Abort::Bilateral;
        let (phase, outcome) =
            if refunded { (Phase::Refunded, Aborted::Refunded) } else { (Phase::Kept, Aborted::Kept) };
        let balances = if refunded { self.price_back(&request)? } else { Vec::new() };

        self.settle(&request.task, &balances)?;
        self.append(Entry::Abort { release, refunded })?;
        self.enter(&request.task, release, phase, reserved)?;
        Ok(outcome)
    }

    /// First serial of a pool that may still be used.
    pub(super) fn mark(&self, epoch: &[u8; 16]) -> Result<u64, Trouble> {
        Ok(self.marks.get(epoch)?.map_or(0, |row| row.value()))
    }

    /// Raises the mark of a pool to `below`, unless it is there already. It never falls.
    pub(super) fn burn(&mut self, epoch: [u8; 16], below: u64) -> Result<u64, Trouble> {
        let mark = self.mark(&epoch)?;
        if below <= mark {
            return Ok(mark);
        }
        self.marks.insert(&epoch, below)?;
        self.append(Entry::Burn { epoch, below })?;
        Ok(below)
    }

    /// Marks everything that the last run left unfinished.
    pub(super) fn bury_unfinished(&mut self) -> Result<(), Trouble> {
        let mut unfinished = Vec::new();
        for row in self.unfinished.iter()? {
            unfinished.push(ReleaseId(*row?.0.value()));
        }
        for release in unfinished {
            let (_, reserved) = self.release(release)?.ok_or(LedgerError::Unknown { release })?;
            let request = self.reservation(release, reserved)?;
            self.append(Entry::Dead { release })?;
            self.enter(&request.task, release, Phase::Dead, reserved)?;
        }
        Ok(())
    }

    /// The answer under an id that was asked before, `None` for a new id.
    pub(super) fn stored(
        &self,
        key: &StorageKey,
        release: ReleaseId,
        asked: (&str, &str, [u8; 32]),
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Trouble> {
        match self.release(release)? {
            Some((phase, reserved)) => self.repeat(key, release, asked, phase, reserved).map(Some),
            None => Ok(None),
        }
    }

    /// The same id again. Client, task and question must be the same before its state is told.
    fn repeat(
        &self,
        key: &StorageKey,
        release: ReleaseId,
        asked: (&str, &str, [u8; 32]),
        phase: Phase,
        reserved: u64,
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let first = self.reservation(release, reserved)?;
        if (first.client.as_str(), first.task.as_str(), first.content) != asked {
            return Err(LedgerError::ContentDiffers { release }.into());
        }
        let refusal = match phase {
            Phase::Reserved => LedgerError::InProgress { release },
            Phase::Kept | Phase::Refunded => LedgerError::Aborted { release },
            Phase::Dead => LedgerError::Dead { release },
            Phase::Committed => {
                let row = self.answers.get(&release.0)?;
                let row = row.ok_or_else(|| inconsistent(self.path, format!("the answer of {release}")))?;
                let answer = key.open(&answer_context(&self.origin()?, release), row.value());
                return Ok(answer.map_err(LedgerError::from)?);
            }
        };
        Err(refusal.into())
    }

    fn reservation(&self, release: ReleaseId, reserved: u64) -> Result<Reserve, Trouble> {
        match self.record(reserved)?.entry {
            Entry::Reserve(request) if request.release == release => Ok(request),
            _ => Err(inconsistent(self.path, format!("release {release}")).into()),
        }
    }

    /// The mark after this release, if none of its serials may have been used.
    fn unused_serials(&self, request: &Reserve) -> Result<u64, Trouble> {
        let Correlations { epoch, first, .. } = request.correlations;
        let mark = self.mark(&epoch)?;
        if first < mark {
            return Err(LedgerError::SerialReused { epoch, first, mark }.into());
        }
        Ok(request.mark_after()?)
    }

    fn unused_ticket(&self, request: &Reserve) -> Result<(), Trouble> {
        let (Some((boot, number)), Some(ticket)) = (request.ticket()?, request.noise_ticket) else {
            return Ok(());
        };
        match self.tickets.get((&boot, number))? {
            Some(row) => {
                let by = ReleaseId(*row.value());
                Err(LedgerError::TicketReused { ticket, by }.into())
            }
            None => Ok(()),
        }
    }
}

fn answer_context(origin: &[u8; 16], release: ReleaseId) -> String {
    format!("ledger {} answer {release}", hex::encode(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::NoiseTicket;
    use crate::ledger::trial::{Bench, charged, granted, receipt, request};

    fn stored(reservation: Result<Reservation, LedgerError>) -> Vec<u8> {
        match reservation.unwrap() {
            Reservation::Stored(answer) => answer.to_vec(),
            Reservation::Reserved(_) => panic!("expected a stored answer"),
        }
    }

    #[test]
    fn the_release_after_the_last_is_refused_also_after_reopening() {
        let mut bench = Bench::new();
        for n in 0..10 {
            let paid = receipt(bench.ledger().reserve(&request(n)));
            bench.ledger().commit(paid, &[n]).unwrap();
        }
        for _ in 0..2 {
            let error = bench.ledger().reserve(&request(10)).unwrap_err();
            let LedgerError::OwnerBudget { owner, spent, cost, limit, .. } = error else { panic!("{error}") };
            assert_eq!((owner.as_str(), spent, cost, limit), ("north", 100, 10, 100));
            bench.reopen();
        }
        let mut free = request(10);
        free.cost = 0;
        granted(bench.ledger().reserve(&free));
    }

    #[test]
    fn each_client_has_a_budget_of_its_own() {
        let bench = Bench::new();
        let asked = |n: u8, client: &str| {
            let mut request = request(n);
            (request.client, request.client_limit) = (client.into(), 15);
            bench.ledger().reserve(&request)
        };
        granted(asked(0, "clinic"));
        assert!(matches!(asked(1, "clinic"), Err(LedgerError::ClientBudget { spent: 10, limit: 15, .. })));
        granted(asked(1, "practice"));
        let report = bench.ledger().report("chest").unwrap();
        assert_eq!(report.owners[0].spent, 20, "the refused release charged nobody");
    }

    #[test]
    fn the_same_id_is_charged_once_and_answered_alike() {
        let mut bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        assert!(matches!(bench.ledger().reserve(&request(1)), Err(LedgerError::InProgress { .. })));
        let position = bench.ledger().commit(paid, b"share").unwrap().position();
        assert_eq!(bench.ledger().head().unwrap(), position);
        for _ in 0..2 {
            assert_eq!(stored(bench.ledger().reserve(&request(1))), b"share");
            bench.reopen();
        }
        // A retry after the owners of the task changed is still the same question.
        let mut retry = request(1);
        (retry.owners, retry.cost, retry.correlations.first) = (vec![charged("west")], 99, 500);
        assert_eq!(stored(bench.ledger().reserve(&retry)), b"share");
        assert_eq!(bench.ledger().report("chest").unwrap().owners[0].spent, 10);
        assert_eq!(bench.ledger().head().unwrap(), position, "retries leave no record");
    }

    #[test]
    fn an_id_belongs_to_one_client_and_one_question() {
        let bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        let differs = || {
            for change in [
                |r: &mut Reserve| r.content[0] ^= 1,
                |r: &mut Reserve| r.client.push('x'),
                |r: &mut Reserve| r.task.push('x'),
            ] {
                let mut other = request(1);
                change(&mut other);
                assert!(matches!(bench.ledger().reserve(&other), Err(LedgerError::ContentDiffers { .. })));
            }
        };
        differs();
        bench.ledger().commit(paid, b"share").unwrap();
        differs();
    }

    #[test]
    fn only_an_abort_by_both_sides_before_the_commit_refunds() {
        let bench = Bench::new();
        let spent = || bench.ledger().report("chest").unwrap().owners[0].spent;
        let ledger = bench.ledger();
        let both = receipt(ledger.reserve(&request(1)));
        assert_eq!(ledger.abort(both.release(), Abort::Bilateral).unwrap(), Aborted::Refunded);
        assert_eq!(spent(), 0);
        let alone = receipt(ledger.reserve(&request(2)));
        assert_eq!(ledger.abort(alone.release(), Abort::Alone).unwrap(), Aborted::Kept);
        assert_eq!(ledger.abort(alone.release(), Abort::Bilateral).unwrap(), Aborted::Kept, "too late");
        assert_eq!(ledger.abort(both.release(), Abort::Alone).unwrap(), Aborted::Refunded);
        assert_eq!(spent(), 10);
        let kept = receipt(ledger.reserve(&request(3)));
        let release = kept.release();
        ledger.commit(kept, b"share").unwrap();
        let late = ledger.abort(release, Abort::Bilateral);
        assert!(matches!(late, Err(LedgerError::AlreadyCommitted { .. })));
        let unknown = ledger.abort(ReleaseId([9; 16]), Abort::Bilateral);
        assert!(matches!(unknown, Err(LedgerError::Unknown { .. })));
        assert_eq!(spent(), 20);
    }

    #[test]
    fn an_aborted_release_can_neither_commit_nor_run_again() {
        let bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        bench.ledger().abort(paid.release(), Abort::Bilateral).unwrap();
        assert!(matches!(bench.ledger().commit(paid, b"share"), Err(LedgerError::Aborted { .. })));
        assert!(matches!(bench.ledger().reserve(&request(1)), Err(LedgerError::Aborted { .. })));
    }

    #[test]
    fn a_receipt_is_good_for_its_own_ledger_only() {
        let (one, two) = (Bench::new(), Bench::new());
        let foreign = receipt(one.ledger().reserve(&request(1)));
        granted(two.ledger().reserve(&request(1)));
        assert!(matches!(two.ledger().commit(foreign, b"share"), Err(LedgerError::Unknown { .. })));
    }

    #[test]
    fn what_was_not_committed_is_dead_after_reopening_and_stays_spent() {
        let mut bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        bench.reopen();
        assert!(matches!(bench.ledger().commit(paid, b"share"), Err(LedgerError::Dead { .. })));
        assert!(matches!(bench.ledger().reserve(&request(1)), Err(LedgerError::Dead { .. })));
        let abort = bench.ledger().abort(request(1).release, Abort::Bilateral);
        assert!(matches!(abort, Err(LedgerError::Dead { .. })));
        assert_eq!(bench.ledger().report("chest").unwrap().owners[0].spent, 10);
        let head = bench.ledger().head().unwrap();
        bench.reopen();
        assert_eq!(bench.ledger().head().unwrap(), head, "nothing dies twice");
    }

    #[test]
    fn serials_and_tickets_are_never_used_twice_even_when_refunded() {
        let mut bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        bench.ledger().abort(paid.release(), Abort::Bilateral).unwrap();
        bench.reopen();
        for first in [0, 10, 19] {
            let mut again = request(2);
            again.correlations.first = first;
            let error = bench.ledger().reserve(&again).unwrap_err();
            assert!(matches!(error, LedgerError::SerialReused { mark: 20, .. }), "{first}: {error}");
        }
        let mut again = request(2);
        again.noise_ticket = request(1).noise_ticket;
        let error = bench.ledger().reserve(&again).unwrap_err();
        assert!(matches!(error, LedgerError::TicketReused { by, .. } if by == request(1).release));
        again.correlations.epoch = [6; 16];
        again.correlations.first = 0;
        let error = bench.ledger().reserve(&again).unwrap_err();
        assert!(matches!(error, LedgerError::TicketReused { .. }), "whatever the pool: {error}");
        again.noise_ticket = Some(NoiseTicket { boot: [9; 16], ..again.noise_ticket.unwrap() });
        granted(bench.ledger().reserve(&again));
        granted(bench.ledger().reserve(&request(3)));
    }

    #[test]
    fn an_answer_is_sealed_on_the_disk_and_bounded() {
        let mut bench = Bench::new();
        let paid = receipt(bench.ledger().reserve(&request(1)));
        let share: Vec<u8> = (0..64).map(|n| n ^ 0x5a).collect();
        bench.ledger().commit(paid, &share).unwrap();
        let long = receipt(bench.ledger().reserve(&request(2)));
        let error = bench.ledger().commit(long, &vec![0; ANSWER_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, LedgerError::AnswerSize { .. }));
        bench.close();
        let file = std::fs::read(bench.path()).unwrap();
        assert!(!file.windows(share.len()).any(|window| window == share));
        assert!(file.windows(5).any(|window| window == b"chest"), "the search would find plain text");
    }
}
