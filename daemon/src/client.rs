//! A client: shares its input, gets both shares of the label.

use crate::ledger::ReleaseId;
use crate::losses::Losses;
use crate::message::{AnswerTerms, MESSAGE_BYTES_MAX, Obstacle, QueryReply, QueryRequest, Refusal};
use crate::net::{Channel, ChannelError, Identity, Network, PeerId, Role};
use crate::outlook::{Outlook, OutlookReply, OutlookRequest};
use crate::owner::PairPeers;
use crate::tally::{Side, Tally};
use crate::task::TaskTerms;
use consilium_protocol::algebra::{Fixed, Seed};
use consilium_protocol::online::release::answers;
use consilium_protocol::share::Additive;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const IDLE_CHANNELS_MAX: usize = 16;
const SHARE_BYTES_MAX: usize = 1 << 16;

/// An answer with its provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Name of the question; asking again with the same name and input costs nothing.
    pub release: ReleaseId,
    /// One class index per row; none where the models did not agree enough, which only a confident release says.
    pub labels: Vec<Option<u32>>,
    /// The same in words.
    pub classes: Vec<Option<String>>,
    /// Where it came from and what it cost.
    pub terms: AnswerTerms,
    /// How the label was released, in words.
    pub mechanism: String,
    /// Privacy loss charged to each owner by this answer, whether it has a label or not; `None` for an exact
    /// release.
    pub epsilon: Option<f64>,
    /// What that loss means for each who has a stake; `None` for an exact release.
    #[serde(default)]
    pub losses: Option<Losses>,
    /// From question to answer.
    pub milliseconds: f64,
    /// Processor time of each compute party's thread for the rounds, in microseconds.
    #[serde(default)]
    pub cpu_us: [u64; 2],
}

/// A client's side of the network.
#[derive(Debug)]
pub struct Client {
    network: Network,
    identity: Arc<Identity>,
    deadline: Duration,
    tally: Arc<Tally>,
    idle: Mutex<HashMap<PeerId, Vec<Channel>>>,
}

impl Client {
    /// A client that waits at most `deadline` for an answer.
    pub fn new(network: Network, identity: Arc<Identity>, deadline: Duration) -> Self {
        Self { network, identity, deadline, tally: Arc::default(), idle: Mutex::default() }
    }

    /// The same, counting its questions there.
    #[must_use]
    pub fn counting(self, tally: Arc<Tally>) -> Self {
        Self { tally, ..self }
    }

    /// As [`Client::ask_once`], but asks once more under a fresh name where the compute parties had just
    /// lost their common epoch. Rarely the first attempt stays charged: party Zero only refunds where it is
    /// sure that party One reserved nothing.
    ///
    /// # Errors
    /// As there.
    pub async fn ask(
        &self,
        terms: &TaskTerms,
        pair: PairPeers,
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        let started = Instant::now();
        let outcome = match self.ask_once(terms, pair, rows, release).await {
            Err(refusal) if refusal.obstacle == Obstacle::Epoch && release.is_none() => {
                self.ask_once(terms, pair, rows, None).await
            }
            outcome => outcome,
        };
        let obstacle = outcome.as_ref().err().map(|refusal| refusal.obstacle);
        self.tally.note(Side::Client, terms.name(), started.elapsed(), obstacle);
        outcome
    }

    /// What would become of questions of these tasks of one pair now; one outlook for each. Both compute
    /// parties are asked, and the tighter one counts.
    pub async fn outlook(&self, tasks: &[Arc<TaskTerms>], pair: PairPeers, within: Duration) -> Vec<Outlook> {
        let tasks = tasks.iter().map(|terms| (terms.name().to_owned(), terms.digest));
        let request = OutlookRequest { tasks: tasks.collect() };
        let (zero, one) = tokio::join!(
            self.outlook_of(pair[0], &request, within),
            self.outlook_of(pair[1], &request, within)
        );
        let both = zero.into_iter().zip(one);
        both.map(|(zero, one)| zero.and_then(|zero| one.map(|one| zero.and(one)))).collect()
    }

    /// One party's outlooks, as many as tasks were named.
    async fn outlook_of(&self, peer: PeerId, request: &OutlookRequest, within: Duration) -> Vec<Outlook> {
        let asked = async {
            let opened = self.network.open(peer, Role::Status, within).await;
            let mut channel = opened.map_err(|error| party_failed(&error))?;
            let failed = |error: ChannelError| party_failed(&error);
            channel.send_value(request).await.map_err(failed)?;
            let reply: OutlookReply = channel.receive_value(MESSAGE_BYTES_MAX).await.map_err(failed)?;
            if reply.outlooks.len() != request.tasks.len() {
                return Err(party_failed(&"it told of another number of tasks"));
            }
            Ok(reply.outlooks)
        };
        let told = tokio::time::timeout(within, asked).await;
        let told = told.unwrap_or_else(|_| Err(party_failed(&"it did not tell in time what it has")));
        told.unwrap_or_else(|refusal| vec![Err(refusal); request.tasks.len()])
    }

    /// Asks for the labels of up to one batch of rows, each as the task's input wants it (after the
    /// task's public normalisation). `release` is drawn if it is not given.
    ///
    /// # Errors
    /// The input does not fit the task, or a compute party refused.
    pub async fn ask_once(
        &self,
        terms: &TaskTerms,
        pair: PairPeers,
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        let input = encode(terms, rows)?;
        let release = match release {
            Some(release) => release,
            None => {
                ReleaseId(*Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error))?.as_bytes())
            }
        };
        let seed = self.seed(terms, release, &input);
        let request = QueryRequest {
            release,
            task: terms.name().to_owned(),
            task_digest: terms.digest,
            rows: rows.len() as u32,
        };
        let share = Additive::complement(&input, &seed);
        let bytes: Zeroizing<Vec<u8>> =
            Zeroizing::new(share.iter().flat_map(|word| word.to_le_bytes()).collect());
        let started = Instant::now();
        let both = async {
            tokio::try_join!(
                self.call(pair[0], &request, seed.as_bytes()),
                self.call(pair[1], &request, &bytes)
            )
        };
        let late = |_| Refusal::new(Obstacle::Deadline, "no answer in time");
        let (zero, one) = tokio::time::timeout(self.deadline, both).await.map_err(late)??;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let labels = combine(terms, &zero, &one, rows.len())?;
        Ok(Answer {
            release,
            classes: labels
                .iter()
                .map(|label| label.map(|label| terms.roster.classes[label].clone()))
                .collect(),
            labels: labels.into_iter().map(|label| label.map(|label| label as u32)).collect(),
            mechanism: terms.mechanism.to_string(),
            epsilon: terms.epsilon_spent(zero.terms.charged),
            losses: Losses::of(terms, zero.terms.charged),
            cpu_us: [zero.terms.cpu_us, one.terms.cpu_us],
            terms: zero.terms,
            milliseconds,
        })
    }

    /// The seed of party Zero's share. It depends on the whole question, so that the same question
    /// is the same bytes, and different inputs never stand under one mask.
    fn seed(&self, terms: &TaskTerms, release: ReleaseId, input: &[u64]) -> Seed {
        let words: Zeroizing<Vec<u8>> =
            Zeroizing::new(input.iter().flat_map(|word| word.to_le_bytes()).collect());
        let content = digest(&SHA256, &words);
        let message = [&terms.digest[..], &release.0, content.as_ref()].concat();
        let signature = Zeroizing::new(self.identity.sign("consilium input seed 1", &message));
        let hash = digest(&SHA256, &signature);
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash.as_ref()[..16]);
        Seed::from_bytes(seed)
    }

    /// Puts the question to one party. A channel that was kept from an earlier question may have died
    /// since; the question is then put again on another one, which is safe: it has one name.
    async fn call(&self, peer: PeerId, request: &QueryRequest, share: &[u8]) -> Result<Part, Refusal> {
        while let Some(mut channel) = self.kept(peer) {
            if let Ok(outcome) = converse(&mut channel, request, share).await {
                self.keep(peer, channel);
                return outcome;
            }
        }
        let opened = self.network.open(peer, Role::Query, self.deadline).await;
        let mut channel = opened.map_err(|error| party_failed(&error))?;
        let outcome = converse(&mut channel, request, share).await.map_err(|error| party_failed(&error))?;
        self.keep(peer, channel);
        outcome
    }

    fn kept(&self, peer: PeerId) -> Option<Channel> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(&peer).and_then(Vec::pop)
    }

    fn keep(&self, peer: PeerId, channel: Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(peer).or_default();
        if kept.len() < IDLE_CHANNELS_MAX {
            kept.push(channel);
        }
    }
}

async fn converse(
    channel: &mut Channel,
    request: &QueryRequest,
    share: &[u8],
) -> Result<Result<Part, Refusal>, ChannelError> {
    channel.send_value(request).await?;
    channel.send(share).await?;
    match channel.receive_value(MESSAGE_BYTES_MAX).await? {
        QueryReply::Refused(refusal) => Ok(Err(refusal)),
        QueryReply::Answer(terms) => {
            let frame = channel.receive(SHARE_BYTES_MAX).await?;
            let words = frame.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
            Ok(Ok(Part { terms, words: Zeroizing::new(words.collect()) }))
        }
    }
}

fn party_failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("a compute party: {error}"))
}

struct Part {
    terms: AnswerTerms,
    words: Zeroizing<Vec<u64>>,
}

/// Encodes rows as `[value][row]`, missing rows as zeros, after checking the task's public bound.
fn encode(terms: &TaskTerms, rows: &[Vec<f64>]) -> Result<Zeroizing<Vec<u64>>, Refusal> {
    let refuse = |text: String| Refusal::new(Obstacle::Request, text);
    let (values, batch) = (terms.roster.input.len(), terms.batch());
    if rows.is_empty() || rows.len() > batch {
        return Err(refuse(format!("{} rows at once; the task takes 1 to {batch}", rows.len())));
    }
    let fixed = Fixed { fraction_bits: terms.numbers.fraction_bits };
    let bound = terms.roster.input_abs_max;
    let mut words = Zeroizing::new(vec![0; values * batch]);
    for (column, row) in rows.iter().enumerate() {
        if row.len() != values {
            return Err(refuse(format!("row {column} has {} values, the task takes {values}", row.len())));
        }
        for (index, value) in row.iter().enumerate() {
            let word = fixed.encode(*value, bound).map_err(|_| {
                let text = format!(
                    "row {column}, value {index} is not a number of magnitude up to {bound}, the task's public bound"
                );
                refuse(text)
            })?;
            words[index * batch + column] = word;
        }
    }
    Ok(words)
}

fn combine(terms: &TaskTerms, zero: &Part, one: &Part, rows: usize) -> Result<Vec<Option<usize>>, Refusal> {
    let expected = (terms.answer_bits() * rows).div_ceil(64);
    let same = zero.terms.owners == one.terms.owners
        && zero.terms.shards == one.terms.shards
        && zero.terms.noise == one.terms.noise
        && zero.terms.charged == one.terms.charged;
    if !same || zero.words.len() != expected || one.words.len() != expected {
        let text = "the two compute parties answered differently; ask the consortium to look into it";
        return Err(Refusal::new(Obstacle::Peer, text));
    }
    Ok(answers([&zero.words, &one.words], terms.classes(), rows, terms.may_abstain()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_attest::Provenance;

    #[test]
    fn no_consensus_is_null_for_machines() {
        let terms = AnswerTerms {
            share_words: 1,
            owners: 3,
            shards: 1,
            noise: Provenance::Software,
            preprocessing: "pairwise".into(),
            gadget: "digits".into(),
            charged: 7,
            rounds: 9,
            bytes: 800,
            rounds_us: 0,
            together: 1,
            cpu_us: 0,
            bundles: 1,
            repeated: false,
        };
        let answer = Answer {
            release: ReleaseId([1; 16]),
            labels: vec![Some(2), None],
            classes: vec![Some("c".into()), None],
            terms,
            mechanism: String::new(),
            epsilon: Some(0.5),
            losses: None,
            milliseconds: 1.0,
            cpu_us: [0; 2],
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(text.contains("\"labels\":[2,null],\"classes\":[\"c\",null]"), "{text}");
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
