//! The bytes below libp2p: TCP, Noise, Yamux, and a watch on stuck writes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId as InnerPeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    noise, tcp, yamux,
};
use tokio::time::{Sleep, sleep};

use super::{Identity, NetError, limits::Limits};

/// What the swarm dials and listens with.
pub(super) fn transport(
    identity: &Identity,
    limits: &Limits,
) -> Result<Boxed<(InnerPeerId, StreamMuxerBox)>, NetError> {
    let noise = noise::Config::new(&identity.keypair())
        .map_err(|source| NetError::Noise { source: Box::new(source) })?;
    let mut multiplexer = yamux::Config::default();
    multiplexer.set_max_num_streams(limits.streams_per_connection());
    // Said aloud although it is the default: one delayed segment costs more than a round.
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    let patience = limits.silence();
    let secured = tcp
        .map(move |stream, _| Impatient::new(stream, patience))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplexer)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(TransportTimeout::new(secured, limits.handshake_within).boxed())
}

/// A stream that fails once the kernel has taken no byte for too long.
///
/// The far side of a connection always reads, whatever its application does: back-pressure is the multiplexer's
/// matter. So a socket that stays full means a machine that is gone. Without this, closing such a connection
/// would wait for its last bytes until TCP itself gives up, a quarter of an hour later, and the member would
/// count as connected all the while.
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stuck: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stuck = None;
            return outcome;
        }
        let patience = self.patience;
        ready!(self.stuck.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, outcome)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_close(cx);
        self.judge(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt;

    use super::*;

    /// Takes `room` bytes and then no more.
    struct Full {
        room: usize,
    }

    impl AsyncWrite for Full {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_full_socket_fails_after_its_patience() {
        let patience = Duration::from_millis(20);
        let mut stream = Impatient::new(Full { room: 10 }, patience);
        let error = stream.write_all(&[0; 11]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(stream.stream.room, 0);
        let mut stream = Impatient::new(Full { room: 10 }, patience);
        stream.write_all(&[0; 10]).await.unwrap();
        assert_eq!(stream.close().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
