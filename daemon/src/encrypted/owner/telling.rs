//! What an owner says to a client while it works, and how it ends.

use crate::encrypted::message::Reply;
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a client hears that its query is waited for or worked on.
const WORKING_EVERY: Duration = Duration::from_secs(5);
/// Longest time for a message to a client.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Longest time for the end of a channel.
pub(super) const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// How far an evaluation is, in bytes.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) done: AtomicU64,
    pub(super) all: AtomicU64,
}

/// Waits for a work, and tells the client every few seconds that it is waited for. Of a client that is gone the work is
/// given up, or its outcome dropped.
pub(super) async fn watched<T>(
    channel: &mut Channel,
    mut work: impl Future<Output = T> + Unpin,
    progress: &Progress,
) -> Result<T, Refusal> {
    loop {
        tokio::select! {
            outcome = &mut work => return Ok(outcome),
            () = tokio::time::sleep(WORKING_EVERY) => {}
        }
        let [done, all] = [&progress.done, &progress.all].map(|count| count.load(Ordering::Relaxed));
        tell(channel, &Reply::Working { done, all }).await.map_err(|error| lost(&error))?;
    }
}

pub(super) async fn tell(channel: &mut Channel, reply: &Reply) -> Result<(), ChannelError> {
    channel.send_value_within(reply, TOLD_WITHIN).await
}

pub(super) fn lost(error: &ChannelError) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("the client is gone: {error}"))
}

/// What a client hears of a refusal.
pub(super) fn for_client(refusal: Refusal) -> Refusal {
    let then = "if it had begun, the inputs are counted, and the next answer says how many are left. Ask again later, or \
                tell the owner";
    refusal.for_peer("the owner's node", then)
}
