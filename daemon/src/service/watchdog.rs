//! The watchdog: the manager hears that the node lives only while its loops turn.

use super::Manager;
use crate::node::Shared;
use crate::pulse::Probe;
use futures::future::join_all;
use std::time::Duration;

/// How often the loops are asked where no manager says how often it wants to hear.
const EVERY: Duration = Duration::from_secs(20);
/// Questions within the manager's patience: one may come late and the next still in time.
const TIMES: u32 = 4;

/// Asks the loops of a node in turn.
#[derive(Debug)]
pub struct Watchdog {
    probes: Vec<Probe>,
    every: Duration,
    stuck: Vec<&'static str>,
}

impl Watchdog {
    /// A watchdog over these loops for a manager of that patience.
    pub fn new(probes: Vec<Probe>, patience: Option<Duration>) -> Self {
        Self { probes, every: patience.map_or(EVERY, |patience| patience / TIMES), stuck: Vec::new() }
    }

    /// Time between two rounds.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// One round: whether every loop turned, and the threads for long work take some.
    pub async fn round(&mut self) -> bool {
        let every = self.every;
        let turns = self.probes.iter().map(|probe| async move { (probe.name(), probe.turns(every).await) });
        let threads = tokio::time::timeout(every, tokio::task::spawn_blocking(|| ()));
        let (turns, threads) = tokio::join!(join_all(turns), threads);
        let mut stuck: Vec<&'static str> =
            turns.into_iter().filter_map(|(name, turned)| (!turned).then_some(name)).collect();
        if !matches!(threads, Ok(Ok(()))) {
            stuck.push("worker threads");
        }
        if stuck != self.stuck {
            match stuck.is_empty() {
                true => tracing::info!(kind = "unstuck", "every loop of the node turns again"),
                false => tracing::error!(
                    kind = "stuck",
                    "these loops of the node do not turn: {}; without them the service manager is not told that \
                     the node lives, and restarts it",
                    stuck.join(", ")
                ),
            }
        }
        self.stuck = stuck;
        self.stuck.is_empty()
    }

    /// Asks for as long as it is not dropped, and tells the manager.
    pub async fn watch(mut self, manager: &Manager, status: impl Fn() -> String) {
        let mut tick = tokio::time::interval(self.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.round().await {
                manager.alive();
                manager.status(&status());
            } else {
                manager.status(&format!("these loops do not turn: {}", self.stuck.join(", ")));
            }
        }
    }
}

/// What a node does, in a line.
pub fn status_line(shared: &Shared, note: &str) -> String {
    let peers = shared.network.peers();
    let connected = peers.iter().filter(|peer| peer.connected).count();
    let mut line = format!("{connected} of {} members connected", peers.len());
    for (pair, compute) in &shared.seats {
        line.push_str(&format!("; party {} of {pair}", compute.seat()));
        let mut tasks: Vec<_> = compute.tasks().map(|terms| terms.name()).collect();
        tasks.sort_unstable();
        for task in tasks {
            match compute.epoch(task).map(|epoch| epoch.level().0) {
                Some(left) => line.push_str(&format!(", {task}: {left} bundles")),
                None => line.push_str(&format!(", {task}: not ready")),
            }
        }
    }
    if shared.dealer.is_some() {
        line.push_str("; deals");
    }
    if !note.is_empty() {
        line.push_str("; ");
        line.push_str(note);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::pulse;

    #[tokio::test]
    async fn one_loop_that_hangs_is_named_and_counts_against_all() {
        let (one, mut first) = pulse("network");
        let (two, mut second) = pulse("ledger");
        tokio::spawn(async move {
            loop {
                first.beat().await;
            }
        });
        let mut watchdog = Watchdog::new(vec![one, two], Some(Duration::from_millis(80)));
        assert_eq!(watchdog.every(), Duration::from_millis(20));
        assert!(!watchdog.round().await);
        assert_eq!(watchdog.stuck, ["ledger"]);
        tokio::spawn(async move {
            loop {
                second.beat().await;
            }
        });
        // A busy machine may be late; it does not stay late.
        while !watchdog.round().await {}
        assert_eq!(watchdog.stuck, [""; 0]);
    }
}
