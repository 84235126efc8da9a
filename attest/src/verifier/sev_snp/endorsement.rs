//! What the certificate of a signing key says about the chip and its firmware.

use super::report::{Layout, Report};
use super::{components, signer_name};
use crate::policy::{SnpSigner, SnpVersions};
use crate::refusal::Refusal;
use crate::verifier::certificate::Certificate;
use x509_cert::der::Decode;
use x509_cert::spki::ObjectIdentifier;

const BOOT_LOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const CHIP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const PROVIDER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

const MALFORMED: Refusal = Refusal::Malformed { part: "the certificate of the SEV-SNP signing key" };
/// Bytes of the chip id on Turin.
const CHIP_BYTES_ZEN5: usize = 8;
/// An octet string of 64 bytes: some certificates wrap the chip id in one.
const WRAPPED: [u8; 2] = [0x04, 0x40];

/// The statement of one certificate.
pub(super) struct Endorsement<'a> {
    versions: SnpVersions,
    /// The chip, or none for a provider's key.
    chip: Option<&'a [u8]>,
}

impl<'a> Endorsement<'a> {
    /// Reads AMD's extensions.
    pub(super) fn read(certificate: &'a Certificate<'_>, layout: Layout) -> Result<Self, Refusal> {
        let version =
            |id| certificate.extension(id).and_then(|bytes| u8::from_der(bytes).ok()).ok_or(MALFORMED);
        let fmc = match layout {
            Layout::Zen3 => 0,
            Layout::Zen5 => version(FMC)?,
        };
        let versions = SnpVersions {
            fmc,
            boot_loader: version(BOOT_LOADER)?,
            tee: version(TEE)?,
            snp: version(SNP)?,
            microcode: version(MICROCODE)?,
        };
        let chip = match (certificate.extension(CHIP), certificate.extension(PROVIDER)) {
            (Some(chip), None) => Some(chip),
            (None, Some(_)) => None,
            _ => return Err(MALFORMED),
        };
        Ok(Self { versions, chip })
    }

    /// Refuses a report of another chip or firmware, or one that names another kind of signer.
    pub(super) fn check(&self, report: &Report) -> Result<SnpSigner, Refusal> {
        let signer = if self.chip.is_some() { SnpSigner::Vcek } else { SnpSigner::Vlek };
        let stated = match report.signer() {
            0 => SnpSigner::Vcek,
            1 => SnpSigner::Vlek,
            number => return Err(Refusal::NoSigner { number }),
        };
        if signer != stated {
            return Err(Refusal::OtherSigner { certified: signer_name(signer), named: signer_name(stated) });
        }
        if self.chip.is_some_and(|chip| !same_chip(chip, report)) {
            return Err(Refusal::OtherChip);
        }
        let pairs = components(&self.versions).into_iter().zip(components(&report.reported));
        for ((component, certified), (_, reported)) in pairs {
            if certified != reported {
                return Err(Refusal::OtherFirmware { component });
            }
        }
        Ok(signer)
    }
}

fn same_chip(certified: &[u8], report: &Report) -> bool {
    let plain = certified.strip_prefix(&WRAPPED).filter(|rest| rest.len() == report.chip.len());
    let certified = plain.unwrap_or(certified);
    let bytes = match report.layout() {
        Layout::Zen3 => report.chip.len(),
        Layout::Zen5 => CHIP_BYTES_ZEN5,
    };
    let (chip, rest) = report.chip.split_at(bytes);
    certified == chip && rest.iter().all(|byte| *byte == 0)
}
