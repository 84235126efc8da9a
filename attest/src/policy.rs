//! What evidence must say to be accepted. Nothing is accepted by default.
//!
//! Every field must be there; a policy with one missing, or one too many, is not read. A kind without a table is
//! refused, an empty list accepts nothing, and what is meant to accept anything says so by name.

use crate::binding::EvidenceKind;
use crate::hex::Hex;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// Longest time that a session may last on one attestation, in seconds.
pub const REATTEST_SECS_MAX: u64 = 24 * 3600;
/// Longest time between a nonce and its evidence, in seconds.
pub const EVIDENCE_AGE_SECS_MAX: u64 = 3600;
/// Least privileged level of a guest. Reports that the host asks for itself have a higher number.
const VMPL_MAX: u32 = 3;

/// SHA-256 of AMD's root certificate (ARK) for Milan.
pub const AMD_MILAN_ROOT: Hex<32> = Hex([
    0x69, 0xd0, 0x63, 0xb4, 0x53, 0x44, 0xd2, 0x6a, 0x2e, 0x94, 0xe1, 0xf4, 0x21, 0x0d, 0xe4, 0x9e, 0xf5,
    0x55, 0x30, 0x82, 0x87, 0xd4, 0xc1, 0x74, 0x44, 0x5c, 0x95, 0x63, 0x9a, 0x54, 0x0b, 0xcd,
]);
/// SHA-256 of the AWS Nitro Enclaves root certificate G1.
pub const AWS_NITRO_ROOT: Hex<32> = Hex([
    0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31, 0x7e,
    0xd7, 0xcd, 0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b,
]);
/// SHA-256 of the Intel SGX root certificate, which also stands above TDX.
pub const INTEL_SGX_ROOT: Hex<32> = Hex([
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e,
    0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
]);

/// One party's rules for the modules whose noise it uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Longest time between the verifier's nonce and the verification, in seconds.
    pub evidence_age_max_secs: u64,
    /// After this many seconds a module must be attested anew.
    pub reattest_after_secs: u64,
    /// Rules for AMD SEV-SNP; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sev_snp: Option<SevSnpPolicy>,
    /// Rules for Intel TDX; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxPolicy>,
    /// Rules for Intel SGX; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sgx_dcap: Option<SgxPolicy>,
    /// Rules for AWS Nitro; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nitro: Option<NitroPolicy>,
    /// Rules for TPM 2.0; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm2: Option<TpmPolicy>,
    /// Rules for software; without them it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<SoftwarePolicy>,
}

/// Which machines may run the module. Quotes forged with the key of one machine come from that machine, so a list
/// limits what a broken one can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Platforms {
    /// Every genuine machine.
    Any,
    /// These, by chip id, PPID or instance id as the refusal of a machine prints it.
    Listed(Vec<String>),
}

/// One measurement register and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register<const N: usize> {
    /// Number of the register.
    pub index: u8,
    /// What must stand in it.
    pub value: Hex<N>,
}

/// The registers of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image<const N: usize> {
    /// Registers that count, each once.
    pub registers: Vec<Register<N>>,
}

/// The key that signs a SEV-SNP report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnpSigner {
    /// The key of one chip at one firmware version.
    Vcek,
    /// The key that AMD gave to a cloud provider.
    Vlek,
}

/// Firmware versions of a SEV-SNP machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpVersions {
    /// FMC (Turin and later, else 0).
    pub fmc: u8,
    /// Boot loader of the secure processor.
    pub boot_loader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode of the cores.
    pub microcode: u8,
}

/// Rules for SEV-SNP. Debug mode, migration agents and masked chip keys are always refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SevSnpPolicy {
    /// SHA-256 of accepted root certificates, such as [`AMD_MILAN_ROOT`].
    pub roots: Vec<Hex<32>>,
    /// Accepted launch measurements.
    pub measurements: Vec<Hex<48>>,
    /// Accepted host data, which the launcher of the guest chose.
    pub host_data: Vec<Hex<32>>,
    /// Accepted signing keys.
    pub signers: Vec<SnpSigner>,
    /// Highest number of a privilege level that may ask for the report; 0 is the most privileged, 3 the least.
    pub vmpl_max: u32,
    /// Least reported and committed firmware versions.
    pub versions_min: SnpVersions,
    /// Whether the guest may share a core with others.
    pub allow_smt: bool,
    /// Whether a list of revoked certificates must be at hand.
    pub require_revocation_list: bool,
    /// Accepted chips.
    pub platforms: Platforms,
}

/// Rules for what Intel says about a platform. Debug mode is always refused. Certificates of some older platforms say
/// nothing about the three properties; that counts as not having them, as in Intel's own verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DcapPolicy {
    /// SHA-256 of accepted root certificates, such as [`INTEL_SGX_ROOT`].
    pub roots: Vec<Hex<32>>,
    /// Accepted statuses, in Intel's words: `UpToDate`, `SWHardeningNeeded` and so on. `Revoked` is never accepted.
    pub statuses: Vec<String>,
    /// Advisories that may apply, such as `INTEL-SA-00615`.
    pub advisories: Vec<String>,
    /// Least evaluation number of the collateral.
    pub evaluation_min: u32,
    /// Whether processors may be added to the platform.
    pub allow_dynamic_platform: bool,
    /// Whether its keys may be kept by Intel's registration service.
    pub allow_cached_keys: bool,
    /// Whether it may share cores between threads.
    pub allow_smt: bool,
    /// Accepted platforms.
    pub platforms: Platforms,
}

/// The measurements of one trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxImage {
    /// Build-time measurement.
    pub mr_td: Hex<48>,
    /// Run-time measurements 0 to 3: firmware, kernel, system, application.
    pub rtmr: [Hex<48>; 4],
    /// Configuration chosen by the launcher.
    pub mr_config_id: Hex<48>,
}

/// Rules for TDX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxPolicy {
    /// Accepted images.
    pub images: Vec<TdxImage>,
    /// Rules for the platform.
    pub platform: DcapPolicy,
}

/// The identity of one SGX enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgxImage {
    /// Measurement of the enclave.
    pub mr_enclave: Hex<32>,
    /// Who signed it.
    pub mr_signer: Hex<32>,
    /// Product number.
    pub product: u16,
    /// Least security version.
    pub version_min: u16,
}

/// Rules for SGX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgxPolicy {
    /// Accepted enclaves.
    pub images: Vec<SgxImage>,
    /// Rules for the platform.
    pub platform: DcapPolicy,
}

/// Rules for AWS Nitro. Debug mode is always refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NitroPolicy {
    /// SHA-256 of accepted root certificates, such as [`AWS_NITRO_ROOT`].
    pub roots: Vec<Hex<32>>,
    /// Accepted images; each names PCR 0, 1 and 2 at least.
    pub images: Vec<Image<48>>,
    /// Accepted EC2 instances.
    pub platforms: Platforms,
}

/// Rules for TPM 2.0. Only restricted signing keys that never leave their TPM are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmPolicy {
    /// SHA-256 part of the names of enrolled attestation keys.
    pub keys: Vec<Hex<32>>,
    /// Accepted images, by PCRs of the SHA-256 bank.
    pub images: Vec<Image<32>>,
}

/// Rules for software evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftwarePolicy {
    /// Whether noise may come from a module for which nothing vouches. Only for public testing.
    pub allow: bool,
}

impl Platforms {
    /// Refuses a platform that is not listed.
    pub(crate) fn admit(&self, platform: &str) -> Result<(), Refusal> {
        match self {
            Self::Any => Ok(()),
            Self::Listed(names) if names.iter().any(|name| name.eq_ignore_ascii_case(platform)) => Ok(()),
            Self::Listed(_) => Err(Refusal::Platform { platform: platform.to_owned() }),
        }
    }
}

impl Policy {
    /// Refuses times that are nothing or so long that freshness means nothing, and images that leave open what
    /// was started. Whoever reads a policy checks it; [`verify`](crate::verify) does it again.
    ///
    /// # Errors
    /// [`Refusal::Policy`].
    pub fn check(&self) -> Result<(), Refusal> {
        let problem = |problem| Err(Refusal::Policy { problem });
        if !(1..=EVIDENCE_AGE_SECS_MAX).contains(&self.evidence_age_max_secs) {
            return problem("`evidence_age_max_secs` must be between 1 second and 1 hour");
        }
        if !(1..=REATTEST_SECS_MAX).contains(&self.reattest_after_secs) {
            return problem("`reattest_after_secs` must be between 1 second and 1 day");
        }
        if self.sev_snp.as_ref().is_some_and(|rules| rules.vmpl_max > VMPL_MAX) {
            return problem("`vmpl_max` must be between 0 and 3, the levels of a guest");
        }
        let nitro = self.nitro.iter().flat_map(|nitro| &nitro.images);
        if !nitro.clone().all(|image| [0, 1, 2].iter().all(|index| image.register(*index).is_some())) {
            return problem("every Nitro image must name PCR 0, 1 and 2");
        }
        if !nitro.into_iter().all(Image::distinct) {
            return problem("a Nitro image names a PCR twice or one above 31");
        }
        let tpm = self.tpm2.iter().flat_map(|tpm| &tpm.images);
        if tpm.clone().any(|image| image.registers.is_empty()) {
            return problem("a TPM image without a PCR accepts everything; name those that measure it");
        }
        if !tpm.into_iter().all(Image::distinct) {
            return problem("a TPM image names a PCR twice or one above 23");
        }
        Ok(())
    }

    /// Kinds for which there are rules, in the order of meaning.
    pub fn kinds(&self) -> Vec<EvidenceKind> {
        let present = |kind: &EvidenceKind| match kind {
            EvidenceKind::SevSnp => self.sev_snp.is_some(),
            EvidenceKind::Tdx => self.tdx.is_some(),
            EvidenceKind::SgxDcap => self.sgx_dcap.is_some(),
            EvidenceKind::Nitro => self.nitro.is_some(),
            EvidenceKind::Tpm2 => self.tpm2.is_some(),
            EvidenceKind::Software => self.software.is_some_and(|software| software.allow),
        };
        EvidenceKind::ALL.into_iter().filter(present).collect()
    }
}

impl<const N: usize> Image<N> {
    /// The value that a register must have.
    pub(crate) fn register(&self, index: u8) -> Option<&Hex<N>> {
        self.registers.iter().find(|register| register.index == index).map(|register| &register.value)
    }

    /// Whether no register comes twice and all exist: Nitro has 32, the TPM 24.
    fn distinct(&self) -> bool {
        let below = if N == 48 { 32 } else { 24 };
        let once = |register: &Register<N>| {
            self.registers.iter().filter(|other| other.index == register.index).count() == 1
        };
        self.registers.iter().all(|register| register.index < below && once(register))
    }
}

/// The image that `found` matches in all its registers.
///
/// With no match the refusal names the first register that differs from the first image.
pub(crate) fn image<const N: usize>(
    kind: EvidenceKind,
    images: &[Image<N>],
    found: impl Fn(u8) -> Option<[u8; N]>,
) -> Result<&Image<N>, Refusal> {
    let fits = |image: &Image<N>| image.registers.iter().all(|one| found(one.index) == Some(one.value.0));
    if let Some(image) = images.iter().find(|image| !image.registers.is_empty() && fits(image)) {
        return Ok(image);
    }
    let index = images.first().and_then(|image| {
        image.registers.iter().find(|one| found(one.index) != Some(one.value.0)).map(|one| one.index)
    });
    let index = index.unwrap_or(0);
    let register = format!("PCR {index}");
    match found(index) {
        Some(value) => Err(Refusal::Measurement { kind, register, found: Hex(value).to_string() }),
        None => Err(Refusal::MeasurementMissing { kind, register }),
    }
}
