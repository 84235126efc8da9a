//! Verification is cheap enough to be done for whoever asks.

use crate::capture::read_all;
use crate::captures;
use crate::forge::all;
use crate::forge::certificate::from_pem;
use consilium_attest::policy::{AMD_MILAN_ROOT, AWS_NITRO_ROOT};
use consilium_attest::verifier::{nitro, sev_snp};
use consilium_attest::{Collateral, Refusal};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Most processor time of one verification. Without optimisation only the order of magnitude counts.
const TIME_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 5 });
const ROUNDS: u32 = 16;

/// Processor time of this thread for one round, on average.
fn time<T>(mut round: impl FnMut() -> Result<T, Refusal>) -> Duration {
    let spent = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    };
    assert!(round().is_ok());
    let start = spent();
    for _ in 0..ROUNDS {
        assert!(round().is_ok());
    }
    (spent() - start) / ROUNDS
}

#[test]
fn forged_evidence_is_verified_in_a_few_milliseconds() {
    for case in all() {
        let spent = time(|| case.verdict());
        assert!(spent < TIME_MAX, "{}: {spent:?}", case.evidence.binding.kind);
    }
}

#[test]
fn captures_are_verified_in_a_few_milliseconds() {
    let names = ["sev-snp/report-milan.bin", "sev-snp/vcek-milan.der", "sev-snp/milan-ask-ark.pem"];
    let Some([report, leaf, pem]) = read_all(names) else { return };
    let collateral = Collateral { certificates: from_pem(&pem), ..Collateral::default() };
    let Some([document]) = read_all(["nitro/attestation-2025-12-25.cose"]) else { return };
    let (Some(sgx), Some(tdx)) = (captures::dcap::sgx(), captures::dcap::tdx()) else { return };
    let (endorsements, now) = ([leaf], 1_750_464_000);
    let spent = [
        time(|| sev_snp::authenticate(&report, &endorsements, &collateral, &[AMD_MILAN_ROOT], now)),
        time(|| nitro::authenticate(&document, &[AWS_NITRO_ROOT], 1_766_668_537)),
        time(|| sgx.authentic(now)),
        time(|| tdx.authentic(now)),
    ];
    assert!(spent.iter().all(|spent| *spent < TIME_MAX), "{spent:?}");
}
