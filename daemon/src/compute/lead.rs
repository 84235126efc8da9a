//! Party Zero: takes the questions of a task that wait at the same time together, and leads them through.
//!
//! ```text
//! desk ──▶ turn: serials, reserve here, reserve at One ──▶ rounds ──▶ commit ──▶ each its answer
//!            │ one at a time                               │ a few at a time
//!            └── what arrives meanwhile is taken together next
//! ```
//!
//! A question that finds the desk empty is taken at once. Each has its own release, serial and charge; they
//! share the way to party One, the rounds and the disk's syncs.

use super::epoch::Epoch;
use super::online::{Paid, Reserved, ledger_refused};
use super::{COMPUTATIONS_MAX, Compute, peer_failed};
use crate::crash::{self, Step};
use crate::ledger::{Abort, ReleaseId};
use crate::message::{MESSAGE_BYTES_MAX, NamedQuestion, Obstacle, OnlineReply, OnlineRequest, Refusal};
use crate::net::{Channel, ChannelError, Role};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

const IDLE_CHANNELS_MAX: usize = 8;
/// How often the models of a task may change while a question waits.
const CHANGES_MAX: u32 = 16;

impl Compute {
    /// Party Zero: answers the questions of a task until the node stops. May be dropped.
    pub(crate) async fn lead(self: Arc<Self>, task: String) {
        let Some(desk) = self.desks.get(&task) else { return };
        let places = Arc::new(Semaphore::new(COMPUTATIONS_MAX));
        let turn = Arc::new(Mutex::new(()));
        // What fails takes its own questions with it, not this task's service.
        let mut leading = JoinSet::new();
        loop {
            desk.somebody().await;
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let turn = turn.clone().lock_owned().await;
            while leading.try_join_next().is_some() {}
            let (compute, task) = (self.clone(), task.clone());
            leading.spawn(async move {
                compute.lead_together(&task, turn).await;
                drop(place);
            });
        }
    }

    /// One turn: from whoever waits to their answers.
    async fn lead_together(self: &Arc<Self>, task: &str, turn: OwnedMutexGuard<()>) {
        let Some((epoch, most)) = self.supplied_epoch(task).await else { return };
        let Some(desk) = self.desks.get(task) else { return };
        let serials = epoch.at_hand(self.together_max(&epoch).min(most));
        let asked = desk.take(serials.len());
        if asked.is_empty() {
            return;
        }
        let mut supplied = Vec::with_capacity(asked.len());
        for (asked, serial) in asked.into_iter().zip(serials) {
            match self.next_noise(task) {
                Ok(noise) => supplied.push((asked, serial, noise)),
                Err(refusal) => asked.tell(Err(refusal)),
            }
        }
        crash::at(Step::ReserveZero);
        let Ok(Reserved { paid, refused }) = self.reserve_together(&epoch, supplied, None).await else {
            return;
        };
        if refused.iter().any(|(_, refusal)| refusal.obstacle == Obstacle::Epoch) {
            self.abandon(&epoch);
        }
        if paid.is_empty() {
            return;
        }
        self.spare.notify_waiters();
        crash::at(Step::ReserveAsk);
        let Some((channel, paid)) = self.reserve_there(&epoch, paid).await else { return };
        drop(turn);
        if paid.is_empty() {
            return self.keep_idle(channel);
        }
        if let Some(channel) = self.compute_together(&epoch, channel, paid).await {
            self.keep_idle(channel);
        }
    }

    /// The epoch in force, once a bundle and a source of noise are at hand, and the most questions that there is
    /// noise for. Whoever waits too long for that is refused here.
    async fn supplied_epoch(self: &Arc<Self>, task: &str) -> Option<(Arc<Epoch>, usize)> {
        let desk = self.desks.get(task)?;
        // The rest of the deadline is for the rounds.
        let patience = self.limits.query_deadline * 3 / 4;
        let mut changes = 0;
        loop {
            let until = desk.oldest()? + patience;
            let supplied = async {
                let epoch = self.current_epoch(task).await?;
                match epoch.lowest(until).await {
                    Ok(_) => {
                        let most = self.noise_at_hand(task, until).await?;
                        Ok((epoch, most))
                    }
                    Err(refusal) => {
                        if refusal.obstacle == Obstacle::Epoch {
                            self.abandon(&epoch);
                        }
                        Err(refusal)
                    }
                }
            };
            match supplied.await {
                Ok(supplied) => return Some(supplied),
                // Nothing was spent yet; another epoch will do as well. One publication ends two.
                Err(refusal)
                    if refusal.obstacle == Obstacle::Epoch
                        && changes < CHANGES_MAX
                        && Instant::now() < until =>
                {
                    changes += 1;
                }
                Err(refusal) => {
                    let now = Instant::now();
                    let late = matches!(refusal.obstacle, Obstacle::Correlations | Obstacle::Deadline);
                    let told = if late { now.checked_sub(patience).unwrap_or(now) } else { now };
                    for asked in desk.take_older(told) {
                        asked.tell(Err(refusal.clone()));
                    }
                    return None;
                }
            }
        }
    }

    /// Has party One reserve the same queries, and drops those that it refuses. The refund is only certain
    /// where One says that it reserved nothing.
    async fn reserve_there(&self, epoch: &Arc<Epoch>, paid: Vec<Paid>) -> Option<(Channel, Vec<Paid>)> {
        match self.propose_together(epoch, &paid).await {
            Ok((channel, refused, certain)) => {
                let abort = if certain { Abort::Bilateral } else { Abort::Alone };
                if refused.values().any(|refusal| refusal.obstacle == Obstacle::Epoch) {
                    self.abandon(epoch);
                }
                if refused.values().any(|refusal| refusal.obstacle == Obstacle::Noise) {
                    self.forget_noise(epoch.terms().name());
                }
                let mut kept = Vec::with_capacity(paid.len());
                for one in paid {
                    match refused.get(&one.receipt.release()) {
                        Some(refusal) => self.give_up_and_tell(vec![one], abort, refusal).await,
                        None => kept.push(one),
                    }
                }
                Some((channel, kept))
            }
            Err((refusal, abort)) => {
                if refusal.obstacle == Obstacle::Epoch {
                    self.abandon(epoch);
                }
                self.give_up_and_tell(paid, abort, &refusal).await;
                None
            }
        }
    }

    async fn propose_together(
        &self,
        epoch: &Epoch,
        paid: &[Paid],
    ) -> Result<(Channel, Refused, bool), (Refusal, Abort)> {
        let alone = |refusal: Refusal| (refusal, Abort::Alone);
        // Heads of another task's query that overtook this one would look like a ledger that went back.
        let _order = self.showing_heads.lock().await;
        let head = self.ledger.head().await.map_err(|error| alone(ledger_refused(error)))?;
        let named = |paid: &Paid| NamedQuestion {
            release: paid.receipt.release(),
            serial: paid.receipt.correlations().first,
            client: paid.asked.question.client.clone(),
            rows: paid.asked.question.request.rows,
            noise: paid.noise,
        };
        let request = OnlineRequest {
            task: epoch.terms().name().to_owned(),
            epoch: epoch.id(),
            questions: paid.iter().map(named).collect(),
            head,
        };
        let (channel, reply, certain) = self.propose(&request).await.map_err(alone)?;
        match reply {
            OnlineReply::Reserved { head, refused } => {
                let seen = self.ledger.set_peer_head(self.other_name.clone(), head).await;
                seen.map_err(|error| alone(Refusal::new(Obstacle::Ledger, error)))?;
                Ok((channel, refused.into_iter().collect(), certain))
            }
            OnlineReply::Refused(refusal) => {
                self.keep_idle(channel);
                Err((refusal, if certain { Abort::Bilateral } else { Abort::Alone }))
            }
        }
    }

    /// Puts a request to party One, on an idle channel if one still works. Party One reserves a release
    /// at most once, so putting it again on another channel is safe; but then a refusal does not tell
    /// whether the first attempt reserved it, which is the last value.
    async fn propose(&self, request: &OnlineRequest) -> Result<(Channel, OnlineReply, bool), Refusal> {
        let mut certain = true;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut channel) = idle else { break };
            if let Ok(reply) = self.put(&mut channel, request).await {
                return Ok((channel, reply, certain));
            }
            certain = false;
        }
        let opened = self.network.open(self.other, Role::Online, self.limits.round_deadline).await;
        let mut channel = opened.map_err(peer_failed)?;
        let reply = self.put(&mut channel, request).await.map_err(peer_failed)?;
        Ok((channel, reply, certain))
    }

    async fn put(&self, channel: &mut Channel, request: &OnlineRequest) -> Result<OnlineReply, ChannelError> {
        channel.send_value(request).await?;
        channel.receive_value_within(MESSAGE_BYTES_MAX, self.limits.round_deadline * 2).await
    }

    fn keep_idle(&self, channel: Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CHANNELS_MAX {
            idle.push(channel);
        }
    }
}

type Refused = HashMap<ReleaseId, Refusal>;
