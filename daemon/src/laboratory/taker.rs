//! The receiver's side: the roster is asked before anything else is taken, and the file is read before it is kept.

use super::message::{REQUEST_BYTES_MAX, Reply, Request};
use super::spool::Way;
use super::{INSTEAD, Laboratory, bounded, hospital};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use crate::transfer::receive_file;
use std::sync::Arc;
use std::time::Duration;

/// Longest time for a request that has begun.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for a message to a sender.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

impl Laboratory {
    /// Serves a sender's channel: one file.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve(
        self: Arc<Self>,
        mut channel: Channel,
        sender: String,
    ) -> Result<(), ChannelError> {
        let request = match channel.receive_request(REQUEST_BYTES_MAX, REQUEST_WITHIN).await {
            Ok(request) => request,
            Err(ChannelError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        let reply = match self.take(&mut channel, &sender, request).await {
            Ok(name) => Reply::Kept { name },
            Err(refusal) => {
                self.note(&sender, &refusal);
                let then = "send the file again later, or tell its administrator";
                Reply::Refused(refusal.for_peer(&format!("the node of {}", self.me), then))
            }
        };
        tell(&mut channel, &reply).await?;
        channel.close().await
    }

    fn note(&self, sender: &str, refusal: &Refusal) {
        let obstacle = refusal.obstacle;
        if let Some(unlogged) = self.said.note((sender.to_owned(), obstacle)) {
            tracing::warn!(
                peer = sender,
                verdict = "refused",
                ?obstacle,
                unlogged,
                "refused encodings: {refusal}"
            );
        }
    }

    async fn take(
        self: &Arc<Self>,
        channel: &mut Channel,
        sender: &str,
        request: Request,
    ) -> Result<String, Refusal> {
        let _visit = self.reception.enter()?;
        let Request::Offer { task, task_digest, bytes } = request;
        self.admits(sender, (&task, &task_digest), bytes)?;
        let berth = Arc::new(self.spool.enter(Way::In, sender)?);
        // Refused before it is sent; others that come meanwhile are counted when it is kept.
        let (here, to, from) = (self.clone(), task.clone(), sender.to_owned());
        let looking = tokio::task::spawn_blocking(move || here.store.room(&to, &from, bytes));
        looking.await.map_err(|error| Refusal::new(Obstacle::Local, error))??;
        let lost = |error| Refusal::new(Obstacle::Peer, format!("the sender is gone: {error}"));
        tell(channel, &Reply::Take).await.map_err(lost)?;
        receive_file(channel, &berth.path, bytes).await?;
        let file = self.read(&berth).await?;
        let (here, name) = (self.clone(), file.name.clone());
        let (to, from) = (task.clone(), sender.to_owned());
        let keeping = tokio::task::spawn_blocking(move || here.store.keep(&to, &from, &berth.path, &name));
        let path = keeping.await.map_err(|error| Refusal::new(Obstacle::Local, error))??;
        if let Some(unlogged) = self.taken.note(sender.to_owned()) {
            tracing::info!(
                task,
                peer = sender,
                images = file.images,
                unlogged,
                path = %path.display(),
                "took encodings, which protect nothing; {}, as {sender} says",
                file.figure
            );
        }
        Ok(file.name)
    }

    /// Whether anything of a member's is taken: by this node's roster, not by what the sender says.
    pub(super) fn admits(
        &self,
        sender: &str,
        (task, digest): (&str, &[u8; 32]),
        bytes: u64,
    ) -> Result<(), Refusal> {
        let task = self.task(task)?;
        hospital(task, sender)?;
        if !task.lab {
            let text = format!(
                "{} takes no encodings, which are broken as protection: its roster does not say `lab = true` for task {}. \
                 {INSTEAD}",
                self.me, task.name
            );
            return Err(Refusal::new(Obstacle::Laboratory, text));
        }
        if task.digest().to_bytes() != *digest {
            let text = format!("the sender's roster has other terms for task {}; compare rosters", task.name);
            return Err(Refusal::new(Obstacle::Task, text));
        }
        bounded(bytes)
    }
}

async fn tell(channel: &mut Channel, reply: &Reply) -> Result<(), ChannelError> {
    channel.send_value_within(reply, TOLD_WITHIN).await
}
