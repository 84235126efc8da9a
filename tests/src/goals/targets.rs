//! The goals themselves, for one model without vote and release.

use super::{Case, LinkKind};
use consilium::bench::Net;
use consilium_protocol::stock::Gadget;

/// What a case should not exceed; `None` where no goal was set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Milliseconds.
    pub ms: Option<f64>,
    /// Bytes in both directions together.
    pub bytes: Option<u64>,
}

/// The goal of a case.
pub fn goal(case: &Case) -> Goal {
    let Case { net, batch, link, gadget, .. } = *case;
    let ms = match (link, batch, net) {
        (LinkKind::Loopback, 1, Net::Table) => Some(1.5),
        (LinkKind::Loopback, 1, Net::Mlp) => Some(3.0),
        (LinkKind::Loopback, 1, Net::Cnn) => Some(50.0),
        (LinkKind::Loopback, 32, Net::Table) => Some(4.0),
        (LinkKind::Loopback, 32, Net::Mlp) => Some(15.0),
        (LinkKind::Loopback, 32, Net::Cnn) => Some(1000.0),
        (LinkKind::Wide, 1, _) => far(net, gadget),
        _ => None,
    };
    let bytes = match (batch, net, gadget) {
        (1, Net::Table, _) => Some(10_000),
        (1, Net::Mlp, Gadget::Keys) => Some(20_000),
        (1, Net::Mlp, Gadget::Digits | Gadget::Nibbles) => Some(60_000),
        (1, Net::Cnn, _) => Some(500_000),
        _ => None,
    };
    Goal { ms, bytes }
}

/// One question at 40 ms.
fn far(net: Net, gadget: Gadget) -> Option<f64> {
    match (net, gadget) {
        (Net::Table, Gadget::Keys) | (Net::Mlp, Gadget::Digits | Gadget::Nibbles) => Some(300.0),
        (Net::Mlp, Gadget::Keys) => Some(260.0),
        (Net::Cnn, Gadget::Keys) => Some(500.0),
        (Net::Cnn, Gadget::Digits | Gadget::Nibbles) => Some(900.0),
        (Net::Table, Gadget::Digits | Gadget::Nibbles) => None,
    }
}
