//! A task in service: one list of models, one plan, one pool.
//!
//! An epoch is what a party works with between two agreements; its name is that of its pool, which outlives
//! it. Serials are given out in rising order. The bundles lie on the disk; a few are laid out ahead of demand.
//! Taking one moves it out, and everything below it goes with it.

use super::chores::{Chore, Stock, tend};
use super::{Compute, local_failed};
use crate::ledger::Charged;
use crate::message::{Obstacle, Refusal};
use crate::pool::{Holding, PoolError, PoolId, Pools};
use crate::registry::{MaskId, ModelId};
use crate::task::TaskTerms;
use consilium_protocol::evaluate::shared::SharedModel;
use consilium_protocol::graph::{Architecture, Plan};
use consilium_protocol::party::Party;
use consilium_protocol::stock::{Demand, Provision, WeightOpenings};
use futures::future::join_all;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Name of an epoch: that of its pool.
pub type EpochId = PoolId;

/// A model of an epoch, as this party holds it.
#[derive(Debug)]
pub(crate) struct HeldModel {
    pub(crate) owner: String,
    pub(crate) data_epoch: u32,
    /// The registration that it belongs to.
    pub(crate) registration: ModelId,
    pub(crate) network: Architecture,
    pub(crate) mask: MaskId,
    pub(crate) share: SharedModel,
    pub(crate) openings: Vec<Zeroizing<Vec<u64>>>,
}

/// The models of an epoch in the order of its plan.
#[derive(Debug)]
pub(crate) struct HeldModels(pub(crate) Vec<Arc<HeldModel>>);

impl WeightOpenings for HeldModels {
    fn opening(&self, model: usize, layer: usize) -> Option<&[u64]> {
        self.0.get(model)?.openings.get(layer).map(|words| words.as_slice())
    }
}

/// One epoch and its place in its pool.
pub struct Epoch {
    id: EpochId,
    terms: Arc<TaskTerms>,
    plan: Plan,
    lanes: Vec<Vec<Demand>>,
    models: HeldModels,
    source: String,
    pools: Arc<Pools>,
    stock: Mutex<Stock>,
    changed: Notify,
    ahead_max: usize,
}

/// What an epoch is about.
pub(crate) struct Subject {
    pub(crate) terms: Arc<TaskTerms>,
    pub(crate) plan: Plan,
    pub(crate) models: HeldModels,
    pub(crate) source: String,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({} of {})", self.models.0.len(), self.terms.name())
    }
}

impl Epoch {
    /// An epoch that goes on where both parties agreed, whose agreement is durable.
    pub(crate) fn new(subject: Subject, agreed: &Holding, compute: &Arc<Compute>) -> Arc<Self> {
        let Subject { terms, plan, models, source } = subject;
        let lanes = plan.lanes();
        let epoch = Arc::new(Self {
            id: agreed.pool,
            terms,
            ahead_max: ahead_max(&plan, compute.limits.prepared_max),
            plan,
            lanes,
            models,
            source,
            pools: compute.pools.clone(),
            stock: Mutex::new(Stock::new(agreed)),
            changed: Notify::new(),
        });
        tokio::spawn(tend(epoch.clone(), Arc::downgrade(compute), compute.ahead.clone()));
        epoch
    }

    /// The epoch's name.
    pub fn id(&self) -> EpochId {
        self.id
    }

    /// The task.
    pub fn terms(&self) -> &Arc<TaskTerms> {
        &self.terms
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where the correlated randomness comes from.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn lanes(&self) -> &[Vec<Demand>] {
        &self.lanes
    }

    pub(crate) fn models(&self) -> &HeldModels {
        &self.models
    }

    pub(super) fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Who is charged for an answer: owners in the order of the plan, where the models of one owner stand side by
    /// side, with the data of their models.
    pub fn charged(&self) -> Vec<Charged> {
        let of = |model: &Arc<HeldModel>| Charged { name: model.owner.clone(), data_epoch: model.data_epoch };
        let mut charged: Vec<Charged> = self.models.0.iter().map(of).collect();
        charged.dedup();
        charged
    }

    /// Bundles at hand, and bundles used since this epoch began.
    pub fn level(&self) -> (u64, u64) {
        let stock = self.lock();
        (stock.at_hand(), stock.used)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the stock and wakes whoever waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Stock) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.notify_waiters();
        value
    }

    pub(crate) fn end(&self) {
        self.change(Stock::end);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().ended
    }

    /// First serial that no batch was asked for yet.
    pub(crate) fn next_serial(&self) -> u64 {
        self.lock().next
    }

    /// Offers the serials of a batch that is on the disk of both parties.
    pub(crate) fn offer(&self, first: u64, count: u32) -> Result<(), Refusal> {
        self.change(|stock| stock.offer(first, first.saturating_add(u64::from(count))))
            .map_err(|text| Refusal::new(Obstacle::Epoch, text))
    }

    /// Gives serials up that were asked for and did not become a batch on both sides.
    pub(crate) fn pass(&self, next: u64) {
        self.change(|stock| stock.next = stock.next.max(next));
    }

    /// Burns what is at hand of the serials below `end`, which the other party burnt.
    pub(crate) fn skip(&self, end: u64) {
        self.change(|stock| stock.skip(end));
    }

    /// Gives a batch up that one of the parties lost.
    pub(crate) fn drop_batch(&self, first: u64) {
        self.change(|stock| stock.drop_batch(first));
    }

    /// The lowest serials at hand, at most `most`, going up.
    pub(crate) fn at_hand(&self, most: usize) -> Vec<u64> {
        self.lock().serials().take(most).collect()
    }

    /// Waits until some bundle is at hand and returns the lowest serial, without taking it.
    pub(crate) async fn lowest(&self, until: Instant) -> Result<u64, Refusal> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                {
                    let stock = self.lock();
                    if stock.ended {
                        return Err(Refusal::new(Obstacle::Epoch, "the models of the task changed"));
                    }
                    if let Some(lowest) = stock.lowest() {
                        return Ok(lowest);
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout_at(until, wait).await.unwrap_or_else(|_| {
            let help = "no correlated randomness in time: see `consilium status` for the pool and its source";
            Err(Refusal::new(Obstacle::Correlations, help))
        })
    }

    /// Takes the bundles of these serials, which go up, laid out. All others below are dropped.
    pub(crate) async fn take(self: &Arc<Self>, serials: &[u64]) -> Vec<Result<Vec<Provision>, Refusal>> {
        let mut claims = Vec::with_capacity(serials.len());
        for serial in serials {
            claims.push(self.claim(*serial).await);
        }
        join_all(serials.iter().zip(claims).map(|(serial, claim)| self.laid_out(*serial, claim))).await
    }

    /// Burns the bundle of a serial. `None` where it is to be read from the disk. A bundle that is being laid
    /// out is waited for, but not for long: that work comes after everything else.
    async fn claim(&self, serial: u64) -> Result<Option<Vec<Provision>>, Refusal> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if !self.lays_out(serial) {
                    return;
                }
                changed.await;
            }
        };
        // Whether it came in time or not, the bundle is taken now.
        let _ = tokio::time::timeout(LAID_OUT_WITHIN, wait).await;
        self.take_now(serial)
    }

    async fn laid_out(
        self: &Arc<Self>,
        serial: u64,
        claim: Result<Option<Vec<Provision>>, Refusal>,
    ) -> Result<Vec<Provision>, Refusal> {
        match claim? {
            Some(provisions) => Ok(provisions),
            None => {
                let epoch = self.clone();
                let laid = tokio::task::spawn_blocking(move || {
                    let laid = epoch.lay_out(serial);
                    epoch.change(|stock| stock.read(serial, laid.is_ok()));
                    laid
                });
                laid.await.map_err(local_failed)?
            }
        }
    }

    fn lays_out(&self, serial: u64) -> bool {
        let stock = self.lock();
        !stock.ended && stock.preparing == Some(serial)
    }

    fn take_now(&self, serial: u64) -> Result<Option<Vec<Provision>>, Refusal> {
        let mut stock = self.lock();
        if stock.ended {
            return Err(Refusal::new(Obstacle::Epoch, "the models of the task changed"));
        }
        if !stock.holds(serial) {
            let text = format!("serial {serial} is not at hand; it was used or never made");
            return Err(Refusal::new(Obstacle::Epoch, text));
        }
        let taken = stock.take(serial);
        drop(stock);
        self.changed.notify_waiters();
        Ok(taken)
    }

    /// Whether this serial may be reserved here.
    pub(crate) fn holds(&self, serial: u64) -> bool {
        let stock = self.lock();
        !stock.ended && stock.holds(serial)
    }

    /// Reads the bundle of a serial and lays it out. Blocks.
    pub(super) fn lay_out(&self, serial: u64) -> Result<Vec<Provision>, Refusal> {
        let failed = |error: PoolError| Refusal::new(Obstacle::Correlations, error);
        let tape = self.pools.read(self.id, serial).map_err(failed)?.into_tape();
        let laid = Provision::lay_out(tape, &self.lanes, &self.models);
        laid.map_err(|error| Refusal::new(Obstacle::Correlations, error))
    }

    /// What is to be done next, or else a wait for the next change.
    pub(super) async fn next_chore(&self) -> Chore {
        loop {
            let changed = self.changed.notified();
            if let Some(chore) = self.lock().chore(self.ahead_max) {
                return chore;
            }
            changed.await;
        }
    }
}

/// How long a question waits for a bundle that is being laid out in the background before it does so itself.
const LAID_OUT_WITHIN: Duration = Duration::from_millis(100);
/// Memory of what is laid out ahead in one epoch.
const AHEAD_BYTES_MAX: usize = 256 << 20;
/// Laid out, a bundle has free words beside its dependent ones; rarely more than three times as many.
const LAID_OUT_FACTOR: usize = 4;

/// Bundles to lay out ahead: what the administrator allows, less where they are large, at least one.
fn ahead_max(plan: &Plan, prepared_max: usize) -> usize {
    let bytes = usize::try_from(plan.stock_bytes(Party::One)).unwrap_or(usize::MAX);
    let bytes = bytes.saturating_mul(LAID_OUT_FACTOR);
    prepared_max.min(AHEAD_BYTES_MAX / bytes).max(1)
}
