//! Enclaves, trust domains, and what Intel says about their platforms.

use super::{changed, refused};
use crate::forge::dcap::{Parts, sgx, tdx};
use crate::forge::{Case, DAY, NOW};
use consilium_attest::policy::{DcapPolicy, Platforms, SgxPolicy, TdxPolicy};
use consilium_attest::{EvidenceKind, Hex, Refusal};
use serde_json::{Value, json};

fn sgx_rules(change: impl FnOnce(&mut SgxPolicy)) -> Case {
    changed(sgx(|_| ()), |case| change(case.policy.sgx_dcap.as_mut().unwrap()))
}

fn tdx_rules(change: impl FnOnce(&mut TdxPolicy)) -> Case {
    changed(tdx(|_| ()), |case| change(case.policy.tdx.as_mut().unwrap()))
}

fn platform_rules(change: impl FnOnce(&mut DcapPolicy)) -> Case {
    tdx_rules(|rules| change(&mut rules.platform))
}

fn measurement(kind: EvidenceKind, register: &str, found: &str) -> Refusal {
    Refusal::Measurement { kind, register: register.to_owned(), found: found.to_owned() }
}

#[test]
fn enclaves() {
    let kind = EvidenceKind::SgxDcap;
    refused(vec![
        (sgx(|parts| parts.set(48, &[7])), Refusal::Debug { kind }),
        (
            sgx_rules(|rules| rules.images[0].mr_enclave = Hex([1; 32])),
            measurement(kind, "MRENCLAVE", &"ee".repeat(32)),
        ),
        (
            sgx_rules(|rules| rules.images[0].mr_signer = Hex([1; 32])),
            measurement(kind, "MRSIGNER", &"dd".repeat(32)),
        ),
        (sgx_rules(|rules| rules.images[0].product = 8), measurement(kind, "the product number", "7")),
        (sgx_rules(|rules| rules.images[0].version_min = 4), measurement(kind, "the security version", "3")),
    ]);
    assert!(matches!(sgx_rules(|rules| rules.images.clear()).refusal(), Refusal::Measurement { .. }));
}

#[test]
fn trust_domains() {
    let kind = EvidenceKind::Tdx;
    refused(vec![
        (tdx(|parts| parts.set(120, &[1])), Refusal::Debug { kind }),
        (
            tdx_rules(|rules| rules.images[0].mr_td = Hex([1; 48])),
            measurement(kind, "MRTD", &"ee".repeat(48)),
        ),
        (
            tdx_rules(|rules| rules.images[0].mr_config_id = Hex([1; 48])),
            measurement(kind, "MRCONFIGID", &"00".repeat(48)),
        ),
    ]);
    assert!(matches!(tdx_rules(|rules| rules.images.clear()).refusal(), Refusal::Measurement { .. }));
    for index in 0..4 {
        let case = tdx_rules(|rules| rules.images[0].rtmr[index] = Hex([1; 48]));
        let found = format!("a{index}").repeat(48);
        assert_eq!(case.refusal(), measurement(kind, &format!("RTMR{index}"), &found));
    }
    // Without the protection that Intel asks for; one that may be moved to another machine.
    for (attributes, word) in [(0, "SEPT_VE_DISABLE"), (0x30, "igrat")] {
        let refusal = tdx(|parts| parts.set(123, &[attributes])).refusal();
        assert!(matches!(&refusal, Refusal::Quote { detail } if detail.contains(word)), "{refusal:?}");
    }
}

#[test]
fn labels_that_do_not_fit_the_quote() {
    let (enclave, domain) = (sgx(|_| ()), tdx(|_| ()));
    let relabelled = |case: &Case, kind| {
        changed(case.clone(), |case| {
            case.evidence.binding.kind = kind;
            // Both have rules, and rules that name the root.
            let (sgx_rules, tdx_rules) = (enclave.policy.sgx_dcap.clone(), domain.policy.tdx.clone());
            (case.policy.sgx_dcap, case.policy.tdx) = (sgx_rules, tdx_rules);
        })
    };
    let (sgx, tdx) = (EvidenceKind::SgxDcap, EvidenceKind::Tdx);
    let roots = |case: &Case| case.policy.tdx.as_ref().map(|rules| rules.platform.roots.clone()).unwrap();
    let mut quote = relabelled(&enclave, tdx);
    let own = enclave.policy.sgx_dcap.as_ref().unwrap().platform.roots.clone();
    quote.policy.tdx.as_mut().unwrap().platform.roots = own;
    assert_eq!(quote.refusal(), Refusal::OtherKind { kind: tdx, found: sgx });
    let mut quote = relabelled(&domain, sgx);
    quote.policy.sgx_dcap.as_mut().unwrap().platform.roots = roots(&domain);
    assert_eq!(quote.refusal(), Refusal::OtherKind { kind: sgx, found: tdx });
}

#[test]
fn platforms() {
    let old = |parts: &mut Parts| parts.set(0, &[1]);
    let status = |status: &str| Refusal::TcbStatus { status: status.to_owned() };
    let with_old = |change: fn(&mut DcapPolicy)| {
        changed(tdx(old), |case| change(&mut case.policy.tdx.as_mut().unwrap().platform))
    };
    let properties = |properties| tdx(move |parts| parts.properties = properties);
    let property = |property| Refusal::PlatformProperty { property };
    refused(vec![
        (tdx(old), status("OutOfDate")),
        (platform_rules(|rules| rules.statuses.clear()), status("UpToDate")),
        (
            with_old(|rules| rules.statuses.push("OutOfDate".to_owned())),
            Refusal::Advisory { advisory: "INTEL-SA-00001".to_owned() },
        ),
        (
            platform_rules(|rules| rules.evaluation_min = 21),
            Refusal::EvaluationTooOld { found: 20, least: 21 },
        ),
        (properties([true, false, false]), property("processors that may be added (a dynamic platform)")),
        (properties([false, true, false]), property("keys kept by Intel's registration service")),
        (properties([false, false, true]), property("cores shared between threads (SMT)")),
        (
            platform_rules(|rules| rules.platforms = Platforms::Listed(vec![])),
            Refusal::Platform { platform: "99".repeat(16) },
        ),
        (tdx(|parts| parts.set(0, &[0])), Refusal::NoTcbLevel),
    ]);
    // The library refuses it before any policy is asked.
    let revoked = |parts: &mut Parts| parts.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("Revoked");
    let case = changed(tdx(revoked), |case| {
        case.policy.tdx.as_mut().unwrap().platform.statuses.push("Revoked".to_owned());
    });
    assert_eq!(case.refusal(), status("Revoked"), "no policy accepts it");
}

#[test]
fn collateral() {
    let date = |seconds: u64| {
        let duration = std::time::Duration::from_secs(seconds);
        Value::String(x509_cert::der::DateTime::from_unix_duration(duration).unwrap().to_string())
    };
    let (ended, begins) = (NOW - 1, NOW + 1);
    let kind = EvidenceKind::SgxDcap;
    let (tcb, quoting) = ("Intel's TCB information", "Intel's quoting enclave identity");
    let subject = "CN=Intel SGX PCK Certificate".to_owned();
    refused(vec![
        (
            sgx(|parts| parts.tcb_info["nextUpdate"] = date(ended)),
            Refusal::CollateralExpired { part: tcb, ended, now: NOW },
        ),
        (
            sgx(|parts| parts.tcb_info["issueDate"] = date(begins)),
            Refusal::CollateralEarly { part: tcb, begins, now: NOW },
        ),
        (
            sgx(|parts| parts.qe_identity["nextUpdate"] = date(ended)),
            Refusal::CollateralExpired { part: quoting, ended, now: NOW },
        ),
        (
            sgx(|parts| parts.platform.to = ended),
            Refusal::CertificateExpired { subject: subject.clone(), ended, now: NOW },
        ),
        (sgx(|parts| parts.revoked = vec![4]), Refusal::Revoked { subject }),
        (
            changed(sgx(|_| ()), |case| case.collateral.dcap = None),
            Refusal::CollateralMissing { kind, part: "data of Intel about the platform" },
        ),
        (
            changed(sgx(|_| ()), |case| case.collateral.dcap = Some("{}".to_owned())),
            Refusal::Malformed { part: "the data of Intel about the platform" },
        ),
    ]);
    assert_eq!(
        sgx(|parts| parts.tcb_info["nextUpdate"] = date(NOW + 60)).verdict().unwrap().valid_until(),
        NOW + 60
    );
    // Another quoting enclave than Intel's.
    let other = sgx(|parts| parts.qe_identity["mrsigner"] = json!("00".repeat(32)));
    assert!(matches!(other.refusal(), Refusal::Quote { .. }));
    // The lists of one day, with the signature of another.
    let (old, new) = (sgx(|_| ()), sgx(|parts| parts.tcb_info["issueDate"] = date(NOW - 2 * DAY)));
    let parse = |case: &Case| serde_json::from_str::<Value>(case.collateral.dcap.as_ref().unwrap()).unwrap();
    let mut mixed = parse(&old);
    mixed["tcb_info"] = parse(&new)["tcb_info"].clone();
    let mixed = changed(old, |case| case.collateral.dcap = Some(mixed.to_string()));
    assert!(matches!(mixed.refusal(), Refusal::Quote { .. }));
}
