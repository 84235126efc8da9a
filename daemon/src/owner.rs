//! A model owner: shares its models with both compute parties, and signs what it accepts to lose.

mod promise;

pub use promise::Wanted;

use crate::bulk::send_bulk;
use crate::message::{MESSAGE_BYTES_MAX, Obstacle, PublishReply, PublishRequest, Refusal};
use crate::net::{Channel, Network, PeerId, Role};
use crate::registry::{Announcement, ModelId, Shard};
use crate::task::TaskTerms;
use crate::vault::{read_bounded, write_atomic};
use consilium_protocol::algebra::Seed;
use consilium_protocol::graph::Architecture;
use consilium_protocol::model::AnyModel;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::Gadget;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

const BOOK_BYTES_MAX: u64 = 16 << 20;

/// A model that is to be published.
#[derive(Clone, Debug)]
pub struct NamedModel {
    /// What messages call it, as a rule its file.
    pub name: String,
    /// The model.
    pub model: AnyModel,
}

/// What an owner remembers of what it published for a task at once: one model, or one of each part of its
/// patients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The task.
    pub task: String,
    /// Name of the registration.
    pub model: ModelId,
    /// Counts what this owner published for the task from 1.
    pub version: u64,
    /// Number of models, each with a vote of its own.
    #[serde(default = "one")]
    pub shards: u32,
    /// The architecture in words.
    pub summary: String,
    /// Weights and biases of all models.
    pub parameters: u64,
    /// The pairs that hold it; none in books that were written before they said so, which is the task's own.
    #[serde(default)]
    pub pairs: Vec<String>,
}

// Of books that were written before they said so.
fn one() -> u32 {
    1
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

/// The two compute parties of a pair, Zero first.
pub type PairPeers = [PeerId; 2];

/// One of the pairs that compute a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPair {
    /// Its name in the roster.
    pub name: String,
    /// Its members.
    pub peers: PairPeers,
}

/// What is to be published: networks, and all their weights in fixed point.
struct Encoded {
    networks: Vec<Architecture>,
    words: Zeroizing<Vec<u64>>,
}

impl Owner {
    /// An owner that keeps its book in the file `book`.
    pub fn new(name: String, network: Network, deadline: Duration, book: PathBuf) -> Self {
        Self { name, network, deadline, book, changing: tokio::sync::Mutex::new(()) }
    }

    /// Shares an owner's models with the compute parties of every pair of the task and waits until they can vote:
    /// as many as the task asks of an owner, all or none. They replace those that voted before, which vote until
    /// then. Each pair gets shares of its own, which together with those of another pair open nothing. Where some
    /// pairs did not take them, the rest did, and the second result says which did not and why.
    ///
    /// # Errors
    /// A model does not fit the task's public bounds, there are too many or too few of them, or in every pair a
    /// compute party or the dealer refused. They may be published again at any time.
    pub async fn publish(
        &self,
        terms: &TaskTerms,
        pairs: &[TaskPair],
        models: Vec<NamedModel>,
    ) -> Result<(Published, Vec<String>), Refusal> {
        let _changing = self.changing.lock().await;
        let words = encoded(terms, &models)?;
        let networks = models.into_iter().map(|named| named.model.architecture()).collect();
        let encoded = Encoded { networks, words };
        let mut book = self.published()?;
        let earlier = book.iter().filter(|entry| entry.task == terms.name()).map(|entry| entry.version).max();
        let mut entry = Published {
            task: terms.name().to_owned(),
            model: ModelId(*fresh()?.as_bytes()),
            version: earlier.unwrap_or(0) + 1,
            shards: terms.roster.shards,
            summary: summary(&encoded.networks),
            parameters: parameters(&encoded.networks),
            pairs: Vec::new(),
        };
        let sharing = pairs.iter().map(|pair| self.share(terms, pair.peers, &encoded, &entry));
        let outcomes = join_all(sharing).await;
        let mut missed = Vec::new();
        for (pair, outcome) in pairs.iter().zip(outcomes) {
            match outcome {
                Ok(()) => entry.pairs.push(pair.name.clone()),
                Err(refusal) => missed.push((pair, refusal)),
            }
        }
        if entry.pairs.is_empty() {
            return Err(of_pairs(&missed).unwrap_or_else(unexpected));
        }
        let missing = |name: &String| missed.iter().any(|(pair, _)| pair.name == *name);
        keep_where_missed(&mut book, &entry, missing);
        book.push(entry.clone());
        self.write(&book)?;
        let told = missed.iter().map(|(pair, refusal)| {
            format!(
                "pair {} has not got it, and votes with what it held before, if anything: {refusal}; publish again \
                 when it is back",
                pair.name
            )
        });
        Ok((entry, told.collect()))
    }

    /// Shares encoded models with one pair.
    async fn share(
        &self,
        terms: &TaskTerms,
        [zero, one]: PairPeers,
        encoded: &Encoded,
        entry: &Published,
    ) -> Result<(), Refusal> {
        let networks = &encoded.networks;
        let mut leader = self.channel(zero).await?;
        let announce = PublishRequest::Announce {
            task: terms.name().to_owned(),
            task_digest: terms.digest,
            networks: networks.clone(),
        };
        let PublishReply::Masks(masks) = self.call(&mut leader, &announce, None).await? else {
            return Err(unexpected());
        };
        if masks.len() != networks.len() {
            return Err(unexpected());
        }
        let data_epoch = self.data_epoch(&mut leader, terms.name()).await?;
        let shards = networks.iter().cloned().zip(masks).map(|(network, mask)| Shard { network, mask });
        let announced = Announcement {
            task: terms.name().to_owned(),
            owner: self.name.clone(),
            model: entry.model,
            version: entry.version,
            data_epoch,
            encoding: Some(terms.encoding()),
            shards: shards.collect(),
        };
        let seed = fresh()?;
        let share = Additive::complement(&encoded.words, &seed);
        let bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(share.iter().flat_map(|word| word.to_le_bytes()).collect());
        // Zero first: what comes to nothing from here on, Zero knows of and removes on both sides when the
        // next models are ready.
        let request = PublishRequest::Share(announced.clone());
        self.expect_stored(&mut leader, &request, seed.as_bytes()).await?;
        let mut follower = self.channel(one).await?;
        self.expect_stored(&mut follower, &request, &bytes).await?;
        let activate = PublishRequest::Activate { model: announced.model };
        let PublishReply::Ready = self.call(&mut leader, &activate, None).await? else {
            return Err(unexpected());
        };
        Ok(())
    }

    /// Has the compute parties of every pair that holds it delete a registration, with all its models. If one party
    /// of a pair is down, it does so when it is back. A pair of which both are down keeps the models, and the book
    /// keeps saying so: withdraw again.
    ///
    /// # Errors
    /// The model is unknown, or a compute party refused.
    pub async fn withdraw(&self, pairs: &[TaskPair], model: ModelId) -> Result<(), Refusal> {
        let _changing = self.changing.lock().await;
        let mut book = self.published()?;
        let entry = book.iter_mut().find(|entry| entry.model == model);
        let held = entry.as_ref().map_or(&[][..], |entry| entry.pairs.as_slice());
        let holding = |pair: &&TaskPair| held.is_empty() || held.contains(&pair.name);
        let mut kept = Vec::new();
        for pair in pairs.iter().filter(holding) {
            if let Err(refusal) = self.withdraw_from(pair.peers, model).await {
                kept.push((pair, refusal));
            }
        }
        if kept.len() < pairs.len() {
            if let Some(entry) = entry {
                entry.pairs = kept.iter().map(|(pair, _)| pair.name.clone()).collect();
            }
            if kept.is_empty() {
                book.retain(|entry| entry.model != model);
            }
            self.write(&book)?;
        }
        of_pairs(&kept).map_or(Ok(()), Err)
    }

    async fn withdraw_from(&self, pair: PairPeers, model: ModelId) -> Result<(), Refusal> {
        // Either party tells the other. Zero is asked first, since it leads.
        let mut channel = match self.channel(pair[0]).await {
            Ok(channel) => channel,
            Err(refusal) => self.channel(pair[1]).await.map_err(|_| refusal)?,
        };
        match self.call(&mut channel, &PublishRequest::Withdraw { model }, None).await? {
            PublishReply::Withdrawn => Ok(()),
            _ => Err(unexpected()),
        }
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

fn fresh() -> Result<Seed, Refusal> {
    Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error))
}

/// Earlier models of the task stay in the book where a pair still votes with them.
fn keep_where_missed(book: &mut Vec<Published>, entry: &Published, missing: impl Fn(&String) -> bool) {
    for earlier in book.iter_mut().filter(|earlier| earlier.task == entry.task) {
        earlier.pairs.retain(&missing);
    }
    book.retain(|earlier| earlier.task != entry.task || !earlier.pairs.is_empty());
}

/// What pairs refused, as one refusal; `None` where none did. A single one speaks for itself.
fn of_pairs(refused: &[(&TaskPair, Refusal)]) -> Option<Refusal> {
    match refused {
        [] => None,
        [(_, refusal)] => Some(refusal.clone()),
        [(_, first), ..] => {
            let each: Vec<String> =
                refused.iter().map(|(pair, refusal)| format!("pair {}: {refusal}", pair.name)).collect();
            Some(Refusal::new(first.obstacle, each.join("; ")))
        }
    }
}

/// The weights of all models in fixed point, one after the other, after checking each against the task.
fn encoded(terms: &TaskTerms, models: &[NamedModel]) -> Result<Zeroizing<Vec<u64>>, Refusal> {
    terms.check_shards(models.len())?;
    let networks: Vec<Architecture> = models.iter().map(|named| named.model.architecture()).collect();
    let parameters = usize::try_from(parameters(&networks)).unwrap_or(0);
    let mut words = Zeroizing::new(Vec::with_capacity(parameters));
    for (index, NamedModel { name, model }) in models.iter().enumerate() {
        let refused = |error: &dyn Display| unfit((index, models.len()), name, error);
        if let Some(twin) = models[..index].iter().find(|earlier| earlier.model == *model) {
            let text =
                format!("it is the same model as {}; each is trained on patients of its own", twin.name);
            return Err(refused(&text));
        }
        let network = std::slice::from_ref(&networks[index]);
        terms.plan(network, Gadget::Digits).map_err(|error| refused(&error))?;
        let proved = model.proved(terms.numbers, terms.distance_bits(), terms.roster.input_abs_max);
        for layer in proved.map_err(|error| refused(&error))? {
            words.extend(layer.weight.iter().chain(&layer.bias));
        }
    }
    Ok(words)
}

/// Why nothing was published: what is wrong with a model, at its place among all of them.
pub(crate) fn unfit((index, count): (usize, usize), name: &str, error: &dyn Display) -> Refusal {
    let text = match count {
        1 => error.to_string(),
        _ => format!("nothing was published: model {} of {count} ({name}): {error}", index + 1),
    };
    Refusal::new(Obstacle::Model, text)
}

/// The architecture of models in words; of several alike, once.
fn summary(networks: &[Architecture]) -> String {
    let mut each: Vec<String> = networks.iter().map(Architecture::summary).collect();
    each.dedup();
    each.join(", ")
}

fn parameters(networks: &[Architecture]) -> u64 {
    networks.iter().flat_map(Architecture::lengths).map(|(weight, bias)| (weight + bias) as u64).sum()
}

fn unexpected() -> Refusal {
    Refusal::new(Obstacle::Peer, "a compute party answered something else than was asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(task: &str, model: u8, pairs: &[&str]) -> Published {
        Published {
            task: task.into(),
            model: ModelId([model; 16]),
            version: 1,
            shards: 1,
            summary: String::new(),
            parameters: 9,
            pairs: pairs.iter().map(|pair| (*pair).to_owned()).collect(),
        }
    }

    #[test]
    fn the_book_keeps_what_a_pair_still_votes_with() {
        let mut book = vec![
            entry("chest", 1, &["main", "second"]),
            entry("brain", 2, &["main"]),
            entry("chest", 3, &[]),
        ];
        keep_where_missed(&mut book, &entry("chest", 4, &["main"]), |name| name == "second");
        assert_eq!(book, [entry("chest", 1, &["second"]), entry("brain", 2, &["main"])]);
        keep_where_missed(&mut book, &entry("chest", 5, &["main", "second"]), |_| false);
        assert_eq!(book, [entry("brain", 2, &["main"])]);
        let old = r#"{"task":"t","model":"00000000000000000000000000000000","version":1,"summary":"s","parameters":3}"#;
        assert_eq!(serde_json::from_str::<Published>(old).unwrap().pairs, [""; 0]);
    }

    #[test]
    fn refusals_of_several_pairs_name_them() {
        let network = crate::net::Identity::generate().peer_id();
        let pair = |name: &str| TaskPair { name: name.into(), peers: [network; 2] };
        let (main, second) = (pair("main"), pair("second"));
        let refusal = |text: &str| Refusal::new(Obstacle::Peer, text);
        assert_eq!(of_pairs(&[]), None);
        assert_eq!(of_pairs(&[(&main, refusal("away"))]), Some(refusal("away")));
        let both =
            of_pairs(&[(&main, refusal("away")), (&second, Refusal::new(Obstacle::Model, "odd"))]).unwrap();
        assert_eq!(both, refusal("pair main: away; pair second: odd"));
    }
}
