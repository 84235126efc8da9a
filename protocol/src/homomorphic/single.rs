//! Single queries: one input in few ciphertexts, for an answer in a fraction of a second.
//!
//! Card of an evaluation under a client's key:
//!
//! - *computes* the integer logits of one input, exactly;
//! - *the client learns* its logits and, up to a distance of 2^-40 and under ring learning with errors, nothing else about
//!   the weights beyond the public plan;
//! - *the owner learns* nothing about the input, under ring learning with errors and circular security;
//! - *consumes* nothing prepared: the client's evaluation keys, once for any number of queries;
//! - *costs* one message each way: ciphertexts of the query times plaintext primes times primes of the modulus rows of
//!   88,064 bytes there, two rows for each plaintext prime back;
//! - *source*: Brutzkus, Oren and Gilad-Bachrach, LoLa, ICML 2019, for the change between arrangements of slots;
//!   Gentry, Halevi and Smart, Crypto 2012, for the special prime.
//!   [`super::layout`] says how slots are used, [`crate::manual::homomorphic`] what it rests on.

mod deviation;
mod weights;

use super::evaluator::Raw;
use super::galois::{Galois, Places};
use super::integer::IntegerNet;
use super::key::{EvaluationKeys, Origin};
use super::layout::{Layout, Step, doublings};
use super::plan::Plan;
use super::ring::{Rows, SINGLE, Secret, Slots, each, map};
use super::sanitise::{add_switched, drop_last, uniform_slots};
use crate::algebra::Prg;
use crate::lattice::prime::Prime;
use std::collections::BTreeMap;
use std::sync::Mutex;
use weights::Weights;

pub(super) use deviation::{deviation, modulus_bits};

/// Both halves of a ciphertext as values at the roots.
type Halves = [Rows; 2];

/// A network for single queries in one plaintext prime.
pub(super) struct SingleNet {
    layout: Layout,
    weights: Vec<Weights>,
    places: BTreeMap<Origin, Places>,
    /// Rows that are not in use.
    spare: Mutex<Vec<Rows>>,
}

impl SingleNet {
    pub(super) fn new(plan: &Plan, layout: &Layout, net: &IntegerNet, slots: &Slots) -> Self {
        let galois = Galois::new(SINGLE.degree());
        let keys = layout.keys();
        let rotations =
            keys.iter().map(|shape| shape.origin).filter(|origin| !matches!(origin, Origin::Power(_)));
        let places = rotations.map(|origin| (origin, galois.of(origin))).collect();
        // What a message is multiplied by, so far, beside what it should be: dividing by a prime divides it too.
        let mut scale = 1.0;
        let mut weights = Vec::with_capacity(layout.stages.len());
        for (index, stage) in layout.stages.iter().enumerate() {
            let factor = inverse(slots.prime(), scale);
            weights.push(Weights::new(plan, stage, net, index, slots, factor, layout));
            if stage.squared {
                scale = 1.0;
                for (limbs, square) in [(stage.limbs, false), (stage.square_limbs(), true)] {
                    if square {
                        scale = slots.prime().multiply(scale, scale);
                    } else if stage.step == Step::Taps {
                        continue;
                    }
                    let dropped = SINGLE.prime(limbs - 1).value;
                    scale = slots.prime().multiply(scale, slots.prime().inverse_of(dropped.into()));
                }
            }
        }
        Self { layout: layout.clone(), weights, places, spare: Mutex::default() }
    }

    /// Takes in a block at one prime of the modulus, and computes the convolution at the start, if there is one. `rows`
    /// gives both halves of the row of each ciphertext, residues in `0..prime`. The result is
    /// `[ciphertext][half][degree]`, next to zero.
    pub(super) fn take_in<E>(
        &self,
        limb: usize,
        mut rows: impl FnMut(usize, &mut Vec<f64>) -> Result<Vec<f64>, E>,
    ) -> Result<Raw, E> {
        let (prime, degree) = (SINGLE.prime(limb), SINGLE.degree());
        let mut values = self.lend();
        let mut linear = Vec::with_capacity(degree);
        for ciphertext in 0..self.layout.query.len() {
            values.extend(rows(ciphertext, &mut linear)?);
            values.extend_from_slice(&linear);
        }
        each(&mut values, |value| prime.centre(value));
        let taps = &self.weights[0].taps;
        if taps.is_empty() {
            return Ok(Raw::new(values));
        }
        let raw = convolved(prime, &values, taps, self.layout.query.len());
        self.give(values);
        Ok(Raw::new(raw))
    }

    /// Empty rows that were perhaps used before: fresh memory is dear.
    fn lend(&self) -> Rows {
        self.spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default()
    }

    fn give(&self, mut rows: Rows) {
        rows.clear();
        if let Ok(mut spare) = self.spare.lock() {
            spare.push(rows);
        }
    }

    /// The answer without its sums, as two halves under the modulus of answers. `blocks` are those of one plaintext prime.
    pub(super) fn run(&self, blocks: &[Raw], slots: &Slots, keys: &EvaluationKeys) -> Halves {
        let degree = SINGLE.degree();
        let engine = Engine { slots, keys, net: self };
        let ciphertexts = blocks.first().map_or(0, |block| block.values().len() / (2 * degree));
        let gathered = |ciphertext: usize| {
            [0, 1].map(|half| {
                let from = (2 * ciphertext + half) * degree;
                let mut rows = self.lend();
                blocks.iter().for_each(|block| rows.extend_from_slice(&block.values()[from..from + degree]));
                rows
            })
        };
        let mut wire: Vec<Halves> = (0..ciphertexts).map(gathered).collect();
        for (stage, weights) in self.layout.stages.iter().zip(&self.weights) {
            let next = match &stage.step {
                Step::Taps => None,
                Step::Spread { chunk, .. } => Some(engine.spread(&wire, weights, *chunk, stage.squared)),
                Step::Gather { chunk } => Some(engine.gather(&wire[0], weights, *chunk, stage.squared)),
            };
            if let Some(next) = next {
                std::mem::replace(&mut wire, vec![next])
                    .into_iter()
                    .flatten()
                    .for_each(|rows| self.give(rows));
            }
            for ([constant, _], bias) in wire.iter_mut().zip(&weights.bias) {
                SINGLE.add(constant, bias);
            }
            if stage.squared {
                for halves in &mut wire {
                    if stage.step != Step::Taps {
                        engine.drop(halves);
                    }
                    engine.square(halves);
                    engine.drop(halves);
                }
            }
        }
        wire.swap_remove(0)
    }

    /// Numbers that hide all slots but for the sums that are logits.
    pub(super) fn mask(&self, slots: &Slots, prg: &mut Prg) -> Secret {
        let prime = slots.prime();
        let mut mask = uniform_slots(prg, slots, SINGLE.degree());
        for sum in self.layout.answer() {
            let Some((first, others)) = sum.split_first() else { continue };
            let rest = others.iter().fold(0.0, |rest, slot| prime.reduce(rest + mask[*slot]));
            mask[*first] = prime.canonical(-rest);
        }
        mask
    }
}

/// The inverse modulo a prime of a number next to zero.
fn inverse(prime: Prime, value: f64) -> f64 {
    prime.inverse_of(prime.canonical(value) as u128)
}

/// Values that stay in the second-level cache while all channels pass.
const PIECE: usize = 1024;
/// Largest sum of the magnitudes of weights before sums are brought back next to zero: residues are at most 2^42 + 1, and
/// sums stay below 2^52.
const SUM_MAX: f64 = 1000.0;

/// Sums of the ciphertexts of a query times small integers, one for each channel: `[channel][half][degree]`.
fn convolved(prime: Prime, values: &[f64], taps: &[f64], ciphertexts: usize) -> Vec<f64> {
    let degree = SINGLE.degree();
    let mut sums = vec![0.0; taps.len() / ciphertexts * 2 * degree];
    for at in (0..2 * degree).step_by(PIECE) {
        for (sums, kernel) in sums.chunks_exact_mut(2 * degree).zip(taps.chunks_exact(ciphertexts)) {
            let sums = &mut sums[at..at + PIECE];
            let mut magnitude = 0.0;
            for (ciphertext, weight) in kernel.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                if magnitude + weight.abs() > SUM_MAX {
                    each(sums, |sum| prime.reduce(sum));
                    magnitude = 1.0;
                }
                magnitude += weight.abs();
                let from = ciphertext * 2 * degree + at;
                map(sums, &values[from..from + PIECE], |sum, value| value.mul_add(*weight, sum));
            }
            each(sums, |sum| prime.reduce(sum));
        }
    }
    sums
}

struct Engine<'a> {
    slots: &'a Slots,
    keys: &'a EvaluationKeys,
    net: &'a SingleNet,
}

impl Engine<'_> {
    fn limbs(halves: &Halves) -> usize {
        halves[0].len() / SINGLE.degree()
    }

    fn zero(&self, limbs: usize) -> Rows {
        let mut rows = self.net.lend();
        rows.resize(limbs * SINGLE.degree(), 0.0);
        rows
    }

    fn copy(&self, rows: &Rows) -> Rows {
        let mut copy = self.net.lend();
        copy.extend_from_slice(rows);
        copy
    }

    /// Divides by the last prime.
    fn drop(&self, halves: &mut Halves) {
        halves.iter_mut().for_each(|half| drop_last(&SINGLE, self.slots, half));
    }

    /// The square, under the secret itself.
    fn square(&self, halves: &mut Halves) {
        let limbs = Self::limbs(halves);
        let product = |a: &Rows, b: &Rows| {
            let mut product = self.zero(limbs);
            SINGLE.multiply_add(&mut product, a, b);
            product
        };
        let [constant, linear] = &*halves;
        let mut middle = product(constant, linear);
        each(&mut middle, |value| 2.0 * value);
        let (first, last) = (product(constant, constant), product(linear, linear));
        for (half, square) in halves.iter_mut().zip([first, middle]) {
            self.net.give(std::mem::replace(half, square));
        }
        self.switched(Origin::Power(2), &last, halves);
        self.net.give(last);
    }

    /// Adds a polynomial times the origin of a key.
    fn switched(&self, origin: Origin, polynomial: &Rows, halves: &mut Halves) {
        let limbs = Self::limbs(halves);
        let mut sums = [self.zero(limbs + 1), self.zero(limbs + 1)];
        self.keys.switch(origin, polynomial, &mut sums);
        let [constant, linear] = halves;
        add_switched(&SINGLE, self.slots, [constant, linear], &mut sums);
        sums.into_iter().for_each(|rows| self.net.give(rows));
    }

    fn add_rotated(&self, origin: Origin, sums: &mut Halves, of: &Halves) {
        let (places, limbs) = (&self.net.places[&origin], Self::limbs(of));
        let mut moved = [self.zero(limbs), self.zero(limbs)];
        for (from, to) in of.iter().zip(&mut moved) {
            for (limb, row) in SINGLE.rows_mut(to) {
                places.apply(&from[limb * SINGLE.degree()..(limb + 1) * SINGLE.degree()], row);
            }
        }
        let [constant, linear] = moved;
        SINGLE.add(&mut sums[0], &constant);
        self.switched(origin, &linear, sums);
        [constant, linear].into_iter().for_each(|rows| self.net.give(rows));
    }

    /// The sum of ciphertexts, number `i` of which is rotated by `i` times `step`: neighbours first, then pairs of them, and
    /// so on. No more are held than there are powers of two.
    fn paired(&self, terms: impl Iterator<Item = Halves>, step: i32) -> Halves {
        let mut held: Vec<(u32, Halves)> = Vec::new();
        for term in terms {
            held.push((0, term));
            while let [.., (left, _), (right, _)] = held.as_slice() {
                if left != right {
                    break;
                }
                self.join(&mut held, step);
            }
        }
        // What has no neighbour counts as one of the size of what is before it.
        while held.len() > 1 {
            self.join(&mut held, step);
        }
        held.pop().map_or_else(|| [Rows::new(), Rows::new()], |(_, sum)| sum)
    }

    /// Adds the last sum to the one before it.
    fn join(&self, held: &mut Vec<(u32, Halves)>, step: i32) {
        if let Some((_, right)) = held.pop() {
            if let Some((level, left)) = held.last_mut() {
                self.add_rotated(Origin::Rotated(step << *level), left, &right);
                *level += 1;
            }
            right.into_iter().for_each(|rows| self.net.give(rows));
        }
    }

    /// Adds up what is so many slots apart, again and again.
    fn fold(&self, halves: &mut Halves, steps: impl Iterator<Item = i32>) {
        for step in steps {
            self.double(Origin::Rotated(step), halves);
        }
    }

    /// Adds to a ciphertext itself in other places.
    fn double(&self, origin: Origin, halves: &mut Halves) {
        let before = [self.copy(&halves[0]), self.copy(&halves[1])];
        self.add_rotated(origin, halves, &before);
        before.into_iter().for_each(|rows| self.net.give(rows));
    }

    /// Sum of ciphertexts times plaintexts, where there are any.
    fn products<'b>(
        &self,
        limbs: usize,
        terms: impl Iterator<Item = (&'b Halves, &'b Option<Secret>)>,
    ) -> Halves {
        let mut sums = [self.zero(limbs), self.zero(limbs)];
        for (halves, plaintext) in terms {
            let Some(plaintext) = plaintext else { continue };
            for (sum, half) in sums.iter_mut().zip(halves) {
                SINGLE.multiply_add(sum, half, plaintext);
            }
        }
        sums
    }

    fn spread(&self, wire: &[Halves], weights: &Weights, chunk: usize, squared: bool) -> Halves {
        let limbs = Self::limbs(&wire[0]);
        let shifts = weights.plaintexts.chunks_exact(wire.len());
        let sums = shifts.map(|plaintexts| self.products(limbs, wire.iter().zip(plaintexts)));
        let mut sum = self.paired(sums, chunk as i32);
        if squared {
            self.fold(&mut sum, doublings(1, chunk));
        }
        sum
    }

    fn gather(&self, wire: &Halves, weights: &Weights, chunk: usize, squared: bool) -> Halves {
        let product = |plaintext| self.products(Self::limbs(wire), std::iter::once((wire, plaintext)));
        let mut sum = self.paired(weights.plaintexts.iter().map(product), -1);
        if squared {
            self.fold(&mut sum, doublings(chunk, SINGLE.degree() / 2));
            self.double(Origin::Swapped, &mut sum);
        }
        sum
    }
}

impl std::fmt::Debug for SingleNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SingleNet({} stages)", self.layout.stages.len())
    }
}

/// The query's slots for one input.
pub(super) fn fill(layout: &Layout, ciphertext: usize, input: &[i64], slots: &mut [f64]) {
    let values = &layout.query[ciphertext];
    for block in slots.chunks_exact_mut(layout.period) {
        for (slot, value) in block.iter_mut().zip(values) {
            *slot = value.map_or(0.0, |at| input[at as usize] as f64);
        }
    }
}
