//! The certificate with which a manufacturer, or an emulator's local authority, vouches for a TPM.

use crate::hex::Hex;
use crate::refusal::Refusal;
use crate::verifier::certificate::{parse_all, verify_chain};
use x509_cert::spki::ObjectIdentifier;

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");

/// An endorsement key that an accepted root certified.
///
/// Whoever enrols an attestation key makes the TPM activate a credential under this key, which proves that both
/// keys live in the same TPM, and then adds the name of the attestation key to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEndorsementKey {
    fingerprint: Hex<32>,
    key: Vec<u8>,
    valid_until: u64,
}

impl VerifiedEndorsementKey {
    /// SHA-256 of the certificate.
    pub const fn fingerprint(&self) -> Hex<32> {
        self.fingerprint
    }

    /// The public key: PKCS #1 for RSA, a point for elliptic curves.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The last second, Unix, of its chain.
    pub const fn valid_until(&self) -> u64 {
        self.valid_until
    }
}

/// Verifies the certificate of an endorsement key at `now`: DER, the key's first and the root last.
///
/// # Errors
/// A [`Refusal`] of form, chain or time.
pub fn endorsement_key(
    chain: &[&[u8]],
    roots: &[Hex<32>],
    now: u64,
) -> Result<VerifiedEndorsementKey, Refusal> {
    let chain = parse_all(chain.iter().copied())?;
    let valid_until = verify_chain(&chain, roots, now)?;
    let [leaf, ..] = chain.as_slice() else { return Err(Refusal::Malformed { part: "the chain" }) };
    if !leaf.has_purpose(EK_CERTIFICATE) {
        return Err(Refusal::Malformed {
            part: "the endorsement key's certificate, which names another purpose",
        });
    }
    let key = leaf.key().ok_or(Refusal::Malformed { part: "a certificate" })?.to_vec();
    Ok(VerifiedEndorsementKey { fingerprint: leaf.fingerprint(), key, valid_until })
}
