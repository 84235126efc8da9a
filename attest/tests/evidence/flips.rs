//! No bit of evidence may change where it is signed: anywhere for SEV-SNP, Nitro and TPM; for Intel's quotes in all
//! but their framing, the ends of lines, and a copy of the root that is not used.

use crate::capture::{read, read_all};
use crate::captures;
use crate::forge::certificate::{from_pem, to_pem};
use crate::forge::{Case, NOW, dcap, nitro, snp, software, tpm};
use consilium_attest::policy::{AMD_MILAN_ROOT, AWS_NITRO_ROOT};
use consilium_attest::verifier::dcap::authenticate;
use consilium_attest::verifier::{nitro as nitro_verifier, sev_snp, tpm2};
use consilium_attest::{Collateral, Evidence, Hex, Policy, verify};
use std::ops::Range;

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

/// Where a quote is signed: header and report; their signature and its key; the report of the quoting enclave and its
/// signature; what that report holds a hash of, with its length in front. And where the chain begins.
pub(crate) fn signed_regions(quote: &[u8]) -> ([Range<usize>; 4], usize) {
    let number = |at: usize| usize::from(u16::from_le_bytes(quote[at..at + 2].try_into().unwrap()));
    let (body, outer) = match number(0) {
        3 => (48 + 384, 0),
        4 => (48 + 584, 6),
        other => panic!("version {other}"),
    };
    let key = body + 4;
    let quoting = key + 128 + outer;
    let held = quoting + 384 + 64;
    let end = held + 2 + number(held);
    ([0..body, key..key + 128, quoting..held, held..end], end + 6)
}

fn dcap_roots(policy: &Policy) -> &[Hex<32>] {
    match (&policy.tdx, &policy.sgx_dcap) {
        (Some(rules), None) => &rules.platform.roots,
        (None, Some(rules)) => &rules.platform.roots,
        _ => panic!("one kind"),
    }
}

/// Changes where a forged quote is signed, and a bit of each byte of the two certificates that the signatures hang on.
fn quote(case: &Case) {
    let quote = &case.evidence.body;
    let accepts = |quote: &[u8]| authenticate(quote, &case.collateral, dcap_roots(&case.policy), NOW).is_ok();
    let (regions, chain) = signed_regions(quote);
    for region in regions {
        let found = accepted(&quote[region.clone()], |changed| {
            let mut copy = quote.clone();
            copy[region.clone()].copy_from_slice(changed);
            accepts(&copy)
        });
        assert_eq!(found, 0, "{region:?}");
    }
    let mut at = chain;
    for certificate in &from_pem(&quote[chain..])[..2] {
        let length = to_pem(&[certificate]).len();
        let with = |certificate: &[u8]| {
            let mut copy = quote.clone();
            copy[at..at + length].copy_from_slice(to_pem(&[certificate]).as_bytes());
            copy
        };
        assert_eq!(with(certificate), *quote);
        for byte in 0..certificate.len() {
            let mut changed = certificate.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert!(!accepts(&with(&changed)), "{byte}");
        }
        at += length;
    }
}

#[test]
fn no_bit_of_a_forged_quote_about_an_enclave_may_change() {
    quote(&dcap::sgx(|_| ()));
}

#[test]
fn no_bit_of_a_forged_quote_about_a_trust_domain_may_change() {
    quote(&dcap::tdx(|_| ()));
}

#[test]
fn no_bit_of_the_binding_may_change() {
    let quotes = [dcap::sgx(|_| ()), dcap::tdx(|_| ())];
    let others = [snp::case(|_| ()), nitro::case(|_| ()), tpm::case(|_| ()), software()];
    for case in quotes.into_iter().chain(others) {
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
