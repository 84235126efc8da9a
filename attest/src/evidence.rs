//! The envelope in which evidence travels, and what a verifier needs beside it.

use crate::binding::{Binding, EvidenceKind, VERIFIER_BYTES_MAX};
use crate::refusal::{Refusal, printable};
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
    /// [`Refusal::TooLarge`], [`Refusal::Malformed`] or [`Refusal::UnknownKind`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed { part: "the envelope of the evidence" };
        let value = cbor(bytes, EVIDENCE_BYTES_MAX, DEPTH_MAX, "the evidence")?;
        let Value::Array(fields) = value else { return Err(malformed) };
        let Ok(fields) = <[Value; FIELDS]>::try_from(fields) else { return Err(malformed) };
        let [format, kind, boot, channel_key, receipt_key, policy, nonce, verifier, body, endorsements] =
            fields;
        if format.as_text() != Some(FORMAT) {
            return Err(malformed);
        }
        let Value::Text(kind) = kind else { return Err(malformed) };
        let kind =
            EvidenceKind::from_name(&kind).ok_or_else(|| Refusal::UnknownKind { name: printable(&kind) })?;
        let read = || {
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
            Some(Self {
                binding,
                body: body.into_bytes().ok()?,
                endorsements: endorsements.collect::<Option<_>>()?,
            })
        };
        read().filter(|evidence| evidence.encode() == bytes).ok_or(malformed)
    }
}

/// What the verifier's side gets from the vendors, at its leisure: everything in it is signed by them, so it does
/// not matter who carried it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collateral {
    /// DER certificates that follow those sent by the attester, up to and including the root.
    pub certificates: Vec<Vec<u8>>,
    /// DER lists of revoked certificates.
    pub revocation_lists: Vec<Vec<u8>>,
    /// Intel's answers for one platform, as the JSON object that PCCS clients store (fields `tcb_info`,
    /// `qe_identity`, `pck_crl`, `root_ca_crl`, their issuer chains and signatures).
    pub dcap: Option<String>,
}

/// One CBOR value that is all of `bytes`.
pub(crate) fn cbor(bytes: &[u8], most: usize, depth: usize, part: &'static str) -> Result<Value, Refusal> {
    if bytes.len() > most {
        return Err(Refusal::TooLarge { part, bytes: bytes.len(), most });
    }
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, depth);
    value.ok().filter(|_| rest.is_empty()).ok_or(Refusal::Malformed { part })
}

/// A byte string of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(value: Value) -> Option<[u8; N]> {
    value.into_bytes().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let binding = Binding {
            kind: EvidenceKind::Nitro,
            boot: [1; 16],
            channel_key: [2; 32],
            receipt_key: [3; 32],
            policy: [4; 32],
            nonce: [5; 32],
            verifier: vec![6; 38],
        };
        Evidence { binding, body: vec![7; 1000], endorsements: vec![vec![8; 300], vec![]] }
    }

    #[test]
    fn envelopes_survive_the_wire() {
        let evidence = evidence();
        assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
    }

    #[test]
    fn other_envelopes_are_refused() {
        let good = evidence();
        let malformed = Err(Refusal::Malformed { part: "the envelope of the evidence" });
        let mut long = good.clone();
        long.binding.verifier = vec![0; VERIFIER_BYTES_MAX + 1];
        assert_eq!(Evidence::decode(&long.encode()), malformed);
        let mut many = good.clone();
        many.endorsements = vec![vec![]; ENDORSEMENTS_MAX + 1];
        assert_eq!(Evidence::decode(&many.encode()), malformed);
        let mut large = good.clone();
        large.body = vec![0; EVIDENCE_BYTES_MAX];
        assert!(matches!(Evidence::decode(&large.encode()), Err(Refusal::TooLarge { .. })));
        let bytes = good.encode();
        for end in 0..bytes.len() {
            assert!(Evidence::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Evidence::decode(&[&bytes[..], &[0]].concat()).is_err());
        // The same array with a longer form of its head.
        assert!(Evidence::decode(&[&[0x98, 10], &bytes[1..]].concat()).is_err());
        let text = bytes.windows(5).position(|part| part == b"nitro").unwrap();
        let mut unknown = bytes.clone();
        unknown[text..text + 5].copy_from_slice(b"magic");
        assert_eq!(Evidence::decode(&unknown), Err(Refusal::UnknownKind { name: "magic".to_owned() }));
    }
}
