//! Intel SGX and TDX.

use super::policy;
use crate::capture::{read, read_all};
use crate::flips::{accepted, signed_regions};
use crate::forge::{Case, binding};
use consilium_attest::policy::{
    DcapPolicy, INTEL_SGX_ROOT, Platforms, SgxImage, SgxPolicy, TdxImage, TdxPolicy,
};
use consilium_attest::verifier::dcap::{VerifiedQuote, authenticate};
use consilium_attest::{Collateral, EvidenceKind, Hex, Policy, Refusal};

const NOW: u64 = 1_750_464_000;
/// When the successor of the first list in the collateral of the TDX quote is due.
const TDX_END: u64 = 1_752_919_235;

pub(crate) struct Capture {
    pub(crate) body: Vec<u8>,
    pub(crate) collateral: Collateral,
}

fn capture(quote: &str, collateral: &str) -> Option<Capture> {
    let [body, text] = read_all([quote, collateral])?;
    let dcap = Some(String::from_utf8(text).unwrap());
    Some(Capture { body, collateral: Collateral { dcap, ..Collateral::default() } })
}

pub(crate) fn sgx() -> Option<Capture> {
    capture("sgx-dcap/quote.bin", "sgx-dcap/collateral.json")
}

pub(crate) fn tdx() -> Option<Capture> {
    capture("tdx-dcap/quote.bin", "tdx-dcap/collateral.json")
}

impl Capture {
    pub(crate) fn authentic(&self, now: u64) -> Result<VerifiedQuote, Refusal> {
        authenticate(&self.body, &self.collateral, &[INTEL_SGX_ROOT], now)
    }

    fn field<const N: usize>(&self, at: usize) -> Hex<N> {
        Hex(self.body[48 + at..48 + at + N].try_into().unwrap())
    }
}

/// Nothing but an up-to-date platform.
fn strict() -> DcapPolicy {
    DcapPolicy {
        roots: vec![INTEL_SGX_ROOT],
        statuses: vec!["UpToDate".to_owned()],
        advisories: vec![],
        evaluation_min: 17,
        allow_dynamic_platform: false,
        allow_cached_keys: false,
        allow_smt: false,
        platforms: Platforms::Any,
    }
}

fn sgx_rules(capture: &Capture) -> SgxPolicy {
    let image =
        SgxImage { mr_enclave: capture.field(64), mr_signer: capture.field(128), product: 0, version_min: 0 };
    SgxPolicy { images: vec![image], platform: strict() }
}

fn tdx_rules(capture: &Capture) -> TdxPolicy {
    let rtmr = [328, 376, 424, 472].map(|at| capture.field(at));
    let image = TdxImage { mr_td: capture.field(136), rtmr, mr_config_id: capture.field(184) };
    TdxPolicy { images: vec![image], platform: strict() }
}

#[test]
fn the_sgx_quote_is_good_on_a_platform_that_a_strict_policy_refuses() {
    let Some(capture) = sgx() else { return };
    let quote = capture.authentic(NOW).unwrap();
    let mut rules = sgx_rules(&capture);
    rules.images[0].product = u16::from_le_bytes(capture.field::<2>(256).0);
    let status = "ConfigurationAndSWHardeningNeeded".to_owned();
    assert_eq!(quote.appraise_sgx(&rules), Err(Refusal::TcbStatus { status: status.clone() }));
    rules.platform.statuses.push(status);
    let mut advisories = Vec::new();
    while let Err(Refusal::Advisory { advisory }) = quote.appraise_sgx(&rules) {
        advisories.push(advisory.clone());
        rules.platform.advisories.push(advisory);
    }
    advisories.sort();
    assert_eq!(advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    quote.appraise_sgx(&rules).unwrap();
    assert!(matches!(quote.appraise_tdx(&tdx_like(&rules)), Err(Refusal::OtherKind { .. })));
}

/// The rules for the platform, for the other kind.
fn tdx_like(rules: &SgxPolicy) -> TdxPolicy {
    TdxPolicy { images: vec![], platform: rules.platform.clone() }
}

#[test]
fn the_tdx_quote_is_good_on_a_platform_with_three_properties() {
    let Some(capture) = tdx() else { return };
    let quote = capture.authentic(NOW).unwrap();
    let mut rules = tdx_rules(&capture);
    let mut next = || match quote.appraise_tdx(&rules) {
        Err(Refusal::PlatformProperty { property }) => {
            match property {
                property if property.contains("dynamic") => rules.platform.allow_dynamic_platform = true,
                property if property.contains("keys") => rules.platform.allow_cached_keys = true,
                _ => rules.platform.allow_smt = true,
            }
            true
        }
        other => {
            other.unwrap();
            false
        }
    };
    assert!(next() && next() && next() && !next());
    rules.platform.evaluation_min = 18;
    assert_eq!(quote.appraise_tdx(&rules), Err(Refusal::EvaluationTooOld { found: 17, least: 18 }));
    rules.platform.evaluation_min = 17;
    rules.platform.platforms = Platforms::Listed(vec![]);
    assert!(matches!(quote.appraise_tdx(&rules), Err(Refusal::Platform { .. })));
    for (register, change) in [
        ("MRTD", (|image| image.mr_td.0[0] ^= 1) as fn(&mut TdxImage)),
        ("RTMR0", |image| image.rtmr[0].0[0] ^= 1),
        ("RTMR3", |image| image.rtmr[3].0[47] ^= 1),
        ("MRCONFIGID", |image| image.mr_config_id.0[0] ^= 1),
    ] {
        let mut other = rules.clone();
        change(&mut other.images[0]);
        let refused = quote.appraise_tdx(&other).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Measurement { register: found, .. } if found == register),
            "{refused:?}"
        );
    }
}

#[test]
fn collateral_counts_until_its_first_part_ends() {
    let Some(capture) = tdx() else { return };
    assert!(capture.authentic(TDX_END - 1).is_ok());
    let late = capture.authentic(TDX_END).unwrap_err();
    assert!(matches!(late, Refusal::CollateralExpired { now: TDX_END, .. }), "{late:?}");
    let early = capture.authentic(NOW - 365 * 24 * 3600).unwrap_err();
    assert!(matches!(early, Refusal::CollateralEarly { .. }), "{early:?}");
    let Some(sgx) = sgx() else { return };
    let far = sgx.authentic(NOW + 365 * 24 * 3600).unwrap_err();
    assert!(matches!(far, Refusal::CollateralExpired { .. }), "{far:?}");
}

#[test]
fn a_platform_below_all_levels_is_refused() {
    let names = ("tdx-dcap/quote-no-matching-tcb.bin", "tdx-dcap/quote-no-matching-tcb-collateral.json");
    let Some(capture) = capture(names.0, names.1) else { return };
    assert_eq!(capture.authentic(1_771_545_600), Err(Refusal::NoTcbLevel));
}

#[test]
fn quotes_without_collateral_are_read_and_refused() {
    for name in ["tdx-dcap/google-tdx-quote-v4-spr.bin", "tdx-dcap/google-quote-v5.bin"] {
        let Some(body) = read(name) else { return };
        let refused = authenticate(&body, &Collateral::default(), &[INTEL_SGX_ROOT], NOW).unwrap_err();
        let kind = EvidenceKind::Tdx;
        assert_eq!(refused, Refusal::CollateralMissing { kind, part: "data of Intel about the platform" });
    }
}

#[test]
fn other_roots_and_collateral_of_another_platform_are_refused() {
    let (Some(sgx), Some(tdx)) = (sgx(), tdx()) else { return };
    let other = authenticate(&sgx.body, &sgx.collateral, &[Hex([1; 32])], NOW);
    assert_eq!(other, Err(Refusal::UnknownRoot { fingerprint: INTEL_SGX_ROOT }));
    for (body, collateral) in [(&sgx.body, &tdx.collateral), (&tdx.body, &sgx.collateral)] {
        let mixed = authenticate(body, collateral, &[INTEL_SGX_ROOT], NOW).unwrap_err();
        assert!(matches!(mixed, Refusal::Quote { .. }), "{mixed:?}");
    }
    // One digit of a date, which Intel signed.
    let text = sgx.collateral.dcap.as_ref().unwrap();
    assert!(text.contains("2025-07-19T10:56:11Z"));
    let later = text.replace("2025-07-19T10:56:11Z", "2025-09-19T10:56:11Z");
    let collateral = Collateral { dcap: Some(later), ..Collateral::default() };
    let changed = authenticate(&sgx.body, &collateral, &[INTEL_SGX_ROOT], NOW).unwrap_err();
    assert!(matches!(changed, Refusal::Quote { .. }), "{changed:?}");
}

#[test]
fn no_bit_may_change_where_a_quote_is_signed() {
    for (capture, all) in [(sgx(), 1046), (tdx(), 1252)] {
        let Some(capture) = capture else { return };
        let (regions, chain) = signed_regions(&capture.body);
        assert_eq!((regions[3].end, chain), (all, all + 6));
        for region in regions {
            let found = accepted(&capture.body[region.clone()], |changed| {
                let mut body = capture.body.clone();
                body[region.clone()].copy_from_slice(changed);
                authenticate(&body, &capture.collateral, &[INTEL_SGX_ROOT], NOW).is_ok()
            });
            assert_eq!(found, 0, "{region:?}");
        }
    }
}

#[test]
fn a_capture_vouches_for_no_module_of_ours() {
    let Some(capture) = tdx() else { return };
    let mut rules = tdx_rules(&capture);
    (rules.platform.allow_dynamic_platform, rules.platform.allow_cached_keys) = (true, true);
    rules.platform.allow_smt = true;
    let policy = Policy { tdx: Some(rules), ..policy() };
    let mut case = Case::new(binding(EvidenceKind::Tdx), capture.body, policy);
    case.collateral = capture.collateral;
    (case.now, case.expected.asked) = (NOW, NOW);
    assert_eq!(case.refusal(), Refusal::Unbound);
}
