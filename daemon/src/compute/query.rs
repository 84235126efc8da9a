//! A client's question at either party.

use super::epoch::Epoch;
use super::online::{Answered, Outcome, Question, decode_answer, ledger_refused};
use super::{Compute, peer_failed};
use crate::crash::{self, Step};
use crate::ledger::{Abort, ReleaseId};
use crate::message::{
    MESSAGE_BYTES_MAX, Obstacle, OnlineReply, OnlineRequest, PairRequest, QueryReply, QueryRequest, Refusal,
};
use crate::net::{Channel, ChannelError, Role};
use consilium_protocol::algebra::Seed;
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use ring::digest::{Context, SHA256};
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;
use zeroize::Zeroizing;

const IDLE_CHANNELS_MAX: usize = 8;

impl Compute {
    /// Serves a client's channel until it closes.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve_client(
        self: Arc<Self>,
        mut channel: Channel,
        client: String,
    ) -> Result<(), ChannelError> {
        loop {
            let request: QueryRequest = match channel.receive_value(MESSAGE_BYTES_MAX).await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let release = request.release;
            match self.ask(&mut channel, client.clone(), request).await {
                Ok(answered) => {
                    let frame: Zeroizing<Vec<u8>> =
                        Zeroizing::new(answered.share.iter().flat_map(|word| word.to_le_bytes()).collect());
                    channel.send_value(&QueryReply::Answer(answered.terms)).await?;
                    channel.send(&frame).await?;
                }
                Err(refusal) => {
                    tracing::warn!(client, obstacle = ?refusal.obstacle, "refused a question: {refusal}");
                    let reply = QueryReply::Refused(refusal.clone());
                    // The client must not wait for a party One that does not answer.
                    tokio::join!(channel.send_value(&reply), self.call_off(release, refusal)).0?;
                }
            }
        }
    }

    async fn ask(self: &Arc<Self>, channel: &mut Channel, client: String, request: QueryRequest) -> Outcome {
        let question = self.read_question(channel, client, request).await?;
        let release = question.request.release;
        let asked = (question.client.clone(), question.request.task.clone());
        let stored = self.ledger.stored(release, asked, question.content).await.map_err(ledger_refused)?;
        if let Some(bytes) = stored {
            return decode_answer(&bytes);
        }
        match self.seat {
            Party::Zero => {
                let leading = tokio::time::timeout(self.limits.query_deadline, self.lead(question)).await;
                if let Ok(outcome) = leading {
                    return outcome;
                }
                self.give_up_if_reserved(release).await;
                let text = "the question was not answered within its deadline";
                Err(Refusal::new(Obstacle::Deadline, text))
            }
            Party::One => {
                let outcome = self.waiting.enter(question, self.limits.waiting_max)?;
                let waited = tokio::time::timeout(self.limits.query_deadline, outcome).await;
                self.waiting.leave(release);
                match waited {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Err(peer_failed("it gave the question up")),
                    Err(_) => Err(peer_failed("it did not start on the question in time")),
                }
            }
        }
    }

    /// Party Zero: tells party One that it need not wait for a question, if One listens. Not where party
    /// One sees the same by itself, nor where another attempt under the same id may be on its way.
    async fn call_off(&self, release: ReleaseId, refusal: Refusal) {
        let silent = [Obstacle::NotAllowed, Obstacle::Request, Obstacle::Release];
        if self.seat != Party::Zero || silent.contains(&refusal.obstacle) {
            return;
        }
        let forget = PairRequest::Forget { release, refusal };
        let told = tokio::time::timeout(self.limits.round_deadline, self.ask_other(&forget)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::debug!(release = %release, "party One was not told of a refusal");
        }
    }

    async fn read_question(
        &self,
        channel: &mut Channel,
        client: String,
        request: QueryRequest,
    ) -> Result<Question, Refusal> {
        let terms = self.task(&request.task)?;
        let values = terms.roster.input.len() * terms.batch();
        let expected = if self.seat == Party::Zero { 16 } else { values * 8 };
        let failed =
            |error: ChannelError| Refusal::new(Obstacle::Request, format!("the input's share: {error}"));
        let frame = channel.receive_within(expected, self.limits.round_deadline).await.map_err(failed)?;
        let frame = Zeroizing::new(frame);
        if !terms.serves(&client) {
            let text = format!("the roster does not list {client} as a client of task {}", request.task);
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        if terms.digest != request.task_digest {
            let text =
                format!("the client's roster has other terms for task {}; compare rosters", request.task);
            return Err(Refusal::new(Obstacle::Task, text));
        }
        if request.rows == 0 || request.rows as usize > terms.batch() || frame.len() != expected {
            let text =
                format!("{} rows and a share of {} bytes do not fit the task", request.rows, frame.len());
            return Err(Refusal::new(Obstacle::Request, text));
        }
        // Nothing is charged where the policy refuses the noise.
        terms.with_noise(|_| Ok(()))?;
        let mut hash = Context::new(&SHA256);
        hash.update(b"consilium question 1");
        hash.update(&terms.digest);
        hash.update(&request.rows.to_le_bytes());
        hash.update(&frame);
        let mut content = [0; 32];
        content.copy_from_slice(hash.finish().as_ref());
        let share = match (self.seat, <[u8; 16]>::try_from(frame.as_slice())) {
            (Party::Zero, Ok(seed)) => Additive::expand(&Seed::from_bytes(seed), values),
            _ => {
                frame.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>().into()
            }
        };
        Ok(Question { client, request, share, content })
    }

    /// Party Zero: reserves, has party One reserve, computes. If party One lost the epoch, begins
    /// another and tries once more: nothing was computed.
    async fn lead(self: &Arc<Self>, question: Question) -> Outcome {
        // The rest of the deadline is for the rounds.
        let until = Instant::now() + self.limits.query_deadline * 3 / 4;
        let mut question = question;
        let mut again = true;
        loop {
            let epoch = self.current_epoch(&question.request.task).await?;
            match self.lead_in(&epoch, question, until).await {
                Err((refusal, back)) => {
                    let stale = refusal.obstacle == Obstacle::Epoch;
                    if stale {
                        self.abandon(&epoch);
                    }
                    match back {
                        Some(back) if stale && again => {
                            again = false;
                            question = back;
                        }
                        _ => return Err(refusal),
                    }
                }
                Ok(answered) => return Ok(answered),
            }
        }
    }

    /// One attempt within an epoch; gives the question back where nothing was spent on it.
    async fn lead_in(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        question: Question,
        until: Instant,
    ) -> Result<Answered, (Refusal, Option<Question>)> {
        let release = question.request.release;
        // Whoever waits for the dealer does so outside the turn, and hears of it in time.
        if let Err(refusal) = epoch.lowest(until).await {
            return Err((refusal, Some(question)));
        }
        let turn = epoch.turn.lock().await;
        let serial = match epoch.lowest(until).await {
            Ok(serial) => serial,
            Err(refusal) => return Err((refusal, Some(question))),
        };
        crash::at(Step::ReserveZero);
        let receipt = self.reserve(epoch, &question, serial).await.map_err(|refusal| (refusal, None))?;
        let provisions = match epoch.take(serial, self.limits.round_deadline).await {
            Ok(provisions) => provisions,
            Err(refusal) => {
                self.give_up(release, Abort::Bilateral).await;
                return Err((refusal, None));
            }
        };
        self.spare.notify_waiters();
        crash::at(Step::ReserveAsk);
        let channel = match self.reserve_there(epoch, &question, serial).await {
            Ok(channel) => channel,
            Err((refusal, abort)) => {
                self.give_up(release, abort).await;
                return Err((refusal, None));
            }
        };
        drop(turn);
        let computed = self.compute(epoch, channel, receipt, question, provisions).await;
        let (answered, channel) = computed.map_err(|refusal| (refusal, None))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CHANNELS_MAX {
            idle.push(channel);
        }
        Ok(answered)
    }

    /// Has party One reserve the same query. The refund is only certain where One says that it
    /// reserved nothing.
    async fn reserve_there(
        &self,
        epoch: &Epoch,
        question: &Question,
        serial: u64,
    ) -> Result<Channel, (Refusal, Abort)> {
        let alone = |refusal: Refusal| (refusal, Abort::Alone);
        // Heads of another task's query that overtook this one would look like a ledger that went back.
        let _order = self.showing_heads.lock().await;
        let head = self.ledger.head().await.map_err(|error| alone(ledger_refused(error)))?;
        let request = OnlineRequest {
            release: question.request.release,
            task: epoch.terms().name().to_owned(),
            epoch: epoch.id(),
            serial,
            client: question.client.clone(),
            rows: question.request.rows,
            head,
        };
        let (channel, reply, certain) = self.propose(&request).await.map_err(alone)?;
        match reply {
            OnlineReply::Reserved { head } => {
                let seen = self.ledger.set_peer_head(self.other_name.clone(), head).await;
                seen.map_err(|error| alone(Refusal::new(Obstacle::Ledger, error)))?;
                Ok(channel)
            }
            OnlineReply::Refused(refusal) if certain => Err((refusal, Abort::Bilateral)),
            OnlineReply::Refused(refusal) => Err(alone(refusal)),
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
        let within = self.limits.round_deadline * 2;
        let reply = tokio::time::timeout(within, channel.receive_value(MESSAGE_BYTES_MAX));
        reply.await.map_err(|_| ChannelError::Deadline { within })?
    }
}
