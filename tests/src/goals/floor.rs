//! The bare exchange of frames of given sizes: what no protocol of these rounds can be faster than.

use super::consortium::pin;
use crate::link::{Line, Link};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A frame up to this size is written before the other is read: the kernel buffers it.
const BUFFERED_BYTES: usize = 64 << 10;
const WITHIN: Duration = Duration::from_secs(60);
const WARM_UP: usize = 2;

/// Milliseconds of all rounds together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub(super) median: f64,
    pub(super) least: f64,
}

impl Floor {
    /// Exchanges frames of these sizes, `times` times, between two threads on a core each.
    pub(super) fn measure(line: Option<Line>, sizes: Vec<usize>, times: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(LOCAL)?;
        let to = listener.local_addr()?;
        let link = line.map(|line| Link::start(LOCAL, to, line)).transpose()?;
        let one = TcpStream::connect(link.as_ref().map_or(to, Link::address))?;
        let zero = listener.accept()?.0;
        for stream in [&zero, &one] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(WITHIN))?;
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(1, &one, &sizes, times));
            let told = run(0, &zero, &sizes, times);
            other.join().map_err(|_| io::Error::other("the other end panicked"))??;
            told
        })
    }
}

fn run(core: usize, stream: &TcpStream, sizes: &[usize], times: usize) -> io::Result<Floor> {
    pin(core);
    let mut taken = Vec::with_capacity(times);
    for time in 0..times + WARM_UP {
        // Both begin together, as after a reservation.
        swap(stream, 1)?;
        let started = Instant::now();
        for size in sizes {
            swap(stream, *size)?;
        }
        if time >= WARM_UP {
            taken.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    taken.sort_by(f64::total_cmp);
    let at = |index: usize| taken.get(index).copied().unwrap_or(0.0);
    Ok(Floor { median: at(taken.len() / 2), least: at(0) })
}

/// Sends a frame and receives one of the same size.
fn swap(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let (frame, mut reply) = (vec![0; bytes], vec![0; bytes]);
    let (mut reader, mut writer) = (stream, stream);
    if bytes <= BUFFERED_BYTES {
        writer.write_all(&frame)?;
        return reader.read_exact(&mut reply);
    }
    std::thread::scope(|scope| {
        let written = scope.spawn(move || writer.write_all(&frame));
        reader.read_exact(&mut reply)?;
        written.join().map_err(|_| io::Error::other("the writer panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_one_delay() {
        let line = Line { delay: Duration::from_millis(5), bits_per_second: None };
        let floor = Floor::measure(Some(line), vec![10, 200_000, 10], 3).unwrap();
        // The two begin up to one delay apart, so that one of them may find the first frame there already.
        assert!(floor.least >= 10.0 && floor.median >= floor.least, "{floor:?}");
        let near = Floor::measure(None, vec![10, 200_000, 10], 3).unwrap();
        assert!(near.least < floor.least, "{near:?}");
    }
}
