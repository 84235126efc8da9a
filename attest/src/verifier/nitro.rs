//! Documents of the AWS Nitro security module: COSE_Sign1 with ES384 over CBOR.
//!
//! The certificates inside live for three hours, which is what stands in for revocation.

use super::certificate::{parse_all, verify_chain};
use crate::binding::{Binding, EvidenceKind};
use crate::evidence::{cbor, fixed};
use crate::hex::Hex;
use crate::policy::{NitroPolicy, Policy, image};
use crate::refusal::{Refusal, printable};
use crate::verified::{Appraised, aged};
use ciborium::Value;
use ring::signature::ECDSA_P384_SHA384_FIXED;
use std::collections::BTreeMap;

const KIND: EvidenceKind = EvidenceKind::Nitro;
const PART: &str = "the Nitro document";
/// AWS bounds a document at 16 KiB.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
const DEPTH_MAX: usize = 6;
const ES384: i128 = -35;
/// The protected header {1: -35}, which names it.
const ES384_HEADER: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
const SIGNATURE_BYTES: usize = 96;
const REGISTERS_MAX: usize = 32;
/// Registers of the image file, the kernel and the application: all zero in debug mode.
const IMAGE_REGISTERS: [u8; 3] = [0, 1, 2];
/// AWS bounds each field that the enclave chooses.
const CHOSEN_BYTES_MAX: usize = 1024;

/// A document whose signature leads to an accepted root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedNitro {
    document: Document,
    valid_until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Document {
    module: String,
    /// Milliseconds.
    timestamp: u64,
    registers: BTreeMap<u8, [u8; 48]>,
    certificate: Vec<u8>,
    /// The root first.
    bundle: Vec<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Verifies the signature of a document and its chain at `now`. Says nothing about what the document contains.
///
/// # Errors
/// A [`Refusal`] of form, chain, time or signature.
pub fn authenticate(body: &[u8], roots: &[Hex<32>], now: u64) -> Result<VerifiedNitro, Refusal> {
    let signed = open(body)?;
    let document = Document::decode(&signed.payload)?;
    let ders = std::iter::once(&document.certificate).chain(document.bundle.iter().rev());
    let chain = parse_all(ders.map(Vec::as_slice))?;
    // The one signature first: what was changed on its way costs no chain.
    let leaf = chain.first().ok_or(Refusal::Malformed { part: PART })?;
    leaf.verify(&ECDSA_P384_SHA384_FIXED, &to_be_signed(&signed.payload), &signed.signature, PART)?;
    let valid_until = verify_chain(&chain, roots, now)?;
    drop(chain);
    Ok(VerifiedNitro { document, valid_until })
}

impl VerifiedNitro {
    /// Applies the policy to an authentic document.
    ///
    /// # Errors
    /// [`Refusal::Debug`], [`Refusal::Measurement`], [`Refusal::Platform`], [`Refusal::Stale`] and their like.
    pub fn appraise(&self, rules: &NitroPolicy, policy: &Policy, now: u64) -> Result<Appraised, Refusal> {
        let document = &self.document;
        // An absent register counts as zero.
        let register = |index: u8| document.registers.get(&index).copied();
        let zero = |index: &u8| register(*index).is_none_or(|value| value == [0; 48]);
        if IMAGE_REGISTERS.iter().any(zero) {
            return Err(Refusal::Debug { kind: KIND });
        }
        let image = image(KIND, &rules.images, register)?;
        let platform = document.instance().to_owned();
        rules.platforms.admit(&platform)?;
        aged(document.timestamp / 1000, policy.evidence_age_max_secs, now)?;
        let values = image.registers.iter().map(|one| format!("PCR{} {}", one.index, one.value));
        Ok(Appraised {
            kind: KIND,
            user_data: document.user_data.clone().unwrap_or_default(),
            measurement: values.collect::<Vec<_>>().join(" "),
            platform,
            level: "AWS names no firmware level".to_owned(),
            valid_until: self.valid_until,
        })
    }

    /// The document has fields for the key and the nonce too; they must not tell another story.
    pub(crate) fn agrees(&self, binding: &Binding) -> Result<(), Refusal> {
        let key = self.document.public_key.as_deref() == Some(&binding.channel_key);
        let nonce = self.document.nonce.as_deref() == Some(&binding.nonce);
        if key && nonce { Ok(()) } else { Err(Refusal::Unbound) }
    }
}

/// Takes the COSE envelope apart. Only ES384, no header but the algorithm, and only the shortest form of the framing,
/// which no signature covers.
fn open(body: &[u8]) -> Result<Signed, Refusal> {
    let malformed = || Refusal::Malformed { part: PART };
    let value = cbor(body, DOCUMENT_BYTES_MAX, DEPTH_MAX, PART)?;
    let one_form = encoded(&value) == body;
    let parts: [Value; 4] =
        value.into_array().ok().and_then(|parts| parts.try_into().ok()).ok_or_else(malformed)?;
    let [protected, unprotected, payload, signature] = parts;
    let protected = protected.into_bytes().map_err(|_| malformed())?;
    if protected != ES384_HEADER {
        let header =
            cbor(&protected, DOCUMENT_BYTES_MAX, DEPTH_MAX, PART)?.into_map().map_err(|_| malformed())?;
        let algorithm = header.iter().find(|(key, _)| *key == Value::from(1)).map(|(_, value)| value);
        let algorithm = algorithm.and_then(Value::as_integer).map(i128::from);
        // The right algorithm with something beside it, or in a longer form.
        let algorithm = algorithm.filter(|number| *number != ES384).ok_or_else(malformed)?;
        let algorithm = format!("COSE {algorithm}");
        return Err(Refusal::Algorithm { part: PART, algorithm, expected: "ES384 (COSE -35)" });
    }
    let payload = payload.into_bytes().map_err(|_| malformed())?;
    let signature = signature.into_bytes().map_err(|_| malformed())?;
    if !one_form || !unprotected.as_map().is_some_and(Vec::is_empty) || signature.len() != SIGNATURE_BYTES {
        return Err(malformed());
    }
    Ok(Signed { payload, signature })
}

/// The Sig_structure of RFC 9052 around the payload.
fn to_be_signed(payload: &[u8]) -> Vec<u8> {
    encoded(&Value::Array(vec![
        Value::Text("Signature1".to_owned()),
        Value::Bytes(ES384_HEADER.to_vec()),
        Value::Bytes(Vec::new()),
        Value::Bytes(payload.to_vec()),
    ]))
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes any number of bytes");
    bytes
}

impl Document {
    fn decode(payload: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Refusal::Malformed { part: PART };
        let pairs =
            cbor(payload, DOCUMENT_BYTES_MAX, DEPTH_MAX, PART)?.into_map().map_err(|_| malformed())?;
        let mut fields = BTreeMap::new();
        for (key, value) in pairs {
            let key = key.into_text().map_err(|_| malformed())?;
            if fields.insert(key, value).is_some() {
                return Err(malformed());
            }
        }
        if let Some(Value::Text(name)) = fields.get("digest")
            && name != "SHA384"
        {
            let algorithm = printable(name);
            return Err(Refusal::Algorithm { part: PART, algorithm, expected: "SHA384" });
        }
        Self::from_fields(fields).ok_or_else(malformed)
    }

    fn from_fields(mut fields: BTreeMap<String, Value>) -> Option<Self> {
        fields.remove("digest")?.as_text()?;
        let module = fields.remove("module_id")?.into_text().ok()?;
        let timestamp = u64::try_from(fields.remove("timestamp")?.as_integer()?).ok()?;
        let pairs = fields.remove("pcrs")?.into_map().ok()?;
        let mut registers = BTreeMap::new();
        for (index, value) in pairs {
            let index =
                u8::try_from(index.as_integer()?).ok().filter(|index| usize::from(*index) < REGISTERS_MAX)?;
            if registers.insert(index, fixed(value)?).is_some() {
                return None;
            }
        }
        let bundle = fields.remove("cabundle")?.into_array().ok()?.into_iter();
        let mut chosen = |name: &str| match fields.remove(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Bytes(bytes)) if bytes.len() <= CHOSEN_BYTES_MAX => Some(Some(bytes)),
            Some(_) => None,
        };
        let (public_key, user_data, nonce) = (chosen("public_key")?, chosen("user_data")?, chosen("nonce")?);
        Some(Self {
            module: printable(&module),
            timestamp,
            registers,
            certificate: fields.remove("certificate")?.into_bytes().ok()?,
            bundle: bundle.map(|one| one.into_bytes().ok()).collect::<Option<_>>()?,
            public_key,
            user_data,
            nonce,
        })
    }

    /// The EC2 instance; what follows it names one start of one enclave.
    fn instance(&self) -> &str {
        self.module.split_once("-enc").map_or(self.module.as_str(), |(instance, _)| instance)
    }
}
