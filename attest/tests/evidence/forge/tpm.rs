//! TPM quotes.

use super::certificate::{Key, P256};
use super::{Case, binding, refusing};
use consilium_attest::policy::{Image, Register, TpmPolicy};
use consilium_attest::verifier::tpm2::{TpmBody, key_name};
use consilium_attest::{EvidenceKind, Hex, Policy};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(P256));
/// Restricted signing key, fixed to its TPM and parent, made inside.
pub(crate) const ATTRIBUTES: u32 = 0x0005_0072;

pub(crate) struct Parts {
    pub(crate) attributes: u32,
    /// Scheme of the key and of the signature.
    pub(crate) scheme: u16,
    pub(crate) magic: u32,
    pub(crate) extra: Vec<u8>,
    pub(crate) registers: BTreeMap<u8, [u8; 32]>,
    /// Values sent beside the quote where they are other ones.
    pub(crate) sent: Option<BTreeMap<u8, [u8; 32]>>,
}

/// A case that is accepted but for `change`.
pub(crate) fn case(change: impl FnOnce(&mut Parts)) -> Case {
    let binding = binding(EvidenceKind::Tpm2);
    let mut parts = Parts {
        attributes: ATTRIBUTES,
        scheme: 0x18,
        magic: 0xff54_4347,
        extra: binding.qualifying_data().to_vec(),
        registers: [0, 4, 9, 14].map(|index| (index, [index + 1; 32])).into(),
        sent: None,
    };
    let enrolled = key_name(&public(&parts)).unwrap();
    change(&mut parts);
    let attest = attest(&parts);
    let numbers = KEY.sign_fixed(&attest);
    let mut signature = [parts.scheme, 0x0b].map(u16::to_be_bytes).concat();
    numbers.chunks(32).for_each(|number| signature.extend(sized(number)));
    let public = public(&parts);
    let registers = parts.sent.unwrap_or(parts.registers);
    let body = TpmBody { attest, signature, public, registers };
    Case::new(binding, body.encode(), Policy { tpm2: Some(policy(enrolled)), ..refusing() })
}

pub(crate) fn policy(key: Hex<32>) -> TpmPolicy {
    let registers = [0, 4, 9].map(|index| Register { index, value: Hex([index + 1; 32]) });
    TpmPolicy { keys: vec![key], images: vec![Image { registers: registers.to_vec() }] }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn public(parts: &Parts) -> Vec<u8> {
    let mut area = [0x23u16, 0x0b].map(u16::to_be_bytes).concat();
    area.extend(parts.attributes.to_be_bytes());
    area.extend(sized(&[]));
    area.extend([0x10, parts.scheme, 0x0b, 0x03, 0x10].map(u16::to_be_bytes).concat());
    KEY.point()[1..].chunks(32).for_each(|number| area.extend(sized(number)));
    sized(&area)
}

fn attest(parts: &Parts) -> Vec<u8> {
    let mut bits = [0u8; 3];
    for index in parts.registers.keys() {
        bits[usize::from(index / 8)] |= 1 << (index % 8);
    }
    let values: Vec<u8> = parts.registers.values().flatten().copied().collect();
    [
        &parts.magic.to_be_bytes()[..],
        &[0x80, 0x18],
        &sized(&[0; 34]),
        &sized(&parts.extra),
        &[0; 17],
        &7u64.to_be_bytes(),
        &1u32.to_be_bytes(),
        &[0, 0x0b, 3],
        &bits,
        &sized(digest(&SHA256, &values).as_ref()),
    ]
    .concat()
}
