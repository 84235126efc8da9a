//! Connections to the interface: few, of which those that ask nothing make room for others.
//!
//! Anybody on this machine can connect, so that whoever connects and says nothing must not keep others out. A
//! connection is kept for sure only while a request of it is answered.

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// Longest wait for the head of a request, also between two of them.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// All connections.
pub(super) struct Visitors {
    most: usize,
    running: JoinSet<()>,
    /// The first that came first.
    here: VecDeque<Visitor>,
    answered: Arc<Notify>,
}

struct Visitor {
    asking: Arc<AtomicUsize>,
    handle: AbortHandle,
}

/// A request that is being answered.
struct Asking {
    asking: Arc<AtomicUsize>,
    answered: Arc<Notify>,
}

impl Asking {
    fn new(asking: Arc<AtomicUsize>, answered: Arc<Notify>) -> Self {
        asking.fetch_add(1, Ordering::Relaxed);
        Self { asking, answered }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asking.fetch_sub(1, Ordering::Relaxed);
        self.answered.notify_one();
    }
}

impl Visitor {
    fn is_silent(&self) -> bool {
        self.asking.load(Ordering::Relaxed) == 0
    }
}

impl Visitors {
    pub(super) fn new(most: usize) -> Self {
        Self { most, running: JoinSet::new(), here: VecDeque::new(), answered: Arc::default() }
    }

    /// Whether one more can come, if need be in the place of another.
    pub(super) fn has_room(&self) -> bool {
        self.here.len() < self.most || self.here.iter().any(Visitor::is_silent)
    }

    /// Converses with one more. If all places are taken, the silent one that came first has to go.
    pub(super) fn receive(&mut self, stream: TcpStream, service: TowerToHyperService<Router>) {
        self.forget_gone();
        if self.here.len() >= self.most
            && let Some(at) = self.here.iter().position(Visitor::is_silent)
            && let Some(silent) = self.here.remove(at)
        {
            silent.handle.abort();
        }
        let asking = Arc::new(AtomicUsize::new(0));
        let handle = self.running.spawn(converse(stream, service, asking.clone(), self.answered.clone()));
        self.here.push_back(Visitor { asking, handle });
    }

    /// Returns when one has gone or has its answer, so that there may be room again. May be dropped.
    pub(super) async fn change(&mut self) {
        tokio::select! {
            Some(_) = self.running.join_next() => self.forget_gone(),
            () = self.answered.notified() => {}
        }
    }

    fn forget_gone(&mut self) {
        self.here.retain(|visitor| !visitor.handle.is_finished());
    }
}

async fn converse(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    asking: Arc<AtomicUsize>,
    answered: Arc<Notify>,
) {
    let _ = stream.set_nodelay(true);
    let counted = service_fn(move |request| {
        let asking = Asking::new(asking.clone(), answered.clone());
        let answer = service.call(request);
        async move {
            let answer = answer.await;
            drop(asking);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), counted);
    if let Err(error) = connection.await {
        tracing::debug!("a connection to the HTTP interface ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    const SOON: Duration = Duration::from_secs(20);
    const QUICK: &[u8] = b"GET /quick HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    async fn rest(mut stream: TcpStream) -> String {
        let mut told = Vec::new();
        // A connection that is dropped may be reset.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut told)).await.expect("nothing may hang");
        String::from_utf8(told).unwrap()
    }

    #[tokio::test]
    async fn the_silent_make_room_and_those_who_ask_do_not() {
        let gate = Arc::new(Semaphore::new(0));
        let (held, asked) = (gate.clone(), Arc::new(Semaphore::new(0)));
        let told = asked.clone();
        let router = Router::new().route("/quick", get(|| async { "quick" })).route(
            "/slow",
            get(|| async move {
                told.add_permits(1);
                held.acquire().await.unwrap().forget();
                "slow"
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut visitors, service) = (Visitors::new(3), TowerToHyperService::new(router));
        let serving = tokio::spawn(async move {
            loop {
                tokio::select! {
                    arrival = listener.accept(), if visitors.has_room() => {
                        visitors.receive(arrival.unwrap().0, service.clone());
                    }
                    () = visitors.change() => {}
                }
            }
        });
        let connect = async |words: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(words).await.unwrap();
            stream
        };
        let slow = connect(SLOW).await;
        asked.acquire().await.unwrap().forget();
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(connect(b"GET /quick HTTP/1.1\r\nx-slow: ").await);
        }
        assert!(rest(connect(QUICK).await).await.ends_with("quick"));
        assert_eq!(rest(silent.remove(0)).await, "", "it had to go");
        // Three that ask: another one waits until one of them has its answer.
        let more = [connect(SLOW).await, connect(SLOW).await];
        asked.acquire_many(2).await.unwrap().forget();
        let waiting = tokio::spawn(rest(connect(QUICK).await));
        gate.add_permits(3);
        assert!(waiting.await.unwrap().ends_with("quick"));
        for stream in more.into_iter().chain([slow]) {
            assert!(rest(stream).await.ends_with("slow"));
        }
        serving.abort();
    }
}
