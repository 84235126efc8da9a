//! Keys, certificates and lists of revoked certificates.

use super::{DAY, NOW};
use consilium_attest::Hex;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use std::time::Duration;
use x509_cert::der::Encode;
use x509_cert::der::asn1::{GeneralizedTime, OctetString};
use x509_cert::der::pem::{LineEnding, decode_vec, encode_string};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;
use x509_cert::spki::ObjectIdentifier;

const EC_KEY: &str = "1.2.840.10045.2.1";

/// A curve, how its keys sign certificates, and how they sign evidence.
#[derive(Clone, Copy)]
pub(crate) struct Curve {
    curve: &'static str,
    named: &'static str,
    asn1: &'static EcdsaSigningAlgorithm,
    fixed: &'static EcdsaSigningAlgorithm,
}

pub(crate) const P256: Curve = Curve {
    curve: "1.2.840.10045.3.1.7",
    named: "1.2.840.10045.4.3.2",
    asn1: &ECDSA_P256_SHA256_ASN1_SIGNING,
    fixed: &ECDSA_P256_SHA256_FIXED_SIGNING,
};
pub(crate) const P384: Curve = Curve {
    curve: "1.3.132.0.34",
    named: "1.2.840.10045.4.3.3",
    asn1: &ECDSA_P384_SHA384_ASN1_SIGNING,
    fixed: &ECDSA_P384_SHA384_FIXED_SIGNING,
};

pub(crate) struct Key {
    curve: Curve,
    pkcs8: Vec<u8>,
}

impl Key {
    pub(crate) fn new(curve: Curve) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve.asn1, &SystemRandom::new()).unwrap();
        Self { curve, pkcs8: pkcs8.as_ref().to_vec() }
    }

    fn pair(&self, algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8, &SystemRandom::new()).unwrap()
    }

    /// The uncompressed point.
    pub(crate) fn point(&self) -> Vec<u8> {
        self.pair(self.curve.asn1).public_key().as_ref().to_vec()
    }

    /// Two numbers of fixed length.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        self.pair(self.curve.fixed).sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// What is signed, how, and the signature: the form of certificates and of lists of revoked ones.
    fn sign_named(&self, content: &[u8]) -> Vec<u8> {
        let signature = self.pair(self.curve.asn1).sign(&SystemRandom::new(), content).unwrap();
        der(0x30, &[content, &self.algorithm(), &der(0x03, &[&[0], signature.as_ref()].concat())].concat())
    }

    fn algorithm(&self) -> Vec<u8> {
        der(0x30, &id(self.curve.named))
    }

    fn spki(&self) -> Vec<u8> {
        let algorithm = der(0x30, &[id(EC_KEY), id(self.curve.curve)].concat());
        der(0x30, &[algorithm, der(0x03, &[&[0], &self.point()[..]].concat())].concat())
    }
}

/// What a certificate says, before somebody signs it.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) subject: &'static str,
    pub(crate) serial: u8,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Whether it may issue, and how deep.
    pub(crate) issues: Option<Option<u8>>,
    pub(crate) extensions: Vec<Extension>,
}

impl Draft {
    pub(crate) fn new(subject: &'static str, serial: u8) -> Self {
        Self { subject, serial, from: NOW - DAY, to: NOW + DAY, issues: None, extensions: Vec::new() }
    }

    pub(crate) fn authority(subject: &'static str, serial: u8) -> Self {
        Self { issues: Some(None), ..Self::new(subject, serial) }
    }

    pub(crate) fn with(mut self, id: &str, critical: bool, content: &[u8]) -> Self {
        self.extensions.push(extension(id, critical, content));
        self
    }

    /// The certificate, signed by `issuer` whose name is `by`.
    pub(crate) fn sign(&self, key: &Key, by: &str, issuer: &Key) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some(path_len_constraint) = self.issues {
            let constraints = BasicConstraints { ca: true, path_len_constraint };
            extensions.push(extension("2.5.29.19", true, &constraints.to_der().unwrap()));
        }
        let content = [
            der(0xa0, &[2, 1, 2]),
            der(0x02, &[self.serial]),
            issuer.algorithm(),
            name(by),
            der(0x30, &[time(self.from), time(self.to)].concat()),
            name(self.subject),
            key.spki(),
            der(0xa3, &extensions.to_der().unwrap()),
        ];
        issuer.sign_named(&der(0x30, &content.concat()))
    }
}

pub(crate) fn extension(id: &str, critical: bool, content: &[u8]) -> Extension {
    let extn_id = ObjectIdentifier::new_unwrap(id);
    Extension { extn_id, critical, extn_value: OctetString::new(content).unwrap() }
}

/// A list of revoked certificates.
pub(crate) fn revoke(serials: &[u8], by: &str, issuer: &Key, from: u64, to: Option<u64>) -> Vec<u8> {
    list(serials, by, issuer, from, to, None)
}

/// A list that has a number too, as Intel's do.
pub(crate) fn revoke_numbered(serials: &[u8], by: &str, issuer: &Key, from: u64, to: Option<u64>) -> Vec<u8> {
    list(serials, by, issuer, from, to, Some(vec![extension("2.5.29.20", false, &[2, 1, 1])]))
}

/// A list with a critical extension.
pub(crate) fn revoke_under(id: &str, content: &[u8], by: &str, issuer: &Key) -> Vec<u8> {
    list(&[], by, issuer, NOW - DAY, Some(NOW + DAY), Some(vec![extension(id, true, content)]))
}

fn list(
    serials: &[u8],
    by: &str,
    issuer: &Key,
    from: u64,
    to: Option<u64>,
    extensions: Option<Vec<Extension>>,
) -> Vec<u8> {
    let entry = |serial: &u8| der(0x30, &[der(0x02, &[*serial]), time(from)].concat());
    let revoked: Vec<u8> = serials.iter().flat_map(entry).collect();
    let content = [
        vec![2, 1, 1],
        issuer.algorithm(),
        name(by),
        time(from),
        to.map(time).unwrap_or_default(),
        if revoked.is_empty() { vec![] } else { der(0x30, &revoked) },
        extensions.map(|list| der(0xa0, &list.to_der().unwrap())).unwrap_or_default(),
    ];
    issuer.sign_named(&der(0x30, &content.concat()))
}

/// Certificates in PEM, one behind the other.
pub(crate) fn to_pem(ders: &[&[u8]]) -> String {
    let one = |der: &&[u8]| encode_string("CERTIFICATE", LineEnding::LF, der).unwrap();
    ders.iter().map(one).collect()
}

pub(crate) fn fingerprint(der: &[u8]) -> Hex<32> {
    Hex(digest(&SHA256, der).as_ref().try_into().unwrap())
}

/// The certificates of a PEM file, in DER as it stands there.
pub(crate) fn from_pem(pem: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(pem).unwrap().trim_end_matches(['\n', '\r', '\0']);
    let blocks = text.split_inclusive("-----END CERTIFICATE-----");
    blocks.map(|block| decode_vec(block.trim_start().as_bytes()).unwrap().1).collect()
}

/// One value in DER.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 128);
    let head = match length {
        Some(length) => vec![tag, length],
        None if content.len() < 256 => vec![tag, 0x81, u8::try_from(content.len()).unwrap()],
        None => [&[tag, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes()].concat(),
    };
    [&head[..], content].concat()
}

fn id(text: &str) -> Vec<u8> {
    ObjectIdentifier::new_unwrap(text).to_der().unwrap()
}

fn name(text: &str) -> Vec<u8> {
    text.parse::<Name>().unwrap().to_der().unwrap()
}

fn time(seconds: u64) -> Vec<u8> {
    GeneralizedTime::from_unix_duration(Duration::from_secs(seconds)).unwrap().to_der().unwrap()
}
