//! A TCP relay that delays and throttles: a wide-area link on one machine, without any right to shape the
//! kernel's own.
//!
//! Both directions carry at most the stated rate, shared by all connections, and deliver each byte the stated
//! delay after it has passed. A connection costs four threads, since timers of a runtime are too coarse.

mod placing;

pub use placing::{PlacingError, place_before};

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes taken off a sender at once.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces under way in one direction of a connection; a sender that is further ahead has to wait.
const PIECES_MAX: usize = 4096;

/// What the link does to whatever passes it, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// From one end to the other; half of what it adds to a round trip.
    pub delay: Duration,
    /// Bits a second; `None` for as fast as the machine is.
    pub bits_per_second: Option<u64>,
}

/// A running relay. Dropping it refuses further connections; those that stand go on.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl Link {
    /// Listens at `listen` and carries every connection to `to`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(listen: SocketAddr, to: SocketAddr, line: Line) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let link = Self { address: listener.local_addr()?, closed: Arc::default() };
        let closed = link.closed.clone();
        thread::Builder::new().name("link".to_owned()).spawn(move || {
            let (there, back) = (Gate::new(line), Gate::new(line));
            for near in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let carried = near.and_then(|near| carry(near, to, &there, &back));
                // A peer that is down is the peer's affair: the near end sees its connection close.
                drop(carried);
            }
        })?;
        Ok(link)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        // Wakes the listener up.
        let _ = TcpStream::connect(address);
    }
}

/// One direction of the link, shared by its connections.
#[derive(Clone, Debug)]
struct Gate {
    line: Line,
    free: Arc<Mutex<Instant>>,
}

impl Gate {
    fn new(line: Line) -> Self {
        Self { line, free: Arc::new(Mutex::new(Instant::now())) }
    }

    /// When bytes that arrive now come out at the far end.
    fn pass(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now().max(*free);
        let on_the_wire = self
            .line
            .bits_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 * 8.0 / rate.max(1) as f64));
        *free = start + on_the_wire;
        *free + self.line.delay
    }
}

type Piece = (Instant, Vec<u8>);

fn carry(near: TcpStream, to: SocketAddr, there: &Gate, back: &Gate) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    pump(near.try_clone()?, far.try_clone()?, there.clone())?;
    pump(far, near, back.clone())
}

/// Moves bytes one way until either end closes.
fn pump(from: TcpStream, to: TcpStream, gate: Gate) -> io::Result<()> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::Builder::new().name("link in".to_owned()).spawn(move || take(from, &gate, &sender))?;
    thread::Builder::new().name("link out".to_owned()).spawn(move || give(to, &receiver))?;
    Ok(())
}

fn take(mut from: TcpStream, gate: &Gate, sender: &SyncSender<Piece>) {
    let mut room = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut room) {
        if sender.send((gate.pass(count), room[..count].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn give(mut to: TcpStream, receiver: &Receiver<Piece>) {
    for (due, piece) in receiver {
        // This wait is the delay itself.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    /// A busy machine may be late, never early.
    const LATE: u32 = 3;

    /// A link to a server that sends everything back.
    fn to_echo(line: Line) -> (Link, TcpStream) {
        let server = TcpListener::bind(LOCAL).unwrap();
        let address = server.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let link = Link::start(LOCAL, address, line).unwrap();
        let stream = TcpStream::connect(link.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        (link, stream)
    }

    fn round_trip(stream: &mut TcpStream) -> Duration {
        let started = Instant::now();
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        started.elapsed()
    }

    #[test]
    fn a_round_trip_takes_twice_the_delay() {
        let delay = Duration::from_millis(20);
        let (_link, mut stream) = to_echo(Line { delay, bits_per_second: None });
        let trips: Vec<Duration> = (0..8).map(|_| round_trip(&mut stream)).collect();
        assert!(trips.iter().all(|trip| *trip >= 2 * delay), "{trips:?}");
        assert!(trips.iter().any(|trip| *trip < 2 * delay * LATE), "{trips:?}");
        let (_link, mut stream) = to_echo(Line { delay: Duration::ZERO, bits_per_second: None });
        assert!((0..8).any(|_| round_trip(&mut stream) < delay));
    }

    #[test]
    fn the_rate_is_shared_and_nothing_is_lost_or_reordered() {
        let line = Line { delay: Duration::from_millis(5), bits_per_second: Some(80_000_000) };
        let (_link, mut stream) = to_echo(line);
        let sent: Vec<u8> = (0..2u32 << 18).flat_map(u32::to_le_bytes).collect();
        let started = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let taken = started.elapsed();
        assert!(received == sent);
        let least = Duration::from_secs_f64(sent.len() as f64 * 8.0 / 80e6);
        assert!(taken >= least && taken < least * 2 * LATE, "{taken:?} for {least:?}");
    }

    #[test]
    fn a_link_that_is_gone_takes_no_more_connections() {
        let (link, mut stream) = to_echo(Line { delay: Duration::ZERO, bits_per_second: None });
        let address = link.address();
        round_trip(&mut stream);
        drop(link);
        round_trip(&mut stream);
        let started = Instant::now();
        while TcpStream::connect(address).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }
}
