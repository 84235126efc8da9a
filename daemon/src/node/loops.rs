//! The loops of a node, each with its name.

use std::collections::HashMap;
use std::future::Future;
use tokio::task::{Id, JoinSet};

/// Loops that run until they are told to stop.
#[derive(Debug, Default)]
pub(super) struct Loops {
    running: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl Loops {
    pub(super) fn spawn(&mut self, name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(work).id();
        self.names.insert(id, name.into());
    }

    /// Returns when a loop has failed, with its name; one that came to its end has not. May be dropped.
    pub(super) async fn failed(&mut self) -> String {
        loop {
            match self.running.join_next_with_id().await {
                Some(Ok((id, ()))) => drop(self.names.remove(&id)),
                Some(Err(error)) => {
                    let name = self.names.remove(&error.id());
                    return name.unwrap_or_else(|| "a loop without a name".to_owned());
                }
                None => std::future::pending().await,
            }
        }
    }

    pub(super) async fn stop(mut self) {
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_loop_that_failed_is_named() {
        let mut loops = Loops::default();
        loops.spawn("ended", async {});
        loops.spawn("runs on", std::future::pending());
        loops.spawn("fails", async { panic!("on purpose") });
        assert_eq!(loops.failed().await, "fails");
        loops.stop().await;
    }
}
