//! The module's connections: threads that move frames between streams and the [`Engine`], and nothing else.
//!
//! One thread accepts, and each connection has one that reads and one that writes, so that a peer that does
//! not read holds up nobody. All decisions are made by the engine, one frame after the other, and each
//! connection in its turn: it holds one frame at a time. Whoever is slow or silent for too long loses its
//! place.

mod patience;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::attester::Attester;
use super::engine::{Engine, Output};
use super::frame::{FrameError, read_frame, write_frame};
use super::session::FRAMES_TO_NAME;
use patience::{Patient, Span};

/// Most connections at a time: both parties, and room for each to come back before its old one is noticed.
pub const CONNECTIONS_MAX: usize = 8;
/// Answers that wait for a peer to read.
const ANSWERS_AHEAD: usize = 4;

/// How long a peer may take. The limits are spans of time; nobody asks what time it is.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// From the connection to the end of the frame that names the party.
    name: Duration,
    /// From the first byte of a frame to its last, in either direction.
    frame: Duration,
    /// Between two frames of a named party.
    silence: Duration,
}

const LIMITS: Limits = Limits {
    name: Duration::from_secs(30),
    frame: Duration::from_secs(30),
    // A party asks for evidence, or for a batch, more often than this; or it comes back on another connection.
    silence: Duration::from_secs(2 * 3600),
};

/// A stream whose two directions can be used by two threads.
pub trait Stream: Read + Write + Send + Sized + 'static {
    /// A second handle on the same stream.
    ///
    /// # Errors
    /// The system's.
    fn another(&self) -> io::Result<Self>;

    /// Ends each single read after `time`.
    ///
    /// # Errors
    /// The system's.
    fn read_within(&self, time: Duration) -> io::Result<()>;

    /// Ends each single write after `time`.
    ///
    /// # Errors
    /// The system's.
    fn write_within(&self, time: Duration) -> io::Result<()>;

    /// Ends both directions for every handle.
    fn end(&self);
}

impl Stream for UnixStream {
    fn another(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn read_within(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn write_within(&self, time: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        // A stream that is gone already needs no end.
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(feature = "vsock")]
impl Stream for vsock::VsockStream {
    fn another(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn read_within(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn write_within(&self, time: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

/// What whoever runs the module may want to know. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A connection was closed.
    Closed {
        /// Its number.
        connection: u64,
        /// Why.
        reason: String,
    },
    /// A connection was turned away.
    Full,
    /// The platform gave no evidence.
    Unattested {
        /// Number of the connection that asked.
        connection: u64,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { connection, reason } => write!(f, "connection {connection} closed: {reason}"),
            Self::Full => write!(f, "a connection was turned away: there are {CONNECTIONS_MAX} already"),
            Self::Unattested { connection, reason } => {
                write!(f, "no evidence for connection {connection}: {reason}")
            }
        }
    }
}

enum Arrival {
    Opened(u64, SyncSender<Vec<u8>>),
    Frame(u64, Vec<u8>),
    Gone(u64, FrameError),
    Full,
    Ended(io::Error),
}

/// Serves connections until no more can be accepted; the reason.
///
/// # Errors
/// The thread that accepts could not be started.
pub fn serve<A: Attester, S: Stream>(
    engine: Engine<A>,
    accept: impl FnMut() -> io::Result<S> + Send + 'static,
    report: impl FnMut(&Report),
) -> io::Result<io::Error> {
    serve_within(LIMITS, engine, accept, report)
}

fn serve_within<A: Attester, S: Stream>(
    limits: Limits,
    mut engine: Engine<A>,
    mut accept: impl FnMut() -> io::Result<S> + Send + 'static,
    mut report: impl FnMut(&Report),
) -> io::Result<io::Error> {
    // Nothing is stored in between, so who sends much waits as long as who sends little.
    let (sender, arrivals) = sync_channel(0);
    thread::Builder::new().spawn(move || {
        let live = Arc::new(AtomicUsize::new(0));
        for connection in 0.. {
            let arrival = match accept() {
                Ok(stream) => match Lease::take(&live) {
                    Some(lease) => connect(connection, &stream, limits, lease, &sender).err().map(|error| {
                        stream.end();
                        Arrival::Gone(connection, FrameError::Io(error))
                    }),
                    None => {
                        stream.end();
                        Some(Arrival::Full)
                    }
                },
                // One peer that gave up before it was accepted.
                Err(error) if gave_up(&error) => None,
                Err(error) => Some(Arrival::Ended(error)),
            };
            let last = matches!(arrival, Some(Arrival::Ended(_)));
            let sent = arrival.is_none_or(|arrival| sender.send(arrival).is_ok());
            if last || !sent {
                return;
            }
        }
    })?;
    Ok(run(&mut engine, &arrivals, &mut report))
}

fn gave_up(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// The engine's side: one arrival after the other.
fn run<A: Attester>(
    engine: &mut Engine<A>,
    arrivals: &Receiver<Arrival>,
    report: &mut impl FnMut(&Report),
) -> io::Error {
    let mut writers: HashMap<u64, SyncSender<Vec<u8>>> = HashMap::new();
    let mut told_full = false;
    for arrival in arrivals {
        let outputs = match arrival {
            Arrival::Opened(connection, writer) => {
                writers.insert(connection, writer);
                let opened = engine.open(connection);
                opened.err().map(|error| Output::Close { connection, error }).into_iter().collect()
            }
            Arrival::Frame(connection, frame) => engine.receive(connection, &frame),
            Arrival::Gone(connection, error) => {
                told_full = false;
                engine.close(connection);
                if writers.remove(&connection).is_some() {
                    report(&Report::Closed { connection, reason: error.to_string() });
                }
                Vec::new()
            }
            Arrival::Full => {
                // Once until somebody leaves: who knocks for ever shall not fill anybody's log.
                if !std::mem::replace(&mut told_full, true) {
                    report(&Report::Full);
                }
                Vec::new()
            }
            Arrival::Ended(error) => return error,
        };
        for output in outputs {
            deliver(engine, &mut writers, output, report);
        }
    }
    io::Error::other("nothing can arrive any more")
}

fn deliver<A: Attester>(
    engine: &mut Engine<A>,
    writers: &mut HashMap<u64, SyncSender<Vec<u8>>>,
    output: Output,
    report: &mut impl FnMut(&Report),
) {
    let (connection, reason) = match output {
        Output::Send { connection, frame } => {
            let sent = writers.get(&connection).is_some_and(|writer| writer.try_send(frame).is_ok());
            if sent {
                return;
            }
            (connection, "its peer does not read".to_owned())
        }
        Output::Close { connection, error } => (connection, error.to_string()),
        Output::Unattested { connection, reason } => {
            report(&Report::Unattested { connection, reason });
            return;
        }
    };
    engine.close(connection);
    // Without its sender the writing thread ends the stream, and with it the reading thread: at once, or when the
    // peer had its time to read the frame that is being written.
    if writers.remove(&connection).is_some() {
        report(&Report::Closed { connection, reason });
    }
}

/// Starts both threads of a connection.
fn connect<S: Stream>(
    connection: u64,
    stream: &S,
    limits: Limits,
    lease: Lease,
    sender: &SyncSender<Arrival>,
) -> io::Result<()> {
    let (mut reader, mut writer) = (stream.another()?, stream.another()?);
    let name_by = Instant::now() + limits.name;
    let (answers, waiting) = sync_channel::<Vec<u8>>(ANSWERS_AHEAD);
    thread::Builder::new().spawn(move || {
        for frame in waiting {
            let span = Span::Until(Instant::now() + limits.frame);
            if write_frame(&mut Patient::new(&mut writer, span), &frame).is_err() {
                break;
            }
        }
        writer.end();
    })?;
    let sender = sender.clone();
    thread::Builder::new().spawn(move || {
        let _lease = lease;
        let mut sent = sender.send(Arrival::Opened(connection, answers)).is_ok();
        for number in 0_u64.. {
            if !sent {
                break;
            }
            let span = match number {
                0..FRAMES_TO_NAME => Span::Until(name_by),
                _ => Span::FromFirst { silence: Instant::now() + limits.silence, frame: limits.frame },
            };
            sent = match read_frame(&mut Patient::new(&mut reader, span)) {
                Ok(frame) => sender.send(Arrival::Frame(connection, frame)).is_ok(),
                Err(error) => {
                    let _ = sender.send(Arrival::Gone(connection, error));
                    false
                }
            };
        }
        reader.end();
    })?;
    Ok(())
}

/// One of the places for connections, given back when dropped.
struct Lease(Arc<AtomicUsize>);

impl Lease {
    fn take(live: &Arc<AtomicUsize>) -> Option<Self> {
        let free = |count| (count < CONNECTIONS_MAX).then_some(count + 1);
        live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Self(Arc::clone(live)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
