//! The questions of a run: who asks what how often, and what came of each.

use super::LOOK_EVERY;
use super::encrypted::{self, Encrypted};
use super::tally::{Outcome, Tally};
use super::terms::pair_of;
use consilium::admin::{AdminReply, AdminRequest, call};
use consilium::client::Answer;
use consilium::demo::Scenario;
use consilium::ledger::ReleaseId;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, Verdict, verdict};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time of a whole query, in the node files.
pub(super) const QUERY_DEADLINE: Duration = Duration::from_secs(15);
/// A client may ask twice where the parties had just lost their common pool; more is a question that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A stream of questions.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) client: &'static str,
    pub(super) task: &'static str,
    /// From one question to the next, if the answer comes before that.
    pub(super) every: Duration,
    /// Whether the label must be that of the oracle.
    pub(super) exact: bool,
}

/// What all parts of a run know of each other.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tallies: Vec<Tally>,
    nodes: BTreeMap<&'static str, Standing>,
    /// Answers that clients hold: what they cost.
    answers: Vec<(ReleaseId, u64)>,
    /// Encrypted inputs that were answered, by client.
    encrypted: BTreeMap<&'static str, u64>,
    over: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    pid: Option<u32>,
    since: Option<Instant>,
    up: bool,
    /// Rises whenever the node is stopped or started.
    changes: u64,
}

/// A process that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) node: &'static str,
    pub(super) pid: u32,
    pub(super) since: Instant,
}

impl Board {
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions that begin from now on count here.
    pub(super) fn turn(&self) -> usize {
        let mut state = self.look();
        state.tallies.push(Tally::default());
        state.tallies.len() - 1
    }

    /// What came of the questions of a part.
    pub(super) fn tally(&self, part: usize) -> Tally {
        self.look().tallies.get(part).cloned().unwrap_or_default()
    }

    /// Answers that clients hold.
    pub(super) fn answers(&self) -> Vec<(ReleaseId, u64)> {
        self.look().answers.clone()
    }

    /// Encrypted inputs that were answered, by client.
    pub(super) fn encrypted_inputs(&self) -> BTreeMap<&'static str, u64> {
        self.look().encrypted.clone()
    }

    fn note_encrypted(&self, client: &'static str, inputs: u64) {
        *self.look().encrypted.entry(client).or_default() += inputs;
    }

    fn now(&self) -> usize {
        self.look().tallies.len().saturating_sub(1)
    }

    fn note(&self, part: usize, task: &'static str, outcome: Outcome, took: Duration) {
        if let Some(tally) = self.look().tallies.get_mut(part) {
            tally.note(task, outcome, took);
        }
    }

    fn note_answer(&self, part: usize, answer: &Answer) {
        let mut state = self.look();
        state.answers.push((answer.release, answer.terms.charged));
        if let Some((pair, tally)) = pair_of(answer).zip(state.tallies.get_mut(part)) {
            tally.note_pair(pair);
        }
    }

    pub(super) fn started(&self, node: &'static str, pid: u32) {
        let mut state = self.look();
        let standing = state.nodes.entry(node).or_default();
        let changes = standing.changes + 1;
        *standing = Standing { pid: Some(pid), since: Some(Instant::now()), up: false, changes };
    }

    pub(super) fn stopped(&self, node: &'static str) {
        let mut state = self.look();
        let standing = state.nodes.entry(node).or_default();
        standing.up = false;
        standing.changes += 1;
    }

    pub(super) fn resumed(&self, node: &'static str) {
        self.look().nodes.entry(node).or_default().up = true;
    }

    fn standing(&self, node: &str) -> Standing {
        self.look().nodes.get(node).copied().unwrap_or_default()
    }

    /// The processes of nodes that are up.
    pub(super) fn running(&self) -> Vec<Running> {
        let state = self.look();
        let up = state.nodes.iter().filter(|(_, standing)| standing.up);
        up.filter_map(|(node, standing)| Some(Running { node, pid: standing.pid?, since: standing.since? }))
            .collect()
    }

    /// No more questions.
    pub(super) fn finish(&self) {
        self.look().over = true;
    }

    fn is_over(&self) -> bool {
        self.look().over
    }
}

/// What is asked, and the right answers.
#[derive(Debug)]
pub(super) struct Questions {
    rows: Vec<Vec<f64>>,
    verdicts: Vec<Verdict>,
    owners: u32,
    encrypted: Encrypted,
}

impl Questions {
    /// The held-out cases of a scenario with the oracle's labels, which all of its models vote on.
    pub(super) fn new(scenario: &Scenario) -> Result<Self, super::Failure> {
        let oracles = scenario
            .hospitals
            .iter()
            .map(|hospital| Oracle::new(hospital.model.clone(), scenario.numbers))
            .collect::<Result<Vec<_>, _>>()?;
        let fixed = Fixed { fraction_bits: scenario.numbers.fraction_bits };
        let (mut rows, mut verdicts) = (Vec::new(), Vec::new());
        for row in 0..scenario.test.rows() {
            let words = fixed.encode_all(&scenario.prepared(row), scenario.input_abs_max)?;
            let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(&words)).collect();
            verdicts.push(verdict(&votes, scenario.classes.len()));
            rows.push(scenario.test.row(row).iter().map(|value| f64::from(*value)).collect());
        }
        Ok(Self { rows, verdicts, owners: oracles.len() as u32, encrypted: Encrypted::new(scenario)? })
    }

    fn request(&self, task: &str, row: usize) -> AdminRequest {
        let task = task.to_owned();
        if task == encrypted::TASK {
            let (rows, mode) = self.encrypted.question(row);
            return AdminRequest::AskEncrypted { task, rows, mode: Some(mode), logits: false };
        }
        AdminRequest::Ask { task, rows: vec![self.rows[row].clone()], release: None }
    }

    /// What an answer about a case is worth.
    fn judge(&self, row: usize, exact: bool, owners: u32, label: Option<u32>) -> Outcome {
        let verdict = &self.verdicts[row];
        if owners != self.owners {
            return Outcome::Wrong(format!("{owners} owners voted in place of {}", self.owners));
        }
        match label {
            Some(_) if !exact => Outcome::Noisy,
            Some(label) if label == verdict.label as u32 => Outcome::Right,
            _ if exact && !verdict.certain => Outcome::NearTie,
            label => Outcome::Wrong(format!("case {row} is {}, the answer was {label:?}", verdict.label)),
        }
    }
}

/// One who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) board: Arc<Board>,
    pub(super) questions: Arc<Questions>,
    pub(super) socket: PathBuf,
    pub(super) stream: Stream,
}

impl Asker {
    /// Asks until the run is over. `first` is the row to begin with.
    pub(super) async fn keep_asking(self, first: usize) {
        let mut row = first;
        while !self.board.is_over() {
            let due = Instant::now() + self.stream.every;
            if self.board.standing(self.stream.client).up {
                row = (row + 1) % self.questions.rows.len();
                self.ask(row).await;
            }
            // The rate of the stream; never less than a look, so that a node that is down is no busy loop.
            tokio::time::sleep_until(due.max(Instant::now() + LOOK_EVERY).into()).await;
        }
    }

    /// Asks one question and counts what comes of it; whether it was answered as it should be.
    pub(super) async fn ask(&self, row: usize) -> bool {
        let row = row % self.questions.rows.len();
        let (client, task) = (self.stream.client, self.stream.task);
        let (part, before) = (self.board.now(), self.board.standing(client));
        let request = self.questions.request(task, row);
        let asked = Instant::now();
        let told = tokio::time::timeout(ANSWER_WITHIN, call(&self.socket, &request)).await;
        let took = asked.elapsed();
        let after = self.board.standing(client);
        let outcome = match told {
            Ok(Ok(AdminReply::Answer(answer))) => {
                self.board.note_answer(part, &answer);
                let label = answer.labels.first().copied().flatten();
                self.questions.judge(row, self.stream.exact, answer.terms.owners, label)
            }
            Ok(Ok(AdminReply::Opened(opened))) => {
                self.board.note_encrypted(client, opened.labels.len() as u64);
                self.questions.encrypted.wrong(row, &opened).map_or(Outcome::Right, Outcome::Wrong)
            }
            Ok(Ok(AdminReply::Refused(refusal))) => Outcome::Refused(refusal),
            // Whoever asks a node that was stopped meanwhile hears nothing, which is no fault of the node.
            _ if before.changes != after.changes || !after.up => Outcome::Down,
            Ok(Ok(other)) => Outcome::Untyped(format!("{client} answered {other:?}")),
            Ok(Err(error)) => Outcome::Untyped(format!("{client}: {error}")),
            Err(_) => Outcome::Untyped(format!("{client} did not answer within {ANSWER_WITHIN:?}")),
        };
        let good = outcome.is_answer();
        self.board.note(part, task, outcome, took);
        good
    }
}
