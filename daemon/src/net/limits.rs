//! Every bound of the network layer, by name.

use std::time::Duration;

use super::{NetError, seldom::LOGGED_EVERY};

/// Bounds on what peers can make this node spend, and the clocks of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections kept with one member; two, because both may dial at the same moment. As many again may come
    /// through relays, until direct ones have replaced them.
    pub connections_per_peer_max: u32,
    /// Connections kept with all members together.
    pub connections_max: u32,
    /// Connections in their handshake, each direction; of those towards us a newcomer takes the place of the oldest
    /// one of the busiest address.
    pub connections_pending_max: u32,
    /// Connections from one source that may come at once, and each second, before they are refused unheard. A member
    /// that proves its key gives its place back, so that this counts strangers and handshakes that fail. With these
    /// defaults one source fills at most 40 of the 64 places for handshakes.
    pub arrivals_burst: u32,
    /// See [`Limits::arrivals_burst`].
    pub arrivals_per_second: u32,
    /// Sources of connections that are told apart; all others share one measure.
    pub sources_max: usize,
    /// Channels that one member may hold open towards us.
    pub inbound_channels_per_peer_max: usize,
    /// Channels that one member may open towards us at once, and each second.
    pub channels_burst: u32,
    /// See [`Limits::channels_burst`].
    pub channels_per_second: u32,
    /// Channels that we hold open towards one member; further openings wait.
    pub outbound_channels_per_peer_max: usize,
    /// Accepted channels that wait for [`Incoming::next`](super::Incoming::next); more are refused.
    pub incoming_queue_channels: usize,
    /// Longest frame that any channel sends or takes.
    pub frame_bytes_max: usize,
    /// Members in the roster.
    pub members_max: usize,
    /// Connections of guests, who are no members and may only ask to join, at the same time.
    pub guests_max: usize,
    /// Guests let in within any minute.
    pub guests_per_minute: usize,
    /// How long a guest may stay.
    pub guest_within: Duration,
    /// Longest frame to or from a guest.
    pub guest_frame_bytes_max: usize,
    /// Places at relays that a node behind a NAT wants to hold.
    pub relays_wanted: usize,
    /// Places that we give as a relay, to all members.
    pub relay_places_max: usize,
    /// Connections that we carry as a relay, for all members.
    pub relay_circuits_max: usize,
    /// Connections that we carry as a relay for one member.
    pub relay_circuits_per_peer_max: usize,
    /// Bytes that we carry on one connection, both directions together. A pair that prepares its material through a
    /// relay moves some gigabytes in an hour.
    pub relay_circuit_bytes_max: u64,
    /// How long we carry one connection; both ends then make a new one.
    pub relay_circuit_within: Duration,
    /// Distance between two exchanges with the members that keep addresses for us.
    pub meet_every: Duration,
    /// The same while somebody waits for a member that is not connected.
    pub meet_spacing: Duration,
    /// How long an address counts that was not heard of again.
    pub met_for: Duration,
    /// Distance between two log lines about refused connections of one kind.
    pub refusals_logged_every: Duration,
    /// Time for TCP connection, Noise handshake and multiplexer together.
    pub handshake_within: Duration,
    /// Time for the peer to accept a channel on a live connection.
    pub negotiation_within: Duration,
    /// Distance between two pings of a connection.
    pub ping_every: Duration,
    /// Time for the answer to a ping; without one in this time after the last one was due, or with a write
    /// stuck for as long, the connection is given up.
    pub ping_within: Duration,
    /// Longest wait before the first repeated dial; doubles with every failure.
    pub redial_after: Duration,
    /// Longest wait between two dials.
    pub redial_after_max: Duration,
    /// Time to say goodbye to all peers at shutdown.
    pub shutdown_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_peer_max: 2,
            connections_max: 256,
            connections_pending_max: 64,
            arrivals_burst: 20,
            arrivals_per_second: 2,
            sources_max: 1024,
            inbound_channels_per_peer_max: 64,
            channels_burst: 400,
            channels_per_second: 200,
            outbound_channels_per_peer_max: 64,
            incoming_queue_channels: 256,
            frame_bytes_max: 64 << 20,
            members_max: 256,
            guests_max: 4,
            guests_per_minute: 30,
            guest_within: Duration::from_secs(30),
            guest_frame_bytes_max: 4 << 20,
            relays_wanted: 2,
            relay_places_max: 64,
            relay_circuits_max: 128,
            relay_circuits_per_peer_max: 32,
            relay_circuit_bytes_max: 256 << 30,
            relay_circuit_within: Duration::from_secs(24 * 3600),
            meet_every: Duration::from_secs(15),
            meet_spacing: Duration::from_secs(2),
            met_for: Duration::from_secs(120),
            refusals_logged_every: LOGGED_EVERY,
            handshake_within: Duration::from_secs(10),
            negotiation_within: Duration::from_secs(10),
            ping_every: Duration::from_secs(4),
            ping_within: Duration::from_secs(8),
            redial_after: Duration::from_millis(200),
            redial_after_max: Duration::from_secs(30),
            shutdown_within: Duration::from_secs(2),
        }
    }
}

/// The multiplexer reserves 256 KiB of window for each stream out of 1 GiB.
const CHANNELS_PER_PEER_CEILING: usize = 1024;
/// The length prefix of a frame has 32 bits; a quarter of that is more than any message needs.
const FRAME_BYTES_CEILING: usize = 1 << 30;

impl Limits {
    /// Streams that the multiplexer allows on one connection: the channels of both directions, and as many
    /// again for pings and channels still in negotiation.
    pub(super) fn streams_per_connection(&self) -> usize {
        2 * (self.inbound_channels_per_peer_max + self.outbound_channels_per_peer_max) + 256
    }

    /// How long a connection may say nothing before it counts as dead.
    pub(super) fn silence(&self) -> Duration {
        self.ping_every + self.ping_within
    }

    pub(super) fn check(&self) -> Result<(), NetError> {
        let bounds = [
            ("connections_per_peer_max", self.connections_per_peer_max as usize, 1, 8),
            ("connections_max", self.connections_max as usize, 1, 65_536),
            ("connections_pending_max", self.connections_pending_max as usize, 1, 65_536),
            ("arrivals_burst", self.arrivals_burst as usize, 1, 65_536),
            ("arrivals_per_second", self.arrivals_per_second as usize, 1, 65_536),
            ("sources_max", self.sources_max, 1, 65_536),
            ("channels_burst", self.channels_burst as usize, 1, 65_536),
            ("channels_per_second", self.channels_per_second as usize, 1, 65_536),
            ("relays_wanted", self.relays_wanted, 1, 8),
            ("relay_places_max", self.relay_places_max, 1, 1024),
            ("relay_circuits_max", self.relay_circuits_max, 1, 1024),
            ("relay_circuits_per_peer_max", self.relay_circuits_per_peer_max, 1, 1024),
            (
                "inbound_channels_per_peer_max",
                self.inbound_channels_per_peer_max,
                1,
                CHANNELS_PER_PEER_CEILING / 2,
            ),
            (
                "outbound_channels_per_peer_max",
                self.outbound_channels_per_peer_max,
                1,
                CHANNELS_PER_PEER_CEILING / 2,
            ),
            ("incoming_queue_channels", self.incoming_queue_channels, 1, 65_536),
            ("frame_bytes_max", self.frame_bytes_max, 1, FRAME_BYTES_CEILING),
            ("members_max", self.members_max, 1, 65_536),
            ("guests_max", self.guests_max, 1, 64),
            ("guests_per_minute", self.guests_per_minute, 1, 1000),
            ("guest_frame_bytes_max", self.guest_frame_bytes_max, 1, FRAME_BYTES_CEILING),
        ];
        for (name, found, least, most) in bounds {
            if !(least..=most).contains(&found) {
                return Err(NetError::Limit { name, found, least, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_zero_names_its_field() {
        Limits::default().check().unwrap();
        let bad = Limits { incoming_queue_channels: 0, ..Limits::default() };
        assert!(matches!(
            bad.check(),
            Err(NetError::Limit { name: "incoming_queue_channels", found: 0, .. })
        ));
    }

    #[test]
    fn the_largest_channel_counts_stay_inside_the_multiplexer() {
        let most = Limits {
            inbound_channels_per_peer_max: 512,
            outbound_channels_per_peer_max: 512,
            ..Limits::default()
        };
        most.check().unwrap();
        assert!(most.streams_per_connection() * (256 << 10) <= 1 << 30);
    }
}
