//! Links in front of nodes.

use super::{Line, Link};
use consilium::demo::{World, WorldError, free_port};
use consilium_config::{Address, ConfigError, Network, Node};
use std::net::SocketAddr;

/// Why a node cannot be put behind a link.
#[derive(Debug, thiserror::Error)]
pub enum PlacingError {
    /// Its node file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no other port.
    #[error(transparent)]
    Port(#[from] WorldError),
    /// It does not listen on a port of this machine.
    #[error("{0} listens on no port of its own")]
    Deaf(String),
    /// A port or a file.
    #[error("cannot put a link in front of {name}: {source}")]
    Io {
        /// The node.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Has a node that does not run yet listen on another port, and puts a link on the one that the roster names.
///
/// # Errors
/// [`PlacingError`].
pub fn place_before(world: &World, name: &str, line: Line) -> Result<Link, PlacingError> {
    let io = |source| PlacingError::Io { name: name.to_owned(), source };
    let deaf = || PlacingError::Deaf(name.to_owned());
    let file = world.folder_of(name).join("consilium.toml");
    let node = Node::load(&file)?;
    let text = node.network().listen.first().ok_or_else(deaf)?.to_string();
    let (before, port) = text.rsplit_once('/').ok_or_else(deaf)?;
    let port: u16 = port.parse().map_err(|_| deaf())?;
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let free = free_port()?;
    let listen: Address = format!("{before}/{free}").parse().map_err(|_| deaf())?;
    let network = Network { listen: vec![listen], ..node.network().clone() };
    let moved = Node::new(
        node.place().clone(),
        network,
        *node.pools(),
        node.admin().clone(),
        node.log().clone(),
        node.module().clone(),
        node.http().clone(),
    )?;
    std::fs::write(file, moved.to_toml()).map_err(io)?;
    Link::start(local(port), local(free), line).map_err(io)
}
