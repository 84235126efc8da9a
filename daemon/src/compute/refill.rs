//! The background pool: bundles between a low and a high watermark, made ahead of demand.
//!
//! A batch is offered only when it is on the disk of both parties. Making gives way to queries, and a full disk
//! or a source that does not answer stops it for a while; nothing that is there is lost.

use super::epoch::Epoch;
use super::pairwise::gave_up_because;
use super::source::{Order, Source};
use super::{Compute, local_failed, peer_failed};
use crate::crash::{self, Step};
use crate::message::{MESSAGE_BYTES_MAX, Obstacle, PairReply, PairRequest, Refusal};
use crate::net::Channel;
use consilium_protocol::party::Party;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The part of a pause that nothing cuts short.
const RETRY_NOT_BEFORE: Duration = Duration::from_millis(500);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// How long a keeper with nothing to do sleeps before it looks whether that is still so.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl Compute {
    /// Party Zero: keeps the pool of a task filled until the node stops. May be dropped.
    pub(crate) async fn keep(self: Arc<Self>, task: String) {
        let mut pause = RETRY_AFTER;
        loop {
            let wake = self.spare.notified();
            match self.fill(&task).await {
                Ok(()) => {
                    self.note_task(&task, None);
                    pause = RETRY_AFTER;
                    if tokio::time::timeout(LOOK_AGAIN, wake).await.is_err() {
                        self.compare(&task).await;
                    }
                }
                Err(refusal) if refusal.obstacle == Obstacle::Models => {
                    let _ = tokio::time::timeout(LOOK_AGAIN, wake).await;
                }
                Err(refusal) => {
                    if self.note_task(&task, Some(refusal.explanation.clone())) {
                        tracing::warn!(task, obstacle = ?refusal.obstacle, "cannot refill the pool: {refusal}");
                    }
                    // Every query wakes, and a full disk is not to be tried at each; the rest of the pause
                    // is cut short when somebody who was missing is back.
                    let surely = pause.min(RETRY_NOT_BEFORE);
                    tokio::time::sleep(surely).await;
                    let _ = tokio::time::timeout(pause - surely, wake).await;
                    pause = (pause * 2).min(RETRY_AFTER_MAX);
                }
            }
        }
    }

    /// Remembers the last fault of a task, also as the seat's; says whether it is a new one.
    fn note_task(&self, task: &str, fault: Option<String>) -> bool {
        self.note_refill(fault.clone());
        self.progress.get(task).is_some_and(|progress| progress.note(fault))
    }

    /// Remembers the last fault of the seat.
    pub(super) fn note_refill(&self, fault: Option<String>) {
        *self.refill_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Ends an epoch that party One is not in any more: it may have lost the line and have had it back before this
    /// side noticed, and without a question nothing else would tell.
    async fn compare(&self, task: &str) {
        let Some(epoch) = self.epoch(task) else { return };
        let request = PairRequest::InForce { task: task.to_owned(), epoch: epoch.id() };
        if let Err(refusal) = self.ask_other(&request).await
            && refusal.obstacle == Obstacle::Epoch
        {
            tracing::info!(task, "party One is not in this epoch any more; the two agree anew");
            self.abandon(&epoch);
        }
    }

    /// One pass: tops the pool up if it is at its low watermark.
    async fn fill(self: &Arc<Self>, task: &str) -> Result<(), Refusal> {
        let epoch = self.current_epoch(task).await?;
        let marks = epoch.terms().roster.stock;
        if epoch.level().0 > u64::from(marks.low) {
            return Ok(());
        }
        let room = self.bundles_max(&epoch).min(u64::from(marks.high));
        loop {
            let missing = room.saturating_sub(epoch.level().0);
            if missing == 0 || epoch.is_over() {
                return Ok(());
            }
            let count = missing.min(u64::from(self.allowance.refill_batch_queries())) as u32;
            let first = epoch.next_serial();
            self.traffic.green().await;
            if let Err(refusal) = self.make_on_both(&epoch, first, count).await {
                // Either side may have its half. Neither half is used, and their serials are not made again: not here,
                // and not where the pool went on meanwhile.
                let next = first.saturating_add(u64::from(count));
                let now = self.epoch(task).filter(|now| now.id() == epoch.id());
                [Some(epoch.clone()), now].into_iter().flatten().for_each(|epoch| epoch.pass(next));
                self.give_batch_up(&epoch, first).await;
                return Err(self.over(&epoch, refusal));
            }
            crash::at(Step::RefillOffer);
            epoch.offer(first, count).map_err(|refusal| self.over(&epoch, refusal))?;
            tracing::debug!(task, first, count, "the pool was refilled");
        }
    }

    /// Ends the epoch that a batch was for, where that is why it failed. A later one of the task goes on.
    fn over(&self, epoch: &Arc<Epoch>, refusal: Refusal) -> Refusal {
        if refusal.obstacle == Obstacle::Epoch {
            self.abandon(epoch);
        }
        refusal
    }

    /// Party Zero: has both halves of a batch made and written.
    async fn make_on_both(&self, epoch: &Arc<Epoch>, first: u64, count: u32) -> Result<(), Refusal> {
        let _turn = match self.source {
            Source::Pairwise => Some(self.making.lock().await),
            Source::Dealer => None,
        };
        let task = epoch.terms().name().to_owned();
        let mut channel = self.pair_channel().await?;
        let request = PairRequest::Refill { task, epoch: epoch.id(), first, count };
        channel.send_value(&request).await.map_err(peer_failed)?;
        let ours = self.stockpile(epoch, first, count, &mut channel).await;
        let within = match (&ours, self.source) {
            (Err(_), Source::Pairwise) => self.limits.round_deadline,
            _ => self.making_deadline() + self.limits.round_deadline,
        };
        let reply = tokio::time::timeout(within, channel.receive_value(MESSAGE_BYTES_MAX)).await;
        // An own failure comes first: it says more than what the other party makes of it.
        let tag = ours?;
        match reply.map_err(|_| peer_failed("no answer in time"))?.map_err(peer_failed)? {
            PairReply::Filled { tag: theirs } if theirs == tag => Ok(()),
            PairReply::Filled { .. } => {
                Err(Refusal::new(Obstacle::Dealer, "the source restarted between both halves of a batch"))
            }
            PairReply::Refused(refusal) => Err(gave_up_because(refusal)),
            _ => Err(peer_failed("answered something else")),
        }
    }

    /// A batch is many queries' worth.
    pub(super) fn making_deadline(&self) -> Duration {
        self.limits.query_deadline * 4
    }

    /// Most bundles that this task's part of the disk has room for, at least one. Where a dealer deals, One
    /// holds the larger part; a batch must fit both.
    fn bundles_max(&self, epoch: &Epoch) -> u64 {
        let bytes = epoch.plan().stock_bytes(Party::One);
        let bytes_max = self.allowance.pool_bytes_max() / (self.tasks.len() as u64).max(1);
        (bytes_max / bytes).max(1)
    }

    /// Party One: makes its half of a batch and writes it.
    pub(super) async fn fetch(
        &self,
        epoch: &Arc<Epoch>,
        (first, count): (u64, u32),
        channel: &mut Channel,
    ) -> Result<[u8; 16], Refusal> {
        let fetching = async {
            self.has_room(epoch, count)?;
            let tag = self.stockpile(epoch, first, count, channel).await?;
            epoch.offer(first, count)?;
            crash::at(Step::RefillConfirm);
            Ok::<_, Refusal>(tag)
        };
        let fetched = fetching.await;
        let fault = fetched.as_ref().err().map(|refusal| refusal.explanation.clone());
        self.note_task(epoch.terms().name(), fault);
        fetched
    }

    /// Party One: memory and disk are bounded by its own limits, not by what party Zero asks for.
    fn has_room(&self, epoch: &Epoch, count: u32) -> Result<(), Refusal> {
        let room = self.bundles_max(epoch);
        let text = if count == 0 {
            "an empty batch"
        } else if count > self.allowance.refill_batch_queries() {
            "the batch is larger than this party makes at once; raise pool.refill_batch_queries here"
        } else if u64::from(count) > room {
            "the batch is larger than this party's pool; raise pool.bytes_max here"
        } else if epoch.level().0 > room {
            // Only now: questions under way may make this party's level a little higher than the other's.
            "this party's pool is full; raise pool.bytes_max here"
        } else {
            return Ok(());
        };
        Err(Refusal::new(Obstacle::Request, text))
    }

    /// Makes this party's half of a batch and writes it. Returns the name of the making.
    async fn stockpile(
        &self,
        epoch: &Arc<Epoch>,
        first: u64,
        count: u32,
        channel: &mut Channel,
    ) -> Result<[u8; 16], Refusal> {
        let unknown = || local_failed("a task without a pool");
        let progress = self.progress.get(epoch.terms().name()).ok_or_else(unknown)?;
        let started = Instant::now();
        progress.begin(count);
        let order = Order { epoch, first, count, progress };
        let making = async {
            let made = self.source.make(self, &order, channel).await?;
            let (pools, pool, tag) = (epoch.pools().clone(), epoch.id(), made.tag);
            let write = move || pools.write(pool, first, tag, &made.bundles);
            let written = self.background.run(write).await?;
            written.map_err(local_failed)
        };
        let made = making.await;
        progress.end(made.is_ok().then(|| started.elapsed()));
        Ok(made?.tag)
    }

    /// Gives a batch up on both sides. If the other party does not hear of it, the next agreement tells it.
    pub(super) async fn give_batch_up(&self, epoch: &Arc<Epoch>, first: u64) {
        let (task, pool) = (epoch.terms().name(), epoch.id());
        self.drop_batch(task, pool, first).await;
        let request = PairRequest::Discard { task: task.to_owned(), pool, first };
        let told = tokio::time::timeout(self.limits.round_deadline, self.ask_other(&request)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(task, first, "the other party was not told of a batch that was given up");
        }
    }

    /// Gives a batch up here.
    pub(super) async fn drop_batch(&self, task: &str, pool: [u8; 16], first: u64) {
        if let Some(epoch) = self.epoch(task).filter(|epoch| epoch.id() == pool) {
            epoch.drop_batch(first);
        }
        let pools = self.pools.clone();
        let discarded = tokio::task::spawn_blocking(move || pools.discard(pool, first)).await;
        if let Ok(Err(error)) = discarded {
            tracing::warn!(task, first, "a batch that was given up stays on the disk: {error}");
        }
    }
}
