//! A Unix socket behind which a port of the guest stands.
//!
//! Behind its own socket the device wants to be told the port first; clients of the module do not know that.

use super::Fault;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Longest answer to the name of a port.
const ANSWER_BYTES_MAX: usize = 32;

/// The open door; it closes when dropped.
pub(super) struct Door {
    path: PathBuf,
    closing: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens on `path` and connects each visitor to `port` behind the socket `guest`.
    pub(super) fn open(path: &Path, guest: &Path, port: u32) -> Result<Self, Fault> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        let closing = Arc::new(AtomicBool::new(false));
        let (closed, guest) = (Arc::clone(&closing), guest.to_path_buf());
        let keeper = thread::Builder::new().spawn(move || {
            for visitor in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    break;
                }
                // A visitor that cannot be let in sees the end of its stream.
                let _ =
                    visitor.and_then(|visitor| connect(&guest, port).and_then(|host| join(visitor, host)));
            }
        })?;
        Ok(Self { path: path.to_path_buf(), closing, keeper: Some(keeper) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // Wakes the keeper, who then leaves.
        if UnixStream::connect(&self.path).is_ok()
            && let Some(keeper) = self.keeper.take()
        {
            let _ = keeper.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A stream to a port of the guest.
fn connect(guest: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(guest)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line is the module's.
    while !answer.ends_with(b"\n") && answer.len() < ANSWER_BYTES_MAX {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    if answer.starts_with(b"OK ") { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

/// Carries bytes both ways until either side ends.
fn join(visitor: UnixStream, host: UnixStream) -> io::Result<()> {
    let (visitor_again, host_again) = (visitor.try_clone()?, host.try_clone()?);
    thread::Builder::new().spawn(move || carry(visitor, host))?;
    thread::Builder::new().spawn(move || carry(host_again, visitor_again))?;
    Ok(())
}

fn carry(mut from: UnixStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    // One direction that ended is the end of both, as for the module itself.
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_reach_the_port_and_see_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("outer"), folder.path().join("inner"));
        let guest = UnixListener::bind(&inner).unwrap();
        let door = Door::open(&outer, &inner, 5000).unwrap();
        let mut visitor = UnixStream::connect(door.path()).unwrap();
        let (mut host, _) = guest.accept().unwrap();
        let mut greeting = [0; 13];
        host.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"CONNECT 5000\n");
        // The answer and the first bytes of the module in one piece.
        host.write_all(b"OK 1024\nhello").unwrap();
        let mut hello = [0; 5];
        visitor.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");
        visitor.write_all(b"bye").unwrap();
        visitor.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        host.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"bye");
        // A port on which nobody listens: the device just ends the stream.
        let mut visitor = UnixStream::connect(door.path()).unwrap();
        drop(guest.accept().unwrap());
        assert_eq!(visitor.read(&mut hello).unwrap(), 0);
        drop(door);
        assert!(!outer.exists());
    }
}
