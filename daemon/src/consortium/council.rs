//! What this node knows of the roster: the chain, what is proposed, who signed, who is expected, where peers stand.
//!
//! One lock, held for small files at most; callers run on threads that may block.

mod guests;
mod peers;

pub(super) use guests::Expected;
pub use peers::Standing;

use super::invitation::Invite;
use super::statement::{Fingerprint, Version};
use super::store::{Chain, Store, StoreFault};
use super::verify::{Examined, VerifiedRoster};
use super::{ConsortiumError, listed};
use crate::ledger::seconds_now;
use crate::net::{Identity, PeerId};
use crate::task::TaskTerms;
use consilium_config::{Name, Roster};
use peers::Peer;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Proposals for the next version that are kept.
pub const PROPOSALS_MAX: usize = 16;
/// Of them, those that one member alone has signed.
const LONE_MAX: usize = 4;

/// The keeper of the signed roster on one node.
#[derive(Debug)]
pub struct Council {
    identity: Arc<Identity>,
    state: Mutex<State>,
    news: watch::Sender<u64>,
    superseded: watch::Sender<bool>,
}

/// Everything under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    /// The last version.
    pub(super) head: VerifiedRoster,
    /// What this node runs by, or will after its restart.
    pub(super) in_force: VerifiedRoster,
    /// Tasks of this node that the last version gives to other keys, while its administrator has not agreed.
    pub(super) held: Vec<Name>,
    /// Proposals for the next version; those without a signature are this node's drafts and told to nobody.
    pub(super) proposals: BTreeMap<Fingerprint, Version>,
    pub(super) invitations: Vec<Invite>,
    pub(super) peers: HashMap<PeerId, Peer>,
}

/// What came of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// More signatures are needed.
    Pending,
    /// It is the next version now.
    Reached,
    /// This node goes on by a version that it held back.
    Agreed,
}

impl Council {
    pub(super) fn start(
        store: Store,
        chain: Chain,
        identity: Arc<Identity>,
    ) -> Result<Self, ConsortiumError> {
        let proposals = store.read_proposals()?;
        let invitations = store.read_invitations()?;
        let mut state = State {
            store,
            head: chain.head,
            in_force: chain.in_force,
            held: Vec::new(),
            proposals: BTreeMap::new(),
            invitations,
            peers: HashMap::new(),
        };
        for proposal in proposals {
            let fingerprint = proposal.fingerprint();
            // One of an earlier version stayed where the process ended between two steps.
            match state.head.examine(&proposal) {
                Ok(_) => drop(state.proposals.insert(fingerprint, proposal)),
                Err(_) => state.store.remove_proposal(fingerprint)?,
            }
        }
        // Without the mark a later start would take a version that is held back for the one in force.
        state.store.write_in_force(state.in_force.number())?;
        state.judge(identity.peer_id())?;
        let council = Self {
            identity,
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            superseded: watch::Sender::new(false),
        };
        let mut state = council.lock();
        state.draft_guests(seconds_now())?;
        council.complete(&mut state)?;
        drop(state);
        // The version that this start runs by is not news to it.
        council.superseded.send_replace(false);
        Ok(council)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's name on the network.
    pub(super) fn peer_id(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// The roster that this node runs by.
    pub fn in_force(&self) -> Roster {
        self.lock().in_force.roster().clone()
    }

    /// Number of the last version that this node holds.
    pub fn version(&self) -> u64 {
        self.lock().head.number()
    }

    /// Returns when another version is in force than at the start, at once if it is. May be dropped.
    pub async fn superseded(&self) {
        // An error would say that the sender is gone, which `self` holds.
        drop(self.superseded.subscribe().wait_for(|superseded| *superseded).await);
    }

    /// Follows whatever others should hear of.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Takes versions that follow the last one, in order. Returns how many.
    ///
    /// # Errors
    /// The first that does not follow; those before it are kept.
    pub(super) fn take(&self, versions: Vec<Version>) -> Result<usize, ConsortiumError> {
        let mut state = self.lock();
        let mut taken = 0;
        for version in versions {
            // Several members bring the same news at once.
            if state.is_held(&version)? {
                continue;
            }
            let next = state.head.followed_by(version)?;
            self.adopt(&mut state, next)?;
            taken += 1;
        }
        if taken > 0 {
            state.draft_guests(seconds_now())?;
            self.tell();
        }
        Ok(taken)
    }

    /// Makes a verified version the last one: durably first, then in force unless it is held back.
    fn adopt(&self, state: &mut State, next: VerifiedRoster) -> Result<(), StoreFault> {
        state.store.write_version(next.version())?;
        state.head = next;
        for fingerprint in std::mem::take(&mut state.proposals).into_keys() {
            state.store.remove_proposal(fingerprint)?;
        }
        let (number, signers) = (state.head.number(), listed(state.head.signers()));
        tracing::info!(version = number, signers, "roster version {number} has its quorum");
        if state.judge(self.peer_id())? {
            self.superseded.send_replace(true);
        }
        Ok(())
    }

    /// Makes the next version of a proposal that has enough signatures, if there is one.
    fn complete(&self, state: &mut State) -> Result<bool, ConsortiumError> {
        let reached = state.proposals.values().find_map(|proposal| {
            let signed = !proposal.signed.signatures.is_empty();
            signed.then(|| state.head.followed_by(proposal.clone()).ok()).flatten()
        });
        let Some(next) = reached else { return Ok(false) };
        self.adopt(state, next)?;
        state.draft_guests(seconds_now())?;
        Ok(true)
    }

    /// Proposes a text as the next version, with this node's signature.
    ///
    /// # Errors
    /// [`ConsortiumError`].
    pub(super) fn propose(
        &self,
        text: String,
        instead: bool,
    ) -> Result<(Fingerprint, Signing), ConsortiumError> {
        let mut state = self.lock();
        state.check_vote(self.peer_id())?;
        state.check_nothing_held()?;
        if text == state.head.text() {
            return Err(ConsortiumError::Unchanged);
        }
        let at = seconds_now().max(state.head.statement().at);
        let proposal = Version::new(state.head.statement().next(&text, at), text);
        let fingerprint = proposal.fingerprint();
        if state.proposals.len() >= PROPOSALS_MAX {
            return Err(ConsortiumError::Crowded);
        }
        self.sign_proposal(&mut state, proposal, instead).map(|signing| (fingerprint, signing))
    }

    /// Signs the proposal whose fingerprint starts so, or agrees to a version that is held back.
    ///
    /// # Errors
    /// [`ConsortiumError`].
    pub(super) fn sign(
        &self,
        digits: &str,
        instead: bool,
    ) -> Result<(Fingerprint, Signing), ConsortiumError> {
        let mut state = self.lock();
        let head = state.head.fingerprint();
        if !state.held.is_empty() && !digits.is_empty() && head.to_string().starts_with(digits) {
            self.agree(&mut state)?;
            return Ok((head, Signing::Agreed));
        }
        state.check_nothing_held()?;
        let fingerprint = state.find(digits)?;
        state.check_vote(self.peer_id())?;
        let Some(proposal) = state.proposals.get(&fingerprint).cloned() else {
            return Err(ConsortiumError::NoProposal(digits.to_owned()));
        };
        self.sign_proposal(&mut state, proposal, instead).map(|signing| (fingerprint, signing))
    }

    fn sign_proposal(
        &self,
        state: &mut State,
        mut proposal: Version,
        instead: bool,
    ) -> Result<Signing, ConsortiumError> {
        let me = self.peer_id();
        let Examined { roster, .. } = state.head.examine(&proposal)?;
        startable(&roster)?;
        let fingerprint = proposal.fingerprint();
        let other = state
            .proposals
            .iter()
            .find(|(other, version)| **other != fingerprint && version.signed.names(me));
        if let Some((other, _)) = other
            && !instead
        {
            return Err(ConsortiumError::SignedAnother(other.short()));
        }
        proposal.sign(&self.identity);
        // On disk before anybody else can see it: a node that forgets what it signed could sign twice.
        state.store.write_proposal(&proposal)?;
        state.proposals.insert(fingerprint, proposal);
        let reached = self.complete(state)?;
        self.tell();
        Ok(if reached { Signing::Reached } else { Signing::Pending })
    }

    /// The administrator accepts that a task's shares go to others.
    fn agree(&self, state: &mut State) -> Result<(), StoreFault> {
        state.store.write_in_force(state.head.number())?;
        state.in_force = state.head.clone();
        state.held.clear();
        tracing::info!(
            version = state.head.number(),
            "the administrator agreed to the roster that was held back"
        );
        self.superseded.send_replace(true);
        self.tell();
        Ok(())
    }

    /// Takes a proposal, or more signatures of one, from another node. Says whether it brought anything new.
    ///
    /// # Errors
    /// [`ConsortiumError`].
    pub(super) fn merge(&self, found: Version) -> Result<bool, ConsortiumError> {
        let mut state = self.lock();
        if state.is_held(&found)? {
            return Ok(false);
        }
        let Examined { signers, .. } = state.head.examine(&found)?;
        let fingerprint = found.fingerprint();
        let known = state.proposals.get(&fingerprint).cloned();
        if signers.is_empty() {
            return Ok(false);
        }
        let mut merged = match known {
            Some(known) => known,
            None => {
                state.check_room(&found)?;
                Version::new(*found.statement(), found.text)
            }
        };
        let before = merged.signed.signatures.len();
        for signature in found.signed.signatures {
            if !merged.signed.names(signature.signer) {
                merged.signed.signatures.push(signature);
            }
        }
        if merged.signed.signatures.len() == before {
            return Ok(false);
        }
        state.store.write_proposal(&merged)?;
        if before == 0 {
            let short = fingerprint.short();
            tracing::info!(
                proposal = short,
                "a proposal for the next roster: `consilium consortium roster show`"
            );
        }
        state.proposals.insert(fingerprint, merged);
        self.complete(&mut state)?;
        self.tell();
        Ok(true)
    }

    /// The proposal, for another node; a draft is nobody else's business.
    pub(super) fn proposal(&self, fingerprint: Fingerprint) -> Option<Version> {
        let found = self.lock().proposals.get(&fingerprint).cloned();
        found.filter(|version| !version.signed.signatures.is_empty())
    }

    /// Versions from a number on, as many as weigh no more than `weight_max`, at least one if there is one.
    pub(super) fn versions_from(&self, from: u64, weight_max: usize) -> Result<Vec<Version>, StoreFault> {
        let (store, last) = self.look(|state| (state.store.clone(), state.head.number()));
        let (mut versions, mut weight) = (Vec::new(), 0);
        for number in from.max(1)..=last {
            let Some(version) = store.read_version(number)? else { break };
            weight += version.weight();
            if !versions.is_empty() && weight > weight_max {
                break;
            }
            versions.push(version);
        }
        Ok(versions)
    }
}

impl State {
    /// Whether this very version stands in the chain already.
    fn is_held(&self, version: &Version) -> Result<bool, StoreFault> {
        let number = version.statement().version;
        if number > self.head.number() {
            return Ok(false);
        }
        let held = self.store.read_version(number)?;
        Ok(held.is_some_and(|held| held.fingerprint() == version.fingerprint()))
    }

    /// Puts the last version in force unless it would send this node's shares elsewhere. Says whether it did.
    fn judge(&mut self, me: PeerId) -> Result<bool, StoreFault> {
        if self.in_force.number() == self.head.number() {
            self.held.clear();
            return Ok(false);
        }
        // As this node last had each task: a version that leaves it out, and one that brings it back with other keys,
        // are together what one of them alone may not do.
        let (key, mut known) = (me.to_string(), BTreeMap::new());
        self.store.walk(|version| {
            if version.number() <= self.in_force.number() {
                known.extend(version.roster().recipients(&key));
            }
        })?;
        let moved = self.head.roster().tasks_moved(&known, &key);
        if !moved.is_empty() && !self.head.is_signed_by(me) {
            self.held = moved;
            tracing::warn!(
                version = self.head.number(),
                tasks = listed(&self.held),
                "the new roster gives tasks of this node to other compute parties and waits for you: read `consilium \
                 consortium roster diff`, then `consilium consortium roster sign {}`",
                self.head.fingerprint().short()
            );
            return Ok(false);
        }
        self.store.write_in_force(self.head.number())?;
        self.in_force = self.head.clone();
        self.held.clear();
        Ok(true)
    }

    pub(super) fn check_vote(&self, me: PeerId) -> Result<(), ConsortiumError> {
        let me = self.head.roster().member_by_peer(&me.to_string());
        if me.is_some_and(consilium_config::Member::votes) { Ok(()) } else { Err(ConsortiumError::NoVote) }
    }

    /// A signature under a later version would put one in force that still waits for this node.
    fn check_nothing_held(&self) -> Result<(), ConsortiumError> {
        match self.held.is_empty() {
            true => Ok(()),
            false => Err(ConsortiumError::Held { digits: self.head.fingerprint().short() }),
        }
    }

    /// One member must not fill all room with proposals that nobody else wants.
    fn check_room(&self, found: &Version) -> Result<(), ConsortiumError> {
        if self.proposals.len() >= PROPOSALS_MAX {
            return Err(ConsortiumError::Crowded);
        }
        let [alone] = found.signed.signatures.as_slice() else { return Ok(()) };
        let lone = self.proposals.values().filter(
            |version| matches!(version.signed.signatures.as_slice(), [one] if one.signer == alone.signer),
        );
        if lone.count() >= LONE_MAX { Err(ConsortiumError::Crowded) } else { Ok(()) }
    }

    /// The one proposal that starts with these digits; without digits, the only one.
    pub(super) fn find(&self, digits: &str) -> Result<Fingerprint, ConsortiumError> {
        let mut found = self.proposals.keys().filter(|key| key.to_string().starts_with(digits));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(*only),
            (Some(_), Some(_)) => Err(ConsortiumError::Ambiguous(digits.to_owned())),
            (None, _) => Err(ConsortiumError::NoProposal(digits.to_owned())),
        }
    }
}

/// A quorum must not be able to stop its own nodes: all tasks can be run.
fn startable(roster: &Roster) -> Result<(), ConsortiumError> {
    for task in roster.tasks() {
        if let Err(error) = TaskTerms::new(task) {
            return Err(ConsortiumError::Task {
                task: task.name.to_string(),
                explanation: error.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
