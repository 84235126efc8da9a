//! Shares, openings and corrections of a length that both sides know, in frames of bounded size.

use crate::net::{Channel, ChannelError};
use zeroize::Zeroizing;

/// Bytes of one frame of a bulk.
pub const BULK_FRAME_BYTES: usize = 1 << 20;

/// Sends a bulk. May not be dropped half way: the channel is useless then.
///
/// # Errors
/// The channel failed.
pub async fn send_bulk(channel: &mut Channel, bytes: &[u8]) -> Result<(), ChannelError> {
    for frame in bytes.chunks(BULK_FRAME_BYTES) {
        channel.send(frame).await?;
    }
    Ok(())
}

/// Receives a bulk of exactly `length` bytes. Memory grows with what has come, not with `length`.
///
/// # Errors
/// The channel failed, or the frames do not add up.
pub async fn receive_bulk(channel: &mut Channel, length: usize) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
    let mut bytes = Zeroizing::new(Vec::new());
    while bytes.len() < length {
        let expected = BULK_FRAME_BYTES.min(length - bytes.len());
        let frame = Zeroizing::new(channel.receive(expected).await?);
        if frame.len() != expected {
            return Err(ChannelError::Truncated { received: frame.len(), expected });
        }
        // A copy that outgrows its buffer leaves its old one behind unwiped, so room is made by hand.
        if bytes.capacity() < bytes.len() + frame.len() {
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * bytes.len() + frame.len()).min(length)));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bulks_of_any_size_come_through() {
        for length in [0, 1, BULK_FRAME_BYTES - 1, BULK_FRAME_BYTES, 3 * BULK_FRAME_BYTES + 17] {
            let (mut left, mut right) = Channel::pair();
            let sent: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8).collect();
            let (out, back) = tokio::join!(send_bulk(&mut left, &sent), receive_bulk(&mut right, length));
            out.unwrap();
            assert_eq!(*back.unwrap(), sent);
        }
    }

    #[tokio::test]
    async fn a_short_frame_is_refused() {
        let (mut left, mut right) = Channel::pair();
        left.send(&[1, 2, 3]).await.unwrap();
        let found = receive_bulk(&mut right, 10).await;
        assert!(matches!(found, Err(ChannelError::Truncated { received: 3, expected: 10 })));
    }
}
