//! Both parties' bundles from one seed, in one process: a dealer whom nobody may trust. Tests only.
//!
//! - Computes: what [`super::dealer`] deals.
//! - Learns: whoever knows the seed knows all masks.
//! - Consumes: the seed and a serial, which say everything.
//! - Costs: no message.
//! - Source: [`super::dealer`].

use super::dealer::{WeightMasks, corrections};
use crate::algebra::prg::Seed;
use crate::party::Party;
use crate::stock::{Demand, Tape};

/// Both parties' tapes of a serial, Zero's first. The same serial gives the same tapes.
pub fn tapes(lanes: &[Vec<Demand>], masks: &impl WeightMasks, seed: &Seed, serial: u64) -> [Tape; 2] {
    let [zero, one] = ["bundle zero", "bundle one"].map(|name| seed.derive(name, serial));
    let [to_zero, to_one] = corrections(lanes, &zero, &one, masks);
    [Tape::new(Party::Zero, &zero, to_zero), Tape::new(Party::One, &one, to_one)]
}
