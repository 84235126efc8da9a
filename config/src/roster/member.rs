//! Members of a consortium and the pairs that compute for it.

use crate::{
    address::Address,
    digest::Hasher,
    error::{ValueError, quoted},
    name::{Name, PeerName},
};
use serde::Serialize;
use std::{fmt, str::FromStr};

/// One organisation's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// By which the rest of the roster refers to it.
    pub name: Name,
    /// The key it is known by on the network.
    pub peer: PeerName,
    /// Who runs it. Where given, the members of one pair must differ in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Where it can be dialled; empty for one that only dials.
    pub addresses: Vec<Address>,
    /// What it may do, without repetition.
    pub roles: Vec<Role>,
}

impl Member {
    /// Whether the member may act in a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether its signature counts for the next version of a roster: whoever has a model or holds shares has
    /// something to lose by a bad one.
    pub fn votes(&self) -> bool {
        self.has(Role::Owner) || self.has(Role::Compute)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.text(self.name.as_str());
        hasher.text(self.peer.as_str());
        hasher.list(self.organisation.as_slice(), |hasher, text| hasher.text(text));
        hasher.list(&self.addresses, |hasher, address| hasher.text(address.as_str()));
        hasher.list(&self.roles, |hasher, role| hasher.text(role.as_str()));
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Has a model.
    Owner,
    /// Asks.
    Client,
    /// Holds one of the two shares.
    Compute,
    /// Makes correlated randomness, and never sees a query.
    Dealer,
}

impl Role {
    /// Every role with its word in the roster.
    pub(super) const WORDS: [(&str, Self); 4] = [
        ("owner", Self::Owner),
        ("client", Self::Client),
        ("compute", Self::Compute),
        ("dealer", Self::Dealer),
    ];

    /// The word in the roster.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Client => "client",
            Self::Compute => "compute",
            Self::Dealer => "dealer",
        }
    }
}

impl FromStr for Role {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, role)| *role)
            .ok_or_else(|| ValueError::new("one of `owner`, `client`, `compute`, `dealer`", quoted(text)))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Two members that compute together and must not collude, and who deals for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// By which tasks refer to it.
    pub name: Name,
    /// The member in seat zero.
    pub zero: Name,
    /// The member in seat one.
    pub one: Name,
    /// Who deals correlated randomness; nobody where the two make it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dealer: Option<Name>,
}

impl Pair {
    /// Zero, one and, if there is one, the dealer.
    pub fn members(&self) -> impl Iterator<Item = &Name> {
        [&self.zero, &self.one].into_iter().chain(&self.dealer)
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        for name in [&self.name, &self.zero, &self.one] {
            hasher.text(name.as_str());
        }
        hasher.list(self.dealer.as_slice(), |hasher, name| hasher.text(name.as_str()));
    }
}

/// The members of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Seats<'r> {
    /// In seat zero.
    pub zero: &'r Member,
    /// In seat one.
    pub one: &'r Member,
    /// The dealer, if there is one.
    pub dealer: Option<&'r Member>,
}
