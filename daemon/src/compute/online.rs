//! A query between the two parties: reserve on both, compute once, commit on both.

use super::epoch::Epoch;
use super::link::ChannelLink;
use super::{Compute, local_failed, peer_failed};
use crate::crash::{self, Step};
use crate::ledger::{Abort, Correlations, LedgerError, Receipt, ReleaseId, Reservation, Reserve};
use crate::message::{
    AnswerTerms, MESSAGE_BYTES_MAX, Obstacle, OnlineReply, OnlineRequest, QueryRequest, Refusal,
};
use crate::net::{Channel, ChannelError};
use crate::task::TaskTerms;
use consilium_protocol::context::{Computation, ComputationError};
use consilium_protocol::evaluate::shared::{SharedModel, answer};
use consilium_protocol::share::Additive;
use consilium_protocol::stock::Provision;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use zeroize::Zeroizing;

/// A question as one party holds it.
pub(crate) struct Question {
    pub(crate) client: String,
    pub(crate) request: QueryRequest,
    pub(crate) share: Additive,
    /// Hash of everything that the client sent.
    pub(crate) content: [u8; 32],
}

/// An answer as one party holds it: its share of the labels.
pub(crate) struct Answered {
    pub(crate) terms: AnswerTerms,
    pub(crate) share: Zeroizing<Vec<u64>>,
}

pub(crate) type Outcome = Result<Answered, Refusal>;

/// Refusals kept for questions that have not arrived yet.
const FORGOTTEN_MAX: usize = 256;

/// How long a refusal waits for its question, which the client sent to both parties at once.
const FORGOTTEN_FOR: Duration = Duration::from_secs(5);

type Seated = (Question, oneshot::Sender<Outcome>);

struct Forgotten {
    release: ReleaseId,
    refusal: Refusal,
    at: Instant,
}

/// Party One: questions that wait for party Zero.
#[derive(Default)]
pub(crate) struct WaitingRoom {
    seats: Mutex<Seats>,
    arrived: Notify,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<ReleaseId, Seated>,
    forgotten: VecDeque<Forgotten>,
}

impl std::fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WaitingRoom({})", self.lock().taken.len())
    }
}

impl WaitingRoom {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a question; the receiver gets its outcome.
    pub(crate) fn enter(
        &self,
        question: Question,
        most: usize,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let mut seats = self.lock();
        let release = question.request.release;
        // A refusal of an earlier attempt under this id says nothing about this one.
        seats.forgotten.retain(|forgotten| forgotten.at.elapsed() < FORGOTTEN_FOR);
        if let Some(at) = seats.forgotten.iter().position(|forgotten| forgotten.release == release) {
            let refusal = seats.forgotten.remove(at).map(|forgotten| forgotten.refusal);
            return Err(refusal.unwrap_or_else(|| peer_failed("it refused the question")));
        }
        if seats.taken.len() >= most {
            return Err(Refusal::new(
                Obstacle::Deadline,
                "too many questions wait for the other compute party",
            ));
        }
        if seats.taken.contains_key(&release) {
            return Err(Refusal::new(Obstacle::Release, "the same question is waiting already"));
        }
        seats.taken.insert(release, (question, sender));
        drop(seats);
        self.arrived.notify_waiters();
        Ok(receiver)
    }

    pub(crate) fn leave(&self, release: ReleaseId) {
        self.lock().taken.remove(&release);
    }

    /// Ends the wait for a question that party Zero refused, also if it arrives only later.
    pub(crate) fn forget(&self, release: ReleaseId, refusal: Refusal) {
        let mut seats = self.lock();
        match seats.taken.remove(&release) {
            Some((_, sender)) => {
                let _ = sender.send(Err(refusal));
            }
            None => {
                seats.forgotten.push_back(Forgotten { release, refusal, at: Instant::now() });
                if seats.forgotten.len() > FORGOTTEN_MAX {
                    seats.forgotten.pop_front();
                }
            }
        }
    }

    /// Ends the wait of everybody.
    pub(crate) fn dismiss(&self, refusal: &Refusal) {
        for (_, (_, sender)) in self.lock().taken.drain() {
            let _ = sender.send(Err(refusal.clone()));
        }
    }

    async fn wait_for(&self, release: ReleaseId) -> Seated {
        loop {
            let arrived = self.arrived.notified();
            if let Some(seated) = self.lock().taken.remove(&release) {
                return seated;
            }
            arrived.await;
        }
    }
}

impl Compute {
    /// Party One: serves party Zero's queries, one after the other, until the channel closes.
    ///
    /// # Errors
    /// The channel failed, or a query did; the channel is useless then.
    pub(crate) async fn serve_online(self: Arc<Self>, mut channel: Channel) -> Result<(), ChannelError> {
        loop {
            let request: OnlineRequest = match channel.receive_value(MESSAGE_BYTES_MAX).await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            match self.follow(channel, request).await {
                Some(back) => channel = back,
                None => return Ok(()),
            }
        }
    }

    /// Party One's side of one query. Gives the channel back if it is still in step.
    async fn follow(self: &Arc<Self>, mut channel: Channel, request: OnlineRequest) -> Option<Channel> {
        let arrival = self.waiting.wait_for(request.release);
        let seated = tokio::time::timeout(self.limits.round_deadline, arrival).await;
        let Ok((question, reply)) = seated else {
            let text = "the client's share did not reach party One in time";
            let refused = OnlineReply::Refused(Refusal::new(Obstacle::Deadline, text));
            return channel.send_value(&refused).await.ok().map(|()| channel);
        };
        let reserved = self.reserve_after(&question, &request).await;
        let (epoch, provisions, receipt) = match reserved {
            Ok(reserved) => reserved,
            Err(refusal) => {
                let _ = reply.send(Err(refusal.clone()));
                return channel.send_value(&OnlineReply::Refused(refusal)).await.ok().map(|()| channel);
            }
        };
        let release = request.release;
        let greeting = async {
            let head = self.ledger.head().await.map_err(local_failed)?;
            channel.send_value(&OnlineReply::Reserved { head }).await.map_err(peer_failed)
        };
        if let Err(refusal) = greeting.await {
            self.give_up(release, Abort::Alone).await;
            let _ = reply.send(Err(refusal));
            return None;
        }
        match self.compute(&epoch, channel, receipt, question, provisions).await {
            Ok((answered, channel)) => {
                let _ = reply.send(Ok(answered));
                Some(channel)
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                None
            }
        }
    }

    async fn reserve_after(
        self: &Arc<Self>,
        question: &Question,
        request: &OnlineRequest,
    ) -> Result<(Arc<Epoch>, Vec<Provision>, Receipt), Refusal> {
        if question.client != request.client
            || question.request.task != request.task
            || question.request.rows != request.rows
        {
            return Err(Refusal::new(
                Obstacle::Request,
                "the client told the two compute parties different things",
            ));
        }
        let current =
            self.epoch(&request.task).filter(|epoch| epoch.id() == request.epoch && !epoch.is_over());
        let epoch =
            current.ok_or_else(|| Refusal::new(Obstacle::Epoch, "this epoch is over at party One"))?;
        self.ledger
            .set_peer_head(self.other_name.clone(), request.head)
            .await
            .map_err(|error| Refusal::new(Obstacle::Ledger, error))?;
        if !epoch.holds(request.serial) {
            let text = format!("party One does not hold serial {}", request.serial);
            return Err(Refusal::new(Obstacle::Epoch, text));
        }
        crash::at(Step::ReserveOne);
        let receipt = self.reserve(&epoch, question, request.serial).await?;
        crash::at(Step::ReserveReply);
        match epoch.take(request.serial, self.limits.round_deadline).await {
            Ok(provisions) => Ok((epoch, provisions, receipt)),
            Err(refusal) => {
                self.give_up(request.release, Abort::Bilateral).await;
                Err(refusal)
            }
        }
    }

    /// Charges the ledger for a question, durably, before anything of it is computed.
    pub(super) async fn reserve(
        &self,
        epoch: &Epoch,
        question: &Question,
        serial: u64,
    ) -> Result<Receipt, Refusal> {
        let terms = epoch.terms();
        let rows = u64::from(question.request.rows);
        let (price, owner_limit, client_limit) = terms
            .budget
            .map_or((0, u64::MAX, u64::MAX), |budget| (budget.price, budget.owner, budget.client));
        let cost = price
            .checked_mul(rows)
            .ok_or_else(|| Refusal::new(Obstacle::Budget, "the price of so many answers overflows"))?;
        let reserve = Reserve {
            release: question.request.release,
            task: terms.name().to_owned(),
            task_digest: terms.digest,
            client: question.client.clone(),
            owners: epoch.owners(),
            content: question.content,
            cost,
            owner_limit,
            client_limit,
            correlations: Correlations { epoch: epoch.id(), first: serial, count: 1 },
            noise_ticket: 0,
        };
        match self.ledger.reserve(reserve).await {
            Ok(Reservation::Reserved(receipt)) => Ok(receipt),
            Ok(Reservation::Stored(_)) => Err(Refusal::new(
                Obstacle::Release,
                "the question was answered meanwhile; ask again with the same id",
            )),
            Err(error) => Err(over_budget(terms, &error).unwrap_or_else(|| ledger_refused(error))),
        }
    }

    /// Both parties: the rounds of a reserved query, then the durable commit.
    pub(super) async fn compute(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        channel: Channel,
        receipt: Receipt,
        question: Question,
        provisions: Vec<Provision>,
    ) -> Result<(Answered, Channel), Refusal> {
        let release = receipt.release();
        let _running = self.traffic.enter();
        crash::at(Step::OpenFirst);
        let evaluated = self.evaluate(epoch, channel, &receipt, question.share, provisions).await;
        let (words, meter, channel) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(refusal) => {
                self.give_up(release, Abort::Alone).await;
                return Err(refusal);
            }
        };
        let rows = question.request.rows as usize;
        let share = first_rows(&words, epoch.terms().classes() - 1, epoch.terms().batch(), rows);
        let terms = AnswerTerms {
            share_words: share.len() as u32,
            owners: epoch.models().0.len() as u32,
            noise: epoch.terms().with_noise(|source| Ok(source.provenance()))?,
            preprocessing: epoch.source().to_owned(),
            charged: receipt.cost(),
            rounds: meter.rounds,
            bytes: meter.bytes,
            bundles: 1,
            repeated: false,
        };
        let stored = encode_answer(&terms, &share)?;
        crash::at(Step::OpenLast);
        self.ledger.commit(receipt, stored).await.map_err(ledger_refused)?;
        crash::at(Step::OpenCommitted);
        Ok((Answered { terms, share }, channel))
    }

    /// Draws this party's noise and runs the plan. Nothing here can happen without a receipt.
    async fn evaluate(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        channel: Channel,
        receipt: &Receipt,
        input: Additive,
        provisions: Vec<Provision>,
    ) -> Result<(Zeroizing<Vec<u64>>, consilium_protocol::context::Meter, Channel), Refusal> {
        let noise = draw_noise(epoch, receipt)?;
        let session = u64::from_le_bytes(*receipt.release().0.first_chunk().unwrap_or(&[0; 8]));
        let link = ChannelLink::new(channel, self.limits.round_deadline);
        let (seat, epoch) = (self.seat, epoch.clone());
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let mut computation = Computation::new(link, seat, session);
            let models: Vec<&SharedModel> = epoch.models().0.iter().map(|model| &model.share).collect();
            let rounds = answer(&mut computation, epoch.plan(), &models, input, provisions, &noise);
            let words = runtime.block_on(rounds)?;
            let meter = computation.meter();
            Ok((Zeroizing::new(words), meter, computation.into_link().into_channel()))
        };
        let late = |_| Refusal::new(Obstacle::Deadline, "the query took longer than its deadline");
        let running = tokio::time::timeout(self.limits.query_deadline, tokio::task::spawn_blocking(work));
        let finished = running.await.map_err(late)?.map_err(local_failed)?;
        finished.map_err(|error: ComputationError<_>| match error {
            ComputationError::Gate(error) => local_failed(error),
            ComputationError::Bug(text) => local_failed(text),
            other => Refusal::new(Obstacle::Peer, other),
        })
    }

    /// Gives a question up that was cut off at its deadline, wherever it was; what was reserved stays
    /// spent.
    pub(super) async fn give_up_if_reserved(&self, release: ReleaseId) {
        match self.ledger.abort(release, Abort::Alone).await {
            Ok(_) | Err(LedgerError::Unknown { .. } | LedgerError::AlreadyCommitted { .. }) => {}
            Err(error) => tracing::error!(release = %release, "cannot record an abort: {error}"),
        }
    }

    /// Gives a reservation up; its correlations stay burnt.
    pub(super) async fn give_up(&self, release: ReleaseId, abort: Abort) {
        if let Err(error) = self.ledger.abort(release, abort).await {
            tracing::error!(release = %release, "cannot record an abort: {error}");
        }
    }
}

/// This party's noise for all classes and columns; empty for an exact release.
fn draw_noise(epoch: &Epoch, _paid: &Receipt) -> Result<Zeroizing<Vec<u64>>, Refusal> {
    let terms = epoch.terms();
    if terms.budget.is_none() {
        return Ok(Zeroizing::default());
    }
    let (classes, batch) = (terms.classes(), terms.batch());
    let mut noise = Zeroizing::new(vec![0; classes * batch]);
    for column in 0..batch {
        let values = terms.with_noise(|source| source.draw(classes, &mut rand::rng()))?.into_values();
        for (class, value) in values.iter().enumerate() {
            noise[class * batch + column] = *value as u64;
        }
    }
    Ok(noise)
}

/// The bits of the first `rows` of `batch` columns, repacked; everything else is dropped.
fn first_rows(words: &[u64], bits: usize, batch: usize, rows: usize) -> Zeroizing<Vec<u64>> {
    let mut share = Zeroizing::new(vec![0u64; (bits * rows).div_ceil(64)]);
    for bit in 0..bits {
        for row in 0..rows {
            let (from, to) = (bit * batch + row, bit * rows + row);
            share[to / 64] |= (words[from / 64] >> (from % 64) & 1) << (to % 64);
        }
    }
    share
}

/// What the ledger keeps of an answer, so that a repeated question gets it again.
fn encode_answer(terms: &AnswerTerms, share: &[u64]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut bytes = Zeroizing::new(Vec::new());
    ciborium::into_writer(&(terms, share), &mut *bytes).map_err(local_failed)?;
    Ok(bytes)
}

/// An answer from the ledger.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answered, Refusal> {
    let (mut terms, share): (AnswerTerms, Vec<u64>) = ciborium::from_reader(bytes).map_err(local_failed)?;
    terms.repeated = true;
    Ok(Answered { terms, share: Zeroizing::new(share) })
}

/// A spent budget in the words of the promise.
fn over_budget(terms: &TaskTerms, error: &LedgerError) -> Option<Refusal> {
    let (who, spent, cost, limit) = match error {
        LedgerError::OwnerBudget { owner, spent, cost, limit, .. } => (owner, *spent, *cost, *limit),
        LedgerError::ClientBudget { client, spent, cost, limit, .. } => (client, *spent, *cost, *limit),
        _ => return None,
    };
    let epsilon = |amount| terms.epsilon_spent(amount);
    let (spent, after, limit) = (epsilon(spent)?, epsilon(spent.checked_add(cost)?)?, epsilon(limit)?);
    let text = format!(
        "the privacy budget of {who} in task {} is spent: epsilon {spent:.3} of {limit:.3}; this answer would \
         make it {after:.3}. Ask the consortium for a new budget, or ask another task",
        terms.name()
    );
    Some(Refusal::new(Obstacle::Budget, text))
}

pub(super) fn ledger_refused(error: LedgerError) -> Refusal {
    let obstacle = match &error {
        LedgerError::OwnerBudget { .. } | LedgerError::ClientBudget { .. } => Obstacle::Budget,
        LedgerError::ContentDiffers { .. }
        | LedgerError::InProgress { .. }
        | LedgerError::Dead { .. }
        | LedgerError::Aborted { .. } => Obstacle::Release,
        LedgerError::SerialReused { .. } => Obstacle::Epoch,
        _ => Obstacle::Local,
    };
    Refusal::new(obstacle, error)
}
