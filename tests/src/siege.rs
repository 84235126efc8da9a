//! Attacks on a node by those who can reach its ports, and by a member that keeps no rules.
//!
//! All go through real sockets. What needs a key uses the product's own network: an unknown one, or a member's.

mod table;

pub use table::{Plan, Row, Siege, hasten, siege};

use consilium::admin::{AdminError, AdminReply, AdminRequest, call};
use consilium::message::{Obstacle, PublishReply, PublishRequest};
use consilium::net::{Channel, Identity, Limits, Member, NetError, Network, PeerId, Reach, Role, Settings};
use consilium_protocol::graph::Network as Architecture;
use std::collections::VecDeque;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Where strangers come from, so that they share no address with members.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Connections of a flood that are held at the same time.
const HELD: usize = 512;
/// Handshakes that are stretched out at the same time: several times what a node keeps.
const STRETCHED: usize = 256;
/// Strangers with keys at the same time.
const STRANGERS: usize = 12;
/// Streams of one member: more than it may have.
const STREAMS: usize = 80;
/// Between two bytes of somebody who is slow on purpose.
const DRIP: Duration = Duration::from_millis(500);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// What a handshake begins with.
const GREETING: &[u8] = b"\x13/multistream/1.0.0\n";
/// What a slow visitor of the HTTP interface says for ever.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ";

/// One way to harm a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Peers with keys that stand in no roster connect again and again
    Strangers,
    /// A member whose roster has other terms asks again and again
    Stale,
    /// A thousand connections a second that say nothing
    Flood,
    /// Hundreds of handshakes with a byte now and then
    Handshakes,
    /// A member opens all the streams it may, and sends a byte of a request now and then
    Streams,
    /// A member announces frames of four gibibytes
    Frames,
    /// Hundreds of requests to the HTTP interface with a byte now and then
    Http,
}

impl Attack {
    /// All of them. Those that use up the patience for the members' own address come last.
    pub const ALL: [Self; 7] = [
        Self::Flood,
        Self::Handshakes,
        Self::Http,
        Self::Stale,
        Self::Frames,
        Self::Streams,
        Self::Strangers,
    ];

    /// What the attacked node writes about it, once an interval; nothing where anybody may do as much.
    pub fn line(self) -> Option<&'static str> {
        match self {
            Self::Strangers | Self::Flood | Self::Handshakes => Some("refused a connection: "),
            Self::Stale => Some("refused an owner: "),
            Self::Streams => Some("began and did not end"),
            Self::Frames => Some("a frame of 4294967295 bytes is longer than"),
            Self::Http => None,
        }
    }

    /// Lines of that kind that one interval may have: connections come to nothing in several ways.
    pub fn lines_max(self) -> usize {
        match self {
            Self::Strangers | Self::Flood | Self::Handshakes => 4,
            _ => 1,
        }
    }
}

/// A node, and what somebody knows of it who attacks it.
#[derive(Clone)]
pub struct Target {
    /// Its name in every handshake.
    pub peer: PeerId,
    /// Where it takes connections.
    pub address: SocketAddr,
    /// Its HTTP interface, or that of a neighbour on the same machine.
    pub http: SocketAddr,
    /// A network with a member's key.
    pub member: Network,
    /// A task in which that member is an owner.
    pub task: String,
    /// The public part of its model.
    pub architecture: Architecture,
}

/// How much an attack has done so far; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Done {
    tried: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

impl Done {
    /// Connections, streams or requests that were begun.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Those that the node refused or ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn try_one(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    fn end_one(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Attacks until dropped.
pub async fn attack(kind: Attack, target: Target, done: Done) {
    match kind {
        Attack::Strangers => strangers(&target, &done).await,
        Attack::Stale => stale(&target, &done).await,
        Attack::Flood => flood(&target, &done).await,
        Attack::Handshakes => many(STRETCHED, || drip(target.address, GREETING, done.clone())).await,
        Attack::Streams => many(STREAMS, || dripping_stream(target.clone(), done.clone())).await,
        Attack::Frames => frames(&target, &done).await,
        Attack::Http => many(STRETCHED, || drip(target.http, HEAD, done.clone())).await,
    }
}

/// A network with a key, that dials one node.
///
/// # Errors
/// It does not start.
pub fn dialling(identity: Identity, peer: PeerId, address: SocketAddr) -> Result<Network, Box<NetError>> {
    let members = vec![Member { peer, addresses: vec![address.into()] }];
    let settings = Settings {
        identity,
        listen: Vec::new(),
        members,
        reach: Reach::default(),
        limits: Limits::default(),
    };
    Network::start(settings).map(|(network, _)| network).map_err(Box::new)
}

async fn many<F: Future<Output = ()> + Send + 'static>(count: usize, make: impl Fn() -> F) {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        tasks.spawn(make());
    }
    while tasks.join_next().await.is_some() {}
    pending().await
}

async fn strangers(target: &Target, done: &Done) {
    let (mut known, mut pace) = (VecDeque::new(), every(Duration::from_millis(50)));
    loop {
        pace.tick().await;
        let Ok(network) = dialling(Identity::generate(), target.peer, target.address) else { continue };
        done.try_one();
        known.push_back(network);
        // Until then it dials on by itself.
        if known.len() > STRANGERS && known.pop_front().is_some() {
            done.end_one();
        }
    }
}

async fn stale(target: &Target, done: &Done) {
    let request = PublishRequest::Announce {
        task: target.task.clone(),
        task_digest: [7; 32],
        networks: vec![target.architecture.clone().into()],
    };
    let mut pace = every(Duration::from_millis(10));
    loop {
        let Ok(mut channel) = target.member.open(target.peer, Role::Publish, OPEN_WITHIN).await else {
            continue;
        };
        loop {
            pace.tick().await;
            done.try_one();
            if channel.send_value(&request).await.is_err() {
                break;
            }
            match channel.receive_value::<PublishReply>(1 << 20).await {
                Ok(PublishReply::Refused(refusal)) if refusal.obstacle == Obstacle::Task => done.end_one(),
                // Served: then the count of those that ended shows it.
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

async fn flood(target: &Target, done: &Done) {
    let (mut held, mut pace) = (VecDeque::new(), every(Duration::from_millis(1)));
    loop {
        pace.tick().await;
        done.try_one();
        match from_elsewhere(target.address).await {
            Ok(stream) => held.push_back(stream),
            Err(_) => done.end_one(),
        }
        if held.len() > HELD
            && let Some(stream) = held.pop_front()
        {
            // One that was closed has an end to read, one that is still open has nothing.
            let is_open = matches!(stream.try_read(&mut [0; 64]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            if !is_open {
                done.end_one();
            }
        }
    }
}

/// Says something slowly, again and again.
async fn drip(to: SocketAddr, words: &[u8], done: Done) {
    let mut pace = every(DRIP);
    loop {
        pace.tick().await;
        let Ok(stream) = from_elsewhere(to).await else { continue };
        done.try_one();
        let (mut reader, mut writer) = stream.into_split();
        let saying = async {
            for byte in words.iter().chain(std::iter::repeat(&b'x')) {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                pace.tick().await;
            }
        };
        let hearing = async {
            let mut room = [0; 256];
            while matches!(reader.read(&mut room).await, Ok(1..)) {}
        };
        tokio::select! { () = saying => {}, () = hearing => {} }
        done.end_one();
    }
}

async fn from_elsewhere(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ELSEWHERE, 0).into())?;
    socket.connect(to).await
}

/// A request on a member's channel that never ends.
async fn dripping_stream(target: Target, done: Done) {
    let mut pace = every(DRIP);
    loop {
        pace.tick().await;
        done.try_one();
        let Ok(channel) = target.member.open(target.peer, Role::Query, OPEN_WITHIN).await else {
            done.end_one();
            continue;
        };
        let (mut sender, mut receiver) = channel.split();
        let saying = async {
            for byte in 1000u32.to_le_bytes().into_iter().chain(std::iter::repeat_n(0xa4, 900)) {
                if sender.write_raw(&[byte]).await.is_err() {
                    break;
                }
                pace.tick().await;
            }
        };
        tokio::select! { () = saying => {}, _ = receiver.receive(64) => {} }
        done.end_one();
    }
}

async fn frames(target: &Target, done: &Done) {
    let mut pace = every(Duration::from_millis(10));
    loop {
        pace.tick().await;
        let Ok(channel) = target.member.open(target.peer, Role::Query, OPEN_WITHIN).await else { continue };
        done.try_one();
        if announced(channel).await {
            done.end_one();
        }
    }
}

/// Whether a channel ends when a frame of four gibibytes is announced on it.
async fn announced(channel: Channel) -> bool {
    let (mut sender, mut receiver) = channel.split();
    let said = sender.write_raw(&[&u32::MAX.to_le_bytes()[..], &[1; 4096]].concat()).await;
    let heard = tokio::time::timeout(OPEN_WITHIN, receiver.receive(64)).await;
    said.is_err() || matches!(heard, Ok(Err(_)))
}

fn every(time: Duration) -> tokio::time::Interval {
    let mut pace = interval(time);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Asks one row at the node behind a socket, and says how long that took in milliseconds, and the label.
///
/// # Errors
/// The node is gone, or refused: the text says why.
pub async fn ask(socket: &std::path::Path, task: &str, row: Vec<f64>) -> Result<(f64, Option<u32>), String> {
    let request = AdminRequest::Ask { task: task.to_owned(), rows: vec![row], release: None };
    let asked = std::time::Instant::now();
    match call(socket, &request).await.map_err(|error: AdminError| error.to_string())? {
        AdminReply::Answer(answer) => {
            Ok((asked.elapsed().as_secs_f64() * 1e3, answer.labels.first().copied().flatten()))
        }
        other => Err(format!("{other:?}")),
    }
}
