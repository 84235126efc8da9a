//! Names of members and places where they answer.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use libp2p::{
    identity::PublicKey,
    multiaddr::{Multiaddr, Protocol},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// Length above which text is not even parsed as an address or a peer id.
const TEXT_BYTES_MAX: usize = 320;
/// Longest host name that the domain name system allows.
const HOST_BYTES_MAX: usize = 253;
/// Multihash code of "the digest is the value itself".
const IDENTITY_MULTIHASH: u64 = 0;

/// The name of a member: its Ed25519 public key in libp2p's encoding.
///
/// Every value of this type holds a decodable Ed25519 key, so a signature can be checked against it alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(libp2p::PeerId);

/// Why text or bytes are not a [`PeerId`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PeerIdError {
    /// More bytes than any peer id has.
    #[error("a peer id has at most {TEXT_BYTES_MAX} bytes, found {found}")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not base58, or not a multihash.
    #[error("not a libp2p peer id; copy it from the member's own `status` output")]
    NotAPeerId,
    /// A peer id of another key type.
    #[error("the peer id does not hold an Ed25519 key, the only kind that members use")]
    NotEd25519,
}

impl PeerId {
    /// Bytes of the multihash, as sent on the wire.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The inverse of [`PeerId::to_bytes`].
    ///
    /// # Errors
    /// [`PeerIdError`] for anything but one Ed25519 peer id.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(PeerIdError::TooLong { found: bytes.len() });
        }
        let inner = libp2p::PeerId::from_bytes(bytes).map_err(|_| PeerIdError::NotAPeerId)?;
        Self::from_inner(inner)
    }

    /// Whether `signature` is this member's signature of `message` under `domain`, made by
    /// [`Identity::sign`](super::Identity::sign).
    pub fn verify(&self, domain: &str, message: &[u8], signature: &[u8]) -> bool {
        key_of(&self.0).is_some_and(|key| key.verify(&signed_bytes(domain, message), signature))
    }

    /// The Ed25519 key that the name holds.
    pub fn key(&self) -> [u8; 32] {
        let key = key_of(&self.0).and_then(|key| key.try_into_ed25519().ok());
        key.expect("only peer ids that hold an Ed25519 key are made").to_bytes()
    }

    pub(super) fn from_inner(inner: libp2p::PeerId) -> Result<Self, PeerIdError> {
        key_of(&inner).map(|_| Self(inner)).ok_or(PeerIdError::NotEd25519)
    }

    pub(super) fn inner(self) -> libp2p::PeerId {
        self.0
    }
}

fn key_of(inner: &libp2p::PeerId) -> Option<PublicKey> {
    let hash = inner.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    key.clone().try_into_ed25519().ok()?;
    Some(key)
}

/// What is really signed: the domain with its length in front, so that no message of one domain reads as a
/// message of another.
pub(super) fn signed_bytes(domain: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + domain.len() + message.len());
    bytes.extend_from_slice(&(domain.len() as u64).to_le_bytes());
    bytes.extend_from_slice(domain.as_bytes());
    bytes.extend_from_slice(message);
    bytes
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PeerIdError::TooLong { found: text.len() });
        }
        Self::from_inner(text.parse().map_err(|_| PeerIdError::NotAPeerId)?)
    }
}

/// Text in formats for people, the multihash bytes in CBOR.
impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            deserializer.deserialize_bytes(BytesVisitor)
        }
    }
}

struct BytesVisitor;

impl serde::de::Visitor<'_> for BytesVisitor {
    type Value = PeerId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a peer id")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<PeerId, E> {
        PeerId::from_bytes(bytes).map_err(E::custom)
    }
}

/// An endpoint: an IP address or a host name, and a port of TCP or, where the node is built with it, of QUIC.
///
/// Written as `/ip4/10.0.0.7/tcp/7700`, `/ip6/::1/tcp/7700`, `/dns/consilium.example.org/tcp/7700`, in the
/// short forms `10.0.0.7:7700`, `[::1]:7700`, `consilium.example.org:7700`, or as `/ip4/10.0.0.7/udp/7700/quic-v1`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Host,
    port: u16,
    carrier: Carrier,
}

/// What carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Carrier {
    Tcp,
    Quic,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Why text is not an [`Address`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// More bytes than any address has.
    #[error("an address has at most {TEXT_BYTES_MAX} bytes, found {found}")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Neither `host:port` nor `/ip4|ip6|dns/host/tcp/port` nor `/ip4|ip6|dns/host/udp/port/quic-v1`.
    #[error("`{text}` is not an address; write host:port or /ip4/10.0.0.7/tcp/7700")]
    Shape {
        /// The text as given.
        text: String,
    },
    /// The host is neither an IP address nor a host name.
    #[error("`{host}` is neither an IP address nor a host name")]
    Host {
        /// The host as given.
        host: String,
    },
    /// The port is not a number below 65536.
    #[error("`{port}` is not a port; write a number below 65536")]
    Port {
        /// The port as given.
        port: String,
    },
}

impl Address {
    /// The socket address, unless the host is a name.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The port of TCP, or of UDP below QUIC.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Whether this build of the program can listen on it and dial it.
    pub(super) fn is_spoken(&self) -> bool {
        cfg!(feature = "quic") || self.carrier == Carrier::Tcp
    }

    /// The same endpoint at one of the sockets that its name stands for.
    pub(super) fn at(&self, socket: SocketAddr) -> Self {
        Self { host: Host::Ip(socket.ip()), port: socket.port(), carrier: self.carrier }
    }

    /// The address that libp2p reports, with or without the peer's name at its end; `None` for anything but IP over
    /// TCP or QUIC, such as a place at a relay.
    pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter().peekable();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let (port, carrier) = match parts.next()? {
            Protocol::Tcp(port) => (port, Carrier::Tcp),
            Protocol::Udp(port) => match parts.next()? {
                Protocol::QuicV1 => (port, Carrier::Quic),
                _ => return None,
            },
            _ => return None,
        };
        parts.next_if(|part| matches!(part, Protocol::P2p(_)));
        parts.next().is_none().then_some(Self { host: Host::Ip(ip), port, carrier })
    }

    pub(super) fn multiaddr(&self) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(ip) => Multiaddr::from(*ip),
            Host::Name(name) => Multiaddr::empty().with(Protocol::Dns(name.into())),
        };
        match self.carrier {
            Carrier::Tcp => host.with(Protocol::Tcp(self.port)),
            Carrier::Quic => host.with(Protocol::Udp(self.port)).with(Protocol::QuicV1),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self { host: Host::Ip(socket.ip()), port: socket.port(), carrier: Carrier::Tcp }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "/ip4/{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "/ip6/{ip}")?,
            Host::Name(name) => write!(f, "/dns/{name}")?,
        }
        match self.carrier {
            Carrier::Tcp => write!(f, "/tcp/{}", self.port),
            Carrier::Quic => write!(f, "/udp/{}/quic-v1", self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(AddressError::TooLong { found: text.len() });
        }
        let shape = || AddressError::Shape { text: text.to_owned() };
        let (host, port, carrier) = if let Some(rest) = text.strip_prefix('/') {
            let parts: Vec<&str> = rest.splitn(6, '/').collect();
            let (kind, host, port, carrier) = match parts.as_slice() {
                [kind, host, "tcp", port] => (*kind, *host, *port, Carrier::Tcp),
                [kind, host, "udp", port, "quic-v1"] => (*kind, *host, *port, Carrier::Quic),
                _ => return Err(shape()),
            };
            (host_of(kind, host).ok_or_else(|| AddressError::Host { host: host.to_owned() })?, port, carrier)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let parsed = match bare {
                Some(inner) => host_of("ip6", inner),
                None => host_of("ip4", host).or_else(|| host_of("dns", host)),
            };
            (parsed.ok_or_else(|| AddressError::Host { host: host.to_owned() })?, port, Carrier::Tcp)
        };
        let port = port.parse().map_err(|_| AddressError::Port { port: port.to_owned() })?;
        Ok(Self { host, port, carrier })
    }
}

fn host_of(kind: &str, host: &str) -> Option<Host> {
    match kind {
        "ip4" => host.parse::<Ipv4Addr>().ok().map(|ip| Host::Ip(ip.into())),
        "ip6" => host.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into())),
        "dns" | "dns4" | "dns6" => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            let named = !host.is_empty()
                && host.len() <= HOST_BYTES_MAX
                && host.bytes().all(plain)
                && host.bytes().any(|byte| byte.is_ascii_alphabetic());
            named.then(|| Host::Name(host.to_owned()))
        }
        _ => None,
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Identity;

    #[test]
    fn every_written_form_of_an_address_is_read() {
        for (text, shown) in [
            ("/ip4/10.0.0.7/tcp/7700", "/ip4/10.0.0.7/tcp/7700"),
            ("10.0.0.7:7700", "/ip4/10.0.0.7/tcp/7700"),
            ("[::1]:7700", "/ip6/::1/tcp/7700"),
            ("/ip6/::1/tcp/0", "/ip6/::1/tcp/0"),
            ("node-1.example.org:80", "/dns/node-1.example.org/tcp/80"),
            ("/dns4/node/tcp/80", "/dns/node/tcp/80"),
            ("/ip4/10.0.0.7/udp/7700/quic-v1", "/ip4/10.0.0.7/udp/7700/quic-v1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.multiaddr().to_string(), shown);
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn addresses_that_cannot_be_dialled_are_refused() {
        for text in [
            "",
            "/",
            "host",
            "/ip4/10.0.0.7/udp/7700",
            "/ip4/10.0.0.7/udp/7700/quic",
            "/ip4/10.0.0.7/tcp/7700/quic-v1",
            "/ip4/10.0.0.7/udp/7700/quic-v1/p2p",
            "/ip4/10.0.0.7/tcp/7700/p2p/x",
            "/ip4/::1/tcp/1",
            "10.0.0.7:99999",
            "::1:80",
            "ho st:80",
            "300.1.1.1:80",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text} was taken");
        }
        let long = format!("{}:80", "a".repeat(TEXT_BYTES_MAX));
        assert_eq!(long.parse::<Address>(), Err(AddressError::TooLong { found: long.len() }));
    }

    #[test]
    fn what_libp2p_reports_is_read_to_its_end() {
        let peer = Identity::generate().peer_id();
        let read =
            |text: String| Address::from_multiaddr(&text.parse().unwrap()).map(|found| found.to_string());
        assert_eq!(read("/ip4/10.0.0.7/tcp/1".into()).as_deref(), Some("/ip4/10.0.0.7/tcp/1"));
        assert_eq!(read(format!("/ip4/10.0.0.7/tcp/1/p2p/{peer}")).as_deref(), Some("/ip4/10.0.0.7/tcp/1"));
        let quic = "/ip6/::1/udp/1/quic-v1".to_owned();
        assert_eq!(read(quic.clone()), Some(quic));
        assert_eq!(read(format!("/ip4/10.0.0.7/tcp/1/p2p/{peer}/p2p-circuit")), None);
        assert_eq!(read("/ip4/10.0.0.7/udp/1".into()), None);
    }

    #[test]
    fn a_peer_id_survives_text_bytes_json_and_cbor() {
        let peer = Identity::generate().peer_id();
        assert_eq!(peer.to_string().parse::<PeerId>().unwrap(), peer);
        assert_eq!(PeerId::from_bytes(&peer.to_bytes()).unwrap(), peer);
        let json = serde_json::to_string(&peer).unwrap();
        assert_eq!(serde_json::from_str::<PeerId>(&json).unwrap(), peer);
        let mut cbor = Vec::new();
        ciborium::into_writer(&peer, &mut cbor).unwrap();
        assert_eq!(ciborium::from_reader::<PeerId, _>(cbor.as_slice()).unwrap(), peer);
    }

    #[test]
    fn a_peer_id_without_an_ed25519_key_is_refused() {
        let hashed = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert_eq!(hashed.parse::<PeerId>(), Err(PeerIdError::NotEd25519));
        assert_eq!("nonsense".parse::<PeerId>(), Err(PeerIdError::NotAPeerId));
    }

    #[test]
    fn a_signature_holds_only_in_its_domain_and_for_its_signer() {
        let (signer, other) = (Identity::generate(), Identity::generate());
        let signature = signer.sign("roster", b"members");
        assert!(signer.peer_id().verify("roster", b"members", &signature));
        assert!(!signer.peer_id().verify("rosterm", b"embers", &signature));
        assert!(!signer.peer_id().verify("roster", b"member", &signature));
        assert!(!other.peer_id().verify("roster", b"members", &signature));
    }
}
