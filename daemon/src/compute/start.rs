//! Agreement of both parties: rosters, ledgers, withdrawals, openings, epochs.

use super::epoch::{Epoch, EpochId, Subject};
use super::models::{model_failed, ready, too_few};
use super::{Compute, local_failed, peer_failed};
use crate::bulk::{receive_bulk, send_bulk};
use crate::ledger::Head;
use crate::message::{MESSAGE_BYTES_MAX, Obstacle, PairReply, PairRequest, Refusal};
use crate::net::{Channel, ChannelError, Role};
use crate::registry::ModelId;
use crate::task::TaskTerms;
use consilium_protocol::graph::Architecture;
use consilium_protocol::party::Party;
use consilium_protocol::stock::Gadget;
use std::sync::Arc;
use std::time::Duration;

/// From this round trip on rounds cost more than comparison keys.
const FAR: Duration = Duration::from_millis(10);
/// By how much a round trip is shorter or longer than [`FAR`] where one of them says enough to give a pool up for.
const UNSURE: u32 = 4;
/// Largest bundle of keys that is worth it, in bytes.
const KEYS_BYTES_MAX: u64 = 2 << 20;

impl Compute {
    /// Serves one request of the other party, as a rule One those of Zero.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve_pair(self: Arc<Self>, mut channel: Channel) -> Result<(), ChannelError> {
        let request = channel.receive_request(MESSAGE_BYTES_MAX, self.limits.round_deadline).await?;
        let reply = match self.agree(&mut channel, request).await {
            Ok(reply) => reply,
            Err(refusal) => {
                let (peer, obstacle) = (&self.other_name, refusal.obstacle);
                if let Some(unlogged) = self.said.note((peer.clone(), obstacle)) {
                    tracing::warn!(
                        peer,
                        verdict = "refused",
                        ?obstacle,
                        unlogged,
                        "refused the other party: {refusal}"
                    );
                }
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
        match (self.seat, request) {
            // What either party may have to tell.
            (_, PairRequest::Discard { task, pool, first }) => {
                self.drop_batch(&task, pool, first).await;
                self.spare.notify_waiters();
                Ok(PairReply::Done)
            }
            (_, PairRequest::Withdraw { model }) => {
                let _changing = self.changing.lock().await;
                self.hear_withdrawn(model).await?;
                Ok(PairReply::Done)
            }
            (_, PairRequest::Heads) => {
                let (head, seen) = self.heads().await?;
                Ok(PairReply::Heads { head, seen })
            }
            (Party::One, request) => self.follow_zero(channel, request).await,
            _ => Err(Refusal::new(Obstacle::NotAllowed, "this is a request for party One")),
        }
    }

    /// Party One: what only party Zero may ask for.
    async fn follow_zero(
        self: &Arc<Self>,
        channel: &mut Channel,
        request: PairRequest,
    ) -> Result<PairReply, Refusal> {
        match request {
            PairRequest::Hello { roster, head, seen, withdrawn } => {
                self.check_roster(roster)?;
                // Not kept yet: Zero has to find its own chain in what One saw before, and a chain that was
                // restored and went on differently may be longer.
                self.check_heads(head, seen, false).await?;
                let _changing = self.changing.lock().await;
                for model in withdrawn {
                    self.hear_withdrawn(model).await?;
                }
                let (head, seen) = self.heads().await?;
                let withdrawn = self.registry.untold().map_err(model_failed)?;
                Ok(PairReply::Hello { head, seen, withdrawn })
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
            PairRequest::Activate { task, nonce, models, gadget, plan, held } => {
                let _changing = self.changing.lock().await;
                let terms = self.task(&task)?;
                if !terms.allows(gadget) || (gadget == Gadget::Keys && self.dealer.is_none()) {
                    return Err(Refusal::new(Obstacle::Task, "the roster does not allow this comparison"));
                }
                if models.len() < terms.roster.owners_min as usize {
                    let text = format!(
                        "party Zero names the models of {} owners; the task takes those of at least {}",
                        models.len(),
                        terms.roster.owners_min
                    );
                    return Err(Refusal::new(Obstacle::Task, text));
                }
                let subject = self.compile(&terms, &models, gadget)?;
                if subject.plan.digest() != plan {
                    let text =
                        "the two compute parties compile different plans; compare rosters and versions";
                    return Err(Refusal::new(Obstacle::Task, text));
                }
                self.follow_pool(subject, nonce, held).await
            }
            PairRequest::InForce { task, epoch } => self.in_force(&task, epoch).map(|_| PairReply::Done),
            PairRequest::Refill { task, epoch, first, count } => {
                let current = self.in_force(&task, epoch)?;
                let tag = self.fetch(&current, (first, count), channel).await?;
                Ok(PairReply::Filled { tag })
            }
            PairRequest::Noise { specification, signature } => {
                self.follow_draw(channel, &specification, signature).await
            }
            PairRequest::Forget { release, refusal } => {
                self.waiting.forget(release, refusal);
                Ok(PairReply::Done)
            }
            PairRequest::Discard { .. } | PairRequest::Withdraw { .. } | PairRequest::Heads => {
                Ok(PairReply::Done)
            }
        }
    }

    /// Party One: the epoch that party Zero names, if this side is in it.
    fn in_force(&self, task: &str, epoch: EpochId) -> Result<Arc<Epoch>, Refusal> {
        let current = self.epoch(task).filter(|current| current.id() == epoch && !current.is_over());
        current.ok_or_else(|| Refusal::new(Obstacle::Epoch, "this epoch is over here"))
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
            "the two compute parties hold different rosters; where it is signed they come together by themselves in a \
             moment, else install the same file on both",
        ))
    }

    async fn heads(&self) -> Result<(Head, Option<Head>), Refusal> {
        let head = self.ledger.head().await.map_err(local_failed)?;
        let seen = self.ledger.peer_head(self.other_name.clone()).await.map_err(local_failed)?;
        Ok((head, seen))
    }

    /// Refuses a partner whose ledger is older than what this side saw of it, and service with an own
    /// ledger that is older than what the partner saw. Either way the pools are given up.
    async fn check_heads(&self, theirs: Head, seen: Option<Head>, keep: bool) -> Result<(), Refusal> {
        let refused = |error| Refusal::new(Obstacle::Ledger, error);
        if let Some(seen) = seen
            && let Err(error) = self.ledger.check_own_head(seen).await
        {
            self.surrender_pools(false).await;
            return Err(refused(error));
        }
        let other = self.other_name.clone();
        let checked = match keep {
            true => self.ledger.set_peer_head(other, theirs).await,
            false => self.ledger.check_peer_head(other, theirs).await,
        };
        if let Err(error) = checked {
            self.surrender_pools(true).await;
            return Err(refused(error));
        }
        Ok(())
    }

    /// Party Zero: a task's models with the way of comparing that suits them best. Keys save rounds, which
    /// count where the other party is far, and take room; nibbles save work where there is no dealer.
    fn preferred(&self, terms: &Arc<TaskTerms>, models: &[ModelId]) -> Result<Subject, Refusal> {
        let allowed: Vec<Gadget> = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys]
            .into_iter()
            .filter(|gadget| terms.allows(*gadget))
            .collect();
        if let [only] = allowed[..] {
            return self.compile(terms, models, only);
        }
        let trip = self.network.connected(self.other).ok().and_then(|presence| presence.state().round_trip);
        let chosen = self.preferred_at(trip, terms, models)?;
        // Another plan is another pool, and the one in hand would be burnt: not for one slow ping.
        if trip.is_some_and(|trip| trip < FAR / UNSURE || trip >= FAR * UNSURE) || self.is_stocked(&chosen) {
            return Ok(chosen);
        }
        for gadget in allowed.into_iter().filter(|gadget| *gadget != Gadget::Keys || self.dealer.is_some()) {
            let other = self.compile(terms, models, gadget)?;
            if self.is_stocked(&other) {
                return Ok(other);
            }
        }
        Ok(chosen)
    }

    fn preferred_at(
        &self,
        trip: Option<Duration>,
        terms: &Arc<TaskTerms>,
        models: &[ModelId],
    ) -> Result<Subject, Refusal> {
        let far = trip.is_some_and(|trip| trip >= FAR);
        if far && self.dealer.is_some() {
            let subject = self.compile(terms, models, Gadget::Keys)?;
            if subject.plan.stock_bytes(Party::One) <= KEYS_BYTES_MAX {
                return Ok(subject);
            }
        }
        let made_here = self.dealer.is_none() && !far;
        self.compile(terms, models, if made_here { Gadget::Nibbles } else { Gadget::Digits })
    }

    /// Whether there are bundles for exactly this. Blocks on the disk.
    fn is_stocked(&self, subject: &Subject) -> bool {
        let purpose = self.purpose(subject);
        let mut held =
            self.pools.list().unwrap_or_default().into_iter().filter(|(_, found)| *found == purpose);
        held.any(|(pool, _)| self.pools.bytes(pool).is_ok_and(|bytes| bytes > 0))
    }

    fn compile(
        &self,
        terms: &Arc<TaskTerms>,
        models: &[ModelId],
        gadget: Gadget,
    ) -> Result<Subject, Refusal> {
        let models = self.load_models(terms, models)?;
        let networks: Vec<Architecture> = models.0.iter().map(|model| model.network.clone()).collect();
        let plan = terms.plan(&networks, gadget).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        Ok(Subject { terms: terms.clone(), plan, models, source: self.source.provenance().to_owned() })
    }

    /// Ends the epoch of a task. Party Zero's keeper begins another with the models that are ready then.
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
        // First, since the other party may know of a withdrawal.
        self.greet().await?;
        let models = ready(&self.registry, &terms).map_err(model_failed)?;
        if models.len() < terms.roster.owners_min as usize {
            return Err(too_few(&self.registry, &terms, models.len()));
        }
        let ids: Vec<ModelId> = models.iter().map(|record| record.announced.model).collect();
        let compute = self.clone();
        let compiled = tokio::task::spawn_blocking(move || compute.preferred(&terms, &ids)).await;
        let epoch = self.lead_pool(compiled.map_err(local_failed)??).await?;
        self.spare.notify_waiters();
        Ok(epoch)
    }

    /// Party Zero: compares rosters and ledgers, and has both sides withdraw what either withdrew alone.
    async fn greet(&self) -> Result<(), Refusal> {
        let withdrawn = self.registry.untold().map_err(model_failed)?;
        let theirs = {
            let _order = self.showing_heads.lock().await;
            let (head, seen) = self.heads().await?;
            let told = withdrawn.clone();
            let request = PairRequest::Hello { roster: self.roster_digest, head, seen, withdrawn: told };
            let (head, seen, theirs) = match self.ask_other(&request).await {
                Ok(PairReply::Hello { head, seen, withdrawn }) => (head, seen, withdrawn),
                Ok(_) => return Err(peer_failed("answered something else")),
                Err(refusal) => {
                    if refusal.obstacle == Obstacle::Ledger {
                        self.surrender_pools(false).await;
                    }
                    return Err(refusal);
                }
            };
            self.check_heads(head, seen, true).await?;
            theirs
        };
        for model in withdrawn {
            self.registry.told(model).map_err(model_failed)?;
        }
        for model in theirs {
            self.hear_withdrawn(model).await?;
            self.ask_other(&PairRequest::Withdraw { model }).await?;
        }
        Ok(())
    }
}
