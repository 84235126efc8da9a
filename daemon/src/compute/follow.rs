//! Party One: reserves what party Zero names, and computes with it.

use super::epoch::Epoch;
use super::online::Reserved;
use super::waiting::Asked;
use super::{Compute, TOGETHER_MAX, local_failed, peer_failed};
use crate::crash::{self, Step};
use crate::ledger::{Abort, ReleaseId};
use crate::message::{MESSAGE_BYTES_MAX, NamedQuestion, Obstacle, OnlineReply, OnlineRequest, Refusal};
use crate::net::{Channel, ChannelError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long others wait for a share that has not arrived yet, beside what a slow line takes for it.
const PATIENCE: Duration = Duration::from_millis(500);
const SLOW_BYTES_PER_MS: u64 = 256;

impl Compute {
    /// Party One: serves party Zero's queries, one request after the other, until the channel closes.
    ///
    /// # Errors
    /// The channel failed, or a query did; the channel is useless then.
    pub(crate) async fn serve_online(self: Arc<Self>, mut channel: Channel) -> Result<(), ChannelError> {
        loop {
            let begun = channel.receive_request(MESSAGE_BYTES_MAX, self.limits.round_deadline);
            let request: OnlineRequest = match begun.await {
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

    /// Party One's side of one request. Gives the channel back if it is still in step.
    async fn follow(self: &Arc<Self>, mut channel: Channel, request: OnlineRequest) -> Option<Channel> {
        let (epoch, reserved) = match self.reserve_after(request).await {
            Ok(reserved) => reserved,
            Err(refusal) => {
                return channel.send_value(&OnlineReply::Refused(refusal)).await.ok().map(|()| channel);
            }
        };
        let Reserved { paid, refused } = reserved;
        let greeting = async {
            let head = self.ledger.head().await.map_err(local_failed)?;
            channel.send_value(&OnlineReply::Reserved { head, refused }).await.map_err(peer_failed)
        };
        if let Err(refusal) = greeting.await {
            self.give_up_and_tell(paid, Abort::Alone, &refusal).await;
            return None;
        }
        if paid.is_empty() {
            return Some(channel);
        }
        self.compute_together(&epoch, channel, paid).await
    }

    /// Reserves those of the named questions whose shares are here and fit.
    async fn reserve_after(
        self: &Arc<Self>,
        request: OnlineRequest,
    ) -> Result<(Arc<Epoch>, Reserved), Refusal> {
        let names: HashSet<ReleaseId> = request.questions.iter().map(|named| named.release).collect();
        if names.len() != request.questions.len() || names.len() > TOGETHER_MAX {
            return Err(Refusal::new(Obstacle::Request, "a question is named twice, or too many are"));
        }
        let terms = self.task(&request.task)?;
        let share_bytes = (terms.roster.input.len() * terms.batch() * 8) as u64;
        let patience = PATIENCE + Duration::from_millis(share_bytes / SLOW_BYTES_PER_MS);
        let deadline = self.limits.round_deadline;
        let mut here = self.waiting.gather(&names, patience.min(deadline), deadline).await;
        let current =
            self.epoch(&request.task).filter(|epoch| epoch.id() == request.epoch && !epoch.is_over());
        let Some(epoch) = current else {
            let refusal = Refusal::new(Obstacle::Epoch, "this epoch is over at party One");
            here.into_values().for_each(|asked| asked.tell(Err(refusal.clone())));
            return Err(refusal);
        };
        let (mut refused, mut fitting) = (Reserved::default(), Vec::new());
        for named in &request.questions {
            match here.remove(&named.release) {
                Some(asked) if !fits(&asked, named, &request.task) => {
                    let text = "the client told the two compute parties different things";
                    refused.refuse(asked, Refusal::new(Obstacle::Request, text));
                }
                Some(asked) if epoch.holds(named.serial) => {
                    match self.named_noise(&request.task, named.noise) {
                        Ok(noise) => fitting.push((asked, named.serial, noise)),
                        Err(refusal) => refused.refuse(asked, refusal),
                    }
                }
                Some(asked) => {
                    let text = format!("party One does not hold serial {}", named.serial);
                    refused.refuse(asked, Refusal::new(Obstacle::Epoch, text));
                }
                None => {
                    let text = "the client's share did not reach party One in time";
                    refused.refused.push((named.release, Refusal::new(Obstacle::Deadline, text)));
                }
            }
        }
        crash::at(Step::ReserveOne);
        let outcome = self.reserve_together(&epoch, fitting, Some(request.head)).await;
        // What Zero names it has burnt, whatever becomes of it here: it would count as at hand for ever.
        if let Some(last) = request.questions.iter().map(|named| named.serial).max() {
            epoch.skip(last.saturating_add(1));
        }
        let mut reserved = outcome?;
        crash::at(Step::ReserveReply);
        reserved.refused.append(&mut refused.refused);
        Ok((epoch, reserved))
    }
}

/// Whether the client told both parties the same.
fn fits(asked: &Asked, named: &NamedQuestion, task: &str) -> bool {
    let question = &asked.question;
    question.client == named.client && question.request.task == task && question.request.rows == named.rows
}
