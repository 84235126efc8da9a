//! Becoming a member: the newcomer's side and the inviter's.
//!
//! The newcomer's node does not run yet, since it has no roster. It connects with its key, shows the invitation,
//! fetches and verifies the chain from the founding version, whose hash the invitation names, and waits until a
//! version names its own key.

use super::invitation::{Application, Invitation};
use super::message::{GUEST_BYTES_MAX, JoinReply, JoinRequest, Pending, REPLY_BYTES_MAX, REPLY_BYTES_WANTED};
use super::store::Store;
use super::sync::at_work;
use super::verify::VerifiedRoster;
use super::{ConsortiumError, Council};
use crate::ledger::seconds_now;
use crate::message::{Obstacle, Refusal};
use crate::net::{self, Channel, ChannelError, Identity, Limits, Network, PeerId, Role, Settings, codec};
use consilium_config::{Address, Node as NodeConfig};
use std::sync::Arc;
use std::time::Duration;

/// For each answer of the inviter.
const WITHIN: Duration = Duration::from_secs(20);
/// How long a guest may be silent.
const SILENT_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions how it goes.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Requests of a guest on one channel.
const REQUESTS_MAX: usize = 64;

/// What a newcomer says of itself beside its key.
#[derive(Clone, Debug, Default)]
pub struct Newcomer {
    /// Who runs it.
    pub organisation: Option<String>,
    /// Where the members can dial it.
    pub addresses: Vec<Address>,
}

/// What came of joining.
#[derive(Debug)]
pub struct Joined {
    /// The version that names this node.
    pub roster: VerifiedRoster,
}

/// Uses an invitation and waits until a version names this node. `progress` hears every answer. May be dropped, and
/// called again with the same invitation.
///
/// # Errors
/// [`ConsortiumError`].
pub async fn join(
    config: &NodeConfig,
    identity: &Identity,
    invitation: &Invitation,
    newcomer: &Newcomer,
    mut progress: impl FnMut(&Pending),
) -> Result<Joined, ConsortiumError> {
    if config.place().unsigned_roster {
        let text = "the node file says `unsigned_roster = true`; remove that line to join a consortium";
        return Err(ConsortiumError::Invitation(text.to_owned()));
    }
    let store = Store::beneath(&config.place().state);
    store.prepare()?;
    let known = store.load()?.map(|chain| chain.head);
    if let Some(known) = known.as_ref().filter(|known| known.statement().consortium != invitation.consortium)
    {
        let (ours, found) = (known.statement().consortium, invitation.consortium);
        return Err(super::RosterFault::OtherConsortium { ours, found }.into());
    }
    let inviter = net::Member { peer: invitation.inviter, addresses: invitation.addresses.clone() };
    let settings = Settings {
        identity: identity.clone(),
        listen: Vec::new(),
        members: vec![inviter],
        reach: net::Reach::default(),
        limits: Limits { handshake_within: config.network().dial_timeout, ..Limits::default() },
    };
    // Nobody can open a channel to a node that does not listen but the inviter, and it has nothing to ask.
    let (network, _incoming) = Network::start(settings).map_err(Box::new)?;
    let application = Application {
        secret: invitation.secret.clone(),
        name: config.name().to_string(),
        organisation: newcomer.organisation.clone(),
        addresses: newcomer.addresses.iter().map(ToString::to_string).collect(),
    };
    let mut guest = Guest { store, head: known, invitation, application, me: identity.peer_id() };
    let outcome = loop {
        match guest.visit(&network, &mut progress).await {
            Ok(roster) => break Ok(Joined { roster }),
            Err(error) if guest.may_try_again(&error) => tokio::time::sleep(ASK_EVERY).await,
            Err(error) => break Err(error),
        }
    };
    network.shutdown().await;
    outcome
}

struct Guest<'i> {
    store: Store,
    head: Option<VerifiedRoster>,
    invitation: &'i Invitation,
    application: Application,
    me: PeerId,
}

impl Guest<'_> {
    /// A guest's connection is short, and the inviter may restart by a new roster; but one who was never there
    /// would never come.
    fn may_try_again(&self, error: &ConsortiumError) -> bool {
        let passing = match error {
            ConsortiumError::Channel(_) => true,
            ConsortiumError::Network(error) => !matches!(**error, net::NetError::Stopped),
            _ => false,
        };
        passing && self.head.is_some() && self.invitation.check_time(seconds_now()).is_ok()
    }

    /// One connection's worth of asking.
    async fn visit(
        &mut self,
        network: &Network,
        progress: &mut impl FnMut(&Pending),
    ) -> Result<VerifiedRoster, ConsortiumError> {
        let by = self.invitation.inviter;
        let mut channel = network.open(by, Role::Join, WITHIN).await.map_err(Box::new)?;
        loop {
            let apply = JoinRequest::Apply(self.application.clone());
            let JoinReply::Pending(pending) = ask(&mut channel, by, &apply).await? else {
                return Err(ConsortiumError::Unexpected { by });
            };
            self.fetch(&mut channel, pending.version).await?;
            if let Some(head) = &self.head
                && head.roster().member_by_peer(&self.me.to_string()).is_some()
            {
                self.store.write_in_force(head.number())?;
                return Ok(head.clone());
            }
            progress(&pending);
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Versions up to `last`, each verified and then kept.
    async fn fetch(&mut self, channel: &mut Channel, last: u64) -> Result<(), ConsortiumError> {
        let by = self.invitation.inviter;
        loop {
            let from = self.head.as_ref().map_or(1, |head| head.number().saturating_add(1));
            if from > last {
                return Ok(());
            }
            let JoinReply::Versions(versions) = ask(channel, by, &JoinRequest::Fetch { from }).await? else {
                return Err(ConsortiumError::Unexpected { by });
            };
            if versions.is_empty() {
                return Err(ConsortiumError::Unexpected { by });
            }
            for version in versions {
                let next = match &self.head {
                    Some(head) => head.followed_by(version)?,
                    None => VerifiedRoster::founding(version, Some(self.invitation.consortium))?,
                };
                self.store.write_version(next.version())?;
                self.head = Some(next);
            }
        }
    }
}

async fn ask(channel: &mut Channel, by: PeerId, request: &JoinRequest) -> Result<JoinReply, ConsortiumError> {
    channel.send_value(request).await?;
    let bytes = channel.receive_within(REPLY_BYTES_MAX, WITHIN).await?;
    let reply: JoinReply = codec::decode(&bytes).map_err(ChannelError::from)?;
    match reply {
        JoinReply::Refused(refusal) => Err(ConsortiumError::Refused { by, explanation: refusal.explanation }),
        reply => Ok(reply),
    }
}

/// Answers a guest until it leaves, or has asked enough. A member may ask in the same way.
///
/// # Errors
/// The channel broke.
pub(crate) async fn serve_guest(
    council: Arc<Council>,
    peer: PeerId,
    mut channel: Channel,
) -> Result<(), ChannelError> {
    for _ in 0..REQUESTS_MAX {
        let bytes = match channel.receive_within(GUEST_BYTES_MAX, SILENT_WITHIN).await {
            Err(ChannelError::Closed | ChannelError::Deadline { .. }) => return Ok(()),
            received => received?,
        };
        let request: JoinRequest = codec::decode(&bytes)?;
        let reply = match request {
            JoinRequest::Apply(application) => {
                let applied = at_work(&council, move |council| Ok(council.apply(peer, &application))).await;
                applied.map(|applied| applied.map_or_else(JoinReply::Refused, JoinReply::Pending))
            }
            JoinRequest::Fetch { from } if council.knows_guest(peer) => {
                at_work(&council, move |council| Ok(council.versions_from(from, REPLY_BYTES_WANTED)?))
                    .await
                    .map(JoinReply::Versions)
            }
            JoinRequest::Fetch { .. } => {
                let text = "show an invitation first";
                Ok(JoinReply::Refused(Refusal::new(Obstacle::NotAllowed, text)))
            }
        };
        let reply = reply.unwrap_or_else(|error| {
            tracing::error!("a guest could not be answered: {error}");
            JoinReply::Refused(Refusal::new(
                Obstacle::Local,
                "the inviter's node failed; tell its administrator",
            ))
        });
        let refused = matches!(reply, JoinReply::Refused(_));
        channel.send_value(&reply).await?;
        if refused {
            // One refusal a channel: guessing takes a new one each time, of which there are few.
            return channel.close().await;
        }
    }
    Ok(())
}
