//! Several nodes in one process, on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

mod reach;

const SOON: Duration = Duration::from_secs(20);

struct Node {
    network: Network,
    incoming: Incoming,
}

fn loopback(port: u16) -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

fn member(peer: PeerId, addresses: &[Address]) -> Member {
    Member { peer, addresses: addresses.to_vec() }
}

/// Starts a node on `port` of loopback, or on any port for 0.
async fn node(identity: &Identity, port: u16, members: Vec<Member>, limits: Limits) -> Node {
    let (identity, reach) = (identity.clone(), Reach::default());
    let settings = Settings { identity, listen: vec![loopback(port)], members, reach, limits };
    let (network, incoming) = Network::start(settings).unwrap();
    network.wait_listening().await.unwrap();
    Node { network, incoming }
}

/// Two nodes of which the first dials the second.
async fn two(limits: Limits) -> (Node, Node) {
    let (first, second) = (Identity::generate(), Identity::generate());
    let right = node(&second, 0, vec![member(first.peer_id(), &[])], limits.clone()).await;
    let left = node(&first, 0, vec![member(second.peer_id(), &right.network.listening())], limits).await;
    (left, right)
}

/// A channel from `left` to `right` and its other end.
async fn channel(left: &Node, right: &mut Node, role: Role) -> (Channel, Channel) {
    let opened = left.network.open(right.network.peer_id(), role, SOON);
    let (opened, arrived) = tokio::join!(opened, timeout(SOON, right.incoming.next()));
    let (peer, found, accepted) = arrived.unwrap().unwrap();
    assert_eq!((peer, found), (left.network.peer_id(), role));
    (opened.unwrap(), accepted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_crosses_both_ways_at_once() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Online).await;
    let size = 1 << 20;
    let (ours, theirs) = (vec![1; size], vec![2; size]);
    let work = async { tokio::try_join!(here.exchange(&ours, size), there.exchange(&theirs, size)) };
    let (got, sent) = timeout(SOON, work).await.unwrap().unwrap();
    assert!(got == theirs && sent == ours);
    assert_eq!(here.sent_bytes(), size as u64 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_frames_cross_both_ways_at_once() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Deal).await;
    let size = 64 << 20;
    let (ours, theirs) = (vec![1; size], vec![2; size]);
    let work = async { tokio::try_join!(here.exchange(&ours, size), there.exchange(&theirs, size)) };
    let (got, sent) = timeout(6 * SOON, work).await.unwrap().unwrap();
    assert!(got == theirs && sent == ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_reach_each_other_in_every_role() {
    let keys: Vec<Identity> = (0..3).map(|_| Identity::generate()).collect();
    let names: Vec<PeerId> = keys.iter().map(Identity::peer_id).collect();
    let everybody = |addresses: &[Vec<Address>]| -> Vec<Member> {
        names.iter().zip(addresses).map(|(&peer, list)| member(peer, list)).collect()
    };
    let mut addresses = vec![Vec::new(); 3];
    let mut nodes = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let node = node(key, 0, everybody(&addresses), Limits::default()).await;
        addresses[index] = node.network.listening();
        nodes.push(node);
    }
    let networks: Vec<Network> = nodes.iter().map(|node| node.network.clone()).collect();
    let echoes: Vec<_> = nodes
        .into_iter()
        .map(|mut node| {
            tokio::spawn(async move {
                for _ in 0..2 * Role::ALL.len() {
                    let (peer, role, mut channel) = node.incoming.next().await.unwrap();
                    let (from, text): (PeerId, String) = channel.receive_value(200).await.unwrap();
                    assert_eq!((from, text.as_str()), (peer, role.name()));
                    channel.send_value(&role.protocol()).await.unwrap();
                }
            })
        })
        .collect();
    for network in &networks {
        for &peer in names.iter().filter(|&&peer| peer != network.peer_id()) {
            for role in Role::ALL {
                let mut channel = network.open(peer, role, SOON).await.unwrap();
                channel.send_value(&(network.peer_id(), role.name())).await.unwrap();
                assert_eq!(channel.receive_value::<String>(100).await.unwrap(), role.protocol());
            }
        }
    }
    for echo in echoes {
        timeout(SOON, echo).await.unwrap().unwrap();
    }
    for network in &networks {
        let states = network.peers();
        assert_eq!(states.len(), 2);
        assert!(states.iter().all(|state| state.connected && state.connections <= 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_dialling_each_other_end_connected() {
    let (first, second) = (Identity::generate(), Identity::generate());
    // The ports must be known before either node starts.
    let ports: Vec<u16> = {
        let sockets = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect()
    };
    let to_second = member(second.peer_id(), &[loopback(ports[1])]);
    let to_first = member(first.peer_id(), &[loopback(ports[0])]);
    let (left, mut right) = tokio::join!(
        node(&first, ports[0], vec![to_second], Limits::default()),
        node(&second, ports[1], vec![to_first], Limits::default())
    );
    for _ in 0..10 {
        let (mut here, mut there) = channel(&left, &mut right, Role::Pair).await;
        here.send(b"ping").await.unwrap();
        assert_eq!(there.receive(10).await.unwrap(), b"ping");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_and_counted() {
    let (stranger, host) = (Identity::generate(), Identity::generate());
    let someone = Identity::generate();
    let mut right = node(&host, 0, vec![member(someone.peer_id(), &[])], Limits::default()).await;
    let left =
        node(&stranger, 0, vec![member(host.peer_id(), &right.network.listening())], Limits::default()).await;
    let error = left.network.open(host.peer_id(), Role::Query, Duration::from_millis(700)).await.unwrap_err();
    assert!(matches!(error, NetError::Deadline { .. }), "{error}");
    assert!(right.network.refused_connections() > 0);
    assert!(timeout(Duration::ZERO, right.incoming.next()).await.is_err(), "a stranger's channel arrived");
    assert!(matches!(
        right.network.open(stranger.peer_id(), Role::Query, SOON).await,
        Err(NetError::NotAMember { peer }) if peer == stranger.peer_id()
    ));
}

/// A host with one member, open for guests, and a guest that dials it.
async fn host_and_guest(limits: Limits) -> (Node, Node, Node) {
    let (host, friend, guest) = (Identity::generate(), Identity::generate(), Identity::generate());
    let right = node(&host, 0, vec![member(friend.peer_id(), &[])], limits).await;
    right.network.expect_guests(true);
    let to_host = || vec![member(host.peer_id(), &right.network.listening())];
    let friend = node(&friend, 0, to_host(), Limits::default()).await;
    let guest = node(&guest, 0, to_host(), Limits::default()).await;
    (right, friend, guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_may_ask_to_join_and_nothing_else() {
    let (mut host, mut friend, guest) = host_and_guest(Limits::default()).await;
    let (mut here, mut there) = channel(&guest, &mut host, Role::Join).await;
    here.send(b"may I?").await.unwrap();
    assert_eq!(there.receive(10).await.unwrap(), b"may I?");
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Join) {
        let refused = guest.network.open(host.network.peer_id(), role, SOON).await;
        assert!(matches!(refused, Err(NetError::Unsupported { .. })), "{role}");
    }
    let busy = guest.network.open(host.network.peer_id(), Role::Join, SOON).await;
    assert!(matches!(busy, Err(NetError::Busy { .. })), "one channel at a time");
    // Its frames are bounded, whatever the members' are.
    there.send(&vec![0; Limits::default().guest_frame_bytes_max + 1]).await.unwrap_err();
    let (mut here, mut there) = channel(&friend, &mut host, Role::Query).await;
    here.send(b"as ever").await.unwrap();
    assert_eq!(there.receive(10).await.unwrap(), b"as ever");
    // The host never opens anything towards a guest.
    let towards = host.network.open(guest.network.peer_id(), Role::Join, SOON).await;
    assert!(matches!(towards, Err(NetError::NotAMember { .. })));
    assert!(timeout(Duration::ZERO, friend.incoming.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_stays_is_sent_away() {
    let limits = Limits { guest_within: Duration::from_millis(300), ..Limits::default() };
    let (mut host, _friend, guest) = host_and_guest(limits).await;
    let (_here, mut there) = channel(&guest, &mut host, Role::Join).await;
    // It says nothing and keeps its channel open.
    assert!(matches!(timeout(SOON, there.receive(10)).await.unwrap(), Err(ChannelError::Closed)));
    drop(there);
    // It may come again, as often as the rate allows.
    let (_here, _there) = channel(&guest, &mut host, Role::Join).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_strangers_keeps_no_member_out() {
    let limits = Limits { guests_max: 2, ..Limits::default() };
    let (mut host, friend, guest) = host_and_guest(limits).await;
    let (mut here, mut there) = channel(&friend, &mut host, Role::Query).await;
    let (_first, _its) = channel(&guest, &mut host, Role::Join).await;
    let mut crowd = Vec::new();
    for _ in 0..12 {
        let to_host = vec![member(host.network.peer_id(), &host.network.listening())];
        crowd.push(node(&Identity::generate(), 0, to_host, Limits::default()).await);
    }
    let second = host.network.clone();
    let refused = async {
        while second.refused_connections() < 11 {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    };
    timeout(SOON, refused).await.expect("all but one of them are refused");
    for _ in 0..20 {
        here.send(b"round").await.unwrap();
        assert_eq!(timeout(SOON, there.receive(10)).await.unwrap().unwrap(), b"round");
    }
    assert!(host.network.connected(friend.network.peer_id()).unwrap().is_connected());
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_at_a_members_address_is_named() {
    let (caller, expected, actual) = (Identity::generate(), Identity::generate(), Identity::generate());
    let right = node(&actual, 0, vec![member(caller.peer_id(), &[])], Limits::default()).await;
    let left =
        node(&caller, 0, vec![member(expected.peer_id(), &right.network.listening())], Limits::default())
            .await;
    let error =
        left.network.open(expected.peer_id(), Role::Query, Duration::from_millis(500)).await.unwrap_err();
    let NetError::Deadline { fault: Some(DialFault::WrongIdentity { found }), connected: false, .. } = error
    else {
        panic!("unexpected {error}");
    };
    assert_eq!(found, actual.peer_id().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_found_again_at_its_port() {
    let (first, second) = (Identity::generate(), Identity::generate());
    let mut right = node(&second, 0, vec![member(first.peer_id(), &[])], Limits::default()).await;
    let address = right.network.listening();
    let left = node(&first, 0, vec![member(second.peer_id(), &address)], Limits::default()).await;
    let mut presence = left.network.connected(second.peer_id()).unwrap();
    for round in 0..3_u8 {
        let (mut here, mut there) = channel(&left, &mut right, Role::Pair).await;
        here.send(&[round]).await.unwrap();
        assert_eq!(there.receive(1).await.unwrap(), [round]);
        right.network.shutdown().await;
        drop(right);
        timeout(SOON, presence.wait_lost()).await.unwrap().unwrap();
        assert!(matches!(timeout(SOON, here.receive(1)).await.unwrap(), Err(ChannelError::Closed)));
        right = node(&second, address[0].port(), vec![member(first.peer_id(), &[])], Limits::default()).await;
        timeout(SOON, presence.wait_connected()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_handles_are_dropped_without_shutdown_goes_away() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut here, there) = channel(&left, &mut right, Role::Pair).await;
    let mut presence = left.network.connected(right.network.peer_id()).unwrap();
    drop((right, there));
    timeout(SOON, presence.wait_lost()).await.unwrap().unwrap();
    assert!(matches!(timeout(SOON, here.receive(1)).await.unwrap(), Err(ChannelError::Closed)));
}

/// Carries bytes between `from` and `to` until told to freeze; then holds everything and closes nothing, as a
/// machine does that lost its power. Connections made after
/// a thaw are carried again.
async fn cable(listener: TcpListener, to: SocketAddr, frozen: watch::Receiver<bool>) {
    let mut carried = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let mut frozen = frozen.clone();
        carried.spawn(async move {
            let (mut near, mut far) = (near, TcpStream::connect(to).await.unwrap());
            tokio::select! {
                _ = frozen.wait_for(|frozen| *frozen) => {}
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            }
            std::future::pending::<()>().await;
        });
    }
}

/// Two nodes joined by a [`cable`], with pings short enough to wait for; the sender freezes it.
async fn two_by_cable(tasks: &mut JoinSet<()>) -> (Node, Node, watch::Sender<bool>) {
    let limits = Limits {
        ping_every: Duration::from_millis(200),
        ping_within: Duration::from_millis(800),
        ..Limits::default()
    };
    let (first, second) = (Identity::generate(), Identity::generate());
    let right = node(&second, 0, vec![member(first.peer_id(), &[])], limits.clone()).await;
    let to = right.network.listening()[0].socket().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = Address::from(listener.local_addr().unwrap());
    let (freeze, frozen) = watch::channel(false);
    tasks.spawn(cable(listener, to, frozen));
    let left = node(&first, 0, vec![member(second.peer_id(), &[through])], limits).await;
    (left, right, freeze)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_falls_silent_is_given_up_and_dialled_again() {
    let mut tasks = JoinSet::new();
    let (left, mut right, freeze) = two_by_cable(&mut tasks).await;
    let (mut here, _there) = channel(&left, &mut right, Role::Online).await;
    let mut presence = left.network.connected(right.network.peer_id()).unwrap();
    let waiting = tokio::spawn(async move { here.receive(10).await });
    freeze.send_replace(true);
    timeout(SILENCE_NOTICED, presence.wait_lost()).await.unwrap().unwrap();
    let end = timeout(SILENCE_NOTICED, waiting).await.unwrap().unwrap();
    assert!(matches!(end, Err(ChannelError::Closed)));
    freeze.send_replace(false);
    let (mut here, mut there) = channel(&left, &mut right, Role::Online).await;
    here.send(b"again").await.unwrap();
    assert_eq!(there.receive(10).await.unwrap(), b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_falls_silent_under_a_full_pipe_is_given_up_too() {
    let mut tasks = JoinSet::new();
    let (left, mut right, freeze) = two_by_cable(&mut tasks).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Publish).await;
    let mut presence = left.network.connected(right.network.peer_id()).unwrap();
    let draining = tokio::spawn(async move { while there.receive(64 << 20).await.is_ok() {} });
    let load = vec![3; 16 << 20];
    for _ in 0..2 {
        here.send(&load).await.unwrap();
    }
    freeze.send_replace(true);
    let error = timeout(SILENCE_NOTICED, async {
        loop {
            if let Err(error) = here.send(&load).await {
                break error;
            }
        }
    });
    assert!(matches!(error.await.unwrap(), ChannelError::Closed));
    timeout(SILENCE_NOTICED, presence.wait_lost()).await.unwrap().unwrap();
    timeout(SILENCE_NOTICED, draining).await.unwrap().unwrap();
}

/// Far above the second of silence that [`two_by_cable`] allows, far below any timeout of TCP.
const SILENCE_NOTICED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_frame_is_refused_on_the_wire() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Query).await;
    here.send(&[0; 101]).await.unwrap();
    assert!(matches!(
        there.receive(100).await.unwrap_err(),
        ChannelError::TooLarge { found: 101, limit: 100 }
    ));
    let small = Limits { frame_bytes_max: 64, ..Limits::default() };
    let (left, mut right) = two(small).await;
    let (mut here, _there) = channel(&left, &mut right, Role::Query).await;
    assert!(matches!(here.send(&[0; 65]).await.unwrap_err(), ChannelError::TooLarge { limit: 64, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_channel_reads_as_closed() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut here, mut there) = channel(&left, &mut right, Role::Query).await;
    here.send(b"last").await.unwrap();
    here.close().await.unwrap();
    assert_eq!(there.receive(10).await.unwrap(), b"last");
    assert!(matches!(timeout(SOON, there.receive(10)).await.unwrap(), Err(ChannelError::Closed)));
    let (here, mut there) = channel(&left, &mut right, Role::Query).await;
    drop(here);
    assert!(matches!(timeout(SOON, there.receive(10)).await.unwrap(), Err(ChannelError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_channels_arrives_complete_and_crosses_nothing() {
    let (left, mut right) = two(Limits::default()).await;
    let (peer, count) = (right.network.peer_id(), 60_u64);
    let echo = tokio::spawn(async move {
        let mut echoes = JoinSet::new();
        for _ in 0..count {
            let (_, _, mut channel) = right.incoming.next().await.unwrap();
            echoes.spawn(async move {
                for _ in 0..20 {
                    let frame = channel.receive(8).await.unwrap();
                    channel.send(&frame).await.unwrap();
                }
            });
        }
        echoes.join_all().await;
    });
    let mut openers = JoinSet::new();
    for number in 0..count {
        let network = left.network.clone();
        openers.spawn(async move {
            let mut channel = network.open(peer, Role::Query, SOON).await.unwrap();
            for round in 0..20 {
                let frame = (1000 * number + round).to_le_bytes();
                channel.send(&frame).await.unwrap();
                assert_eq!(channel.receive(8).await.unwrap(), frame);
            }
        });
    }
    timeout(2 * SOON, openers.join_all()).await.unwrap();
    timeout(SOON, echo).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_above_the_peers_places_are_refused_counted_and_freed() {
    let limits = Limits { inbound_channels_per_peer_max: 2, ..Limits::default() };
    let (left, mut right) = two(limits).await;
    let peer = right.network.peer_id();
    let first = channel(&left, &mut right, Role::Query).await;
    let _second = channel(&left, &mut right, Role::Query).await;
    let error = left.network.open(peer, Role::Query, SOON).await.unwrap_err();
    assert!(matches!(error, NetError::Busy { role: Role::Query, .. }), "{error}");
    assert_eq!(right.network.refused_channels(left.network.peer_id()), 1);
    drop(first);
    channel(&left, &mut right, Role::Query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_takes_channels_stops_nothing_else() {
    let limits = Limits { incoming_queue_channels: 1, ..Limits::default() };
    let (left, mut right) = two(limits).await;
    let peer = right.network.peer_id();
    let (mut here, mut there) = channel(&left, &mut right, Role::Online).await;
    let _queued = left.network.open(peer, Role::Query, SOON).await.unwrap();
    assert!(matches!(left.network.open(peer, Role::Query, SOON).await, Err(NetError::Busy { .. })));
    here.send(b"round").await.unwrap();
    assert_eq!(there.receive(10).await.unwrap(), b"round");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_places_make_openings_wait() {
    let limits = Limits { outbound_channels_per_peer_max: 1, ..Limits::default() };
    let (left, mut right) = two(limits).await;
    let peer = right.network.peer_id();
    let held = channel(&left, &mut right, Role::Online).await;
    let short = Duration::from_millis(50);
    assert!(matches!(
        left.network.open(peer, Role::Online, short).await,
        Err(NetError::Deadline { connected: true, .. })
    ));
    drop(held);
    channel(&left, &mut right, Role::Online).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_to_an_absent_peer_fails_within_the_deadline() {
    let (key, absent, silent) = (Identity::generate(), Identity::generate(), Identity::generate());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // This one takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let members = vec![
        member(absent.peer_id(), &[loopback(port)]),
        member(silent.peer_id(), &[mute.local_addr().unwrap().into()]),
    ];
    let left = node(&key, 0, members, Limits::default()).await;
    for (peer, unreachable) in [(absent.peer_id(), true), (silent.peer_id(), false)] {
        let began = Instant::now();
        let error = left.network.open(peer, Role::Online, Duration::from_millis(400)).await.unwrap_err();
        let NetError::Deadline { connected: false, fault, .. } = error else { panic!("unexpected {error}") };
        assert_eq!(fault, unreachable.then_some(DialFault::Unreachable));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_joins_frees_the_port_and_ends_everything() {
    let (left, mut right) = two(Limits::default()).await;
    let (mut reading, _still) = channel(&left, &mut right, Role::Online).await;
    let reading = tokio::spawn(async move { reading.receive(10).await });
    let (mut writing, _unread) = channel(&left, &mut right, Role::Online).await;
    let writing = tokio::spawn(async move { writing.send(&vec![0; 32 << 20]).await });
    let (mut here, _there) = channel(&left, &mut right, Role::Online).await;
    let port = left.network.listening()[0].port();
    let mut presence = right.network.connected(left.network.peer_id()).unwrap();
    let other = left.network.clone();
    timeout(SOON, async { tokio::join!(left.network.shutdown(), other.shutdown()) }).await.unwrap();
    TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut incoming = left.incoming;
    assert!(timeout(SOON, incoming.next()).await.unwrap().is_none());
    assert!(timeout(SOON, here.receive(10)).await.unwrap().is_err());
    assert!(matches!(timeout(SOON, reading).await.unwrap().unwrap(), Err(ChannelError::Closed)));
    assert!(matches!(timeout(SOON, writing).await.unwrap().unwrap(), Err(ChannelError::Closed)));
    timeout(SOON, presence.wait_lost()).await.unwrap().unwrap();
    assert!(matches!(other.open(right.network.peer_id(), Role::Online, SOON).await, Err(NetError::Stopped)));
    assert!(!other.peers()[0].connected);
}

#[tokio::test]
async fn contradicting_settings_are_refused() {
    let key = Identity::generate();
    let peer = Identity::generate().peer_id();
    let settings = |listen: &[Address], members: Vec<Member>, limits: Limits| Settings {
        identity: key.clone(),
        listen: listen.to_vec(),
        members,
        reach: Reach::default(),
        limits,
    };
    let twice = vec![member(peer, &[]), member(peer, &[])];
    assert!(matches!(
        Network::start(settings(&[], twice, Limits::default())),
        Err(NetError::DuplicateMember { .. })
    ));
    let few = Limits { members_max: 1, ..Limits::default() };
    let both = vec![member(peer, &[]), member(key.peer_id(), &[])];
    assert!(matches!(
        Network::start(settings(&[], both.clone(), few)),
        Err(NetError::TooManyMembers { found: 2, limit: 1 })
    ));
    let name = ["localhost:0".parse().unwrap()];
    assert!(matches!(
        Network::start(settings(&name, Vec::new(), Limits::default())),
        Err(NetError::ListenName { .. })
    ));
    let (network, _incoming) = Network::start(settings(&[], both, Limits::default())).unwrap();
    assert_eq!(network.peers().len(), 1, "our own entry is skipped");
    assert!(matches!(network.connected(key.peer_id()), Err(NetError::NotAMember { .. })));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = [Address::from(listener.local_addr().unwrap())];
    let result = Network::start(settings(&busy, Vec::new(), Limits::default()));
    let Err(NetError::Listen { address, source }) = result else { panic!("listened on a taken port") };
    assert_eq!(address, busy[0]);
    assert!(source.to_string().contains("in use"), "{source}");
}

#[test]
fn starting_outside_a_runtime_is_an_error_and_no_panic() {
    let identity = Identity::generate();
    let (listen, members, reach, limits) = Default::default();
    let settings = Settings { identity, listen, members, reach, limits };
    assert!(matches!(Network::start(settings), Err(NetError::NoRuntime)));
}

/// Middle and best tenth of `rounds` round trips, in microseconds.
async fn ping_pong(channel: &mut Channel, size: usize, rounds: usize) -> (f64, f64) {
    let frame = vec![7; size];
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = std::time::Instant::now();
        channel.send(&frame).await.unwrap();
        channel.receive(size).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    (times[rounds / 2], times[rounds / 10])
}

async fn echo(mut channel: Channel) {
    while let Ok(frame) = channel.receive(1 << 20).await {
        if channel.send(&frame).await.is_err() {
            break;
        }
    }
}

/// Runs the far side of a measurement in a runtime of its own, as another process would.
fn far_side<F>(work: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(std::thread::spawn(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { tokio::spawn(work).await.unwrap() });
    }));
}

/// `cargo test --release -p consilium -- --ignored --nocapture round_trip`
#[test]
#[ignore = "a measurement for people"]
fn round_trip_times() {
    let near = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sizes = [64, 4 << 10, 64 << 10];
    let mut report = String::new();
    let mut note = |kind: &str, size: usize, (middle, best): (f64, f64)| {
        report += &format!("{kind:24} {size:6} B  p50 {middle:7.1} us  p10 {best:7.1} us\n");
    };
    for size in sizes {
        note("bare TCP", size, near.block_on(bare_times(size)));
    }
    for size in sizes {
        note("Channel over TCP", size, near.block_on(channel_times(size)));
    }
    let (first, second) = (Identity::generate(), Identity::generate());
    let (caller, host) = (first.peer_id(), second.peer_id());
    let (tell, told) = std::sync::mpsc::channel();
    far_side(async move {
        let mut right = node(&second, 0, vec![member(caller, &[])], Limits::default()).await;
        tell.send(right.network.listening()).unwrap();
        while let Some((_, _, channel)) = right.incoming.next().await {
            tokio::spawn(echo(channel));
        }
    });
    let address = told.recv().unwrap();
    near.block_on(async {
        let left = node(&first, 0, vec![member(host, &address)], Limits::default()).await;
        for size in sizes {
            let mut channel = left.network.open(host, Role::Online, SOON).await.unwrap();
            let times =
                tokio::spawn(async move { ping_pong(&mut channel, size, ROUNDS).await }).await.unwrap();
            note("Channel over Network", size, times);
        }
        let apart =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        for size in sizes {
            let network = left.network.clone();
            let times = apart.spawn(async move {
                let mut channel = network.open(host, Role::Online, SOON).await.unwrap();
                ping_pong(&mut channel, size, ROUNDS).await
            });
            note("the same, other runtime", size, times.await.unwrap());
        }
        apart.shutdown_background();
        let began = std::time::Instant::now();
        for _ in 0..200 {
            drop(left.network.open(host, Role::Online, SOON).await.unwrap());
        }
        note("opening (mean)", 0, (began.elapsed().as_secs_f64() * 5e3, f64::NAN));
    });
    show(&report);
}

const ROUNDS: usize = 5_000;

async fn bare_times(size: usize) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let far = far.into_std().unwrap();
    far_side(async move {
        let mut far = TcpStream::from_std(far).unwrap();
        let mut frame = vec![0; size];
        while far.read_exact(&mut frame).await.is_ok() && far.write_all(&frame).await.is_ok() {}
    });
    tokio::spawn(bare_ping_pong(stream, size)).await.unwrap()
}

async fn channel_times(size: usize) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let far = listener.accept().await.unwrap().0.into_std().unwrap();
    far_side(async move { echo(Channel::over(TcpStream::from_std(far).unwrap()).unwrap()).await });
    let mut channel = Channel::over(stream).unwrap();
    tokio::spawn(async move { ping_pong(&mut channel, size, ROUNDS).await }).await.unwrap()
}

async fn bare_ping_pong(mut stream: TcpStream, size: usize) -> (f64, f64) {
    let mut frame = vec![7; size];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = std::time::Instant::now();
        stream.write_all(&frame).await.unwrap();
        stream.read_exact(&mut frame).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], times[ROUNDS / 10])
}

#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
fn show(report: &str) {
    println!("{report}");
}
