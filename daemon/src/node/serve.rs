//! What becomes of the channels that others open.

use super::{Shared, deal, roster};
use crate::net::{Channel, ChannelError, Incoming, PeerId, Role};
use crate::pulse::Pulse;
use std::mem::discriminant;
use std::sync::{Arc, PoisonError};
use tokio::task::JoinSet;

/// Hands every incoming channel to the part that serves it. Ends with the network.
pub(super) async fn accept(shared: Arc<Shared>, mut incoming: Incoming, mut pulse: Pulse) {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            arrival = incoming.next() => match arrival {
                Some((peer, role, channel)) => {
                    serving.spawn(serve(shared.clone(), peer, role, channel));
                }
                None => break,
            },
            Some(_) = serving.join_next() => {}
            () = pulse.beat() => {}
        }
    }
    serving.shutdown().await;
}

async fn serve(shared: Arc<Shared>, peer: PeerId, role: Role, channel: Channel) {
    let member = shared.roster.member_by_peer(&peer.to_string());
    let name = member.map_or_else(|| "a guest".to_owned(), |member| member.name.to_string());
    let channel = match roster::unless_about_it(&shared, peer, role, channel).await {
        Ok(channel) => channel,
        Err(error) => return shared.note_fault(&name, role, &error),
    };
    let (Some(channel), Some(member)) = (channel, member) else { return };
    let served = match role {
        Role::Query => match shared.first_seat() {
            Some(compute) => compute.serve_client(channel, name.clone()).await,
            None => return,
        },
        Role::Publish => match shared.first_seat() {
            Some(compute) => compute.serve_owner(channel, (name.clone(), peer)).await,
            None => return,
        },
        Role::Online | Role::Pair => match shared.seats.iter().find(|(_, compute)| compute.other == peer) {
            Some((_, compute)) if role == Role::Online => compute.clone().serve_online(channel).await,
            Some((_, compute)) => compute.clone().serve_pair(channel).await,
            None => return,
        },
        Role::Deal => deal::serve(&shared, member, channel).await,
        Role::Mask => match (&shared.dealer, shared.dealt_seat(member)) {
            (Some(dealer), Some((pair, seat))) => dealer.mask(channel, &pair, seat).await,
            _ => return,
        },
        Role::Module => match &shared.hosted {
            Some(hosted) if shared.draws_for(member) => hosted.carry(channel, peer).await,
            _ => return,
        },
        Role::Status => match shared.first_seat() {
            Some(compute) => compute.serve_status(channel, name.clone()).await,
            None => return,
        },
        Role::Homomorphic => match &shared.encrypted.owner {
            Some(owner) => owner.clone().serve(channel, name.clone()).await,
            None => return,
        },
        Role::Laboratory => shared.laboratory.clone().serve(channel, name.clone()).await,
        Role::Roster | Role::Join | Role::Meet => return,
    };
    if let Err(error) = served {
        shared.note_fault(&name, role, &error);
    }
}

impl Shared {
    /// Notes how a member's channel ended in an error, and speaks of it where that is the member's own doing: once
    /// an interval, for it can do so again at once.
    fn note_fault(&self, name: &str, role: Role, error: &ChannelError) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let role = role.name();
        let due =
            if error.is_misuse() { self.misused.note((name.to_owned(), discriminant(error))) } else { None };
        match due {
            Some(unlogged) => {
                tracing::warn!(
                    member = name,
                    role,
                    verdict = "refused",
                    unlogged,
                    "closed a channel of {name}: {error}"
                );
            }
            None => tracing::debug!(member = name, role, "a channel ended: {error}"),
        }
    }
}
