//! Messages of unequal length in turn over one link: how preprocessing talks.

use super::lockstep::{Link, LinkError};
use crate::misbehaviour::Misbehaviour;
use crate::party::Party;
use crate::wire::{HEADER_BYTES, Position};

/// Payload of one frame; longer messages go in several.
pub const PIECE_BYTES: usize = 1 << 20;

/// Why a dialogue ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer broke the protocol.
    #[error("the other compute party broke the protocol: {0}")]
    Peer(#[from] Misbehaviour),
}

/// Exchanges, and bytes in each direction, frames with their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Simultaneous exchanges of one frame.
    pub rounds: u32,
    /// Bytes that this party sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
}

/// A two-party protocol whose messages both sides foresee, but which need not be alike.
#[derive(Debug)]
pub struct Dialogue<L> {
    link: L,
    party: Party,
    session: u64,
    traffic: Traffic,
}

impl<L: Link> Dialogue<L> {
    /// Both sides name the same `session`.
    pub fn new(link: L, party: Party, session: u64) -> Self {
        Self { link, party, session, traffic: Traffic::default() }
    }

    /// This side's seat.
    pub fn party(&self) -> Party {
        self.party
    }

    /// What was exchanged so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The link, for the next dialogue.
    pub fn into_link(self) -> L {
        self.link
    }

    /// Sends `message` and receives exactly `reply_bytes`, both at once, in as many frames as the longer
    /// one needs. Both sides name the same `step`, and each knows the length of what the other sends.
    ///
    /// # Errors
    /// The link failed, or the peer is elsewhere in the protocol or sends another length.
    pub async fn swap(
        &mut self,
        step: u32,
        message: &[u8],
        reply_bytes: usize,
    ) -> Result<Vec<u8>, DialogueError> {
        let pieces = message.len().max(reply_bytes).div_ceil(PIECE_BYTES);
        let mut reply = Vec::with_capacity(reply_bytes);
        for piece in 0..pieces {
            let from = (piece * PIECE_BYTES).min(message.len());
            let own = &message[from..(from + PIECE_BYTES).min(message.len())];
            let expected = (reply_bytes - reply.len()).min(PIECE_BYTES);
            let position = Position { session: self.session, round: self.traffic.rounds, step };
            let frame = position.frame(own);
            self.traffic.rounds = self.traffic.rounds.wrapping_add(1);
            self.traffic.sent += frame.len() as u64;
            let received = self.link.exchange(frame, HEADER_BYTES + expected).await?;
            self.traffic.received += received.len() as u64;
            reply.extend_from_slice(position.payload(&received, expected)?);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryLink, run_now};

    /// What each side hears when Zero says `zero` bytes and One `one` bytes at the given steps.
    fn talk(zero: usize, one: usize, steps: [u32; 2]) -> [Result<(Vec<u8>, Traffic), DialogueError>; 2] {
        let said = |count: usize, salt: u8| (0..count).map(|at| at as u8 ^ salt).collect::<Vec<u8>>();
        let run = |party, link, own: Vec<u8>, others, step| {
            let mut dialogue = Dialogue::new(link, party, 3);
            let heard = run_now(dialogue.swap(step, &own, others))?;
            Ok((heard, dialogue.traffic()))
        };
        let [left, right] = MemoryLink::pair();
        std::thread::scope(|scope| {
            let other = scope.spawn(move || run(Party::One, right, said(one, 7), zero, steps[1]));
            let first = run(Party::Zero, left, said(zero, 1), one, steps[0]);
            [first, other.join().unwrap()]
        })
    }

    #[test]
    fn messages_of_any_two_lengths_cross() {
        for (zero, one) in [(0, 5), (5, 0), (PIECE_BYTES, 1), (3, 2 * PIECE_BYTES + 9), (7, 7)] {
            let [first, second] = talk(zero, one, [4, 4]).map(|heard| heard.unwrap());
            assert!(first.0.iter().enumerate().all(|(at, byte)| *byte == at as u8 ^ 7));
            assert!(second.0.iter().enumerate().all(|(at, byte)| *byte == at as u8 ^ 1));
            assert_eq!((first.0.len(), second.0.len()), (one, zero));
            let frames = zero.max(one).div_ceil(PIECE_BYTES);
            let sent = (zero + frames * HEADER_BYTES) as u64;
            assert_eq!((first.1.rounds as usize, first.1.sent, second.1.received), (frames, sent, sent));
        }
        assert!(talk(0, 0, [1, 2]).iter().all(|heard| heard.as_ref().is_ok_and(|heard| heard.0.is_empty())));
    }

    #[test]
    fn a_peer_at_another_step_is_named() {
        let [zero, one] = talk(4, 4, [1, 2]);
        let elsewhere = |step: &Result<_, DialogueError>| {
            matches!(step, Err(DialogueError::Peer(Misbehaviour::FrameStep { round: 0, .. })))
        };
        assert!(elsewhere(&zero) && elsewhere(&one));
    }
}
