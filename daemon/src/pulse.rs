//! Loops that can be asked whether they still turn.
//!
//! A loop that waits for events may wait for hours and be well. So it is not watched from outside: it has a
//! [`Pulse`] among what it waits for, and answers. An answer means that the loop was woken, ran and went back to
//! waiting, on the thread where it does its work.

use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The asking side. Clones ask the same loop.
#[derive(Clone, Debug)]
pub struct Probe {
    name: &'static str,
    asked: mpsc::Sender<oneshot::Sender<()>>,
}

/// The loop's side.
#[derive(Debug)]
pub struct Pulse {
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Both sides for the loop that messages call `name`.
pub fn pulse(name: &'static str) -> (Probe, Pulse) {
    let (sender, receiver) = mpsc::channel(1);
    (Probe { name, asked: sender }, Pulse { asked: receiver })
}

impl Probe {
    /// What messages call the loop.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the loop answered in time. One that has ended does not.
    pub async fn turns(&self, within: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = async { self.asked.send(reply).await.is_ok() && answer.await.is_ok() };
        tokio::time::timeout(within, asked).await.unwrap_or(false)
    }
}

impl Pulse {
    /// Waits until somebody asks, and answers. To be one branch of what the loop waits for; may be dropped.
    pub async fn beat(&mut self) {
        match self.asked.recv().await {
            // Whoever asked may have lost patience.
            Some(reply) => drop(reply.send(())),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_loop_answers_while_it_turns_and_not_when_it_hangs_or_has_ended() {
        let (probe, mut pulse) = pulse("loop");
        let (hang, mut hung) = oneshot::channel::<oneshot::Receiver<()>>();
        let turning = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = pulse.beat() => {}
                    Ok(until) = &mut hung => {
                        // Whatever holds the loop up here.
                        let _ = until.await;
                        return pulse;
                    }
                }
            }
        });
        assert!(probe.turns(LATE).await);
        assert!(probe.clone().turns(LATE).await);
        let (release, held) = oneshot::channel();
        hang.send(held).unwrap();
        while probe.turns(SOON).await {}
        assert!(!probe.turns(SOON).await);
        drop(release);
        drop(turning.await.unwrap());
        assert!(!probe.turns(LATE).await, "an ended loop is not waited for");
    }

    #[tokio::test]
    async fn a_loop_that_nobody_asks_waits_on() {
        let (probe, mut pulse) = pulse("loop");
        drop(probe);
        assert!(pulse.beat().now_or_never().is_none());
    }
}
