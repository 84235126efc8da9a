//! A framed channel between two members, over any byte stream.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, future::try_join};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::ReadBuf,
    net::{TcpStream, UnixStream},
    time::Duration,
};

use super::{
    admission::Lease,
    frame::{ChannelError, ChannelReceiver, ChannelSender, Halves},
    limits::Limits,
};

/// Bytes that the in-memory pair holds on the way; small, so that tests meet back-pressure.
const PAIR_BYTES: usize = 64 << 10;

/// A bidirectional channel of frames.
///
/// One frame is one message: one write, one flush, no reply attached. The halves are independent, so a frame
/// may be written while another is read.
pub struct Channel {
    sender: ChannelSender,
    receiver: ChannelReceiver,
}

impl Channel {
    pub(super) fn between(halves: Halves, frame_bytes_max: usize, lease: Lease) -> Self {
        Self::from_halves(halves, frame_bytes_max, Some(lease))
    }

    /// One that counts against nobody's places.
    pub(super) fn uncounted(halves: Halves, frame_bytes_max: usize) -> Self {
        Self::from_halves(halves, frame_bytes_max, None)
    }

    fn from_halves(halves: Halves, frame_bytes_max: usize, lease: Option<Lease>) -> Self {
        Self {
            sender: ChannelSender::new(halves.writer, frame_bytes_max, lease.clone()),
            receiver: ChannelReceiver::new(halves.reader, frame_bytes_max, lease),
        }
    }

    /// Two ends in one process, for tests and benchmarks, with the default frame limit.
    pub fn pair() -> (Self, Self) {
        let (left, right) = tokio::io::duplex(PAIR_BYTES);
        let end = |stream| {
            let (reader, writer) = tokio::io::split(stream);
            let limit = Limits::default().frame_bytes_max;
            Self::from_halves(
                Halves { reader: Box::new(Tokio(reader)), writer: Box::new(Tokio(writer)) },
                limit,
                None,
            )
        };
        (end(left), end(right))
    }

    /// A channel over bare TCP, without encryption or authentication: for benchmarks on one machine only.
    ///
    /// # Errors
    /// What the system says when Nagle's delay cannot be switched off.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let limit = Limits::default().frame_bytes_max;
        Ok(Self::from_halves(
            Halves { reader: Box::new(Tokio(reader)), writer: Box::new(Tokio(writer)) },
            limit,
            None,
        ))
    }

    /// A channel over a unix socket, between the processes of one machine.
    pub fn local(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let limit = Limits::default().frame_bytes_max;
        let halves = Halves { reader: Box::new(Tokio(reader)), writer: Box::new(Tokio(writer)) };
        Self::from_halves(halves, limit, None)
    }

    /// The same channel with another bound on the payload bytes of every frame, in both directions.
    #[must_use]
    pub fn with_frame_bytes_max(mut self, frame_bytes_max: usize) -> Self {
        self.sender.limit_frames(frame_bytes_max);
        self.receiver.limit_frames(frame_bytes_max);
        self
    }

    /// See [`ChannelSender::send`], also for what dropping does.
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ChannelError> {
        self.sender.send(payload).await
    }

    /// See [`ChannelReceiver::receive`]; may be dropped.
    ///
    /// # Errors
    /// As there.
    pub async fn receive(&mut self, max: usize) -> Result<Vec<u8>, ChannelError> {
        self.receiver.receive(max).await
    }

    /// See [`ChannelReceiver::receive_within`]; may be dropped.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_within(&mut self, max: usize, within: Duration) -> Result<Vec<u8>, ChannelError> {
        self.receiver.receive_within(max, within).await
    }

    /// See [`ChannelSender::send_value`], also for what dropping does.
    ///
    /// # Errors
    /// As there.
    pub async fn send_value<T: Serialize>(&mut self, value: &T) -> Result<(), ChannelError> {
        self.sender.send_value(value).await
    }

    /// See [`ChannelReceiver::receive_value`]; may be dropped.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_value<T: DeserializeOwned>(&mut self, max: usize) -> Result<T, ChannelError> {
        self.receiver.receive_value(max).await
    }

    /// As [`Channel::send_value`], and gives up after `within`.
    ///
    /// # Errors
    /// As there, and [`ChannelError::Deadline`].
    pub async fn send_value_within<T: Serialize>(
        &mut self,
        value: &T,
        within: Duration,
    ) -> Result<(), ChannelError> {
        let sent = tokio::time::timeout(within, self.send_value(value)).await;
        sent.unwrap_or(Err(ChannelError::Deadline { within }))
    }

    /// As [`Channel::receive_value`], and gives up after `within`; may be dropped.
    ///
    /// # Errors
    /// As there, and [`ChannelError::Deadline`].
    pub async fn receive_value_within<T: DeserializeOwned>(
        &mut self,
        max: usize,
        within: Duration,
    ) -> Result<T, ChannelError> {
        let received = tokio::time::timeout(within, self.receive_value(max)).await;
        received.unwrap_or(Err(ChannelError::Deadline { within }))
    }

    /// See [`ChannelReceiver::receive_request`]; may be dropped.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_request<T: DeserializeOwned>(
        &mut self,
        max: usize,
        grace: Duration,
    ) -> Result<T, ChannelError> {
        self.receiver.receive_request(max, grace).await
    }

    /// One round: sends `payload` and receives a frame of at most `max` bytes, both at once, so that two sides
    /// which exchange large frames do not wait for each other's buffers.
    ///
    /// May be dropped like [`ChannelSender::send`].
    ///
    /// # Errors
    /// The first error of either direction; the other is then given up, which can leave the sending half
    /// [`ChannelError::Abandoned`].
    pub async fn exchange(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, ChannelError> {
        let ((), received) = try_join(self.sender.send(payload), self.receiver.receive(max)).await?;
        Ok(received)
    }

    /// The two halves, for two tasks. The channel counts as open until both are dropped.
    pub fn split(self) -> (ChannelSender, ChannelReceiver) {
        (self.sender, self.receiver)
    }

    /// Ends the channel after the last frame sent. May be dropped, the end is then abrupt.
    ///
    /// # Errors
    /// As [`ChannelSender::close`].
    pub async fn close(self) -> Result<(), ChannelError> {
        self.sender.close().await
    }

    /// Bytes sent in whole frames, prefixes included.
    pub fn sent_bytes(&self) -> u64 {
        self.sender.sent_bytes()
    }

    /// Bytes received in whole frames, prefixes included.
    pub fn received_bytes(&self) -> u64 {
        self.receiver.received_bytes()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("sent_bytes", &self.sent_bytes())
            .field("received_bytes", &self.received_bytes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").field("sent_bytes", &self.sent_bytes()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReceiver")
            .field("received_bytes", &self.received_bytes())
            .finish_non_exhaustive()
    }
}

/// One of tokio's streams in the traits of the futures crate, which libp2p's streams have.
struct Tokio<S>(S);

impl<S: tokio::io::AsyncRead + Unpin> AsyncRead for Tokio<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> AsyncWrite for Tokio<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::net::codec::CodecError;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        serial: u64,
        text: String,
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order() {
        let (mut left, mut right) = Channel::pair();
        let frames =
            [0_usize, 1, 3, 8187, 8188, 8189, 16_380, 16_381, 65_536, 200_000].map(|n| vec![n as u8; n]);
        let sending = async {
            for frame in &frames {
                left.send(frame).await.unwrap();
            }
        };
        let receiving = async {
            for frame in &frames {
                assert_eq!(&right.receive(200_000).await.unwrap(), frame);
            }
        };
        tokio::join!(sending, receiving);
        assert_eq!(left.sent_bytes(), right.received_bytes());
        assert_eq!(left.sent_bytes(), frames.iter().map(|frame| frame.len() as u64 + 4).sum::<u64>());
    }

    #[tokio::test]
    async fn the_channels_own_limit_binds_the_caller() {
        let (left, right) = Channel::pair();
        let (mut left, mut right) = (left.with_frame_bytes_max(1000), right.with_frame_bytes_max(10));
        assert!(matches!(
            left.send(&[0; 1001]).await.unwrap_err(),
            ChannelError::TooLarge { found: 1001, limit: 1000 }
        ));
        left.send(&[0; 11]).await.unwrap();
        assert!(matches!(
            right.receive(usize::MAX).await.unwrap_err(),
            ChannelError::TooLarge { found: 11, limit: 10 }
        ));
    }

    #[tokio::test]
    async fn both_sides_send_sixty_four_mebibytes_at_once() {
        let (mut left, mut right) = Channel::pair();
        let size = 64 << 20;
        let (here, there) = (vec![1; size], vec![2; size]);
        let (left_got, right_got) =
            tokio::try_join!(left.exchange(&here, size), right.exchange(&there, size)).unwrap();
        assert!(left_got == there && right_got == here);
    }

    #[tokio::test]
    async fn a_dropped_receive_loses_nothing() {
        let (mut left, mut right) = Channel::pair();
        let frame = vec![5; 300_000];
        let sending = async { left.send(&frame).await.unwrap() };
        let receiving = async {
            loop {
                // Polled once and dropped, over and over.
                tokio::select! {
                    biased;
                    got = right.receive(300_000) => break got.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        let ((), got) = tokio::join!(sending, receiving);
        assert_eq!(got, vec![5; 300_000]);
    }

    #[tokio::test]
    async fn a_send_dropped_half_way_is_not_continued_by_another() {
        let (mut left, _right) = Channel::pair();
        {
            let frame = vec![0; 4 * PAIR_BYTES];
            let mut sending = Box::pin(left.send(&frame));
            assert!(futures::poll!(&mut sending).is_pending());
        }
        assert!(matches!(left.send(b"next").await.unwrap_err(), ChannelError::Abandoned));
    }

    #[tokio::test]
    async fn values_cross_and_malformed_ones_are_refused() {
        let (mut left, mut right) = Channel::pair();
        let note = Note { serial: 3, text: "round".into() };
        left.send_value(&note).await.unwrap();
        assert_eq!(right.receive_value::<Note>(100).await.unwrap(), note);
        left.send(b"\xff\xff").await.unwrap();
        assert!(matches!(
            right.receive_value::<Note>(100).await.unwrap_err(),
            ChannelError::Malformed(CodecError::Syntax { .. } | CodecError::Shape { .. })
        ));
    }

    #[tokio::test]
    async fn close_and_drop_are_seen_as_closed() {
        let (mut left, mut right) = Channel::pair();
        left.send(b"last").await.unwrap();
        left.close().await.unwrap();
        assert_eq!(right.receive(10).await.unwrap(), b"last");
        assert!(matches!(right.receive(10).await.unwrap_err(), ChannelError::Closed));
        let (left, mut right) = Channel::pair();
        drop(left);
        assert!(matches!(right.receive(10).await.unwrap_err(), ChannelError::Closed));
        assert!(matches!(right.send(&[0; 200_000]).await.unwrap_err(), ChannelError::Closed));
    }

    #[tokio::test]
    async fn a_silent_peer_runs_into_the_deadline() {
        let (_left, mut right) = Channel::pair();
        let within = Duration::from_millis(30);
        assert!(matches!(
            right.receive_within(10, within).await.unwrap_err(),
            ChannelError::Deadline { within: said } if said == within
        ));
    }

    #[tokio::test]
    async fn halves_work_from_two_tasks() {
        let (left, mut right) = Channel::pair();
        let (mut sender, mut receiver) = left.split();
        let sending = tokio::spawn(async move {
            for round in 0..100_u64 {
                sender.send_value(&round).await.unwrap();
            }
        });
        let echo = tokio::spawn(async move {
            for _ in 0..100 {
                let frame = right.receive(16).await.unwrap();
                right.send(&frame).await.unwrap();
            }
        });
        for round in 0..100_u64 {
            assert_eq!(receiver.receive_value::<u64>(16).await.unwrap(), round);
        }
        sending.await.unwrap();
        echo.await.unwrap();
    }
}
