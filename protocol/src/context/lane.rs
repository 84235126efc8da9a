//! One straight line of gates.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

/// What a message is for. With the gate's position it names a place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A value under a fresh mask, as the operand of a product.
    OperandOpen = 1,
    /// A value under a mask whose bits are shared.
    MaskedOpen = 2,
    /// Masked bits of a comparison.
    CompareBits = 3,
    /// A bit under a mask with an additive sharing.
    BitOpen = 4,
    /// Masked bits of a conjunction.
    ConjunctionBits = 5,
    /// A small number under a mask, the position in a shared table.
    TallyOpen = 6,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) outgoing: Option<(u32, Vec<u8>)>,
    pub(super) incoming: Option<Vec<u8>>,
}

/// A lane's end of the shared frame. Not `Clone`: one lane, one conversation.
#[derive(Debug)]
pub struct Lane {
    pub(super) slot: Arc<Mutex<Slot>>,
    number: u32,
    gate: u32,
}

impl Lane {
    pub(super) fn new(number: u32) -> Self {
        Self { slot: Arc::default(), number, gate: 0 }
    }

    /// Moves to the next gate of this lane, for the names of steps.
    pub fn advance(&mut self) {
        self.gate = self.gate.wrapping_add(1);
    }

    /// Sends `payload` and receives the other side's payload of the same length, in the frame that
    /// all lanes share in this round.
    ///
    /// The future may be dropped: the round is then lost with the whole computation.
    pub fn exchange(&self, step: Step, payload: Vec<u8>) -> Exchange<'_> {
        let place = self.number.rotate_left(20) ^ (self.gate << 8) ^ step as u32;
        Exchange { lane: self, outgoing: Some((place, payload)) }
    }
}

/// The wait for one round.
#[derive(Debug)]
pub struct Exchange<'a> {
    lane: &'a Lane,
    outgoing: Option<(u32, Vec<u8>)>,
}

impl Future for Exchange<'_> {
    type Output = Vec<u8>;

    fn poll(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Vec<u8>> {
        let outgoing = self.outgoing.take();
        let mut slot = self.lane.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if outgoing.is_some() {
            slot.outgoing = outgoing;
            return Poll::Pending;
        }
        match slot.incoming.take() {
            Some(payload) => Poll::Ready(payload),
            None => Poll::Pending,
        }
    }
}
