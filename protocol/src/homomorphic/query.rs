//! The client's side of a question: what it sends, and how it opens the answer.

use super::key::SecretKey;
use super::layout::Layout;
use super::plan::{Mode, Plan};
use super::ring::{Ring, Secret, Slots, each, map};
use super::{rows, single};
use crate::algebra::{Prg, Seed};
use crate::lattice::sample;
use crate::misbehaviour::Misbehaviour;
use std::ops::Range;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// A part of a query: the rows of all its ciphertexts for one plaintext prime and one prime of the modulus. Blocks come in
/// the order of plaintext primes, and for each in the order of primes of the modulus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which plaintext prime.
    pub plain: usize,
    /// Which prime of the modulus.
    pub limb: usize,
}

impl Block {
    /// All blocks of a query.
    pub fn all(plan: &Plan) -> impl Iterator<Item = Self> + use<> {
        let limbs = plan.query_limbs();
        (0..plan.primes.len() * limbs).map(move |index| Self { plain: index / limbs, limb: index % limbs })
    }

    /// Bytes of a block.
    pub fn bytes(plan: &Plan) -> usize {
        plan.ciphertexts() * plan.row_bytes()
    }

    /// The uniform half of the row of a ciphertext, residues in `0..prime`. `seed` is the query's and public.
    pub(super) fn uniform(self, ring: &Ring, seed: &Seed, ciphertext: usize, row: &mut Vec<f64>) {
        let block = (self.plain * ring.limbs() + self.limb) as u64;
        let seed = seed.derive("homomorphic query", (block << 32) | ciphertext as u64);
        row.clear();
        sample::uniform_row(&mut Prg::new(&seed), ring.prime(self.limb), ring.degree(), row);
    }
}

/// Inputs in one plaintext prime on their way to be encrypted. Whoever encrypts the first row of a ciphertext makes its
/// message, so that threads share that work too.
pub struct Messages<'a> {
    ring: &'static Ring,
    plain: usize,
    slots: Slots,
    layout: Option<Layout>,
    inputs: &'a [i64],
    /// Numbers of an input.
    width: usize,
    noise: Seed,
    /// For each ciphertext, coefficients of the message with its noise.
    rows: Vec<OnceLock<Secret>>,
}

impl<'a> Messages<'a> {
    /// For inputs of admissible integers, one input after the other. `noise` is a fresh secret, the same for all plaintext
    /// primes of a query.
    ///
    /// # Panics
    /// If there are more than [`Plan::inputs_max`] inputs, or their length is not the plan's.
    pub fn new(plan: &Plan, plain: usize, inputs: &'a [i64], noise: &Seed) -> Self {
        let width = plan.inputs();
        let fits = inputs.len().is_multiple_of(width) && inputs.len() / width <= plan.inputs_max();
        assert!(fits, "inputs of a query");
        Self {
            ring: plan.ring(),
            plain,
            slots: plan.slots(plain),
            layout: plan.layout(),
            inputs,
            width,
            noise: noise.derive("homomorphic noise", plain as u64),
            rows: (0..plan.ciphertexts()).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The message of a ciphertext, encoded, with fresh noise.
    fn message(&self, ciphertext: usize) -> Secret {
        let mut row = Zeroizing::new(self.ring.zero(1));
        match &self.layout {
            Some(layout) => single::fill(layout, ciphertext, self.inputs, &mut row),
            None => {
                for (slot, input) in row.iter_mut().zip(self.inputs.chunks_exact(self.width)) {
                    *slot = input[ciphertext] as f64;
                }
            }
        }
        self.slots.encode(&mut row);
        let seed = self.noise.derive("homomorphic noise of a ciphertext", ciphertext as u64);
        let noise = Ring::small(&sample::binomial(&mut Prg::new(&seed), self.ring.degree()));
        let factor = self.slots.prime().value as f64;
        map(&mut row, &noise, |value, noise| value + factor * noise);
        row
    }

    /// The rows of a run of ciphertexts for one prime of the modulus, packed. `seed` is the query's, and used for no other.
    pub fn encrypt(&self, key: &SecretKey, seed: &Seed, limb: usize, ciphertexts: Range<usize>) -> Vec<u8> {
        let degree = self.ring.degree();
        let mut bytes = Vec::with_capacity(ciphertexts.len() * rows::row_bytes(degree));
        let mut row = Zeroizing::new(self.ring.zero(1));
        let mut uniform = Vec::with_capacity(degree);
        for ciphertext in ciphertexts {
            row.copy_from_slice(self.rows[ciphertext].get_or_init(|| self.message(ciphertext)));
            self.ring.transform(limb).forward(&mut row);
            Block { plain: self.plain, limb }.uniform(self.ring, seed, ciphertext, &mut uniform);
            key.mask(limb, &uniform, &mut row);
            rows::write(&mut bytes, &row);
        }
        bytes
    }
}

impl std::fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Messages(prime {})", self.plain)
    }
}

/// Why an answer cannot be opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are no answer.
    #[error(transparent)]
    Bytes(#[from] Misbehaviour),
    /// The noise is as large as the modulus, so that what is opened means nothing. How large it is would help whoever made
    /// the answer to find the secret, so it is not said.
    #[error(
        "the answer opens to noise: it was made under another key or from another query, was changed on the way, or its maker did not follow the protocol; do not use this key again with that owner"
    )]
    Noise,
    /// A logit that no admissible input has.
    #[error(
        "output {output} of input {input} opens to a logit beyond 2^{bits}, which no admissible input has; the answer is not one of this plan"
    )]
    Logit {
        /// Which output.
        output: usize,
        /// Which input of the query.
        input: usize,
        /// The plan's bound.
        bits: u32,
    },
}

/// Bits that an answer must leave between its largest coefficient and half the modulus. The flood takes all but
/// [`super::MARGIN_BITS`]; rounding on the way to one prime takes up to three of the rest, and noise at random would leave
/// none.
const OPEN_MARGIN_BITS: u32 = 4;

/// Answers as they are opened.
pub struct Opening<'a> {
    plan: &'a Plan,
    key: &'a SecretKey,
    layout: Option<Layout>,
    slots: Vec<Slots>,
}

impl std::fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opening({})", self.plan.network.summary())
    }
}

impl<'a> Opening<'a> {
    /// For a plan and the key under which the query was encrypted.
    pub fn new(plan: &'a Plan, key: &'a SecretKey) -> Self {
        let slots = (0..plan.primes.len()).map(|plain| plan.slots(plain)).collect();
        Self { plan, key, layout: plan.layout(), slots }
    }

    /// Logits from the parts of answer number `answer` in the order of plaintext primes, and the bits that were left
    /// between noise and modulus. In a batch, answer `i` holds output `i` of the first `used` inputs; a single query has
    /// one answer, with all outputs.
    ///
    /// # Errors
    /// [`OpenError`]. Whether it is one tells the maker of a bad answer something about the secret: see
    /// [`crate::manual::homomorphic`].
    ///
    /// # Panics
    /// If there are not as many parts as plaintext primes.
    pub fn logits(&self, answer: usize, parts: &[&[u8]], used: usize) -> Result<(Vec<i128>, f64), OpenError> {
        assert_eq!(parts.len(), self.slots.len(), "parts of an answer");
        let mut residues = Vec::with_capacity(parts.len());
        let mut least = f64::INFINITY;
        for (slots, bytes) in self.slots.iter().zip(parts) {
            let (row, margin) = self.residues(slots, bytes)?;
            least = least.min(margin);
            residues.push(row);
        }
        let count = if self.plan.mode == Mode::Batch { used } else { self.plan.outputs() };
        let bound = 1_u128 << (self.plan.logit_bits - 1);
        let mut logits = Vec::with_capacity(count);
        for at in 0..count {
            let logit = self.join(residues.iter().map(|row| row[at] as u64));
            if logit.unsigned_abs() > bound {
                let (output, input) = if self.plan.mode == Mode::Batch { (answer, at) } else { (at, 0) };
                return Err(OpenError::Logit { output, input, bits: self.plan.logit_bits - 1 });
            }
            logits.push(logit);
        }
        Ok((logits, least))
    }

    /// Residues modulo one plaintext prime.
    fn residues(&self, slots: &Slots, bytes: &[u8]) -> Result<(Secret, f64), OpenError> {
        const WHAT: &str = "answer";
        let ring = self.plan.ring();
        let row = self.plan.row_bytes();
        if bytes.len() != 2 * row {
            return Err(
                Misbehaviour::LatticeLength { what: WHAT, expected: 2 * row, found: bytes.len() }.into()
            );
        }
        let (constant, linear) = bytes.split_at(row);
        let constant = rows::read(WHAT, ring, 0, constant)?;
        let mut linear = rows::read(WHAT, ring, 0, linear)?;
        let mut opened = self.key.open(&constant, &mut linear);
        let largest = opened.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
        let margin = ring.bits(1) - 1.0 - largest.log2();
        if margin < f64::from(OPEN_MARGIN_BITS) {
            return Err(OpenError::Noise);
        }
        // Each prime that an answer lost divided the message.
        let prime = slots.prime();
        let dropped = (1..self.plan.dropped_limbs())
            .fold(1, |product, limb| product * u128::from(ring.prime(limb).value) % u128::from(prime.value));
        let factor = prime.constant(dropped);
        slots.decode(&mut opened);
        each(&mut opened, |value| prime.canonical(prime.multiply(value, factor)));
        let Some(layout) = &self.layout else { return Ok((opened, margin)) };
        let sum =
            |slots: &Vec<usize>| slots.iter().fold(0.0, |sum, slot| prime.canonical(sum + opened[*slot]));
        Ok((Zeroizing::new(layout.answer().iter().map(sum).collect()), margin))
    }

    /// The number next to zero with these residues modulo the plaintext primes.
    fn join(&self, residues: impl Iterator<Item = u64>) -> i128 {
        let (mut value, mut modulus) = (0_i128, 1_i128);
        for (slots, residue) in self.slots.iter().zip(residues) {
            let prime = slots.prime();
            let plain = i128::from(prime.value);
            let inverse = prime.canonical(prime.inverse_of((modulus % plain) as u128)) as i128;
            let step = ((i128::from(residue) - value).rem_euclid(plain)) * inverse % plain;
            value += modulus * step;
            modulus *= plain;
        }
        if 2 * value > modulus { value - modulus } else { value }
    }
}
