//! The verifier: one module for each kind of evidence.
//!
//! Each verifies in three steps, whose results are values that nothing else makes. *Authentic* evidence has the
//! signatures of the hardware and its vendor over the raw bytes, at the given time. *Appraised* evidence says what
//! the policy asks for. A *verified module* is the one at the other end of this session: the hardware signed the
//! hash of its keys, our nonce, our roster and our name. A signature is the smaller half: emulators and modules in
//! debug mode pass it.

mod certificate;
mod revocation;
pub mod nitro;
pub mod tpm2;
pub mod sev_snp;
pub mod dcap;
mod software;

use crate::binding::EvidenceKind;
use crate::evidence::{Collateral, Evidence};
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::verified::{Appraised, Expected, VerifiedModule};

/// Verifies evidence under a policy, for one session, at `now` in Unix seconds.
///
/// # Errors
/// The [`Refusal`] of the first rule that fails.
pub fn verify(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    expected: &Expected,
    now: u64,
) -> Result<VerifiedModule, Refusal> {
    policy.check()?;
    let binding = &evidence.binding;
    allowed(binding.kind, policy)?;
    expected.matches(binding, policy, now)?;
    appraise(evidence, collateral, policy, now)?.bound(binding, policy, now)
}

/// A kind that the policy says nothing about is refused before anything of it is read.
fn allowed(kind: EvidenceKind, policy: &Policy) -> Result<(), Refusal> {
    match kind {
        kind if policy.kinds().contains(&kind) => Ok(()),
        EvidenceKind::Software => Err(Refusal::SoftwareNotAllowed),
        kind => Err(Refusal::KindNotAllowed { kind }),
    }
}

fn appraise(
    evidence: &Evidence,
    collateral: &Collateral,
    policy: &Policy,
    now: u64,
) -> Result<Appraised, Refusal> {
    let Evidence { binding, body, endorsements } = evidence;
    let kind = binding.kind;
    let missing = Refusal::KindNotAllowed { kind };
    match kind {
        EvidenceKind::SevSnp => {
            let rules = policy.sev_snp.as_ref().ok_or(missing)?;
            sev_snp::authenticate(body, endorsements, collateral, &rules.roots, now)?.appraise(rules)
        }
        EvidenceKind::Tdx => {
            let rules = policy.tdx.as_ref().ok_or(missing)?;
            dcap::authenticate(body, collateral, &rules.platform.roots, now)?.appraise_tdx(rules)
        }
        EvidenceKind::SgxDcap => {
            let rules = policy.sgx_dcap.as_ref().ok_or(missing)?;
            dcap::authenticate(body, collateral, &rules.platform.roots, now)?.appraise_sgx(rules)
        }
        EvidenceKind::Nitro => {
            let rules = policy.nitro.as_ref().ok_or(missing)?;
            let authentic = nitro::authenticate(body, &rules.roots, now)?;
            let appraised = authentic.appraise(rules, policy, now)?;
            authentic.agrees(binding)?;
            Ok(appraised)
        }
        EvidenceKind::Tpm2 => {
            let rules = policy.tpm2.as_ref().ok_or(missing)?;
            tpm2::authenticate(body)?.appraise(rules)
        }
        EvidenceKind::Software => software::appraise(body),
    }
}
