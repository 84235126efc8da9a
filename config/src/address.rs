//! Where a node can be reached: the few forms of multiaddress that the network layer knows.

use crate::{
    error::{ValueError, quoted},
    limits::ADDRESS_BYTES_MAX,
};
use serde::Serialize;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The address of a member behind a NAT, whom others reach through members that relay.
pub const RELAYED: &str = "/p2p-circuit";

/// `/ip4/ADDRESS/tcp/PORT`, or the same with `ip6`, `dns`, `dns4` or `dns6`; `/ip4/ADDRESS/udp/PORT/quic-v1` and the
/// same for QUIC, which only some programs are built with; or [`RELAYED`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Address {
    text: String,
    host: Host,
    port: u16,
}

/// The machine that an [`Address`] names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A numeric address.
    Ip(IpAddr),
    /// A name to look up.
    Name(String),
    /// Whichever members relay for it.
    Relays,
}

impl Address {
    /// The multiaddress as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port of TCP, or of UDP below QUIC; 0 only where the system may choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether somebody else could dial it: it names one machine and one port, or relays.
    pub fn is_dialable(&self) -> bool {
        match &self.host {
            Host::Ip(address) => !address.is_unspecified() && !address.is_multicast() && self.port != 0,
            Host::Name(_) => self.port != 0,
            Host::Relays => true,
        }
    }

    /// Whether it is for QUIC, which only some programs are built with.
    pub fn is_quic(&self) -> bool {
        self.text.ends_with("/quic-v1")
    }

    /// Whether it is reached only through members that relay.
    pub fn is_relayed(&self) -> bool {
        self.host == Host::Relays
    }
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        split(text).map(|(host, port)| Self { text: text.to_owned(), host, port }).ok_or_else(|| {
            let expected = "an address such as `/ip4/192.0.2.7/tcp/4710`";
            ValueError::new(expected, quoted(text)).help(advice(text))
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

fn split(text: &str) -> Option<(Host, u16)> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    if text == RELAYED {
        return Some((Host::Relays, 0));
    }
    let parts: Vec<&str> = text.strip_prefix('/')?.splitn(6, '/').collect();
    let (kind, host, port) = match parts.as_slice() {
        [kind, host, "tcp", port] | [kind, host, "udp", port, "quic-v1"] => (*kind, *host, *port),
        _ => return None,
    };
    let host = match kind {
        "ip4" => Host::Ip(host.parse::<Ipv4Addr>().ok()?.into()),
        "ip6" => Host::Ip(host.parse::<Ipv6Addr>().ok()?.into()),
        "dns" | "dns4" | "dns6" if is_host_name(host) => Host::Name(host.to_owned()),
        _ => return None,
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some((host, port.parse().ok()?))
}

/// Labels of letters, digits and inner hyphens, as host names are.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Turns `host:port`, the common other notation, into ours.
fn advice(text: &str) -> Option<String> {
    if text.contains("/p2p/") {
        return Some("leave out `/p2p/…`; the peer id stands in `peer`".to_owned());
    }
    if text.contains(RELAYED) {
        return Some(format!("write `{RELAYED}` alone; its relays are found by themselves"));
    }
    if text.contains("/udp/") || text.contains("/quic") {
        return Some(
            "write `/ip4/…/tcp/…`, or `/ip4/…/udp/…/quic-v1` with a program that has QUIC".to_owned(),
        );
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let kind = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => "ip4",
        Ok(IpAddr::V6(_)) => "ip6",
        Err(_) if is_host_name(host) => "dns",
        Err(_) => return None,
    };
    Some(format!("write `/{kind}/{host}/tcp/{port}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_addresses_give_host_and_port() {
        let address: Address = "/ip4/192.0.2.7/tcp/4710".parse().unwrap();
        assert_eq!((address.host(), address.port()), (&Host::Ip([192, 0, 2, 7].into()), 4710));
        let address: Address = "/dns4/compute.north.example/tcp/1".parse().unwrap();
        assert_eq!(address.host(), &Host::Name("compute.north.example".to_owned()));
        assert!("/ip6/::1/tcp/65535".parse::<Address>().unwrap().is_dialable());
        for nowhere in ["/ip4/0.0.0.0/tcp/4710", "/ip6/::/tcp/4710", "/ip4/127.0.0.1/tcp/0"] {
            assert!(!nowhere.parse::<Address>().unwrap().is_dialable(), "{nowhere}");
        }
        let quic: Address = "/ip4/192.0.2.7/udp/4710/quic-v1".parse().unwrap();
        assert_eq!((quic.host(), quic.port()), (&Host::Ip([192, 0, 2, 7].into()), 4710));
        let relayed: Address = RELAYED.parse().unwrap();
        assert!(relayed.is_dialable() && relayed.is_relayed() && !relayed.is_quic());
        assert!(quic.is_quic() && !quic.is_relayed());
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "/",
            "ip4/1.2.3.4/tcp/1",
            "/ip4/1.2.3/tcp/1",
            "/ip4/1.2.3.4/tcp/65536",
            "/ip4/1.2.3.4/tcp/+1",
            "/ip4/1.2.3.4/tcp/",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/udp/1/quic",
            "/ip4/1.2.3.4/tcp/1/quic-v1",
            "/ip4/1.2.3.4/udp/1/quic-v1/p2p",
            "/ip4/1.2.3.4/tcp/1/p2p-circuit",
            "/ip4/1.2.3.4/tcp/1/p2p/x",
            "/dns/-a/tcp/1",
            "/dns/a..b/tcp/1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn host_and_port_notation_is_translated() {
        let help = |text: &str| text.parse::<Address>().unwrap_err().help;
        assert_eq!(help("10.0.0.1:4710").as_deref(), Some("write `/ip4/10.0.0.1/tcp/4710`"));
        assert_eq!(help("[::1]:4710").as_deref(), Some("write `/ip6/::1/tcp/4710`"));
        assert_eq!(help("north.example:4710").as_deref(), Some("write `/dns/north.example/tcp/4710`"));
        assert_eq!(help("nonsense"), None);
        assert!(help("/ip4/10.0.0.1/udp/4710").unwrap().contains("/quic-v1"));
        assert!(help("/ip4/10.0.0.1/tcp/4710/p2p-circuit").unwrap().contains("alone"));
    }
}
