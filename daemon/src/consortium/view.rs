//! What an administrator asks about the consortium, and what this node answers.

use super::council::{Council, Expected, Signing, Standing};
use super::statement::{Fingerprint, Version};
use super::sync::{at_work, compare};
use super::{ConsortiumError, VerifiedRoster};
use crate::message::{Obstacle, Refusal};
use crate::net::{Network, PeerId};
use consilium_config::{Change, Name, Role, Roster, ValueError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// From the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ConsortiumRequest {
    /// The roster, proposals, invitations and where the members stand.
    Show,
    /// Make an invitation.
    Invite {
        /// The newcomer's name.
        name: String,
        /// Its roles.
        roles: Vec<String>,
        /// Days that the invitation counts.
        days: u32,
        /// The only key that may use it.
        peer: Option<PeerId>,
    },
    /// Propose a text as the next version.
    Propose {
        /// The text.
        text: String,
        /// Although this node signed another one for the same number.
        instead: bool,
    },
    /// How a text, a proposal or the last version differs from the roster in force.
    Diff {
        /// A text.
        text: Option<String>,
        /// First digits of a proposal.
        proposal: Option<String>,
    },
    /// Sign a proposal, or agree to a version that is held back.
    Sign {
        /// First digits of it.
        proposal: String,
        /// Although this node signed another one for the same number.
        instead: bool,
    },
    /// Ask every member now.
    Fetch,
    /// All versions.
    Log,
}

/// To it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ConsortiumReply {
    /// The roster and what is pending.
    Show(Box<RosterView>),
    /// The invitation.
    Invited(Invited),
    /// What differs.
    Diff(Vec<Change>),
    /// The proposal, and what came of the signature.
    Signed {
        /// The proposal or version.
        proposal: Fingerprint,
        /// Whether it is in force now.
        in_force: bool,
        /// Members who have signed it, where it is still pending.
        signed: usize,
        /// Signatures that it needs.
        needed: usize,
    },
    /// What the members had.
    Fetched(Vec<FetchView>),
    /// All versions, the newest first.
    Log(Vec<VersionView>),
}

/// An invitation, to be handed to the newcomer alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invited {
    /// The text, which holds the secret.
    pub invitation: String,
    /// When it ends, in Unix seconds.
    pub expires: u64,
}

/// The roster as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterView {
    /// Name of the consortium.
    pub name: String,
    /// Its id.
    pub consortium: Fingerprint,
    /// Last version that this node holds.
    pub version: u64,
    /// What that version is; the same on all members.
    pub fingerprint: Fingerprint,
    /// The version that this node runs by.
    pub in_force: u64,
    /// Tasks for which a later version waits until this node's administrator agrees.
    pub held: Vec<String>,
    /// Who signed the last version.
    pub signers: Vec<String>,
    /// Members whose signatures count for the next one.
    pub voters: usize,
    /// How many of them are needed.
    pub needed: usize,
    /// The text of the last version.
    pub text: String,
    /// The members.
    pub members: Vec<MemberView>,
    /// Proposals for the next version.
    pub proposals: Vec<ProposalView>,
    /// Invitations of this node.
    pub invitations: Vec<InvitationView>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its key.
    pub peer: String,
    /// Who runs it.
    pub organisation: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Whether its signature counts.
    pub votes: bool,
    /// Where its roster stands; `None` for this node.
    pub standing: Option<Standing>,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalView {
    /// What it is: people compare this before they sign.
    pub proposal: Fingerprint,
    /// The version that it would be.
    pub version: u64,
    /// When it was proposed, in Unix seconds.
    pub at: u64,
    /// Who signed it.
    pub signers: Vec<String>,
    /// What differs from the last version.
    pub changes: Vec<Change>,
}

/// An invitation of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationView {
    /// The newcomer's name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// When it ends, in Unix seconds.
    pub expires: u64,
    /// The key that used it.
    pub used_by: Option<String>,
}

/// A member that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchView {
    /// Its name.
    pub member: String,
    /// Versions that it had and this node had not.
    pub versions: usize,
    /// Why it did not answer.
    pub fault: Option<String>,
}

/// A version of the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// When it was proposed, in Unix seconds, as its proposer says.
    pub at: u64,
    /// Who signed it.
    pub signers: Vec<String>,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// Versions that a log shows.
const LOG_MAX: usize = 256;

fn refused(error: ConsortiumError) -> Refusal {
    let obstacle = match &error {
        ConsortiumError::Store(_) | ConsortiumError::Work(_) => Obstacle::Local,
        ConsortiumError::NoVote => Obstacle::NotAllowed,
        ConsortiumError::Fault(_) => Obstacle::Roster,
        _ => Obstacle::Request,
    };
    Refusal::new(obstacle, error)
}

/// Answers an administrator.
///
/// # Errors
/// The refusal, which says what to do.
pub(crate) async fn answer(
    council: Option<&Arc<Council>>,
    network: &Network,
    request: ConsortiumRequest,
) -> Result<ConsortiumReply, Refusal> {
    let Some(council) = council else {
        let text = "this node runs by an unsigned roster file (`unsigned_roster = true` in its node file), which nobody \
                    signs or changes over the network";
        return Err(Refusal::new(Obstacle::Roster, text));
    };
    if request == ConsortiumRequest::Fetch {
        return Ok(ConsortiumReply::Fetched(fetch(council, network).await));
    }
    let answered = at_work(council, move |council| council.administer(request)).await;
    answered.map_err(refused)
}

async fn fetch(council: &Arc<Council>, network: &Network) -> Vec<FetchView> {
    let roster = council.look(|state| state.head.roster().clone());
    let mut fetched = Vec::new();
    for peer in network.peers() {
        let key = peer.peer.to_string();
        let member = roster.member_by_peer(&key).map_or(key, |member| member.name.to_string());
        if !peer.connected {
            fetched.push(FetchView { member, versions: 0, fault: Some("not connected".to_owned()) });
            continue;
        }
        let (versions, fault) = match compare(council, network, peer.peer).await {
            Ok(versions) => (versions, None),
            Err(error) => (0, Some(error.to_string())),
        };
        fetched.push(FetchView { member, versions, fault });
    }
    fetched
}

impl Council {
    fn administer(&self, request: ConsortiumRequest) -> Result<ConsortiumReply, ConsortiumError> {
        match request {
            ConsortiumRequest::Show => Ok(ConsortiumReply::Show(Box::new(self.view()))),
            ConsortiumRequest::Invite { name, roles, days, peer } => {
                let value = |error: ValueError| ConsortiumError::Invitation(error.to_string());
                let roles =
                    roles.iter().map(|word| word.parse::<Role>()).collect::<Result<_, _>>().map_err(value)?;
                let name = name.parse::<Name>().map_err(value)?;
                let invitation = self.invite(Expected { name, roles, days, peer })?;
                let (text, expires) = (invitation.to_text(), invitation.expires);
                Ok(ConsortiumReply::Invited(Invited { invitation: text, expires }))
            }
            ConsortiumRequest::Propose { text, instead } => {
                let (proposal, signing) = self.propose(text, instead)?;
                Ok(self.signed(proposal, &signing))
            }
            ConsortiumRequest::Sign { proposal, instead } => {
                let (proposal, signing) = self.sign(&proposal, instead)?;
                Ok(self.signed(proposal, &signing))
            }
            ConsortiumRequest::Diff { text, proposal } => {
                Ok(ConsortiumReply::Diff(self.diff(text, proposal)?))
            }
            ConsortiumRequest::Log => Ok(ConsortiumReply::Log(self.log()?)),
            ConsortiumRequest::Fetch => Ok(ConsortiumReply::Fetched(Vec::new())),
        }
    }

    fn signed(&self, proposal: Fingerprint, signing: &Signing) -> ConsortiumReply {
        self.look(|state| {
            let found = state.proposals.get(&proposal);
            ConsortiumReply::Signed {
                proposal,
                in_force: *signing != Signing::Pending && state.in_force.fingerprint() == proposal,
                signed: found.map_or(0, |version| version.signed.signatures.len()),
                needed: state.head.roster().signatures_needed(),
            }
        })
    }

    fn diff(&self, text: Option<String>, proposal: Option<String>) -> Result<Vec<Change>, ConsortiumError> {
        self.look(|state| {
            if let Some(text) = text {
                let roster = Roster::parse("the file", &text)?;
                return Ok(state.head.roster().changes_to(&roster));
            }
            if !state.held.is_empty() && proposal.is_none() {
                return Ok(state.in_force.roster().changes_to(state.head.roster()));
            }
            let fingerprint = state.find(proposal.as_deref().unwrap_or_default())?;
            Ok(state
                .proposals
                .get(&fingerprint)
                .map_or_else(Vec::new, |version| changes(&state.head, version)))
        })
    }

    fn view(&self) -> RosterView {
        let me = self.peer_id().to_string();
        self.look(|state| {
            let roster = state.head.roster();
            let standing = |peer: &str| {
                let peer = peer.parse::<PeerId>().ok()?;
                Some(state.peers.get(&peer).map_or(Standing::Unheard, |peer| peer.standing))
            };
            let member = |member: &consilium_config::Member| MemberView {
                name: member.name.to_string(),
                peer: member.peer.to_string(),
                organisation: member.organisation.clone(),
                roles: member.roles.iter().map(|role| role.as_str().to_owned()).collect(),
                votes: member.votes(),
                standing: if member.peer.as_str() == me { None } else { standing(member.peer.as_str()) },
            };
            let invitation = |invite: &super::invitation::Invite| InvitationView {
                name: invite.name.clone(),
                roles: invite.roles.clone(),
                expires: invite.expires,
                used_by: invite.used.as_ref().map(|used| used.peer.to_string()),
            };
            RosterView {
                name: roster.consortium().to_owned(),
                consortium: state.head.statement().consortium,
                version: state.head.number(),
                fingerprint: state.head.fingerprint(),
                in_force: state.in_force.number(),
                held: words(&state.held),
                signers: words(state.head.signers()),
                voters: roster.voters().count(),
                needed: roster.signatures_needed(),
                text: state.head.text().to_owned(),
                members: roster.members().iter().map(member).collect(),
                proposals: state
                    .proposals
                    .values()
                    .map(|version| proposal_view(&state.head, version))
                    .collect(),
                invitations: state.invitations.iter().map(invitation).collect(),
            }
        })
    }

    fn log(&self) -> Result<Vec<VersionView>, ConsortiumError> {
        let store = self.look(|state| state.store.clone());
        let (mut log, mut before) = (std::collections::VecDeque::new(), None::<Roster>);
        store.walk(|version| {
            let roster = version.roster().clone();
            let changes = before.as_ref().map_or_else(Vec::new, |before| before.changes_to(&roster));
            before = Some(roster);
            log.push_front(VersionView {
                version: version.number(),
                fingerprint: version.fingerprint(),
                at: version.statement().at,
                signers: words(version.signers()),
                changes,
            });
            log.truncate(LOG_MAX);
        })?;
        Ok(log.into())
    }
}

fn proposal_view(head: &VerifiedRoster, version: &Version) -> ProposalView {
    let name = |peer: &PeerId| {
        let peer = peer.to_string();
        head.roster().member_by_peer(&peer).map_or(peer, |member| member.name.to_string())
    };
    ProposalView {
        proposal: version.fingerprint(),
        version: version.statement().version,
        at: version.statement().at,
        signers: version.signed.signatures.iter().map(|signature| name(&signature.signer)).collect(),
        changes: changes(head, version),
    }
}

fn changes(head: &VerifiedRoster, version: &Version) -> Vec<Change> {
    match Roster::parse("roster.toml", &version.text) {
        Ok(roster) => head.roster().changes_to(&roster),
        Err(_) => Vec::new(),
    }
}

fn words(names: &[Name]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
