//! Two parties on two threads, joined by a memory link that records what each sends.

use crate::context::{Computation, Link, LinkError};
use crate::party::Party;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

/// Payloads of all frames that one party sent, headers included.
pub type Transcript = Arc<Mutex<Vec<Vec<u8>>>>;

/// One end of a link between two threads.
#[derive(Debug)]
pub struct MemoryLink {
    outgoing: SyncSender<Vec<u8>>,
    incoming: Receiver<Vec<u8>>,
    sent: Transcript,
}

impl MemoryLink {
    /// Both ends.
    pub fn pair() -> [Self; 2] {
        let (to_one, from_zero) = sync_channel(1);
        let (to_zero, from_one) = sync_channel(1);
        let end = |outgoing, incoming| Self { outgoing, incoming, sent: Transcript::default() };
        [end(to_one, from_one), end(to_zero, from_zero)]
    }

    /// What this end has sent and will send.
    pub fn transcript(&self) -> Transcript {
        self.sent.clone()
    }
}

impl Link for MemoryLink {
    async fn exchange(&mut self, frame: Vec<u8>, _: usize) -> Result<Vec<u8>, LinkError> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(frame.clone());
        self.outgoing.send(frame).map_err(|_| LinkError::Closed)?;
        self.incoming.recv().map_err(|_| LinkError::Closed)
    }
}

/// The result of a future that never waits for anything but blocking calls.
pub fn run_now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// Runs `body` for both parties and returns both results, Zero's first.
pub fn pair<T: Send>(body: impl Fn(Computation<MemoryLink>) -> T + Sync) -> [T; 2] {
    let [zero, one] = MemoryLink::pair();
    std::thread::scope(|scope| {
        let run = |party, link| body(Computation::new(link, party, 7));
        let other = scope.spawn(move || run(Party::One, one));
        let first = run(Party::Zero, zero);
        let second = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        [first, second]
    })
}
