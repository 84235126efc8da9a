//! A model owner: shares its model with both compute parties, and signs what it accepts to lose.

mod promise;

pub use promise::Wanted;

use crate::bulk::send_bulk;
use crate::dealer::weight_lengths;
use crate::message::{MESSAGE_BYTES_MAX, Obstacle, PublishReply, PublishRequest, Refusal};
use crate::net::{Channel, Network, PeerId, Role};
use crate::registry::{Announcement, ModelId};
use crate::task::TaskTerms;
use crate::vault::{read_bounded, write_atomic};
use consilium_protocol::algebra::Seed;
use consilium_protocol::model::Model;
use consilium_protocol::model::fixed::{encode, prove_bounds};
use consilium_protocol::share::Additive;
use consilium_protocol::stock::Gadget;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

const BOOK_BYTES_MAX: u64 = 16 << 20;

/// What an owner remembers of a model that it published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The task.
    pub task: String,
    /// Name of the registration.
    pub model: ModelId,
    /// Counts this owner's models of the task from 1.
    pub version: u64,
    /// The architecture in words.
    pub summary: String,
    /// Weights and biases.
    pub parameters: u64,
}

/// An owner's side of the network, and its book of published models.
#[derive(Debug)]
pub struct Owner {
    name: String,
    network: Network,
    deadline: Duration,
    book: PathBuf,
    changing: tokio::sync::Mutex<()>,
}

/// The two compute parties of a task, Zero first.
pub type PairPeers = [PeerId; 2];

impl Owner {
    /// An owner that keeps its book in the file `book`.
    pub fn new(name: String, network: Network, deadline: Duration, book: PathBuf) -> Self {
        Self { name, network, deadline, book, changing: tokio::sync::Mutex::new(()) }
    }

    /// Shares a model with both compute parties and waits until it can vote.
    ///
    /// # Errors
    /// The model does not fit the task's public bounds, or a compute party or the dealer refused. It
    /// may be published again at any time.
    pub async fn publish(
        &self,
        terms: &TaskTerms,
        pair: PairPeers,
        model: Model,
    ) -> Result<Published, Refusal> {
        let _changing = self.changing.lock().await;
        let network = model.network().clone();
        terms
            .plan(std::slice::from_ref(&network), Gadget::Digits)
            .map_err(|error| Refusal::new(Obstacle::Model, error))?;
        let bound = terms.roster.input_abs_max;
        prove_bounds(&model, terms.numbers, bound).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        let fixed = encode(&model, terms.numbers).map_err(|error| Refusal::new(Obstacle::Model, error))?;
        let words: Zeroizing<Vec<u64>> = Zeroizing::new(
            fixed.iter().flat_map(|layer| layer.weight.iter().chain(&layer.bias)).copied().collect(),
        );
        let mut book = self.published()?;
        let earlier = book.iter().filter(|entry| entry.task == terms.name()).map(|entry| entry.version).max();
        let version = earlier.unwrap_or(0) + 1;

        let [zero, one] = pair;
        let mut leader = self.channel(zero).await?;
        let announce = PublishRequest::Announce {
            task: terms.name().to_owned(),
            task_digest: terms.digest,
            network: network.clone(),
        };
        let PublishReply::Mask(mask) = self.call(&mut leader, &announce, None).await? else {
            return Err(unexpected());
        };
        let data_epoch = self.data_epoch(&mut leader, terms.name()).await?;
        let fresh = || Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error));
        let announced = Announcement {
            task: terms.name().to_owned(),
            owner: self.name.clone(),
            model: ModelId(*fresh()?.as_bytes()),
            version,
            data_epoch,
            network: network.clone(),
            mask,
        };
        let seed = fresh()?;
        let share = Additive::complement(&words, &seed);
        let bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(share.iter().flat_map(|word| word.to_le_bytes()).collect());
        let mut follower = self.channel(one).await?;
        let request = PublishRequest::Share(announced.clone());
        self.expect_stored(&mut follower, &request, &bytes).await?;
        self.expect_stored(&mut leader, &request, seed.as_bytes()).await?;
        let activate = PublishRequest::Activate { model: announced.model };
        let PublishReply::Ready = self.call(&mut leader, &activate, None).await? else {
            return Err(unexpected());
        };
        let parameters = weight_lengths(&network).map(|(weight, bias)| (weight + bias) as u64).sum();
        let entry = Published {
            task: announced.task,
            model: announced.model,
            version,
            summary: network.summary(),
            parameters,
        };
        book.retain(|other| other.task != entry.task);
        book.push(entry.clone());
        self.write(&book)?;
        Ok(entry)
    }

    /// Has both compute parties delete a model. If one of them is down, it does so when it is back.
    ///
    /// # Errors
    /// The model is unknown, or a compute party refused.
    pub async fn withdraw(&self, pair: PairPeers, model: ModelId) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        // Either party tells the other. Zero is asked first, since it leads.
        let mut channel = match self.channel(pair[0]).await {
            Ok(channel) => channel,
            Err(refusal) => self.channel(pair[1]).await.map_err(|_| refusal)?,
        };
        match self.call(&mut channel, &PublishRequest::Withdraw { model }, None).await? {
            PublishReply::Withdrawn => {}
            _ => return Err(unexpected()),
        }
        let mut book = self.published()?;
        book.retain(|entry| entry.model != model);
        self.write(&book)
    }

    /// The book of published models.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn published(&self) -> Result<Vec<Published>, Refusal> {
        if !self.book.exists() {
            return Ok(Vec::new());
        }
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(Obstacle::Local, format!("{}: {error}", self.book.display()))
        };
        let bytes = read_bounded(&self.book, BOOK_BYTES_MAX).map_err(|error| failed(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(&error))
    }

    fn write(&self, book: &[Published]) -> Result<(), Refusal> {
        let text = serde_json::to_vec_pretty(book).map_err(|error| Refusal::new(Obstacle::Local, error))?;
        write_atomic(&self.book, &text).map_err(|error| Refusal::new(Obstacle::Local, error))
    }

    async fn channel(&self, peer: PeerId) -> Result<Channel, Refusal> {
        let opened = self.network.open(peer, Role::Publish, self.deadline).await;
        opened.map_err(|error| Refusal::new(Obstacle::Peer, error))
    }

    async fn expect_stored(
        &self,
        channel: &mut Channel,
        request: &PublishRequest,
        share: &[u8],
    ) -> Result<(), Refusal> {
        match self.call(channel, request, Some(share)).await? {
            PublishReply::Stored => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn call(
        &self,
        channel: &mut Channel,
        request: &PublishRequest,
        bulk: Option<&[u8]>,
    ) -> Result<PublishReply, Refusal> {
        let calling = async {
            channel.send_value(request).await?;
            if let Some(bulk) = bulk {
                send_bulk(channel, bulk).await?;
            }
            channel.receive_value(MESSAGE_BYTES_MAX).await
        };
        let late = |_| Refusal::new(Obstacle::Deadline, "a compute party did not answer in time");
        let reply = tokio::time::timeout(self.deadline, calling).await.map_err(late)?;
        match reply.map_err(|error| Refusal::new(Obstacle::Peer, error))? {
            PublishReply::Refused(refusal) => Err(refusal),
            reply => Ok(reply),
        }
    }
}

fn unexpected() -> Refusal {
    Refusal::new(Obstacle::Peer, "a compute party answered something else than was asked")
}
