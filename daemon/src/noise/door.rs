//! The way to the module.

use super::Away;
use crate::net::{Channel, ChannelError, Network, PeerId, Role};
use consilium_config::ModuleSocket;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vsock::VsockStream;

/// Bytes carried in one frame: whatever has come, up to the length of the module's longest frame.
const CARRY_BYTES_MAX: usize = 64 << 10;

/// How this node reaches the module.
#[derive(Clone, Debug)]
pub enum Door {
    /// On this machine.
    Here(ModuleSocket),
    /// Through the node of another member, which sees lengths and nothing else.
    There {
        /// This node's network.
        network: Network,
        /// The member that hosts the module.
        host: PeerId,
        /// Its name.
        name: String,
    },
}

impl Door {
    /// A new connection whose blocking calls end after `within`.
    ///
    /// # Errors
    /// [`Away::Unreachable`].
    pub async fn open(&self, within: Duration) -> Result<UnixStream, Away> {
        let stream = match self {
            Self::Here(socket) => {
                let opened = tokio::time::timeout(within, open_here(socket)).await;
                let late = || io::Error::from(io::ErrorKind::TimedOut);
                opened.unwrap_or_else(|_| Err(late())).map_err(|error| not_here(socket, &error))?
            }
            Self::There { network, host, name } => {
                let channel = network.open(*host, Role::Module, within).await;
                let channel =
                    channel.map_err(|error| Away::Unreachable(format!("its host {name}: {error}")))?;
                let (near, far) = UnixStream::pair().map_err(Away::unreachable)?;
                let far = far.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(far));
                let far = far.map_err(Away::unreachable)?;
                // Ends with either side.
                tokio::spawn(async move {
                    if let Err(error) = carry(channel, far).await {
                        tracing::debug!("the way to the module ended: {error}");
                    }
                });
                near
            }
        };
        let limited =
            stream.set_read_timeout(Some(within)).and_then(|()| stream.set_write_timeout(Some(within)));
        limited.map_err(Away::unreachable)?;
        Ok(stream)
    }
}

fn not_here(socket: &ModuleSocket, error: &io::Error) -> Away {
    Away::Unreachable(format!("nothing answers on {socket}: {error}; start `consilium-enclave` there"))
}

async fn open_here(socket: &ModuleSocket) -> io::Result<UnixStream> {
    match socket {
        ModuleSocket::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await?.into_std()?;
            stream.set_nonblocking(false)?;
            Ok(stream)
        }
        ModuleSocket::Vsock { cid, port } => {
            let (cid, port) = (*cid, *port);
            let connected =
                tokio::task::spawn_blocking(move || bridge(VsockStream::connect_with_cid_port(cid, port)?));
            connected.await.map_err(io::Error::other)?
        }
    }
}

/// Makes a virtual machine's socket look like any other: two threads carry its bytes, and end with it.
fn bridge(outer: VsockStream) -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    let (mut down_from, mut down_to) = (outer.try_clone()?, far.try_clone()?);
    let (mut up_from, mut up_to) = (far, outer);
    std::thread::Builder::new().name("module-down".into()).spawn(move || {
        let _ = io::copy(&mut down_from, &mut down_to);
        let _ = down_to.shutdown(Shutdown::Both);
    })?;
    std::thread::Builder::new().name("module-up".into()).spawn(move || {
        let _ = io::copy(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(Shutdown::Both);
    })?;
    Ok(near)
}

/// Carries bytes between a channel and a stream until either ends.
///
/// # Errors
/// The channel, or the stream, failed.
pub async fn carry(channel: Channel, stream: tokio::net::UnixStream) -> Result<(), ChannelError> {
    let (mut sender, mut receiver) = channel.split();
    let (mut reader, mut writer) = stream.into_split();
    let inward = async {
        loop {
            match receiver.receive(CARRY_BYTES_MAX).await {
                Ok(bytes) => writer.write_all(&bytes).await.map_err(ChannelError::from)?,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    let outward = async {
        let mut room = vec![0; CARRY_BYTES_MAX];
        loop {
            match reader.read(&mut room).await.map_err(ChannelError::from)? {
                0 => return Ok(()),
                length => sender.send(&room[..length]).await?,
            }
        }
    };
    tokio::select! { ended = inward => ended, ended = outward => ended }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_an_end_is_an_end() {
        let (left, right) = Channel::pair();
        let [(mut client, near), (far, mut module)] =
            [tokio::net::UnixStream::pair().unwrap(), tokio::net::UnixStream::pair().unwrap()];
        let here = tokio::spawn(carry(left, near));
        let there = tokio::spawn(carry(right, far));
        let long = vec![7; 3 * CARRY_BYTES_MAX + 1];
        let (to_send, length) = (long.clone(), long.len());
        let sending = tokio::spawn(async move {
            client.write_all(&to_send).await.unwrap();
            let mut reply = [0; 4];
            client.read_exact(&mut reply).await.unwrap();
            reply
        });
        let mut got = vec![0; length];
        module.read_exact(&mut got).await.unwrap();
        assert_eq!(got, long);
        module.write_all(b"pong").await.unwrap();
        assert_eq!(&sending.await.unwrap(), b"pong");
        // The client's end is dropped by now, and everything ends with it.
        assert_eq!(module.read(&mut got).await.unwrap(), 0);
        here.await.unwrap().unwrap();
        there.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_of_this_machine_is_opened_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let door = Door::Here(ModuleSocket::Unix(path.clone()));
        let within = Duration::from_secs(5);
        let Err(Away::Unreachable(reason)) = door.open(within).await else { panic!("nobody is there") };
        assert!(reason.contains("consilium-enclave") && reason.contains("socket"), "{reason}");
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = door.open(within).await.unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        stream.write_all(b"ping").unwrap();
        let mut got = [0; 4];
        accepted.read_exact(&mut got).unwrap();
        assert_eq!((&got, stream.read_timeout().unwrap()), (b"ping", Some(within)));
    }
}
