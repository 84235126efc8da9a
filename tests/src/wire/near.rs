//! The near side: asks for exchanges and takes the time.

use super::{BULK_FRAME_BYTES, Command, Distance, ECHO_BYTES_MAX, Far, Load, Row, median};
use crate::link::Link;
use consilium::net::{Channel, Identity, Limits, Member, Network, Reach, Role, Settings};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// How much is measured: turns of each kind, exchanges in a turn, bytes of a bulk.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Turns of each kind.
    pub turns: usize,
    /// Round trips in a turn.
    pub trips: u64,
    /// Bytes of a turn's bulk.
    pub bulk: u64,
}

impl Pace {
    /// What takes some seconds at this distance.
    pub fn usual(distance: Distance, load: Load) -> Self {
        match (distance, load) {
            (Distance::Loopback, Load::RoundTrip(bytes)) => {
                Self { turns: 20, trips: if bytes > 4096 { 200 } else { 1000 }, bulk: 0 }
            }
            (Distance::Loopback, Load::Bulk) => Self { turns: 12, trips: 0, bulk: 64 << 20 },
            (_, Load::RoundTrip(_)) => Self { turns: 5, trips: 20, bulk: 0 },
            (_, Load::Bulk) => Self { turns: 5, trips: 0, bulk: 24 << 20 },
        }
    }
}

/// One connection of either kind.
enum Way {
    Bare(TcpStream),
    Framed(Channel),
}

/// Compares both ways to the far side for some loads, in turns; each row is told as it comes.
///
/// # Errors
/// A connection failed.
pub async fn measure(
    far: Far,
    identity: Identity,
    distance: Distance,
    loads: &[Load],
    tell: Sender<Row>,
) -> Result<(), Failure> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // One kind rests while the other is measured, so that each has the whole rate to itself.
    let links = match distance.line() {
        Some(line) => Some([Link::start(any, far.bare, line)?, Link::start(any, far.network, line)?]),
        None => None,
    };
    let places = match &links {
        Some([bare, network]) => [bare.address(), network.address()],
        None => [far.bare, far.network],
    };
    let stream = TcpStream::connect(places[0]).await?;
    stream.set_nodelay(true)?;
    let peer = far.peer.parse()?;
    let members = vec![Member { peer, addresses: vec![places[1].into()] }];
    let settings = Settings {
        identity,
        listen: Vec::new(),
        members,
        reach: Reach::default(),
        limits: Limits::default(),
    };
    let (network, _incoming) = Network::start(settings)?;
    let channel = network.open(peer, Role::Online, CONNECT_WITHIN).await?;
    let mut ways = [Way::Bare(stream), Way::Framed(channel)];
    for &load in loads {
        let pace = Pace::usual(distance, load);
        // Windows, caches and the links' threads are as they will be.
        for way in &mut ways {
            way.turn(load, pace).await?;
        }
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..pace.turns {
            for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                times[at].extend(ways[at].turn(load, pace).await?);
            }
        }
        tell.send(Row::new(distance, load, pace.turns, times.map(median))).await?;
    }
    network.shutdown().await;
    Ok(())
}

impl Way {
    /// Seconds of each round trip of a turn, or of one MiB of its bulk.
    async fn turn(&mut self, load: Load, pace: Pace) -> Result<Vec<f64>, Failure> {
        match load {
            Load::RoundTrip(bytes) => self.trips(bytes, pace.trips).await,
            Load::Bulk => Ok(vec![self.bulk(pace.bulk).await?]),
        }
    }

    async fn trips(&mut self, bytes: usize, count: u64) -> Result<Vec<f64>, Failure> {
        self.command(Command { is_bulk: false, bytes: bytes as u64, count }).await?;
        let (message, mut room, mut times) = (vec![7; bytes], vec![0; bytes], Vec::new());
        for _ in 0..count {
            let started = Instant::now();
            match self {
                Self::Bare(stream) => {
                    stream.write_all(&message).await?;
                    stream.read_exact(&mut room).await?;
                }
                Self::Framed(channel) => {
                    channel.send(&message).await?;
                    channel.receive(ECHO_BYTES_MAX).await?;
                }
            }
            times.push(started.elapsed().as_secs_f64());
        }
        Ok(times)
    }

    async fn bulk(&mut self, bytes: u64) -> Result<f64, Failure> {
        self.command(Command { is_bulk: true, bytes, count: 0 }).await?;
        let (message, frames) = (vec![7; BULK_FRAME_BYTES], bytes / BULK_FRAME_BYTES as u64);
        let started = Instant::now();
        for _ in 0..frames {
            match self {
                Self::Bare(stream) => stream.write_all(&message).await?,
                Self::Framed(channel) => channel.send(&message).await?,
            }
        }
        self.ready().await?;
        Ok(started.elapsed().as_secs_f64() / frames as f64)
    }

    async fn command(&mut self, command: Command) -> Result<(), Failure> {
        match self {
            Self::Bare(stream) => stream.write_all(&command.to_bytes()).await?,
            Self::Framed(channel) => channel.send(&command.to_bytes()).await?,
        }
        self.ready().await
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        match self {
            Self::Bare(stream) => stream.read_exact(&mut [0]).await.map(drop)?,
            Self::Framed(channel) => channel.receive(1).await.map(drop)?,
        }
        Ok(())
    }
}
