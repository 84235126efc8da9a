//! The REST interface, the metrics and the dashboard of one machine.

use crate::error::{ValueError, quoted};
use crate::limits::HTTP_BODY_BYTES_DEFAULT;
use serde::Serialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The REST interface, the metrics and the dashboard of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Where it listens; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// File of the token that every caller must show; `http.token` in the state folder by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Longest body of a request, in bytes.
    pub body_bytes_max: u32,
    /// Whether it may listen where other machines reach it, which only a proxy with TLS makes safe.
    pub beyond_loopback: bool,
}

impl Default for Http {
    /// Nothing listens.
    fn default() -> Self {
        Self {
            listen: None,
            token_file: None,
            body_bytes_max: HTTP_BODY_BYTES_DEFAULT,
            beyond_loopback: false,
        }
    }
}

impl Http {
    /// Whether the machine says nothing about it.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An address and a port, as they are written.
pub(super) struct Listen(pub(super) SocketAddr);

impl FromStr for Listen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| {
            let expected = "an address and a port, such as `127.0.0.1:8000` or `[::1]:8000`";
            ValueError::new(expected, quoted(text)).help(advice(text))
        })
    }
}

/// What was probably meant by something that is no address with a port.
fn advice(text: &str) -> Option<String> {
    let port = |text: &str| text.parse::<u16>().ok();
    if let Ok(host) = text.parse::<IpAddr>() {
        return Some(format!("write `{}`", SocketAddr::new(host, 8000)));
    }
    let (host, number) = text.rsplit_once(':').unwrap_or(("", text));
    let number = port(number).filter(|_| host.is_empty() || host == "localhost")?;
    Some(format!("write `{}`", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_gets_one_to_write() {
        let help = |text: &str| text.parse::<Listen>().err().and_then(|error| error.help);
        for (bad, good) in [
            ("8000", "127.0.0.1:8000"),
            (":8000", "127.0.0.1:8000"),
            ("localhost:80", "127.0.0.1:80"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("::1", "[::1]:8000"),
        ] {
            assert_eq!(help(bad), Some(format!("write `{good}`")), "{bad}");
            assert_eq!(good.parse::<Listen>().map(|listen| listen.0).ok(), good.parse().ok());
        }
        for hopeless in ["", "north", "north:8000", "127.0.0.1:99999", "http://127.0.0.1:80"] {
            assert_eq!(hopeless.parse::<Listen>().map(|_| ()).unwrap_err().help, None, "{hopeless}");
        }
    }
}
