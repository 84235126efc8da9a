//! From a text and signatures to a roster that may be acted on, by nothing but what was verified before.

use super::statement::{
    AT_MAX, Fingerprint, SIGNATURES_MAX, Signed, Statement, Version, consortium_of, text_of,
};
use crate::net::PeerId;
use consilium_config::{ConfigError, Member, Name, Quorum, Roster, Spenders};
use std::collections::{BTreeMap, HashSet};

/// Why a version of the roster was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RosterFault {
    /// The text is not the one that was signed.
    #[error(
        "the text of roster version {version} is not the one that was signed; fetch it again, and do not edit it"
    )]
    Text {
        /// The version.
        version: u64,
    },
    /// The text is no roster.
    #[error("the text of roster version {version} is no valid roster: {source}")]
    Invalid {
        /// The version.
        version: u64,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// The founding version does not name itself and nothing else.
    #[error(
        "this is not the founding version of consortium {expected}; compare the consortium's id with who invited you"
    )]
    NotFounding {
        /// The consortium.
        expected: Fingerprint,
    },
    /// It belongs to another consortium.
    #[error(
        "the version belongs to consortium {found}, this node to {ours}; a node is a member of one consortium"
    )]
    OtherConsortium {
        /// Ours.
        ours: Fingerprint,
        /// What was found.
        found: Fingerprint,
    },
    /// A version that was replaced, played back.
    #[error("roster version {found} is old, version {current} is known here; a roster never goes back")]
    Old {
        /// Its number.
        found: u64,
        /// The version known.
        current: u64,
    },
    /// Versions in between are missing.
    #[error("roster version {found} does not follow version {current} directly; fetch those in between")]
    Gap {
        /// Its number.
        found: u64,
        /// The version known.
        current: u64,
    },
    /// Two different rosters of one number.
    #[error(
        "FORK: there are two rosters of version {version}, {ours} here and {theirs}; both have signatures, so \
         somebody signed both. Stop, compare `consilium consortium roster log` with all members, and exclude whoever \
         signed twice"
    )]
    Fork {
        /// The version of which there are two.
        version: u64,
        /// Ours, shortened.
        ours: String,
        /// The other, shortened.
        theirs: String,
    },
    /// A moment beyond all calendars.
    #[error("roster version {version} claims a moment out of range")]
    Moment {
        /// The version.
        version: u64,
    },
    /// A signature that is none.
    #[error("the signature of {signer} under roster version {version} is forged or damaged")]
    Forged {
        /// The version.
        version: u64,
        /// Whose it should be.
        signer: PeerId,
    },
    /// A signature that does not count.
    #[error(
        "{signer} signed roster version {version}, but had no vote in the version before; only owners and compute \
         parties of that one vote"
    )]
    NoVote {
        /// The version.
        version: u64,
        /// Who signed.
        signer: PeerId,
    },
    /// One member's signature twice.
    #[error("{signer} stands twice under roster version {version}")]
    Twice {
        /// The version.
        version: u64,
        /// Who.
        signer: PeerId,
    },
    /// More signatures than there can be members.
    #[error("roster version {version} has {found} signatures, at most {SIGNATURES_MAX} are possible")]
    Crowded {
        /// The version.
        version: u64,
        /// How many.
        found: usize,
    },
    /// Too few signatures.
    #[error(
        "roster version {version} has {found} of the {needed} signatures that it needs ({quorum} of the version before)"
    )]
    Quorum {
        /// The version.
        version: u64,
        /// Signatures that count.
        found: usize,
        /// Signatures needed.
        needed: usize,
        /// The rule.
        quorum: Quorum,
    },
    /// A budget would begin again.
    #[error(
        "roster version {version} gives the budget of task {task} to other compute parties, pairs or slices than it began \
         with; their books would begin with nothing spent. Give the changed task a new name, with a budget of its own"
    )]
    Spenders {
        /// The version.
        version: u64,
        /// The task.
        task: Name,
    },
    /// Nobody could ever sign the next version.
    #[error(
        "roster version {version} has no member with the role owner or compute, so nobody could change it again"
    )]
    NoVoters {
        /// The version.
        version: u64,
    },
    /// A member whose key cannot sign.
    #[error("member {member} of roster version {version}: {explanation}")]
    Member {
        /// The version.
        version: u64,
        /// Its name.
        member: String,
        /// What is wrong.
        explanation: String,
    },
}

/// A version whose whole chain was checked back to the founding of its consortium. There is no other way to make
/// one than [`VerifiedRoster::founding`] and [`VerifiedRoster::followed_by`].
#[derive(Clone, Debug)]
pub struct VerifiedRoster {
    version: Version,
    roster: Roster,
    signers: Vec<Name>,
    /// Who spends the budget of each task that ever had one, in any version up to this.
    spenders: BTreeMap<Name, Spenders>,
}

/// A version that follows, of which the signatures are right and may be too few.
#[derive(Clone, Debug)]
pub(super) struct Examined {
    pub(super) roster: Roster,
    pub(super) signers: Vec<Name>,
}

impl VerifiedRoster {
    /// The founding version, signed by every member of it. `expected` is the consortium of an invitation.
    ///
    /// Nobody is before the founders who could allow them anything, so whoever relies on this version relies on
    /// having the right `expected` from somebody they trust, and on reading whom it names.
    ///
    /// # Errors
    /// [`RosterFault`].
    pub fn founding(version: Version, expected: Option<Fingerprint>) -> Result<Self, RosterFault> {
        let statement = *version.statement();
        let named = consortium_of(&version.text, statement.at);
        let expected = expected.unwrap_or(statement.consortium);
        let alone = statement.version == 1 && statement.previous == Fingerprint::NONE;
        if !alone || statement.consortium != expected {
            return Err(RosterFault::NotFounding { expected });
        }
        if named != statement.consortium {
            return Err(RosterFault::Text { version: 1 });
        }
        let roster = readable(&version)?;
        let signers = signers(&version.signed, roster.members())?;
        let needed = roster.members().len();
        if signers.len() < needed {
            return Err(RosterFault::Quorum {
                version: 1,
                found: signers.len(),
                needed,
                quorum: Quorum::All,
            });
        }
        let spenders = roster.spenders();
        Ok(Self { version, roster, signers, spenders })
    }

    /// The next version, signed by enough voters of this one.
    ///
    /// # Errors
    /// [`RosterFault`].
    pub fn followed_by(&self, next: Version) -> Result<Self, RosterFault> {
        let Examined { roster, signers } = self.examine(&next)?;
        let (found, needed) = (signers.len(), self.roster.signatures_needed());
        if found < needed {
            let (version, quorum) = (next.statement().version, self.roster.quorum());
            return Err(RosterFault::Quorum { version, found, needed, quorum });
        }
        let mut spenders = self.spenders.clone();
        spenders.extend(roster.spenders());
        Ok(Self { version: next, roster, signers, spenders })
    }

    /// Everything about a next version but the number of its signatures.
    pub(super) fn examine(&self, next: &Version) -> Result<Examined, RosterFault> {
        let (ours, theirs) = (self.statement(), next.statement());
        if theirs.consortium != ours.consortium {
            return Err(RosterFault::OtherConsortium { ours: ours.consortium, found: theirs.consortium });
        }
        self.in_order(theirs)?;
        if theirs.at > AT_MAX {
            return Err(RosterFault::Moment { version: theirs.version });
        }
        let roster = readable(next)?;
        for (task, found) in roster.spenders() {
            if self.spenders.get(&task).is_some_and(|known| *known != found) {
                return Err(RosterFault::Spenders { version: theirs.version, task });
            }
        }
        let voters: Vec<&Member> = self.roster.voters().collect();
        let signers = signers(&next.signed, voters)?;
        Ok(Examined { roster, signers })
    }

    fn in_order(&self, theirs: &Statement) -> Result<(), RosterFault> {
        let (current, found) = (self.number(), theirs.version);
        let fork = |version, ours: Fingerprint, theirs: Fingerprint| RosterFault::Fork {
            version,
            ours: ours.short(),
            theirs: theirs.short(),
        };
        if found == current && theirs.fingerprint() != self.fingerprint() {
            return Err(fork(current, self.fingerprint(), theirs.fingerprint()));
        }
        if found <= current {
            return Err(RosterFault::Old { found, current });
        }
        if found > current.saturating_add(1) {
            return Err(RosterFault::Gap { found, current });
        }
        if theirs.previous != self.fingerprint() {
            return Err(fork(current, self.fingerprint(), theirs.previous));
        }
        Ok(())
    }

    /// The roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Its text, as it was signed.
    pub fn text(&self) -> &str {
        &self.version.text
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.version.statement().version
    }

    /// What is signed.
    pub fn statement(&self) -> &Statement {
        self.version.statement()
    }

    /// What stands for it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.version.fingerprint()
    }

    /// The members whose signatures were checked, by their names in the version before.
    pub fn signers(&self) -> &[Name] {
        &self.signers
    }

    /// As it is stored and sent.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether that key signed it.
    pub fn is_signed_by(&self, peer: PeerId) -> bool {
        self.version.signed.names(peer)
    }
}

/// The roster in a text that is the signed one, and that can be changed again.
fn readable(version: &Version) -> Result<Roster, RosterFault> {
    let number = version.statement().version;
    if text_of(&version.text) != version.statement().text {
        return Err(RosterFault::Text { version: number });
    }
    let roster = Roster::parse("roster.toml", &version.text)
        .map_err(|source| RosterFault::Invalid { version: number, source: Box::new(source) })?;
    if roster.voters().next().is_none() {
        return Err(RosterFault::NoVoters { version: number });
    }
    for member in roster.members() {
        if let Err(error) = member.peer.as_str().parse::<PeerId>() {
            let (member, explanation) = (member.name.to_string(), error.to_string());
            return Err(RosterFault::Member { version: number, member, explanation });
        }
    }
    Ok(roster)
}

/// The names of those who signed, of whom all may and none twice.
fn signers<'m>(
    signed: &Signed,
    allowed: impl IntoIterator<Item = &'m Member>,
) -> Result<Vec<Name>, RosterFault> {
    let version = signed.statement.version;
    if signed.signatures.len() > SIGNATURES_MAX {
        return Err(RosterFault::Crowded { version, found: signed.signatures.len() });
    }
    let allowed: std::collections::HashMap<&str, &Name> =
        allowed.into_iter().map(|member| (member.peer.as_str(), &member.name)).collect();
    let (mut seen, mut names) = (HashSet::new(), Vec::new());
    for signature in &signed.signatures {
        let signer = signature.signer;
        let Some(name) = allowed.get(signer.to_string().as_str()) else {
            return Err(RosterFault::NoVote { version, signer });
        };
        if !seen.insert(signer) {
            return Err(RosterFault::Twice { version, signer });
        }
        if !signed.statement.is_signed_by(signature) {
            return Err(RosterFault::Forged { version, signer });
        }
        names.push((*name).clone());
    }
    Ok(names)
}

/// Members whose right signatures stand under two different versions of one number: they alone can make a fork.
pub(super) fn signed_both(one: &VerifiedRoster, other: &VerifiedRoster) -> Vec<Name> {
    one.signers.iter().filter(|name| other.signers.contains(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
