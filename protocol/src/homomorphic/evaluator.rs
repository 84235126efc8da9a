//! The owner's side of a question.

use super::batch::BatchNet;
use super::integer::IntegerNet;
use super::key::EvaluationKeys;
use super::plan::Plan;
use super::query::Block;
use super::ring::Slots;
use super::rows;
use super::sanitise::{seal, uniform_slots};
use super::single::SingleNet;
use crate::algebra::{Prg, Seed};
use crate::misbehaviour::Misbehaviour;

/// An owner's network, ready to be evaluated.
pub struct Evaluator {
    plan: Plan,
    ciphertexts: usize,
    limbs: usize,
    slots: Vec<Slots>,
    nets: Vec<Net>,
}

/// A network in one plaintext prime.
enum Net {
    Batch(BatchNet),
    Single(Box<SingleNet>),
}

/// What was made of a block of a query. It shows weights to whoever holds the client's key: only [`Evaluator::answer`]
/// makes something that may be sent.
pub struct Raw(Vec<f64>);

impl Raw {
    pub(super) fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    pub(super) fn values(&self) -> &[f64] {
        &self.0
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raw({})", self.0.len())
    }
}

const QUERY: &str = "query";

impl Evaluator {
    /// For a network and the plan that was made of it.
    ///
    /// # Panics
    /// If the plan has other scales, another range or fewer bits for logits than the network.
    pub fn new(plan: Plan, net: &IntegerNet) -> Self {
        let reach = net.reach().last().copied().unwrap_or(0.0);
        let same = plan.scales == *net.scales() && plan.input_range == net.range();
        assert!(same && reach <= f64::from(plan.logit_bits), "the plan is of another network");
        let slots: Vec<Slots> = (0..plan.primes.len()).map(|plain| plan.slots(plain)).collect();
        let layout = plan.layout();
        let ready = |slots: &Slots| match &layout {
            None => Net::Batch(BatchNet::new(net, slots)),
            Some(layout) => Net::Single(Box::new(SingleNet::new(&plan, layout, net, slots))),
        };
        let nets = slots.iter().map(ready).collect();
        Self { slots, nets, ciphertexts: plan.ciphertexts(), limbs: plan.query_limbs(), plan }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes one block of a query in. In a batch this evaluates the network on it, which is nearly all of the work.
    ///
    /// # Errors
    /// [`Misbehaviour`] where the bytes are not the block's.
    pub fn evaluate(&self, seed: &Seed, block: Block, bytes: &[u8]) -> Result<Raw, Misbehaviour> {
        let expected = self.ciphertexts * self.plan.row_bytes();
        if bytes.len() != expected {
            return Err(Misbehaviour::LatticeLength { what: QUERY, expected, found: bytes.len() });
        }
        let (ring, row_bytes) = (self.plan.ring(), self.plan.row_bytes());
        let halves = |ciphertext: usize, linear: &mut Vec<f64>| {
            let row = &bytes[ciphertext * row_bytes..(ciphertext + 1) * row_bytes];
            block.uniform(ring, seed, ciphertext, linear);
            rows::read(QUERY, ring, block.limb, row)
        };
        match &self.nets[block.plain] {
            Net::Batch(net) => net.evaluate(block.limb, halves),
            Net::Single(net) => net.take_in(block.limb, halves),
        }
    }

    /// Answer number `answer` in one plaintext prime, of [`Plan::answers`] many, from that prime's blocks in order: what
    /// may be sent to the client, [`Plan::answer_bytes`] long. `used` inputs of a batch are answered; what its other slots
    /// hold is hidden. `prg` is for this answer alone.
    ///
    /// # Panics
    /// If there are not as many blocks as [`Plan::query_limbs`], or there is no such answer.
    pub fn answer(
        &self,
        plain: usize,
        answer: usize,
        blocks: &[Raw],
        keys: &EvaluationKeys,
        used: usize,
        prg: &mut Prg,
    ) -> Vec<u8> {
        assert_eq!(blocks.len(), self.limbs, "blocks of an answer");
        assert!(answer < self.plan.answers(), "answer {answer} of {}", self.plan.answers());
        let (ring, slots) = (self.plan.ring(), &self.slots[plain]);
        let (halves, mask) = match &self.nets[plain] {
            Net::Batch(net) => {
                let mut mask = uniform_slots(prg, slots, ring.degree());
                mask[..used.min(ring.degree())].fill(0.0);
                (net.output(answer, blocks, slots, keys), mask)
            }
            Net::Single(net) => (net.run(blocks, slots, keys), net.mask(slots, prg)),
        };
        seal(ring, slots, halves, mask, (keys, self.plan.flood_bits), prg)
    }
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evaluator({})", self.plan.network.summary())
    }
}
