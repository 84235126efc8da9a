//! What nodes tell each other about the roster.

use super::invitation::Application;
use super::statement::{Fingerprint, Version};
use crate::message::Refusal;
use crate::net::PeerId;
use serde::{Deserialize, Serialize};

/// Longest request of a member: marks of all proposals with their signers.
pub(super) const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Longest reply: one version at its largest, or several small ones.
pub(super) const REPLY_BYTES_MAX: usize = 4 << 20;
/// Versions in one reply weigh no more, unless it is one alone.
pub(super) const REPLY_BYTES_WANTED: usize = 1 << 20;
/// Longest request of a guest.
pub(super) const GUEST_BYTES_MAX: usize = 8 << 10;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// The consortium.
    pub(super) consortium: Fingerprint,
    /// Last version that it holds.
    pub(super) version: u64,
    /// What that version is.
    pub(super) head: Fingerprint,
    /// The version that it runs by; earlier where its administrator has not agreed to the last one.
    pub(super) in_force: u64,
    /// Signed proposals for the next version.
    pub(super) proposals: Vec<Mark>,
}

/// A proposal, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) proposal: Fingerprint,
    pub(super) signers: Vec<PeerId>,
}

/// From a member to a member, any number on one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum RosterRequest {
    /// Says where this node stands. Answered by [`RosterReply::Standing`].
    Compare(Hello),
    /// Versions from this number on. Answered by [`RosterReply::Versions`], some at a time.
    Fetch { from: u64 },
    /// A proposal with the signatures that are known. Answered by [`RosterReply::Proposal`].
    Proposal { proposal: Fingerprint },
}

/// To it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum RosterReply {
    /// Where the other node stands.
    Standing(Hello),
    /// Versions in order; none if there is none from that number on.
    Versions(Vec<Version>),
    /// The proposal, unless it was replaced.
    Proposal(Option<Box<Version>>),
    /// Not granted.
    Refused(Refusal),
}

/// From a guest to the member that invited it, any number on one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum JoinRequest {
    /// Uses an invitation, or asks how it goes. Answered by [`JoinReply::Pending`].
    Apply(Application),
    /// Versions from this number on, after an application. Answered by [`JoinReply::Versions`].
    Fetch { from: u64 },
}

/// To it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum JoinReply {
    /// The application is with the members.
    Pending(Pending),
    /// Versions in order.
    Versions(Vec<Version>),
    /// Not granted.
    Refused(Refusal),
}

/// How an application goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The last version.
    pub version: u64,
    /// Whether the applicant stands in it.
    pub member: bool,
    /// Roles to be.
    pub roles: Vec<String>,
    /// The proposal that the members may sign.
    pub proposal: Option<Fingerprint>,
    /// Members who have signed it.
    pub signed: usize,
    /// Signatures that it needs.
    pub needed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consortium::trial::{founded, next, people, text};
    use crate::net::codec;
    use proptest::prelude::*;

    #[test]
    fn the_largest_messages_fit_their_bounds() {
        let [north, ..] = people();
        let signer = north.identity.peer_id();
        let first = founded(&[&north], "");
        let mark = Mark { proposal: first.fingerprint(), signers: vec![signer; 128] };
        let hello = Hello {
            consortium: first.fingerprint(),
            version: u64::MAX,
            head: first.fingerprint(),
            in_force: u64::MAX,
            proposals: vec![mark; crate::consortium::PROPOSALS_MAX],
        };
        assert!(codec::encode(&RosterRequest::Compare(hello)).unwrap().len() < REQUEST_BYTES_MAX);
        let mut version = next(&first, text(&[&north], ""), &[&north]);
        version.signed.signatures = vec![version.signed.signatures[0]; crate::consortium::SIGNATURES_MAX];
        version.text = "#".repeat(crate::consortium::TEXT_BYTES_MAX);
        let (weight, reply) = (version.weight(), RosterReply::Versions(vec![version]));
        let bytes = codec::encode(&reply).unwrap().len();
        assert!(bytes < REPLY_BYTES_MAX && bytes <= weight + 1024, "{bytes} of {weight}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = codec::decode::<RosterRequest>(&bytes);
            let _ = codec::decode::<RosterReply>(&bytes);
            let _ = codec::decode::<JoinRequest>(&bytes);
            let _ = codec::decode::<JoinReply>(&bytes);
        }
    }
}
