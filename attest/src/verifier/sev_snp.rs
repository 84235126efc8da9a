//! Reports of AMD's secure processor, signed with the key of a chip (VCEK) or of a cloud provider (VLEK).

mod endorsement;
mod report;

use super::certificate::{parse_all, verify_chain};
use super::revocation::Revocations;
use crate::binding::EvidenceKind;
use crate::evidence::Collateral;
use crate::hex::{Hex, digits};
use crate::policy::{SevSnpPolicy, SnpSigner, SnpVersions};
use crate::refusal::Refusal;
use crate::verified::Appraised;
use endorsement::Endorsement;
use report::Report;
use ring::signature::ECDSA_P384_SHA384_FIXED;

const KIND: EvidenceKind = EvidenceKind::SevSnp;
const PART: &str = "the SEV-SNP report";

/// A report whose signature leads to an accepted root, from the chip and firmware that its certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSnpReport {
    report: Report,
    signer: SnpSigner,
    /// Whether lists of revoked certificates were at hand for the chain.
    revocation_checked: bool,
    valid_until: u64,
}

/// Verifies the signature of a report, its chain and its certificate's statement about chip and firmware, at `now`.
///
/// The chain is the attester's certificates followed by the verifier's: signing key, intermediate, root.
///
/// # Errors
/// A [`Refusal`] of form, chain, time, revocation, chip, firmware or signature.
pub fn authenticate(
    body: &[u8],
    endorsements: &[Vec<u8>],
    collateral: &Collateral,
    roots: &[Hex<32>],
    now: u64,
) -> Result<VerifiedSnpReport, Refusal> {
    let report = Report::decode(body)?;
    let chain = parse_all(endorsements.iter().chain(&collateral.certificates).map(Vec::as_slice))?;
    let [leaf, intermediate, root] = chain.as_slice() else {
        let part = "chain of exactly three certificates (signing key, intermediate, root)";
        return Err(Refusal::CollateralMissing { kind: KIND, part });
    };
    // The one signature first: what was changed on its way costs no chain.
    leaf.verify(&ECDSA_P384_SHA384_FIXED, report::signed(body), &report.signature, PART)?;
    let mut valid_until = verify_chain(&chain, roots, now)?;
    let mut revocation_checked = false;
    for der in &collateral.revocation_lists {
        if let Some(list) = Revocations::read(der, root, now)? {
            list.check(intermediate)?;
            valid_until = valid_until.min(list.ends);
            revocation_checked = true;
        }
    }
    let endorsement = Endorsement::read(leaf, report.layout())?;
    let signer = endorsement.check(&report)?;
    Ok(VerifiedSnpReport { report, signer, revocation_checked, valid_until })
}

impl VerifiedSnpReport {
    /// Applies the policy to an authentic report.
    ///
    /// # Errors
    /// [`Refusal::Debug`], [`Refusal::MigrationAgent`], [`Refusal::Measurement`] and their like.
    pub fn appraise(&self, rules: &SevSnpPolicy) -> Result<Appraised, Refusal> {
        let report = &self.report;
        if report.debug() {
            return Err(Refusal::Debug { kind: KIND });
        }
        if report.migratable() {
            return Err(Refusal::MigrationAgent);
        }
        if report.chip_key_masked() {
            return Err(Refusal::ChipKeyMasked);
        }
        self.measured(rules)?;
        if !rules.signers.contains(&self.signer) {
            return Err(Refusal::Signer { signer: signer_name(self.signer) });
        }
        if report.vmpl > rules.vmpl_max {
            return Err(Refusal::PrivilegeLevel { found: report.vmpl, most: rules.vmpl_max });
        }
        if report.smt() && !rules.allow_smt {
            return Err(Refusal::PlatformProperty { property: "cores shared between threads (SMT)" });
        }
        recent(&report.reported, &rules.versions_min)?;
        recent(&report.committed, &rules.versions_min)?;
        if rules.require_revocation_list && !self.revocation_checked {
            return Err(Refusal::CollateralMissing {
                kind: KIND,
                part: "list of AMD's revoked certificates",
            });
        }
        let platform = digits(&report.chip);
        rules.platforms.admit(&platform)?;
        let SnpVersions { fmc, boot_loader, tee, snp, microcode } = report.reported;
        Ok(Appraised {
            kind: KIND,
            user_data: report.report_data.to_vec(),
            measurement: Hex(report.measurement).to_string(),
            platform,
            level: format!("{} TCB {fmc}.{boot_loader}.{tee}.{snp}.{microcode}", signer_name(self.signer)),
            valid_until: self.valid_until,
        })
    }

    fn measured(&self, rules: &SevSnpPolicy) -> Result<(), Refusal> {
        let refused = |register: &str, found: String| {
            Err(Refusal::Measurement { kind: KIND, register: register.to_owned(), found })
        };
        let (measurement, host_data) = (Hex(self.report.measurement), Hex(self.report.host_data));
        if !rules.measurements.contains(&measurement) {
            return refused("the launch measurement", measurement.to_string());
        }
        if !rules.host_data.contains(&host_data) {
            return refused("the host data", host_data.to_string());
        }
        Ok(())
    }
}

const fn signer_name(signer: SnpSigner) -> &'static str {
    match signer {
        SnpSigner::Vcek => "VCEK",
        SnpSigner::Vlek => "VLEK",
    }
}

/// The parts of a firmware version by name.
fn components(versions: &SnpVersions) -> [(&'static str, u8); 5] {
    let SnpVersions { fmc, boot_loader, tee, snp, microcode } = *versions;
    [("FMC", fmc), ("boot loader", boot_loader), ("TEE", tee), ("SNP", snp), ("microcode", microcode)]
}

/// Refuses firmware of which any part is below the least.
fn recent(found: &SnpVersions, least: &SnpVersions) -> Result<(), Refusal> {
    for ((component, found), (_, least)) in components(found).into_iter().zip(components(least)) {
        if found < least {
            return Err(Refusal::FirmwareTooOld { component, found, least });
        }
    }
    Ok(())
}
