//! The evaluator: multiplies ciphertexts with its own tensor and hides everything but the masked outputs.

use super::key::PublicKey;
use super::packing::{Encrypted, Packing, Place};
use super::prime::{DEGREE, LIMBS, PRIMES};
use super::wire::{self, Ciphertext};
use super::{residues, sample, transform};
use crate::algebra::Prg;
use crate::misbehaviour::Misbehaviour;
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// Products after which sums are brought back next to zero: each adds less than a prime of 43 bits, and
/// sums stay below 2^52.
const SUMS_MAX: usize = 256;
/// Polynomials of the evaluator's tensor kept from one reply to the next: 328 kB each.
const KEPT_MAX: usize = 128;

/// The requests that arrived and are still needed, 655 kB each. One set serves every evaluation whose
/// packings share it.
pub struct Requests {
    held: Vec<Option<Ciphertext>>,
}

impl Requests {
    /// Room for the requests of a packing.
    pub fn new(packing: &Packing) -> Self {
        Self { held: (0..packing.requests()).map(|_| None).collect() }
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// [`Misbehaviour`] where the bytes are not those of a request.
    ///
    /// # Panics
    /// If there is no such request.
    pub fn absorb(&mut self, request: usize, bytes: &[u8]) -> Result<(), Misbehaviour> {
        assert!(request < self.held.len(), "request {request} of {}", self.held.len());
        self.held[request] = Some(Ciphertext::decode("request", bytes)?);
        Ok(())
    }

    /// Frees the memory of requests that no further reply needs.
    pub fn release(&mut self, requests: Range<usize>) {
        for request in self.held.iter_mut().take(requests.end).skip(requests.start) {
            *request = None;
        }
    }

    fn get(&self, request: usize) -> &Ciphertext {
        let held = self.held.get(request).and_then(Option::as_ref);
        held.unwrap_or_else(|| panic!("request {request} was not absorbed, or released"))
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Requests({} of {})", self.held.iter().flatten().count(), self.held.len())
    }
}

/// One product: the evaluator's tensor against requests.
pub struct Evaluation<'a> {
    packing: &'a Packing,
    plain: &'a [u64],
    /// Polynomials of the tensor at the roots, and which line of blocks they are.
    kept: Option<(usize, Vec<Zeroizing<Vec<f64>>>)>,
}

/// Values at the roots of a ciphertext in the making.
pub(super) struct Sums {
    pub(super) constant: Zeroizing<Vec<f64>>,
    pub(super) linear: Zeroizing<Vec<f64>>,
}

impl<'a> Evaluation<'a> {
    /// Multiplies with the tensor `plain`, which is the one that `packing` does not encrypt.
    ///
    /// # Panics
    /// If `plain` is not [`Packing::plain_len`] words.
    pub fn new(packing: &'a Packing, plain: &'a [u64]) -> Self {
        assert_eq!(plain.len(), packing.plain_len(), "the tensor against its packing");
        Self { packing, plain, kept: None }
    }

    /// Computes a reply and subtracts its mask from this party's share of the result. Every reply needs a
    /// stream, or a part of one, of its own. Replies in ascending order cost least. The bytes are
    /// [`Packing::reply_bytes`].
    ///
    /// # Panics
    /// If there is no such reply, one of [`Packing::requests_of`] it is missing, or `share` is not
    /// [`Packing::output_len`] words.
    pub fn reply(
        &mut self,
        reply: usize,
        requests: &Requests,
        public: &PublicKey,
        prg: &mut Prg,
        share: &mut [u64],
    ) -> Vec<u8> {
        assert_eq!(share.len(), self.packing.output_len(), "the share against its packing");
        let mut sums = self.product(reply, requests);
        add_zero(&mut sums, public, prg);
        let places = self.packing.output_places(reply);
        let masks = Zeroizing::new(prg.words(places.len()));
        for (place, mask) in places.iter().zip(masks.iter()) {
            share[place.word] = share[place.word].wrapping_sub(*mask);
        }
        finish(sums, &places, &masks, prg)
    }

    /// The plain product, which would show the tensor to the key holder.
    pub(super) fn product(&mut self, reply: usize, requests: &Requests) -> Sums {
        let rows = || Zeroizing::new(vec![0.0; LIMBS * DEGREE]);
        let mut sums = Sums { constant: rows(), linear: rows() };
        let line = self.line(reply);
        let range = self.packing.requests_of(reply);
        let known = self.kept.take().filter(|(kept, _)| *kept == line);
        let keep =
            range.len() <= KEPT_MAX && reply + 1 < self.packing.replies() && self.line(reply + 1) == line;
        let mut kept = Vec::new();
        for (channels, request) in range.enumerate() {
            let fresh;
            let factor = match &known {
                Some((_, known)) => &known[channels],
                None => {
                    fresh = self.transformed(reply, channels);
                    &fresh
                }
            };
            sums.add(factor, requests.get(request));
            if channels % SUMS_MAX == SUMS_MAX - 1 {
                sums.reduce();
            }
            if keep && known.is_none() {
                kept.push(factor.clone());
            }
        }
        sums.reduce();
        if keep {
            self.kept = known.or(Some((line, kept)));
        }
        sums
    }

    /// Replies of one line multiply with the same polynomials.
    fn line(&self, reply: usize) -> usize {
        let (outputs, columns) = self.packing.split(reply);
        match self.packing.encrypted() {
            Encrypted::Operand => outputs,
            Encrypted::Weights => columns,
        }
    }

    fn transformed(&self, reply: usize, channels: usize) -> Zeroizing<Vec<f64>> {
        let mut words = Zeroizing::new(vec![0; DEGREE]);
        for place in self.packing.plain_places(reply, channels) {
            words[place.exponent] = self.plain[place.word];
        }
        residues::transformed(&words)
    }
}

impl std::fmt::Debug for Evaluation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evaluation({:?})", self.packing)
    }
}

impl Sums {
    fn add(&mut self, factor: &[f64], ciphertext: &Ciphertext) {
        for limb in 0..LIMBS {
            let row = limb * DEGREE..(limb + 1) * DEGREE;
            let factor = &factor[row.clone()];
            transform::multiply_add(
                limb,
                &mut self.constant[row.clone()],
                factor,
                &ciphertext.constant[row.clone()],
            );
            transform::multiply_add(limb, &mut self.linear[row.clone()], factor, &ciphertext.linear[row]);
        }
    }

    fn reduce(&mut self) {
        for rows in [&mut self.constant, &mut self.linear] {
            for (limb, row) in rows.chunks_exact_mut(DEGREE).enumerate() {
                residues::reduce(limb, row);
            }
        }
    }

    /// From values at the roots to coefficients.
    pub(super) fn invert(&mut self) {
        self.reduce();
        for rows in [&mut self.constant, &mut self.linear] {
            for (limb, row) in rows.chunks_exact_mut(DEGREE).enumerate() {
                transform::inverse(limb, row);
            }
        }
    }
}

/// Adds the public key times a fresh secret: with the noise that [`finish`] adds, an encryption of zero
/// whose linear half looks uniform to the key holder.
pub(super) fn add_zero(sums: &mut Sums, public: &PublicKey, prg: &mut Prg) {
    let secret = residues::transformed(&sample::ternary(prg, DEGREE));
    sums.add(&secret, &public.0);
}

/// Back to coefficients; noise and the mask on them; the smaller modulus; bytes.
pub(super) fn finish(mut sums: Sums, places: &[Place], masks: &[u64], prg: &mut Prg) -> Vec<u8> {
    sums.invert();
    let noise = sample::binomial(prg, DEGREE);
    for row in sums.linear.chunks_exact_mut(DEGREE) {
        residues::add_small(row, &noise);
    }
    let (noise, flood) =
        (sample::binomial(prg, places.len()), sample::flood(prg, places.len(), sample::FLOOD_BITS));
    let mut rows = Zeroizing::new(Vec::with_capacity(LIMBS * places.len()));
    for (limb, row) in sums.constant.chunks_exact(DEGREE).enumerate() {
        let start = rows.len();
        rows.extend(places.iter().map(|place| row[place.exponent]));
        let values = &mut rows[start..];
        residues::add_small(values, &noise);
        residues::add_flood(PRIMES[limb], values, &flood, sample::FLOOD_BITS);
        residues::add_scaled(limb, values, masks);
    }
    let linear = residues::rescale(&mut sums.linear);
    let mut constant = residues::rescale(&mut rows);
    let bytes = wire::encode_reply(&linear, &constant);
    constant.low.zeroize();
    constant.high.zeroize();
    bytes
}
