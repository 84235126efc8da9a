//! Channels as streams of a libp2p connection.
//!
//! Opening: the opener names the role, the acceptor echoes it and adds one byte, accepted or busy, in the same
//! flight; so opening costs one round trip and a refusal has a type. We do not use libp2p's own stream
//! behaviour: it drops inbound streams in silence when two arrive together, may never answer an opening, and
//! chooses among several connections at random.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io, iter, slice,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, Stream,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::{ConnectionClosed, ConnectionEstablished},
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    PeerId,
    admission::{Doorkeeper, Gates, Queues, Ticket},
    frame::Halves,
    limits::Limits,
    role::Role,
    tether::Tether,
};

const ACCEPTED: u8 = 1;
const BUSY: u8 = 0;

/// Why a live connection did not give a stream.
#[derive(Debug, Error)]
pub(super) enum OpenFault {
    #[error("the peer has no place for another channel")]
    Busy,
    #[error("the peer does not speak this role")]
    Unsupported,
    #[error("the connection went away")]
    Lost,
}

/// Where the answer to an opening goes.
pub(super) type Reply = oneshot::Sender<Result<Halves, OpenFault>>;

#[derive(Debug)]
pub(super) struct OpenRequest {
    role: Role,
    reply: Reply,
}

/// What a connection is told.
#[derive(Debug)]
pub(super) enum Order {
    Open(OpenRequest),
    /// To end when its channels have: a direct connection has taken its place.
    Retire,
}

/// A live connection.
#[derive(Debug)]
struct Line {
    connection: ConnectionId,
    relayed: bool,
}

/// Opens and accepts streams on every connection.
pub(super) struct Streams {
    gates: Gates,
    queues: Queues,
    limits: Limits,
    /// Live connections of each peer, those through relays before all others, the newest last.
    connections: HashMap<PeerId, Vec<Line>>,
    orders: VecDeque<(PeerId, ConnectionId, Order)>,
}

impl Streams {
    pub(super) fn new(gates: Gates, queues: Queues, limits: Limits) -> Self {
        Self { gates, queues, limits, connections: HashMap::new(), orders: VecDeque::new() }
    }

    /// Asks for a stream on the newest connection, a direct one if there is any: after a peer's machine died without
    /// a word, an older one may be dead and not know it.
    ///
    /// The caller bounds how many requests are on the way.
    pub(super) fn open(&mut self, peer: PeerId, role: Role, reply: Reply) {
        match self.connections.get(&peer).and_then(|list| list.last()) {
            Some(line) => {
                self.orders.push_back((peer, line.connection, Order::Open(OpenRequest { role, reply })));
            }
            None => answer(reply, Err(OpenFault::Lost)),
        }
    }

    fn handler(&self, peer: libp2p::PeerId) -> Result<Handler, ConnectionDenied> {
        let peer = PeerId::from_inner(peer).map_err(ConnectionDenied::new)?;
        let door =
            Doorkeeper::new(peer, self.gates.clone(), self.queues.clone(), self.limits.frame_bytes_max);
        Ok(Handler {
            door,
            within: self.limits.negotiation_within,
            requests: VecDeque::new(),
            retired: false,
            tether: Tether::default(),
        })
    }

    fn on_established(&mut self, peer: PeerId, line: Line) {
        let lines = self.connections.entry(peer).or_default();
        lines.push(line);
        // Stable, so that the newest of each kind stays last.
        lines.sort_by_key(|line| !line.relayed);
        if lines.last().is_some_and(|line| !line.relayed) {
            let relayed = lines.iter().filter(|line| line.relayed);
            self.orders.extend(relayed.map(|line| (peer, line.connection, Order::Retire)));
        }
    }
}

/// The opener may have stopped waiting; then the stream is dropped here, and the peer sees it end.
fn answer(reply: Reply, result: Result<Halves, OpenFault>) {
    drop(reply.send(result));
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let ConnectionEstablished { peer_id, connection_id, endpoint, .. } = event;
                if let Ok(peer) = PeerId::from_inner(peer_id) {
                    let relayed = endpoint.is_relayed();
                    self.on_established(peer, Line { connection: connection_id, relayed });
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Ok(peer) = PeerId::from_inner(peer_id)
                    && let Some(list) = self.connections.get_mut(&peer)
                {
                    list.retain(|line| line.connection != connection_id);
                    // Guests come under ever new names.
                    if list.is_empty() {
                        self.connections.remove(&peer);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker: the swarm is polled again after every call of `open`, which its owner makes between polls.
        match self.orders.pop_front() {
            Some((peer, connection, event)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id: peer.inner(),
                handler: NotifyHandler::One(connection),
                event,
            }),
            None => Poll::Pending,
        }
    }
}

/// One connection's side of [`Streams`].
pub(super) struct Handler {
    door: Doorkeeper,
    within: Duration,
    requests: VecDeque<OpenRequest>,
    retired: bool,
    tether: Tether,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accept;
    type OutboundProtocol = Ask;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    /// Also called at every poll of the connection, to compare names; so it must stay cheap.
    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        SubstreamProtocol::new(Accept { door: self.door.clone() }, ()).with_timeout(self.within)
    }

    /// Connections are kept between queries: a first round must not pay for a handshake. One that is retired still
    /// lives as long as its streams.
    fn connection_keep_alive(&self) -> bool {
        !self.retired
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Ask, Reply, Infallible>> {
        // No waker: a request comes in by `on_behaviour_event`, after which the connection polls us again.
        match self.requests.pop_front() {
            Some(OpenRequest { role, reply }) => {
                let protocol = SubstreamProtocol::new(Ask { role }, reply).with_timeout(self.within);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    /// Called first when a connection is closed in good order, which can take a while.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Infallible>> {
        self.tether.cut();
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Open(request) => self.requests.push_back(request),
            Order::Retire => self.retired = true,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Accept, Ask, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: Some((role, stream, ticket)),
                ..
            }) => ticket.deliver(role, self.tether.halves(stream)),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                answer(info, Ok(self.tether.halves(protocol)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let fault = match error {
                    StreamUpgradeError::Apply(fault) => fault,
                    StreamUpgradeError::NegotiationFailed => OpenFault::Unsupported,
                    StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => OpenFault::Lost,
                };
                answer(info, Err(fault));
            }
            _ => {}
        }
    }
}

/// The acceptor's side of an opening.
pub(super) struct Accept {
    door: Doorkeeper,
}

impl UpgradeInfo for Accept {
    type Info = Role;
    type InfoIter = iter::Copied<slice::Iter<'static, Role>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.door.roles().iter().copied()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = Option<(Role, Stream, Ticket)>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, mut stream: Stream, role: Role) -> Self::Future {
        async move {
            let ticket = self.door.admit(role);
            stream.write_all(&[if ticket.is_some() { ACCEPTED } else { BUSY }]).await?;
            stream.flush().await?;
            if ticket.is_none() {
                stream.close().await?;
            }
            Ok(ticket.map(|ticket| (role, stream, ticket)))
        }
        .boxed()
    }
}

/// The opener's side of an opening.
pub(super) struct Ask {
    role: Role,
}

impl UpgradeInfo for Ask {
    type Info = Role;
    type InfoIter = iter::Once<Role>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once(self.role)
    }
}

impl OutboundUpgrade<Stream> for Ask {
    type Output = Stream;
    type Error = OpenFault;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, mut stream: Stream, _: Role) -> Self::Future {
        async move {
            let mut verdict = [BUSY];
            stream.read_exact(&mut verdict).await.map_err(|_| OpenFault::Lost)?;
            match verdict {
                [ACCEPTED] => Ok(stream),
                _ => Err(OpenFault::Busy),
            }
        }
        .boxed()
    }
}
