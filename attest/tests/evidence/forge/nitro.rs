//! Documents of the Nitro security module.

use super::certificate::{Draft, Key, P384, fingerprint};
use super::{Case, NOW, binding, refusing};
use ciborium::Value;
use consilium_attest::policy::{Image, NitroPolicy, Platforms, Register};
use consilium_attest::{EvidenceKind, Hex, Policy};
use std::sync::LazyLock;

pub(crate) struct Keys {
    root: Key,
    intermediate: Key,
    enclave: Key,
}

static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys { root: Key::new(P384), intermediate: Key::new(P384), enclave: Key::new(P384) });

pub(crate) struct Parts {
    /// The document but for its certificates.
    pub(crate) fields: Vec<(&'static str, Value)>,
    pub(crate) registers: Vec<(u8, Vec<u8>)>,
    pub(crate) leaf: Draft,
    pub(crate) intermediate: Draft,
    pub(crate) root: Draft,
    pub(crate) header: Vec<u8>,
}

impl Parts {
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.fields.iter_mut().find(|(key, _)| *key == name).unwrap().1 = value;
    }
}

/// A case that is accepted but for `change`.
pub(crate) fn case(change: impl FnOnce(&mut Parts)) -> Case {
    let binding = binding(EvidenceKind::Nitro);
    let mut parts = Parts {
        fields: vec![
            ("module_id", Value::from("i-0123456789abcdef0-enc0123456789abcdef")),
            ("digest", Value::from("SHA384")),
            ("timestamp", Value::from((NOW - 2) * 1000)),
            ("public_key", Value::Bytes(binding.channel_key.to_vec())),
            ("user_data", Value::Bytes(binding.report_data().to_vec())),
            ("nonce", Value::Bytes(binding.nonce.to_vec())),
        ],
        registers: (0..16).map(|index| (index, vec![index + 1; 48])).collect(),
        leaf: Draft::new("CN=enclave", 3),
        intermediate: Draft::authority("CN=zone", 2),
        root: Draft::authority("CN=test.nitro-enclaves", 1),
        header: vec![0xa1, 0x01, 0x38, 0x22],
    };
    change(&mut parts);

    let keys = &*KEYS;
    let root = parts.root.sign(&keys.root, parts.root.subject, &keys.root);
    let intermediate = parts.intermediate.sign(&keys.intermediate, parts.root.subject, &keys.root);
    let leaf = parts.leaf.sign(&keys.enclave, parts.intermediate.subject, &keys.intermediate);
    let accepted = fingerprint(&root);
    let text = |name: &str| Value::Text(name.to_owned());
    let mut pairs: Vec<(Value, Value)> =
        parts.fields.into_iter().map(|(name, value)| (text(name), value)).collect();
    let registers =
        parts.registers.into_iter().map(|(index, value)| (Value::from(index), Value::Bytes(value)));
    pairs.push((text("pcrs"), Value::Map(registers.collect())));
    pairs.push((text("certificate"), Value::Bytes(leaf)));
    pairs.push((text("cabundle"), Value::Array(vec![Value::Bytes(root), Value::Bytes(intermediate)])));
    let payload = encode(&Value::Map(pairs));
    let header = Value::Bytes(parts.header);
    let covered =
        [Value::from("Signature1"), header.clone(), Value::Bytes(vec![]), Value::Bytes(payload.clone())];
    let signature = keys.enclave.sign_fixed(&encode(&Value::Array(covered.to_vec())));
    let body = [header, Value::Map(vec![]), Value::Bytes(payload), Value::Bytes(signature)];
    let body = encode(&Value::Array(body.to_vec()));
    Case::new(binding, body, Policy { nitro: Some(policy(accepted)), ..refusing() })
}

pub(crate) fn policy(root: Hex<32>) -> NitroPolicy {
    let registers = [0, 1, 2, 8].map(|index| Register { index, value: Hex([index + 1; 48]) });
    NitroPolicy {
        roots: vec![root],
        images: vec![Image { registers: registers.to_vec() }],
        platforms: Platforms::Listed(vec!["i-0123456789abcdef0".to_owned()]),
    }
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}
