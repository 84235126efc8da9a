//! Measurements, firmware, modes and machines.

use super::{changed, refused};
use crate::forge::{Case, NOW, nitro, snp, tpm};
use ciborium::Value;
use consilium_attest::policy::{NitroPolicy, Platforms, SevSnpPolicy, SnpSigner, TpmPolicy};
use consilium_attest::{EvidenceKind, Hex, Refusal};

fn snp_rules(change: impl FnOnce(&mut SevSnpPolicy)) -> Case {
    changed(snp::case(|_| ()), |case| change(case.policy.sev_snp.as_mut().unwrap()))
}

fn nitro_rules(change: impl FnOnce(&mut NitroPolicy)) -> Case {
    changed(nitro::case(|_| ()), |case| change(case.policy.nitro.as_mut().unwrap()))
}

fn tpm_rules(change: impl FnOnce(&mut TpmPolicy)) -> Case {
    changed(tpm::case(|_| ()), |case| change(case.policy.tpm2.as_mut().unwrap()))
}

fn measurement(kind: EvidenceKind, register: &str, found: &str) -> Refusal {
    Refusal::Measurement { kind, register: register.to_owned(), found: found.to_owned() }
}

#[test]
fn guests_of_sev_snp() {
    let kind = EvidenceKind::SevSnp;
    let (launched, hosted) = ("ee".repeat(48), "dd".repeat(32));
    refused(vec![
        (snp::case(|parts| parts.set(0x08, &0xb_0000u64.to_le_bytes())), Refusal::Debug { kind }),
        (snp::case(|parts| parts.set(0x08, &0x7_0000u64.to_le_bytes())), Refusal::MigrationAgent),
        (snp::case(|parts| parts.set(0x48, &2u32.to_le_bytes())), Refusal::ChipKeyMasked),
        (
            snp::case(|parts| parts.set(0x30, &1u32.to_le_bytes())),
            Refusal::PrivilegeLevel { found: 1, most: 0 },
        ),
        (
            snp_rules(|rules| rules.measurements = vec![Hex([0xed; 48])]),
            measurement(kind, "the launch measurement", &launched),
        ),
        (
            snp_rules(|rules| rules.host_data = vec![Hex([0; 32])]),
            measurement(kind, "the host data", &hosted),
        ),
        (snp_rules(|rules| rules.signers = vec![SnpSigner::Vlek]), Refusal::Signer { signer: "VCEK" }),
        (
            snp_rules(|rules| rules.allow_smt = false),
            Refusal::PlatformProperty { property: "cores shared between threads (SMT)" },
        ),
        (
            snp_rules(|rules| rules.require_revocation_list = true),
            Refusal::CollateralMissing { kind, part: "list of AMD's revoked certificates" },
        ),
        (
            snp_rules(|rules| rules.platforms = Platforms::Listed(vec![])),
            Refusal::Platform { platform: "c4".repeat(64) },
        ),
    ]);
    for empty in [
        |rules: &mut SevSnpPolicy| rules.measurements.clear(),
        |rules: &mut SevSnpPolicy| rules.host_data.clear(),
    ] {
        assert!(matches!(snp_rules(empty).refusal(), Refusal::Measurement { .. }));
    }
}

#[test]
fn firmware_of_sev_snp() {
    let old = |component, found| Refusal::FirmwareTooOld { component, found, least: found + 1 };
    refused(vec![
        (snp_rules(|rules| rules.versions_min.fmc = 1), old("FMC", 0)),
        (snp_rules(|rules| rules.versions_min.boot_loader = 4), old("boot loader", 3)),
        (snp_rules(|rules| rules.versions_min.tee = 1), old("TEE", 0)),
        (snp_rules(|rules| rules.versions_min.snp = 9), old("SNP", 8)),
        (snp_rules(|rules| rules.versions_min.microcode = 0x74), old("microcode", 0x73)),
    ]);
    // What runs is new enough, but the machine may go back to what is not.
    let uncommitted = snp::case(|parts| parts.set(0x1e0, &[3, 0, 0, 0, 0, 0, 7, 0x74]));
    assert_eq!(uncommitted.refusal(), Refusal::FirmwareTooOld { component: "SNP", found: 7, least: 8 });
}

#[test]
fn certificates_of_sev_snp_belong_to_chip_and_firmware() {
    let chip = "1.3.6.1.4.1.3704.1.4";
    let provider = "1.3.6.1.4.1.3704.1.5";
    let other = |component| Refusal::OtherFirmware { component };
    refused(vec![
        (snp::case(|parts| parts.leaf = snp::leaf(chip, &[0xc5; 64])), Refusal::OtherChip),
        (snp::case(|parts| parts.set(0x180, &[2])), other("boot loader")),
        (snp::case(|parts| parts.set(0x181, &[1])), other("TEE")),
        (snp::case(|parts| parts.set(0x186, &[9])), other("SNP")),
        (snp::case(|parts| parts.set(0x187, &[0x74])), other("microcode")),
        (
            snp::case(|parts| parts.leaf = snp::leaf(provider, b"\x16\x01x")),
            Refusal::OtherSigner { certified: "VLEK", named: "VCEK" },
        ),
        (snp::case(|parts| parts.set(0x48, &(7u32 << 2).to_le_bytes())), Refusal::NoSigner { number: 7 }),
        (
            snp::case(|parts| {
                parts.leaf.extensions.retain(|one| one.extn_id.to_string() != "1.3.6.1.4.1.3704.1.3.3");
            }),
            Refusal::Malformed { part: "the certificate of the SEV-SNP signing key" },
        ),
    ]);
}

#[test]
fn reports_of_unknown_form_are_refused() {
    let report = "the SEV-SNP report";
    let malformed = Refusal::Malformed { part: report };
    for version in [0u32, 1, 6, u32::MAX] {
        let case = snp::case(|parts| parts.set(0, &version.to_le_bytes()));
        assert_eq!(case.refusal(), Refusal::Version { part: report, version });
    }
    let algorithm = snp::case(|parts| parts.set(0x34, &2u32.to_le_bytes())).refusal();
    assert!(matches!(&algorithm, Refusal::Algorithm { algorithm, .. } if algorithm == "2"), "{algorithm:?}");
    let family = snp::case(|parts| parts.set(0x188, &[0x1b])).refusal();
    assert!(matches!(family, Refusal::Version { version: 0x1b, .. }), "{family:?}");
    // Reserved bytes, among them some that other verifiers do not look at.
    for at in [0x4c, 0x4f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x1f8, 0x207, 0x29f] {
        assert_eq!(snp::case(|parts| parts.set(at, &[1])).refusal(), malformed, "{at:#x}");
    }
    for policy in [0x1_0000u64, 1 << 63 | 0x3_0000] {
        assert_eq!(snp::case(|parts| parts.set(0x08, &policy.to_le_bytes())).refusal(), malformed);
    }
    for (at, length) in [(0, 0x49f), (0, 0)] {
        let short =
            changed(snp::case(|_| ()), |case| case.evidence.body = case.evidence.body[at..length].to_vec());
        assert_eq!(short.refusal(), malformed);
    }
}

#[test]
fn enclaves_of_nitro() {
    let kind = EvidenceKind::Nitro;
    refused(vec![
        (nitro::case(|parts| parts.registers[0].1 = vec![0; 48]), Refusal::Debug { kind }),
        (
            nitro_rules(|rules| rules.images[0].registers[1].value = Hex([0xab; 48])),
            measurement(kind, "PCR 1", &"02".repeat(48)),
        ),
        (
            nitro::case(|parts| parts.registers.retain(|(index, _)| *index != 8)),
            Refusal::MeasurementMissing { kind, register: "PCR 8".to_owned() },
        ),
        (
            nitro::case(|parts| parts.set("timestamp", Value::from((NOW - 121) * 1000))),
            Refusal::Stale { age: 121, most: 120 },
        ),
        (
            nitro::case(|parts| parts.set("timestamp", Value::from((NOW + 3600) * 1000))),
            Refusal::FromTheFuture { ahead: 3600 },
        ),
        (
            nitro_rules(|rules| rules.platforms = Platforms::Listed(vec!["i-1".to_owned()])),
            Refusal::Platform { platform: "i-0123456789abcdef0".to_owned() },
        ),
    ]);
    for index in 0..3u8 {
        let absent = nitro::case(|parts| parts.registers.retain(|(other, _)| *other != index));
        assert_eq!(absent.refusal(), Refusal::Debug { kind }, "an absent register counts as zero");
    }
    let empty = nitro_rules(|rules| rules.images.clear());
    assert!(matches!(empty.refusal(), Refusal::Measurement { .. }));
}

#[test]
fn documents_of_unknown_form_are_refused() {
    let document = "the Nitro document";
    let weaker = nitro::case(|parts| parts.header = vec![0xa1, 0x01, 0x26]).refusal();
    assert!(matches!(&weaker, Refusal::Algorithm { algorithm, .. } if algorithm == "COSE -7"), "{weaker:?}");
    let hash = nitro::case(|parts| parts.set("digest", Value::from("SHA256"))).refusal();
    assert!(matches!(&hash, Refusal::Algorithm { expected: "SHA384", .. }), "{hash:?}");
    let malformed = Refusal::Malformed { part: document };
    // The right algorithm, but not alone, or in a longer form.
    for header in [
        &[0xa2, 0x01, 0x38, 0x22, 0x04, 0x40][..],
        &[0xa1, 0x01, 0x39, 0, 0x22],
        &[0xbf, 0x01, 0x38, 0x22, 0xff],
    ] {
        assert_eq!(nitro::case(|parts| parts.header = header.to_vec()).refusal(), malformed, "{header:?}");
    }
    for (field, value) in [
        ("timestamp", Value::from(-1)),
        ("module_id", Value::Null),
        ("nonce", Value::from("text")),
        ("user_data", Value::Bytes(vec![0; 1025])),
    ] {
        assert_eq!(nitro::case(|parts| parts.set(field, value)).refusal(), malformed, "{field}");
    }
    for (index, bytes) in [(3, 47), (3, 49), (32, 48)] {
        let odd = nitro::case(|parts| parts.registers[3] = (index, vec![1; bytes]));
        assert_eq!(odd.refusal(), malformed, "{index} {bytes}");
    }
    let twice = nitro::case(|parts| parts.registers.push((0, vec![1; 48])));
    assert_eq!(twice.refusal(), malformed);
    let again = nitro::case(|parts| parts.fields.push(("nonce", Value::Null)));
    assert_eq!(again.refusal(), malformed);
}

#[test]
fn a_document_has_one_form() {
    let body = nitro::case(|_| ()).evidence.body;
    // No signature covers the head of the array, the lengths of its parts, and the empty map.
    assert_eq!((body[0], body[1], body[6]), (0x84, 0x44, 0xa0));
    let signature = body.len() - 98;
    assert_eq!(body[signature..signature + 2], [0x58, 96]);
    let forms = [
        [&[0x98, 4], &body[1..]].concat(),
        [&[0x9f], &body[1..], &[0xff]].concat(),
        [&body[..1], &[0x58, 4], &body[2..]].concat(),
        [&body[..1], &[0x5f], &body[1..6], &[0xff], &body[6..]].concat(),
        [&body[..6], &[0xbf, 0xff], &body[7..]].concat(),
        [&body[..6], &[0xb8, 0], &body[7..]].concat(),
        [&body[..signature], &[0x59, 0, 96], &body[signature + 2..]].concat(),
    ];
    for (number, form) in forms.into_iter().enumerate() {
        let same: Value = ciborium::from_reader(&form[..]).unwrap();
        assert_eq!(same, ciborium::from_reader::<Value, _>(&body[..]).unwrap(), "{number}");
        let other = changed(nitro::case(|_| ()), |case| case.evidence.body = form);
        assert_eq!(other.refusal(), Refusal::Malformed { part: "the Nitro document" }, "{number}");
    }
}

#[test]
fn machines_with_a_tpm() {
    let kind = EvidenceKind::Tpm2;
    let key = tpm::case(|_| ()).policy.tpm2.unwrap().keys[0];
    refused(vec![
        (
            tpm_rules(|rules| rules.keys = vec![Hex([1; 32])]),
            Refusal::KeyNotEnrolled { name: key.to_string() },
        ),
        (
            tpm_rules(|rules| rules.images[0].registers[1].value = Hex([0xab; 32])),
            measurement(kind, "PCR 4", &"05".repeat(32)),
        ),
        (
            tpm_rules(|rules| rules.images[0].registers[1].index = 10),
            Refusal::MeasurementMissing { kind, register: "PCR 10".to_owned() },
        ),
        (tpm::case(|parts| parts.sent = Some([(0, [0; 32])].into())), Refusal::PcrDigest),
        (tpm::case(|parts| parts.magic = 0xff54_4346), Refusal::Malformed { part: "the TPM quote" }),
    ]);
    let empty = tpm_rules(|rules| rules.keys.clear());
    assert!(matches!(empty.refusal(), Refusal::KeyNotEnrolled { .. }));
    // Not fixed to the TPM or its parent, imported, unrestricted, no signing key; or one that also decrypts.
    for bit in [1, 4, 5, 16, 18, 17, 19] {
        let case = tpm::case(|parts| parts.attributes ^= 1 << bit);
        assert_eq!(case.refusal(), Refusal::KeyAttributes, "{bit}");
    }
    let scheme = tpm::case(|parts| parts.scheme = 0x14).refusal();
    assert!(matches!(scheme, Refusal::Algorithm { .. }), "{scheme:?}");
}
