//! Where the other members stand, by their own words.

use super::Council;
use crate::consortium::VerifiedRoster;
use crate::consortium::message::{Hello, Mark};
use crate::consortium::store::StoreFault;
use crate::consortium::verify::signed_both;
use crate::message::{Obstacle, Refusal};
use crate::net::{PeerId, Seldom};
use consilium_config::Name;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// Distance between two log lines about one peer.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// How a member's roster compares with ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Standing {
    /// It has not said yet.
    #[default]
    Unheard,
    /// It runs by the same version.
    Same,
    /// It runs by an older version; its requests are refused until it has ours.
    Stale {
        /// That version.
        version: u64,
    },
    /// It has a later version, which this node fetches.
    Ahead {
        /// That version.
        version: u64,
    },
    /// It has another roster of the same version.
    Forked {
        /// That version.
        version: u64,
    },
    /// It is in another consortium.
    Elsewhere,
}

/// One member as seen from here.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) standing: Standing,
    said: Seldom,
    refused: Seldom,
}

impl Default for Peer {
    fn default() -> Self {
        let standing = Standing::default();
        Self { standing, said: Seldom::new(SAID_EVERY), refused: Seldom::new(SAID_EVERY) }
    }
}

impl Council {
    /// What this node says of itself.
    pub(in crate::consortium) fn hello(&self) -> Hello {
        self.look(|state| {
            let signed = state.proposals.iter().filter(|(_, version)| !version.signed.signatures.is_empty());
            let mark = |(proposal, version): (&_, &crate::consortium::Version)| Mark {
                proposal: *proposal,
                signers: version.signed.signatures.iter().map(|signature| signature.signer).collect(),
            };
            Hello {
                consortium: state.head.statement().consortium,
                version: state.head.number(),
                head: state.head.fingerprint(),
                in_force: state.in_force.number(),
                proposals: signed.map(mark).collect(),
            }
        })
    }

    /// Notes what a member says of itself, and speaks of it where something is wrong. The member is one of the
    /// roster: nobody else has a channel for this.
    ///
    /// # Errors
    /// The disk.
    pub(in crate::consortium) fn heard(&self, peer: PeerId, hello: &Hello) -> Result<Standing, StoreFault> {
        let standing = self.standing(hello)?;
        let mut state = self.lock();
        let ours = state.in_force.number();
        let name = name_of(state.head.roster(), peer);
        let entry = state.peers.entry(peer).or_default();
        let changed = entry.standing != standing;
        entry.standing = standing;
        let now = Instant::now();
        let odd = !matches!(standing, Standing::Same | Standing::Ahead { .. } | Standing::Unheard);
        if odd && let Some(unlogged) = entry.said.note(now) {
            match standing {
                Standing::Stale { version } => tracing::warn!(
                    member = name,
                    unlogged,
                    "{name} runs by roster version {version}, {ours} is in force; refused until it has fetched that"
                ),
                Standing::Forked { version } => tracing::error!(
                    member = name,
                    unlogged,
                    "FORK: {name} has another roster of version {version}; refused. Compare `consilium consortium \
                     roster log` with it and exclude whoever signed both"
                ),
                _ => tracing::error!(
                    member = name,
                    unlogged,
                    "{name} says that it is in another consortium; refused"
                ),
            }
        } else if changed {
            tracing::debug!(member = name, ?standing, "a member said where it stands");
        }
        Ok(standing)
    }

    fn standing(&self, hello: &Hello) -> Result<Standing, StoreFault> {
        let (store, head, id, last, in_force) = self.look(|state| {
            let statement = state.head.statement();
            let numbers = (state.head.number(), state.in_force.number());
            (state.store.clone(), state.head.fingerprint(), statement.consortium, numbers.0, numbers.1)
        });
        if hello.consortium != id {
            return Ok(Standing::Elsewhere);
        }
        if hello.version > last {
            return Ok(Standing::Ahead { version: hello.version });
        }
        let ours = if hello.version == last {
            Some(head)
        } else {
            store.read_version(hello.version)?.map(|version| version.fingerprint())
        };
        if ours != Some(hello.head) {
            return Ok(Standing::Forked { version: hello.version });
        }
        // A node that holds a version back still runs by the one before.
        Ok(if hello.in_force < in_force {
            Standing::Stale { version: hello.in_force }
        } else {
            Standing::Same
        })
    }

    /// Proposals for the same next version that this node lacks, or lacks signatures of.
    pub(in crate::consortium) fn lacking(&self, hello: &Hello) -> Vec<crate::consortium::Fingerprint> {
        self.look(|state| {
            if hello.head != state.head.fingerprint() {
                return Vec::new();
            }
            let lacks = |mark: &&Mark| match state.proposals.get(&mark.proposal) {
                Some(known) => mark.signers.iter().any(|signer| !known.signed.names(*signer)),
                None => !mark.signers.is_empty(),
            };
            let marks = hello.proposals.iter().filter(lacks).take(super::PROPOSALS_MAX);
            marks.map(|mark| mark.proposal).collect()
        })
    }

    /// Whether a member's requests are served, and what to tell it if not. Refusals are logged once an interval.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn admits(&self, peer: PeerId) -> Result<(), Refusal> {
        let mut state = self.lock();
        let ours = state.in_force.number();
        let name = name_of(state.head.roster(), peer);
        let Some(entry) = state.peers.get_mut(&peer) else { return Ok(()) };
        let text = match entry.standing {
            Standing::Unheard | Standing::Same | Standing::Ahead { .. } => return Ok(()),
            Standing::Stale { version } => format!(
                "your node runs by roster version {version}, version {ours} is in force; it fetches that by itself, so \
                 ask again in a moment; if it does not, see `consilium consortium roster show` there"
            ),
            Standing::Forked { version } => format!(
                "your node has another roster of version {version} than this one: a fork, which people must settle; \
                 compare `consilium consortium roster log`"
            ),
            Standing::Elsewhere => "your node is in another consortium".to_owned(),
        };
        if let Some(unlogged) = entry.refused.note(Instant::now()) {
            tracing::warn!(member = name, unlogged, standing = ?entry.standing, "refused a request of {name}");
        }
        Err(Refusal::new(Obstacle::Roster, text))
    }

    /// Who signed both branches of a fork, once the other node has shown its version of the same number.
    pub(in crate::consortium) fn double_signers(
        &self,
        theirs: crate::consortium::Version,
    ) -> Result<Vec<Name>, StoreFault> {
        let number = theirs.statement().version;
        let store = self.look(|state| state.store.clone());
        let (mut before, mut ours): (Option<VerifiedRoster>, Option<VerifiedRoster>) = (None, None);
        store.walk(|version| {
            if version.number().saturating_add(1) == number {
                before = Some(version.clone());
            } else if version.number() == number {
                ours = Some(version.clone());
            }
        })?;
        let (Some(before), Some(ours)) = (before, ours) else { return Ok(Vec::new()) };
        Ok(before.followed_by(theirs).map_or_else(|_| Vec::new(), |theirs| signed_both(&ours, &theirs)))
    }
}

fn name_of(roster: &consilium_config::Roster, peer: PeerId) -> String {
    let peer = peer.to_string();
    roster.member_by_peer(&peer).map_or(peer, |member| member.name.to_string())
}
