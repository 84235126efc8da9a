//! Files over a channel, never whole in memory.
//!
//! Both sides know the length. A thread reads or writes the file; a few frames wait between it and the channel.

use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use crate::vault::{Pieces, VaultError};
use consilium_config::limits;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of one frame: what a node takes under every `frame_bytes_max` that its configuration may have.
const FRAME_BYTES: usize = *limits::FRAME_BYTES.start() as usize;
/// Frames between the thread and the channel.
const AHEAD: usize = 64;
/// Longest time for one frame.
const FRAME_WITHIN: Duration = Duration::from_secs(40);
/// What a transfer comes with at least, after a grace: two megabits. What is slower would hold a place for hours.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
const GRACE: Duration = Duration::from_secs(60);

/// Longest time for a file.
fn within(bytes: u64) -> Duration {
    GRACE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// Sends a file of so many bytes. After an error the channel is useless.
///
/// # Errors
/// [`Obstacle::Local`] where the file cannot be read or has another length, [`Obstacle::Deadline`],
/// [`Obstacle::Peer`].
pub(crate) async fn send_file(channel: &mut Channel, path: &Path, bytes: u64) -> Result<(), Refusal> {
    let (chunks, mut read) = mpsc::channel(AHEAD);
    let file = path.to_owned();
    // Ends when the other end of its queue is dropped.
    let reading = tokio::task::spawn_blocking(move || read_chunks(&file, bytes, &chunks));
    let sending = async {
        while let Some(chunk) = read.recv().await {
            let chunk: Vec<u8> = chunk;
            send_frame(channel, &chunk).await?;
        }
        Ok(())
    };
    let sent = tokio::time::timeout(within(bytes), sending).await;
    let sent = sent.unwrap_or_else(|_| Err(late(bytes)));
    drop(read);
    let read = reading.await.map_err(|error| Refusal::new(Obstacle::Local, error))?;
    sent.and_then(|()| read.map_err(local))
}

/// Sends what is in memory as [`send_file`] sends a file.
///
/// # Errors
/// [`Obstacle::Deadline`], [`Obstacle::Peer`].
pub(crate) async fn send_bytes(channel: &mut Channel, bytes: &[u8]) -> Result<(), Refusal> {
    for chunk in bytes.chunks(FRAME_BYTES) {
        send_frame(channel, chunk).await?;
    }
    Ok(())
}

async fn send_frame(channel: &mut Channel, frame: &[u8]) -> Result<(), Refusal> {
    let sent = tokio::time::timeout(FRAME_WITHIN, channel.send(frame)).await;
    sent.unwrap_or(Err(ChannelError::Deadline { within: FRAME_WITHIN })).map_err(|error| broken(&error))
}

fn read_chunks(path: &Path, bytes: u64, chunks: &mpsc::Sender<Vec<u8>>) -> Result<(), VaultError> {
    let mut file = File::open(path).map_err(|source| VaultError::io(path, "open", source))?;
    let mut left = bytes;
    while left > 0 {
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(FRAME_BYTES).min(FRAME_BYTES)];
        file.read_exact(&mut chunk).map_err(|source| VaultError::io(path, "read", source))?;
        left -= chunk.len() as u64;
        if chunks.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Receives a file of so many bytes, which is there whole or not at all. Where it cannot be written, what comes is read
/// all the same, so that the next message is found.
///
/// # Errors
/// [`Obstacle::Local`] where the file cannot be written, [`Obstacle::Deadline`], [`Obstacle::Peer`].
pub(crate) async fn receive_file(channel: &mut Channel, path: &Path, bytes: u64) -> Result<(), Refusal> {
    let (chunks, written) = mpsc::channel(AHEAD);
    let file = path.to_owned();
    let writing = tokio::task::spawn_blocking(move || write_chunks(file, bytes, written));
    let receiving = async {
        let mut left = bytes;
        while left > 0 {
            let expected = usize::try_from(left).unwrap_or(FRAME_BYTES).min(FRAME_BYTES);
            let frame =
                channel.receive_within(expected, FRAME_WITHIN).await.map_err(|error| broken(&error))?;
            if frame.len() != expected {
                return Err(broken(&ChannelError::Truncated { received: frame.len(), expected }));
            }
            left -= expected as u64;
            // Whoever writes may have failed, and says so below.
            drop(chunks.send(frame).await);
        }
        Ok(())
    };
    let received = tokio::time::timeout(within(bytes), receiving).await;
    let received = received.unwrap_or_else(|_| Err(late(bytes)));
    drop(chunks);
    let written = writing.await.map_err(|error| Refusal::new(Obstacle::Local, error))?;
    received.and_then(|()| written.map_err(local))
}

/// Nothing is left of a file that did not come whole.
fn write_chunks(path: PathBuf, bytes: u64, mut chunks: mpsc::Receiver<Vec<u8>>) -> Result<(), VaultError> {
    let mut file = Pieces::new(&path)?;
    let mut written = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write(&chunk)?;
        written += chunk.len() as u64;
    }
    if written == bytes { file.replace() } else { Ok(()) }
}

fn broken(error: &ChannelError) -> Refusal {
    let obstacle = match error {
        ChannelError::Deadline { .. } | ChannelError::Slow { .. } => Obstacle::Deadline,
        _ => Obstacle::Peer,
    };
    Refusal::new(obstacle, format!("a file broke off: {error}; ask again"))
}

fn late(bytes: u64) -> Refusal {
    let text = format!("a file of {bytes} bytes did not come through within {:?}; ask again", within(bytes));
    Refusal::new(Obstacle::Deadline, text)
}

/// The disk of the one who says so.
pub(crate) fn local(error: VaultError) -> Refusal {
    Refusal::new(Obstacle::Local, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn carried(length: usize) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let bytes: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        let (left, right) = Channel::pair();
        // The smallest frames that a configuration may ask for.
        let least = *limits::FRAME_BYTES.start() as usize;
        let (mut left, mut right) = (left.with_frame_bytes_max(least), right.with_frame_bytes_max(least));
        let length = length as u64;
        let (sent, received) =
            tokio::join!(send_file(&mut left, &from, length), receive_file(&mut right, &to, length));
        sent.unwrap();
        received.unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
        let (sent, received) =
            tokio::join!(send_bytes(&mut left, &bytes), receive_file(&mut right, &from, length));
        sent.unwrap();
        received.unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), bytes);
    }

    #[tokio::test]
    async fn files_of_any_length_come_through() {
        for length in [0, 1, FRAME_BYTES - 1, FRAME_BYTES, 3 * FRAME_BYTES + 17] {
            carried(length).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("to");
        let (mut left, mut right) = Channel::pair();
        let sending = async move { left.send(&[1; FRAME_BYTES]).await.unwrap() };
        let ((), received) = tokio::join!(sending, receive_file(&mut right, &path, 2 * FRAME_BYTES as u64));
        assert_eq!(received.unwrap_err().obstacle, Obstacle::Peer);
        let (mut left, mut right) = Channel::pair();
        left.send(&[1; 7]).await.unwrap();
        let refusal = receive_file(&mut right, &path, 9).await.unwrap_err();
        assert!(refusal.explanation.contains("7 of 9 bytes"), "{refusal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        let length = 3 * AHEAD * FRAME_BYTES;
        std::fs::write(&from, vec![3; length]).unwrap();
        let (mut left, mut right) = Channel::pair();
        let absent = folder.path().join("no/folder");
        let sending = async {
            send_file(&mut left, &from, length as u64).await.unwrap();
            left.send(b"next").await.unwrap();
        };
        let receiving = async {
            let refusal = receive_file(&mut right, &absent, length as u64).await.unwrap_err();
            assert_eq!(refusal.obstacle, Obstacle::Local);
            assert_eq!(right.receive(4).await.unwrap(), b"next");
        };
        tokio::join!(sending, receiving);
    }

    #[tokio::test]
    async fn a_file_of_another_length_is_an_error_of_this_side() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::write(&from, [1; 10]).unwrap();
        let (mut left, _right) = Channel::pair();
        assert_eq!(send_file(&mut left, &from, 11).await.unwrap_err().obstacle, Obstacle::Local);
        assert_eq!(
            send_file(&mut left, &folder.path().join("no"), 1).await.unwrap_err().obstacle,
            Obstacle::Local
        );
    }
}
