//! Evidence under test roots, with our own binding: everything that hardware and vendors sign, signed here.

pub(crate) mod certificate;
pub(crate) mod dcap;
pub(crate) mod nitro;
pub(crate) mod snp;
pub(crate) mod tpm;

use consilium_attest::{
    Binding, Collateral, Evidence, EvidenceKind, Expected, Policy, Refusal, VerifiedModule, verify,
};

/// The time of all forged evidence: 2026-11-25, 12:00 UTC.
pub(crate) const NOW: u64 = 1_795_608_000;
pub(crate) const DAY: u64 = 24 * 3600;

/// One attempt to be accepted.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) evidence: Evidence,
    pub(crate) collateral: Collateral,
    pub(crate) policy: Policy,
    pub(crate) expected: Expected,
    pub(crate) now: u64,
}

impl Case {
    pub(crate) fn new(binding: Binding, body: Vec<u8>, policy: Policy) -> Self {
        Self {
            evidence: Evidence { binding, body, endorsements: Vec::new() },
            collateral: Collateral::default(),
            policy,
            expected: expected(),
            now: NOW,
        }
    }

    /// What the verifier says, after the evidence went over the wire.
    pub(crate) fn verdict(&self) -> Result<VerifiedModule, Refusal> {
        let evidence = Evidence::decode(&self.evidence.encode())?;
        verify(&evidence, &self.collateral, &self.policy, &self.expected, self.now)
    }

    pub(crate) fn refusal(&self) -> Refusal {
        self.verdict().expect_err("this must be refused")
    }
}

pub(crate) fn binding(kind: EvidenceKind) -> Binding {
    Binding {
        kind,
        boot: [0xb0; 16],
        channel_key: [0xc1; 32],
        receipt_key: [0xe2; 32],
        policy: [0x93; 32],
        nonce: [0x04; 32],
        verifier: b"the verifier's peer id".to_vec(),
    }
}

pub(crate) fn expected() -> Expected {
    let Binding { channel_key, policy, nonce, verifier, .. } = binding(EvidenceKind::Software);
    Expected { channel_key, policy, nonce, verifier, asked: NOW - 5 }
}

/// A policy with times and no table.
pub(crate) fn refusing() -> Policy {
    Policy {
        evidence_age_max_secs: 120,
        reattest_after_secs: 3600,
        sev_snp: None,
        tdx: None,
        sgx_dcap: None,
        nitro: None,
        tpm2: None,
        software: None,
    }
}

/// One accepted case of each kind that is forged here.
pub(crate) fn all() -> Vec<Case> {
    vec![
        snp::case(|_| ()),
        dcap::tdx(|_| ()),
        dcap::sgx(|_| ()),
        nitro::case(|_| ()),
        tpm::case(|_| ()),
        software(),
    ]
}

pub(crate) fn software() -> Case {
    let binding = binding(EvidenceKind::Software);
    let body = binding.report_data().to_vec();
    let software = Some(consilium_attest::policy::SoftwarePolicy { allow: true });
    Case::new(binding, body, Policy { software, ..refusing() })
}
