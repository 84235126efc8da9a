//! Ed25519 over a domain and a text, so that no signature can be taken for another kind.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The identity key of a compute party, wherever it is kept.
pub trait PartyKey {
    /// The Ed25519 public key.
    fn public(&self) -> [u8; 32];

    /// Signs a text as it is.
    ///
    /// # Errors
    /// [`SigningFailed`] where the key cannot be used.
    fn sign(&self, text: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SigningFailed>;
}

/// The keeper of an identity key did not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity key of this node could not sign")]
pub struct SigningFailed;

impl PartyKey for SigningKey {
    fn public(&self) -> [u8; 32] {
        self.verifying_key().to_bytes()
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SigningFailed> {
        Ok(Signer::sign(self, text).to_bytes())
    }
}

/// Whether `key` signed `text`. Keys and signatures that satisfy several texts are refused.
pub(crate) fn is_signed(key: &[u8; 32], text: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(text, &signature).is_ok())
}

/// What a party signs to say who it is: the hash of its handshake with the module.
pub(crate) fn introduction(handshake: &[u8; 32]) -> Vec<u8> {
    [&b"consilium enclave party 1\0"[..], handshake].concat()
}

/// The libp2p peer id of an Ed25519 key: the key itself, in an identity multihash.
pub fn peer_id(key: &[u8; 32]) -> Vec<u8> {
    [&[0_u8, 36, 8, 1, 18, 32][..], key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_one_key_and_text() {
        let [key, other] = [1, 2].map(|byte| SigningKey::from_bytes(&[byte; 32]));
        let signature = PartyKey::sign(&key, b"text").unwrap();
        assert!(is_signed(&key.public(), b"text", &signature));
        assert!(!is_signed(&key.public(), b"test", &signature));
        assert!(!is_signed(&other.public(), b"text", &signature));
        for bit in 0..8 * SIGNATURE_BYTES {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_signed(&key.public(), b"text", &changed), "bit {bit}");
        }
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The neutral element accepts the zero signature for every text where checks are lax.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; SIGNATURE_BYTES];
        signature[0] = 1;
        assert!(!is_signed(&neutral, b"anything", &signature));
        assert!(!is_signed(&[0xFF; 32], b"anything", &signature));
    }

    #[test]
    fn peer_ids_are_those_of_the_network() {
        let id = peer_id(&[7; 32]);
        assert_eq!((id.len(), &id[..6], &id[6..]), (38, &b"\x00\x24\x08\x01\x12\x20"[..], &[7; 32][..]));
    }
}
