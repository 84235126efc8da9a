//! The far side: answers commands on bare connections and on streams.

use super::{BULK_FRAME_BYTES, COMMAND_BYTES, Command, ECHO_BYTES_MAX, READY};
use consilium::net::{
    Channel, ChannelError, Identity, Limits, Member, NetError, Network, PeerId, Reach, Settings,
};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes taken off a bare connection at once.
const ROOM_BYTES: usize = 256 << 10;

/// Where the far side is to be found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Far {
    /// Its name.
    pub peer: String,
    /// Where its network listens.
    pub network: SocketAddr,
    /// Where it takes bare connections.
    pub bare: SocketAddr,
}

/// Tells where this side is and answers until the process ends.
///
/// # Errors
/// It cannot listen.
pub async fn serve(near: &[PeerId], tell: impl FnOnce(&Far)) -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::generate();
    let peer = identity.peer_id().to_string();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let members = near.iter().map(|peer| Member { peer: *peer, addresses: Vec::new() }).collect();
    let settings = Settings {
        identity,
        listen: vec![any.into()],
        members,
        reach: Reach::default(),
        limits: Limits::default(),
    };
    let (network, mut incoming) = Network::start(settings)?;
    let listening = network.wait_listening().await?;
    let place = listening.first().and_then(consilium::net::Address::socket).ok_or(NetError::Stopped)?;
    let listener = TcpListener::bind(any).await?;
    tell(&Far { peer, network: place, bare: listener.local_addr()? });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The near side sees its connection end.
            tokio::spawn(async move { drop(bare(stream).await) });
        }
    });
    while let Some((_, _, channel)) = incoming.next().await {
        tokio::spawn(async move { drop(framed(channel).await) });
    }
    Ok(())
}

async fn bare(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut room = vec![0; ROOM_BYTES.max(ECHO_BYTES_MAX)];
    loop {
        let mut words = [0; COMMAND_BYTES];
        stream.read_exact(&mut words).await?;
        let command = Command::from_bytes(&words).ok_or(std::io::ErrorKind::InvalidData)?;
        stream.write_all(&READY).await?;
        if command.is_bulk {
            let mut left = command.bytes;
            while left > 0 {
                let wanted = left.min(ROOM_BYTES as u64) as usize;
                match stream.read(&mut room[..wanted]).await? {
                    0 => return Ok(()),
                    count => left -= count as u64,
                }
            }
            stream.write_all(&READY).await?;
        } else {
            for _ in 0..command.count {
                let message = &mut room[..command.bytes as usize];
                stream.read_exact(message).await?;
                stream.write_all(message).await?;
            }
        }
    }
}

async fn framed(mut channel: Channel) -> Result<(), ChannelError> {
    loop {
        let words = channel.receive(COMMAND_BYTES).await?;
        let Some(command) = Command::from_bytes(&words) else { return Ok(()) };
        channel.send(&READY).await?;
        if command.is_bulk {
            let mut left = command.bytes;
            while left > 0 {
                left = left.saturating_sub(channel.receive(BULK_FRAME_BYTES).await?.len() as u64);
            }
            channel.send(&READY).await?;
        } else {
            for _ in 0..command.count {
                let message = channel.receive(ECHO_BYTES_MAX).await?;
                channel.send(&message).await?;
            }
        }
    }
}
