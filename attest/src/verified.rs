//! Proofs that something was verified: values that only verification makes.

use crate::binding::{Binding, EvidenceKind};
use crate::hex::digits;
use crate::policy::Policy;
use crate::refusal::Refusal;
use std::fmt;

/// What this session knows by itself and evidence must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The module's static key as the Noise handshake proved it.
    pub channel_key: [u8; 32],
    /// SHA-256 of the task policy or roster, from the own files.
    pub policy: [u8; 32],
    /// The nonce that this verifier drew for this question.
    pub nonce: [u8; 32],
    /// When it drew it, in Unix seconds.
    pub asked: u64,
    /// The own peer id.
    pub verifier: Vec<u8>,
}

impl Expected {
    /// Refuses a binding that belongs to another question, channel, roster or verifier.
    pub(crate) fn matches(&self, binding: &Binding, policy: &Policy, now: u64) -> Result<(), Refusal> {
        if binding.verifier != self.verifier {
            return Err(Refusal::Verifier);
        }
        if binding.nonce != self.nonce {
            return Err(Refusal::Nonce);
        }
        if binding.channel_key != self.channel_key {
            return Err(Refusal::ChannelKey);
        }
        if binding.policy != self.policy {
            return Err(Refusal::Roster);
        }
        aged(self.asked, policy.evidence_age_max_secs, now)
    }
}

/// Refuses what was made too long before now, or after it.
pub(crate) fn aged(made: u64, most: u64, now: u64) -> Result<(), Refusal> {
    /// Clocks of honest machines differ this much, in seconds.
    const SKEW_MAX: u64 = 60;
    let ahead = made.saturating_sub(now);
    if ahead > SKEW_MAX {
        return Err(Refusal::FromTheFuture { ahead });
    }
    let age = now.saturating_sub(made);
    if age > most {
        return Err(Refusal::Stale { age, most });
    }
    Ok(())
}

/// Evidence whose signatures and contents the policy accepts, not yet tied to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraised {
    pub(crate) kind: EvidenceKind,
    pub(crate) user_data: Vec<u8>,
    pub(crate) measurement: String,
    pub(crate) platform: String,
    pub(crate) level: String,
    pub(crate) valid_until: u64,
}

impl Appraised {
    /// Accepts the module for a session if the hardware signed exactly its binding.
    pub(crate) fn bound(
        self,
        binding: &Binding,
        policy: &Policy,
        now: u64,
    ) -> Result<VerifiedModule, Refusal> {
        let (whole, half) = (binding.report_data(), binding.qualifying_data());
        let signed: &[u8] = if binding.kind == EvidenceKind::Tpm2 { &half } else { &whole };
        if self.kind != binding.kind || *signed != *self.user_data {
            return Err(Refusal::Unbound);
        }
        let valid_until = self.valid_until.min(now.saturating_add(policy.reattest_after_secs));
        Ok(VerifiedModule { binding: binding.clone(), appraised: self, verified_at: now, valid_until })
    }
}

/// A module that this verifier accepts: its keys, what vouches for them and until when.
///
/// Only [`verify`](crate::verify) makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedModule {
    binding: Binding,
    appraised: Appraised,
    verified_at: u64,
    valid_until: u64,
}

impl VerifiedModule {
    /// What vouches for the module.
    pub const fn kind(&self) -> EvidenceKind {
        self.binding.kind
    }

    /// The start of the module that was verified; after a restart it is another one.
    pub const fn boot(&self) -> [u8; 16] {
        self.binding.boot
    }

    /// X25519 key of the module's end of the channel.
    pub const fn channel_key(&self) -> [u8; 32] {
        self.binding.channel_key
    }

    /// Ed25519 key of its receipts.
    pub const fn receipt_key(&self) -> [u8; 32] {
        self.binding.receipt_key
    }

    /// What was measured, in digits.
    pub fn measurement(&self) -> &str {
        &self.appraised.measurement
    }

    /// The machine, as far as the evidence names it.
    pub fn platform(&self) -> &str {
        &self.appraised.platform
    }

    /// The state of its firmware, in the vendor's terms.
    pub fn level(&self) -> &str {
        &self.appraised.level
    }

    /// When it was verified, in Unix seconds.
    pub const fn verified_at(&self) -> u64 {
        self.verified_at
    }

    /// The last second, Unix, in which this verdict counts: the earliest end of certificates, vendor data and
    /// the policy's interval.
    pub const fn valid_until(&self) -> u64 {
        self.valid_until
    }

    /// Whether the verdict counts at `now`. A clock that went back does not prolong it.
    pub const fn holds_at(&self, now: u64) -> bool {
        self.verified_at <= now && now <= self.valid_until
    }
}

impl fmt::Display for VerifiedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Appraised { measurement, platform, level, .. } = &self.appraised;
        match self.kind() {
            EvidenceKind::Software => f.write_str("software evidence: NOTHING vouches for this module"),
            kind => write!(f, "{kind}, measurement {measurement}, platform {platform}, {level}"),
        }
    }
}

impl fmt::Debug for VerifiedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedModule({self}, boot {}, until {})", digits(&self.boot()), self.valid_until)
    }
}
