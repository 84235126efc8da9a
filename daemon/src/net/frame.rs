//! Frames on a byte stream: four bytes of length, little-endian, then the payload.

use std::{fmt, io};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::time::Duration;
use zeroize::{Zeroize, Zeroizing};

use super::{
    admission::Lease,
    codec::{self, CodecError},
};

/// Bytes of the length in front of a payload.
pub const PREFIX_BYTES: usize = 4;
/// What goes out in the first write; the multiplexer cuts larger writes at this size anyway.
const FIRST_WRITE_BYTES: usize = 16 << 10;
/// Read ahead of the frame under way, so that a small frame costs one read and not two.
const AHEAD_BYTES: usize = 8 << 10;
/// What a frame that has begun must come with at least, after a grace; any line that is of use is faster.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 << 10;
/// Room made before the first byte of a payload has come; doubles as bytes really come.
const FIRST_ROOM_BYTES: usize = 64 << 10;

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Both directions of a stream.
pub(super) struct Halves {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Halves").finish_non_exhaustive()
    }
}

/// What can happen to a channel.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The other side closed the channel, or its connection is gone, between two frames.
    #[error("the channel is closed; open it again")]
    Closed,
    /// The other side went away in the middle of a frame.
    #[error("the channel ended after {received} of {expected} bytes of a frame")]
    Truncated {
        /// Bytes of the frame that came.
        received: usize,
        /// Bytes that it should have.
        expected: usize,
    },
    /// A frame longer than its limit, refused before any memory was taken for it.
    #[error("a frame of {found} bytes is longer than the {limit} allowed here")]
    TooLarge {
        /// Payload bytes of the frame.
        found: usize,
        /// Payload bytes allowed.
        limit: usize,
    },
    /// A frame that does not hold the value expected, or a value that cannot be sent.
    #[error("a message is malformed: {0}")]
    Malformed(#[from] CodecError),
    /// An earlier [`ChannelSender::send`] was dropped half way, so the frame boundary is lost.
    #[error("an earlier send was abandoned in the middle of a frame; open a new channel")]
    Abandoned,
    /// No whole frame came in time.
    #[error("no frame came within {within:?}")]
    Deadline {
        /// The time given.
        within: Duration,
    },
    /// A frame began and did not end.
    #[error("a frame of {expected} bytes began and did not end within {within:?}")]
    Slow {
        /// Bytes that it should have.
        expected: usize,
        /// The time given.
        within: Duration,
    },
    /// The stream below failed.
    #[error("the stream below the channel failed: {0}")]
    Io(#[source] io::Error),
}

impl ChannelError {
    /// Whether the other side broke the rules of channels, which neither a line nor a death does.
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Malformed(_) | Self::Slow { .. })
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof, WriteZero,
        };
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof | WriteZero => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// The outgoing half of a channel.
pub struct ChannelSender {
    writer: Writer,
    first: Zeroizing<Vec<u8>>,
    frame_bytes_max: usize,
    midway: bool,
    sent_bytes: u64,
    _lease: Option<Lease>,
}

impl ChannelSender {
    pub(super) fn new(writer: Writer, frame_bytes_max: usize, lease: Option<Lease>) -> Self {
        let first = Zeroizing::new(Vec::with_capacity(512));
        Self { writer, first, frame_bytes_max, midway: false, sent_bytes: 0, _lease: lease }
    }

    /// Sends `payload` as one frame and flushes once.
    ///
    /// May be dropped, but a send dropped half way leaves the channel unusable: later sends say
    /// [`ChannelError::Abandoned`].
    ///
    /// # Errors
    /// [`ChannelError::TooLarge`] above the channel's frame limit, before a byte is sent; otherwise
    /// [`ChannelError::Closed`], [`ChannelError::Abandoned`] or [`ChannelError::Io`].
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ChannelError> {
        if self.midway {
            return Err(ChannelError::Abandoned);
        }
        let too_large = ChannelError::TooLarge { found: payload.len(), limit: self.frame_bytes_max };
        let Some(length) =
            u32::try_from(payload.len()).ok().filter(|_| payload.len() <= self.frame_bytes_max)
        else {
            return Err(too_large);
        };
        let (head, tail) = payload.split_at(payload.len().min(FIRST_WRITE_BYTES - PREFIX_BYTES));
        self.first.clear();
        self.first.extend_from_slice(&length.to_le_bytes());
        self.first.extend_from_slice(head);

        self.midway = true;
        self.writer.write_all(&self.first).await?;
        if !tail.is_empty() {
            self.writer.write_all(tail).await?;
        }
        self.writer.flush().await?;
        self.midway = false;
        self.sent_bytes += (PREFIX_BYTES + payload.len()) as u64;
        Ok(())
    }

    /// Sends `value` as one frame of CBOR. May be dropped like [`ChannelSender::send`].
    ///
    /// # Errors
    /// As [`ChannelSender::send`], and [`ChannelError::Malformed`] if the value has no CBOR form.
    pub async fn send_value<T: Serialize>(&mut self, value: &T) -> Result<(), ChannelError> {
        let bytes = Zeroizing::new(codec::encode(value)?);
        self.send(&bytes).await
    }

    /// Writes bytes as they are, which need not be a frame: what a peer may do that keeps no rules.
    ///
    /// # Errors
    /// As [`ChannelSender::close`].
    #[cfg(feature = "crash-points")]
    pub async fn write_raw(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.writer.write_all(bytes).await?;
        Ok(self.writer.flush().await?)
    }

    /// Says that no more frames come; the other side reads [`ChannelError::Closed`] after the last one. May be
    /// dropped; the end is then abrupt.
    ///
    /// # Errors
    /// [`ChannelError::Io`] if the stream below fails otherwise than by being closed already.
    pub async fn close(mut self) -> Result<(), ChannelError> {
        match self.writer.close().await.map_err(ChannelError::from) {
            Ok(()) | Err(ChannelError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Bytes sent in whole frames, prefixes included.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    pub(super) fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }
}

/// The incoming half of a channel.
pub struct ChannelReceiver {
    reader: Reader,
    ahead: Zeroizing<Vec<u8>>,
    ahead_start: usize,
    ahead_end: usize,
    declared: Option<usize>,
    body: Vec<u8>,
    filled: usize,
    frame_bytes_max: usize,
    received_bytes: u64,
    _lease: Option<Lease>,
}

impl ChannelReceiver {
    pub(super) fn new(reader: Reader, frame_bytes_max: usize, lease: Option<Lease>) -> Self {
        Self {
            reader,
            ahead: Zeroizing::new(vec![0; AHEAD_BYTES]),
            ahead_start: 0,
            ahead_end: 0,
            declared: None,
            body: Vec::new(),
            filled: 0,
            frame_bytes_max,
            received_bytes: 0,
            _lease: lease,
        }
    }

    /// The payload of the next frame, of at most `max` bytes.
    ///
    /// May be dropped at any point: what has come is kept, and the next call goes on from there. Memory grows
    /// with the bytes that really come, not with the length that the other side claims.
    ///
    /// # Errors
    /// [`ChannelError::TooLarge`] before anything is allocated (the frame stays unread, and every later call
    /// with the same `max` says so again); [`ChannelError::Closed`] at an end between frames,
    /// [`ChannelError::Truncated`] at an end inside one; [`ChannelError::Io`] otherwise.
    pub async fn receive(&mut self, max: usize) -> Result<Vec<u8>, ChannelError> {
        let declared = match self.declared {
            Some(declared) => declared,
            None => self.read_prefix().await?,
        };
        let limit = max.min(self.frame_bytes_max);
        if declared > limit {
            return Err(ChannelError::TooLarge { found: declared, limit });
        }
        while self.filled < declared {
            if self.filled == self.body.len() {
                let room = (2 * self.filled).max(FIRST_ROOM_BYTES).min(declared);
                self.body.resize(room, 0);
            }
            let count = self.read_body().await?;
            if count == 0 {
                return Err(ChannelError::Truncated {
                    received: PREFIX_BYTES + self.filled,
                    expected: PREFIX_BYTES + declared,
                });
            }
            self.filled += count;
        }
        self.declared = None;
        self.filled = 0;
        self.received_bytes += (PREFIX_BYTES + declared) as u64;
        Ok(std::mem::take(&mut self.body))
    }

    /// As [`ChannelReceiver::receive`], and gives up after `within`. May be dropped; a frame that was under way
    /// when the time ran out is not lost.
    ///
    /// # Errors
    /// As [`ChannelReceiver::receive`], and [`ChannelError::Deadline`].
    pub async fn receive_within(&mut self, max: usize, within: Duration) -> Result<Vec<u8>, ChannelError> {
        tokio::time::timeout(within, self.receive(max))
            .await
            .unwrap_or(Err(ChannelError::Deadline { within }))
    }

    /// The CBOR value in the next frame, of at most `max` bytes. May be dropped like
    /// [`ChannelReceiver::receive`].
    ///
    /// # Errors
    /// As [`ChannelReceiver::receive`], and [`ChannelError::Malformed`] for anything but exactly one value.
    pub async fn receive_value<T: DeserializeOwned>(&mut self, max: usize) -> Result<T, ChannelError> {
        let bytes = Zeroizing::new(self.receive(max).await?);
        Ok(codec::decode(&bytes)?)
    }

    /// The CBOR value in the next frame, of at most `max` bytes, as a server waits for it: the other side may take any
    /// time before it begins a frame, but then has `grace`, and the time that its length takes on a slow line, to end
    /// it. So nobody holds memory for long by sending a byte now and then. May be dropped; the time then begins anew.
    ///
    /// # Errors
    /// As [`ChannelReceiver::receive_value`], and [`ChannelError::Slow`].
    pub async fn receive_request<T: DeserializeOwned>(
        &mut self,
        max: usize,
        grace: Duration,
    ) -> Result<T, ChannelError> {
        if self.declared.is_none() && self.ahead_start == self.ahead_end {
            self.read_ahead().await?;
        }
        let slow = |expected, within| move |_| ChannelError::Slow { expected, within };
        let declared = match self.declared {
            Some(declared) => declared,
            None => {
                let prefix = tokio::time::timeout(grace, self.read_prefix()).await;
                prefix.map_err(slow(PREFIX_BYTES, grace))??
            }
        };
        let length = declared.min(max) as u64;
        let within = grace + Duration::from_millis(length.saturating_mul(1000) / SLOWEST_BYTES_PER_SECOND);
        let frame = tokio::time::timeout(within, self.receive(max)).await;
        let bytes = Zeroizing::new(frame.map_err(slow(PREFIX_BYTES + declared, within))??);
        Ok(codec::decode(&bytes)?)
    }

    /// Bytes received in whole frames, prefixes included.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    pub(super) fn limit_frames(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Waits for more bytes of the prefix of a frame.
    async fn read_ahead(&mut self) -> Result<(), ChannelError> {
        if self.ahead_start > 0 {
            self.ahead.copy_within(self.ahead_start..self.ahead_end, 0);
            self.ahead_end -= self.ahead_start;
            self.ahead_start = 0;
        }
        let received = self.ahead_end;
        match self.reader.read(&mut self.ahead[received..]).await.map_err(ChannelError::from) {
            Ok(0) | Err(ChannelError::Closed) if received == 0 => Err(ChannelError::Closed),
            Ok(0) | Err(ChannelError::Closed) => {
                Err(ChannelError::Truncated { received, expected: PREFIX_BYTES })
            }
            Ok(count) => {
                self.ahead_end += count;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn read_prefix(&mut self) -> Result<usize, ChannelError> {
        while self.ahead_end - self.ahead_start < PREFIX_BYTES {
            self.read_ahead().await?;
        }
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&self.ahead[self.ahead_start..self.ahead_start + PREFIX_BYTES]);
        self.ahead_start += PREFIX_BYTES;
        let declared = u32::from_le_bytes(prefix) as usize;
        self.declared = Some(declared);
        Ok(declared)
    }

    /// Puts bytes into the free room of `body` and says how many; none at the end of the stream.
    async fn read_body(&mut self) -> Result<usize, ChannelError> {
        let room = &mut self.body[self.filled..];
        let waiting = self.ahead_end - self.ahead_start;
        if waiting > 0 {
            let count = waiting.min(room.len());
            room[..count].copy_from_slice(&self.ahead[self.ahead_start..self.ahead_start + count]);
            self.ahead_start += count;
            return Ok(count);
        }
        match self.reader.read(room).await.map_err(ChannelError::from) {
            Err(ChannelError::Closed) => Ok(0),
            other => other,
        }
    }
}

/// A frame under way may hold shares.
impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::*;
    use crate::net::{Channel, Limits};

    /// The receiving end of a stream that holds `bytes` and then ends.
    fn receiver_of(bytes: Vec<u8>) -> ChannelReceiver {
        ChannelReceiver::new(Box::new(Cursor::new(bytes)), Limits::default().frame_bytes_max, None)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[tokio::test]
    async fn an_oversize_frame_is_refused_before_memory_is_taken() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[1; 64]);
        let mut receiver = receiver_of(bytes);
        for _ in 0..2 {
            let error = receiver.receive(100).await.unwrap_err();
            assert!(matches!(error, ChannelError::TooLarge { found: 0xffff_ffff, limit: 100 }));
            assert_eq!(receiver.body.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn a_claimed_length_takes_memory_only_as_bytes_come() {
        let mut bytes = (60_u32 << 20).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[1; 1000]);
        let mut receiver = receiver_of(bytes);
        let error = receiver.receive(64 << 20).await.unwrap_err();
        assert!(
            matches!(error, ChannelError::Truncated { received: 1004, expected } if expected == (60 << 20) + 4)
        );
        assert!(receiver.body.capacity() <= FIRST_ROOM_BYTES);
    }

    #[tokio::test]
    async fn ends_between_and_inside_frames_are_told_apart() {
        let whole = [2, 0, 0, 0, 8, 9];
        for cut in 0..whole.len() {
            let error = receiver_of(whole[..cut].to_vec()).receive(10).await.unwrap_err();
            match cut {
                0 => assert!(matches!(error, ChannelError::Closed)),
                1..4 => assert!(
                    matches!(error, ChannelError::Truncated { received, expected: 4 } if received == cut)
                ),
                _ => assert!(
                    matches!(error, ChannelError::Truncated { received, expected: 6 } if received == cut)
                ),
            }
        }
        let mut receiver = receiver_of(whole.to_vec());
        assert_eq!(receiver.receive(10).await.unwrap(), [8, 9]);
        assert!(matches!(receiver.receive(10).await.unwrap_err(), ChannelError::Closed));
    }

    const GRACE: Duration = Duration::from_millis(200);

    async fn slowly(sender: &mut ChannelSender, parts: impl Iterator<Item = &[u8]>) {
        for part in parts {
            sender.writer.write_all(part).await.unwrap();
            sender.writer.flush().await.unwrap();
            tokio::time::sleep(GRACE).await;
        }
    }

    #[tokio::test]
    async fn a_frame_may_begin_late_and_must_then_end() {
        let (here, mut there) = Channel::pair();
        let (mut sender, _receiver) = here.split();
        let grace = GRACE;
        let late = async {
            tokio::time::sleep(2 * grace).await;
            sender.send_value(&7u8).await.unwrap();
            sender
        };
        let (mut sender, received) = tokio::join!(late, there.receive_request::<u8>(10, grace));
        assert_eq!(received.unwrap(), 7);
        // A byte now and then, for ever.
        let drip = async {
            for byte in 200u32.to_le_bytes().into_iter().chain([1; 90]) {
                sender.writer.write_all(&[byte]).await.unwrap();
                sender.writer.flush().await.unwrap();
                tokio::time::sleep(grace / 4).await;
            }
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = drip => panic!("it waits for the whole frame"),
            received = there.receive_request::<u8>(1000, grace) => {
                assert!(matches!(received, Err(ChannelError::Slow { .. })), "{received:?}");
                assert!(began.elapsed() >= grace);
            }
        }
    }

    #[tokio::test]
    async fn a_frame_has_the_time_of_a_slow_line_for_its_length() {
        let (here, mut there) = Channel::pair();
        let (mut sender, _receiver) = here.split();
        let grace = GRACE;
        let bytes = codec::encode(&vec![5u8; 20 << 10]).unwrap();
        let mut sent = (bytes.len() as u32).to_le_bytes().to_vec();
        sent.extend_from_slice(&bytes);
        let ((), received) = tokio::join!(
            slowly(&mut sender, sent.chunks(8 << 10)),
            there.receive_request::<Vec<u8>>(1 << 20, grace)
        );
        assert_eq!(received.unwrap(), [5; 20 << 10]);
        tokio::select! {
            () = slowly(&mut sender, sent.chunks(100)) => panic!("it waits for the whole frame"),
            received = there.receive_request::<Vec<u8>>(1 << 20, grace) => {
                assert!(matches!(received, Err(ChannelError::Slow { .. })), "{received:?}");
            }
        }
    }

    fn cases() -> u32 {
        std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_end_in_a_typed_error_within_the_limit(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..2048),
            max in 0_usize..512,
        ) {
            let total = bytes.len();
            let mut receiver = receiver_of(bytes);
            let mut taken = 0;
            let end = runtime().block_on(async {
                loop {
                    match receiver.receive(max).await {
                        Ok(frame) => {
                            assert!(frame.len() <= max);
                            taken += frame.len() + 4;
                        }
                        Err(error) => break error,
                    }
                }
            });
            prop_assert!(taken <= total);
            prop_assert!(receiver.body.capacity() <= FIRST_ROOM_BYTES);
            match end {
                ChannelError::Closed => prop_assert_eq!(taken, total),
                ChannelError::Truncated { received, expected } => {
                    prop_assert_eq!(taken + received, total);
                    prop_assert!(received < expected);
                }
                ChannelError::TooLarge { found, limit } => prop_assert!(found > limit && limit == max),
                other => prop_assert!(false, "unexpected {other:?}"),
            }
        }
    }
}
