//! Whatever bytes come, a named refusal comes out, and no more memory than a bounded multiple of them.
//! `CONSILIUM_FUZZ_CASES` sets how many cases each decoder meets, here and in the suites inside the crate.

use crate::capture;
use crate::forge::{Case, NOW, all, certificate, snp};
use ciborium::Value;
use consilium_attest::policy::{AMD_MILAN_ROOT, AWS_NITRO_ROOT, INTEL_SGX_ROOT};
use consilium_attest::verifier::tpm2::TpmBody;
use consilium_attest::verifier::{dcap, nitro, sev_snp, tpm2};
use consilium_attest::{Collateral, Evidence, Refusal};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most memory that the process may have touched when a property ends, and most that it may have asked for: a buffer
/// for a length that nobody has is asked for and not touched. In kilobytes; the second holds much for the arenas of
/// threads.
const TOUCHED_KB_MAX: u64 = 512 * 1024;
const ASKED_KB_MAX: u64 = 4 * 1024 * 1024;
const LOOK_EVERY: u64 = 64;

static CASES: LazyLock<Vec<Case>> = LazyLock::new(all);
/// Those of which every bit of the body is signed or has one form: all but Intel's quotes.
const TIGHT: [usize; 4] = [0, 3, 4, 5];
static REPORT: LazyLock<Case> = LazyLock::new(|| snp::case(|_| ()));
/// A list of revoked certificates; signing one takes longer than refusing many.
static LIST: LazyLock<Vec<u8>> =
    LazyLock::new(|| certificate::revoke(&[9], snp::ROOT, &snp::KEYS.root, NOW - 1, Some(NOW + 1)));

fn config() -> ProptestConfig {
    let cases = std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(512);
    // Changes that change nothing are skipped. They are a small part, but a part of whatever number is asked for.
    let max_global_rejects = u32::MAX;
    ProptestConfig { cases, max_global_rejects, failure_persistence: None, ..ProptestConfig::default() }
}

/// One way of changing bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Cut(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f), Just(0x80)];
    let change = prop_oneof![
        6 => (any::<usize>(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<usize>(), 0usize..64).prop_map(|(at, bytes)| Change::Cut(at, bytes)),
        1 => (any::<usize>(), prop::collection::vec(any::<u8>(), 0..16)).prop_map(|(at, new)| Change::Insert(at, new)),
        1 => (any::<usize>(), 0usize..256).prop_map(|(at, bytes)| Change::Repeat(at, bytes)),
    ];
    prop::collection::vec(change, 1..6)
}

fn apply(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let place = |at: &usize, bytes: &[u8]| at % (bytes.len() + 1);
        match change {
            Change::Set(at, byte) => {
                let at = place(at, &bytes);
                if let Some(target) = bytes.get_mut(at) {
                    *target = *byte;
                }
            }
            Change::Cut(at, count) => {
                let at = place(at, &bytes);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Change::Insert(at, new) => {
                let at = place(at, &bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Repeat(at, count) => {
                let at = place(at, &bytes);
                let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    // CBOR heads with lengths that nobody has, and DER ones.
    let head = prop_oneof![
        Just(vec![]),
        Just(vec![0x84, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0xbb, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]),
        Just(vec![0x5b, 0, 0, 0, 0x40, 0, 0, 0, 0]),
        Just(vec![0x9a, 0x10, 0, 0, 0]),
        Just(vec![0x81; 200]),
        Just(vec![0xc0; 200]),
        Just(vec![0x9f; 200]),
    ];
    // From a seed: a strategy for every byte would take longer than all decoders together.
    (head, any::<u64>(), 0..2000usize).prop_map(|(mut bytes, seed, length)| {
        let mut random = StdRng::seed_from_u64(seed);
        bytes.extend((0..length).map(|_| random.random::<u8>()));
        bytes
    })
}

/// The most memory that this process ever touched and ever asked for.
fn peak_kb() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    ["VmHWM:", "VmPeak:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

/// Looks now and then: peaks stay, and looking takes longer than most refusals.
fn memory_is_bounded() -> bool {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if !CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
        return true;
    }
    let [touched, asked] = peak_kb();
    (1..TOUCHED_KB_MAX).contains(&touched) && asked < ASKED_KB_MAX
}

/// A decoder that gets bytes which nobody signed refuses them, for a reason that can be printed.
fn refused<T>(verdict: Result<T, Refusal>) {
    let refusal = verdict.err().expect("nobody signed this");
    assert!((20..1000).contains(&refusal.to_string().len()), "{refusal}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in any_bytes()) {
        refused(Evidence::decode(&bytes));
        refused(TpmBody::decode(&bytes));
        refused(tpm2::key_name(&bytes));
        refused(tpm2::authenticate(&bytes));
        refused(nitro::authenticate(&bytes, &[AWS_NITRO_ROOT], NOW));
        let collateral = Collateral::default();
        refused(sev_snp::authenticate(&bytes, &[], &collateral, &[AMD_MILAN_ROOT], NOW));
        refused(dcap::authenticate(&bytes, &collateral, &[INTEL_SGX_ROOT], NOW));
        let text = Some(String::from_utf8_lossy(&bytes).into_owned());
        let collateral = Collateral { dcap: text, ..Collateral::default() };
        refused(dcap::authenticate(&CASES[1].evidence.body, &collateral, &[INTEL_SGX_ROOT], NOW));
        refused(tpm2::endorsement_key(&[&bytes, &bytes], &[AMD_MILAN_ROOT], NOW));
        prop_assert!(memory_is_bounded());
    }

    #[test]
    fn changed_envelopes_are_refused_or_say_the_same(which in 0..6usize, changes in changes()) {
        let case = &CASES[which];
        let bytes = apply(&case.evidence.encode(), &changes);
        match Evidence::decode(&bytes) {
            Ok(evidence) => {
                prop_assert_eq!(evidence.encode(), bytes);
                prop_assert!(memory_is_bounded());
                let case = Case { evidence, ..case.clone() };
                // What is not signed may change, and then it must not matter.
                if let Ok(module) = case.verdict() {
                    prop_assert_eq!(&case.evidence.binding, &CASES[which].evidence.binding);
                    prop_assert_eq!(module.kind(), case.evidence.binding.kind);
                }
            }
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }

    #[test]
    fn changed_bodies_are_refused(which in prop::sample::select(TIGHT.to_vec()), changes in changes()) {
        let mut case = CASES[which].clone();
        case.evidence.body = apply(&case.evidence.body, &changes);
        prop_assume!(case.evidence.body != CASES[which].evidence.body);
        refused(case.verdict());
        prop_assert!(memory_is_bounded());
    }

    #[test]
    fn changed_quotes_are_refused_or_say_the_same(which in 1..3usize, changes in changes()) {
        let mut case = CASES[which].clone();
        case.evidence.body = apply(&case.evidence.body, &changes);
        if let Ok(module) = case.verdict() {
            let before = CASES[which].verdict().unwrap();
            prop_assert_eq!(module.measurement(), before.measurement());
        }
        prop_assert!(memory_is_bounded());
    }

    #[test]
    fn changed_data_of_intel_is_refused_or_says_the_same(which in 1..3usize, changes in changes()) {
        let mut case = CASES[which].clone();
        let text = case.collateral.dcap.unwrap();
        case.collateral.dcap = Some(String::from_utf8_lossy(&apply(text.as_bytes(), &changes)).into_owned());
        if let Ok(module) = case.verdict() {
            let before = CASES[which].verdict().unwrap();
            prop_assert_eq!(module.level(), before.level());
        }
    }

    #[test]
    fn changed_certificates_are_refused(which in 0..3usize, changes in changes()) {
        let mut case = REPORT.clone();
        let certificate = match which {
            0 => &mut case.evidence.endorsements[0],
            other => &mut case.collateral.certificates[other - 1],
        };
        let before = certificate.clone();
        *certificate = apply(&before, &changes);
        prop_assume!(*certificate != before);
        refused(case.verdict());
    }

    #[test]
    fn changed_lists_of_revoked_certificates_are_refused(changes in changes()) {
        let changed = apply(&LIST, &changes);
        prop_assume!(changed != *LIST);
        let mut case = REPORT.clone();
        case.policy.sev_snp.as_mut().unwrap().require_revocation_list = true;
        case.collateral.revocation_lists = vec![changed];
        refused(case.verdict());
    }

    #[test]
    fn changed_captures_are_refused(changes in changes()) {
        let Some(body) = capture::read("nitro/attestation-2025-12-25.cose") else { return Ok(()) };
        let changed = apply(&body, &changes);
        prop_assume!(changed != body);
        refused(nitro::authenticate(&changed, &[AWS_NITRO_ROOT], 1_766_668_537));
    }
}

#[test]
fn nesting_is_refused_before_the_stack_ends() {
    let heads: [&[u8]; 9] =
        [&[0x81], &[0x9f], &[0xa1], &[0xa1, 0], &[0xbf, 0], &[0xc0], &[0xd8, 24], &[0x5f], &[0x7f]];
    for head in heads {
        let nested = |bytes: usize| head.repeat(bytes / head.len());
        refused(Evidence::decode(&nested(64 * 1024)));
        refused(TpmBody::decode(&nested(8 * 1024)));
        refused(nitro::authenticate(&nested(16 * 1024), &[AWS_NITRO_ROOT], NOW));
        // In the places of a document that are CBOR again.
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        for (header, payload) in
            [(&nested(15 * 1024)[..], &[0xa0][..]), (&[0xa1, 0x01, 0x38, 0x22], &nested(15 * 1024))]
        {
            let document = [bytes(header), Value::Map(vec![]), bytes(payload), bytes(&[0; 96])];
            let mut body = Vec::new();
            ciborium::into_writer(&Value::Array(document.to_vec()), &mut body).unwrap();
            refused(nitro::authenticate(&body, &[AWS_NITRO_ROOT], NOW));
        }
    }
    let quote = &CASES[1];
    for open in ["[", "{\"a\":"] {
        let text = open.repeat(200 * 1024 / open.len());
        let mut intel: serde_json::Value =
            serde_json::from_str(quote.collateral.dcap.as_ref().unwrap()).unwrap();
        intel["tcb_info"] = serde_json::Value::String(text.clone());
        for dcap in [text, intel.to_string()] {
            let collateral = Collateral { dcap: Some(dcap), ..Collateral::default() };
            let roots = &quote.policy.tdx.as_ref().unwrap().platform.roots;
            refused(dcap::authenticate(&quote.evidence.body, &collateral, roots, NOW));
        }
    }
}
