//! No bit of evidence may change where it is signed: anywhere for SEV-SNP, Nitro and TPM.

use crate::capture::{read, read_all};
use crate::captures;
use crate::forge::certificate::from_pem;
use crate::forge::{Case, nitro, snp, software, tpm};
use consilium_attest::policy::{AMD_MILAN_ROOT, AWS_NITRO_ROOT};
use consilium_attest::verifier::{nitro as nitro_verifier, sev_snp, tpm2};
use consilium_attest::{Collateral, Evidence, Hex, verify};

/// Counts the changed copies that `accepts` takes, in every bit of every byte.
pub(crate) fn accepted(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> usize {
    assert!(accepts(bytes), "the unchanged bytes must be good");
    let mut copy = bytes.to_vec();
    let mut found = 0;
    for at in 0..copy.len() {
        for bit in 0..8 {
            copy[at] ^= 1 << bit;
            found += usize::from(accepts(&copy));
            copy[at] ^= 1 << bit;
        }
    }
    found
}

/// A changed body is refused whatever the policy says.
fn forged(case: &Case) -> usize {
    let mut evidence = case.evidence.clone();
    evidence.body.clear();
    accepted(&case.evidence.body, |body| {
        let evidence = Evidence { body: body.to_vec(), ..evidence.clone() };
        verify(&evidence, &case.collateral, &case.policy, &case.expected, case.now).is_ok()
    })
}

#[test]
fn no_bit_of_forged_evidence_may_change() {
    for case in [snp::case(|_| ()), nitro::case(|_| ()), tpm::case(|_| ()), software()] {
        assert_eq!(forged(&case), 0, "{}", case.evidence.binding.kind);
    }
}

#[test]
fn no_bit_of_the_binding_may_change() {
    for case in [snp::case(|_| ()), nitro::case(|_| ()), tpm::case(|_| ()), software()] {
        let encoded = case.evidence.encode();
        // Everything in front of the body: the format, and the fields of the binding.
        let head = encoded.windows(32).position(|part| part == &case.evidence.body[..32]).unwrap();
        let found = accepted(&encoded[..head], |changed| {
            let bytes = [changed, &encoded[head..]].concat();
            Evidence::decode(&bytes).is_ok_and(|evidence| {
                verify(&evidence, &case.collateral, &case.policy, &case.expected, case.now).is_ok()
            })
        });
        assert_eq!(found, 0, "{}", case.evidence.binding.kind);
    }
}

#[test]
fn no_bit_of_a_captured_report_may_change() {
    let names = ["sev-snp/report-milan.bin", "sev-snp/vcek-milan.der", "sev-snp/milan-ask-ark.pem"];
    let Some([report, leaf, pem]) = read_all(names) else { return };
    let collateral = Collateral { certificates: from_pem(&pem), ..Collateral::default() };
    let accepts = |report: &[u8], leaf: &[u8]| {
        sev_snp::authenticate(report, &[leaf.to_vec()], &collateral, &[AMD_MILAN_ROOT], 1_750_464_000).is_ok()
    };
    assert_eq!(accepted(&report, |report| accepts(report, &leaf)), 0);
    assert_eq!(accepted(&leaf, |leaf| accepts(&report, leaf)), 0);
}

#[test]
fn no_bit_of_a_captured_document_may_change() {
    let Some(body) = read("nitro/attestation-2025-12-25.cose") else { return };
    let accepts = |body: &[u8]| nitro_verifier::authenticate(body, &[AWS_NITRO_ROOT], 1_766_668_537).is_ok();
    assert_eq!(accepted(&body, accepts), 0);
}

#[test]
fn no_bit_of_a_captured_quote_may_change() {
    let Some((body, _)) = captures::tpm::capture() else { return };
    let key = tpm2::key_name(&body.public).unwrap();
    let accepts = |bytes: &[u8]| tpm2::authenticate(bytes).is_ok_and(|quote| quote.key() == key);
    assert_eq!(accepted(&body.encode(), accepts), 0);
    assert_ne!(key, Hex([0; 32]));
}
