//! AWS Nitro.

use super::policy;
use crate::capture::{read, read_all};
use crate::forge::certificate::{fingerprint, from_pem};
use crate::forge::{Case, binding};
use consilium_attest::policy::{AWS_NITRO_ROOT, Image, NitroPolicy, Platforms, Register};
use consilium_attest::verifier::nitro::{VerifiedNitro, authenticate};
use consilium_attest::{EvidenceKind, Hex, Policy, Refusal};

const PLAIN: (&str, u64) = ("nitro/attestation-2025-12-25.cose", 1_766_668_537);
const DEBUG: (&str, u64) = ("nitro/attestation-debug-mode.cose", 1_766_650_846);
const SIGNED_IMAGE: (&str, u64) = ("nitro/attestation-2022-10-13-pcr8.cose", 1_665_651_482);

fn authentic(body: &[u8], now: u64) -> Result<VerifiedNitro, Refusal> {
    authenticate(body, &[AWS_NITRO_ROOT], now)
}

fn rules(registers: &[(u8, Hex<48>)]) -> NitroPolicy {
    let registers =
        registers.iter().map(|(index, value)| Register { index: *index, value: *value }).collect();
    NitroPolicy { roots: vec![AWS_NITRO_ROOT], images: vec![Image { registers }], platforms: Platforms::Any }
}

/// The values that the document has in `indices`, learnt from refusals: they name what they found.
fn registers(document: &VerifiedNitro, indices: &[u8], now: u64) -> Vec<(u8, Hex<48>)> {
    let found = |index: &u8| match document.appraise(&rules(&[(*index, Hex([0xff; 48]))]), &policy(), now) {
        Err(Refusal::Measurement { found, register, .. }) if register == format!("PCR {index}") => {
            (*index, found.parse().unwrap())
        }
        other => panic!("{other:?}"),
    };
    indices.iter().map(found).collect()
}

#[test]
fn documents_are_good_at_their_time() {
    for ((name, now), indices) in [(PLAIN, &[0, 1, 2][..]), (SIGNED_IMAGE, &[0, 1, 2, 8])] {
        let Some(body) = read(name) else { return };
        let document = authentic(&body, now).unwrap();
        let values = registers(&document, indices, now);
        assert!(values.iter().all(|(_, value)| *value != Hex([0; 48])), "{name}");
        if name == PLAIN.0 {
            assert!(values[0].1.to_string().starts_with("5cb70295"));
        }
        document.appraise(&rules(&values), &policy(), now).unwrap();
        // The signatures hold for hours, the document for the policy's two minutes.
        let late = document.appraise(&rules(&values), &policy(), now + 3000);
        assert!(matches!(late, Err(Refusal::Stale { .. })), "{late:?}");
        let other = [(0, values[0].1), (1, values[1].1), (2, Hex([1; 48]))];
        let refused = document.appraise(&rules(&other), &policy(), now).unwrap_err();
        assert!(matches!(refused, Refusal::Measurement { register, .. } if register == "PCR 2"));
    }
}

#[test]
fn a_debug_document_is_authentic_and_refused() {
    let (name, now) = DEBUG;
    let Some(body) = read(name) else { return };
    let document = authentic(&body, now).unwrap();
    let zeros = rules(&[0, 1, 2].map(|index| (index, Hex([0; 48]))));
    let refused = document.appraise(&zeros, &policy(), now);
    assert_eq!(refused, Err(Refusal::Debug { kind: EvidenceKind::Nitro }));
}

#[test]
fn other_times_and_roots_are_refused() {
    for (name, now) in [PLAIN, DEBUG, SIGNED_IMAGE] {
        let Some(body) = read(name) else { return };
        let late = authentic(&body, now + 24 * 3600);
        assert!(matches!(late, Err(Refusal::CertificateExpired { .. })), "{late:?}");
        let early = authentic(&body, now - 24 * 3600);
        assert!(matches!(early, Err(Refusal::CertificateEarly { .. })), "{early:?}");
        let other = authenticate(&body, &[Hex([1; 32])], now);
        assert_eq!(other, Err(Refusal::UnknownRoot { fingerprint: AWS_NITRO_ROOT }));
    }
}

#[test]
fn the_root_is_that_of_aws() {
    let Some(pem) = read("nitro/aws-nitro-root-g1.pem") else { return };
    assert_eq!(from_pem(&pem).iter().map(|der| fingerprint(der)).collect::<Vec<_>>(), [AWS_NITRO_ROOT]);
}

#[test]
fn an_emulator_that_signs_nothing_is_refused_for_its_algorithm() {
    let Some(body) = read("nitro/qemu-emulated-unsigned.cose") else { return };
    let refused = authentic(&body, PLAIN.1).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Algorithm { algorithm, .. } if algorithm == "COSE -1"),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("ES384"), "{refused}");
}

#[test]
fn a_capture_vouches_for_no_module_of_ours() {
    let Some([body]) = read_all([PLAIN.0]) else { return };
    let document = authentic(&body, PLAIN.1).unwrap();
    let rules = rules(&registers(&document, &[0, 1, 2], PLAIN.1));
    let binding = binding(EvidenceKind::Nitro);
    let mut case = Case::new(binding, body, Policy { nitro: Some(rules), ..policy() });
    (case.now, case.expected.asked) = (PLAIN.1, PLAIN.1);
    assert_eq!(case.refusal(), Refusal::Unbound);
}
