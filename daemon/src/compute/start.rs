//! Agreement of both parties: rosters, ledgers, openings, epochs.

use super::epoch::{Epoch, EpochId, HeldModels};
use super::models::{model_failed, ready};
use super::{Compute, local_failed, peer_failed};
use crate::bulk::{receive_bulk, send_bulk};
use crate::ledger::Head;
use crate::message::{MESSAGE_BYTES_MAX, Obstacle, PairReply, PairRequest, Refusal};
use crate::net::{Channel, ChannelError, Role};
use crate::registry::ModelId;
use crate::task::TaskTerms;
use consilium_protocol::algebra::Seed;
use consilium_protocol::graph::{Network, Plan};
use consilium_protocol::party::Party;
use ring::digest::{SHA256, digest};
use std::sync::Arc;
use std::time::Duration;

impl Compute {
    /// Party One: serves one request of party Zero.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve_pair(self: Arc<Self>, mut channel: Channel) -> Result<(), ChannelError> {
        let request = channel.receive_value(MESSAGE_BYTES_MAX).await?;
        let reply = match self.agree(&mut channel, request).await {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::warn!(obstacle = ?refusal.obstacle, "refused party Zero: {refusal}");
                PairReply::Refused(refusal)
            }
        };
        channel.send_value(&reply).await?;
        channel.close().await
    }

    async fn agree(
        self: &Arc<Self>,
        channel: &mut Channel,
        request: PairRequest,
    ) -> Result<PairReply, Refusal> {
        if self.seat != Party::One {
            return Err(Refusal::new(Obstacle::NotAllowed, "this is a request for party One"));
        }
        match request {
            PairRequest::Hello { roster, head, seen } => {
                self.check_roster(roster)?;
                self.check_heads(head, seen).await?;
                let (head, seen) = self.heads().await?;
                Ok(PairReply::Hello { head, seen })
            }
            PairRequest::Open { model } => {
                let own = self.own_opening(model).await?;
                let theirs = receive_bulk(channel, own.len() * 8).await.map_err(peer_failed)?;
                self.finish_opening(model, &own, &theirs)?;
                channel.send_value(&PairReply::Opening).await.map_err(peer_failed)?;
                let frame: Vec<u8> = own.iter().flat_map(|word| word.to_le_bytes()).collect();
                send_bulk(channel, &frame).await.map_err(peer_failed)?;
                Ok(PairReply::Done)
            }
            PairRequest::Activate { task, nonce, models, plan } => {
                let terms = self.task(&task)?;
                let (held, own_plan) = self.compile(&terms, &models)?;
                if own_plan.digest() != plan {
                    let text =
                        "the two compute parties compile different plans; compare rosters and versions";
                    return Err(Refusal::new(Obstacle::Task, text));
                }
                let own_nonce = fresh_nonce()?;
                let id = epoch_id(nonce, own_nonce, plan);
                self.put_epoch(Epoch::new(id, terms, own_plan, held, self.limits.prepared_max));
                Ok(PairReply::Active { nonce: own_nonce })
            }
            PairRequest::Refill { task, epoch, first, count } => {
                let current = self.epoch(&task).filter(|current| current.id() == epoch && !current.is_over());
                let gone = || Refusal::new(Obstacle::Epoch, "this epoch is over here");
                let current = current.ok_or_else(gone)?;
                let dealer_run = self.fetch(&current, first, count).await?;
                Ok(PairReply::Filled { dealer_run })
            }
            PairRequest::Forget { release, refusal } => {
                self.waiting.forget(release, refusal);
                Ok(PairReply::Done)
            }
            PairRequest::Withdraw { model } => {
                if let Ok(record) = self.registry.model(model) {
                    self.end_epoch(&record.announced.task);
                    self.registry.withdraw(model).map_err(model_failed)?;
                }
                Ok(PairReply::Done)
            }
        }
    }

    pub(super) async fn pair_channel(&self) -> Result<Channel, Refusal> {
        self.network.open(self.other, Role::Pair, self.limits.round_deadline).await.map_err(peer_failed)
    }

    /// Party Zero: one request to party One.
    pub(super) async fn ask_other(&self, request: &PairRequest) -> Result<PairReply, Refusal> {
        self.ask_other_within(request, self.limits.query_deadline).await
    }

    /// The same for a request that takes party One `within`.
    pub(super) async fn ask_other_within(
        &self,
        request: &PairRequest,
        within: Duration,
    ) -> Result<PairReply, Refusal> {
        let mut channel = self.pair_channel().await?;
        channel.send_value(request).await.map_err(peer_failed)?;
        let reply = channel.receive_value(MESSAGE_BYTES_MAX);
        let reply = tokio::time::timeout(within, reply).await;
        match reply.map_err(|_| peer_failed("no answer in time"))?.map_err(peer_failed)? {
            PairReply::Refused(refusal) => Err(refusal),
            reply => Ok(reply),
        }
    }

    fn check_roster(&self, roster: [u8; 32]) -> Result<(), Refusal> {
        if roster == self.roster_digest {
            return Ok(());
        }
        Err(Refusal::new(
            Obstacle::Task,
            "the two compute parties hold different rosters; install the same file",
        ))
    }

    async fn heads(&self) -> Result<(Head, Option<Head>), Refusal> {
        let head = self.ledger.head().await.map_err(local_failed)?;
        let seen = self.ledger.peer_head(self.other_name.clone()).await.map_err(local_failed)?;
        Ok((head, seen))
    }

    /// Refuses a partner whose ledger is older than what this side saw of it, and service with an own
    /// ledger that is older than what the partner saw.
    async fn check_heads(&self, theirs: Head, seen: Option<Head>) -> Result<(), Refusal> {
        let refused = |error| Refusal::new(Obstacle::Ledger, error);
        self.ledger.check_peer_head(self.other_name.clone(), theirs).await.map_err(refused)?;
        if let Some(seen) = seen {
            self.ledger.check_own_head(seen).await.map_err(refused)?;
        }
        self.ledger.set_peer_head(self.other_name.clone(), theirs).await.map_err(refused)
    }

    fn compile(&self, terms: &Arc<TaskTerms>, models: &[ModelId]) -> Result<(HeldModels, Plan), Refusal> {
        let held = self.load_models(models)?;
        let networks: Vec<Network> =
            held.0.iter().map(|model| model.record.announced.network.clone()).collect();
        let plan = terms.plan(&networks).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        Ok((held, plan))
    }

    /// Party Zero: ends the epoch of a task; its keeper begins another with the models that are ready.
    pub(super) fn change_epoch(&self, task: &str) {
        self.end_epoch(task);
        self.spare.notify_waiters();
    }

    /// Party Zero: the epoch in force, begun now if there is none.
    pub(crate) async fn current_epoch(self: &Arc<Self>, task: &str) -> Result<Arc<Epoch>, Refusal> {
        let in_force = || self.epoch(task).filter(|epoch| !epoch.is_over());
        if let Some(epoch) = in_force() {
            return Ok(epoch);
        }
        let _changing = self.changing.lock().await;
        if let Some(epoch) = in_force() {
            return Ok(epoch);
        }
        let terms = self.task(task)?;
        let models = ready(&self.registry, task).map_err(model_failed)?;
        if models.len() < terms.roster.owners_min as usize {
            let text = format!(
                "{} of at least {} models are ready; owners publish with `consilium model publish`",
                models.len(),
                terms.roster.owners_min
            );
            return Err(Refusal::new(Obstacle::Models, text));
        }
        self.greet().await?;
        let ids: Vec<ModelId> = models.iter().map(|record| record.announced.model).collect();
        let compute = self.clone();
        let task_terms = terms.clone();
        let (loading, order) = (ids.clone(), ids);
        let compiled = tokio::task::spawn_blocking(move || compute.compile(&task_terms, &loading)).await;
        let (held, plan) = compiled.map_err(local_failed)??;
        let nonce = fresh_nonce()?;
        let request =
            PairRequest::Activate { task: task.to_owned(), nonce, models: order, plan: plan.digest() };
        let PairReply::Active { nonce: theirs } = self.ask_other(&request).await? else {
            return Err(peer_failed("answered something else"));
        };
        let id = epoch_id(nonce, theirs, plan.digest());
        let cost = plan.cost();
        tracing::info!(
            task,
            models = held.0.len(),
            rounds = cost.rounds,
            bytes = cost.bytes,
            "a new epoch of the task has begun"
        );
        let epoch = Epoch::new(id, terms, plan, held, self.limits.prepared_max);
        self.put_epoch(epoch.clone());
        self.spare.notify_waiters();
        Ok(epoch)
    }

    async fn greet(&self) -> Result<(), Refusal> {
        let _order = self.showing_heads.lock().await;
        let (head, seen) = self.heads().await?;
        let request = PairRequest::Hello { roster: self.roster_digest, head, seen };
        let PairReply::Hello { head, seen } = self.ask_other(&request).await? else {
            return Err(peer_failed("answered something else"));
        };
        self.check_heads(head, seen).await
    }
}

fn fresh_nonce() -> Result<[u8; 16], Refusal> {
    Seed::random().map(|seed| *seed.as_bytes()).map_err(local_failed)
}

fn epoch_id(zero: [u8; 16], one: [u8; 16], plan: [u8; 32]) -> EpochId {
    let hash = digest(&SHA256, &[b"consilium epoch 1".as_slice(), &zero, &one, &plan].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    id
}
