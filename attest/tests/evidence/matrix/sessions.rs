//! Kinds, questions, sessions and parties.

use super::{changed, refused};
use crate::forge::{Case, NOW, all, binding, nitro, refusing, snp, software, tpm};
use consilium_attest::policy::SoftwarePolicy;
use consilium_attest::{Binding, Evidence, EvidenceKind, Refusal};

#[test]
fn a_kind_without_a_table_is_refused() {
    for mut case in all() {
        let kind = case.evidence.binding.kind;
        case.policy = refusing();
        let reason = match kind {
            EvidenceKind::Software => Refusal::SoftwareNotAllowed,
            kind => Refusal::KindNotAllowed { kind },
        };
        assert_eq!(case.refusal(), reason);
    }
    // The tables of all other kinds do not help.
    let everything = all().into_iter().fold(refusing(), |mut policy, case| {
        policy.sev_snp = policy.sev_snp.or(case.policy.sev_snp);
        policy.nitro = policy.nitro.or(case.policy.nitro);
        policy.tpm2 = policy.tpm2.or(case.policy.tpm2);
        policy
    });
    let software = changed(software(), |case| case.policy = everything.clone());
    assert_eq!(software.refusal(), Refusal::SoftwareNotAllowed);
    let quote = changed(snp::case(|_| ()), |case| {
        case.evidence.binding.kind = EvidenceKind::Tdx;
        case.policy = everything;
    });
    assert_eq!(quote.refusal(), Refusal::KindNotAllowed { kind: EvidenceKind::Tdx });
}

#[test]
fn a_kind_that_nobody_knows_is_refused_by_name() {
    let bytes = nitro::case(|_| ()).evidence.encode();
    let at = bytes.windows(5).position(|part| part == b"nitro").unwrap();
    for name in ["magic", "Nitro", "nitr\u{7}"] {
        let changed = [&bytes[..at], name.as_bytes(), &bytes[at + 5..]].concat();
        let shown = name.replace('\u{7}', "?");
        assert_eq!(Evidence::decode(&changed), Err(Refusal::UnknownKind { name: shown }));
    }
}

#[test]
fn software_must_be_allowed_in_so_many_words() {
    let mut case = software();
    case.policy.software = Some(SoftwarePolicy { allow: false });
    assert_eq!(case.refusal(), Refusal::SoftwareNotAllowed);
}

#[test]
fn evidence_for_another_session_is_refused_whatever_its_kind() {
    for case in all() {
        refused(vec![
            (changed(case.clone(), |case| case.expected.nonce[0] ^= 1), Refusal::Nonce),
            (changed(case.clone(), |case| case.expected.channel_key[31] ^= 1), Refusal::ChannelKey),
            (changed(case.clone(), |case| case.expected.policy[9] ^= 1), Refusal::Roster),
            (changed(case.clone(), |case| case.expected.verifier.push(0)), Refusal::Verifier),
            (changed(case.clone(), |case| case.evidence.binding.boot[0] ^= 1), Refusal::Unbound),
            (
                changed(case.clone(), |case| case.expected.asked = NOW - 121),
                Refusal::Stale { age: 121, most: 120 },
            ),
            (
                changed(case.clone(), |case| case.expected.asked = NOW + 61),
                Refusal::FromTheFuture { ahead: 61 },
            ),
        ]);
        let receipts = changed(case, |case| case.evidence.binding.receipt_key[0] ^= 1);
        assert_eq!(receipts.refusal(), Refusal::Unbound);
    }
}

#[test]
fn a_stranger_that_relabels_evidence_for_us_is_caught_by_the_signature() {
    // The other party's evidence, with our name, nonce and channel written over its own.
    for mut case in all() {
        let body = case.evidence.body.clone();
        for change in [
            |binding: &mut Binding| binding.nonce = [9; 32],
            |binding: &mut Binding| binding.channel_key = [9; 32],
            |binding: &mut Binding| binding.policy = [9; 32],
            |binding: &mut Binding| binding.verifier = b"another".to_vec(),
        ] {
            let mut claimed = binding(case.evidence.binding.kind);
            change(&mut claimed);
            case.expected.nonce = claimed.nonce;
            case.expected.channel_key = claimed.channel_key;
            case.expected.policy = claimed.policy;
            case.expected.verifier.clone_from(&claimed.verifier);
            case.evidence = Evidence { binding: claimed, body: body.clone(), ..case.evidence };
            assert_eq!(case.refusal(), Refusal::Unbound);
        }
    }
}

#[test]
fn a_document_whose_own_fields_tell_another_story_is_refused() {
    use ciborium::Value;
    for (field, value) in [
        ("public_key", Value::Bytes(vec![1; 32])),
        ("public_key", Value::Null),
        ("nonce", Value::Bytes(vec![1; 32])),
        ("nonce", Value::Null),
        ("user_data", Value::Null),
        ("user_data", Value::Bytes(vec![0; 64])),
    ] {
        assert_eq!(nitro::case(|parts| parts.set(field, value)).refusal(), Refusal::Unbound);
    }
}

#[test]
fn a_quote_over_half_or_all_of_another_hash_is_refused() {
    assert_eq!(tpm::case(|parts| parts.extra = vec![0; 32]).refusal(), Refusal::Unbound);
    let whole = binding(EvidenceKind::Tpm2).report_data().to_vec();
    assert_eq!(tpm::case(|parts| parts.extra = whole).refusal(), Refusal::Unbound);
    assert_eq!(tpm::case(|parts| parts.extra.clear()).refusal(), Refusal::Unbound);
}

#[test]
fn times_and_images_that_mean_nothing_are_refused_with_the_policy() {
    let problem = |change: fn(&mut Case), from: fn() -> Case| match changed(from(), change).refusal() {
        Refusal::Policy { problem } => problem,
        other => panic!("{other:?}"),
    };
    let snp = || snp::case(|_| ());
    let nitro = || nitro::case(|_| ());
    let tpm = || tpm::case(|_| ());
    for age in [
        |case: &mut Case| case.policy.evidence_age_max_secs = 0,
        |case: &mut Case| {
            case.policy.evidence_age_max_secs = 3601;
        },
    ] {
        assert!(problem(age, snp).contains("evidence_age_max_secs"));
    }
    for interval in [
        |case: &mut Case| case.policy.reattest_after_secs = 0,
        |case: &mut Case| {
            case.policy.reattest_after_secs = 24 * 3600 + 1;
        },
    ] {
        assert!(problem(interval, snp).contains("reattest_after_secs"));
    }
    let host = |case: &mut Case| case.policy.sev_snp.as_mut().unwrap().vmpl_max = 4;
    assert!(problem(host, snp).contains("vmpl_max"));
    let missing = |case: &mut Case| {
        case.policy.nitro.as_mut().unwrap().images[0].registers.remove(1);
    };
    assert!(problem(missing, nitro).contains("PCR 0, 1 and 2"));
    let twice = |case: &mut Case| {
        let registers = &mut case.policy.nitro.as_mut().unwrap().images[0].registers;
        registers.push(registers[0]);
    };
    assert!(problem(twice, nitro).contains("twice"));
    let none = |case: &mut Case| case.policy.tpm2.as_mut().unwrap().images[0].registers.clear();
    assert!(problem(none, tpm).contains("accepts everything"));
    let above = |case: &mut Case| case.policy.tpm2.as_mut().unwrap().images[0].registers[0].index = 24;
    assert!(problem(above, tpm).contains("above 23"));
}
