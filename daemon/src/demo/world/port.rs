//! Ports for processes that may be down for a while.

use super::{WorldError, io};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Where listening ports are chosen.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const PORT_TRIALS: usize = 64;

/// Ports that this process has chosen: nodes of several worlds may be down at the same time.
static CHOSEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port below those that the system hands out, so that no other connection takes it while its node is
/// down.
pub(super) fn free() -> Result<(u16, TcpListener), WorldError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIALS {
        let port = rand::random_range(PORTS);
        if !CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            continue;
        }
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok((port, listener)),
            Err(error) => last = error,
        }
    }
    Err(io("cannot find a free port")(last))
}

/// A port that nothing listens on, chosen for this process alone, for a node that starts later.
///
/// # Errors
/// None was found.
pub fn free_port() -> Result<u16, WorldError> {
    free().map(|(port, _)| port)
}
