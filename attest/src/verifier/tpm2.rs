//! Quotes of TPM 2.0 with an ECDSA P-256 key over the SHA-256 bank.
//!
//! The TPM vouches for what was measured while the machine started, against anybody but the owner of the machine.
//! Its key is trusted because the policy names it: somebody enrolled it, having seen that it lives in a TPM whose
//! endorsement key a manufacturer certified: [`endorsement_key`], then a [`Challenge`] that only this TPM can
//! answer.

mod structures;
mod enrolment;
mod credential;

pub use credential::{Challenge, Credential, EnrolmentError};
pub use enrolment::{VerifiedEndorsementKey, endorsement_key};
pub use structures::key_name;

use crate::binding::EvidenceKind;
use crate::evidence::{cbor, fixed};
use crate::hex::Hex;
use crate::policy::{TpmPolicy, image};
use crate::refusal::Refusal;
use crate::verified::Appraised;
use ciborium::Value;
use ring::digest::{Context, SHA256};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::collections::BTreeMap;
use structures::{AttestationKey, Quote, signature};

const KIND: EvidenceKind = EvidenceKind::Tpm2;
const PART: &str = "the TPM quote";
const BODY_BYTES_MAX: usize = 8 * 1024;
const DEPTH_MAX: usize = 4;
/// Registers of a PC's TPM.
const REGISTERS_MAX: u8 = 24;

/// A quote as the attester packs it: the TPM's own structures, and the values that the quote covers by a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmBody {
    /// TPMS_ATTEST, the bytes that are signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE over them.
    pub signature: Vec<u8>,
    /// TPM2B_PUBLIC of the attestation key.
    pub public: Vec<u8>,
    /// Values of the quoted PCRs.
    pub registers: BTreeMap<u8, [u8; 32]>,
}

impl TpmBody {
    /// The body of the evidence: a CBOR array of the three structures and a map of the registers, ascending.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = |field: &[u8]| Value::Bytes(field.to_vec());
        let registers = self.registers.iter().map(|(index, value)| (Value::from(*index), bytes(value)));
        let fields = vec![
            bytes(&self.attest),
            bytes(&self.signature),
            bytes(&self.public),
            Value::Map(registers.collect()),
        ];
        let mut encoded = Vec::new();
        ciborium::into_writer(&Value::Array(fields), &mut encoded)
            .expect("a vector takes any number of bytes");
        encoded
    }

    /// Reads a body, of which there is one encoding.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] or [`Refusal::Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Refusal> {
        let value = cbor(body, BODY_BYTES_MAX, DEPTH_MAX, PART)?;
        let read = || {
            let [attest, signature, public, pairs] = <[Value; 4]>::try_from(value.into_array().ok()?).ok()?;
            let mut registers = BTreeMap::new();
            for (index, value) in pairs.into_map().ok()? {
                let index = u8::try_from(index.as_integer()?).ok().filter(|index| *index < REGISTERS_MAX)?;
                registers.insert(index, fixed(value)?);
            }
            Some(Self {
                attest: attest.into_bytes().ok()?,
                signature: signature.into_bytes().ok()?,
                public: public.into_bytes().ok()?,
                registers,
            })
        };
        read().filter(|read| read.encode() == body).ok_or(Refusal::Malformed { part: PART })
    }
}

/// A quote whose signature is that of a restricted key, over the values beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTpmQuote {
    key: Hex<32>,
    quote: Quote,
    registers: BTreeMap<u8, [u8; 32]>,
}

/// Verifies a quote under the key that came with it. Whose key that is, the policy says.
///
/// # Errors
/// A [`Refusal`] of form, key or signature.
pub fn authenticate(body: &[u8]) -> Result<VerifiedTpmQuote, Refusal> {
    let body = TpmBody::decode(body)?;
    let key = AttestationKey::decode(&body.public)?;
    let quote = Quote::decode(&body.attest)?;
    let signature = signature(&body.signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point)
        .verify(&body.attest, &signature)
        .map_err(|_| Refusal::Signature { part: PART })?;
    if !quote.registers.iter().eq(body.registers.keys()) {
        return Err(Refusal::PcrDigest);
    }
    let mut digest = Context::new(&SHA256);
    body.registers.values().for_each(|value| digest.update(value));
    if digest.finish().as_ref() != quote.digest {
        return Err(Refusal::PcrDigest);
    }
    Ok(VerifiedTpmQuote { key: key.name, quote, registers: body.registers })
}

impl VerifiedTpmQuote {
    /// SHA-256 part of the name of the key that signed.
    pub const fn key(&self) -> Hex<32> {
        self.key
    }

    /// Times that the TPM was reset: another number is another boot.
    pub const fn resets(&self) -> u32 {
        self.quote.resets
    }

    /// Applies the policy to an authentic quote.
    ///
    /// # Errors
    /// [`Refusal::KeyNotEnrolled`], [`Refusal::Measurement`] or [`Refusal::MeasurementMissing`].
    pub fn appraise(&self, rules: &TpmPolicy) -> Result<Appraised, Refusal> {
        if !rules.keys.contains(&self.key) {
            return Err(Refusal::KeyNotEnrolled { name: self.key.to_string() });
        }
        let image = image(KIND, &rules.images, |index| self.registers.get(&index).copied())?;
        let values = image.registers.iter().map(|one| format!("PCR{} {}", one.index, one.value));
        Ok(Appraised {
            kind: KIND,
            user_data: self.quote.extra.clone(),
            measurement: values.collect::<Vec<_>>().join(" "),
            platform: self.key.to_string(),
            level: format!(
                "firmware {:016x}, reset {} times, not against the machine's owner",
                self.quote.firmware, self.quote.resets
            ),
            valid_until: u64::MAX,
        })
    }
}
