//! What a node does about its signed roster beside serving: keep it, refuse those with another one, start anew.

use super::Shared;
use crate::consortium;
use crate::message::{DealReply, MESSAGE_BYTES_MAX, PublishReply, QueryReply, Refusal};
use crate::net::{Channel, ChannelError, PeerId, Role};
use std::time::Duration;

/// For the question of a member that is refused anyway.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// Serves a channel that is about the roster, and refuses one of a member with another roster; gives back any other.
///
/// # Errors
/// The channel failed.
pub(super) async fn unless_about_it(
    shared: &Shared,
    peer: PeerId,
    role: Role,
    mut channel: Channel,
) -> Result<Option<Channel>, ChannelError> {
    let Some(council) = &shared.council else { return Ok(Some(channel)) };
    match role {
        Role::Join => consortium::serve_guest(council.clone(), peer, channel).await?,
        Role::Roster => consortium::serve(council.clone(), peer, channel).await?,
        role => match council.admits(peer) {
            Ok(()) => return Ok(Some(channel)),
            Err(refusal) => refuse(&mut channel, role, refusal).await,
        },
    }
    Ok(None)
}

/// Tells a member with another roster why it is not served, where its role has a word for that.
async fn refuse(channel: &mut Channel, role: Role, refusal: Refusal) {
    // The question first, so that the other side is listening.
    if channel.receive_within(MESSAGE_BYTES_MAX, REFUSED_WITHIN).await.is_err() {
        return;
    }
    let told = match role {
        Role::Query => channel.send_value(&QueryReply::Refused(refusal)).await,
        Role::Publish => channel.send_value(&PublishReply::Refused(refusal)).await,
        Role::Deal => channel.send_value(&DealReply::Refused(refusal)).await,
        Role::Homomorphic => crate::encrypted::refuse(channel, refusal).await,
        Role::Laboratory => crate::laboratory::refuse(channel, refusal).await,
        _ => Ok(()),
    };
    drop(told);
}

impl Shared {
    /// Returns when another version of the signed roster is in force; the node must begin anew to run by it. May be
    /// dropped.
    pub async fn superseded(&self) {
        match &self.council {
            Some(council) => council.superseded().await,
            None => std::future::pending().await,
        }
    }
}
