//! SEV-SNP reports.

use super::certificate::{Draft, Key, P384, fingerprint};
use super::{Case, binding, refusing};
use consilium_attest::policy::{Platforms, SevSnpPolicy, SnpSigner, SnpVersions};
use consilium_attest::{EvidenceKind, Hex, Policy};
use std::sync::LazyLock;

pub(crate) const ROOT: &str = "CN=Test ARK";
const INTERMEDIATE: &str = "CN=Test SEV";
pub(crate) const INTERMEDIATE_SERIAL: u8 = 2;

/// Keys of one test run; certificates are made anew for each case.
pub(crate) struct Keys {
    pub(crate) root: Key,
    intermediate: Key,
    chip: Key,
}

pub(crate) static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys { root: Key::new(P384), intermediate: Key::new(P384), chip: Key::new(P384) });

/// All that goes into a report before anybody signs.
pub(crate) struct Parts {
    /// The signed part of the report.
    pub(crate) report: Vec<u8>,
    pub(crate) leaf: Draft,
    pub(crate) intermediate: Draft,
    pub(crate) root: Draft,
}

impl Parts {
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.report[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A case that is accepted but for `change`.
pub(crate) fn case(change: impl FnOnce(&mut Parts)) -> Case {
    let binding = binding(EvidenceKind::SevSnp);
    let mut parts = Parts {
        report: vec![0; 0x2a0],
        leaf: leaf("1.3.6.1.4.1.3704.1.4", &[0xc4; 64]),
        intermediate: Draft::authority(INTERMEDIATE, INTERMEDIATE_SERIAL),
        root: Draft::authority(ROOT, 1),
    };
    parts.set(0x00, &3u32.to_le_bytes());
    parts.set(0x08, &0x3_0000u64.to_le_bytes());
    parts.set(0x34, &1u32.to_le_bytes());
    parts.set(0x50, &binding.report_data());
    parts.set(0x90, &[0xee; 48]);
    parts.set(0xc0, &[0xdd; 32]);
    parts.set(0x180, &[3, 0, 0, 0, 0, 0, 8, 0x73]);
    parts.set(0x188, &[0x19, 1, 1]);
    parts.set(0x1a0, &[0xc4; 64]);
    parts.set(0x1e0, &[3, 0, 0, 0, 0, 0, 8, 0x74]);
    change(&mut parts);

    let keys = &*KEYS;
    let root = parts.root.sign(&keys.root, parts.root.subject, &keys.root);
    let intermediate = parts.intermediate.sign(&keys.intermediate, parts.root.subject, &keys.root);
    let leaf = parts.leaf.sign(&keys.chip, parts.intermediate.subject, &keys.intermediate);
    let mut body = parts.report;
    for mut number in keys.chip.sign_fixed(&body).chunks(48).map(<[u8]>::to_vec) {
        number.reverse();
        number.resize(72, 0);
        body.extend(number);
    }
    body.resize(0x4a0, 0);
    let mut case =
        Case::new(binding, body, Policy { sev_snp: Some(policy(fingerprint(&root))), ..refusing() });
    case.evidence.endorsements = vec![leaf];
    case.collateral.certificates = vec![intermediate, root];
    case
}

/// The certificate of a signing key, with AMD's extensions and one that says what kind of key it is.
pub(crate) fn leaf(kind: &str, content: &[u8]) -> Draft {
    let versions = [("1.1", 3), ("1.2", 0), ("1.3", 8), ("1.8", 0x73)];
    let mut leaf = Draft::new("CN=SEV-VCEK", 3).with(kind, false, content);
    for (id, version) in versions {
        let id = format!("1.3.6.1.4.1.3704.1.3.{}", &id[2..]);
        leaf = leaf.with(&id, false, &[2, 1, version]);
    }
    leaf
}

pub(crate) fn policy(root: Hex<32>) -> SevSnpPolicy {
    SevSnpPolicy {
        roots: vec![root],
        measurements: vec![Hex([0xee; 48])],
        host_data: vec![Hex([0xdd; 32])],
        signers: vec![SnpSigner::Vcek],
        vmpl_max: 0,
        versions_min: SnpVersions { fmc: 0, boot_loader: 3, tee: 0, snp: 8, microcode: 0x73 },
        allow_smt: true,
        require_revocation_list: false,
        platforms: Platforms::Listed(vec!["c4".repeat(64)]),
    }
}
