//! What one machine knows of the module that draws noise.

use crate::error::{ValueError, quoted};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The module that draws noise, as far as it concerns one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LocalModule {
    /// Where the module on this machine listens; only on the host that the roster names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<ModuleSocket>,
    /// Folder of the vendors' statements that evidence is verified against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collateral: Option<PathBuf>,
}

impl LocalModule {
    /// Whether the machine says nothing about a module.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Every path in it.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let socket = self.socket.as_ref().and_then(|socket| match socket {
            ModuleSocket::Unix(path) => Some(path),
            ModuleSocket::Vsock { .. } => None,
        });
        socket.into_iter().chain(&self.collateral)
    }
}

/// Where a module listens: `unix:PATH` or `vsock:CID:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub enum ModuleSocket {
    /// A Unix socket, for a process on the same machine.
    Unix(PathBuf),
    /// A socket into a virtual machine or an enclave on this machine.
    Vsock {
        /// Which machine.
        cid: u32,
        /// Which port of it.
        port: u32,
    },
}

/// The number that stands for any machine or any port, where a socket is bound.
const VSOCK_ANY: u32 = u32::MAX;

impl ModuleSocket {
    /// The same socket; a relative path starts from `base`.
    pub(super) fn from(self, base: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(base.join(path)),
            vsock @ Self::Vsock { .. } => vsock,
        }
    }
}

impl FromStr for ModuleSocket {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && *number != VSOCK_ANY)
        };
        let socket = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() && !path.chars().any(char::is_control) => {
                Some(Self::Unix(PathBuf::from(path)))
            }
            Some(("vsock", place)) => place
                .split_once(':')
                .and_then(|(cid, port)| Some(Self::Vsock { cid: number(cid)?, port: number(port)? })),
            _ => None,
        };
        socket.ok_or_else(|| {
            let expected = "`unix:PATH` or `vsock:CID:PORT`";
            ValueError::new(expected, quoted(text)).help(advice(text))
        })
    }
}

impl fmt::Display for ModuleSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

impl From<ModuleSocket> for String {
    fn from(socket: ModuleSocket) -> Self {
        socket.to_string()
    }
}

/// What was probably meant.
fn advice(text: &str) -> String {
    let path = text.trim_start_matches("unix:").trim_start_matches("//");
    if path.starts_with('/') && !path.chars().any(char::is_control) {
        return format!("write {}", quoted(&format!("unix:{path}")));
    }
    "for example `unix:/run/consilium-enclave/socket`, or `vsock:16:4711` for port 4711 of the virtual machine \
     with the number 16"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        let read = |text: &str| text.parse::<ModuleSocket>().unwrap();
        assert_eq!(read("unix:/run/m/socket"), ModuleSocket::Unix("/run/m/socket".into()));
        assert_eq!(read("unix:a:b"), ModuleSocket::Unix("a:b".into()));
        assert_eq!(read("vsock:16:4711"), ModuleSocket::Vsock { cid: 16, port: 4711 });
        assert_eq!(read("vsock:4294967294:0"), ModuleSocket::Vsock { cid: u32::MAX - 1, port: 0 });
    }

    #[test]
    fn other_forms_are_refused_with_what_to_write() {
        for (bad, advice) in [
            ("", "for example `unix:/run"),
            ("unix:", "for example"),
            ("unix", "for example"),
            ("/run/m/socket", "write `unix:/run/m/socket`"),
            ("unix:a\u{1b}", "for example"),
            ("Unix:/run/m/socket", "for example"),
            ("vsock:16", "`vsock:16:4711`"),
            ("vsock:16:", "for example"),
            ("vsock::4711", "for example"),
            ("vsock:16:4711:1", "for example"),
            ("vsock:+16:4711", "for example"),
            ("vsock:-1:4711", "for example"),
            ("vsock:4294967295:4711", "for example"),
            ("vsock:16:4294967295", "for example"),
            ("vsock:4294967296:4711", "for example"),
            ("tcp:127.0.0.1:4711", "for example"),
        ] {
            let error = bad.parse::<ModuleSocket>().unwrap_err();
            assert_eq!(error.expected, "`unix:PATH` or `vsock:CID:PORT`");
            assert!(error.help.as_ref().is_some_and(|help| help.contains(advice)), "{bad:?}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(path in "[^\\p{Cc}]{1,60}", cid in 0..u32::MAX, port in 0..u32::MAX) {
            for socket in [ModuleSocket::Unix(path.into()), ModuleSocket::Vsock { cid, port }] {
                prop_assert_eq!(socket.to_string().parse::<ModuleSocket>(), Ok(socket));
            }
        }
    }
}
