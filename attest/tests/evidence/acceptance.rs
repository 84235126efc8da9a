//! Evidence for our own binding, under roots that the policy names, is accepted, and says what it proves.

use crate::forge::certificate::fingerprint;
use crate::forge::{DAY, NOW, all, binding, nitro, snp, software, tpm};
use consilium_attest::EvidenceKind;

#[test]
fn every_kind_is_accepted_and_hands_out_the_bound_keys() {
    for case in all() {
        let module = case.verdict().unwrap();
        let binding = binding(module.kind());
        assert_eq!(module.boot(), binding.boot);
        assert_eq!(module.channel_key(), binding.channel_key);
        assert_eq!(module.receipt_key(), binding.receipt_key);
        assert_eq!((module.verified_at(), module.valid_until()), (NOW, NOW + 3600));
    }
}

#[test]
fn a_verdict_says_what_was_measured_and_where() {
    let snp = snp::case(|_| ()).verdict().unwrap();
    assert_eq!(snp.measurement(), "ee".repeat(48));
    assert_eq!((snp.platform(), snp.level()), ("c4".repeat(64).as_str(), "VCEK TCB 0.3.0.8.115"));
    let nitro = nitro::case(|_| ()).verdict().unwrap();
    assert!(nitro.measurement().starts_with(&format!("PCR0 {} PCR1 0202", "01".repeat(48))));
    assert_eq!(nitro.platform(), "i-0123456789abcdef0");
    let tpm = tpm::case(|_| ()).verdict().unwrap();
    assert!(tpm.level().contains("not against the machine's owner"));
    let software = software().verdict().unwrap();
    assert_eq!(software.kind(), EvidenceKind::Software);
    assert!(software.to_string().contains("NOTHING vouches"), "{software}");
}

#[test]
fn a_verdict_ends_with_the_first_thing_that_ends() {
    let policy = |case: &mut crate::forge::Case| case.policy.reattest_after_secs = DAY;
    let mut soon = nitro::case(|parts| parts.leaf.to = NOW + 600);
    policy(&mut soon);
    let module = soon.verdict().unwrap();
    assert_eq!(module.valid_until(), NOW + 600);
    assert!(module.holds_at(NOW) && module.holds_at(NOW + 600));
    assert!(!module.holds_at(NOW + 601) && !module.holds_at(NOW - 1));
    let mut listed = snp::case(|_| ());
    let list = crate::forge::certificate::revoke(&[], snp::ROOT, &snp::KEYS.root, NOW - DAY, Some(NOW + 900));
    listed.collateral.revocation_lists.push(list);
    policy(&mut listed);
    assert_eq!(listed.verdict().unwrap().valid_until(), NOW + 899);
}

#[test]
fn a_provider_key_is_accepted_where_the_policy_says_so() {
    let provider = "1.3.6.1.4.1.3704.1.5";
    let mut case = snp::case(|parts| {
        parts.leaf = snp::leaf(provider, b"\x16\x04test");
        parts.set(0x48, &4u32.to_le_bytes());
    });
    case.policy.sev_snp.as_mut().unwrap().signers = vec![consilium_attest::policy::SnpSigner::Vlek];
    assert!(case.verdict().unwrap().level().starts_with("VLEK"));
}

#[test]
fn turin_lays_its_versions_out_in_another_way() {
    let mut case = snp::case(|parts| {
        parts.set(0x00, &5u32.to_le_bytes());
        parts.set(0x188, &[0x1a, 2, 1]);
        parts.set(0x180, &[1, 3, 0, 8, 0, 0, 0, 0x73]);
        parts.set(0x1e0, &[1, 3, 0, 8, 0, 0, 0, 0x73]);
        parts.set(0x1a0, &[0; 64]);
        parts.set(0x1a0, &[0xc4; 8]);
        parts.leaf =
            snp::leaf("1.3.6.1.4.1.3704.1.4", &[0xc4; 8]).with("1.3.6.1.4.1.3704.1.3.9", false, &[2, 1, 1]);
    });
    let chip = format!("{}{}", "c4".repeat(8), "00".repeat(56));
    case.policy.sev_snp.as_mut().unwrap().platforms = consilium_attest::policy::Platforms::Listed(vec![chip]);
    assert_eq!(case.verdict().unwrap().level(), "VCEK TCB 1.3.0.8.115");
}

#[test]
fn roots_are_told_by_their_hash() {
    let case = snp::case(|_| ());
    let root = case.collateral.certificates.last().unwrap();
    assert_eq!(case.policy.sev_snp.as_ref().unwrap().roots, [fingerprint(root)]);
}
