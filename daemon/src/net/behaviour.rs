//! The parts of libp2p that a node runs, and how they are set.

use std::{io, net::SocketAddr, time::Duration};

use libp2p::{
    Swarm,
    core::transport::TransportError,
    ping,
    swarm::{Config, NetworkBehaviour},
};
use libp2p_connection_limits::{Behaviour as ConnectionBounds, ConnectionLimits};

use super::{
    Identity, NetError, address::multiaddr, gatehouse::Gatehouse, limits::Limits, stream::Streams,
    transport::transport,
};

/// Never reached, since every connection says that it is to be kept; a guard against a change of that rule.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The order matters: a stranger is refused before anything else looks at its connection.
#[derive(NetworkBehaviour)]
pub(super) struct Node {
    gatehouse: Gatehouse,
    bounds: ConnectionBounds,
    pub(super) streams: Streams,
    ping: ping::Behaviour,
}

/// A swarm over TCP, Noise and Yamux that talks to those whom the gatehouse lets in.
pub(super) fn swarm(
    identity: &Identity,
    gatehouse: Gatehouse,
    streams: Streams,
    limits: &Limits,
) -> Result<Swarm<Node>, NetError> {
    let bounds = ConnectionLimits::default()
        .with_max_established_per_peer(Some(limits.connections_per_peer_max))
        .with_max_established(Some(limits.connections_max))
        .with_max_pending_incoming(Some(limits.connections_pending_max))
        .with_max_pending_outgoing(Some(limits.connections_pending_max));
    let pings = ping::Config::new().with_interval(limits.ping_every).with_timeout(limits.ping_within);
    let node =
        Node { gatehouse, bounds: ConnectionBounds::new(bounds), streams, ping: ping::Behaviour::new(pings) };

    let config = Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    Ok(Swarm::new(transport(identity, limits)?, node, identity.peer_id().inner(), config))
}

/// Starts to listen; the real port follows as an event.
pub(super) fn listen(swarm: &mut Swarm<Node>, socket: SocketAddr) -> io::Result<()> {
    match swarm.listen_on(multiaddr(socket)) {
        Ok(_) => Ok(()),
        Err(TransportError::Other(source)) => Err(source),
        Err(error @ TransportError::MultiaddrNotSupported(_)) => Err(io::Error::other(error)),
    }
}
