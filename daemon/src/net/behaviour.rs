//! The parts of libp2p that a node runs, and how they are set.

use std::{io, num::NonZeroU32, time::Duration};

use libp2p::{
    Swarm,
    core::transport::TransportError,
    dcutr, identify, mdns, ping, relay,
    swarm::{Config, NetworkBehaviour, behaviour::toggle::Toggle},
};
use libp2p_connection_limits::{Behaviour as ConnectionBounds, ConnectionLimits};

use super::{
    Address, Identity, NetError, Reach, admission::Gates, anteroom::Anteroom, gatehouse::Gatehouse,
    limits::Limits, members::Members, stream::Streams, transport::transport,
};

/// For connections that nothing holds any more, which are those through a relay after a direct one has come.
const IDLE: Duration = Duration::from_secs(10);
/// How long a place at a relay counts; it is renewed in time.
const PLACE_WITHIN: Duration = Duration::from_secs(3600);
/// A member asks a relay for places and connections so often at once, and then each such time.
const RELAY_BURST: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
const RELAY_EVERY: Duration = Duration::from_secs(5);
/// The name under which members know each other's programs as of one kind.
const KIND: &str = "/consilium/1";

/// Connections of which the handshake has ended or is about to end, for each one that goes on.
const SENT_AWAY_ROOM: u32 = 8;

/// The order matters: a stranger is refused before anything else looks at its connection.
#[derive(NetworkBehaviour)]
pub(super) struct Node {
    pub(super) gatehouse: Gatehouse,
    bounds: ConnectionBounds,
    pub(super) streams: Streams,
    ping: ping::Behaviour,
    /// Tells what a member offers, and from where it sees us.
    identify: Members<identify::Behaviour>,
    /// Takes places at relays, and dials through them.
    places: Members<relay::client::Behaviour>,
    /// Carries the connections of others.
    relay: Toggle<Members<relay::Behaviour>>,
    /// Makes a direct connection out of one through a relay.
    punch: Members<dcutr::Behaviour>,
    nearby: Toggle<mdns::tokio::Behaviour>,
}

/// A swarm over TCP, Noise and Yamux that talks to those whom the gatehouse lets in.
pub(super) fn swarm(
    identity: &Identity,
    gates: &Gates,
    streams: Streams,
    reach: &Reach,
    limits: &Limits,
) -> Result<Swarm<Node>, NetError> {
    let me = identity.peer_id().inner();
    let bounds = ConnectionLimits::default()
        .with_max_established_per_peer(Some(2 * limits.connections_per_peer_max))
        .with_max_established(Some(limits.connections_max))
        // The anteroom keeps fewer; this counts also those that were sent away and have not noticed yet.
        .with_max_pending_incoming(Some(limits.connections_pending_max.saturating_mul(SENT_AWAY_ROOM)))
        .with_max_pending_outgoing(Some(limits.connections_pending_max));
    let pings = ping::Config::new().with_interval(limits.ping_every).with_timeout(limits.ping_within);
    // Members find each other by the roster and by each other's word; nothing is to be remembered here.
    let about = identify::Config::new(KIND.to_owned(), identity.keypair().public())
        .with_agent_version(concat!("consilium/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_cache_size(0)
        .with_hide_listen_addrs(true);
    let anteroom = Anteroom::new(limits.connections_pending_max);
    let (relayed, places) = relay::client::new(me);
    let relay = reach.relay.then(|| {
        let mut relay = relay::Behaviour::new(me, relay_config(limits));
        relay.set_status(Some(relay::Status::Enable));
        Members::new(relay, gates.clone())
    });
    let nearby = if reach.mdns {
        let nearby = mdns::tokio::Behaviour::new(mdns::Config::default(), me);
        Some(nearby.map_err(|source| NetError::Multicast { source })?)
    } else {
        None
    };
    let node = Node {
        gatehouse: Gatehouse::new(gates.clone(), anteroom.clone(), limits),
        bounds: ConnectionBounds::new(bounds),
        streams,
        ping: ping::Behaviour::new(pings),
        identify: Members::new(identify::Behaviour::new(about), gates.clone()),
        places: Members::new(places, gates.clone()),
        relay: relay.into(),
        punch: Members::new(dcutr::Behaviour::new(me), gates.clone()),
        nearby: nearby.into(),
    };

    let config = Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    Ok(Swarm::new(transport(identity, (relayed, anteroom), limits)?, node, me, config))
}

/// The library's own bounds, 128 KiB and two minutes for a connection, are for strangers who need help to meet.
fn relay_config(limits: &Limits) -> relay::Config {
    let config = relay::Config {
        max_reservations: limits.relay_places_max,
        max_reservations_per_peer: limits.connections_per_peer_max as usize,
        reservation_duration: PLACE_WITHIN,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.relay_circuits_max,
        max_circuits_per_peer: limits.relay_circuits_per_peer_max,
        max_circuit_duration: limits.relay_circuit_within,
        max_circuit_bytes: limits.relay_circuit_bytes_max,
        circuit_src_rate_limiters: Vec::new(),
    };
    config.reservation_rate_per_peer(RELAY_BURST, RELAY_EVERY).circuit_src_per_peer(RELAY_BURST, RELAY_EVERY)
}

/// Starts to listen; the real ports follow as events.
pub(super) fn listen(swarm: &mut Swarm<Node>, addresses: &[Address]) -> Result<(), NetError> {
    for address in addresses {
        let source = match swarm.listen_on(address.multiaddr()) {
            Ok(_) => continue,
            Err(TransportError::Other(source)) => source,
            Err(error @ TransportError::MultiaddrNotSupported(_)) => io::Error::other(error),
        };
        return Err(NetError::Listen { address: address.clone(), source });
    }
    Ok(())
}
