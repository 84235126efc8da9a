//! Ciphertexts as bytes: packed residues, exact lengths, nothing out of range.

use super::prime::{DEGREE, LIMBS, PRIME_BITS, PRIMES, from_word, to_word};
use super::residues::Digits;
use super::sample;
use crate::algebra::Seed;
use crate::algebra::prg::SEED_BYTES;
use crate::algebra::stream::pack;
use crate::misbehaviour::Misbehaviour;

/// Bytes of a fresh ciphertext: the seed of its uniform half, and the other half.
pub(super) const CIPHERTEXT_BYTES: usize = SEED_BYTES + LIMBS * packed_bytes(DEGREE, PRIME_BITS);
/// Low bits that are not sent of a coefficient which the key multiplies.
pub(super) const LINEAR_CUT: u32 = 6;
/// Low bits that are not sent of the other coefficients.
pub(super) const CONSTANT_CUT: u32 = 20;

/// Bytes of packed values.
pub(crate) const fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bytes of digits with the low ones cut.
const fn digit_bytes(count: usize, cut: u32) -> usize {
    packed_bytes(count, PRIME_BITS) + packed_bytes(count, PRIME_BITS - cut)
}

/// Bytes of a reply with so many outputs.
pub(super) const fn reply_bytes(outputs: usize) -> usize {
    digit_bytes(DEGREE, LINEAR_CUT) + digit_bytes(outputs, CONSTANT_CUT)
}

/// The values at the roots of `constant + linear * secret`, rows of residues in `0..prime`.
pub(super) struct Ciphertext {
    pub(super) constant: Vec<f64>,
    pub(super) linear: Vec<f64>,
}

/// Undoes [`pack`] for widths up to 57 bits: a value then lies within the eight bytes from its first one.
fn unpack(bytes: &[u8], count: usize, width: u32) -> Vec<u64> {
    let padded = [bytes, &[0; 8]].concat();
    let value = |index: usize| {
        let bit = index * width as usize;
        let mut word = [0; 8];
        word.copy_from_slice(&padded[bit / 8..bit / 8 + 8]);
        (u64::from_le_bytes(word) >> (bit % 8)) & (u64::MAX >> (64 - width))
    };
    (0..count).map(value).collect()
}

fn exact(what: &'static str, bytes: &[u8], expected: usize) -> Result<(), Misbehaviour> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(Misbehaviour::LatticeLength { what, expected, found: bytes.len() })
}

fn below(what: &'static str, values: &[u64], bound: u64) -> Result<(), Misbehaviour> {
    match values.iter().position(|value| *value >= bound) {
        Some(position) => Err(Misbehaviour::LatticeCoefficient { what, position }),
        None => Ok(()),
    }
}

impl Ciphertext {
    /// A fresh ciphertext, whose linear half is [`sample::uniform`] of the seed.
    pub(super) fn encode(seed: &Seed, constant: &[f64]) -> Vec<u8> {
        let mut bytes = seed.as_bytes().to_vec();
        bytes.reserve(CIPHERTEXT_BYTES);
        for row in constant.chunks_exact(DEGREE) {
            let words: Vec<u64> = row.iter().map(|value| to_word(*value)).collect();
            bytes.extend(pack(&words, PRIME_BITS));
        }
        bytes
    }

    /// # Errors
    /// A wrong length or a value that is no residue.
    pub(super) fn decode(what: &'static str, bytes: &[u8]) -> Result<Self, Misbehaviour> {
        exact(what, bytes, CIPHERTEXT_BYTES)?;
        let Some((seed, packed)) = bytes.split_first_chunk::<SEED_BYTES>() else {
            return Err(Misbehaviour::LatticeLength { what, expected: CIPHERTEXT_BYTES, found: bytes.len() });
        };
        let mut constant = Vec::with_capacity(LIMBS * DEGREE);
        for (prime, row) in PRIMES.iter().zip(packed.chunks(packed_bytes(DEGREE, PRIME_BITS))) {
            let words = unpack(row, DEGREE, PRIME_BITS);
            below(what, &words, prime.value)?;
            constant.extend(words.into_iter().map(from_word));
        }
        Ok(Self { constant, linear: sample::uniform(&Seed::from_bytes(*seed)) })
    }
}

fn write(bytes: &mut Vec<u8>, digits: &Digits, cut: u32) {
    bytes.extend(pack(&digits.high, PRIME_BITS));
    let low: Vec<u64> = digits.low.iter().map(|low| low >> cut).collect();
    bytes.extend(pack(&low, PRIME_BITS - cut));
}

fn read(bytes: &[u8], count: usize, cut: u32) -> Result<Digits, Misbehaviour> {
    const WHAT: &str = "reply";
    let (high, low) = bytes.split_at(packed_bytes(count, PRIME_BITS));
    let high = unpack(high, count, PRIME_BITS);
    below(WHAT, &high, PRIMES[1].value)?;
    let low: Vec<u64> = unpack(low, count, PRIME_BITS - cut).into_iter().map(|low| low << cut).collect();
    below(WHAT, &low, PRIMES[0].value)?;
    // What was cut is on average half of what it may be.
    Ok(Digits { low: low.into_iter().map(|low| low + (1 << (cut - 1))).collect(), high })
}

/// A reply: the linear half, and of the constant one the coefficients that are outputs.
pub(super) fn encode_reply(linear: &Digits, constant: &Digits) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(reply_bytes(constant.low.len()));
    write(&mut bytes, linear, LINEAR_CUT);
    write(&mut bytes, constant, CONSTANT_CUT);
    bytes
}

/// The linear half and the constants of a reply with so many outputs.
///
/// # Errors
/// A wrong length or a value that is no residue.
pub(super) fn decode_reply(bytes: &[u8], outputs: usize) -> Result<[Digits; 2], Misbehaviour> {
    exact("reply", bytes, reply_bytes(outputs))?;
    let (linear, constant) = bytes.split_at(digit_bytes(DEGREE, LINEAR_CUT));
    Ok([read(linear, DEGREE, LINEAR_CUT)?, read(constant, outputs, CONSTANT_CUT)?])
}
