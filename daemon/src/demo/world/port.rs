//! Ports for processes that may be down for a while.

use super::{WorldError, io};
use std::net::TcpListener;

/// Where listening ports are chosen.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const PORT_TRIALS: usize = 64;

/// A port below those that the system hands out, so that no other connection takes it while its node is
/// down.
pub(super) fn free() -> Result<(u16, TcpListener), WorldError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIALS {
        let port = rand::random_range(PORTS);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok((port, listener)),
            Err(error) => last = error,
        }
    }
    Err(io("cannot find a free port")(last))
}
