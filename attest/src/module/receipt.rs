//! What the module signs about a batch, so that both parties can show later where their noise came from.

use consilium_protocol::party::Party;
use ed25519_dalek::{Signer, SigningKey};
use ring::digest::{Context, SHA256};

use super::bytes::{Bytes, DecodeError};
use super::signature::{SIGNATURE_BYTES, is_signed};

/// Bytes of a commitment's opening.
pub const SALT_BYTES: usize = 32;
/// Bytes of an encoded receipt.
pub const RECEIPT_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

const BODY_BYTES: usize = 16 + 8 + 32 + 16 + 2 * 32;
const DOMAIN: &[u8] = b"consilium noise receipt 1\0";
const COMMITMENT: &[u8] = b"consilium noise share 1\0";

/// Signed by the receipt key that the module's evidence binds. Both parties get the same bytes.
///
/// The shares stand in it as salted hashes, each party knowing its own salt only. Noise is small: from a
/// plain hash of the other's share a party could find that share, and with it the noise, by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The module's boot.
    pub boot: [u8; 16],
    /// Batches of this boot before this one.
    pub number: u64,
    /// Digest of the specification.
    pub specification: [u8; 32],
    /// The batch.
    pub batch: [u8; 16],
    /// [`commitment`] of each party's share, Zero first.
    pub commitments: [[u8; 32]; 2],
    signature: [u8; SIGNATURE_BYTES],
}

impl Receipt {
    /// Fills in and signs a receipt.
    pub(crate) fn issue(
        key: &SigningKey,
        (boot, number): ([u8; 16], u64),
        (specification, batch): ([u8; 32], [u8; 16]),
        commitments: [[u8; 32]; 2],
    ) -> Self {
        let signature = [0; SIGNATURE_BYTES];
        let mut receipt = Self { boot, number, specification, batch, commitments, signature };
        receipt.signature = key.sign(&receipt.text()).to_bytes();
        receipt
    }

    /// Whether this key signed it.
    pub fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        is_signed(key, &self.text(), &self.signature)
    }

    /// The bytes, [`RECEIPT_BYTES`] of them, to keep with the release.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.text().split_off(DOMAIN.len());
        bytes.extend(self.signature);
        bytes
    }

    /// Reads what [`Receipt::encode`] wrote; says nothing about the signature.
    ///
    /// # Errors
    /// [`DecodeError`] for another length.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new(encoded);
        let receipt = Self {
            boot: bytes.array()?,
            number: bytes.u64()?,
            specification: bytes.array()?,
            batch: bytes.array()?,
            commitments: [bytes.array()?, bytes.array()?],
            signature: bytes.array()?,
        };
        bytes.end()?;
        Ok(receipt)
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(DOMAIN.len() + RECEIPT_BYTES);
        text.extend(DOMAIN);
        text.extend(self.boot);
        text.extend(self.number.to_le_bytes());
        text.extend(self.specification);
        text.extend(self.batch);
        text.extend(self.commitments.as_flattened());
        text
    }
}

/// SHA-256 over the share as it was sent, its salt, and what it belongs to.
pub fn commitment(
    specification: &[u8; 32],
    boot: &[u8; 16],
    party: Party,
    salt: &[u8; SALT_BYTES],
    share: &[u8],
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [COMMITMENT, specification, boot, &[party as u8], salt, share] {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> (Receipt, [u8; 32]) {
        let key = SigningKey::from_bytes(&[9; 32]);
        let receipt = Receipt::issue(&key, ([1; 16], 5), ([2; 32], [3; 16]), [[4; 32], [5; 32]]);
        (receipt, key.verifying_key().to_bytes())
    }

    #[test]
    fn receipts_come_back_and_hold_for_one_key() {
        let (receipt, key) = receipt();
        let bytes = receipt.encode();
        assert_eq!((bytes.len(), Receipt::decode(&bytes).unwrap()), (RECEIPT_BYTES, receipt.clone()));
        assert!(receipt.is_signed_by(&key));
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(!receipt.is_signed_by(&other));
        assert!(Receipt::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn every_bit_counts() {
        let (receipt, key) = receipt();
        let bytes = receipt.encode();
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!Receipt::decode(&changed).unwrap().is_signed_by(&key), "bit {bit}");
        }
    }

    #[test]
    fn commitments_differ_in_every_part() {
        let base = commitment(&[1; 32], &[2; 16], Party::Zero, &[3; 32], b"share");
        for other in [
            commitment(&[9; 32], &[2; 16], Party::Zero, &[3; 32], b"share"),
            commitment(&[1; 32], &[9; 16], Party::Zero, &[3; 32], b"share"),
            commitment(&[1; 32], &[2; 16], Party::One, &[3; 32], b"share"),
            commitment(&[1; 32], &[2; 16], Party::Zero, &[9; 32], b"share"),
            commitment(&[1; 32], &[2; 16], Party::Zero, &[3; 32], b"shame"),
        ] {
            assert_ne!(other, base);
        }
    }
}
