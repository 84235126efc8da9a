//! The module in a virtual machine with a measured boot, as both compute parties see it.
//!
//! Slow: it builds the module and boots four times. `cargo test --release -p consilium-tests --test measured --
//! --ignored`

#![allow(clippy::unwrap_used, reason = "a test")]

use consilium_attest::module::signature::PartyKey;
use consilium_attest::module::specification::{SignedSpecification, Specification};
use consilium_attest::noise_client::ProofError;
use consilium_attest::verifier::tpm2::{TpmBody, authenticate};
use consilium_attest::{Binding, EvidenceKind, Policy, Refusal};
use consilium_protocol::privacy::Mechanism;
use consilium_tests::measured::{Image, Machine, Shown, Tools, build_module, judge, open};
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::path::Path;

const ROSTER: [u8; 32] = [7; 32];

fn key(seat: u8) -> SigningKey {
    SigningKey::from_bytes(&[seat + 1; 32])
}

fn signed(boot: [u8; 16]) -> SignedSpecification {
    let wanted = Specification {
        mechanism: Mechanism::Gaussian { sigma_squared: "25".parse().unwrap() },
        classes: 10,
        draws: 100,
        task: [1; 32],
        policy: ROSTER,
        boot,
        batch: [9; 16],
        parties: [0, 1].map(|seat| key(seat).public()),
    };
    let signatures = [0, 1].map(|seat| wanted.sign(&key(seat)).unwrap());
    wanted.signed(signatures).unwrap()
}

fn registers(shown: &Shown) -> BTreeMap<u8, [u8; 32]> {
    TpmBody::decode(&shown.evidence.body).unwrap().registers
}

/// Both parties prove the module and draw from it; what the first one saw.
fn draw(socket: &Path, policy: &Policy) -> Shown {
    let [(mut zero, shown), (mut one, _)] =
        [0, 1].map(|seat| open(socket, &key(seat), ROSTER, Some(policy)).unwrap());
    let wanted = signed(*zero.boot());
    zero.request(&wanted).unwrap();
    let (one_half, zero_half) = (one.draw(&wanted).unwrap(), zero.collect().unwrap());
    assert_eq!(zero_half.receipt(), one_half.receipt());
    let mut variance = 0.0;
    for (zero, one) in zero_half.into_shares().into_iter().zip(one_half.into_shares()) {
        for (zero, one) in zero.into_values().iter().zip(one.into_values().iter()) {
            variance += (zero.wrapping_add(*one) as f64).powi(2) / 1_000.0;
        }
    }
    // The relative deviation of a variance over 1,000 draws is 4.5 %; software noise would have 50.
    assert!((variance / 25.0 - 1.0).abs() < 0.4, "{variance}");
    shown
}

/// Why a policy refuses the module behind a socket.
fn refused(socket: &Path, policy: &Policy) -> Refusal {
    match open(socket, &key(0), ROSTER, Some(policy)) {
        Err(ProofError::Refused(refusal)) => refusal,
        Err(ProofError::Client(error)) => panic!("{error}"),
        Ok((_, shown)) => panic!("accepted: {}", shown.verified),
    }
}

/// The registers that differ from an earlier boot's.
fn differing(socket: &Path, earlier: &Shown) -> Vec<u8> {
    let (_, shown) = open(socket, &key(0), ROSTER, None).unwrap();
    let (now, before) = (registers(&shown), registers(earlier));
    now.into_iter().filter(|(index, value)| before[index] != *value).map(|(index, _)| index).collect()
}

#[test]
#[ignore = "builds a static program and boots four times"]
fn the_image_that_was_measured_is_accepted_and_no_other() {
    let Some(tools) = Tools::find_or_skip("the measured boot") else { return };
    let module = build_module().unwrap();
    let image = Image::new(&tools, &module, &[]).unwrap();
    assert_eq!(image, Image::new(&tools, &module, &[]).unwrap());
    let folder = tempfile::tempdir().unwrap();

    // Somebody watches a first boot and writes down what was measured.
    let machine = Machine::boot(&tools, &image, folder.path()).unwrap();
    let (_, first) = open(machine.socket(), &key(0), ROSTER, None).unwrap();
    let policy = first.policy.clone();
    assert_eq!(first.verified.kind(), EvidenceKind::Tpm2);
    let empty = registers(&first).into_iter().filter(|(_, value)| *value == [0; 32]).map(|(index, _)| index);
    assert!(!empty.collect::<Vec<_>>().iter().any(|index| [0, 1, 2, 3, 4, 5, 6, 7, 9].contains(index)));
    drop(machine);

    // The same image on the same machine is the same module to the policy, and another one to the parties.
    let machine = Machine::boot(&tools, &image, folder.path()).unwrap();
    let second = draw(machine.socket(), &policy);
    assert_eq!(registers(&first), registers(&second));
    assert_ne!(first.verified.boot(), second.verified.boot());
    assert_ne!(first.verified.channel_key(), second.verified.channel_key());
    let [before, after] = [&first, &second].map(|shown| authenticate(&shown.evidence.body).unwrap().resets());
    assert!(after > before, "{before} {after}");
    // What the first boot showed answers no question about the second.
    let replayed = judge(&first.evidence, &second.evidence.binding, &policy);
    assert_eq!(replayed.unwrap_err(), Refusal::Nonce);
    let relabelled = Binding { nonce: second.evidence.binding.nonce, ..first.evidence.binding.clone() };
    let replayed = consilium_attest::Evidence { binding: relabelled.clone(), ..first.evidence.clone() };
    assert_eq!(judge(&replayed, &relabelled, &policy).unwrap_err(), Refusal::Unbound);
    drop(machine);

    // One more file in the image.
    let changed = Image::new(&tools, &module, &[("more", b"x")]).unwrap();
    let machine = Machine::boot(&tools, &changed, folder.path()).unwrap();
    let refusal = refused(machine.socket(), &policy);
    assert!(matches!(refusal, Refusal::Measurement { kind: EvidenceKind::Tpm2, .. }), "{refusal}");
    assert_eq!(differing(machine.socket(), &first), [4, 9]);
    drop(machine);

    // The same image under another command line of the same length.
    let mut told = image;
    told.command_line = told.command_line.replace("quiet", "debug");
    let machine = Machine::boot(&tools, &told, folder.path()).unwrap();
    let refusal = refused(machine.socket(), &policy);
    assert!(matches!(refusal, Refusal::Measurement { kind: EvidenceKind::Tpm2, .. }), "{refusal}");
    assert_eq!(differing(machine.socket(), &first), [9]);
}
