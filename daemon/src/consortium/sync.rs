//! Members keep each other up to date: each asks the others whenever it meets them or has something to tell.
//!
//! Nothing is pushed. A node says where it stands; whoever lacks something asks for it and verifies what comes. So
//! a node can be made to fetch, but never to take.

use super::message::{
    Hello, REPLY_BYTES_MAX, REPLY_BYTES_WANTED, REQUEST_BYTES_MAX, RosterReply, RosterRequest,
};
use super::{ConsortiumError, Council, RosterFault, Standing, listed};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError, Network, PeerId, Role, codec};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// For a channel to open, and for each answer.
const WITHIN: Duration = Duration::from_secs(20);
/// Members compare at least so often.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// After a conversation that failed while the connection stands.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// After a conversation, before the next one with the same member.
const PAUSE: Duration = Duration::from_millis(300);
/// Requests on one channel.
const REQUESTS_MAX: usize = 4096;

/// Compares with every member, for as long as the network runs, and opens the gate while a guest is expected.
pub(crate) async fn keep(council: Arc<Council>, network: Network) {
    let mut following = JoinSet::new();
    for peer in network.peers().into_iter().map(|state| state.peer) {
        following.spawn(follow(council.clone(), network.clone(), peer));
    }
    let mut news = council.news();
    loop {
        network.expect_guests(council.expects_guests());
        tokio::select! {
            // Invitations expire without a word.
            () = tokio::time::sleep(COMPARE_EVERY) => {}
            changed = news.changed() => if changed.is_err() { return },
            Some(_) = following.join_next() => {}
        }
    }
}

async fn follow(council: Arc<Council>, network: Network, peer: PeerId) {
    let Ok(mut presence) = network.connected(peer) else { return };
    let mut news = council.news();
    loop {
        if presence.wait_connected().await.is_err() {
            return;
        }
        news.mark_unchanged();
        let again = match compare(&council, &network, peer).await {
            Ok(_) => COMPARE_EVERY,
            Err(error) => {
                report(peer, &error);
                RETRY_AFTER
            }
        };
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            lost = presence.wait_lost() => if lost.is_err() { return },
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// What is wrong with a peer's roster is loud; that it did not answer is not.
fn report(peer: PeerId, error: &ConsortiumError) {
    match error {
        ConsortiumError::Fault(fault @ RosterFault::Fork { .. }) => tracing::error!(%peer, "{fault}"),
        ConsortiumError::Fault(fault) => tracing::warn!(%peer, "refused what a member sent: {fault}"),
        error => tracing::debug!(%peer, "no comparison of rosters: {error}"),
    }
}

/// One conversation: says where we stand, hears where the other stands, and fetches what is new. Gives the number
/// of versions that it brought.
pub(super) async fn compare(
    council: &Arc<Council>,
    network: &Network,
    peer: PeerId,
) -> Result<usize, ConsortiumError> {
    let channel = network.open(peer, Role::Roster, WITHIN).await.map_err(Box::new)?;
    let mut asked = Asked { channel, peer };
    let RosterReply::Standing(theirs) = asked.ask(&RosterRequest::Compare(council.hello())).await? else {
        return Err(ConsortiumError::Unexpected { by: peer });
    };
    let standing = hear(council, peer, &theirs).await?;
    if let Standing::Forked { version } = standing {
        asked.name_double_signers(council, version).await?;
    }
    let mut taken = 0;
    if matches!(standing, Standing::Ahead { .. }) {
        loop {
            let from = council.version().saturating_add(1);
            let RosterReply::Versions(versions) = asked.ask(&RosterRequest::Fetch { from }).await? else {
                return Err(ConsortiumError::Unexpected { by: peer });
            };
            if versions.is_empty() {
                break;
            }
            taken += at_work(council, move |council| council.take(versions)).await?;
        }
    }
    for proposal in council.lacking(&theirs) {
        let reply = asked.ask(&RosterRequest::Proposal { proposal }).await?;
        let RosterReply::Proposal(found) = reply else {
            return Err(ConsortiumError::Unexpected { by: peer });
        };
        if let Some(found) = found {
            at_work(council, move |council| council.merge(*found)).await?;
        }
    }
    // The end need not arrive.
    drop(asked.channel.close().await);
    Ok(taken)
}

async fn hear(council: &Arc<Council>, peer: PeerId, hello: &Hello) -> Result<Standing, ConsortiumError> {
    let hello = hello.clone();
    at_work(council, move |council| Ok(council.heard(peer, &hello)?)).await
}

/// Files and signatures are work for a thread that may block.
pub(super) async fn at_work<T: Send + 'static>(
    council: &Arc<Council>,
    work: impl FnOnce(&Council) -> Result<T, ConsortiumError> + Send + 'static,
) -> Result<T, ConsortiumError> {
    let council = council.clone();
    let done = tokio::task::spawn_blocking(move || work(&council)).await;
    done.unwrap_or_else(|error| Err(ConsortiumError::Work(error.to_string())))
}

struct Asked {
    channel: Channel,
    peer: PeerId,
}

impl Asked {
    async fn ask(&mut self, request: &RosterRequest) -> Result<RosterReply, ConsortiumError> {
        self.channel.send_value(request).await?;
        let bytes = self.channel.receive_within(REPLY_BYTES_MAX, WITHIN).await?;
        let reply: RosterReply = codec::decode(&bytes).map_err(ChannelError::from)?;
        match reply {
            RosterReply::Refused(refusal) => {
                Err(ConsortiumError::Refused { by: self.peer, explanation: refusal.explanation })
            }
            reply => Ok(reply),
        }
    }

    /// Evidence for people: a fork takes a member that signed both.
    async fn name_double_signers(
        &mut self,
        council: &Arc<Council>,
        version: u64,
    ) -> Result<(), ConsortiumError> {
        let RosterReply::Versions(versions) = self.ask(&RosterRequest::Fetch { from: version }).await? else {
            return Err(ConsortiumError::Unexpected { by: self.peer });
        };
        let Some(theirs) = versions.into_iter().next() else { return Ok(()) };
        let names = at_work(council, move |council| Ok(council.double_signers(theirs)?)).await?;
        if !names.is_empty() {
            tracing::error!(version, signers = listed(&names), "FORK: these members signed both rosters");
        }
        Ok(())
    }
}

/// Answers one member's channel until it ends.
///
/// # Errors
/// The channel broke.
pub(crate) async fn serve(
    council: Arc<Council>,
    peer: PeerId,
    mut channel: Channel,
) -> Result<(), ChannelError> {
    for _ in 0..REQUESTS_MAX {
        let bytes = match channel.receive_within(REQUEST_BYTES_MAX, WITHIN).await {
            Err(ChannelError::Closed | ChannelError::Deadline { .. }) => return Ok(()),
            received => received?,
        };
        let request: RosterRequest = codec::decode(&bytes)?;
        let reply = match request {
            RosterRequest::Compare(hello) => {
                let heard = hear(&council, peer, &hello).await;
                // It has something for us: our own conversations with the members fetch it.
                if matches!(heard, Ok(Standing::Ahead { .. })) || !council.lacking(&hello).is_empty() {
                    council.tell();
                }
                heard.map(|_| RosterReply::Standing(council.hello()))
            }
            RosterRequest::Fetch { from } => {
                at_work(&council, move |council| Ok(council.versions_from(from, REPLY_BYTES_WANTED)?))
                    .await
                    .map(RosterReply::Versions)
            }
            RosterRequest::Proposal { proposal } => {
                Ok(RosterReply::Proposal(council.proposal(proposal).map(Box::new)))
            }
        };
        let reply = reply.unwrap_or_else(|error| {
            tracing::error!("a member's question about the roster could not be answered: {error}");
            RosterReply::Refused(Refusal::new(Obstacle::Local, "this node cannot read its roster"))
        });
        channel.send_value(&reply).await?;
    }
    Ok(())
}
