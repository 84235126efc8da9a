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
            // The header is known last.
            let mut frame = vec![0; HEADER_BYTES];
            let mut step = 0u32;
            let mut lengths = Vec::new();
            for (index, slot) in slots.iter().enumerate() {
                let posted = slot.lock().unwrap_or_else(PoisonError::into_inner).outgoing.take();
                if let Some((place, bytes)) = posted {
                    step = step.rotate_left(5).wrapping_add(place).wrapping_mul(0x9e37_79b1);
                    lengths.push((index, bytes.len()));
                    frame.extend_from_slice(&bytes);
                }
            }
            if lengths.is_empty() {
                return Err(ComputationError::Bug("a lane waits for something other than the peer"));
            }
            let reply = self.swap(step, frame).await?;
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
        mut frame: Vec<u8>,
    ) -> Result<Vec<u8>, ComputationError<E>> {
        let frame_bytes = frame.len();
        let payload_bytes = frame_bytes - HEADER_BYTES;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(ComputationError::Bug("a frame larger than the plan allows"));
        }
        let position = Position { session: self.session, round: self.meter.rounds, step };
        frame[..HEADER_BYTES].copy_from_slice(&position.header());
        self.meter.rounds += 1;
        self.meter.bytes += frame_bytes as u64;
        let reply = self.link.exchange(frame, frame_bytes).await?;
        position.payload(&reply, payload_bytes)?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Step;
    use crate::testing::{MemoryLink, run_now};
    use std::convert::Infallible;

    type Running = Pin<Box<dyn Future<Output = Result<Vec<Vec<u8>>, Infallible>> + Send>>;

    /// A lane that sends one payload per round and returns what came back.
    fn talk(payloads: &'static [(Step, &'static [u8])]) -> impl FnOnce(Lane) -> Running {
        move |lane| {
            Box::pin(async move {
                let mut heard = Vec::new();
                for (step, payload) in payloads {
                    heard.push(lane.exchange(*step, payload.to_vec()).await);
                }
                Ok(heard)
            })
        }
    }

    type Heard = Result<Vec<Vec<Vec<u8>>>, ComputationError<Infallible>>;

    /// Party Zero runs `lanes` against a peer that answers with these frames.
    fn against(lanes: Vec<&'static [(Step, &'static [u8])]>, frames: Vec<Vec<u8>>) -> Heard {
        let [zero, mut peer] = MemoryLink::pair();
        let peer = std::thread::spawn(move || {
            for frame in frames {
                if run_now(peer.exchange(frame, 0)).is_err() {
                    return;
                }
            }
        });
        let mut computation = Computation::new(zero, Party::Zero, 7);
        let heard = run_now(computation.run(lanes.into_iter().map(talk).collect()));
        drop(computation);
        peer.join().unwrap();
        heard
    }

    /// What party One sends when it runs these lanes itself.
    fn frames(session: u64, lanes: Vec<&'static [(Step, &'static [u8])]>, rounds: usize) -> Vec<Vec<u8>> {
        let [zero, mut one] = MemoryLink::pair();
        let sent = zero.transcript();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut computation = Computation::new(zero, Party::One, session);
                let _ = run_now(computation.run(lanes.into_iter().map(talk).collect()));
            });
            for _ in 0..rounds {
                // Garbage ends the computation, but not before its next frame is out.
                let _ = run_now(one.exchange(Vec::new(), 0));
            }
        });
        sent.lock().unwrap().clone()
    }

    const OPEN: Step = Step::OperandOpen;
    const BITS: Step = Step::BitOpen;

    #[test]
    fn lanes_share_a_frame_and_may_end_at_different_rounds() {
        let [zero, one] = MemoryLink::pair();
        let run = |party, link| {
            let mut computation = Computation::new(link, party, 7);
            let own: [&'static [(Step, &'static [u8])]; 3] = match party {
                Party::Zero => [&[(OPEN, b"ab"), (BITS, b"c")], &[], &[(OPEN, b"def")]],
                Party::One => [&[(OPEN, b"uv"), (BITS, b"w")], &[], &[(OPEN, b"xyz")]],
            };
            let heard = run_now(computation.run(own.into_iter().map(talk).collect())).unwrap();
            (heard, computation.meter())
        };
        let (zero, one) = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(Party::One, one));
            (run(Party::Zero, zero), other.join().unwrap())
        });
        let bytes = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
        assert_eq!(zero.0, [bytes(&[b"uv", b"w"]), bytes(&[]), bytes(&[b"xyz"])]);
        assert_eq!(one.0, [bytes(&[b"ab", b"c"]), bytes(&[]), bytes(&[b"def"])]);
        let meter = Meter { rounds: 2, bytes: (2 * HEADER_BYTES + 6) as u64 };
        assert_eq!((zero.1, one.1), (meter, meter));
    }

    #[test]
    fn a_peer_elsewhere_is_named() {
        let here: &[(Step, &[u8])] = &[(OPEN, b"abcd")];
        let misbehaved = |frame: Vec<u8>| match against(vec![here], vec![frame]) {
            Err(ComputationError::Peer(misbehaviour)) => misbehaviour,
            other => panic!("{other:?}"),
        };
        let first = |session, lanes| frames(session, lanes, 1).swap_remove(0);
        assert!(against(vec![here], vec![first(7, vec![here])]).is_ok());
        assert_eq!(misbehaved(first(8, vec![here])), Misbehaviour::FrameSession { expected: 7, found: 8 });
        assert!(matches!(
            misbehaved(first(7, vec![&[(BITS, b"abcd")]])),
            Misbehaviour::FrameStep { round: 0, .. }
        ));
        // The same bytes in two lanes are not the same step.
        assert!(matches!(
            misbehaved(first(7, vec![&[(OPEN, b"ab")], &[(OPEN, b"cd")]])),
            Misbehaviour::FrameStep { round: 0, .. }
        ));
        assert_eq!(
            misbehaved(first(7, vec![&[(OPEN, b"abcde")]])),
            Misbehaviour::PayloadLength { round: 0, expected: 4, found: 5 }
        );
        let mut later = first(7, vec![here]);
        later[12] = 1;
        assert_eq!(misbehaved(later), Misbehaviour::FrameRound { expected: 0, found: 1 });
        assert_eq!(misbehaved(Vec::new()), Misbehaviour::FrameTruncated(0));
    }

    #[test]
    fn a_closed_link_is_an_error() {
        let heard = against(vec![&[(OPEN, b"abcd")]], Vec::new());
        assert!(matches!(heard, Err(ComputationError::Link(LinkError::Closed))));
    }

    #[test]
    fn a_lane_that_waits_for_anything_else_is_a_bug() {
        let [zero, _one] = MemoryLink::pair();
        let mut computation = Computation::new(zero, Party::Zero, 7);
        let lane = |_: Lane| -> Running { Box::pin(std::future::pending()) };
        let heard = run_now(computation.run(vec![lane]));
        assert!(matches!(heard, Err(ComputationError::Bug(_))));
    }
}
