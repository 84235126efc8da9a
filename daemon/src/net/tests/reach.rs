//! Members that the roster does not lead to.

use futures::StreamExt;
use libp2p::{multiaddr::Protocol, relay, swarm::SwarmEvent};

use super::*;
use crate::net::behaviour::NodeEvent;

const NAT: Reach = Reach { behind_nat: true, relay: false, mdns: false };
const RELAY: Reach = Reach { behind_nat: false, relay: true, mdns: false };

/// Calls and redials quick enough to wait for.
fn brisk() -> Limits {
    Limits {
        meet_every: Duration::from_millis(300),
        meet_spacing: Duration::from_millis(50),
        redial_after_max: Duration::from_millis(400),
        ..Limits::default()
    }
}

async fn reached(
    identity: &Identity,
    listen: bool,
    members: Vec<Member>,
    reach: Reach,
    limits: &Limits,
) -> Node {
    let listen = if listen { vec![loopback(0)] } else { Vec::new() };
    let settings = Settings { identity: identity.clone(), listen, members, reach, limits: limits.clone() };
    let (network, incoming) = Network::start(settings).unwrap();
    network.wait_listening().await.unwrap();
    Node { network, incoming }
}

/// A relay, and two members of which neither knows an address of the other. They listen, so that holes can be
/// punched, or do not.
async fn two_behind_nats(listen: bool, relay_limits: &Limits) -> (Node, Node, Node) {
    let [middle, left, right] = [(); 3].map(|()| Identity::generate());
    let [middle_name, left_name, right_name] = [&middle, &left, &right].map(Identity::peer_id);
    let unlisted = vec![member(left_name, &[]), member(right_name, &[])];
    let middle = reached(&middle, true, unlisted, RELAY, relay_limits).await;
    let listed = member(middle_name, &middle.network.listening());
    let members = |other| vec![listed.clone(), member(other, &[])];
    let left = reached(&left, listen, members(right_name), NAT, &brisk()).await;
    let right = reached(&right, listen, members(left_name), NAT, &brisk()).await;
    (middle, left, right)
}

async fn echo_once(here: &mut Channel, there: &mut Channel, size: usize) {
    let (ours, theirs) = (vec![1; size], vec![2; size]);
    let work = async { tokio::try_join!(here.exchange(&ours, size), there.exchange(&theirs, size)) };
    let (got, sent) = timeout(SOON, work).await.unwrap().unwrap();
    assert!(got == theirs && sent == ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_behind_nats_meet_through_a_relay() {
    let (middle, left, mut right) = two_behind_nats(false, &Limits::default()).await;
    let relay = middle.network.peer_id();
    timeout(SOON, right.network.wait_relays(1)).await.unwrap().unwrap();
    assert_eq!(right.network.relays(), [relay]);
    let (mut here, mut there) = channel(&left, &mut right, Role::Query).await;
    echo_once(&mut here, &mut there, 1 << 20).await;
    let state = left.network.connected(right.network.peer_id()).unwrap().state();
    assert!(state.connected);
    assert_eq!(state.relay, Some(relay));
    assert_eq!(left.network.connected(relay).unwrap().state().relay, None);
    // With the relay everything through it ends, and is said to have ended.
    middle.network.shutdown().await;
    assert!(matches!(timeout(SOON, here.receive(10)).await.unwrap(), Err(ChannelError::Closed)));
    let mut lost = left.network.connected(right.network.peer_id()).unwrap();
    timeout(SOON, lost.wait_lost()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_connection_takes_the_relays_place_and_breaks_no_channel() {
    let (_middle, left, mut right) = two_behind_nats(true, &Limits::default()).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Query).await;
    echo_once(&mut here, &mut there, 1000).await;
    let mut presence = left.network.connected(right.network.peer_id()).unwrap();
    let direct = presence.wait_for(|state| state.connected && state.relay.is_none());
    timeout(SOON, direct).await.unwrap().unwrap();
    echo_once(&mut here, &mut there, 1000).await;
    let (mut later, mut its) = channel(&left, &mut right, Role::Query).await;
    echo_once(&mut later, &mut its, 1 << 20).await;
    echo_once(&mut here, &mut there, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_an_address_is_found_at_one_that_others_reach() {
    let [middle, left, right] = [(); 3].map(|()| Identity::generate());
    let unlisted = vec![member(left.peer_id(), &[]), member(right.peer_id(), &[])];
    let host = reached(&middle, true, unlisted, Reach::default(), &Limits::default()).await;
    let listed = member(middle.peer_id(), &host.network.listening());
    // The one that is looked for listens, and nobody was told where; an old address of it leads nowhere.
    let members = vec![listed.clone(), member(left.peer_id(), &[])];
    let mut found = reached(&right, true, members, Reach::default(), &brisk()).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let old = Address::from(nobody.local_addr().unwrap());
    drop(nobody);
    let members = vec![listed, member(right.peer_id(), &[old])];
    let left = reached(&left, false, members, Reach::default(), &brisk()).await;
    let (mut here, mut there) = channel(&left, &mut found, Role::Pair).await;
    echo_once(&mut here, &mut there, 1000).await;
    let state = left.network.connected(right.peer_id()).unwrap().state();
    assert!(state.connected && state.relay.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_neither_a_place_nor_an_address() {
    let [middle, friend, stranger] = [(); 3].map(|()| Identity::generate());
    let host = reached(&middle, true, vec![member(friend.peer_id(), &[])], RELAY, &Limits::default()).await;
    let to_host = || vec![member(middle.peer_id(), &host.network.listening())];
    // Even one that is let in to ask to join.
    host.network.expect_guests(true);
    let guest = reached(&stranger, false, to_host(), Reach::default(), &brisk()).await;
    let refused = guest.network.open(middle.peer_id(), Role::Meet, SOON).await;
    assert!(matches!(refused, Err(NetError::Unsupported { .. })), "{refused:?}");
    guest.network.shutdown().await;
    // It does not wait to be told that there is a relay.
    assert_eq!(place_for(&stranger, &host).await, None);
    assert_eq!(place_for(&friend, &host).await, Some(host.network.peer_id()));
}

/// Asks `host` for a place with the parts of libp2p alone; the relay, if it gave one.
async fn place_for(identity: &Identity, host: &Node) -> Option<PeerId> {
    let limits = Limits::default();
    let relay = host.network.peer_id();
    let gates = Gates::new([relay].into_iter(), &limits);
    let queues = Queues { callers: mpsc::channel(1).0, meet: mpsc::channel(1).0 };
    let streams = Streams::new(gates.clone(), queues, limits.clone());
    let mut swarm = behaviour::swarm(identity, &gates, streams, &Reach::default(), &limits).unwrap();
    let place = host.network.listening()[0].multiaddr();
    let place = place.with(Protocol::P2p(relay.inner())).with(Protocol::P2pCircuit);
    let ours = swarm.listen_on(place).unwrap();
    let outcome = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(NodeEvent::Places(relay::client::Event::ReservationReqAccepted {
                    relay_peer_id,
                    ..
                })) => return PeerId::from_inner(relay_peer_id).ok(),
                SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == ours => return None,
                _ => {}
            }
        }
    };
    timeout(SOON, outcome).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_keeps_to_its_limits() {
    // One place, which the first takes.
    let limits = Limits { relay_places_max: 1, ..Limits::default() };
    let [middle, first, second] = [(); 3].map(|()| Identity::generate());
    let unlisted = vec![member(first.peer_id(), &[]), member(second.peer_id(), &[])];
    let host = reached(&middle, true, unlisted, RELAY, &limits).await;
    let to_host = || vec![member(middle.peer_id(), &host.network.listening())];
    let first = reached(&first, false, to_host(), NAT, &brisk()).await;
    timeout(SOON, first.network.wait_relays(1)).await.unwrap().unwrap();
    let second = reached(&second, false, to_host(), NAT, &brisk()).await;
    let refused = async {
        while host.network.refused_relaying() == 0 {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    };
    timeout(SOON, refused).await.expect("the second is refused");
    assert!(second.network.relays().is_empty());
    assert_eq!(first.network.relays(), [middle.peer_id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_ends_a_connection_that_carried_its_share() {
    let limits = Limits { relay_circuit_bytes_max: 1 << 20, ..Limits::default() };
    let (_middle, left, mut right) = two_behind_nats(false, &limits).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Publish).await;
    let frame = vec![7; 64 << 10];
    let carried = async {
        let mut carried = 0;
        loop {
            let both = async { tokio::try_join!(here.send(&frame), there.receive(64 << 10)) };
            match both.await {
                Ok(_) => carried += 1,
                Err(error) => break (carried, error),
            }
        }
    };
    let (carried, error) = timeout(SOON, carried).await.unwrap();
    assert!(matches!(error, ChannelError::Closed | ChannelError::Truncated { .. }), "{error}");
    assert!((1..=16).contains(&carried), "{carried} frames");
    // Both come back by a new one.
    let (mut here, mut there) = channel(&left, &mut right, Role::Publish).await;
    echo_once(&mut here, &mut there, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictions_are_refused_at_the_start() {
    let start = |listen: &str, reach| {
        let listen = vec![listen.parse().unwrap()];
        let (identity, limits) = (Identity::generate(), Limits::default());
        Network::start(Settings { identity, listen, members: Vec::new(), reach, limits }).map(drop)
    };
    let both = Reach { behind_nat: true, relay: true, mdns: false };
    assert!(matches!(start("127.0.0.1:0", both), Err(NetError::RelayBehindNat)));
    let quic = start("/ip4/127.0.0.1/udp/0/quic-v1", Reach::default());
    if cfg!(feature = "quic") {
        quic.unwrap();
    } else {
        assert!(matches!(quic, Err(NetError::NoQuic { .. })), "{quic:?}");
    }
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread")]
async fn frames_cross_over_quic() {
    let (first, second) = (Identity::generate(), Identity::generate());
    let start = |identity: &Identity, members| {
        let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let (identity, reach, limits) = (identity.clone(), Reach::default(), Limits::default());
        let (network, incoming) =
            Network::start(Settings { identity, listen, members, reach, limits }).unwrap();
        Node { network, incoming }
    };
    let mut right = start(&second, vec![member(first.peer_id(), &[])]);
    let addresses = right.network.wait_listening().await.unwrap();
    assert!(addresses[0].to_string().ends_with("/quic-v1"));
    let left = start(&first, vec![member(second.peer_id(), &addresses)]);
    let (mut here, mut there) = channel(&left, &mut right, Role::Online).await;
    echo_once(&mut here, &mut there, 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an interface with multicast besides loopback"]
async fn members_on_one_network_find_each_other() {
    let keys = [(); 2].map(|()| Identity::generate());
    let names = [&keys[0], &keys[1]].map(Identity::peer_id);
    let start = |own: usize| {
        let (identity, members) = (keys[own].clone(), vec![member(names[1 - own], &[])]);
        let reach = Reach { mdns: true, ..Reach::default() };
        let listen = vec!["0.0.0.0:0".parse().unwrap()];
        let (network, incoming) =
            Network::start(Settings { identity, listen, members, reach, limits: brisk() }).unwrap();
        Node { network, incoming }
    };
    let (left, mut right) = (start(0), start(1));
    let (mut here, mut there) = channel(&left, &mut right, Role::Query).await;
    echo_once(&mut here, &mut there, 1000).await;
}
