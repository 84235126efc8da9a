//! Quotes about SGX enclaves and TDX trust domains, by Intel's data center scheme (DCAP).
//!
//! The library holds the scheme: chains, lists of revoked certificates, the quoting enclave, the match of the
//! platform with Intel's list of levels. It applies no policy; that is done here, and so are the checks whose
//! failure deserves a reason of its own.

mod collateral;
mod quote;

use crate::binding::EvidenceKind;
use crate::evidence::Collateral;
use crate::hex::{Hex, digits};
use crate::policy::{DcapPolicy, SgxPolicy, TdxPolicy};
use crate::refusal::{Refusal, printable};
use crate::verified::Appraised;
use collateral::IntelData;
use dcap_qvl::QuotePolicy;
use dcap_qvl::policy::{PckCertFlag, QuoteClaims};
use dcap_qvl::verify::QuoteVerifier;
use quote::{Body, Quote, SgxReport, TdxReport};

/// SGX attribute of an enclave in debug mode.
const SGX_DEBUG: u8 = 1 << 1;
/// The status that no policy can accept.
const REVOKED: &str = "Revoked";

/// A quote that Intel's signatures cover, and what Intel says about the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedQuote {
    body: Body,
    platform: Platform,
    valid_until: u64,
}

/// Intel's verdict on a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Platform {
    id: String,
    status: String,
    advisories: Vec<String>,
    evaluation: u32,
    dynamic: bool,
    cached_keys: bool,
    smt: bool,
}

/// Verifies a quote with Intel's data for its platform, at `now`. Says nothing about whether the platform is up to
/// date or the enclave in debug mode.
///
/// # Errors
/// A [`Refusal`] of form, collateral, chain, time or signature.
pub fn authenticate(
    body: &[u8],
    collateral: &Collateral,
    roots: &[Hex<32>],
    now: u64,
) -> Result<VerifiedQuote, Refusal> {
    let quote = Quote::parse(body)?;
    let kind = match quote.body {
        Body::Tdx(_) => EvidenceKind::Tdx,
        Body::Sgx(_) => EvidenceKind::SgxDcap,
    };
    let Some(text) = collateral.dcap.as_deref() else {
        return Err(Refusal::CollateralMissing { kind, part: "data of Intel about the platform" });
    };
    let intel = IntelData::read(text)?;
    let root = intel.root(roots)?;
    let ends = intel.valid_at(quote.chain, now)?;
    // Debug mode gets a reason of its own when the policy is applied, so it passes here.
    let verifier = QuoteVerifier::new(root).allow_debug(true);
    let everything = QuotePolicy::claims_only(now);
    let claims = verifier.verify_with_policy(body, intel.into_library(), now, &everything);
    let claims = claims.map_err(|error| reason(&format!("{error:#}")))?;
    let valid_until = ends.min(claims.earliest_expiration_date);
    Ok(VerifiedQuote { body: quote.body, platform: Platform::of(&claims), valid_until })
}

/// The library has words only. Two of its reasons deserve a name here; tests hold it to them.
fn reason(detail: &str) -> Refusal {
    if detail.contains("No matching TCB level") {
        return Refusal::NoTcbLevel;
    }
    if detail.contains("TCB status is invalid: Revoked") {
        return Refusal::TcbStatus { status: REVOKED.to_owned() };
    }
    Refusal::Quote { detail: printable(detail) }
}

impl VerifiedQuote {
    /// Applies the policy to an authentic quote about a trust domain.
    ///
    /// # Errors
    /// [`Refusal::Debug`], [`Refusal::Measurement`], [`Refusal::TcbStatus`] and their like.
    pub fn appraise_tdx(&self, rules: &TdxPolicy) -> Result<Appraised, Refusal> {
        let Body::Tdx(report) = &self.body else {
            return Err(Refusal::OtherKind { kind: EvidenceKind::Tdx, found: EvidenceKind::SgxDcap });
        };
        if report.attributes[0] != 0 {
            return Err(Refusal::Debug { kind: EvidenceKind::Tdx });
        }
        trust_domain(report, rules)?;
        self.platform.appraise(&rules.platform)?;
        let measurement =
            format!("MRTD {} RTMR {}", Hex(report.mr_td), report.rtmr.map(|one| digits(&one)).join(" "));
        Ok(self.appraised(EvidenceKind::Tdx, &report.report_data, measurement))
    }

    /// Applies the policy to an authentic quote about an enclave.
    ///
    /// # Errors
    /// [`Refusal::Debug`], [`Refusal::Measurement`], [`Refusal::TcbStatus`] and their like.
    pub fn appraise_sgx(&self, rules: &SgxPolicy) -> Result<Appraised, Refusal> {
        let Body::Sgx(report) = &self.body else {
            return Err(Refusal::OtherKind { kind: EvidenceKind::SgxDcap, found: EvidenceKind::Tdx });
        };
        if report.attributes[0] & SGX_DEBUG != 0 {
            return Err(Refusal::Debug { kind: EvidenceKind::SgxDcap });
        }
        enclave(report, rules)?;
        self.platform.appraise(&rules.platform)?;
        let (enclave, signer) = (Hex(report.mr_enclave), Hex(report.mr_signer));
        let measurement = format!("MRENCLAVE {enclave} MRSIGNER {signer}");
        Ok(self.appraised(EvidenceKind::SgxDcap, &report.report_data, measurement))
    }

    fn appraised(&self, kind: EvidenceKind, report_data: &[u8], measurement: String) -> Appraised {
        let Platform { status, evaluation, advisories, .. } = &self.platform;
        let advisories = if advisories.is_empty() { "none".to_owned() } else { advisories.join(" ") };
        Appraised {
            kind,
            user_data: report_data.to_vec(),
            measurement,
            platform: self.platform.id.clone(),
            level: format!("{status} at evaluation {evaluation}, advisories {advisories}"),
            valid_until: self.valid_until,
        }
    }
}

/// Refuses a trust domain that is no image of the policy, by the first register that differs from the first image.
fn trust_domain(report: &TdxReport, rules: &TdxPolicy) -> Result<(), Refusal> {
    let found = |rtmr: [[u8; 48]; 4], mr_td, mr_config_id| {
        [
            ("MRTD", mr_td),
            ("RTMR0", rtmr[0]),
            ("RTMR1", rtmr[1]),
            ("RTMR2", rtmr[2]),
            ("RTMR3", rtmr[3]),
            ("MRCONFIGID", mr_config_id),
        ]
    };
    let own = found(report.rtmr, report.mr_td, report.mr_config_id);
    let mut images = rules
        .images
        .iter()
        .map(|image| found(image.rtmr.map(|one| one.0), image.mr_td.0, image.mr_config_id.0));
    if images.clone().any(|image| image == own) {
        return Ok(());
    }
    let first = images.next().unwrap_or([("", [0; 48]); 6]);
    let (register, value) =
        own.into_iter().zip(first).find(|(own, other)| own != other).map_or(own[0], |(own, _)| own);
    let (register, found) = (register.to_owned(), digits(&value));
    Err(Refusal::Measurement { kind: EvidenceKind::Tdx, register, found })
}

/// Refuses an enclave that is no image of the policy.
fn enclave(report: &SgxReport, rules: &SgxPolicy) -> Result<(), Refusal> {
    let refused = |register: &str, found: String| {
        Err(Refusal::Measurement { kind: EvidenceKind::SgxDcap, register: register.to_owned(), found })
    };
    let same = rules.images.iter().filter(|image| image.mr_enclave.0 == report.mr_enclave);
    if same.clone().next().is_none() {
        return refused("MRENCLAVE", digits(&report.mr_enclave));
    }
    let same = same.filter(|image| image.mr_signer.0 == report.mr_signer);
    if same.clone().next().is_none() {
        return refused("MRSIGNER", digits(&report.mr_signer));
    }
    let mut same = same.filter(|image| image.product == report.product).peekable();
    if same.peek().is_none() {
        return refused("the product number", report.product.to_string());
    }
    if !same.any(|image| image.version_min <= report.version) {
        return refused("the security version", report.version.to_string());
    }
    Ok(())
}

impl Platform {
    fn of(claims: &QuoteClaims) -> Self {
        let pck = &claims.platform.pck;
        let set = |flag: PckCertFlag| flag == PckCertFlag::True;
        Self {
            id: digits(&pck.ppid),
            status: format!("{:?}", claims.tcb.status),
            advisories: claims.tcb.advisory_ids.iter().map(|id| printable(id)).collect(),
            evaluation: claims.tcb.eval_data_number,
            dynamic: set(pck.dynamic_platform),
            cached_keys: set(pck.cached_keys),
            smt: set(pck.smt_enabled),
        }
    }

    fn appraise(&self, rules: &DcapPolicy) -> Result<(), Refusal> {
        if self.status == REVOKED || !rules.statuses.contains(&self.status) {
            return Err(Refusal::TcbStatus { status: self.status.clone() });
        }
        let accepted = |id: &String| rules.advisories.iter().any(|known| known.eq_ignore_ascii_case(id));
        if let Some(id) = self.advisories.iter().find(|id| !accepted(id)) {
            return Err(Refusal::Advisory { advisory: id.clone() });
        }
        if self.evaluation < rules.evaluation_min {
            return Err(Refusal::EvaluationTooOld { found: self.evaluation, least: rules.evaluation_min });
        }
        let properties = [
            (
                self.dynamic && !rules.allow_dynamic_platform,
                "processors that may be added (a dynamic platform)",
            ),
            (self.cached_keys && !rules.allow_cached_keys, "keys kept by Intel's registration service"),
            (self.smt && !rules.allow_smt, "cores shared between threads (SMT)"),
        ];
        if let Some((_, property)) = properties.into_iter().find(|(refused, _)| *refused) {
            return Err(Refusal::PlatformProperty { property });
        }
        rules.platforms.admit(&self.id)
    }
}
