//! The light at which background work stops while queries run.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest wait before one piece of background work. A node that is never idle must not run dry.
const PATIENCE: Duration = Duration::from_millis(500);

/// Counts the queries that run on this node.
#[derive(Debug)]
pub(crate) struct Traffic {
    running: watch::Sender<usize>,
}

/// A query that runs; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the query counts as over when this is dropped"]
pub(crate) struct Running<'t>(&'t Traffic);

impl Default for Traffic {
    fn default() -> Self {
        Self { running: watch::Sender::new(0) }
    }
}

impl Traffic {
    /// A query begins.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.running.send_modify(|running| *running += 1);
        Running(self)
    }

    /// Returns when no query runs, or when patience is over. To be awaited before each piece of background
    /// work, a piece being some tens of milliseconds of one core. May be dropped.
    pub(crate) async fn green(&self) {
        self.green_before(Instant::now() + PATIENCE).await;
    }

    async fn green_before(&self, until: Instant) {
        let mut running = self.running.subscribe();
        // The sender lives as long as `self`, so only the time can run out.
        let _ = tokio::time::timeout_at(until, running.wait_for(|running| *running == 0)).await;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running = running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn background_work_waits_for_every_query_but_not_for_ever() {
        let traffic = Traffic::default();
        assert!(traffic.green().now_or_never().is_some());
        let (one, two) = (traffic.enter(), traffic.enter());
        let mut waiting = Box::pin(traffic.green());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(one);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(two);
        waiting.await;
        let _busy = traffic.enter();
        let until = Instant::now() + Duration::from_millis(5);
        traffic.green_before(until).await;
        assert!(Instant::now() >= until);
    }
}
