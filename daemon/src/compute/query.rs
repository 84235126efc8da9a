//! A client's question at either party.

use super::online::{Outcome, decode_answer, ledger_refused};
use super::waiting::Question;
use super::{Compute, local_failed, peer_failed};
use crate::ledger::ReleaseId;
use crate::message::{Obstacle, PairRequest, QUESTION_BYTES_MAX, QueryReply, QueryRequest, Refusal};
use crate::net::{Channel, ChannelError};
use crate::tally::Side;
use consilium_protocol::algebra::Seed;
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use ring::digest::{Context, SHA256};
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

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
            let begun = channel.receive_request(QUESTION_BYTES_MAX, self.limits.round_deadline);
            let request: QueryRequest = match begun.await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let (release, started) = (request.release, Instant::now());
            // A name that is no task's may be of any length.
            let task = self.tasks.get(&request.task).map(|terms| terms.name().to_owned());
            tracing::debug!(task, query = %release, peer = client, "a question arrived");
            let question = async {
                let visit = self.reception.enter()?;
                Ok::<_, Refusal>((self.ask(&mut channel, client.clone(), request).await?, visit))
            };
            let outcome = question.await;
            if let Some(task) = &task {
                let obstacle = outcome.as_ref().err().map(|refusal| refusal.obstacle);
                self.tally.note(Side::Compute, task, started.elapsed(), obstacle);
            }
            match outcome {
                // The visit ends when the answer is sent.
                Ok((answered, _visit)) => {
                    let frame: Zeroizing<Vec<u8>> =
                        Zeroizing::new(answered.share.iter().flat_map(|word| word.to_le_bytes()).collect());
                    channel.send_value(&QueryReply::Answer(answered.terms)).await?;
                    channel.send(&frame).await?;
                    tracing::info!(task, query = %release, peer = client, verdict = "answered", "answered a question");
                }
                Err(refusal) => {
                    let unlogged = self.said.note((client.clone(), refusal.obstacle));
                    if let Some(unlogged) = unlogged {
                        tracing::warn!(
                            task,
                            query = %release,
                            peer = client,
                            verdict = "refused",
                            obstacle = ?refusal.obstacle,
                            unlogged,
                            "refused a question: {refusal}"
                        );
                    }
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
                let desk = self.desks.get(&question.request.task);
                let outcome = desk.ok_or_else(|| local_failed("no desk for the task"))?;
                let outcome = outcome.enter(question, self.limits.waiting_max)?;
                if let Ok(outcome) = tokio::time::timeout(self.limits.query_deadline, outcome).await {
                    return outcome.unwrap_or_else(|_| Err(local_failed("the question was given up")));
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
            tracing::debug!(query = %release, "party One was not told of a refusal");
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
}
