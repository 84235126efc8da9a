//! Which pool a task goes on with.
//!
//! ```text
//!   Zero                                          One
//!   held, or nothing  ──── activate ────────────▶ the same pool, plan, models and source?
//!                                                   yes: higher mark durable, rest deleted
//!   higher mark durable, rest deleted ◀─ resumed ─       nothing is used before Zero does the same
//!                                                   no: all pools of the task burnt, a new one begins
//!   all pools burnt, a new one begins ◀─ active ──
//! ```
//!
//! Both sides compute the agreement from what either held, so that it is the same without another message. A
//! crash at any point leaves marks that only the next agreement can raise further.

use super::epoch::{Epoch, EpochId, Subject};
use super::{Compute, local_failed, peer_failed};
use crate::crash::{self, Step};
use crate::ledger::BURNT;
use crate::message::{Obstacle, PairReply, PairRequest, Refusal};
use crate::pool::{Holding, PoolError, PoolId, Pools, Purpose};
use crate::registry::{ModelId, ModelState};
use consilium_protocol::algebra::Seed;
use ring::digest::{SHA256, digest};
use std::sync::Arc;

impl Compute {
    /// Party Zero: goes on with the pool that both hold for these models, or begins one.
    pub(super) async fn lead_pool(self: &Arc<Self>, subject: Subject) -> Result<Arc<Epoch>, Refusal> {
        let purpose = self.purpose(&subject);
        let held = self.held_for(&purpose).await?;
        let nonce = fresh_nonce()?;
        let mut models: Vec<ModelId> = purpose.models.iter().map(|(model, _)| *model).collect();
        models.dedup();
        let request = PairRequest::Activate {
            task: purpose.task.clone(),
            nonce,
            models,
            gadget: subject.plan.gadget(),
            plan: purpose.plan,
            held: held.clone(),
        };
        crash::at(Step::ReconnectAsk);
        let reply = self.ask_other(&request).await?;
        crash::at(Step::ReconnectZero);
        let agreed = match (reply, held) {
            (PairReply::Resumed { held: theirs }, Some(own)) => {
                let agreed = own.agree(&theirs).ok_or_else(|| peer_failed("it resumed another pool"))?;
                self.settle(&purpose, &agreed).await?;
                agreed
            }
            (PairReply::Active { nonce: theirs }, _) => {
                self.begin(purpose, pool_id(nonce, theirs, subject.plan.digest())).await?
            }
            _ => return Err(peer_failed("answered something else")),
        };
        crash::at(Step::ReconnectDone);
        Ok(self.enter(subject, &agreed))
    }

    /// Party One: the same.
    pub(super) async fn follow_pool(
        self: &Arc<Self>,
        subject: Subject,
        nonce: [u8; 16],
        theirs: Option<Holding>,
    ) -> Result<PairReply, Refusal> {
        // What the former epoch holds in memory must not be given out beside the new one's.
        self.end_epoch(subject.terms.name());
        let purpose = self.purpose(&subject);
        let held = self.held_for(&purpose).await?;
        crash::at(Step::ReconnectOne);
        let agreed = held.as_ref().zip(theirs.as_ref()).and_then(|(own, theirs)| own.agree(theirs));
        let (agreed, reply) = match (agreed, held) {
            (Some(agreed), Some(held)) => {
                self.settle(&purpose, &agreed).await?;
                (agreed, PairReply::Resumed { held })
            }
            _ => {
                let own = fresh_nonce()?;
                let begun = self.begin(purpose, pool_id(nonce, own, subject.plan.digest())).await?;
                (begun, PairReply::Active { nonce: own })
            }
        };
        self.enter(subject, &agreed);
        crash::at(Step::ReconnectReply);
        Ok(reply)
    }

    fn enter(self: &Arc<Self>, subject: Subject, agreed: &Holding) -> Arc<Epoch> {
        let cost = subject.plan.cost();
        let bundles: u64 =
            agreed.batches.iter().map(|batch| batch.end() - batch.first.max(agreed.mark)).sum();
        tracing::info!(
            task = subject.terms.name(),
            models = subject.models.0.len(),
            rounds = cost.rounds,
            bytes = cost.bytes,
            mark = agreed.mark,
            bundles,
            "the task is in service"
        );
        let epoch = Epoch::new(subject, agreed, self);
        self.put_epoch(epoch.clone());
        epoch
    }

    pub(super) fn purpose(&self, subject: &Subject) -> Purpose {
        Purpose {
            task: subject.terms.name().to_owned(),
            seat: self.seat,
            plan: subject.plan.digest(),
            models: subject.models.0.iter().map(|model| (model.registration, model.mask)).collect(),
            source: subject.source.clone(),
        }
    }

    /// What this side holds for exactly this purpose. Damage is told and costs the batches that it met.
    async fn held_for(&self, purpose: &Purpose) -> Result<Option<Holding>, Refusal> {
        let found = self.pools_where(|found| found == purpose).await?;
        for pool in found {
            let mark = self.ledger.mark(pool).await.map_err(local_failed)?;
            if mark == BURNT {
                continue;
            }
            let (held, faults) = self.on_pools(move |pools| pools.holding(pool, mark)).await?;
            for fault in faults {
                tracing::error!(task = purpose.task, "{fault}");
            }
            return Ok(Some(held));
        }
        Ok(None)
    }

    /// Makes an agreement durable: burns what is below its mark, gives up the rest of the pool and all others.
    async fn settle(&self, purpose: &Purpose, agreed: &Holding) -> Result<(), Refusal> {
        self.ledger.burn(agreed.pool, agreed.mark).await.map_err(local_failed)?;
        self.retire_pools(|pool, found| found.task == purpose.task && pool != agreed.pool).await?;
        let agreed = agreed.clone();
        self.on_pools(move |pools| pools.settle(&agreed)).await
    }

    /// Burns all pools of the task and begins this one.
    async fn begin(&self, purpose: Purpose, pool: PoolId) -> Result<Holding, Refusal> {
        self.retire_pools(|_, found| found.task == purpose.task).await?;
        self.on_pools(move |pools| pools.create(pool, purpose)).await?;
        Ok(Holding { pool, mark: 0, next: 0, batches: Vec::new() })
    }

    /// Burns pools for ever and deletes them.
    pub(super) async fn retire_pools(&self, which: impl Fn(PoolId, &Purpose) -> bool) -> Result<(), Refusal> {
        for (pool, purpose) in self.on_pools(Pools::list).await? {
            if which(pool, &purpose) {
                crash::at(Step::BurnMark);
                self.ledger.burn(pool, BURNT).await.map_err(local_failed)?;
                crash::at(Step::BurnPool);
                self.on_pools(move |pools| pools.retire(pool)).await?;
                tracing::info!(task = purpose.task, "a pool was retired; all that was left of it is burnt");
            }
        }
        Ok(())
    }

    /// One of the two ledgers went back, so one of the two sides may hold what was used. A side whose own
    /// ledger may be the old one writes nothing into it, and only deletes.
    pub(super) async fn surrender_pools(&self, own_ledger_is_sound: bool) {
        self.end_all_epochs();
        tracing::error!(
            kind = "ledger-behind",
            peer = self.other_name,
            own_ledger_is_sound,
            "a ledger went back to an older copy: all pools of this pair are given up"
        );
        let given_up = async {
            if own_ledger_is_sound {
                return self.retire_pools(|_, _| true).await;
            }
            for (pool, _) in self.on_pools(Pools::list).await? {
                self.on_pools(move |pools| pools.retire(pool)).await?;
            }
            Ok(())
        };
        if let Err(refusal) = given_up.await {
            tracing::error!("pools of a ledger that went back are not deleted: {refusal}");
        }
    }

    /// Retires pools with a model that does not vote any more, which a crash may have left, and those of tasks that this
    /// seat has no more.
    ///
    /// # Errors
    /// The stores fail.
    pub(crate) async fn sweep_pools(&self) -> Result<(), Refusal> {
        let models = self.registry.list().map_err(local_failed)?;
        let ready: Vec<ModelId> = models
            .iter()
            .filter(|record| record.state == ModelState::Ready)
            .map(|record| record.announced.model)
            .collect();
        let gone = |purpose: &Purpose| {
            !self.tasks.contains_key(&purpose.task)
                || purpose.models.iter().any(|(model, _)| !ready.contains(model))
        };
        self.retire_pools(|_, purpose| gone(purpose)).await
    }

    async fn pools_where(&self, which: impl Fn(&Purpose) -> bool) -> Result<Vec<PoolId>, Refusal> {
        let pools = self.on_pools(Pools::list).await?;
        Ok(pools.into_iter().filter(|(_, purpose)| which(purpose)).map(|(pool, _)| pool).collect())
    }

    async fn on_pools<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pools) -> Result<T, PoolError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let pools = self.pools.clone();
        let done = tokio::task::spawn_blocking(move || work(&pools)).await;
        done.map_err(local_failed)?.map_err(|error| Refusal::new(Obstacle::Local, error))
    }
}

fn fresh_nonce() -> Result<[u8; 16], Refusal> {
    Seed::random().map(|seed| *seed.as_bytes()).map_err(local_failed)
}

fn pool_id(zero: [u8; 16], one: [u8; 16], plan: [u8; 32]) -> EpochId {
    let hash = digest(&SHA256, &[b"consilium pool 1".as_slice(), &zero, &one, &plan].concat());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    id
}
