//! What a seat does when a process that it depends on dies or comes back.
//!
//! What either reserved last may be unknown to the other, so both end their epochs when the connection goes and
//! agree on the marks of their pools when it is back; no question has to run into the stale epoch first.

use super::epoch::Epoch;
use super::{Compute, peer_failed};
use crate::net::NetError;
use consilium_protocol::party::Party;
use std::sync::{Arc, PoisonError};

impl Compute {
    /// Follows the other party, and at party Zero the dealer, until the network stops. May be dropped.
    pub(crate) async fn watch(self: Arc<Self>) {
        // Both end only with the network.
        let _ = tokio::join!(self.watch_other(), self.watch_dealer());
    }

    async fn watch_other(&self) -> Result<(), NetError> {
        let mut presence = self.network.connected(self.other)?;
        loop {
            presence.wait_connected().await?;
            self.spare.notify_waiters();
            presence.wait_lost().await?;
            tracing::info!(party = self.other_name, "lost the other compute party; its epochs end");
            self.end_all_epochs();
            self.forget_all_noise();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.waiting.dismiss(&peer_failed("the connection was lost"));
        }
    }

    /// A refill that failed for want of the dealer is tried again as soon as it is back.
    async fn watch_dealer(&self) -> Result<(), NetError> {
        if self.seat != Party::Zero {
            return Ok(());
        }
        let Some(dealer) = self.dealer else { return Ok(()) };
        let mut presence = self.network.connected(dealer)?;
        loop {
            presence.wait_connected().await?;
            self.spare.notify_waiters();
            presence.wait_lost().await?;
        }
    }

    pub(super) fn end_all_epochs(&self) {
        let epochs = std::mem::take(&mut *self.epochs.lock().unwrap_or_else(PoisonError::into_inner));
        for epoch in epochs.into_values() {
            epoch.end();
        }
    }

    /// Party Zero: ends this very epoch, not one that began meanwhile, and has its keeper begin another.
    pub(super) fn abandon(&self, epoch: &Arc<Epoch>) {
        let task = epoch.terms().name();
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.get(task).is_some_and(|current| Arc::ptr_eq(current, epoch)) {
            epochs.remove(task);
        }
        drop(epochs);
        epoch.end();
        self.spare.notify_waiters();
    }
}
