//! `consilium dashboard`: where the dashboard of this node is, with the token in its address.

use super::NodeArgs;
use super::output::{node_file, print_json};
use crate::http::read_token;
use clap::Args;
use miette::{IntoDiagnostic, Result, miette};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Arguments of `consilium dashboard`.
#[derive(Debug, Args)]
pub(super) struct DashboardArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(args: &DashboardArgs) -> Result<()> {
    let node = node_file(&args.node)?;
    let listen = node.http().listen.ok_or_else(|| {
        miette!(
            "this node serves no dashboard; write `listen = \"127.0.0.1:8000\"` under `[http]` in {} and restart it",
            args.node.config.display()
        )
    })?;
    let file = node.http_token_file();
    let token = read_token(&file).into_diagnostic()?;
    let base = format!("http://{}", from_here(listen));
    if args.node.json {
        let token_file = file.display().to_string();
        return print_json(&serde_json::json!({ "url": base, "token_file": token_file }));
    }
    // Browsers do not send what follows the sign; the page takes it from the address and forgets the address.
    println!("{base}/#token={}", token.as_str());
    Ok(())
}

/// An address that listens everywhere is reached on loopback.
fn from_here(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
        }
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_is_reached_from_here() {
        for (listen, here) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(from_here(listen.parse().unwrap()), here.parse().unwrap());
        }
    }
}
