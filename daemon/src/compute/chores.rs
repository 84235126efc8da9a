//! The serials of an epoch, and the work behind them: laying out ahead, deleting what is spent, giving up what
//! is damaged.

use super::Compute;
use super::background::Background;
use super::epoch::Epoch;
use crate::pool::Holding;
use consilium_protocol::stock::Provision;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

/// Which serials are at hand, and which of them lie where.
pub(super) struct Stock {
    pub(super) ended: bool,
    /// First serial that no batch was asked for yet.
    pub(super) next: u64,
    /// Serials below are burnt.
    low: u64,
    /// Batches on the disk: their first serials, and the serials after their last ones.
    batches: BTreeMap<u64, u64>,
    pub(super) preparing: Option<u64>,
    ready: BTreeMap<u64, Vec<Provision>>,
    /// Serials that were taken and are still being read.
    reading: BTreeSet<u64>,
    /// First serials of batches of which a record could not be read.
    lost: BTreeSet<u64>,
    pub(super) used: u64,
}

/// What is to be done for an epoch.
pub(super) enum Chore {
    /// Nothing any more.
    Over,
    /// Delete the batch with this first serial.
    Spent(u64),
    /// Give up the batch with this first serial on both sides.
    Lost(u64),
    /// Lay out the bundle of this serial.
    LayOut(u64),
}

impl Stock {
    pub(super) fn new(agreed: &Holding) -> Self {
        Self {
            ended: false,
            next: agreed.next,
            low: agreed.mark,
            batches: agreed.batches.iter().map(|batch| (batch.first, batch.end())).collect(),
            preparing: None,
            ready: BTreeMap::new(),
            reading: BTreeSet::new(),
            lost: BTreeSet::new(),
            used: 0,
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.ready.clear();
    }

    pub(super) fn at_hand(&self) -> u64 {
        self.batches.iter().map(|(first, end)| end.saturating_sub((*first).max(self.low))).sum()
    }

    /// First serial from `from` on that is at hand.
    fn lowest_from(&self, from: u64) -> Option<u64> {
        let from = from.max(self.low);
        self.batches.iter().find(|(_, end)| **end > from).map(|(first, _)| (*first).max(from))
    }

    /// All serials at hand, going up.
    pub(super) fn serials(&self) -> impl Iterator<Item = u64> {
        self.batches.iter().flat_map(|(first, end)| (*first).max(self.low)..*end)
    }

    pub(super) fn lowest(&self) -> Option<u64> {
        self.lowest_from(0)
    }

    pub(super) fn holds(&self, serial: u64) -> bool {
        self.lowest_from(serial) == Some(serial)
    }

    /// Burns everything up to `serial`. `None` where its bundle is to be read from the disk.
    pub(super) fn take(&mut self, serial: u64) -> Option<Vec<Provision>> {
        let ready = self.ready.remove(&serial);
        if ready.is_none() {
            self.reading.insert(serial);
        }
        self.skip(serial + 1);
        self.used += 1;
        ready
    }

    /// Burns everything below `end` that was asked for.
    pub(super) fn skip(&mut self, end: u64) {
        self.low = self.low.max(end.min(self.next));
        self.ready = self.ready.split_off(&self.low);
    }

    /// A serial that was taken has been read, or could not be.
    pub(super) fn read(&mut self, serial: u64, whole: bool) {
        self.reading.remove(&serial);
        if !whole {
            self.lose(serial);
        }
    }

    /// Gives the batch of a serial up. Says whether it was still here: it may have been given up or spent meanwhile.
    fn lose(&mut self, serial: u64) -> bool {
        let below = self.batches.range(..=serial).next_back().map(|(first, end)| (*first, *end));
        let Some((first, _)) = below.filter(|(_, end)| *end > serial) else { return false };
        self.lost.insert(first);
        self.drop_batch(first);
        true
    }

    pub(super) fn drop_batch(&mut self, first: u64) {
        if let Some(end) = self.batches.remove(&first) {
            self.ready.retain(|serial, _| *serial < first || *serial >= end);
        }
    }

    pub(super) fn offer(&mut self, first: u64, end: u64) -> Result<(), &'static str> {
        if self.ended || first < self.next {
            return Err("the models of the task, or its pool, changed meanwhile");
        }
        self.next = end;
        self.batches.insert(first, end);
        Ok(())
    }

    fn spent(&self) -> Option<u64> {
        let unread = |first: u64, end: u64| self.reading.range(first..end).next().is_none();
        let spent = |(first, end): (&u64, &u64)| (*end <= self.low && unread(*first, *end)).then_some(*first);
        self.batches.iter().find_map(spent)
    }

    pub(super) fn chore(&mut self, ahead_max: usize) -> Option<Chore> {
        if self.ended {
            return Some(Chore::Over);
        }
        if let Some(first) = self.lost.pop_first() {
            return Some(Chore::Lost(first));
        }
        if let Some(first) = self.spent() {
            self.batches.remove(&first);
            return Some(Chore::Spent(first));
        }
        let ahead = self.ready.last_key_value().map_or(0, |(serial, _)| serial + 1);
        let serial = self.lowest_from(ahead).filter(|_| self.ready.len() < ahead_max)?;
        self.preparing = Some(serial);
        Some(Chore::LayOut(serial))
    }

    /// A serial has been laid out, or could not be. Says whether that costs its batch.
    fn prepared(&mut self, serial: u64, laid: Option<Vec<Provision>>) -> bool {
        self.preparing = None;
        let Some(provisions) = laid else { return self.lose(serial) };
        if !self.ended && self.holds(serial) {
            self.ready.insert(serial, provisions);
        }
        false
    }
}

/// Does the chores of an epoch, one after the other, until it ends.
pub(super) async fn tend(epoch: Arc<Epoch>, compute: Weak<Compute>, background: Arc<Background>) {
    let task = epoch.terms().name().to_owned();
    loop {
        match epoch.next_chore().await {
            Chore::Over => return,
            Chore::Spent(first) => {
                let (pools, pool) = (epoch.pools().clone(), epoch.id());
                let deleted = tokio::task::spawn_blocking(move || pools.discard(pool, first)).await;
                if let Ok(Err(error)) = deleted {
                    tracing::warn!(
                        task,
                        first,
                        "a spent batch stays on the disk until the next start: {error}"
                    );
                }
            }
            Chore::Lost(first) => match compute.upgrade() {
                Some(compute) => {
                    compute.give_batch_up(&epoch, first).await;
                    compute.spare.notify_waiters();
                }
                None => return,
            },
            Chore::LayOut(serial) => {
                let worker = epoch.clone();
                let laid = background.run(move || worker.lay_out(serial)).await.flatten();
                let (laid, refusal) = match laid {
                    Ok(laid) => (Some(laid), None),
                    Err(refusal) => (None, Some(refusal)),
                };
                let lost = epoch.change(|stock| stock.prepared(serial, laid));
                if let Some(refusal) = refusal.filter(|_| lost) {
                    tracing::error!(task, serial, "a bundle cannot be used: {refusal}");
                    if let Some(compute) = compute.upgrade() {
                        compute.note_refill(Some(refusal.explanation));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Batch;

    fn stock(mark: u64, firsts: &[u64]) -> Stock {
        let batch = |first: &u64| Batch { first: *first, count: 4, tag: [0; 16] };
        let batches: Vec<Batch> = firsts.iter().map(batch).collect();
        let next = batches.iter().map(Batch::end).max().unwrap_or(mark);
        Stock::new(&Holding { pool: [0; 16], mark, next, batches })
    }

    #[test]
    fn serials_rise_over_gaps_and_never_come_back() {
        let mut stock = stock(2, &[0, 8]);
        assert_eq!((stock.at_hand(), stock.lowest()), (6, Some(2)));
        assert!(!stock.holds(1) && !stock.holds(4) && stock.holds(8));
        assert!(stock.take(3).is_none(), "it lies on the disk");
        assert!(!stock.holds(2) && !stock.holds(3), "a skipped serial is burnt");
        assert_eq!((stock.lowest(), stock.used), (Some(8), 1));
    }

    #[test]
    fn what_the_other_party_burnt_is_not_at_hand() {
        let mut stock = stock(0, &[0, 4]);
        for serial in 0..3 {
            assert!(matches!(stock.chore(3), Some(Chore::LayOut(found)) if found == serial));
            stock.prepared(serial, Some(Vec::new()));
        }
        stock.skip(2);
        assert_eq!((stock.at_hand(), stock.lowest(), stock.ready.len(), stock.used), (6, Some(2), 1, 0));
        stock.skip(1);
        assert_eq!(stock.at_hand(), 6, "what is burnt does not come back");
        stock.skip(5);
        assert!(matches!(stock.chore(0), Some(Chore::Spent(0))));
        stock.skip(u64::MAX);
        assert_eq!((stock.at_hand(), stock.low), (0, 8), "no serial that nobody has asked for yet");
        stock.offer(8, 12).unwrap();
        assert_eq!(stock.lowest(), Some(8));
    }

    #[test]
    fn a_batch_is_deleted_when_it_is_spent_and_read() {
        let mut stock = stock(0, &[0, 4]);
        stock.take(3);
        assert!(stock.spent().is_none(), "its last bundle is still being read");
        stock.read(3, true);
        assert!(matches!(stock.chore(0), Some(Chore::Spent(0))));
        assert!(stock.chore(0).is_none());
    }

    #[test]
    fn a_damaged_record_costs_its_batch() {
        let mut stock = stock(0, &[0, 4]);
        assert!(matches!(stock.chore(2), Some(Chore::LayOut(0))));
        stock.prepared(0, Some(Vec::new()));
        assert!(matches!(stock.chore(2), Some(Chore::LayOut(1))));
        stock.prepared(1, None);
        assert_eq!((stock.lowest(), stock.at_hand(), stock.ready.len()), (Some(4), 4, 0));
        assert!(matches!(stock.chore(2), Some(Chore::Lost(0))));
    }

    #[test]
    fn a_batch_that_was_given_up_while_it_was_laid_out_costs_no_other() {
        let mut stock = stock(8, &[8, 12, 20]);
        assert!(matches!(stock.chore(5), Some(Chore::LayOut(8))));
        for serial in 8..12 {
            stock.prepared(serial, Some(Vec::new()));
        }
        assert!(matches!(stock.chore(5), Some(Chore::LayOut(12))));
        stock.drop_batch(12);
        assert!(!stock.prepared(12, None), "it is gone already");
        assert_eq!((stock.lowest(), stock.at_hand(), stock.ready.len()), (Some(8), 8, 4));
        assert!(matches!(stock.chore(5), Some(Chore::LayOut(20))), "nothing was lost");
        stock.drop_batch(20);
        stock.read(20, false);
        assert_eq!(stock.at_hand(), 4);
    }

    #[test]
    fn batches_are_offered_in_rising_order_until_the_end() {
        let mut stock = stock(0, &[0]);
        assert!(stock.offer(3, 9).is_err(), "serial 3 exists");
        stock.offer(6, 9).unwrap();
        assert_eq!((stock.next, stock.at_hand()), (9, 7));
        stock.end();
        assert!(stock.offer(9, 12).is_err());
        assert!(matches!(stock.chore(1), Some(Chore::Over)));
    }

    #[test]
    fn no_more_than_allowed_is_laid_out_ahead() {
        let mut stock = stock(0, &[0]);
        for serial in 0..2 {
            assert!(matches!(stock.chore(2), Some(Chore::LayOut(found)) if found == serial));
            stock.prepared(serial, Some(Vec::new()));
        }
        assert!(stock.chore(2).is_none());
        assert!(stock.take(0).is_some(), "laid out");
        assert!(matches!(stock.chore(2), Some(Chore::LayOut(2))));
    }
}
