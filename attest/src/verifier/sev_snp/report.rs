//! The attestation report of the SEV-SNP firmware ABI, versions 2 to 5.

use super::PART;
use crate::policy::SnpVersions;
use crate::refusal::Refusal;
use std::ops::Range;

const REPORT_BYTES: usize = 0x4a0;
const SIGNED_BYTES: usize = 0x2a0;
const NUMBER_BYTES: usize = 48;
/// Each number of the signature stands in a field of this size, little end first.
const FIELD_BYTES: usize = 72;
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;
const ECDSA_P384_SHA384: u32 = 1;
/// Families of the processors: Milan and Genoa, Turin.
const FAMILY_ZEN3: u8 = 0x19;
const FAMILY_ZEN5: u8 = 0x1a;

const POLICY_SMT: u64 = 1 << 16;
const POLICY_ALWAYS: u64 = 1 << 17;
const POLICY_MIGRATION: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
/// ABI version, and the bits up to those that version 5 defines.
const POLICY_KNOWN: u64 = (1 << 26) - 1;
const FLAG_MASKED: u32 = 1 << 1;
/// What the flags say about who signed.
const SIGNER_SHIFT: u32 = 2;
const SIGNER_MASK: u32 = 7;
const FLAGS_KNOWN: u32 = (1 << 5) - 1;

/// How a firmware version is laid out in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Milan and Genoa.
    Zen3,
    /// Turin: the FMC in front, and a chip id of eight bytes.
    Zen5,
}

/// The fields that anything depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    layout: Layout,
    policy: u64,
    flags: u32,
    pub(super) vmpl: u32,
    pub(super) report_data: [u8; 64],
    pub(super) measurement: [u8; 48],
    pub(super) host_data: [u8; 32],
    pub(super) reported: SnpVersions,
    pub(super) committed: SnpVersions,
    pub(super) chip: [u8; 64],
    /// Both numbers, big end first.
    pub(super) signature: [u8; 2 * NUMBER_BYTES],
}

/// The part of a report that is signed.
pub(super) fn signed(body: &[u8]) -> &[u8] {
    body.get(..SIGNED_BYTES).unwrap_or_default()
}

impl Report {
    /// Reads a report. Fields without meaning must be zero, so that nothing hides in them.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed { part: PART };
        let Ok(body) = <&[u8; REPORT_BYTES]>::try_from(body) else { return Err(malformed) };
        let version = u32::from_le_bytes(field(body, 0));
        if !VERSIONS.contains(&version) {
            return Err(Refusal::Version { part: PART, version });
        }
        let algorithm = u32::from_le_bytes(field(body, 0x34));
        if algorithm != ECDSA_P384_SHA384 {
            let algorithm = algorithm.to_string();
            return Err(Refusal::Algorithm {
                part: PART,
                algorithm,
                expected: "1 (ECDSA P-384 with SHA-384)",
            });
        }
        let layout = layout(body, version)?;
        let policy = u64::from_le_bytes(field(body, 0x08));
        let flags = u32::from_le_bytes(field(body, 0x48));
        let known = policy & POLICY_ALWAYS != 0 && policy & !POLICY_KNOWN == 0 && flags & !FLAGS_KNOWN == 0;
        let unused = reserved(version);
        if !known || !unused.into_iter().all(|range| body[range].iter().all(|byte| *byte == 0)) {
            return Err(malformed);
        }
        let mut signature = [0; 2 * NUMBER_BYTES];
        for (number, at) in
            signature.chunks_exact_mut(NUMBER_BYTES).zip([SIGNED_BYTES, SIGNED_BYTES + FIELD_BYTES])
        {
            number.copy_from_slice(&body[at..at + NUMBER_BYTES]);
            number.reverse();
        }
        Ok(Self {
            layout,
            policy,
            flags,
            vmpl: u32::from_le_bytes(field(body, 0x30)),
            report_data: field(body, 0x50),
            measurement: field(body, 0x90),
            host_data: field(body, 0xc0),
            reported: versions(layout, field(body, 0x180)),
            committed: versions(layout, field(body, 0x1e0)),
            chip: field(body, 0x1a0),
            signature,
        })
    }

    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the host may read and write the guest's memory.
    pub(super) const fn debug(&self) -> bool {
        self.policy & POLICY_DEBUG != 0
    }

    pub(super) const fn migratable(&self) -> bool {
        self.policy & POLICY_MIGRATION != 0
    }

    pub(super) const fn smt(&self) -> bool {
        self.policy & POLICY_SMT != 0
    }

    pub(super) const fn chip_key_masked(&self) -> bool {
        self.flags & FLAG_MASKED != 0
    }

    /// Who signed by the report's own words: 0 a chip's key, 1 a provider's, 7 nobody.
    pub(super) const fn signer(&self) -> u32 {
        self.flags >> SIGNER_SHIFT & SIGNER_MASK
    }
}

fn field<const N: usize>(body: &[u8; REPORT_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&body[at..at + N]);
    bytes
}

/// Version 2 is of before Turin; later ones name the family.
fn layout(body: &[u8; REPORT_BYTES], version: u32) -> Result<Layout, Refusal> {
    match (version, body[0x188]) {
        (2, _) | (_, FAMILY_ZEN3) => Ok(Layout::Zen3),
        (_, FAMILY_ZEN5) => Ok(Layout::Zen5),
        (_, family) => {
            Err(Refusal::Version { part: "the processor family of the report", version: family.into() })
        }
    }
}

/// Bytes without meaning: in the middle, and around the numbers of the signature.
fn reserved(version: u32) -> Vec<Range<usize>> {
    let processor = if version == 2 { 0x188 } else { 0x18b };
    let tail = if version < 5 { 0x1f8 } else { 0x208 };
    let second = SIGNED_BYTES + FIELD_BYTES;
    vec![
        0x4c..0x50,
        processor..0x1a0,
        0x1eb..0x1ec,
        0x1ef..0x1f0,
        tail..SIGNED_BYTES,
        SIGNED_BYTES + NUMBER_BYTES..second,
        second + NUMBER_BYTES..REPORT_BYTES,
    ]
}

const fn versions(layout: Layout, bytes: [u8; 8]) -> SnpVersions {
    match layout {
        Layout::Zen3 => {
            let [boot_loader, tee, _, _, _, _, snp, microcode] = bytes;
            SnpVersions { fmc: 0, boot_loader, tee, snp, microcode }
        }
        Layout::Zen5 => {
            let [fmc, boot_loader, tee, snp, _, _, _, microcode] = bytes;
            SnpVersions { fmc, boot_loader, tee, snp, microcode }
        }
    }
}
