//! Where correlated randomness comes from.
//!
//! A source makes this party's half of a batch. Which one a seat has follows from the roster, which both
//! parties hold alike; its name is kept with the pool and told with every answer.

use super::Compute;
use super::epoch::Epoch;
use super::models::dealer_failed;
use super::progress::Progress;
use crate::bulk::receive_bulk;
use crate::message::{DealReply, DealRequest, MESSAGE_BYTES_MAX, Refusal};
use crate::net::{Channel, Role};
use crate::pool::{BUNDLE_WORDS_MAX, Bundle};
use crate::registry::MaskId;
use consilium_protocol::algebra::Seed;
use consilium_protocol::graph::Architecture;
use consilium_protocol::party::Party;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A source of correlated randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A third party deals.
    Dealer,
    /// The two parties make it themselves.
    Pairwise,
}

/// One batch that is to be made.
pub(crate) struct Order<'o> {
    /// The epoch, with its pool, plan and models.
    pub(crate) epoch: &'o Arc<Epoch>,
    /// First serial.
    pub(crate) first: u64,
    /// Number of serials.
    pub(crate) count: u32,
    /// Where each finished bundle is counted.
    pub(crate) progress: &'o Progress,
}

/// This party's half of a batch.
pub(crate) struct Made {
    /// Name of this making, the same for both halves of a batch and for no other batch.
    pub(crate) tag: [u8; 16],
    /// One bundle for each serial, in their order, all of the same length.
    pub(crate) bundles: Vec<Bundle>,
}

impl Source {
    /// What answers say of it.
    pub(crate) fn provenance(self) -> &'static str {
        match self {
            Self::Dealer => "dealer",
            Self::Pairwise => "pairwise",
        }
    }

    /// Makes this party's half of a batch. Both parties do so at the same time; `channel` leads to the other
    /// one, and a source that uses it leaves it as it found it, between two frames. Between pieces of work of
    /// its own a source awaits `compute.traffic.green()`.
    ///
    /// # Errors
    /// The refusal says who failed. Serials of a batch that failed are not used again.
    pub(crate) async fn make(
        self,
        compute: &Compute,
        order: &Order<'_>,
        channel: &mut Channel,
    ) -> Result<Made, Refusal> {
        match self {
            Self::Dealer => compute.deal(order).await,
            Self::Pairwise => compute.make_together(order, channel).await,
        }
    }
}

impl Compute {
    async fn deal(&self, order: &Order<'_>) -> Result<Made, Refusal> {
        let models = order.epoch.models().0.iter();
        let models: Vec<(Architecture, MaskId)> =
            models.map(|model| (model.network.clone(), model.mask)).collect();
        let request = DealRequest {
            task: order.epoch.terms().name().to_owned(),
            epoch: order.epoch.id(),
            models,
            gadget: order.epoch.plan().gadget(),
            plan: order.epoch.plan().digest(),
            first: order.first,
            count: order.count,
        };
        let mut channel = self.dealer_channel(Role::Deal).await?;
        let dealing = receive_bundles(&mut channel, self.seat, &request, order.progress);
        let late = |_| dealer_failed("no bundles in time");
        tokio::time::timeout(self.making_deadline(), dealing).await.map_err(late)?
    }
}

async fn receive_bundles(
    channel: &mut Channel,
    seat: Party,
    request: &DealRequest,
    progress: &Progress,
) -> Result<Made, Refusal> {
    channel.send_value(request).await.map_err(dealer_failed)?;
    let (tag, words) = match channel.receive_value(MESSAGE_BYTES_MAX).await.map_err(dealer_failed)? {
        DealReply::Dealing { run, words } => (run, words),
        DealReply::Refused(refusal) => return Err(refusal),
    };
    let words = usize::try_from(words).ok().filter(|words| *words <= BUNDLE_WORDS_MAX);
    let expected = 16 + words.ok_or_else(|| dealer_failed("bundles of an impossible length"))? * 8;
    let mut bundles = Vec::with_capacity(request.count as usize);
    for _ in 0..request.count {
        let frame = receive_bulk(channel, expected).await.map_err(dealer_failed)?;
        let seed = frame.first_chunk::<16>().filter(|_| frame.len() == expected);
        let seed = Seed::from_bytes(*seed.ok_or_else(|| dealer_failed("a bundle of the wrong length"))?);
        let words = frame[16..].as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let words = Zeroizing::new(words.collect());
        bundles.push(match seat {
            Party::Zero => Bundle::Seeded(seed, words),
            Party::One => Bundle::Stored(seed, words),
        });
        progress.one_more();
    }
    Ok(Made { tag, bundles })
}
