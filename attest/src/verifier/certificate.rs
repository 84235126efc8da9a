//! X.509 certificates in a chain of known order, checked over the bytes that were signed.
//!
//! One rule for all vendors, because none of the ready path builders takes AMD's chain (it spells out a default
//! parameter of RSA-PSS). The order is given, so nothing is searched: each certificate must have been issued by the
//! next, and the last must be a root that the policy names by its hash.

use crate::hex::Hex;
use crate::refusal::{Refusal, printable};
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::certificate::{Certificate as Parsed, TbsCertificate, Version};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::pem::decode_vec;
use x509_cert::der::{Decode, Encode, Header, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier};

/// Longest certificate.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Most certificates of a chain, root included.
const CHAIN_MAX: usize = 8;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SUBJECT_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// Critical extensions whose rules are kept here, or ask nothing of a signer of evidence: such keys are told by
/// their issuer, not by a host name or a purpose.
const KNOWN: [ObjectIdentifier; 4] = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, SUBJECT_NAMES];

/// How certificates are signed. AMD writes all parameters of RSA-PSS out, others leave the defaults away; only
/// SHA-384 with 48 bytes of salt passes in ring, whatever they say.
static ALGORITHMS: [(ObjectIdentifier, &dyn VerificationAlgorithm); 5] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"), &RSA_PSS_2048_8192_SHA384),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), &RSA_PKCS1_2048_8192_SHA256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), &RSA_PKCS1_2048_8192_SHA384),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), &ECDSA_P256_SHA256_ASN1),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), &ECDSA_P384_SHA384_ASN1),
];

/// A certificate and the bytes that it was read from.
pub(crate) struct Certificate<'a> {
    der: &'a [u8],
    signed: &'a [u8],
    parsed: Parsed,
}

impl<'a> Certificate<'a> {
    /// Reads one certificate that is all of `der`.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        const PART: &str = "a certificate";
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(Refusal::TooLarge { part: PART, bytes: der.len(), most: CERTIFICATE_BYTES_MAX });
        }
        let read = || {
            let parsed = Parsed::from_der(der).ok()?;
            let same = parsed.signature_algorithm() == parsed.tbs_certificate().signature();
            let certificate = Self { der, signed: signed_part(der)?, parsed };
            (same && certificate.content().version() == Version::V3 && certificate.distinct())
                .then_some(certificate)
        };
        read().ok_or(Refusal::Malformed { part: PART })
    }

    fn content(&self) -> &TbsCertificate {
        self.parsed.tbs_certificate()
    }

    /// SHA-256 of the certificate: how policies name roots.
    pub(crate) fn fingerprint(&self) -> Hex<32> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.der).as_ref());
        Hex(hash)
    }

    /// The subject, for messages.
    pub(crate) fn subject(&self) -> String {
        printable(&self.content().subject().to_string())
    }

    /// The subject as a name.
    pub(crate) fn subject_name(&self) -> &Name {
        self.content().subject()
    }

    /// Who issued it, by its own word.
    pub(crate) fn issuer_name(&self) -> &Name {
        self.content().issuer()
    }

    /// The serial number's bytes.
    pub(crate) fn serial(&self) -> &[u8] {
        self.content().serial_number().as_bytes()
    }

    /// The public key: a point for elliptic curves, PKCS #1 for RSA.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.content().subject_public_key_info().subject_public_key.as_bytes()
    }

    /// The last second of validity.
    pub(crate) fn ends(&self) -> u64 {
        self.content().validity().not_after.to_unix_duration().as_secs()
    }

    fn extensions(&self) -> &[Extension] {
        self.content().extensions().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether no extension comes twice.
    fn distinct(&self) -> bool {
        let all = self.extensions();
        all.iter().enumerate().all(|(at, one)| all[..at].iter().all(|other| other.extn_id != one.extn_id))
    }

    /// The content of an extension.
    pub(crate) fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        self.extensions()
            .iter()
            .find(|extension| extension.extn_id == id)
            .map(|found| found.extn_value.as_bytes())
    }

    /// Whether the extended key usage names a purpose.
    pub(crate) fn has_purpose(&self, purpose: ObjectIdentifier) -> bool {
        let named =
            self.extension(EXTENDED_KEY_USAGE).and_then(|bytes| ExtendedKeyUsage::from_der(bytes).ok());
        named.is_some_and(|named| named.0.contains(&purpose))
    }

    /// Verifies a signature made with the key of this certificate.
    pub(crate) fn verify(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
        part: &'static str,
    ) -> Result<(), Refusal> {
        let key = self.key().ok_or(Refusal::Malformed { part: "a certificate" })?;
        let verified = UnparsedPublicKey::new(algorithm, key).verify(message, signature);
        verified.map_err(|_| Refusal::Signature { part })
    }

    /// Verifies what the holder of this certificate signed under a named algorithm, as certificates and lists
    /// of revoked ones are.
    pub(crate) fn verify_named(
        &self,
        algorithm: &AlgorithmIdentifierOwned,
        message: &[u8],
        signature: Option<&[u8]>,
        part: &'static str,
    ) -> Result<(), Refusal> {
        let known = ALGORITHMS.iter().find(|(oid, _)| *oid == algorithm.oid);
        let Some((_, ring)) = known else {
            let expected = "RSA or ECDSA with SHA-256 or SHA-384";
            return Err(Refusal::Algorithm { part, algorithm: algorithm.oid.to_string(), expected });
        };
        self.verify(*ring, message, signature.ok_or(Refusal::Malformed { part })?, part)
    }

    /// Refuses a certificate outside of its days.
    pub(crate) fn valid_at(&self, now: u64) -> Result<(), Refusal> {
        let begins = self.content().validity().not_before.to_unix_duration().as_secs();
        if now < begins {
            return Err(Refusal::CertificateEarly { subject: self.subject(), begins, now });
        }
        if now > self.ends() {
            return Err(Refusal::CertificateExpired { subject: self.subject(), ended: self.ends(), now });
        }
        Ok(())
    }

    fn issued_by(&self, issuer: &Certificate<'_>) -> Result<(), Refusal> {
        if self.issuer_name() != issuer.subject_name() {
            return Err(Refusal::Issuer { subject: self.subject(), issuer: issuer.subject() });
        }
        let signature = self.parsed.signature().as_bytes();
        issuer.verify_named(self.parsed.signature_algorithm(), self.signed, signature, "a certificate")
    }

    /// Basic constraints: whether it may issue, and through how many further issuers.
    fn issuing(&self) -> Result<(bool, Option<u8>), Refusal> {
        let Some(bytes) = self.extension(BASIC_CONSTRAINTS) else { return Ok((false, None)) };
        let constraints =
            BasicConstraints::from_der(bytes).map_err(|_| Refusal::Malformed { part: "a certificate" })?;
        Ok((constraints.ca, constraints.path_len_constraint))
    }

    /// Refuses an issuer that may not issue with `below` issuers between it and the leaf.
    fn may_issue(&self, below: usize) -> Result<(), Refusal> {
        let (issues, depth) = self.issuing()?;
        let signs = match self.extension(KEY_USAGE) {
            Some(bytes) => KeyUsage::from_der(bytes).is_ok_and(|usage| usage.key_cert_sign()),
            None => true,
        };
        if issues && signs && depth.is_none_or(|depth| below <= usize::from(depth)) {
            return Ok(());
        }
        Err(Refusal::NotAnIssuer { subject: self.subject() })
    }

    fn rules_known(&self) -> Result<(), Refusal> {
        match self.extensions().iter().find(|one| one.critical && !KNOWN.contains(&one.extn_id)) {
            Some(one) => {
                let extension = one.extn_id.to_string();
                Err(Refusal::CriticalExtension { subject: self.subject(), extension })
            }
            None => Ok(()),
        }
    }
}

/// Reads certificates in their order.
pub(crate) fn parse_all<'a>(
    ders: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Certificate<'a>>, Refusal> {
    let mut chain = Vec::new();
    for der in ders {
        if chain.len() == CHAIN_MAX {
            return Err(Refusal::ChainTooLong { most: CHAIN_MAX });
        }
        chain.push(Certificate::parse(der)?);
    }
    Ok(chain)
}

/// The certificates of a text in PEM, in DER. What stands around them is let be.
pub(crate) fn pem_chain(text: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let malformed = || Refusal::Malformed { part: "a chain in PEM" };
    let find = |text: &[u8], mark: &[u8]| text.windows(mark.len()).position(|part| part == mark);
    let mut rest = text;
    let mut chain = Vec::new();
    while let Some(start) = find(rest, b"-----BEGIN CERTIFICATE-----") {
        let block = &rest[start..];
        let end = find(block, END).ok_or_else(malformed)? + END.len();
        if chain.len() == CHAIN_MAX {
            return Err(Refusal::ChainTooLong { most: CHAIN_MAX });
        }
        let (_, der) = decode_vec(&block[..end]).map_err(|_| malformed())?;
        chain.push(der);
        rest = &block[end..];
    }
    Ok(chain)
}

/// Verifies a chain from the signer of evidence to a root that is named, and says when its first part ends.
///
/// The signature of the root on itself proves nothing and is not looked at: the hash names it.
pub(crate) fn verify_chain(chain: &[Certificate<'_>], roots: &[Hex<32>], now: u64) -> Result<u64, Refusal> {
    let [leaf, issuers @ ..] = chain else { return Err(Refusal::Malformed { part: "the chain" }) };
    let Some(root) = issuers.last() else { return Err(Refusal::Malformed { part: "the chain" }) };
    let fingerprint = root.fingerprint();
    if !roots.contains(&fingerprint) {
        return Err(Refusal::UnknownRoot { fingerprint });
    }
    for (below, pair) in chain.windows(2).enumerate() {
        pair[0].issued_by(&pair[1])?;
        pair[1].may_issue(below)?;
    }
    if leaf.issuing()?.0 {
        return Err(Refusal::LeafIssues { subject: leaf.subject() });
    }
    let mut ends = u64::MAX;
    for certificate in chain {
        certificate.rules_known()?;
        certificate.valid_at(now)?;
        ends = ends.min(certificate.ends());
    }
    Ok(ends)
}

/// The bytes of the first element of a sequence: what the signature beside it covers.
pub(crate) fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let content = AnyRef::from_der(der).ok()?.value();
    let header = Header::decode(&mut SliceReader::new(content).ok()?).ok()?;
    let length = (header.encoded_len().ok()? + header.length()).ok()?;
    content.get(..usize::try_from(length).ok()?)
}
