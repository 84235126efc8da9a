//! The whole ledger through the administrator's socket, whatever its size.

use super::serve::Caller;
use super::{ADMIN_BYTES_MAX, AdminError, AdminReply, AdminRequest};
use crate::bulk::BULK_FRAME_BYTES;
use crate::ledger::{ExportHeader, seconds_now};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use crate::node::Shared;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Frames that wait between the disk and the socket.
const FRAMES_AHEAD: usize = 4;

/// Cuts what is written into frames.
struct Frames {
    frame: Vec<u8>,
    queue: mpsc::Sender<Vec<u8>>,
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BULK_FRAME_BYTES.saturating_sub(self.frame.len()).max(1);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.frame.extend_from_slice(taken);
        if self.frame.len() >= BULK_FRAME_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let frame = std::mem::take(&mut self.frame);
        self.queue.blocking_send(frame).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Sends the export in raw frames up to an empty one, and gives the reply that follows it.
pub(super) async fn send_export(channel: &mut Channel, shared: &Arc<Shared>) -> Result<AdminReply, Refusal> {
    let left = |error: ChannelError| Refusal::new(Obstacle::Request, error);
    let outcome = stream(channel, shared).await;
    channel.send(&[]).await.map_err(left)?;
    outcome
}

async fn stream(channel: &mut Channel, shared: &Arc<Shared>) -> Result<AdminReply, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::new(Obstacle::Local, error);
    let Some((pair, compute)) = shared.seats.first() else {
        let text = "this node keeps no ledger; ask a compute party";
        return Err(Refusal::new(Obstacle::NotAllowed, text));
    };
    let party = (shared.me.name.as_str(), &*shared.identity);
    let consortium = shared.roster.consortium();
    let header = ExportHeader::new(consortium, pair, party, &compute.other_name, seconds_now());
    let snapshot = compute.ledger().snapshot().await.map_err(|error| failed(&error))?;
    let (queue, mut frames) = mpsc::channel(FRAMES_AHEAD);
    let identity = shared.identity.clone();
    let writing = tokio::task::spawn_blocking(move || {
        snapshot.export_signed(header, &identity, Frames { frame: Vec::new(), queue })
    });
    while let Some(frame) = frames.recv().await {
        channel.send(&frame).await.map_err(|error| Refusal::new(Obstacle::Request, error))?;
    }
    let exported = writing.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(AdminReply::Exported { head: exported.head })
}

/// Has the node behind the socket `path` write its ledger to `writer`. What was written is an export only
/// if the reply says so.
///
/// # Errors
/// [`AdminError`], also where `writer` fails; a refusal is a reply.
pub async fn export(path: &Path, mut writer: impl Write) -> Result<AdminReply, AdminError> {
    let mut channel = Caller::open(path).await?.channel;
    channel.send_value(&AdminRequest::Export).await?;
    loop {
        let frame = channel.receive(BULK_FRAME_BYTES).await?;
        if frame.is_empty() {
            break;
        }
        writer.write_all(&frame).map_err(AdminError::Write)?;
    }
    let reply = channel.receive_value(ADMIN_BYTES_MAX).await?;
    writer.flush().map_err(AdminError::Write)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_in_bounded_frames_and_whole() {
        let (queue, mut frames) = mpsc::channel(FRAMES_AHEAD);
        let sent: Vec<u8> = (0..2 * BULK_FRAME_BYTES + 77).map(|at| ((at * 13) >> 2) as u8).collect();
        let bytes = sent.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = Frames { frame: Vec::new(), queue };
            for piece in bytes.chunks(300_001) {
                writer.write_all(piece).unwrap();
            }
            writer.flush().unwrap();
        });
        let mut received = Vec::new();
        while let Some(frame) = frames.recv().await {
            assert!((1..=BULK_FRAME_BYTES).contains(&frame.len()));
            received.extend(frame);
        }
        writing.await.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_reader_that_left_stops_the_writer() {
        let (queue, frames) = mpsc::channel(FRAMES_AHEAD);
        drop(frames);
        let wrote = tokio::task::spawn_blocking(move || {
            Frames { frame: Vec::new(), queue }.write_all(&vec![1; 2 * BULK_FRAME_BYTES])
        });
        assert_eq!(wrote.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
