//! AMD SEV-SNP.

use super::policy;
use crate::capture::{read, read_all};
use crate::forge::certificate::{fingerprint, from_pem};
use crate::forge::{Case, binding};
use consilium_attest::policy::{AMD_MILAN_ROOT, Platforms, SevSnpPolicy, SnpSigner, SnpVersions};
use consilium_attest::verifier::sev_snp::{VerifiedSnpReport, authenticate};
use consilium_attest::{Collateral, EvidenceKind, Hex, Policy, Refusal};

/// In the validity of all certificates.
const NOW: u64 = 1_750_464_000;
const ASK: &str = "sev-snp/milan-ask-ark.pem";
const ASVK: &str = "sev-snp/milan-asvk-ark.pem";

struct Capture {
    body: Vec<u8>,
    leaf: Vec<u8>,
    collateral: Collateral,
}

fn capture(report: &str, leaf: &str, chain: &str) -> Option<Capture> {
    let [body, leaf, pem] = read_all([&format!("sev-snp/{report}"), &format!("sev-snp/{leaf}"), chain])?;
    Some(Capture {
        body,
        leaf,
        collateral: Collateral { certificates: from_pem(&pem), ..Collateral::default() },
    })
}

impl Capture {
    fn authentic(&self, now: u64) -> Result<VerifiedSnpReport, Refusal> {
        authenticate(&self.body, std::slice::from_ref(&self.leaf), &self.collateral, &[AMD_MILAN_ROOT], now)
    }

    /// Rules that take just this report.
    fn rules(&self) -> SevSnpPolicy {
        let field = |at: usize| self.body[at..at + 48].try_into().unwrap();
        SevSnpPolicy {
            roots: vec![AMD_MILAN_ROOT],
            measurements: vec![Hex(field(0x90))],
            host_data: vec![Hex([0; 32])],
            signers: vec![SnpSigner::Vcek],
            vmpl_max: 0,
            versions_min: SnpVersions { fmc: 0, boot_loader: 2, tee: 0, snp: 5, microcode: 0x44 },
            allow_smt: true,
            require_revocation_list: false,
            platforms: Platforms::Any,
        }
    }
}

fn milan() -> Option<Capture> {
    capture("report-milan.bin", "vcek-milan.der", ASK)
}

#[test]
fn reports_of_milan_are_good() {
    for (report, leaf) in [("report-milan.bin", "vcek-milan.der"), ("report-milan-2.bin", "vcek-milan-2.der")]
    {
        let Some(capture) = capture(report, leaf, ASK) else { return };
        capture.authentic(NOW).unwrap().appraise(&capture.rules()).unwrap();
    }
}

#[test]
fn certificates_count_in_their_days_only() {
    let Some(milan) = milan() else { return };
    // The VCEK runs from 2023-04-03 19:23:43 to the same second of 2030.
    let (first, last) = (1_680_549_823, 1_901_474_623);
    assert!(milan.authentic(first).is_ok() && milan.authentic(last).is_ok());
    let early = milan.authentic(first - 1).unwrap_err();
    assert!(matches!(early, Refusal::CertificateEarly { begins, .. } if begins == first), "{early:?}");
    let late = milan.authentic(last + 1).unwrap_err();
    assert!(matches!(late, Refusal::CertificateExpired { ended, .. } if ended == last), "{late:?}");
}

#[test]
fn the_root_is_that_of_amd() {
    for chain in [ASK, ASVK] {
        let Some(pem) = read(chain) else { return };
        assert_eq!(fingerprint(&from_pem(&pem)[1]), AMD_MILAN_ROOT);
    }
}

#[test]
fn a_report_of_a_debuggable_guest_is_authentic_and_refused() {
    let names = ("report-milan-debug-policy.bin", "vcek-milan-debug-policy.der");
    let Some(capture) = capture(names.0, names.1, ASK) else { return };
    let refused = capture.authentic(NOW).unwrap().appraise(&capture.rules());
    assert_eq!(refused, Err(Refusal::Debug { kind: EvidenceKind::SevSnp }));
}

#[test]
fn a_provider_key_leads_to_its_own_intermediate_and_must_be_allowed() {
    let (report, leaf) = ("report-milan-vlek.bin", "vlek-milan.der");
    let Some(good) = capture(report, leaf, ASVK) else { return };
    let authentic = good.authentic(NOW).unwrap();
    let refused = authentic.appraise(&good.rules());
    assert_eq!(refused, Err(Refusal::Signer { signer: "VLEK" }));
    let mut rules = good.rules();
    rules.signers = vec![SnpSigner::Vlek];
    assert_eq!(authentic.appraise(&rules), Err(Refusal::PrivilegeLevel { found: 1, most: 0 }));
    rules.vmpl_max = 1;
    authentic.appraise(&rules).unwrap();
    let other = capture(report, leaf, ASK).unwrap().authentic(NOW).unwrap_err();
    assert!(matches!(other, Refusal::Issuer { .. }), "{other:?}");
}

#[test]
fn reports_and_certificates_do_not_mix() {
    let Some(milan) = milan() else { return };
    let Some(other) = capture("report-milan.bin", "vcek-milan-2.der", ASK) else { return };
    assert_eq!(other.authentic(NOW), Err(Refusal::Signature { part: "the SEV-SNP report" }));
    let fewer = authenticate(&milan.body, &[], &milan.collateral, &[AMD_MILAN_ROOT], NOW).unwrap_err();
    assert!(matches!(fewer, Refusal::CollateralMissing { .. }), "{fewer:?}");
    let twice = [milan.leaf.clone(), milan.leaf.clone()];
    let more = authenticate(&milan.body, &twice, &milan.collateral, &[AMD_MILAN_ROOT], NOW).unwrap_err();
    assert!(matches!(more, Refusal::CollateralMissing { .. }), "{more:?}");
}

#[test]
fn a_capture_vouches_for_no_module_of_ours() {
    let Some(milan) = milan() else { return };
    let policy = Policy { sev_snp: Some(milan.rules()), ..policy() };
    let mut case = Case::new(binding(EvidenceKind::SevSnp), milan.body, policy);
    case.evidence.endorsements = vec![milan.leaf];
    case.collateral = milan.collateral;
    (case.now, case.expected.asked) = (NOW, NOW);
    assert_eq!(case.refusal(), Refusal::Unbound);
}
