//! Streams that hear when their connection is closed from this side.
//!
//! The multiplexer wakes the readers and writers of a connection that *fails*, but forgets those of a connection
//! that we *close*, be it at shutdown or because the peer fell silent: they would wait for ever. So each half of
//! a stream is tied to its connection's handler, and fails when that is dropped.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, FutureExt, channel::oneshot};

use super::frame::Halves;

/// The connection's end of all its ties.
#[derive(Debug, Default)]
pub(super) struct Tether {
    ties: Vec<oneshot::Sender<Infallible>>,
}

impl Tether {
    /// Both halves of `stream`, tied.
    pub(super) fn halves<S>(&mut self, stream: S) -> Halves
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = stream.split();
        Halves { reader: Box::new(self.tie(reader)), writer: Box::new(self.tie(writer)) }
    }

    /// Fails everything that is tied.
    pub(super) fn cut(&mut self) {
        self.ties.clear();
    }

    fn tie<S>(&mut self, stream: S) -> Tied<S> {
        // Here, so that the list stays as long as the streams that are alive.
        self.ties.retain(|tie| !tie.is_canceled());
        let (tie, cut) = oneshot::channel();
        self.ties.push(tie);
        Tied { stream, cut }
    }
}

struct Tied<S> {
    stream: S,
    cut: oneshot::Receiver<Infallible>,
}

impl<S> Tied<S> {
    /// What the stream can still do after the cut, it does; only waiting is over.
    fn judge<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let Err(oneshot::Canceled) = ready!(self.cut.poll_unpin(cx));
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, room);
        self.judge(cx, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
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

    /// Never has a byte and never takes one.
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_cut_wakes_both_halves_from_two_tasks() {
        let mut tether = Tether::default();
        let Halves { mut reader, mut writer } = tether.halves(Stuck);
        let reading = tokio::spawn(async move { reader.read(&mut [0; 4]).await });
        let writing = tokio::spawn(async move { writer.write(&[0; 4]).await });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished() && !writing.is_finished());
        drop(tether);
        for waiting in [reading, writing] {
            assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }

    #[test]
    fn ties_of_dropped_streams_are_forgotten() {
        let mut tether = Tether::default();
        for _ in 0..100 {
            drop(tether.halves(Stuck));
        }
        let _held = tether.halves(Stuck);
        assert_eq!(tether.ties.len(), 2);
    }
}
