//! The life of one release: reserve, then commit or abort.
//!
//! Each step decides first and writes afterwards, so that a refusal in the middle of a group of requests
//! leaves nothing behind.

use super::books::{Books, Phase, Trouble, inconsistent};
use super::record::{Entry, Head, digest};
use super::{Correlations, Ledger, LedgerError, ReleaseId, Reserve, answer_context};
use crate::vault::StorageKey;
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
            return self.repeat(key, request, phase, reserved);
        }
        let mark = self.unused_serials(request)?;
        self.unused_ticket(request)?;
        let balances = self.price(request)?;

        let epoch = &request.correlations.epoch;
        self.settle(&request.task, &balances)?;
        self.marks.insert(epoch, mark)?;
        if request.noise_ticket != 0 {
            self.tickets.insert((epoch, request.noise_ticket), &release.0)?;
        }
        let position = self.append(Entry::Reserve(request.clone()))?;
        self.enter(&request.task, release, Phase::Reserved, position.sequence)?;
        let Reserve { task_digest, cost, .. } = *request;
        Ok(Reservation::Reserved(Receipt { release, position, task_digest, cost }))
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

    /// The same id again. Its owner and its question must be the same before its state is told.
    fn repeat(
        &self,
        key: &StorageKey,
        request: &Reserve,
        phase: Phase,
        reserved: u64,
    ) -> Result<Reservation, Trouble> {
        let release = request.release;
        let first = self.reservation(release, reserved)?;
        if (&first.client, &first.task, &first.content) != (&request.client, &request.task, &request.content) {
            return Err(LedgerError::ContentDiffers { release }.into());
        }
        let refusal = match phase {
            Phase::Reserved => LedgerError::InProgress { release },
            Phase::Kept | Phase::Refunded => LedgerError::Aborted { release },
            Phase::Dead => LedgerError::Dead { release },
            Phase::Committed => {
                let row = self.answers.get(&release.0)?;
                let row = row.ok_or_else(|| inconsistent(self.path, format!("the answer of {release}")))?;
                let answer = Ledger::answer(key, &self.origin()?, release, row.value())?;
                return Ok(Reservation::Stored(answer));
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
        let mark = self.marks.get(&epoch)?.map_or(0, |row| row.value());
        if first < mark {
            return Err(LedgerError::SerialReused { epoch, first, mark }.into());
        }
        Ok(request.mark_after()?)
    }

    fn unused_ticket(&self, request: &Reserve) -> Result<(), Trouble> {
        let (epoch, ticket) = (request.correlations.epoch, request.noise_ticket);
        let used = if ticket == 0 { None } else { self.tickets.get((&epoch, ticket))? };
        match used {
            Some(row) => {
                let by = ReleaseId(*row.value());
                Err(LedgerError::TicketReused { epoch, ticket, by }.into())
            }
            None => Ok(()),
        }
    }
}
