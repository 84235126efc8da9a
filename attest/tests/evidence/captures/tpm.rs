//! A TPM emulator, which signs as a TPM does.

use super::policy;
use crate::capture::read_all;
use crate::forge::certificate::{fingerprint, from_pem};
use crate::forge::{Case, binding};
use consilium_attest::policy::{Image, Register, TpmPolicy};
use consilium_attest::verifier::tpm2::{TpmBody, authenticate, endorsement_key, key_name};
use consilium_attest::{EvidenceKind, Hex, Policy, Refusal};
use std::collections::BTreeMap;

const NOW: u64 = 1_795_608_000;

/// The PCR values in the file that `tpm2_quote` writes: the selection, then lists of at most eight digests, as the
/// structures lie in memory on a little-endian machine.
fn registers(file: &[u8]) -> BTreeMap<u8, [u8; 32]> {
    let bits = &file[7..10];
    let selected = (0..24u8).filter(|index| bits[usize::from(index / 8)] >> (index % 8) & 1 == 1);
    let lists = file[136..].chunks(532);
    let digests = lists.flat_map(|list| {
        let count = usize::try_from(u32::from_le_bytes(list[..4].try_into().unwrap())).unwrap();
        list[4..].chunks(66).take(count).map(|digest| digest[2..34].try_into().unwrap())
    });
    selected.zip(digests).collect()
}

/// The captured quote, and its nonce.
pub(crate) fn capture() -> Option<(TpmBody, Vec<u8>)> {
    let names = ["tpm2/quote.tpms_attest", "tpm2/quote.tpmt_signature", "tpm2/ak.tpm2b_public"];
    let [attest, signature, public] = read_all(names)?;
    let [pcrs, nonce] = read_all(["tpm2/quote.pcrs", "tpm2/nonce.hex"])?;
    let nonce: Hex<32> = std::str::from_utf8(&nonce).unwrap().trim().parse().unwrap();
    let registers = registers(&pcrs);
    assert_eq!(registers.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 14]);
    Some((TpmBody { attest, signature, public, registers }, nonce.0.to_vec()))
}

fn rules(body: &TpmBody) -> TpmPolicy {
    let registers =
        body.registers.iter().map(|(index, value)| Register { index: *index, value: Hex(*value) });
    TpmPolicy {
        keys: vec![key_name(&body.public).unwrap()],
        images: vec![Image { registers: registers.collect() }],
    }
}

#[test]
fn the_quote_is_good() {
    let Some((body, nonce)) = capture() else { return };
    let quote = authenticate(&body.encode()).unwrap();
    quote.appraise(&rules(&body)).unwrap();
    assert_eq!((quote.key(), quote.resets()), (key_name(&body.public).unwrap(), 2));
    assert!(body.attest.windows(32).any(|part| part == nonce));
}

#[test]
fn other_keys_values_and_registers_are_refused() {
    let Some((body, _)) = capture() else { return };
    let quote = authenticate(&body.encode()).unwrap();
    let stranger = TpmPolicy { keys: vec![Hex([1; 32])], ..rules(&body) };
    assert!(matches!(quote.appraise(&stranger), Err(Refusal::KeyNotEnrolled { .. })));
    let mut other = rules(&body);
    other.images[0].registers[8].value = Hex([0; 32]);
    let refused = quote.appraise(&other).unwrap_err();
    assert!(matches!(&refused, Refusal::Measurement { register, .. } if register == "PCR 14"), "{refused:?}");
    let mut more = rules(&body);
    more.images[0].registers.push(Register { index: 9, value: Hex([0; 32]) });
    let refused = quote.appraise(&more).unwrap_err();
    assert!(
        matches!(&refused, Refusal::MeasurementMissing { register, .. } if register == "PCR 9"),
        "{refused:?}"
    );
    let mut changed = body.clone();
    changed.registers.insert(14, [0; 32]);
    assert_eq!(authenticate(&changed.encode()), Err(Refusal::PcrDigest));
    changed.registers.remove(&14);
    assert_eq!(authenticate(&changed.encode()), Err(Refusal::PcrDigest));
}

#[test]
fn the_endorsement_key_leads_to_the_local_authority() {
    let Some([leaf, pem]) = read_all(["tpm2/ek-rsa.der", "tpm2/swtpm-localca.pem"]) else { return };
    let authorities = from_pem(&pem);
    let chain = [&leaf[..], &authorities[0], &authorities[1]];
    let root = fingerprint(&authorities[1]);
    let key = endorsement_key(&chain, &[root], NOW).unwrap();
    assert_eq!(key.fingerprint(), fingerprint(&leaf));
    assert!(key.key().len() > 256);
    let other = endorsement_key(&chain, &[Hex([0; 32])], NOW);
    assert_eq!(other, Err(Refusal::UnknownRoot { fingerprint: root }));
    let early = endorsement_key(&chain, &[root], NOW - 365 * 24 * 3600);
    assert!(matches!(early, Err(Refusal::CertificateEarly { .. })), "{early:?}");
    let skipped = endorsement_key(&[&leaf, &authorities[1]], &[root], NOW);
    assert!(matches!(skipped, Err(Refusal::Issuer { .. })), "{skipped:?}");
    let authority = endorsement_key(&[&authorities[0], &authorities[1]], &[root], NOW);
    assert!(matches!(authority, Err(Refusal::LeafIssues { .. })), "{authority:?}");
}

#[test]
fn a_capture_vouches_for_no_module_of_ours() {
    let Some((body, _)) = capture() else { return };
    let policy = Policy { tpm2: Some(rules(&body)), ..policy() };
    let case = Case::new(binding(EvidenceKind::Tpm2), body.encode(), policy);
    assert_eq!(case.refusal(), Refusal::Unbound);
}
