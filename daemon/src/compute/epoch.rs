//! An epoch of a task: one list of models, one plan, one row of serials.
//!
//! Bundles live in memory only and belong to an epoch whose name both parties' fresh randomness
//! makes, so a restart of either party, or a restored disk, can never bring one back. Taking a bundle
//! moves it out; a bundle that was skipped is dropped.

use super::local_failed;
use crate::message::{Obstacle, Refusal};
use crate::registry::ModelRecord;
use crate::task::TaskTerms;
use consilium_protocol::evaluate::shared::SharedModel;
use consilium_protocol::graph::Plan;
use consilium_protocol::stock::{Demand, Provision, Tape, WeightOpenings};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Name of an epoch.
pub type EpochId = [u8; 16];

/// A model of an epoch, as this party holds it.
#[derive(Debug)]
pub(crate) struct HeldModel {
    pub(crate) record: ModelRecord,
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

/// One epoch with its bundles.
pub struct Epoch {
    id: EpochId,
    terms: Arc<TaskTerms>,
    plan: Plan,
    lanes: Vec<Vec<Demand>>,
    models: HeldModels,
    stock: Mutex<Stock>,
    changed: Notify,
    prepared_max: usize,
    /// Held by party Zero from picking a serial until party One has reserved it.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Stock {
    ended: bool,
    next: u64,
    dealer_run: Option<[u8; 16]>,
    tapes: BTreeMap<u64, Tape>,
    preparing: Option<u64>,
    ready: BTreeMap<u64, Vec<Provision>>,
    used: u64,
    fault: Option<String>,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({} of {})", self.models.0.len(), self.terms.name())
    }
}

impl Epoch {
    pub(crate) fn new(
        id: EpochId,
        terms: Arc<TaskTerms>,
        plan: Plan,
        models: HeldModels,
        prepared_max: usize,
    ) -> Arc<Self> {
        let lanes = plan.lanes();
        let epoch = Arc::new(Self {
            id,
            terms,
            plan,
            lanes,
            models,
            stock: Mutex::default(),
            changed: Notify::new(),
            prepared_max,
            turn: tokio::sync::Mutex::new(()),
        });
        tokio::spawn(prepare(epoch.clone()));
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

    pub(crate) fn models(&self) -> &HeldModels {
        &self.models
    }

    /// Owners in the order of the plan.
    pub fn owners(&self) -> Vec<String> {
        self.models.0.iter().map(|model| model.record.announced.owner.clone()).collect()
    }

    /// Bundles at hand, and bundles used so far.
    pub fn level(&self) -> (u64, u64) {
        let stock = self.lock();
        (stock.at_hand(), stock.used)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(&self) {
        let mut stock = self.lock();
        stock.ended = true;
        stock.tapes.clear();
        stock.ready.clear();
        drop(stock);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().ended
    }

    /// First serial that was not asked for yet.
    pub(crate) fn next_serial(&self) -> u64 {
        self.lock().next
    }

    /// Adds a batch. Both batches of an epoch come from one run of the dealer.
    pub(crate) fn deposit(&self, first: u64, tapes: Vec<Tape>, dealer_run: [u8; 16]) -> Result<(), Refusal> {
        let mut stock = self.lock();
        let same = *stock.dealer_run.get_or_insert(dealer_run) == dealer_run;
        if stock.ended || !same || first < stock.next {
            return Err(Refusal::new(Obstacle::Epoch, "the dealer or the epoch has changed meanwhile"));
        }
        stock.next = first + tapes.len() as u64;
        for (serial, tape) in (first..).zip(tapes) {
            stock.tapes.insert(serial, tape);
        }
        drop(stock);
        self.changed.notify_waiters();
        Ok(())
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
            let help = "no correlated randomness in time: see `consilium status` for the dealer";
            Err(Refusal::new(Obstacle::Correlations, help))
        })
    }

    /// Takes the bundle with this serial, laid out. All lower ones are dropped.
    pub(crate) async fn take(
        self: &Arc<Self>,
        serial: u64,
        within: Duration,
    ) -> Result<Vec<Provision>, Refusal> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(taken) = self.try_take(serial)? {
                    return Ok(taken);
                }
                changed.await;
            }
        };
        let late =
            |_| Err(Refusal::new(Obstacle::Deadline, "laying out correlated randomness took too long"));
        let taken: Taken = tokio::time::timeout(within, wait).await.unwrap_or_else(late)?;
        self.changed.notify_waiters();
        match taken {
            Taken::Ready(provisions) => Ok(provisions),
            Taken::Tape(tape) => {
                let epoch = self.clone();
                let laid = tokio::task::spawn_blocking(move || epoch.lay_out(*tape)).await;
                laid.map_err(local_failed)?
            }
        }
    }

    fn try_take(&self, serial: u64) -> Result<Option<Taken>, Refusal> {
        let mut stock = self.lock();
        if stock.ended {
            return Err(Refusal::new(Obstacle::Epoch, "the models of the task changed"));
        }
        if stock.preparing == Some(serial) {
            return Ok(None);
        }
        let taken = match stock.ready.remove(&serial) {
            Some(provisions) => Some(Taken::Ready(provisions)),
            None => stock.tapes.remove(&serial).map(|tape| Taken::Tape(Box::new(tape))),
        };
        let Some(taken) = taken else {
            let text = format!("serial {serial} is not at hand; it was used or never dealt");
            return Err(Refusal::new(Obstacle::Epoch, text));
        };
        stock.used += 1;
        stock.tapes = stock.tapes.split_off(&serial);
        stock.ready = stock.ready.split_off(&serial);
        Ok(Some(taken))
    }

    fn lay_out(&self, tape: Tape) -> Result<Vec<Provision>, Refusal> {
        let laid = Provision::lay_out(tape, &self.lanes, &self.models);
        laid.map_err(|error| Refusal::new(Obstacle::Correlations, error))
    }
}

enum Taken {
    Ready(Vec<Provision>),
    Tape(Box<Tape>),
}

impl Stock {
    fn at_hand(&self) -> u64 {
        self.tapes.len() as u64 + self.ready.len() as u64 + u64::from(self.preparing.is_some())
    }

    fn lowest(&self) -> Option<u64> {
        let first = |key: Option<&u64>| key.copied();
        [first(self.ready.keys().next()), self.preparing, first(self.tapes.keys().next())]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Lays out the next few bundles ahead of demand, one at a time, until the epoch ends.
async fn prepare(epoch: Arc<Epoch>) {
    loop {
        let changed = epoch.changed.notified();
        let next = {
            let mut stock = epoch.lock();
            if stock.ended {
                return;
            }
            let room = stock.ready.len() < epoch.prepared_max;
            let next = if room { stock.tapes.pop_first() } else { None };
            stock.preparing = next.as_ref().map(|(serial, _)| *serial);
            next
        };
        let Some((serial, tape)) = next else {
            changed.await;
            continue;
        };
        let worker = epoch.clone();
        let laid = tokio::task::spawn_blocking(move || worker.lay_out(tape)).await;
        let mut stock = epoch.lock();
        stock.preparing = None;
        match laid {
            Ok(Ok(provisions)) if !stock.ended => {
                stock.ready.insert(serial, provisions);
            }
            Ok(Ok(_)) => return,
            Ok(Err(refusal)) => stock.fault = Some(refusal.explanation),
            Err(error) => stock.fault = Some(error.to_string()),
        }
        if let Some(fault) = stock.fault.take() {
            tracing::error!(task = epoch.terms.name(), serial, fault, "a bundle does not serve its plan");
        }
        drop(stock);
        epoch.changed.notify_waiters();
    }
}
