//! Certificates, roots and lists of revoked ones.

use super::{changed, refused};
use crate::forge::certificate::{Draft, Key, P384, revoke, revoke_under};
use crate::forge::snp::{INTERMEDIATE_SERIAL, KEYS, ROOT};
use crate::forge::{Case, DAY, NOW, nitro, snp};
use consilium_attest::{EvidenceKind, Hex, Refusal};

fn expired(subject: &str, ended: u64) -> Refusal {
    Refusal::CertificateExpired { subject: subject.to_owned(), ended, now: NOW }
}

fn early(subject: &str, begins: u64) -> Refusal {
    Refusal::CertificateEarly { subject: subject.to_owned(), begins, now: NOW }
}

#[test]
fn every_certificate_counts_in_its_days_only() {
    refused(vec![
        (snp::case(|parts| parts.leaf.to = NOW - 1), expired("CN=SEV-VCEK", NOW - 1)),
        (snp::case(|parts| parts.intermediate.to = NOW - 1), expired("CN=Test SEV", NOW - 1)),
        (snp::case(|parts| parts.root.to = NOW - 1), expired("CN=Test ARK", NOW - 1)),
        (snp::case(|parts| parts.leaf.from = NOW + 1), early("CN=SEV-VCEK", NOW + 1)),
        (snp::case(|parts| parts.intermediate.from = NOW + 1), early("CN=Test SEV", NOW + 1)),
        (snp::case(|parts| parts.root.from = NOW + 1), early("CN=Test ARK", NOW + 1)),
        (nitro::case(|parts| parts.leaf.to = NOW - 1), expired("CN=enclave", NOW - 1)),
        (nitro::case(|parts| parts.root.from = NOW + 1), early("CN=test.nitro-enclaves", NOW + 1)),
    ]);
    let at_the_edge = snp::case(|parts| (parts.leaf.from, parts.leaf.to) = (NOW, NOW));
    assert_eq!(at_the_edge.verdict().unwrap().valid_until(), NOW);
}

#[test]
fn chains_that_do_not_hold_are_refused() {
    let authority = |issues| move |parts: &mut snp::Parts| parts.intermediate.issues = issues;
    let no_issuer = |subject: &str| Refusal::NotAnIssuer { subject: subject.to_owned() };
    let subject = "CN=SEV-VCEK".to_owned();
    let unknown = |parts: &mut snp::Parts| {
        parts.leaf.extensions.push(crate::forge::certificate::extension("2.5.29.30", true, &[0x30, 0]));
    };
    refused(vec![
        (snp::case(authority(None)), no_issuer("CN=Test SEV")),
        (snp::case(|parts| parts.root.issues = Some(Some(0))), no_issuer("CN=Test ARK")),
        (snp::case(|parts| parts.leaf.issues = Some(None)), Refusal::LeafIssues { subject: subject.clone() }),
        (snp::case(unknown), Refusal::CriticalExtension { subject, extension: "2.5.29.30".to_owned() }),
    ]);
    assert!(snp::case(authority(Some(Some(0)))).verdict().is_ok(), "no issuer below it is what it asks for");
    // Certificate signing is not among the usages of the key.
    let usage = snp::case(|parts| {
        parts.intermediate = parts.intermediate.clone().with("2.5.29.15", true, &[3, 2, 7, 0x80]);
    });
    assert_eq!(usage.refusal(), no_issuer("CN=Test SEV"));
    let twice = snp::case(|parts| {
        let again = parts.leaf.extensions[0].clone();
        parts.leaf.extensions.push(again);
    });
    assert_eq!(twice.refusal(), Refusal::Malformed { part: "a certificate" });
}

#[test]
fn other_roots_and_issuers_are_refused() {
    let case = snp::case(|_| ());
    let fingerprint = case.policy.sev_snp.as_ref().unwrap().roots[0];
    let unnamed =
        changed(case.clone(), |case| case.policy.sev_snp.as_mut().unwrap().roots = vec![Hex([0; 32])]);
    assert_eq!(unnamed.refusal(), Refusal::UnknownRoot { fingerprint });
    let none = changed(case.clone(), |case| case.policy.sev_snp.as_mut().unwrap().roots.clear());
    assert_eq!(none.refusal(), Refusal::UnknownRoot { fingerprint });
    // A root of the same name with another key is another root.
    let (own, other) = (Key::new(P384), Key::new(P384));
    let draft = Draft::authority(ROOT, 1);
    let impostor = changed(case.clone(), |case| {
        case.collateral.certificates[1] = draft.sign(&own, ROOT, &own);
    });
    assert!(matches!(impostor.refusal(), Refusal::UnknownRoot { .. }));
    // An intermediate of the right name that the root has not signed.
    let forged = changed(case.clone(), |case| {
        let subject = "CN=Test SEV";
        case.collateral.certificates[0] = Draft::authority(subject, 2).sign(&other, ROOT, &own);
    });
    assert_eq!(forged.refusal(), Refusal::Signature { part: "a certificate" });
    let stranger = changed(case.clone(), |case| {
        case.collateral.certificates[0] = Draft::authority("CN=Else", 2).sign(&other, ROOT, &own);
    });
    assert!(matches!(stranger.refusal(), Refusal::Issuer { .. }));
    let swapped = changed(case.clone(), |case| case.collateral.certificates.swap(0, 1));
    assert!(matches!(swapped.refusal(), Refusal::UnknownRoot { .. }));
    let missing = changed(case, |case| case.collateral.certificates.truncate(1));
    assert!(matches!(missing.refusal(), Refusal::CollateralMissing { kind: EvidenceKind::SevSnp, .. }));
}

#[test]
fn a_list_that_leaves_something_out_is_refused() {
    let under = |id: &str, content: &[u8]| listed(revoke_under(id, content, ROOT, &KEYS.root));
    let part = |id: &str| Refusal::PartialList { extension: id.to_owned() };
    let point = "2.5.29.28";
    // What changed since list 1; one that this verifier does not know; only the certificates of users, of
    // attributes, of other issuers; only some reasons; no point at all.
    for (id, content) in [
        ("2.5.29.27", &[2, 1, 1][..]),
        ("2.5.29.99", &[5, 0]),
        (point, &[0x30, 3, 0x81, 1, 0xff]),
        (point, &[0x30, 3, 0x85, 1, 0xff]),
        (point, &[0x30, 3, 0x84, 1, 0xff]),
        (point, &[0x30, 4, 0x83, 2, 0, 0x40]),
        (point, &[5, 0]),
    ] {
        assert_eq!(under(id, content).refusal(), part(id), "{content:?}");
    }
    // All certificates of issuers are in it.
    for content in [&[0x30, 0][..], &[0x30, 3, 0x82, 1, 0xff]] {
        assert!(under(point, content).verdict().is_ok(), "{content:?}");
    }
}

fn listed(list: Vec<u8>) -> Case {
    changed(snp::case(|_| ()), |case| {
        case.collateral.revocation_lists = vec![list];
        case.policy.sev_snp.as_mut().unwrap().require_revocation_list = true;
    })
}

#[test]
fn revoked_certificates_and_lists_that_do_not_count_are_refused() {
    const PART: &str = "a list of revoked certificates";
    let (begins, ended) = (NOW + 1, NOW - 1);
    let own = |serials: &[u8], from, to| revoke(serials, ROOT, &KEYS.root, from, to);
    let kind = EvidenceKind::SevSnp;
    refused(vec![
        (
            listed(own(&[9, INTERMEDIATE_SERIAL], NOW - DAY, Some(NOW + 1))),
            Refusal::Revoked { subject: "CN=Test SEV".to_owned() },
        ),
        (listed(own(&[], NOW - DAY, Some(NOW))), Refusal::CollateralExpired { part: PART, ended, now: NOW }),
        (
            listed(own(&[], begins, Some(NOW + DAY))),
            Refusal::CollateralEarly { part: PART, begins, now: NOW },
        ),
        (listed(own(&[], NOW - DAY, None)), Refusal::Malformed { part: PART }),
        (
            listed(revoke(&[], ROOT, &Key::new(P384), NOW - DAY, Some(NOW + DAY))),
            Refusal::Signature { part: PART },
        ),
        (
            listed(revoke(&[], "CN=Else", &KEYS.root, NOW - DAY, Some(NOW + DAY))),
            Refusal::CollateralMissing { kind, part: "list of AMD's revoked certificates" },
        ),
    ]);
    assert!(listed(own(&[9], NOW - DAY, Some(NOW + 1))).verdict().is_ok());
    // Nobody asks for a list, but one is there that names the certificate.
    let mut volunteered = listed(own(&[INTERMEDIATE_SERIAL], NOW - DAY, Some(NOW + 1)));
    volunteered.policy.sev_snp.as_mut().unwrap().require_revocation_list = false;
    assert!(matches!(volunteered.refusal(), Refusal::Revoked { .. }));
}
