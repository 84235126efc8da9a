//! The bytes below libp2p: TCP or a relay's stream, Noise, Yamux, and a watch on stuck writes. QUIC brings its own
//! encryption and streams.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite, io::BufReader};
use libp2p::{
    PeerId as InnerPeerId, Transport,
    core::{
        ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, OrTransport, timeout::TransportTimeout},
        upgrade::Version,
    },
    noise, relay, tcp, yamux,
};
use tokio::time::{Sleep, sleep};

use super::{
    Identity, NetError,
    anteroom::{Anteroom, Place, Turn},
    limits::Limits,
};

/// Read from a socket at once. Noise asks for 8 KiB at a time, each a call to the kernel otherwise.
const READ_BYTES: usize = 256 << 10;

/// What the swarm dials and listens with. A relay carries what Noise has sealed for the far end, and can read none
/// of it.
pub(super) fn transport(
    identity: &Identity,
    (relayed, anteroom): (relay::client::Transport, Anteroom),
    limits: &Limits,
) -> Result<Boxed<(InnerPeerId, StreamMuxerBox)>, NetError> {
    let noise = noise::Config::new(&identity.keypair())
        .map_err(|source| NetError::Noise { source: Box::new(source) })?;
    let mut multiplexer = yamux::Config::default();
    multiplexer.set_max_num_streams(limits.streams_per_connection());
    // Said aloud although it is the default: one delayed segment costs more than a round.
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    let patience = limits.silence();
    // The relay's first: TCP would take a place at a relay for the relay itself.
    let place = move |point: &ConnectedPoint| match point {
        ConnectedPoint::Listener { send_back_addr, .. } => Some(anteroom.place(send_back_addr)),
        ConnectedPoint::Dialer { .. } => None,
    };
    let relayed_place = place.clone();
    let secured = OrTransport::new(
        relayed.map(move |stream, point| Impatient::new(stream, patience, relayed_place(&point))),
        tcp.map(move |stream, point| {
            Impatient::new(BufReader::with_capacity(READ_BYTES, stream), patience, place(&point))
        }),
    )
    .upgrade(Version::V1Lazy)
    .authenticate(noise)
    .multiplex(multiplexer)
    .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    #[cfg(feature = "quic")]
    let secured = {
        use futures::future::Either;
        use libp2p::quic;

        let mut config = quic::Config::new(&identity.keypair());
        config.handshake_timeout = limits.handshake_within;
        config.max_concurrent_stream_limit =
            u32::try_from(limits.streams_per_connection()).unwrap_or(u32::MAX);
        OrTransport::new(secured, quic::tokio::Transport::new(config)).map(|either, _| match either {
            Either::Left(found) => found,
            Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        })
    };
    Ok(TransportTimeout::new(secured, limits.handshake_within).boxed())
}

/// A stream that fails once the kernel has taken no byte for too long, or once it is sent away from the anteroom.
///
/// The far side of a connection always reads, whatever its application does: back-pressure is the multiplexer's
/// matter. So a socket that stays full means a machine that is gone. Without this, closing such a connection
/// would wait for its last bytes until TCP itself gives up, a quarter of an hour later, and the member would
/// count as connected all the while.
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
    /// Of a connection towards us, until its handshake is over.
    place: Option<Arc<Place>>,
}

impl<S> Impatient<S> {
    fn new(stream: S, patience: Duration, place: Option<Arc<Place>>) -> Self {
        Self { stream, patience, stuck: None, place }
    }

    /// An error for a handshake that has lost its place.
    fn look(&mut self, cx: &Context<'_>) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        match place.turn(cx) {
            Turn::Wait => Ok(()),
            Turn::Through => {
                self.place = None;
                Ok(())
            }
            Turn::SentAway => Err(io::ErrorKind::ConnectionAborted.into()),
        }
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
        self.look(cx)?;
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
        let mut stream = Impatient::new(Full { room: 10 }, patience, None);
        let error = stream.write_all(&[0; 11]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(stream.stream.room, 0);
        let mut stream = Impatient::new(Full { room: 10 }, patience, None);
        stream.write_all(&[0; 10]).await.unwrap();
        assert_eq!(stream.close().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
