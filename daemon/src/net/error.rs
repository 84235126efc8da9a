//! What can go wrong with a network as a whole.

use std::{error, io, time::Duration};

use thiserror::Error;

use super::{Address, DialFault, PeerId, Role};

/// What can go wrong between starting a network and holding a channel.
#[derive(Debug, Error)]
pub enum NetError {
    /// A limit lies outside what the wire formats allow.
    #[error("limit {name} is {found}; it must lie between {least} and {most}")]
    Limit {
        /// The field of [`Limits`].
        name: &'static str,
        /// Its value.
        found: usize,
        /// Least value allowed.
        least: usize,
        /// Largest value allowed.
        most: usize,
    },
    /// More members than the limit.
    #[error("the roster has {found} members, the limit is {limit}")]
    TooManyMembers {
        /// Members given.
        found: usize,
        /// Members allowed.
        limit: usize,
    },
    /// A member stands in the roster twice.
    #[error("{peer} stands in the roster twice; merge its addresses into one entry")]
    DuplicateMember {
        /// The member.
        peer: PeerId,
    },
    /// A peer that is not in our roster.
    #[error("{peer} is not a member; add it to the roster first")]
    NotAMember {
        /// The peer.
        peer: PeerId,
    },
    /// A host name where an IP address is needed.
    #[error("cannot listen on {address}: give an IP address, such as /ip4/0.0.0.0/tcp/7700")]
    ListenName {
        /// The address.
        address: Address,
    },
    /// An address of QUIC in a build without it.
    #[error(
        "cannot listen on {address}: this program was built without QUIC; listen on /tcp/, or build it with \
             `--features quic`"
    )]
    NoQuic {
        /// The address.
        address: Address,
    },
    /// QUIC's library would write its keys to a file.
    #[error(
        "SSLKEYLOGFILE is set, by which the keys of QUIC's connections would be written to a file; unset it"
    )]
    KeyLog,
    /// The machine's interfaces cannot be watched for multicast DNS.
    #[error("cannot look for members on the local network: {source}; set `mdns = false` to do without")]
    Multicast {
        /// What the system said.
        source: io::Error,
    },
    /// Who cannot be reached cannot relay.
    #[error("a node behind a NAT cannot relay for others; set only one of `behind_nat` and `relay`")]
    RelayBehindNat,
    /// The system refused a listening address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The key could not be used for Noise.
    #[error("cannot set up Noise with this identity: {source}")]
    Noise {
        /// What the library said.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// Not called from within a tokio runtime.
    #[error("the network must be started inside a tokio runtime")]
    NoRuntime,
    /// The peer's places for our channels are all taken.
    #[error("{peer} has no place for another {role} channel; close some or try later")]
    Busy {
        /// The peer.
        peer: PeerId,
        /// The role asked for.
        role: Role,
    },
    /// The peer runs a version that does not know the role.
    #[error("{peer} does not speak {}; one of the two versions is out of date", role.protocol())]
    Unsupported {
        /// The peer.
        peer: PeerId,
        /// The role asked for.
        role: Role,
    },
    /// No channel in time.
    #[error("no {role} channel to {peer} within {within:?} ({})", reason(*connected, fault.as_ref()))]
    Deadline {
        /// The peer.
        peer: PeerId,
        /// The role asked for.
        role: Role,
        /// The time given.
        within: Duration,
        /// Whether the peer was connected when time ran out.
        connected: bool,
        /// Why the last dial failed, if one did.
        fault: Option<DialFault>,
    },
    /// The network was shut down.
    #[error("the network is shut down")]
    Stopped,
}

fn reason(connected: bool, fault: Option<&DialFault>) -> String {
    match (connected, fault) {
        (true, _) => "connected, but it did not accept".to_owned(),
        (false, Some(fault)) => fault.to_string(),
        (false, None) => "not connected".to_owned(),
    }
}
