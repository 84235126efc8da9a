//! The key holder: encrypts a tensor, opens what comes back.

use super::packing::Packing;
use super::prime::{DEGREE, LIMBS, REPLY_LIMBS};
use super::residues::{self, Digits};
use super::sample;
use super::transform;
use super::wire::{self, Ciphertext};
use crate::algebra::{Prg, Seed};
use crate::misbehaviour::Misbehaviour;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A secret key. Lives as long as a session: a new session draws a new one.
pub struct SecretKey {
    /// Values of minus the secret at the roots, next to zero.
    negated: Zeroizing<Vec<f64>>,
    public: Vec<u8>,
}

impl SecretKey {
    /// The key of a seed that is used for nothing else.
    pub fn generate(seed: &Seed) -> Self {
        let secret = sample::ternary(&mut Prg::new(&seed.derive("lattice secret", 0)), DEGREE);
        let minus: Zeroizing<Vec<u64>> =
            Zeroizing::new(secret.iter().map(|word| word.wrapping_neg()).collect());
        let mut negated = residues::transformed(&minus);
        for (limb, row) in negated.chunks_exact_mut(DEGREE).enumerate() {
            residues::reduce(limb, row);
        }
        let mut key = Self { negated, public: Vec::new() };
        key.public = key.encrypt(&[], &mut Prg::new(&seed.derive("lattice public", 0)));
        key
    }

    /// The public key to send once in a session: an encryption of zero, [`PublicKey::bytes`] long.
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// Encrypts a block of the tensor that `packing` says is encrypted. Every request needs a stream, or a
    /// part of one, of its own. The bytes are [`Packing::request_bytes`].
    ///
    /// # Panics
    /// If there is no such request or `tensor` is not [`Packing::encrypted_len`] words.
    pub fn request(&self, packing: &Packing, tensor: &[u64], request: usize, prg: &mut Prg) -> Vec<u8> {
        assert_eq!(tensor.len(), packing.encrypted_len(), "the tensor against its packing");
        let mut message = Zeroizing::new(vec![0; DEGREE]);
        for place in packing.encrypted_places(request) {
            message[place.exponent] = tensor[place.word];
        }
        self.encrypt(&message, prg)
    }

    fn encrypt(&self, message: &[u64], prg: &mut Prg) -> Vec<u8> {
        let seed = prg.seed();
        let noise = sample::binomial(prg, DEGREE);
        let linear = sample::uniform(&seed);
        let mut rows = Zeroizing::new(vec![0.0; LIMBS * DEGREE]);
        let mut product = Zeroizing::new(vec![0.0; DEGREE]);
        for (limb, row) in rows.chunks_exact_mut(DEGREE).enumerate() {
            residues::add_scaled(limb, row, message);
            residues::add_small(row, &noise);
            residues::reduce(limb, row);
            transform::forward(limb, row);
            product.fill(0.0);
            let range = limb * DEGREE..(limb + 1) * DEGREE;
            transform::multiply_add(limb, &mut product, &self.negated[range.clone()], &linear[range]);
            row.iter_mut().zip(product.iter()).for_each(|(value, product)| *value += product);
            residues::canonical(limb, row);
        }
        Ciphertext::encode(&seed, &rows)
    }

    /// Opens a reply and adds what it says to this party's share of the result.
    ///
    /// # Errors
    /// [`Misbehaviour`] where the bytes are not those of a reply; `share` is then as before.
    ///
    /// # Panics
    /// If there is no such reply or `share` is not [`Packing::output_len`] words.
    pub fn open(
        &self,
        packing: &Packing,
        reply: usize,
        bytes: &[u8],
        share: &mut [u64],
    ) -> Result<(), Misbehaviour> {
        assert_eq!(share.len(), packing.output_len(), "the share against its packing");
        let places = packing.output_places(reply);
        let exponents: Vec<usize> = places.iter().map(|place| place.exponent).collect();
        let mut digits = self.decrypt(&exponents, bytes)?;
        let mut words = digits.unscaled();
        for (place, word) in places.iter().zip(&words) {
            share[place.word] = share[place.word].wrapping_add(*word);
        }
        words.zeroize();
        digits.low.zeroize();
        digits.high.zeroize();
        Ok(())
    }

    /// Constant plus linear half times the secret, at the exponents that the reply holds.
    pub(super) fn decrypt(&self, exponents: &[usize], bytes: &[u8]) -> Result<Digits, Misbehaviour> {
        let [linear, constant] = wire::decode_reply(bytes, exponents.len())?;
        let mut opened: [Vec<f64>; REPLY_LIMBS] = constant.residues();
        let mut product = Zeroizing::new(vec![0.0; DEGREE]);
        for (limb, (mut row, opened)) in linear.residues().into_iter().zip(&mut opened).enumerate() {
            residues::reduce(limb, &mut row);
            transform::forward(limb, &mut row);
            product.fill(0.0);
            let secret = &self.negated[limb * DEGREE..(limb + 1) * DEGREE];
            transform::multiply_add(limb, &mut product, &row, secret);
            transform::inverse(limb, &mut product);
            for (value, exponent) in opened.iter_mut().zip(exponents) {
                *value -= product[*exponent];
            }
            residues::canonical(limb, opened);
        }
        let digits = residues::digits(&opened[0], &opened[1]);
        opened.zeroize();
        Ok(digits)
    }

    /// Values of minus the secret at the roots.
    #[cfg(test)]
    pub(super) fn negated(&self) -> &[f64] {
        &self.negated
    }
}

impl ZeroizeOnDrop for SecretKey {}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The key holder's public key, with which the evaluator makes replies fresh.
pub struct PublicKey(pub(super) Ciphertext);

impl PublicKey {
    /// Bytes of a public key.
    pub const fn bytes() -> usize {
        wire::CIPHERTEXT_BYTES
    }

    /// Reads a public key.
    ///
    /// # Errors
    /// [`Misbehaviour`] where the bytes are not those of a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, Misbehaviour> {
        Ciphertext::decode("public key", bytes).map(Self)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicKey(..)")
    }
}
