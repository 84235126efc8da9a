//! What a stream between two members is for.

use std::fmt;

/// The purpose of a channel, agreed by name when it is opened.
///
/// The version at the end of [`Role::protocol`] rises when the messages of that role change shape, so that
/// two versions refuse each other at opening and not in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Rounds of a live query between the two compute parties.
    Online,
    /// Agreement between the two compute parties: serials, ledger heads, sessions.
    Pair,
    /// Correlated randomness from a dealer.
    Deal,
    /// Openings of masked weights at registration.
    Mask,
    /// A model's shares from its owner to a compute party.
    Publish,
    /// A client's shared input and the answer to it.
    Query,
    /// Encrypted inputs of a client, which their owner computes on, and the answer to them.
    Homomorphic,
    /// A file of encodings between two hospitals, where the roster calls it an experiment.
    Laboratory,
    /// Bytes between a compute party and the module that draws noise, which the module's host carries.
    Module,
    /// What a member tells another about its health.
    Status,
    /// Versions of the signed roster, proposals and signatures between members.
    Roster,
    /// Somebody with an invitation asks to become a member: the only role for a peer that is none.
    Join,
    /// Where members answer now, kept by those that others reach. The network layer speaks it by itself.
    Meet,
}

impl Role {
    /// Every role that callers open and accept, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::Online,
        Self::Pair,
        Self::Deal,
        Self::Mask,
        Self::Publish,
        Self::Query,
        Self::Homomorphic,
        Self::Laboratory,
        Self::Module,
        Self::Status,
        Self::Roster,
        Self::Join,
    ];

    /// What a member may open.
    pub(super) const MEMBER: [Self; 13] = [
        Self::Online,
        Self::Pair,
        Self::Deal,
        Self::Mask,
        Self::Publish,
        Self::Query,
        Self::Homomorphic,
        Self::Laboratory,
        Self::Module,
        Self::Status,
        Self::Roster,
        Self::Join,
        Self::Meet,
    ];

    /// What somebody who is no member may open.
    pub(super) const GUEST: [Self; 1] = [Self::Join];

    /// The lower-case name, as logs and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Pair => "pair",
            Self::Deal => "deal",
            Self::Mask => "mask",
            Self::Publish => "publish",
            Self::Query => "query",
            Self::Homomorphic => "homomorphic",
            Self::Laboratory => "laboratory",
            Self::Module => "module",
            Self::Status => "status",
            Self::Roster => "roster",
            Self::Join => "join",
            Self::Meet => "meet",
        }
    }

    /// The name on the wire, for example `/consilium/online/1`.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Online => "/consilium/online/2",
            Self::Pair => "/consilium/pair/2",
            Self::Deal => "/consilium/deal/1",
            Self::Mask => "/consilium/mask/1",
            Self::Publish => "/consilium/publish/1",
            Self::Query => "/consilium/query/1",
            Self::Homomorphic => "/consilium/homomorphic/1",
            Self::Laboratory => "/consilium/laboratory/1",
            Self::Module => "/consilium/module/1",
            Self::Status => "/consilium/status/1",
            Self::Roster => "/consilium/roster/1",
            Self::Join => "/consilium/join/1",
            Self::Meet => "/consilium/meet/1",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The wire name: stream negotiation works on strings.
impl AsRef<str> for Role {
    fn as_ref(&self) -> &str {
        self.protocol()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_names_hold_the_name_and_the_version() {
        for role in Role::MEMBER {
            let version = if matches!(role, Role::Online | Role::Pair) { 2 } else { 1 };
            assert_eq!(role.protocol(), format!("/consilium/{}/{version}", role.name()));
        }
    }
}
