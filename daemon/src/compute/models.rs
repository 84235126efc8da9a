//! Models of owners: receiving shares, opening masked weights, withdrawing. What an owner registers at once,
//! one model or several, takes every step as one.

use super::epoch::{HeldModel, HeldModels};
use super::{Compute, local_failed, peer_failed};
use crate::bulk::{receive_bulk, send_bulk};
use crate::dealer::layer_seed;
use crate::message::{
    MESSAGE_BYTES_MAX, MaskReply, MaskRequest, Obstacle, PairReply, PairRequest, PublishReply,
    PublishRequest, Refusal,
};
use crate::net::{Channel, ChannelError, PeerId, Role};
use crate::registry::{
    Announcement, MaskId, ModelId, ModelRecord, ModelState, Registry, RegistryError, SHARE_VALUES_MAX, Shard,
};
use crate::task::TaskTerms;
use consilium_protocol::algebra::Seed;
use consilium_protocol::evaluate::shared::SharedModel;
use consilium_protocol::graph::Architecture;
use consilium_protocol::offline::dealer::weight_mask_share;
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::Gadget;
use ring::digest::{Context, SHA256};
use std::collections::HashSet;
use std::sync::Arc;
use zeroize::Zeroizing;

impl Compute {
    /// Serves an owner's channel until it closes.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve_owner(
        self: Arc<Self>,
        mut channel: Channel,
        (owner, peer): (String, PeerId),
    ) -> Result<(), ChannelError> {
        loop {
            let begun = channel.receive_request(MESSAGE_BYTES_MAX, self.limits.round_deadline);
            let request = match begun.await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let reply = match self.publish(&mut channel, (&owner, peer), request).await {
                Ok(reply) => reply,
                Err(refusal) => {
                    let obstacle = refusal.obstacle;
                    if let Some(unlogged) = self.said.note((owner.clone(), obstacle)) {
                        tracing::warn!(
                            owner,
                            verdict = "refused",
                            ?obstacle,
                            unlogged,
                            "refused an owner: {refusal}"
                        );
                    }
                    PublishReply::Refused(refusal)
                }
            };
            channel.send_value(&reply).await?;
        }
    }

    async fn publish(
        self: &Arc<Self>,
        channel: &mut Channel,
        (owner, peer): (&str, PeerId),
        request: PublishRequest,
    ) -> Result<PublishReply, Refusal> {
        match request {
            PublishRequest::Announce { task, task_digest, networks } => {
                self.check_models(owner, &task, &networks)?;
                if self.task(&task)?.digest != task_digest {
                    let text = format!("the owner's roster has other terms for task {task}; compare rosters");
                    return Err(Refusal::new(Obstacle::Task, text));
                }
                self.require_zero()?;
                Ok(PublishReply::Masks(self.draw_masks(networks.len()).await?))
            }
            PublishRequest::Share(announced) => {
                if announced.owner != owner {
                    return Err(Refusal::new(Obstacle::NotAllowed, "a model is published by its owner"));
                }
                let networks: Vec<_> = announced.shards.iter().map(|shard| shard.network.clone()).collect();
                self.check_models(owner, &announced.task, &networks)?;
                if announced.encoding != Some(self.task(&announced.task)?.encoding()) {
                    let text = "the model is written by other terms than this roster's; compare rosters and versions";
                    return Err(Refusal::new(Obstacle::Task, text));
                }
                self.check_data_epoch(&announced).await?;
                self.receive_share(channel, announced).await?;
                Ok(PublishReply::Stored)
            }
            PublishRequest::Activate { model } => {
                self.require_zero()?;
                let record = self.owned(owner, model)?;
                self.open_weights(model).await?;
                self.retire_older(&record).await?;
                {
                    // An epoch that begins just now may have been agreed on without this model.
                    let _changing = self.changing.lock().await;
                    self.change_epoch(&record.announced.task);
                }
                let ModelRecord { announced, .. } = record;
                let models = announced.shards.len();
                tracing::info!(owner, task = announced.task, model = %model, models, "ready to vote");
                Ok(PublishReply::Ready)
            }
            PublishRequest::Withdraw { model } => {
                let record = self.owned(owner, model)?;
                self.withdraw(&record).await?;
                Ok(PublishReply::Withdrawn)
            }
            PublishRequest::Books { task } => {
                Ok(PublishReply::Books(Box::new(self.own_books(owner, &task).await?)))
            }
            PublishRequest::State(signed) => {
                Ok(PublishReply::Recorded(self.hear_statement((owner, peer), signed).await?))
            }
        }
    }

    fn require_zero(&self) -> Result<(), Refusal> {
        match self.seat {
            Party::Zero => Ok(()),
            Party::One => Err(Refusal::new(Obstacle::NotAllowed, "this is a request for party Zero")),
        }
    }

    fn owned(&self, owner: &str, model: ModelId) -> Result<ModelRecord, Refusal> {
        let record = self.registry.model(model).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        if record.announced.owner == owner {
            Ok(record)
        } else {
            Err(Refusal::new(Obstacle::NotAllowed, "the model belongs to another owner"))
        }
    }

    fn check_models(&self, owner: &str, task: &str, networks: &[Architecture]) -> Result<(), Refusal> {
        let terms = self.task(task)?;
        if !terms.has_owner(owner) {
            let text = format!("the roster does not list {owner} as an owner of task {task}");
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        terms.check_shards(networks.len())?;
        let lengths = networks.iter().flat_map(Architecture::lengths);
        let parameters = lengths.fold(0usize, |sum, (w, b)| sum.saturating_add(w).saturating_add(b));
        if parameters > SHARE_VALUES_MAX {
            let text = format!("{parameters} parameters; {SHARE_VALUES_MAX} are allowed at once");
            return Err(Refusal::new(Obstacle::Model, text));
        }
        terms.plan(networks, Gadget::Digits).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        Ok(())
    }

    async fn receive_share(&self, channel: &mut Channel, announced: Announcement) -> Result<(), Refusal> {
        let words: usize = lengths(&announced).map(|(weight, bias)| weight + bias).sum();
        let expected = if self.seat == Party::Zero { 16 } else { words * 8 };
        let failed =
            |error: ChannelError| Refusal::new(Obstacle::Request, format!("the model's share: {error}"));
        let frame = receive_bulk(channel, expected).await.map_err(failed)?;
        let share = match (self.seat, <[u8; 16]>::try_from(frame.as_slice())) {
            (Party::Zero, Ok(seed)) => Additive::expand(&Seed::from_bytes(seed), words),
            _ => {
                frame.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>().into()
            }
        };
        let model = announced.model;
        let record = self.registry.register(announced).map_err(model_failed)?;
        if matches!(record.state, ModelState::Announced | ModelState::Shared) {
            self.registry.put_share(model, &share).map_err(model_failed)?;
        }
        Ok(())
    }

    async fn draw_masks(&self, count: usize) -> Result<Vec<MaskId>, Refusal> {
        let mut masks = Vec::with_capacity(count);
        for _ in 0..count {
            masks.push(self.draw_mask().await?);
        }
        Ok(masks)
    }

    async fn draw_mask(&self) -> Result<MaskId, Refusal> {
        if self.own_masks.is_some() {
            return Seed::random().map(|name| MaskId(*name.as_bytes())).map_err(local_failed);
        }
        let mut channel = self.dealer_channel(Role::Mask).await?;
        match mask_call(&mut channel, MaskRequest::Draw).await? {
            MaskReply::Drawn(mask) => Ok(mask),
            MaskReply::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::new(Obstacle::Dealer, "the dealer answered something else")),
        }
    }

    /// This party's seed of a mask: its own, or the one that the dealer drew for it.
    async fn mask_seed(&self, mask: MaskId) -> Result<Seed, Refusal> {
        if let Some(masks) = &self.own_masks {
            return masks.own(mask).map(|seed| Seed::from_bytes(*seed)).map_err(model_failed);
        }
        let mut channel = self.dealer_channel(Role::Mask).await?;
        match mask_call(&mut channel, MaskRequest::Seed(mask)).await? {
            MaskReply::Seed => {
                let bytes = Zeroizing::new(channel.receive(16).await.map_err(dealer_failed)?);
                let seed = <[u8; 16]>::try_from(bytes.as_slice()).map_err(dealer_failed)?;
                Ok(Seed::from_bytes(seed))
            }
            MaskReply::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::new(Obstacle::Dealer, "the dealer answered something else")),
        }
    }

    pub(super) async fn dealer_channel(&self, role: Role) -> Result<Channel, Refusal> {
        let dealer = self.dealer.ok_or_else(|| dealer_failed("the pair names none"))?;
        self.network.open(dealer, role, self.limits.round_deadline).await.map_err(dealer_failed)
    }

    /// This party's side of opening the masked weights of a registration, pinned durably before it is
    /// returned. It is the same bytes each time, so a party that missed it may get it again.
    pub(super) async fn own_opening(&self, model: ModelId) -> Result<Zeroizing<Vec<u64>>, Refusal> {
        let record = self.registry.model(model).map_err(model_failed)?;
        let share = self.registry.share(model).map_err(model_failed)?;
        let words = lengths(&record.announced).map(|(weights, _)| weights).sum();
        let mut opening = Zeroizing::new(Vec::with_capacity(words));
        let mut digests = Vec::with_capacity(record.announced.shards.len());
        let mut rest = share.as_slice();
        for Shard { network, mask } in &record.announced.shards {
            let seed = self.mask_seed(*mask).await?;
            let start = opening.len();
            for (layer, (weights, biases)) in network.lengths().into_iter().enumerate() {
                let (own, left) = cut(rest, weights, biases)?;
                let mask = weight_mask_share(&layer_seed(&seed, layer), weights);
                opening.extend(own.iter().zip(mask.iter()).map(|(weight, mask)| weight.wrapping_sub(*mask)));
                rest = left;
            }
            digests.push((*mask, sha256(&opening[start..])));
        }
        self.registry.pin_opening(model, &digests).map_err(model_failed)?;
        Ok(opening)
    }

    /// Party Zero: opens the masked weights together with party One.
    async fn open_weights(&self, model: ModelId) -> Result<(), Refusal> {
        let record = self.registry.model(model).map_err(model_failed)?;
        let words: usize = lengths(&record.announced).map(|(weight, _)| weight).sum();
        let own = self.own_opening(model).await?;
        let mut channel = self.pair_channel().await?;
        channel.send_value(&PairRequest::Open { model }).await.map_err(peer_failed)?;
        let frame: Vec<u8> = own.iter().flat_map(|word| word.to_le_bytes()).collect();
        send_bulk(&mut channel, &frame).await.map_err(peer_failed)?;
        match channel.receive_value(MESSAGE_BYTES_MAX).await.map_err(peer_failed)? {
            PairReply::Opening => {}
            PairReply::Refused(refusal) => return Err(refusal),
            _ => return Err(peer_failed("answered something else")),
        }
        let theirs = receive_bulk(&mut channel, words * 8).await.map_err(peer_failed)?;
        self.finish_opening(model, &own, &theirs)
    }

    /// Adds both openings and makes the registration ready.
    pub(super) fn finish_opening(&self, model: ModelId, own: &[u64], theirs: &[u8]) -> Result<(), Refusal> {
        let (chunks, rest) = theirs.as_chunks();
        if chunks.len() != own.len() || !rest.is_empty() {
            return Err(peer_failed(format!(
                "its opening has {} bytes, expected {}",
                theirs.len(),
                own.len() * 8
            )));
        }
        let opened: Vec<u64> =
            own.iter().zip(chunks).map(|(own, bytes)| own.wrapping_add(u64::from_le_bytes(*bytes))).collect();
        match self.registry.put_opened(model, &opened) {
            Err(RegistryError::State { .. })
                if self.registry.opened(model).is_ok_and(|old| *old == opened) =>
            {
                Ok(())
            }
            other => other.map_err(model_failed),
        }
    }

    /// Withdraws every other registration of the same owner but a newer one.
    async fn retire_older(&self, newest: &ModelRecord) -> Result<(), Refusal> {
        for record in self.registry.list().map_err(model_failed)? {
            let (old, new) = (&record.announced, &newest.announced);
            if old.task == new.task
                && old.owner == new.owner
                && old.model != new.model
                && old.version <= new.version
            {
                self.withdraw(&record).await?;
            }
        }
        Ok(())
    }

    /// Removes a registration here and on the other side, and its masks at the dealer. If the other party cannot
    /// be told now, it is told at the next greeting.
    async fn withdraw(&self, record: &ModelRecord) -> Result<(), Refusal> {
        let model = record.announced.model;
        {
            let _changing = self.changing.lock().await;
            self.take_away(record).await?;
        }
        match self.ask_other(&PairRequest::Withdraw { model }).await {
            Ok(_) => self.registry.told(model).map_err(model_failed)?,
            Err(refusal) => tracing::warn!(model = %model, "the other party hears of it later: {refusal}"),
        }
        Ok(())
    }

    /// The other party withdrew a model. The caller holds `changing`.
    pub(super) async fn hear_withdrawn(&self, model: ModelId) -> Result<(), Refusal> {
        match self.registry.model(model) {
            Ok(record) => self.take_away(&record).await?,
            Err(RegistryError::Unknown { .. }) => {}
            Err(error) => return Err(model_failed(error)),
        }
        self.registry.told(model).map_err(model_failed)
    }

    /// Removes a registration here, with every pool that was made for it. The caller holds `changing`.
    async fn take_away(&self, record: &ModelRecord) -> Result<(), Refusal> {
        let (model, task) = (record.announced.model, record.announced.task.as_str());
        self.change_epoch(task);
        self.retire_pools(|_, purpose| purpose.models.iter().any(|(held, _)| *held == model)).await?;
        self.registry.withdraw(model).map_err(model_failed)?;
        tracing::info!(owner = record.announced.owner, task, model = %model, "a model was withdrawn");
        let mut masks = record.announced.shards.iter().map(|shard| shard.mask);
        match &self.own_masks {
            Some(own) => masks.try_for_each(|mask| own.delete(mask)).map_err(model_failed)?,
            None if self.seat == Party::Zero => self.delete_masks(masks).await,
            None => {}
        }
        Ok(())
    }

    /// The models are gone already; a mask that stays at the dealer hides nothing any more.
    async fn delete_masks(&self, masks: impl Iterator<Item = MaskId>) {
        let deleting = async {
            for mask in masks {
                let mut dealer = self.dealer_channel(Role::Mask).await?;
                mask_call(&mut dealer, MaskRequest::Delete(mask)).await?;
            }
            Ok::<_, Refusal>(())
        };
        match tokio::time::timeout(self.limits.round_deadline, deleting).await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => tracing::warn!("the dealer keeps masks of withdrawn models: {refusal}"),
            Err(_) => tracing::warn!("the dealer keeps masks of withdrawn models: no answer in time"),
        }
    }

    /// Loads the models of an epoch from the registry, in this order: at most one registration for each owner
    /// that the roster lists, whoever named them.
    pub(super) fn load_models(&self, terms: &TaskTerms, ids: &[ModelId]) -> Result<HeldModels, Refusal> {
        let mut owners = HashSet::new();
        for id in ids {
            let Announcement { owner, shards, .. } =
                self.registry.model(*id).map_err(model_failed)?.announced;
            terms.check_shards(shards.len())?;
            if !terms.has_owner(&owner) || !owners.insert(owner) {
                let text =
                    format!("model {id} may not vote in task {}, or its owner votes twice", terms.name());
                return Err(Refusal::new(Obstacle::Models, text));
            }
        }
        let mut held = Vec::with_capacity(ids.len() * terms.shards());
        for id in ids {
            self.load(*id, &mut held)?;
        }
        Ok(HeldModels(held))
    }

    /// Loads every model of a registration.
    fn load(&self, id: ModelId, held: &mut Vec<Arc<HeldModel>>) -> Result<(), Refusal> {
        let announced = self.registry.model(id).map_err(model_failed)?.announced;
        let share = self.registry.share(id).map_err(model_failed)?;
        let opened = self.registry.opened(id).map_err(model_failed)?;
        let (mut share, mut opened) = (share.as_slice(), opened.as_slice());
        for shard in announced.shards {
            let lengths = shard.network.lengths();
            let (own, rest) = cut(share, lengths.iter().map(|(weight, bias)| weight + bias).sum(), 0)?;
            share = rest;
            let mut openings = Vec::with_capacity(lengths.len());
            for (weights, _) in &lengths {
                let (layer, rest) = cut(opened, *weights, 0)?;
                openings.push(Zeroizing::new(layer.to_vec()));
                opened = rest;
            }
            let share = SharedModel::cut(&lengths, own).map_err(local_failed)?;
            held.push(Arc::new(HeldModel {
                owner: announced.owner.clone(),
                data_epoch: announced.data_epoch,
                registration: id,
                network: shard.network,
                mask: shard.mask,
                share,
                openings,
            }));
        }
        Ok(())
    }
}

/// Registrations of a task that are ready, one per owner that the roster lists (the newest version), in the
/// order of owners' names.
pub(super) fn ready(registry: &Registry, terms: &TaskTerms) -> Result<Vec<ModelRecord>, RegistryError> {
    let mut models: Vec<ModelRecord> = registry.list()?;
    models.retain(|record| record.state == ModelState::Ready && may_vote(record, terms));
    let rank =
        |record: &ModelRecord| (record.announced.owner.clone(), std::cmp::Reverse(record.announced.version));
    models.sort_by_key(rank);
    models.dedup_by(|later, first| later.announced.owner == first.announced.owner);
    Ok(models)
}

/// Whether the roster lets a registration vote, which may have changed since it was published.
fn may_vote(record: &ModelRecord, terms: &TaskTerms) -> bool {
    let announced = &record.announced;
    announced.task == terms.name()
        && terms.has_owner(&announced.owner)
        && announced.shards.len() == terms.shards()
        && !is_written_otherwise(announced, terms)
}

/// Whether the words of a registration mean something else since the task's terms changed.
fn is_written_otherwise(announced: &Announcement, terms: &TaskTerms) -> bool {
    announced.encoding.is_some_and(|encoding| encoding != terms.encoding())
}

/// Why there are too few registrations for an answer.
pub(super) fn too_few(registry: &Registry, terms: &TaskTerms, ready: usize) -> Refusal {
    let (least, shards) = (terms.roster.owners_min, terms.shards());
    let each = if shards == 1 { String::new() } else { format!(", {shards} models each") };
    let mut text = format!(
        "the models of {ready} of at least {least} owners are ready{each}; owners publish with `consilium \
         model publish`"
    );
    for record in registry.list().unwrap_or_default() {
        let Announcement { task, owner, shards: found, .. } = &record.announced;
        if task != terms.name() || !terms.has_owner(owner) {
            continue;
        }
        if found.len() != shards {
            let more =
                format!("; {owner} published {} of {shards} models and must publish anew", found.len());
            text.push_str(&more);
        } else if is_written_otherwise(&record.announced, terms) {
            let more = format!(
                "; {owner} published before kind, input, numbers or bounds of the task changed and must publish anew"
            );
            text.push_str(&more);
        }
    }
    Refusal::new(Obstacle::Models, text)
}

/// Lengths of weights and bias of each linear layer of each model.
fn lengths(announced: &Announcement) -> impl Iterator<Item = (usize, usize)> + '_ {
    announced.shards.iter().flat_map(|shard| shard.network.lengths())
}

/// The first `taken` words, and what is left after `skipped` more.
fn cut(words: &[u64], taken: usize, skipped: usize) -> Result<(&[u64], &[u64]), Refusal> {
    let parts = words.split_at_checked(taken).and_then(|(first, rest)| Some((first, rest.get(skipped..)?)));
    parts.ok_or_else(|| local_failed("a stored share or opening is short"))
}

fn sha256(words: &[u64]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    words.iter().for_each(|word| context.update(&word.to_le_bytes()));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

async fn mask_call(channel: &mut Channel, request: MaskRequest) -> Result<MaskReply, Refusal> {
    channel.send_value(&request).await.map_err(dealer_failed)?;
    channel.receive_value(MESSAGE_BYTES_MAX).await.map_err(dealer_failed)
}

pub(super) fn dealer_failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Dealer, format!("the dealer: {error}"))
}

pub(super) fn model_failed(error: RegistryError) -> Refusal {
    Refusal::new(Obstacle::Local, error)
}
