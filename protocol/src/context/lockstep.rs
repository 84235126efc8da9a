//! Drives many lanes over one link, one frame per round.

use super::lane::Lane;
use crate::misbehaviour::Misbehaviour;
use crate::party::Party;
use crate::wire::{HEADER_BYTES, PAYLOAD_BYTES_MAX, Position};
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context as TaskContext, Waker};

/// Why the other side cannot be reached any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The other side closed the connection.
    #[error("the other compute party closed the connection")]
    Closed,
    /// The other side did not answer in time.
    #[error("the other compute party did not answer within {0} ms")]
    Deadline(u64),
    /// The transport failed.
    #[error("the connection to the other compute party failed: {0}")]
    Transport(String),
}

/// A way to swap one frame with the other side. The only await of this crate.
pub trait Link: Send {
    /// Sends `frame` and receives one of at most `reply_bytes_max` bytes, both at once.
    fn exchange(
        &mut self,
        frame: Vec<u8>,
        reply_bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<u8>, LinkError>> + Send;
}

/// Rounds and bytes that a computation has used, frames with their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Simultaneous exchanges.
    pub rounds: u32,
    /// Bytes sent by this party; as many are received.
    pub bytes: u64,
}

/// Why a computation ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum ComputationError<E: std::error::Error> {
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer broke the protocol.
    #[error("the other compute party broke the protocol: {0}")]
    Peer(#[from] Misbehaviour),
    /// A gate failed on this side.
    #[error(transparent)]
    Gate(E),
    /// A lane waited for something that is not the other side, or a frame outgrew its limit.
    #[error("bug: {0}")]
    Bug(&'static str),
}

/// One two-party computation over one link.
#[derive(Debug)]
pub struct Computation<L> {
    link: L,
    party: Party,
    session: u64,
    meter: Meter,
}

impl<L: Link> Computation<L> {
    /// Both sides name the same `session`.
    pub fn new(link: L, party: Party, session: u64) -> Self {
        Self { link, party, session, meter: Meter::default() }
    }

    /// This side's seat.
    pub fn party(&self) -> Party {
        self.party
    }

    /// Rounds and bytes so far.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// The link, for the next computation.
    pub fn into_link(self) -> L {
        self.link
    }

    /// Runs one future per lane in lock step and returns their results in order.
    ///
    /// Dropping the future abandons the computation; what it took from the stock is burnt.
    ///
    /// # Errors
    /// The first failure of any lane, of the peer or of the link ends all lanes.
    pub async fn run<'a, T, E, F>(&mut self, lanes: Vec<F>) -> Result<Vec<T>, ComputationError<E>>
    where
        T: Send,
        E: std::error::Error + Send,
        F: FnOnce(Lane) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>,
    {
        let mut slots = Vec::with_capacity(lanes.len());
        let mut futures = Vec::with_capacity(lanes.len());
        for (number, lane) in lanes.into_iter().enumerate() {
            let handle = Lane::new(number as u32);
            slots.push(handle.slot.clone());
            futures.push(Some(lane(handle)));
        }
        let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
        loop {
            for (future, result) in futures.iter_mut().zip(&mut results) {
                let Some(running) = future else { continue };
                let mut task = TaskContext::from_waker(Waker::noop());
                if let std::task::Poll::Ready(outcome) = running.as_mut().poll(&mut task) {
                    *result = Some(outcome.map_err(ComputationError::Gate)?);
                    *future = None;
                }
            }
            if futures.iter().all(Option::is_none) {
                break;
            }
            let mut payload = Vec::new();
            let mut step = 0u32;
            let mut lengths = Vec::new();
            for (index, slot) in slots.iter().enumerate() {
                let posted = slot.lock().unwrap_or_else(PoisonError::into_inner).outgoing.take();
                if let Some((place, bytes)) = posted {
                    step = step.rotate_left(5).wrapping_add(place).wrapping_mul(0x9e37_79b1);
                    lengths.push((index, bytes.len()));
                    payload.extend_from_slice(&bytes);
                }
            }
            if lengths.is_empty() {
                return Err(ComputationError::Bug("a lane waits for something other than the peer"));
            }
            let reply = self.swap(step, &payload).await?;
            let mut rest = &reply[HEADER_BYTES..];
            for (index, length) in lengths {
                let (own, others) = rest.split_at(length);
                rest = others;
                slots[index].lock().unwrap_or_else(PoisonError::into_inner).incoming = Some(own.to_vec());
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn swap<E: std::error::Error>(
        &mut self,
        step: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, ComputationError<E>> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(ComputationError::Bug("a frame larger than the plan allows"));
        }
        let position = Position { session: self.session, round: self.meter.rounds, step };
        let frame = position.frame(payload);
        self.meter.rounds += 1;
        self.meter.bytes += frame.len() as u64;
        let reply = self.link.exchange(frame, HEADER_BYTES + payload.len()).await?;
        position.payload(&reply, payload.len())?;
        Ok(reply)
    }
}
