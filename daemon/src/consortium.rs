//! The signed roster: who founded it, who changed it, and how every node comes to hold the same one.
//!
//! A roster is a chain of versions. The founding version is signed by all whom it names, usually by one node alone;
//! each later one names the version before it and is signed by a quorum of *that* version's voters, the members
//! with the role `owner` or `compute`. Adding or removing a member, another compute pair, another task or release
//! rule: all are a new version. Nothing about a version is believed that does not follow from the one before, and
//! none is ever replaced by an older one.
//!
//! ```text
//! create ─▶ 1 ─▶ 2 ─▶ 3 …      each: text + signatures of a quorum of the one before
//!                ▲
//!      proposal ─┤  signatures come together from node to node, by people who read the difference
//!    invitation ─┘  a stranger proves its key, says its name, and becomes a proposal
//! ```
//!
//! **Who could add a compute party to steal shares?** A quorum of owners and compute parties together, and nobody
//! else: not whoever invites, not a client or dealer, not whoever holds an invitation, and not a thief of one
//! node's disk, unless one node is the quorum. The founder is that until a second voter joins; a founder who means
//! ill can found with accomplices, so a newcomer reads the whole roster before it publishes or asks. And since a
//! quorum of *others* could send an owner's or a client's shares elsewhere, a node holds back a version that gives
//! an existing task of its own to other keys until its own administrator has agreed, and stays with the version
//! before; the others then refuse it as stale rather than mislead it.
//!
//! **Forks.** Two versions of one number with enough signatures need a member that signed both, since a quorum is
//! more than half. A node does not sign a second proposal for a number unless told so, and refuses a peer with
//! another roster of the same number, loudly, naming who signed both.

mod council;
mod invitation;
mod join;
mod message;
mod statement;
mod store;
mod sync;
#[cfg(test)]
mod trial;
mod verify;
mod view;

pub use council::{Council, PROPOSALS_MAX, Standing};
pub use invitation::{DAYS, Invitation, InvitationError, Secret};
pub(crate) use join::serve_guest;
pub use join::{Joined, Newcomer, join};
pub use message::Pending;
pub use statement::{
    Fingerprint, NotHexadecimal, NotSigned, SIGNATURES_MAX, Signature, Signed, Statement, TEXT_BYTES_MAX,
    Version,
};
pub use store::StoreFault;
pub(crate) use sync::{keep, serve};
pub use verify::{RosterFault, VerifiedRoster};
pub(crate) use view::answer;
pub use view::{
    ConsortiumReply, ConsortiumRequest, FetchView, InvitationView, Invited, MemberView, ProposalView,
    RosterView, VersionView,
};

use crate::ledger::seconds_now;
use crate::net::{ChannelError, Identity, NetError, PeerId};
use consilium_config::{ConfigError, Name, Node as NodeConfig, Roster};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Chain, Store};

/// Why something about the consortium cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ConsortiumError {
    /// This node has no signed roster.
    #[error(
        "this node has no signed roster yet: found a consortium with `consilium consortium create`, or join one with \
         `consilium consortium join INVITATION`{}",
        file.as_ref().map_or_else(String::new, |file| format!(
            "; to use {} as it is, without signatures, write `unsigned_roster = true` under [node]", file.display()
        ))
    )]
    NoRoster {
        /// A roster file that lies where an unsigned one would be.
        file: Option<PathBuf>,
    },
    /// Two rosters, and no telling which is meant.
    #[error(
        "the node file says `unsigned_roster = true`, but {} holds the signed roster of a consortium; remove that \
         line, or give this node another state folder", folder.display()
    )]
    Both {
        /// The signed one.
        folder: PathBuf,
    },
    /// A consortium is there already.
    #[error("{} holds a consortium already; a node is a member of one, so give another node another state folder", folder.display())]
    Founded {
        /// Its folder.
        folder: PathBuf,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A version or proposal.
    #[error(transparent)]
    Fault(#[from] RosterFault),
    /// A text.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such proposal.
    #[error("no proposal starts with {0}; `consilium consortium roster show` lists those that are pending")]
    NoProposal(String),
    /// Several proposals.
    #[error("several proposals start with {0}; give more digits")]
    Ambiguous(String),
    /// This node's signature would not count.
    #[error(
        "this node has no vote: only members with the role owner or compute sign and propose rosters and invite"
    )]
    NoVote,
    /// It signed another one.
    #[error(
        "this node has signed proposal {0} for the same version; two signatures can make a fork, so sign another one \
         only where all agree that the first is given up, with --instead"
    )]
    SignedAnother(String),
    /// A version waits for this node.
    #[error(
        "roster version {digits} waits for you: it gives tasks of this node to other compute parties; read `consilium \
         consortium roster diff {digits}` and sign it, before you sign or propose what follows it"
    )]
    Held {
        /// The first digits of the version.
        digits: String,
    },
    /// A proposal that changes nothing.
    #[error("the proposal says the same as the roster in force")]
    Unchanged,
    /// No room for proposals.
    #[error("{PROPOSALS_MAX} proposals are pending, no further one is kept; sign one of them first")]
    Crowded,
    /// A task that this program cannot run.
    #[error("task {task} cannot be run: {explanation}")]
    Task {
        /// Its name.
        task: String,
        /// Why.
        explanation: String,
    },
    /// An invitation that cannot be made or used.
    #[error("{0}")]
    Invitation(String),
    /// A text that is no invitation.
    #[error(transparent)]
    NotAnInvitation(#[from] InvitationError),
    /// The network.
    #[error(transparent)]
    Network(#[from] Box<NetError>),
    /// The conversation broke off.
    #[error("the other node broke off: {0}")]
    Channel(#[from] ChannelError),
    /// The other node said no.
    #[error("refused by {by}: {explanation}")]
    Refused {
        /// Who.
        by: PeerId,
        /// Why.
        explanation: String,
    },
    /// The other node said something else than was asked.
    #[error("{by} answered something else than was asked; one of the two versions is out of date")]
    Unexpected {
        /// Who.
        by: PeerId,
    },
    /// A background thread ended.
    #[error("the work was given up: {0}")]
    Work(String),
}

/// The roster that this node runs by, and where it is signed, what keeps it.
///
/// # Errors
/// [`ConsortiumError`] says what to do first.
pub fn open(
    config: &NodeConfig,
    identity: &Arc<Identity>,
) -> Result<(Roster, Option<Arc<Council>>), ConsortiumError> {
    let place = config.place();
    let store = Store::beneath(&place.state);
    if place.unsigned_roster {
        if store.holds_chain() {
            return Err(ConsortiumError::Both { folder: store.folder().to_owned() });
        }
        tracing::warn!(
            "the roster {} has no signatures: whoever can change that file decides who computes",
            place.roster.display()
        );
        return Ok((Roster::load(&place.roster)?, None));
    }
    let file = place.roster.exists().then(|| place.roster.clone());
    if !store.holds_chain() {
        return Err(ConsortiumError::NoRoster { file });
    }
    store.prepare()?;
    let Some(chain) = store.load()? else { return Err(ConsortiumError::NoRoster { file }) };
    let council = Council::start(store, chain, identity.clone())?;
    let roster = council.in_force();
    if let Some(file) = file
        && Roster::load(&file).is_ok_and(|other| other.digest() != roster.digest())
    {
        tracing::warn!(
            "{} differs from the signed roster in force and is not read; to make it the next version run `consilium \
             consortium roster propose`",
            file.display()
        );
    }
    Ok((roster, Some(Arc::new(council))))
}

/// Founds a consortium of this node alone, by a text that names nobody else.
///
/// # Errors
/// [`ConsortiumError`].
pub fn create(
    config: &NodeConfig,
    identity: &Identity,
    text: String,
) -> Result<VerifiedRoster, ConsortiumError> {
    let place = config.place();
    let store = Store::beneath(&place.state);
    if store.holds_chain() {
        return Err(ConsortiumError::Founded { folder: store.folder().to_owned() });
    }
    if place.unsigned_roster {
        return Err(ConsortiumError::Invitation(
            "the node file says `unsigned_roster = true`; remove that line to found a consortium with a signed roster"
                .to_owned(),
        ));
    }
    let mut version = Version::new(Statement::founding(&text, seconds_now()), text);
    version.sign(identity);
    let founded = VerifiedRoster::founding(version, None)?;
    store.prepare()?;
    store.write_version(founded.version())?;
    store.write_in_force(1)?;
    Ok(founded)
}

/// What a stored chain says about a node, for commands that run without a daemon.
pub(crate) fn roster_in_use(config: &NodeConfig) -> Result<Roster, ConsortiumError> {
    if config.place().unsigned_roster {
        return Ok(Roster::load(&config.place().roster)?);
    }
    Ok(stored(config)?.in_force.roster().clone())
}

/// A name for people and the text of the signed roster that a node would run by.
pub(crate) fn text_in_use(config: &NodeConfig) -> Result<(String, String), ConsortiumError> {
    let in_force = stored(config)?.in_force;
    Ok((format!("version {} of the signed roster", in_force.number()), in_force.text().to_owned()))
}

fn stored(config: &NodeConfig) -> Result<Chain, ConsortiumError> {
    let place = config.place();
    let none = || ConsortiumError::NoRoster { file: place.roster.exists().then(|| place.roster.clone()) };
    Store::beneath(&place.state).load()?.ok_or_else(none)
}

/// Names in a list, for people.
pub(crate) fn listed(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
