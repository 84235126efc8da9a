//! The dealer: makes correlated randomness ahead of demand for the pairs of compute parties that name it.
//! Pairs that name none make it themselves.
//!
//! It learns architectures and how many queries are prepared, never a weight, an input or a result. Bundles
//! are derived from one secret that lives as long as the process. After a restart both parties see another
//! run; two halves of a batch from different runs are given up, and what they hold already stays good.

use crate::bulk::send_bulk;
use crate::message::{DealReply, DealRequest, MESSAGE_BYTES_MAX, MaskReply, MaskRequest, Obstacle, Refusal};
use crate::net::{Channel, ChannelError};
use crate::registry::{MaskId, MaskStore, RegistryError};
use crate::task::TaskTerms;
use consilium_protocol::algebra::Seed;
use consilium_protocol::graph::{Architecture, Plan};
use consilium_protocol::offline::dealer::{WeightMasks, corrections, sent_words, weight_mask};
use consilium_protocol::party::Party;
use consilium_protocol::stock::Demand;
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Most bundles of one request.
pub const DEAL_BUNDLES_MAX: u32 = 4096;
const PLANS_KEPT: usize = 4;

/// One running dealer.
pub struct Dealer {
    run: [u8; 16],
    secret: Seed,
    masks: MaskStore,
    plans: Mutex<HashMap<PlanOfPair, Arc<Dealt>>>,
}

/// A pair, and the digest of a plan.
type PlanOfPair = (String, [u8; 32]);

/// Everything about one plan that is the same for all its bundles.
struct Dealt {
    lanes: Vec<Vec<Demand>>,
    masks: Vec<Vec<Zeroizing<Vec<u64>>>>,
    ids: Vec<MaskId>,
}

impl std::fmt::Debug for Dealt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dealt({} models)", self.ids.len())
    }
}

impl WeightMasks for Dealt {
    fn mask(&self, model: usize, layer: usize) -> &[u64] {
        &self.masks[model][layer]
    }
}

impl Dealer {
    /// A dealer with a fresh secret over a durable store of weight masks.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn new(masks: MaskStore) -> Result<Self, Refusal> {
        let fresh = || Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error));
        let run = *fresh()?.as_bytes();
        Ok(Self { run, secret: fresh()?, masks, plans: Mutex::default() })
    }

    /// Serves one request for bundles from the party in `seat` of a pair that computes the task.
    ///
    /// # Errors
    /// The channel failed.
    pub async fn deal(
        self: Arc<Self>,
        mut channel: Channel,
        (pair, seat): (String, Party),
        request: DealRequest,
        terms: Arc<TaskTerms>,
    ) -> Result<(), ChannelError> {
        let dealer = self.clone();
        let prepared = {
            let (request, pair) = (request.clone(), pair.clone());
            tokio::task::spawn_blocking(move || dealer.prepare(&request, &pair, &terms)).await
        };
        let dealt = match prepared {
            Ok(Ok(dealt)) => dealt,
            Ok(Err(refusal)) => return channel.send_value(&DealReply::Refused(refusal)).await,
            Err(_) => {
                let refusal = Refusal::new(Obstacle::Local, "the dealer failed to prepare the plan");
                return channel.send_value(&DealReply::Refused(refusal)).await;
            }
        };
        let words = sent_words(&dealt.lanes, seat) as u64;
        channel.send_value(&DealReply::Dealing { run: self.run, words }).await?;
        for serial in request.first..request.first.saturating_add(u64::from(request.count)) {
            let zero = self.bundle_seed(Party::Zero, &pair, &request, serial);
            let one = self.bundle_seed(Party::One, &pair, &request, serial);
            let frame = if words == 0 {
                let own = if seat == Party::Zero { zero } else { one };
                Zeroizing::new(own.as_bytes().to_vec())
            } else {
                let dealt = dealt.clone();
                let made = tokio::task::spawn_blocking(move || {
                    let sent = Zeroizing::new(corrections(&dealt.lanes, &zero, &one, &*dealt));
                    let [to_zero, to_one] = &*sent;
                    let (own, words) = if seat == Party::Zero { (zero, to_zero) } else { (one, to_one) };
                    let mut frame = Zeroizing::new(Vec::with_capacity(16 + words.len() * 8));
                    frame.extend_from_slice(own.as_bytes());
                    frame.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                    frame
                });
                match made.await {
                    Ok(frame) => frame,
                    Err(_) => return channel.close().await,
                }
            };
            send_bulk(&mut channel, &frame).await?;
        }
        channel.close().await
    }

    /// Serves one request about weight masks from the party in `seat` of a pair, about that pair's alone.
    ///
    /// # Errors
    /// The channel failed.
    pub async fn mask(&self, mut channel: Channel, pair: &str, seat: Party) -> Result<(), ChannelError> {
        let request: MaskRequest = channel.receive_value(MESSAGE_BYTES_MAX).await?;
        let refuse = |error: RegistryError| MaskReply::Refused(Refusal::new(Obstacle::Dealer, error));
        let leader = seat == Party::Zero;
        let reply = match request {
            MaskRequest::Draw if leader => self.masks.draw(pair).map_or_else(refuse, MaskReply::Drawn),
            MaskRequest::Delete(mask) if leader => match self.masks.get(mask, pair) {
                Ok(_) => self.masks.delete(mask).map_or_else(refuse, |()| MaskReply::Deleted),
                Err(RegistryError::UnknownMask { .. }) => MaskReply::Deleted,
                Err(error) => refuse(error),
            },
            MaskRequest::Seed(mask) => match self.masks.get(mask, pair) {
                Ok(seeds) => {
                    channel.send_value(&MaskReply::Seed).await?;
                    let seed = if leader { &seeds.zero } else { &seeds.one };
                    channel.send(seed.as_slice()).await?;
                    return channel.close().await;
                }
                Err(error) => refuse(error),
            },
            _ => MaskReply::Refused(Refusal::new(Obstacle::NotAllowed, "only party Zero may do this")),
        };
        channel.send_value(&reply).await?;
        channel.close().await
    }

    /// The seed of a party for one bundle. The pair, the plan and the weight masks are part of its name, so
    /// that the same serial of another plan is another bundle, and nobody gets a seed of another pair.
    fn bundle_seed(&self, party: Party, pair: &str, request: &DealRequest, serial: u64) -> Seed {
        let mut plan = Context::new(&SHA256);
        plan.update(&(pair.len() as u64).to_le_bytes());
        plan.update(pair.as_bytes());
        plan.update(&request.epoch);
        plan.update(&request.plan);
        request.models.iter().for_each(|(_, mask)| plan.update(&mask.0));
        let hash = plan.finish();
        let mut name = [0; 16];
        name.copy_from_slice(&hash.as_ref()[..16]);
        let label = format!("bundle {party} {:032x}", u128::from_be_bytes(name));
        self.secret.derive(&label, serial)
    }

    fn prepare(&self, request: &DealRequest, pair: &str, terms: &TaskTerms) -> Result<Arc<Dealt>, Refusal> {
        let refuse = |explanation: String| Refusal::new(Obstacle::Request, explanation);
        if request.count == 0 || request.count > DEAL_BUNDLES_MAX {
            return Err(refuse(format!(
                "{} bundles; 1 to {DEAL_BUNDLES_MAX} are dealt at once",
                request.count
            )));
        }
        let ids: Vec<MaskId> = request.models.iter().map(|(_, mask)| *mask).collect();
        let name = (pair.to_owned(), request.plan);
        let kept = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(dealt) = kept.filter(|dealt| dealt.ids == ids) {
            return Ok(dealt);
        }
        let networks: Vec<Architecture> = request.models.iter().map(|(network, _)| network.clone()).collect();
        let plan = terms.plan(&networks, request.gadget).map_err(|error| refuse(error.to_string()))?;
        if plan.digest() != request.plan {
            return Err(refuse(
                "the dealer compiles another plan from the same models; compare rosters".into(),
            ));
        }
        let dealt = Arc::new(self.expand(pair, &plan, &networks, ids)?);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS_KEPT {
            plans.clear();
        }
        plans.insert(name, dealt.clone());
        Ok(dealt)
    }

    fn expand(
        &self,
        pair: &str,
        plan: &Plan,
        networks: &[Architecture],
        ids: Vec<MaskId>,
    ) -> Result<Dealt, Refusal> {
        let mut masks = Vec::with_capacity(ids.len());
        for (network, id) in networks.iter().zip(&ids) {
            let seeds = self.masks.get(*id, pair).map_err(|error| Refusal::new(Obstacle::Dealer, error))?;
            let [zero, one] = [Seed::from_bytes(*seeds.zero), Seed::from_bytes(*seeds.one)];
            masks.push(
                network
                    .lengths()
                    .into_iter()
                    .enumerate()
                    .map(|(layer, (weights, _))| {
                        let of = |seed: &Seed| layer_seed(seed, layer);
                        weight_mask(&of(&zero), &of(&one), weights)
                    })
                    .collect(),
            );
        }
        Ok(Dealt { lanes: plan.lanes(), masks, ids })
    }
}

/// The seed of one layer's mask within a model's.
pub fn layer_seed(seed: &Seed, layer: usize) -> Seed {
    seed.derive("consilium layer", layer as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::StorageKey;
    use consilium_protocol::stock::Gadget;

    #[test]
    fn seeds_of_one_pair_are_not_those_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let key = Arc::new(StorageKey::random().unwrap());
        let masks = MaskStore::create(&directory.path().join("masks.redb"), key).unwrap();
        let dealer = Dealer::new(masks).unwrap();
        let request = DealRequest {
            task: "chest".into(),
            epoch: [1; 16],
            models: Vec::new(),
            gadget: Gadget::Digits,
            plan: [2; 32],
            first: 0,
            count: 1,
        };
        let seed = |party, pair| dealer.bundle_seed(party, pair, &request, 0);
        assert_eq!(seed(Party::Zero, "main"), seed(Party::Zero, "main"));
        assert_ne!(seed(Party::Zero, "main"), seed(Party::Zero, "other"));
        assert_ne!(seed(Party::Zero, "main"), seed(Party::One, "main"));
    }
}
