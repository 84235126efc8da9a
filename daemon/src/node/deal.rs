//! A node that deals correlated randomness for pairs.

use super::{Shared, seat_in};
use crate::message::{DealReply, DealRequest, MESSAGE_BYTES_MAX, Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use consilium_config::Member;
use consilium_protocol::party::Party;
use std::sync::Arc;
use std::time::Duration;

/// For a request that has begun to end.
const REQUEST_WITHIN: Duration = Duration::from_secs(20);

impl Shared {
    /// The pair of a member that this node deals for, and the member's seat in it.
    pub(super) fn dealt_seat(&self, member: &Member) -> Option<(String, Party)> {
        let pairs = self.roster.pairs().iter().filter(|pair| pair.dealer.as_ref() == Some(&self.me.name));
        pairs.into_iter().find_map(|pair| Some((pair.name.to_string(), seat_in(pair, member)?)))
    }
}

/// Serves one request of a compute party that this node deals for.
///
/// # Errors
/// The channel failed.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    member: &Member,
    mut channel: Channel,
) -> Result<(), ChannelError> {
    let request: DealRequest = channel.receive_request(MESSAGE_BYTES_MAX, REQUEST_WITHIN).await?;
    let terms = shared.tasks.get(&request.task).cloned();
    let pair = terms.as_ref().and_then(|terms| shared.roster.seat_in(&terms.roster, member.name.as_str()));
    let seat = pair
        .filter(|pair| pair.dealer.as_ref() == Some(&shared.me.name))
        .and_then(|pair| Some((pair.name.to_string(), seat_in(pair, member)?)));
    match (&shared.dealer, terms, seat) {
        (Some(dealer), Some(terms), Some(seat)) => dealer.clone().deal(channel, seat, request, terms).await,
        _ => {
            let text = format!("this node does not deal for {} in task {}", member.name, request.task);
            channel.send_value(&DealReply::Refused(Refusal::new(Obstacle::NotAllowed, text))).await
        }
    }
}
