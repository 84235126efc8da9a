//! The module that draws noise unknown to everybody.

use crate::{digest::Hasher, name::Name};
use consilium_attest::Policy;
use serde::{Serialize, Serializer};

/// Which node carries bytes to the module, and what must vouch for the module before its noise is used.
///
/// The host sees only what is encrypted between the module and each compute party. It can cut the line, and it
/// has the machine in hand, which breaks every kind of evidence; a compute party that hosts is therefore allowed
/// and unwise: broken hardware would show it the noise that hides the votes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The member whose node carries bytes to the module.
    pub host: Name,
    /// What evidence must say to be accepted, the same for both compute parties.
    #[serde(serialize_with = "written")]
    pub policy: Policy,
}

impl Module {
    pub(super) fn feed(&self, hasher: &mut Hasher) {
        let mut policy = Vec::new();
        // Fields in the order of their declaration, each with its name; whatever differs, differs here.
        ciborium::into_writer(&self.policy, &mut policy)
            .expect("a policy holds texts, numbers and lists only");
        hasher.text(self.host.as_str());
        hasher.bytes(&policy);
    }
}

/// TOML has no larger number; a time that is cut here is far out of range and refused on reading.
fn written<S: Serializer>(policy: &Policy, serializer: S) -> Result<S::Ok, S::Error> {
    const LARGEST: u64 = i64::MAX.cast_unsigned();
    let mut policy = policy.clone();
    policy.evidence_age_max_secs = policy.evidence_age_max_secs.min(LARGEST);
    policy.reattest_after_secs = policy.reattest_after_secs.min(LARGEST);
    policy.serialize(serializer)
}
