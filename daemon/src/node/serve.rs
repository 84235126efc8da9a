//! What becomes of the channels that others open.

use super::{Shared, deal, roster};
use crate::net::{Channel, Incoming, PeerId, Role};
use crate::pulse::Pulse;
use std::sync::Arc;
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
    let Some(channel) = roster::unless_about_it(&shared, peer, role, channel).await else { return };
    let Some(member) = shared.roster.member_by_peer(&peer.to_string()) else { return };
    let name = member.name.to_string();
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
        Role::Roster | Role::Join => return,
    };
    if let Err(error) = served {
        shared.note_fault();
        tracing::debug!(member = name, role = role.name(), "a channel ended: {error}");
    }
}
