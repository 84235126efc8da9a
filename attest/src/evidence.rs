//! The envelope in which evidence travels.

use crate::binding::{Binding, EvidenceKind, VERIFIER_BYTES_MAX};
use ciborium::Value;

/// Longest encoded evidence.
pub const EVIDENCE_BYTES_MAX: usize = 64 * 1024;
/// Most certificates that a module sends along.
pub const ENDORSEMENTS_MAX: usize = 8;
/// Names the format; another one needs another name.
const FORMAT: &str = "consilium evidence 1";
/// The envelope is an array of plain values and one more array.
const DEPTH_MAX: usize = 4;
/// Format, fields of the binding, body, endorsements.
const FIELDS: usize = 10;

/// Bytes that are no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the envelope of the evidence is malformed")]
pub struct Malformed;

/// What an attester sends: whom it claims to be, and what vouches for it.
///
/// Nothing here is checked. Parts of it are covered by no signature, so its hash is neither an identity nor a
/// key against replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What the hardware is said to have signed, in full.
    pub binding: Binding,
    /// The signed bytes of the kind: a report, quote or document as the hardware gave it.
    pub body: Vec<u8>,
    /// Certificates that the attester has at hand, DER, the signing one first.
    pub endorsements: Vec<Vec<u8>>,
}

impl Evidence {
    /// The bytes for the wire: a CBOR array of the format's name, the binding's fields, the body and the
    /// endorsements.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = vec![Value::Text(FORMAT.to_owned())];
        fields.extend(self.binding.values());
        fields.push(Value::Bytes(self.body.clone()));
        fields.push(Value::Array(self.endorsements.iter().cloned().map(Value::Bytes).collect()));
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Array(fields), &mut bytes).expect("a vector takes any number of bytes");
        bytes
    }

    /// Reads an envelope. Only the one encoding that [`encode`](Self::encode) writes is read.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let read = || {
            let mut rest = Some(bytes).filter(|bytes| bytes.len() <= EVIDENCE_BYTES_MAX)?;
            let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX).ok()?;
            let fields = <[Value; FIELDS]>::try_from(value.into_array().ok()?).ok()?;
            let [format, kind, boot, channel_key, receipt_key, policy, nonce, verifier, body, endorsements] =
                fields;
            let kind = EvidenceKind::from_name(&kind.into_text().ok()?)?;
            let binding = Binding {
                kind,
                boot: fixed(boot)?,
                channel_key: fixed(channel_key)?,
                receipt_key: fixed(receipt_key)?,
                policy: fixed(policy)?,
                nonce: fixed(nonce)?,
                verifier: verifier.into_bytes().ok().filter(|id| id.len() <= VERIFIER_BYTES_MAX)?,
            };
            let endorsements =
                endorsements.into_array().ok().filter(|list| list.len() <= ENDORSEMENTS_MAX)?;
            let endorsements = endorsements.into_iter().map(|one| one.into_bytes().ok());
            let (body, endorsements) = (body.into_bytes().ok()?, endorsements.collect::<Option<_>>()?);
            (format.as_text() == Some(FORMAT)).then_some(Self { binding, body, endorsements })
        };
        read().filter(|evidence| evidence.encode() == bytes).ok_or(Malformed)
    }
}

/// A byte string of exactly `N` bytes.
fn fixed<const N: usize>(value: Value) -> Option<[u8; N]> {
    value.into_bytes().ok()?.try_into().ok()
}
