//! Who is expected, and what becomes of those who come.

use super::{Council, State};
use crate::consortium::ConsortiumError;
use crate::consortium::invitation::{
    Applicant, Application, DAYS, INVITATIONS_MAX, Invitation, Invite, Secret,
};
use crate::consortium::message::Pending;
use crate::consortium::statement::Version;
use crate::consortium::store::StoreFault;
use crate::ledger::seconds_now;
use crate::message::{Obstacle, Refusal};
use crate::net::{Address, PeerId};
use consilium_config::limits::ADDRESSES_MAX;
use consilium_config::{Address as Place, Member, Name, PeerName, Role, Roster, ValueError};

const DAY_SECONDS: u64 = 86_400;

/// Whom a member expects.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Its name in the roster to be.
    pub(crate) name: Name,
    /// Its roles to be.
    pub(crate) roles: Vec<Role>,
    /// Days that the invitation counts.
    pub(crate) days: u32,
    /// The only key that may use it.
    pub(crate) peer: Option<PeerId>,
}

impl Council {
    /// Makes an invitation and remembers the hash of its secret.
    ///
    /// # Errors
    /// [`ConsortiumError`].
    pub(in crate::consortium) fn invite(&self, expected: Expected) -> Result<Invitation, ConsortiumError> {
        let (me, now) = (self.peer_id(), seconds_now());
        let mut state = self.lock();
        state.check_vote(me)?;
        state.purge(now);
        let addresses = state.check_invitation(&expected, me)?;
        let failed =
            || ConsortiumError::Invitation("the operating system's random generator failed".to_owned());
        let secret = Secret::draw().ok_or_else(failed)?;
        let expires = now.saturating_add(u64::from(expected.days) * DAY_SECONDS);
        let consortium = state.head.statement().consortium;
        state.invitations.push(Invite {
            hash: secret.hash(),
            name: expected.name.to_string(),
            roles: expected.roles.iter().map(|role| role.as_str().to_owned()).collect(),
            expires,
            peer: expected.peer,
            used: None,
        });
        state.store.write_invitations(&state.invitations)?;
        self.tell();
        Ok(Invitation { inviter: me, consortium, expires, secret, addresses })
    }

    /// Whether the gate should let strangers in: an invitation is open, or somebody who used one still waits.
    pub(in crate::consortium) fn expects_guests(&self) -> bool {
        let now = seconds_now();
        self.look(|state| state.invitations.iter().any(|invite| now < invite.expires))
    }

    /// Whether that peer may see the roster: it used an invitation of this node, or is a member.
    pub(in crate::consortium) fn knows_guest(&self, peer: PeerId) -> bool {
        let used = |invite: &Invite| invite.used.as_ref().is_some_and(|used| used.peer == peer);
        self.look(|state| {
            state.head.roster().member_by_peer(&peer.to_string()).is_some()
                || state.invitations.iter().any(used)
        })
    }

    /// Takes an application, or says how an earlier one goes.
    ///
    /// # Errors
    /// The refusal, which says nothing about other invitations.
    pub(in crate::consortium) fn apply(
        &self,
        peer: PeerId,
        application: &Application,
    ) -> Result<Pending, Refusal> {
        let refuse = |text: String| Refusal::new(Obstacle::NotAllowed, text);
        let local = |error: StoreFault| {
            tracing::error!("an application could not be kept: {error}");
            Refusal::new(Obstacle::Local, "the inviter could not write it down; tell its administrator")
        };
        let now = seconds_now();
        let known = peer.to_string();
        let mut state = self.lock();
        state.purge(now);
        if let Some(member) = state.head.roster().member_by_peer(&known) {
            let roles = member.roles.iter().map(|role| role.as_str().to_owned()).collect();
            return Ok(state.pending(None, roles));
        }
        let hash = application.secret.hash();
        let found = state.invitations.iter().position(|invite| invite.hash == hash);
        let unknown =
            "no such invitation here, or it has expired; ask the member who invited you for another";
        let at = found.ok_or_else(|| refuse(unknown.to_owned()))?;
        let invite = state.invitations[at].clone();
        invite.allows(peer, application).map_err(refuse)?;
        if invite.used.is_none() {
            let (organisation, addresses) = (application.organisation.clone(), application.addresses.clone());
            let used =
                Invite { used: Some(Applicant { peer, at: now, organisation, addresses }), ..invite.clone() };
            // A name, key or address that does not fit is told at once, and the invitation stays good.
            draft(&state, &used).map_err(refuse)?;
            tracing::info!(name = used.name, %peer, "an invitation was used; compare the key with its owner");
            state.invitations[at] = used;
            state.store.write_invitations(&state.invitations).map_err(local)?;
        }
        state.draft_guests(now).map_err(local)?;
        Ok(state.pending(Some((&invite.name, &known)), invite.roles))
    }
}

impl State {
    fn purge(&mut self, now: u64) {
        self.invitations.retain(|invite| now < invite.expires);
    }

    /// Whether an invitation makes sense; where its holder can find us.
    fn check_invitation(&self, expected: &Expected, me: PeerId) -> Result<Vec<Address>, ConsortiumError> {
        let no = |text: String| Err(ConsortiumError::Invitation(text));
        let (name, roster) = (&expected.name, self.head.roster());
        if roster.member(name.as_str()).is_some() {
            return no(format!(
                "{name} is a member already; choose another name, or remove that member first"
            ));
        }
        if self.invitations.iter().any(|invite| invite.name == name.as_str()) {
            return no(format!(
                "there is an invitation for {name} already; wait until it has expired, or choose another name"
            ));
        }
        if self.invitations.len() >= INVITATIONS_MAX {
            return no(format!("{INVITATIONS_MAX} invitations are open; wait until some have expired"));
        }
        if expected.roles.is_empty() {
            return no("name at least one role: owner, client, compute or dealer".to_owned());
        }
        if !DAYS.contains(&expected.days) {
            return no(format!("an invitation counts for {} to {} days", DAYS.start(), DAYS.end()));
        }
        let own = roster.member_by_peer(&me.to_string());
        let own = own.map_or(&[] as &[_], |member| member.addresses.as_slice());
        let addresses: Vec<Address> =
            own.iter().filter_map(|address| address.as_str().parse().ok()).collect();
        if addresses.is_empty() {
            return no("this node has no address in the roster, so nobody could come to it; invite from a node that \
                       can be dialled"
                .to_owned());
        }
        Ok(addresses)
    }

    /// A proposal without a signature for everybody who used an invitation, on top of the last version.
    pub(super) fn draft_guests(&mut self, now: u64) -> Result<(), StoreFault> {
        let came = self.invitations.len();
        let roster = self.head.roster();
        // Whoever became a member has no invitation left: one who is removed later must not come back by it.
        self.invitations.retain(|invite| {
            let used = invite.used.as_ref();
            used.is_none_or(|used| roster.member_by_peer(&used.peer.to_string()).is_none())
        });
        if self.invitations.len() < came {
            self.store.write_invitations(&self.invitations)?;
        }
        for invite in self.invitations.clone() {
            if invite.used.is_none() || now >= invite.expires {
                continue;
            }
            match draft(self, &invite) {
                Ok(proposal) if self.proposals.len() < super::PROPOSALS_MAX => {
                    let fingerprint = proposal.fingerprint();
                    if !self.proposals.contains_key(&fingerprint) {
                        self.store.write_proposal(&proposal)?;
                        self.proposals.insert(fingerprint, proposal);
                    }
                }
                Ok(_) => tracing::warn!(name = invite.name, "no room for a proposal to add this member"),
                Err(reason) => tracing::warn!(name = invite.name, "cannot propose this member: {reason}"),
            }
        }
        Ok(())
    }

    /// How it goes with an applicant, by its name and key; `None` for a member.
    fn pending(&self, applicant: Option<(&str, &str)>, roles: Vec<String>) -> Pending {
        let names = |version: &&Version| {
            let (Some((name, peer)), Ok(roster)) = (applicant, Roster::parse("roster.toml", &version.text))
            else {
                return false;
            };
            roster.member(name).is_some_and(|found| found.peer.as_str() == peer)
        };
        let most = |version: &&Version| version.signed.signatures.len();
        let best = self.proposals.values().filter(names).max_by_key(most);
        Pending {
            version: self.head.number(),
            member: applicant.is_none(),
            roles,
            proposal: best.map(Version::fingerprint),
            signed: best.map_or(0, |version| version.signed.signatures.len()),
            needed: self.head.roster().signatures_needed(),
        }
    }
}

/// The last version with one member more.
fn draft(state: &State, invite: &Invite) -> Result<Version, String> {
    let Some(used) = &invite.used else { return Err("nobody came".to_owned()) };
    if used.addresses.len() > ADDRESSES_MAX {
        return Err(format!("a member has at most {ADDRESSES_MAX} addresses"));
    }
    let wrong = |error: ValueError| error.to_string();
    let member = Member {
        name: invite.name.parse::<Name>().map_err(wrong)?,
        peer: used.peer.to_string().parse::<PeerName>().map_err(wrong)?,
        organisation: used.organisation.clone(),
        addresses: used
            .addresses
            .iter()
            .map(|text| text.parse::<Place>().map_err(wrong))
            .collect::<Result<_, String>>()?,
        roles: invite.roles(),
    };
    let text = Roster::text_with_member(state.head.text(), &member).map_err(|error| error.to_string())?;
    // The same moment each time, so that it is the same proposal.
    let at = used.at.max(state.head.statement().at);
    Ok(Version::new(state.head.statement().next(&text, at), text))
}

/// A proposal's fingerprint is what people compare, so it must not change under them.
#[cfg(test)]
pub(super) fn drafted(state: &State, name: &str) -> Option<crate::consortium::Fingerprint> {
    let invite = state.invitations.iter().find(|invite| invite.name == name)?;
    draft(state, invite).ok().map(|version| version.fingerprint())
}
