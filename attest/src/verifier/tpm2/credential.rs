//! A secret that only one TPM can open, and only while it holds the attestation key that the secret is for.
//!
//! `TPM2_MakeCredential` in software, as part 1 of the library specification defines it (B.10.4 and 24), so that
//! whoever enrols a key needs no TPM. Only the public key of RSA is used here: no time or fault of this code can
//! betray a private one.

use super::enrolment::VerifiedEndorsementKey;
use super::structures::key_name;
use crate::hex::Hex;
use crate::refusal::Refusal;
use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use dashu_int::UBig;
use dashu_int::fast_div::ConstDivisor;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode, Reader, SliceReader};
use zeroize::Zeroizing;

/// SHA-256, which names both keys.
const HASH: [u8; 2] = [0x00, 0x0B];
const HASH_BYTES: usize = 32;
/// The one size of RSA key that every TPM has an endorsement key of.
const RSA_BYTES: usize = 256;
const CIPHER_KEY_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;

/// Why a key was not enrolled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// The attestation key or the certificate.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An endorsement key of another kind.
    #[error("the endorsement key is not RSA with 2048 bits; give the certificate of the one that is")]
    Endorsement,
    /// No random bytes.
    #[error("the operating system gave no random bytes")]
    Entropy,
    /// Another secret than the one that was sent.
    #[error(
        "the TPM did not open the credential; the attestation key does not live beside the endorsement key"
    )]
    Secret,
}

/// What goes to the TPM: `TPM2_ActivateCredential` takes both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `TPM2B_ID_OBJECT`: the secret, encrypted for the name of the attestation key.
    pub object: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`: the seed of that encryption, for the endorsement key.
    pub seed: Vec<u8>,
}

/// What stays here until the TPM answers.
pub struct Challenge {
    name: Hex<32>,
    secret: Zeroizing<[u8; HASH_BYTES]>,
}

impl Challenge {
    /// A fresh challenge to the TPM of a certified endorsement key, for the attestation key with this
    /// TPM2B_PUBLIC.
    ///
    /// # Errors
    /// [`EnrolmentError`] for keys of the wrong kind.
    pub fn new(
        endorsement: &VerifiedEndorsementKey,
        public: &[u8],
    ) -> Result<(Self, Credential), EnrolmentError> {
        let name = key_name(public)?;
        let [secret, seed, padding] = [random()?, random()?, random()?];
        let key = RsaKey::decode(endorsement.key()).ok_or(EnrolmentError::Endorsement)?;
        let sealed = sized(&key.encrypt(b"IDENTITY\0", &seed, &padding));
        let credential = Credential { object: object(&seed, &name, &secret), seed: sealed };
        Ok((Self { name, secret }, credential))
    }

    /// The name to enrol, once the TPM gave the secret back.
    ///
    /// # Errors
    /// [`EnrolmentError::Secret`].
    pub fn answered(self, secret: &[u8]) -> Result<Hex<32>, EnrolmentError> {
        // Each secret is compared once, so the time that it takes helps nobody.
        if *self.secret != *secret {
            return Err(EnrolmentError::Secret);
        }
        Ok(self.name)
    }
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Challenge({}, ..)", self.name)
    }
}

fn random() -> Result<Zeroizing<[u8; HASH_BYTES]>, EnrolmentError> {
    let mut bytes = Zeroizing::new([0; HASH_BYTES]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| EnrolmentError::Entropy)?;
    Ok(bytes)
}

/// A TPM2B.
fn sized(bytes: &[u8]) -> Vec<u8> {
    // Nothing here is longer than a key.
    let length = bytes.len() as u16;
    [&length.to_be_bytes()[..], bytes].concat()
}

/// The secret, encrypted and authenticated under keys from `seed`.
fn object(seed: &[u8; HASH_BYTES], name: &Hex<32>, secret: &[u8; HASH_BYTES]) -> Vec<u8> {
    let name = [&HASH[..], &name.0].concat();
    let mut key = Zeroizing::new([0; CIPHER_KEY_BYTES]);
    key.copy_from_slice(&derive(seed, b"STORAGE\0", &name, CIPHER_KEY_BYTES)[..CIPHER_KEY_BYTES]);
    let mut identity = sized(secret);
    feedback(&Aes128::new(&(*key).into()), &mut identity);
    let key = derive(seed, b"INTEGRITY\0", &[], HASH_BYTES);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), &[&identity[..], &name].concat());
    sized(&[sized(tag.as_ref()), identity].concat())
}

/// KDFa of the specification, for at most one hash of key.
fn derive(seed: &[u8], label: &[u8], context: &[u8], bytes: usize) -> Zeroizing<[u8; HASH_BYTES]> {
    let bits = 8 * bytes as u32;
    let message = [&1_u32.to_be_bytes()[..], label, context, &bits.to_be_bytes()].concat();
    let mut key = Zeroizing::new([0; HASH_BYTES]);
    key.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), &message).as_ref());
    key
}

/// AES in cipher feedback mode from a zero block, in place.
fn feedback(cipher: &Aes128, text: &mut [u8]) {
    let mut last = Block::<Aes128>::default();
    for chunk in text.chunks_mut(BLOCK_BYTES) {
        cipher.encrypt_block(&mut last);
        for (byte, mask) in chunk.iter_mut().zip(last.iter_mut()) {
            *byte ^= *mask;
            *mask = *byte;
        }
    }
}

/// A public key.
struct RsaKey {
    modulus: UBig,
    exponent: UBig,
}

impl RsaKey {
    /// Reads PKCS #1.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = SliceReader::new(bytes).ok()?;
        let read = reader.sequence(|reader| -> Result<_, x509_cert::der::Error> {
            Ok([UintRef::decode(reader)?, UintRef::decode(reader)?])
        });
        let [modulus, exponent] = read.ok().filter(|_| reader.is_finished())?;
        // TPMs know small exponents only, and an even modulus is none.
        let fits = modulus.as_bytes().len() == RSA_BYTES
            && modulus.as_bytes().first().is_some_and(|byte| byte >> 7 == 1)
            && modulus.as_bytes().last().is_some_and(|byte| byte & 1 == 1)
            && (1..=4).contains(&exponent.as_bytes().len());
        let number = |bytes: UintRef<'_>| UBig::from_be_bytes(bytes.as_bytes());
        fits.then(|| Self { modulus: number(modulus), exponent: number(exponent) })
    }

    /// RSAES-OAEP under SHA-256 (RFC 8017, 7.1.1).
    fn encrypt(&self, label: &[u8], text: &[u8; HASH_BYTES], seed: &[u8; HASH_BYTES]) -> [u8; RSA_BYTES] {
        let mut data = Zeroizing::new([0; RSA_BYTES - HASH_BYTES - 1]);
        let start = data.len() - HASH_BYTES;
        data[..HASH_BYTES].copy_from_slice(digest(&SHA256, label).as_ref());
        data[start - 1] = 1;
        data[start..].copy_from_slice(text);
        mask(seed, &mut *data);
        let mut seed = Zeroizing::new(*seed);
        mask(&*data, &mut *seed);
        let number = UBig::from_be_bytes(&[&seed[..], &data[..]].concat());
        let ring = ConstDivisor::new(self.modulus.clone());
        let power = ring.reduce(number).pow(&self.exponent).residue().to_be_bytes();
        let mut sealed = [0; RSA_BYTES];
        sealed[RSA_BYTES - power.len()..].copy_from_slice(&power);
        sealed
    }
}

/// Covers `text` with MGF1 of `seed`.
fn mask(seed: &[u8], text: &mut [u8]) {
    for (counter, chunk) in (0_u32..).zip(text.chunks_mut(HASH_BYTES)) {
        let hash = digest(&SHA256, &[seed, &counter.to_be_bytes()].concat());
        chunk.iter_mut().zip(hash.as_ref()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cipher_feedback_chains_what_it_wrote() {
        let cipher = Aes128::new(&[7; 16].into());
        let mut text = [3; 34];
        feedback(&cipher, &mut text);
        let mut block = Block::<Aes128>::default();
        for chunk in text.chunks(BLOCK_BYTES) {
            cipher.encrypt_block(&mut block);
            assert!(chunk.iter().zip(block.iter()).all(|(byte, mask)| byte ^ mask == 3));
            block[..chunk.len()].copy_from_slice(chunk);
        }
    }

    #[test]
    fn other_rsa_keys_are_refused() {
        let key = |modulus: &[u8], exponent: &[u8]| {
            let number = |bytes: &[u8]| {
                let length = (bytes.len() as u16).to_be_bytes();
                [&[2, 0x82][..], &length, bytes].concat()
            };
            let short = |bytes: &[u8]| [&[2, bytes.len() as u8][..], bytes].concat();
            let content = [number(modulus), short(exponent)].concat();
            [&[0x30, 0x82][..], &(content.len() as u16).to_be_bytes(), &content].concat()
        };
        let modulus = [&[0][..], &[0xFF; 256]].concat();
        let good = key(&modulus, &[1, 0, 1]);
        assert!(RsaKey::decode(&good).is_some());
        assert!(RsaKey::decode(&[&good[..], &[0]].concat()).is_none());
        assert!(RsaKey::decode(&key(&modulus, &[1, 0, 0, 0, 1])).is_none());
        assert!(RsaKey::decode(&key(&[&modulus[..], &[0xFF]].concat(), &[3])).is_none());
        let even = [&modulus[..256], &[0xFE]].concat();
        assert!(RsaKey::decode(&key(&even, &[3])).is_none());
        for end in 0..good.len() {
            assert!(RsaKey::decode(&good[..end]).is_none());
        }
    }
}
