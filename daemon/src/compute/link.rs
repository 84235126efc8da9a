//! The rounds of a query over a channel.

use crate::net::{Channel, ChannelError};
use consilium_protocol::context::{Link, LinkError};
use std::time::Duration;

/// A channel to the other compute party with a deadline for each round.
#[derive(Debug)]
pub(crate) struct ChannelLink {
    channel: Channel,
    deadline: Duration,
}

impl ChannelLink {
    pub(crate) fn new(channel: Channel, deadline: Duration) -> Self {
        Self { channel, deadline }
    }

    pub(crate) fn into_channel(self) -> Channel {
        self.channel
    }
}

impl Link for ChannelLink {
    async fn exchange(&mut self, frame: Vec<u8>, reply_bytes_max: usize) -> Result<Vec<u8>, LinkError> {
        let swap = self.channel.exchange(&frame, reply_bytes_max);
        match tokio::time::timeout(self.deadline, swap).await {
            Err(_) => Err(LinkError::Deadline(self.deadline.as_millis() as u64)),
            Ok(Err(ChannelError::Closed)) => Err(LinkError::Closed),
            Ok(Err(error)) => Err(LinkError::Transport(error.to_string())),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}
