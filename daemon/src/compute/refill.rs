//! The background pool: bundles between a low and a high watermark, fetched ahead of demand.

use super::epoch::Epoch;
use super::models::dealer_failed;
use super::{Compute, peer_failed};
use crate::bulk::receive_bulk;
use crate::message::{DealReply, DealRequest, MESSAGE_BYTES_MAX, Obstacle, PairReply, PairRequest, Refusal};
use crate::net::{Channel, Role};
use crate::registry::MaskId;
use consilium_protocol::algebra::Seed;
use consilium_protocol::graph::Network;
use consilium_protocol::party::Party;
use consilium_protocol::stock::Tape;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

const RETRY_AFTER: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Dependent words of one bundle, more than which nobody deals.
const BUNDLE_WORDS_MAX: u64 = 1 << 27;

impl Compute {
    /// Party Zero: keeps the pool of a task filled until the node stops. May be dropped.
    pub(crate) async fn keep(self: Arc<Self>, task: String) {
        let mut pause = RETRY_AFTER;
        loop {
            let wake = self.spare.notified();
            match self.fill(&task).await {
                Ok(()) => {
                    self.note_refill(None);
                    pause = RETRY_AFTER;
                    wake.await;
                }
                Err(refusal) if refusal.obstacle == Obstacle::Models => wake.await,
                Err(refusal) => {
                    if refusal.obstacle == Obstacle::Epoch {
                        self.end_epoch(&task);
                    }
                    if self.note_refill(Some(refusal.explanation.clone())) {
                        tracing::warn!(task, obstacle = ?refusal.obstacle, "cannot refill the pool: {refusal}");
                    }
                    let woken = tokio::time::timeout(pause, wake).await.is_ok();
                    pause = if woken { RETRY_AFTER } else { (pause * 2).min(RETRY_AFTER_MAX) };
                }
            }
        }
    }

    /// Remembers the last fault; says whether it is a new one.
    fn note_refill(&self, fault: Option<String>) -> bool {
        let mut held = self.refill_fault.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *held != fault;
        *held = fault;
        new
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
            let count = missing.min(u64::from(self.limits.refill_batch_queries)) as u32;
            let first = epoch.next_serial();
            let request = PairRequest::Refill { task: task.to_owned(), epoch: epoch.id(), first, count };
            let (theirs, ours) = tokio::join!(
                self.ask_other_within(&request, self.dealing_deadline() + self.limits.round_deadline),
                self.deal(&epoch, first, count)
            );
            let PairReply::Filled { dealer_run } = theirs? else {
                return Err(peer_failed("answered something else"));
            };
            let (run, tapes) = ours?;
            if run != dealer_run {
                return Err(Refusal::new(Obstacle::Epoch, "the dealer restarted between both batches"));
            }
            epoch.deposit(first, tapes, run)?;
            tracing::debug!(task, first, count, "the pool was refilled");
        }
    }

    /// A batch is many queries' worth.
    fn dealing_deadline(&self) -> Duration {
        self.limits.query_deadline * 4
    }

    /// Most bundles that the memory limit leaves room for, at least one. One holds the larger part, and a
    /// batch must fit both.
    fn bundles_max(&self, epoch: &Epoch) -> u64 {
        let bytes = epoch.plan().stock_bytes(Party::One);
        (self.limits.pool_bytes_max / bytes).max(1)
    }

    /// Party One: fetches a batch and keeps it.
    pub(super) async fn fetch(
        &self,
        epoch: &Arc<Epoch>,
        first: u64,
        count: u32,
    ) -> Result<[u8; 16], Refusal> {
        if u64::from(count) > self.bundles_max(epoch) {
            let text = "the batch is larger than this party's pool; raise pool.bytes_max here";
            return Err(Refusal::new(Obstacle::Request, text));
        }
        let (run, tapes) = self.deal(epoch, first, count).await?;
        epoch.deposit(first, tapes, run)?;
        Ok(run)
    }

    async fn deal(
        &self,
        epoch: &Arc<Epoch>,
        first: u64,
        count: u32,
    ) -> Result<([u8; 16], Vec<Tape>), Refusal> {
        let models: Vec<(Network, MaskId)> = epoch
            .models()
            .0
            .iter()
            .map(|model| (model.record.announced.network.clone(), model.record.announced.mask))
            .collect();
        let request = DealRequest {
            task: epoch.terms().name().to_owned(),
            epoch: epoch.id(),
            models,
            plan: epoch.plan().digest(),
            first,
            count,
        };
        let mut channel = self.dealer_channel(Role::Deal).await?;
        let dealing = receive_bundles(&mut channel, self.seat, &request);
        let late = |_| dealer_failed("no bundles in time");
        tokio::time::timeout(self.dealing_deadline(), dealing).await.map_err(late)?
    }
}

async fn receive_bundles(
    channel: &mut Channel,
    seat: Party,
    request: &DealRequest,
) -> Result<([u8; 16], Vec<Tape>), Refusal> {
    channel.send_value(request).await.map_err(dealer_failed)?;
    let (run, words) = match channel.receive_value(MESSAGE_BYTES_MAX).await.map_err(dealer_failed)? {
        DealReply::Dealing { run, words } => (run, words),
        DealReply::Refused(refusal) => return Err(refusal),
    };
    if words > BUNDLE_WORDS_MAX {
        return Err(dealer_failed(format!("bundles of {words} words; the limit is {BUNDLE_WORDS_MAX}")));
    }
    let expected = 16 + words as usize * 8;
    let mut tapes = Vec::with_capacity(request.count as usize);
    for _ in 0..request.count {
        let frame = receive_bulk(channel, expected).await.map_err(dealer_failed)?;
        let seed = frame.first_chunk::<16>().filter(|_| frame.len() == expected);
        let seed = Seed::from_bytes(*seed.ok_or_else(|| dealer_failed("a bundle of the wrong length"))?);
        let words = frame[16..].as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        tapes.push(Tape::new(seat, &seed, words.collect()));
    }
    Ok((run, tapes))
}
