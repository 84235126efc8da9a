//! Both parties' bundles from one seed, in one process: a dealer whom nobody may trust. Tests only.
//!
//! - Computes: what [`super::dealer`] deals.
//! - Learns: whoever knows the seed knows all masks.
//! - Consumes: the seed and a serial, which say everything.
//! - Costs: no message.
//! - Source: [`super::dealer`].

use super::dealer::{WeightMasks, corrections};
use crate::algebra::prg::Seed;
use crate::stock::{Demand, Tape};

/// Both parties' tapes of a serial, Zero's first. The same serial gives the same tapes.
pub fn tapes(lanes: &[Vec<Demand>], masks: &impl WeightMasks, seed: &Seed, serial: u64) -> [Tape; 2] {
    let [zero, one] = ["bundle zero", "bundle one"].map(|name| seed.derive(name, serial));
    let corrections = corrections(lanes, &zero, &one, masks);
    [Tape::seeded(&zero), Tape::stored(&one, corrections)]
}
