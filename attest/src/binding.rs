//! What ties a module's keys to its evidence, to one question and to one asker.

use ciborium::Value;
use ring::digest::{Context, SHA512};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Keeps these bytes apart from whatever else may be attested on the same machine.
const DOMAIN: &[u8] = b"consilium attested module 1\0";
/// Longest peer id of a verifier.
pub const VERIFIER_BYTES_MAX: usize = 64;

/// What vouches for a module, in the order of how much it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A report of AMD's secure processor about a confidential virtual machine.
    SevSnp,
    /// A quote about an Intel trust domain.
    Tdx,
    /// A quote about an Intel SGX enclave.
    SgxDcap,
    /// A document of the AWS Nitro security module about an enclave.
    Nitro,
    /// A quote of boot measurements by a TPM. It does not hold against who owns the machine, so it is no TEE.
    Tpm2,
    /// Nothing vouches: the module says so itself. For public testing.
    Software,
}

impl EvidenceKind {
    /// Every kind, the most meaningful first.
    pub const ALL: [Self; 6] =
        [Self::SevSnp, Self::Tdx, Self::SgxDcap, Self::Nitro, Self::Tpm2, Self::Software];

    /// The name in policies, bindings and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::SgxDcap => "sgx-dcap",
            Self::Nitro => "nitro",
            Self::Tpm2 => "tpm2",
            Self::Software => "software",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that evidence is about. Its hash is what the hardware signs.
///
/// The channel proves that the module holds the keys; the nonce makes evidence answer one question, and the
/// verifier's name keeps one party from handing the other evidence that was made for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What vouches.
    pub kind: EvidenceKind,
    /// Drawn by the module when it starts; a restart is another module.
    pub boot: [u8; 16],
    /// X25519 static key of the module's end of the Noise channel.
    pub channel_key: [u8; 32],
    /// Ed25519 key that signs receipts.
    pub receipt_key: [u8; 32],
    /// SHA-256 of the task policy, or roster, that the module serves.
    pub policy: [u8; 32],
    /// Drawn by the verifier for this one question.
    pub nonce: [u8; 32],
    /// The verifier's peer id, at most [`VERIFIER_BYTES_MAX`] bytes.
    pub verifier: Vec<u8>,
}

impl Binding {
    /// The 64 bytes that go into the signed user field: SHA-512 over a domain and the fields in deterministic
    /// CBOR.
    pub fn report_data(&self) -> [u8; 64] {
        let mut hash = Context::new(&SHA512);
        hash.update(DOMAIN);
        hash.update(&self.encoded());
        let mut data = [0; 64];
        data.copy_from_slice(hash.finish().as_ref());
        data
    }

    /// The first half of [`report_data`](Self::report_data): a TPM takes no more.
    pub fn qualifying_data(&self) -> [u8; 32] {
        let mut half = [0; 32];
        half.copy_from_slice(&self.report_data()[..32]);
        half
    }

    /// The fields as CBOR values, in their order.
    pub(crate) fn values(&self) -> Vec<Value> {
        let bytes = |field: &[u8]| Value::Bytes(field.to_vec());
        vec![
            Value::Text(self.kind.name().to_owned()),
            bytes(&self.boot),
            bytes(&self.channel_key),
            bytes(&self.receipt_key),
            bytes(&self.policy),
            bytes(&self.nonce),
            bytes(&self.verifier),
        ]
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Array(self.values()), &mut bytes)
            .expect("a vector takes any number of bytes");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            kind: EvidenceKind::SevSnp,
            boot: [1; 16],
            channel_key: [2; 32],
            receipt_key: [3; 32],
            policy: [4; 32],
            nonce: [5; 32],
            verifier: vec![6; 38],
        }
    }

    #[test]
    fn every_field_changes_the_hash() {
        let changes: [fn(&mut Binding); 8] = [
            |_| (),
            |binding| binding.kind = EvidenceKind::Tdx,
            |binding| binding.boot[15] ^= 1,
            |binding| binding.channel_key[0] ^= 1,
            |binding| binding.receipt_key[31] ^= 128,
            |binding| binding.policy[7] ^= 1,
            |binding| binding.nonce[7] ^= 1,
            |binding| {
                binding.verifier.pop();
            },
        ];
        let hashes: std::collections::BTreeSet<[u8; 64]> = changes
            .iter()
            .map(|change| {
                let mut binding = binding();
                change(&mut binding);
                binding.report_data()
            })
            .collect();
        assert_eq!(hashes.len(), changes.len());
    }

    #[test]
    fn the_encoding_is_spelled_out() {
        let mut expected = vec![0x87, 0x67];
        expected.extend(b"sev-snp");
        expected.push(0x50);
        expected.extend([1; 16]);
        for byte in 2..6u8 {
            expected.extend([0x58, 32]);
            expected.extend([byte; 32]);
        }
        expected.extend([0x58, 38]);
        expected.extend([6; 38]);
        assert_eq!(binding().encoded(), expected);
        let mut hashed = b"consilium attested module 1\0".to_vec();
        hashed.extend(expected);
        assert_eq!(binding().report_data(), ring::digest::digest(&SHA512, &hashed).as_ref());
        assert_eq!(binding().qualifying_data(), binding().report_data()[..32]);
    }

    #[test]
    fn kinds_have_one_name_everywhere() {
        for kind in EvidenceKind::ALL {
            assert_eq!(EvidenceKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!(EvidenceKind::from_name("sgx"), None);
        assert!(EvidenceKind::ALL.is_sorted());
    }
}
