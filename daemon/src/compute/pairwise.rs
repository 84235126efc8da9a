//! The two parties make a batch themselves.
//!
//! ```text
//! Zero --Terms: keys of which making, which transfers--> One
//! Zero <----------whether One still has these keys------ One
//! Zero --Keys: how, after swapping a few frames to see-- One      (if new keys are needed)
//! both: set up if needed, then make               (a thread of low priority each)
//! ```
//!
//! A side that fails says why in place of its next frame, so that both know.
//!
//! Keys and what transfers grow from live in memory and serve batch after batch. They are dropped when a
//! making fails, since the two sides may then be in different places.

use super::source::{Made, Order};
use super::{Compute, local_failed, peer_failed};
use crate::crash;
use crate::dealer::layer_seed;
use crate::message::{
    MESSAGE_BYTES_MAX, MakeKeys, MakeReply, MakeRequest, Obstacle, PROBE_BYTES, PairReply, Refusal,
};
use crate::net::{Channel, ChannelError, codec};
use crate::pool::Bundle;
use crate::registry::{MaskId, RegistryError};
use consilium_config::Transfers;
use consilium_protocol::algebra::Seed;
use consilium_protocol::context::{Dialogue, Link, LinkError};
use consilium_protocol::offline::dealer::weight_mask_share;
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::offline::pairwise::{self, Pairwise, PairwiseError, WeightMaskShares, bundles_max};
use consilium_protocol::party::Party;
use consilium_protocol::stock::Demand;
use consilium_protocol::wire::VERSION;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Longest computation of the other party between two frames. A party that falls silent altogether is noticed
/// sooner: it misses a ping, and its connection with all channels is given up.
const PIECE_WITHIN: Duration = Duration::from_secs(120);
/// Frames swapped to measure the link; the first is not counted.
const PROBES: u8 = 5;
/// Above this the bytes of column-wise transfers take less time than the computing of silent ones.
const FAST_BITS_PER_S: f64 = 5e9;
/// Room for a refusal where a shorter frame is awaited.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// Keys of earlier makings, under the name of the last.
#[derive(Debug, Default)]
pub(crate) struct Workshop(Option<([u8; 16], Pairwise)>);

/// The worker's end of the link: the runtime carries its frames.
struct Relayed(mpsc::Sender<Frame>);

struct Frame {
    bytes: Vec<u8>,
    reply_bytes_max: usize,
    reply: oneshot::Sender<Result<Vec<u8>, LinkError>>,
}

impl Link for Relayed {
    async fn exchange(&mut self, bytes: Vec<u8>, reply_bytes_max: usize) -> Result<Vec<u8>, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Frame { bytes, reply_bytes_max, reply }).await.map_err(|_| LinkError::Closed)?;
        answer.await.map_err(|_| LinkError::Closed)?
    }
}

/// This party's shares of the weight masks of an epoch's models.
struct OwnMasks(Vec<Vec<Zeroizing<Vec<u64>>>>);

impl WeightMaskShares for OwnMasks {
    fn share(&self, model: usize, layer: usize) -> Option<&[u64]> {
        Some(self.0.get(model)?.get(layer)?.as_slice())
    }
}

/// Why a batch was not made.
enum Failure {
    /// Something failed here, be it what the other party sent.
    Own(Refusal),
    /// The other party said that it gave up.
    Theirs(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Own(refusal)
    }
}

impl Compute {
    /// Makes this party's half of a batch together with the other party, which does the same.
    pub(super) async fn make_together(
        &self,
        order: &Order<'_>,
        channel: &mut Channel,
    ) -> Result<Made, Refusal> {
        let (refusal, theirs) = match self.try_to_make(order, channel).await {
            Ok(made) => return Ok(made),
            Err(Failure::Own(refusal)) => (refusal, false),
            Err(Failure::Theirs(refusal)) => (refusal, true),
        };
        let saying = async {
            channel.send_value(&PairReply::Refused(refusal.clone())).await?;
            // The other party reads no word before it has sent its frame, and then says a last one itself.
            while !theirs && gave_up(&channel.receive(MESSAGE_BYTES_MAX).await?).is_none() {}
            Ok::<_, ChannelError>(())
        };
        if !matches!(tokio::time::timeout(self.limits.round_deadline, saying).await, Ok(Ok(()))) {
            tracing::debug!("the other party did not hear why a batch is not made");
        }
        Err(refusal)
    }

    async fn try_to_make(&self, order: &Order<'_>, channel: &mut Channel) -> Result<Made, Failure> {
        // Masks are worn only for a batch that both make: One takes part when it gets here, Zero hears so.
        let early = match self.seat {
            Party::Zero => None,
            Party::One => Some(self.own_masks(order)?),
        };
        let mut workshop = self.workshop.lock().await;
        let (tag, keys) = self.agree_on_keys(&mut workshop, order, channel).await?;
        let own = match early {
            Some(own) => own,
            None => self.own_masks(order)?,
        };
        let extension = match keys {
            Some(_) => Extension::Silent,
            None => self.agree_on_transfers(channel).await?,
        };
        let lanes: Vec<Vec<Demand>> = order.epoch.lanes().to_vec();
        let count = order.count as usize;
        let (outgoing, frames) = mpsc::channel(1);
        let mut dialogue = Dialogue::new(Relayed(outgoing), self.seat, session(tag));
        let work = move || {
            futures::executor::block_on(async {
                let mut keys = match keys {
                    Some(keys) => keys,
                    None => Pairwise::set_up(&mut dialogue, extension).await?,
                };
                let made = keys.make(&mut dialogue, &lanes, &own, count).await?;
                Ok::<_, PairwiseError>((keys, made))
            })
        };
        let (outcome, gave_up) = tokio::join!(self.background.run(work), self.carry(frames, channel));
        let failure = |error| gave_up.map_or_else(|| Failure::Own(failed(error)), Failure::Theirs);
        let (keys, made) = outcome?.map_err(failure)?;
        *workshop = Workshop(Some((tag, keys)));
        let bundles = made.into_iter().map(|pairwise::Bundle { seed, dependent }| {
            order.progress.one_more();
            Bundle::Stored(seed, dependent)
        });
        Ok(Made { tag, bundles: bundles.collect() })
    }

    /// Carries the worker's frames, one after the other, whenever no query runs. Returns what the other party
    /// said if it gave up; the worker's link is then closed.
    async fn carry(&self, mut frames: mpsc::Receiver<Frame>, channel: &mut Channel) -> Option<Refusal> {
        while let Some(mut frame) = frames.recv().await {
            self.traffic.green().await;
            crash::frame(&mut frame.bytes);
            let swap = channel.exchange(&frame.bytes, frame.reply_bytes_max.max(REFUSAL_BYTES_MAX));
            let swapped = match tokio::time::timeout(PIECE_WITHIN, swap).await {
                Err(_) => Err(LinkError::Deadline(PIECE_WITHIN.as_millis() as u64)),
                Ok(Err(ChannelError::Closed)) => Err(LinkError::Closed),
                Ok(Err(error)) => Err(LinkError::Transport(error.to_string())),
                Ok(Ok(reply)) => match gave_up(&reply) {
                    Some(refusal) => return Some(refusal),
                    None => Ok(reply),
                },
            };
            let over = swapped.is_err();
            let _ = frame.reply.send(swapped);
            if over {
                break;
            }
        }
        None
    }

    /// Both name the making, and whether keys of an earlier one are at hand on both sides.
    async fn agree_on_keys(
        &self,
        workshop: &mut Workshop,
        order: &Order<'_>,
        channel: &mut Channel,
    ) -> Result<([u8; 16], Option<Pairwise>), Failure> {
        let held = workshop.0.take();
        let name = held.as_ref().map(|(name, _)| *name);
        let kept = |keep: bool| held.filter(|_| keep).map(|(_, keys)| keys);
        match self.seat {
            Party::Zero => {
                let tag = *Seed::random().map_err(local_failed)?.as_bytes();
                let request = MakeRequest { tag, keys: name, first: order.first, count: order.count };
                channel.send_value(&request).await.map_err(peer_failed)?;
                let MakeReply { keep } = self.hear(channel).await?;
                Ok((tag, kept(keep && name.is_some())))
            }
            Party::One => {
                let request: MakeRequest = self.hear(channel).await?;
                if (request.first, request.count) != (order.first, order.count) {
                    return Err(peer_failed("it makes another batch than it said").into());
                }
                let keep = name.is_some() && request.keys == name;
                channel.send_value(&MakeReply { keep }).await.map_err(peer_failed)?;
                Ok((request.tag, kept(keep)))
            }
        }
    }

    /// Party Zero chooses how new keys make transfers, by its configuration or by the speed of the link.
    async fn agree_on_transfers(&self, channel: &mut Channel) -> Result<Extension, Failure> {
        let keys = match self.seat {
            Party::One => {
                let first: MakeKeys = self.hear(channel).await?;
                if first.probes == 0 {
                    first
                } else {
                    self.probe(channel, first.probes.min(PROBES)).await?;
                    self.hear(channel).await?
                }
            }
            Party::Zero => {
                let silent = match self.limits.transfers {
                    Transfers::Iknp => false,
                    Transfers::Silent => true,
                    Transfers::Auto => {
                        let keys = MakeKeys { probes: PROBES, silent: true };
                        channel.send_value(&keys).await.map_err(peer_failed)?;
                        let rate = self.probe(channel, PROBES).await?;
                        tracing::debug!(gigabits_per_second = rate / 1e9, "measured the link");
                        rate < FAST_BITS_PER_S
                    }
                };
                let keys = MakeKeys { probes: 0, silent };
                channel.send_value(&keys).await.map_err(peer_failed)?;
                keys
            }
        };
        Ok(if keys.silent { Extension::Silent } else { Extension::Iknp })
    }

    /// Swaps frames with the other party; the bits per second of each direction.
    async fn probe(&self, channel: &mut Channel, frames: u8) -> Result<f64, Failure> {
        let frame = vec![0; PROBE_BYTES];
        let mut started = Instant::now();
        for number in 0..frames {
            let swap = channel.exchange(&frame, PROBE_BYTES);
            let reply = tokio::time::timeout(self.limits.query_deadline, swap).await;
            let reply = reply.map_err(|_| peer_failed("no frame in time"))?.map_err(peer_failed)?;
            if let Some(refusal) = gave_up(&reply) {
                return Err(Failure::Theirs(refusal));
            }
            // The first frame only opens the window of the connection.
            if number == 0 {
                started = Instant::now();
            }
        }
        let bits = 8.0 * PROBE_BYTES as f64 * f64::from(frames.saturating_sub(1));
        Ok(bits / started.elapsed().as_secs_f64().max(1e-9))
    }

    /// The other party's next word before the making.
    async fn hear<T: DeserializeOwned>(&self, channel: &mut Channel) -> Result<T, Failure> {
        let word = channel.receive(MESSAGE_BYTES_MAX);
        let word = tokio::time::timeout(self.limits.query_deadline, word).await;
        let word = word.map_err(|_| peer_failed("no word in time"))?.map_err(peer_failed)?;
        match gave_up(&word) {
            Some(refusal) => Err(Failure::Theirs(refusal)),
            None => Ok(codec::decode(&word).map_err(peer_failed)?),
        }
    }

    /// Expands this party's shares of the masks, and records durably that the batch wears them.
    fn own_masks(&self, order: &Order<'_>) -> Result<OwnMasks, Refusal> {
        let masks = self.own_masks.as_ref().ok_or_else(|| local_failed("a seat without own masks"))?;
        let most = bundles_max(order.epoch.lanes(), order.count as usize).map_err(local_failed)?;
        let models = &order.epoch.models().0;
        let worn = |error: RegistryError| match error {
            RegistryError::Worn { mask, .. } => {
                let owner = models.iter().find(|model| model.mask == mask).map_or("", |model| &model.owner);
                let text = format!("{error}: owner {owner} must publish its models anew");
                Refusal::new(Obstacle::Model, text)
            }
            other => local_failed(other),
        };
        let names: Vec<MaskId> = models.iter().map(|model| model.mask).collect();
        let seeds = masks.wear(&names, u64::from(order.count), most).map_err(worn)?;
        let own = models.iter().zip(seeds).map(|(model, seed)| {
            let seed = Seed::from_bytes(*seed);
            let share = |(layer, (weights, _))| weight_mask_share(&layer_seed(&seed, layer), weights);
            model.network.lengths().into_iter().enumerate().map(share).collect()
        });
        Ok(OwnMasks(own.collect()))
    }
}

fn session(tag: [u8; 16]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&tag[..8]);
    u64::from_le_bytes(bytes)
}

/// The refusal that stands where a frame was awaited, if one does. A frame begins with its version.
fn gave_up(frame: &[u8]) -> Option<Refusal> {
    if frame.starts_with(&VERSION.to_le_bytes()) {
        return None;
    }
    match codec::decode(frame) {
        Ok(PairReply::Refused(refusal)) => Some(gave_up_because(refusal)),
        _ => None,
    }
}

/// A refusal of the other party, in words of this one.
pub(super) fn gave_up_because(refusal: Refusal) -> Refusal {
    Refusal::new(refusal.obstacle, format!("the other compute party gave up: {}", refusal.explanation))
}

fn failed(error: PairwiseError) -> Refusal {
    match error {
        PairwiseError::Dialogue(error) => Refusal::new(Obstacle::Peer, error),
        other => local_failed(other),
    }
}
