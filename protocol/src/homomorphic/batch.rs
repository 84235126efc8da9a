//! Batches: 8,192 inputs at once, one ciphertext for each number of an input.
//!
//! Card of an evaluation under a client's key:
//!
//! - *computes* the integer logits of up to 8,192 inputs, exactly;
//! - *the client learns* its logits and, up to a distance of 2^-40 and under ring learning with errors, nothing else about
//!   the weights beyond the public plan;
//! - *the owner learns* how many inputs there are and nothing about them, under ring learning with errors and circular
//!   security;
//! - *consumes* nothing prepared: the client's evaluation keys, once for any number of batches;
//! - *costs* one message each way: `inputs * primes * 5` rows of 44,032 bytes there, `outputs * primes * 2` rows back;
//! - *source*: Gilad-Bachrach et al., CryptoNets, ICML 2016, for the layout; Brakerski, Gentry and Vaikuntanathan, ITCS
//!   2012, for the scheme. That nothing is relinearised before the outputs, and that answers are sanitised, is ours;
//!   [`crate::manual::homomorphic`] has the arguments.
//!
//! The rows of a query come prime by prime, so that an owner reads one block of `inputs` rows at a time and needs no more
//! in memory: 16 bytes for each number of an input and each root, and the outputs.

use super::evaluator::Raw;
use super::integer::IntegerNet;
use super::key::{EvaluationKeys, Origin};
use super::panel::{self, TiledMap, WORDS};
use super::ring::{BATCH, Rows, Slots, each};
use super::sanitise::{add_switched, drop_last};
use zeroize::Zeroize;

/// A network for batches in one plaintext prime.
pub(super) struct BatchNet {
    maps: Vec<TiledMap>,
    inputs: usize,
    outputs: usize,
}

impl BatchNet {
    pub(super) fn new(net: &IntegerNet, slots: &Slots) -> Self {
        let maps = net.maps.iter().map(|map| TiledMap::new(map, slots.prime())).collect();
        Self { maps, inputs: net.inputs(), outputs: net.outputs() }
    }

    /// Parts of an output: powers of the secret, with the zeroth.
    fn parts(&self) -> usize {
        (1 << (self.maps.len() - 1)) + 1
    }

    /// Evaluates the network at one prime of the modulus. `rows` gives both halves of the row for each number of an input,
    /// residues in `0..prime`. The result is `[outputs][parts][degree]`, values at the roots next to zero.
    pub(super) fn evaluate<E>(
        &self,
        limb: usize,
        mut rows: impl FnMut(usize, &mut Vec<f64>) -> Result<Vec<f64>, E>,
    ) -> Result<Raw, E> {
        let (degree, prime) = (BATCH.degree(), BATCH.prime(limb));
        // Panel by panel: [panel][input][part][word].
        let stride = self.inputs * 2 * WORDS;
        let mut panels = vec![0.0; degree / WORDS * stride];
        let mut linear = Vec::with_capacity(degree);
        for input in 0..self.inputs {
            let mut constant = rows(input, &mut linear)?;
            for (part, row) in [&mut constant, &mut linear].into_iter().enumerate() {
                each(row, |value| prime.centre(value));
                let at = (2 * input + part) * WORDS;
                for (place, words) in panels.chunks_exact_mut(stride).zip(row.chunks_exact(WORDS)) {
                    place[at..at + WORDS].copy_from_slice(words);
                }
            }
        }
        let mut raw = vec![0.0; self.outputs * self.parts() * degree];
        let (mut sums, mut squares) = (Vec::new(), Vec::new());
        for (panel, values) in panels.chunks_exact(stride).enumerate() {
            let mut parts = 2;
            for (index, map) in self.maps.iter().enumerate() {
                if index == 0 {
                    panel::apply(prime, map, parts, values, &mut sums);
                    continue;
                }
                panel::square(prime, parts, &sums, &mut squares);
                parts = 2 * parts - 1;
                panel::apply(prime, map, parts, &squares, &mut sums);
            }
            for (row, words) in raw.chunks_exact_mut(degree).zip(sums.chunks_exact(WORDS)) {
                row[panel * WORDS..(panel + 1) * WORDS].copy_from_slice(words);
            }
        }
        sums.zeroize();
        squares.zeroize();
        Ok(Raw::new(raw))
    }

    /// One output without the last prime of the modulus, as two halves.
    pub(super) fn output(
        &self,
        output: usize,
        blocks: &[Raw],
        slots: &Slots,
        keys: &EvaluationKeys,
    ) -> [Rows; 2] {
        let (degree, special) = (BATCH.degree(), BATCH.special());
        let mut parts = (0..self.parts()).map(|part| {
            let from = (output * self.parts() + part) * degree;
            let mut rows = BATCH.zero(BATCH.limbs());
            for (limb, row) in BATCH.rows_mut(&mut rows) {
                row.copy_from_slice(&blocks[limb].values()[from..from + degree]);
            }
            drop_last(&BATCH, slots, &mut rows);
            rows
        });
        let mut first = || parts.next().unwrap_or_else(|| BATCH.zero(special));
        let (mut constant, mut linear) = (first(), first());
        let mut sums = [BATCH.zero(BATCH.limbs()), BATCH.zero(BATCH.limbs())];
        for (power, part) in (2..).zip(parts) {
            keys.switch(Origin::Power(power), &part, &mut sums);
        }
        add_switched(&BATCH, slots, [&mut constant, &mut linear], &mut sums);
        [constant, linear]
    }
}
