//! What a gate knows of the world: its seat, its place in the plan, its correlations, and one way
//! to speak to the other side.
//!
//! Gates run on *lanes*. All lanes of a computation advance in lock step: whatever they send in one
//! round leaves in one frame. A lane never waits for anything but the other party.

mod dialogue;
mod lane;
mod lockstep;

pub use dialogue::{Dialogue, DialogueError, PIECE_BYTES, Traffic};
pub use lane::{Lane, Step};
pub use lockstep::{Computation, ComputationError, Link, LinkError, Meter};

use crate::party::Party;
use crate::stock::Provision;

/// Everything that a gate may use.
#[derive(Debug)]
pub struct Context {
    party: Party,
    lane: Lane,
    stock: Provision,
}

impl Context {
    /// A lane with the correlations that its gates will take.
    pub fn new(party: Party, lane: Lane, stock: Provision) -> Self {
        Self { party, lane, stock }
    }

    /// This side's seat.
    pub fn party(&self) -> Party {
        self.party
    }

    /// 1 for the seat that adds public constants, else 0.
    pub fn unit(&self) -> u64 {
        u64::from(self.party.holds_constants())
    }

    /// The way to the other side.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Correlations left. Entering a gate moves to a new position in the plan.
    pub fn enter(&mut self) -> &mut Provision {
        self.lane.advance();
        &mut self.stock
    }
}
