//! The parts of libp2p that a node runs, and how they are set.

use std::time::Duration;

use libp2p::{Swarm, SwarmBuilder, noise, ping, swarm::NetworkBehaviour, tcp, yamux};
use libp2p_allow_block_list::{AllowedPeers, Behaviour as AllowList};
use libp2p_connection_limits::{Behaviour as ConnectionBounds, ConnectionLimits};

use super::{Identity, NetError, PeerId, limits::Limits, stream::Streams};

/// Never reached, since every connection says that it is to be kept; a guard against a change of that rule.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The order matters: a stranger is refused before anything else looks at its connection.
#[derive(NetworkBehaviour)]
pub(super) struct Node {
    roster: AllowList<AllowedPeers>,
    bounds: ConnectionBounds,
    pub(super) streams: Streams,
    ping: ping::Behaviour,
}

/// A swarm over TCP, Noise and Yamux that talks to `members` and to nobody else.
pub(super) fn swarm(
    identity: &Identity,
    members: impl Iterator<Item = PeerId>,
    streams: Streams,
    limits: &Limits,
) -> Result<Swarm<Node>, NetError> {
    let mut roster = AllowList::<AllowedPeers>::default();
    for member in members {
        roster.allow_peer(member.inner());
    }
    let bounds = ConnectionLimits::default()
        .with_max_established_per_peer(Some(limits.connections_per_peer_max))
        .with_max_established(Some(limits.connections_max))
        .with_max_pending_incoming(Some(limits.connections_pending_max))
        .with_max_pending_outgoing(Some(limits.connections_pending_max));
    let pings = ping::Config::new().with_interval(limits.ping_every).with_timeout(limits.ping_within);
    let node =
        Node { roster, bounds: ConnectionBounds::new(bounds), streams, ping: ping::Behaviour::new(pings) };

    let streams_max = limits.streams_per_connection();
    let multiplexer = move || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(streams_max);
        config
    };
    let builder = SwarmBuilder::with_existing_identity(identity.keypair())
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, multiplexer)
        .map_err(|source| NetError::Noise { source: Box::new(source) })?;
    let Ok(builder) = builder.with_behaviour(|_| node);
    Ok(builder
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .with_connection_timeout(limits.handshake_within)
        .build())
}
