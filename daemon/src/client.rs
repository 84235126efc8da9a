//! A client: shares its input, gets both shares of the label.

mod detour;
mod route;

pub use detour::Detour;

use crate::ledger::ReleaseId;
use crate::losses::Losses;
use crate::message::{AnswerTerms, MESSAGE_BYTES_MAX, Obstacle, QueryReply, QueryRequest, Refusal};
use crate::net::{Channel, ChannelError, Identity, Network, PeerId, Role};
use crate::outlook::{Outlook, OutlookReply, OutlookRequest};
use crate::owner::{PairPeers, TaskPair};
use crate::reception::Reception;
use crate::tally::{Side, Tally};
use crate::task::TaskTerms;
use consilium_protocol::algebra::{Fixed, Seed};
use consilium_protocol::online::release::answers;
use consilium_protocol::share::Additive;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// The pair that answered.
    #[serde(default)]
    pub pair: String,
    /// Pairs before it that did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
}

/// A pair that did not answer a question, which then went to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// The pair.
    pub pair: String,
    /// What stood in the way.
    pub obstacle: Obstacle,
    /// What happened.
    pub explanation: String,
    /// Whether the question had been put to it. It may then have charged for it, from its own slice of the budget.
    pub submitted: bool,
}

/// One question to one pair.
#[derive(Debug)]
struct Attempt {
    /// Longest wait for a connection.
    patience: Duration,
    submitted: AtomicBool,
}

impl Attempt {
    fn new(patience: Duration) -> Self {
        Self { patience, submitted: AtomicBool::new(false) }
    }

    fn was_submitted(&self) -> bool {
        self.submitted.load(Ordering::Relaxed)
    }
}

impl Answer {
    /// The pairs that did not answer, in words.
    pub fn tried_in_words(&self) -> String {
        let word = |tried: &Tried| {
            let charged = if tried.submitted { ", and may have charged for it" } else { "" };
            format!("pair {} did not answer ({}){charged}", tried.pair, tried.explanation)
        };
        self.tried.iter().map(word).collect::<Vec<_>>().join("; ")
    }
}

/// A client's side of the network.
#[derive(Debug)]
pub struct Client {
    network: Network,
    identity: Arc<Identity>,
    deadline: Duration,
    tally: Arc<Tally>,
    detours: detour::Detours,
    idle: Mutex<HashMap<PeerId, Vec<Channel>>>,
    reception: Reception,
}

impl Client {
    /// A client that waits at most `deadline` for an answer.
    pub fn new(network: Network, identity: Arc<Identity>, deadline: Duration) -> Self {
        Self {
            network,
            identity,
            deadline,
            tally: Arc::default(),
            detours: Default::default(),
            idle: Mutex::default(),
            reception: Reception::default(),
        }
    }

    /// Puts no further question, and returns when those in progress are over. May be dropped.
    pub(crate) async fn close(&self) {
        self.reception.close().await;
    }

    /// The same, counting its questions there.
    #[must_use]
    pub fn counting(self, tally: Arc<Tally>) -> Self {
        Self { tally, ..self }
    }

    /// Asks the pairs of a task one after the other, until one answers or refuses for a reason that is not its
    /// own. The answer says which one it was and which did not answer before; those may have charged for the
    /// question too, each from its own slice of the budget.
    ///
    /// # Errors
    /// As [`Client::ask_once`], of the first pair; where several refused, with the words of each.
    pub async fn ask(
        &self,
        terms: &TaskTerms,
        pairs: &[TaskPair],
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        // A question that is cut off is charged, and nobody has its name to hear the answer again.
        let _visit = self.reception.enter()?;
        let started = Instant::now();
        let outcome = self.ask_pairs(terms, pairs, rows, release).await;
        let obstacle = outcome.as_ref().err().map(|refusal| refusal.obstacle);
        self.tally.note(Side::Client, terms.name(), started.elapsed(), obstacle);
        outcome
    }

    /// A pair has said that it would answer a question of the task.
    pub fn would_answer(&self, task: &str, pair: &str) {
        self.detours.would_answer((task, pair), Instant::now());
    }

    /// Pairs that questions go around for now.
    pub fn detours(&self) -> Vec<Detour> {
        self.detours.list(Instant::now())
    }

    /// As [`Client::ask_once`], but asks once more under a fresh name where the compute parties had just
    /// lost their common epoch. Rarely the first attempt stays charged: party Zero only refunds where it is
    /// sure that party One reserved nothing.
    async fn ask_pair(
        &self,
        terms: &TaskTerms,
        pair: &TaskPair,
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
        attempt: &Attempt,
    ) -> Result<Answer, Refusal> {
        match self.attempt(terms, pair, rows, release, attempt).await {
            Err(refusal) if refusal.obstacle == Obstacle::Epoch && release.is_none() => {
                self.attempt(terms, pair, rows, None, attempt).await
            }
            outcome => outcome,
        }
    }

    /// What would become of questions of these tasks of one pair now; one outlook for each. Both compute
    /// parties are asked, and the tighter one counts.
    pub async fn outlook(&self, tasks: &[&TaskTerms], pair: PairPeers, within: Duration) -> Vec<Outlook> {
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

    /// Asks one pair for the labels of up to one batch of rows, each as the task's input wants it (after the
    /// task's public normalisation). `release` is drawn if it is not given.
    ///
    /// # Errors
    /// The input does not fit the task, or a compute party refused.
    pub async fn ask_once(
        &self,
        terms: &TaskTerms,
        pair: &TaskPair,
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        self.attempt(terms, pair, rows, release, &Attempt::new(self.deadline)).await
    }

    async fn attempt(
        &self,
        terms: &TaskTerms,
        pair: &TaskPair,
        rows: &[Vec<f64>],
        release: Option<ReleaseId>,
        attempt: &Attempt,
    ) -> Result<Answer, Refusal> {
        let input = encode(terms, rows)?;
        let release = match release {
            Some(release) => release,
            None => {
                ReleaseId(*Seed::random().map_err(|error| Refusal::new(Obstacle::Local, error))?.as_bytes())
            }
        };
        let seed = self.seed((terms, pair), release, &input);
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
                self.call(pair.peers[0], &request, seed.as_bytes(), attempt),
                self.call(pair.peers[1], &request, &bytes, attempt)
            )
        };
        let late = |_| Refusal::new(Obstacle::Deadline, "no answer in time");
        let (zero, one) = tokio::time::timeout(self.deadline, both).await.map_err(late)??;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let labels = labels_of(terms, &zero.terms.users, combine(terms, &zero, &one, rows.len())?)?;
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
            pair: pair.name.clone(),
            tried: Vec::new(),
            terms: zero.terms,
            milliseconds,
        })
    }

    /// The seed of party Zero's share. It depends on the whole question, so that the same question
    /// is the same bytes, and different inputs never stand under one mask. It depends on the pair as well, by the keys
    /// of its parties in their seats: shares for two pairs open nothing together, nor do those for the same two parties
    /// in each other's seats.
    fn seed(&self, (terms, pair): (&TaskTerms, &TaskPair), release: ReleaseId, input: &[u64]) -> Seed {
        let words: Zeroizing<Vec<u8>> =
            Zeroizing::new(input.iter().flat_map(|word| word.to_le_bytes()).collect());
        let content = digest(&SHA256, &words);
        let [zero, one] = pair.peers;
        let pair = digest(&SHA256, format!("{} {zero} {one}", pair.name).as_bytes());
        let message = [&terms.digest[..], pair.as_ref(), &release.0, content.as_ref()].concat();
        let signature = Zeroizing::new(self.identity.sign("consilium input seed 3", &message));
        let hash = digest(&SHA256, &signature);
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash.as_ref()[..16]);
        Seed::from_bytes(seed)
    }

    /// Puts the question to one party. A channel that was kept from an earlier question may have died
    /// since; the question is then put again on another one, which is safe: it has one name.
    async fn call(
        &self,
        peer: PeerId,
        request: &QueryRequest,
        share: &[u8],
        attempt: &Attempt,
    ) -> Result<Part, Refusal> {
        while let Some(mut channel) = self.kept(peer) {
            attempt.submitted.store(true, Ordering::Relaxed);
            if let Ok(outcome) = converse(&mut channel, request, share).await {
                self.keep(peer, channel);
                return outcome;
            }
        }
        let opened = self.network.open(peer, Role::Query, attempt.patience).await;
        let mut channel = opened.map_err(|error| party_failed(&error))?;
        attempt.submitted.store(true, Ordering::Relaxed);
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
    let users = zero.terms.users.len();
    let expected = (terms.answer_bits(users) * rows).div_ceil(64);
    let same = zero.terms.owners == one.terms.owners
        && zero.terms.users == one.terms.users
        && (!terms.is_one_class() || (1..terms.classes()).contains(&users))
        && zero.terms.shards == one.terms.shards
        && zero.terms.noise == one.terms.noise
        && zero.terms.charged == one.terms.charged;
    if !same || zero.words.len() != expected || one.words.len() != expected {
        let text = "the two compute parties answered differently; ask the consortium to look into it";
        return Err(Refusal::new(Obstacle::Peer, text));
    }
    let classes = if terms.is_one_class() { users + 1 } else { terms.classes() };
    Ok(answers([&zero.words, &one.words], classes, rows, terms.may_abstain()))
}

/// The labels of the roster, where those of an answer are the owners that took part and nobody.
fn labels_of(
    terms: &TaskTerms,
    users: &[String],
    labels: Vec<Option<usize>>,
) -> Result<Vec<Option<usize>>, Refusal> {
    if !terms.is_one_class() {
        return Ok(labels);
    }
    let strange = || {
        let text = "the compute parties named somebody who is no owner of the task; compare rosters";
        Refusal::new(Obstacle::Peer, text)
    };
    let known = users.iter().map(|user| terms.label_of(user).ok_or_else(strange));
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let nobody = terms.classes() - 1;
    Ok(labels.into_iter().map(|label| label.map(|at| known.get(at).copied().unwrap_or(nobody))).collect())
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
            users: Vec::new(),
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
            pair: "second".into(),
            tried: vec![Tried {
                pair: "main".into(),
                obstacle: Obstacle::Peer,
                explanation: "away".into(),
                submitted: true,
            }],
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(text.contains("\"labels\":[2,null],\"classes\":[\"c\",null]"), "{text}");
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
