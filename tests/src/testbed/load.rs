//! The questions of a run: who asks what how often, and what came of each.

use super::LOOK_EVERY;
use super::subject::Subject;
use super::tally::{Outcome, Tally};
use super::terms::{Task, pair_of};
use consilium::admin::{AdminReply, call};
use consilium::client::Answer;
use consilium::ledger::ReleaseId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time of a whole query, in the node files.
pub(super) const QUERY_DEADLINE: Duration = Duration::from_secs(15);
/// A client may ask twice where the parties had just lost their common pool; more is a question that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

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
    /// Members that said to keep a file of encodings.
    keepers: BTreeSet<&'static str>,
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

    /// Answers of this part so far whose noise was of software.
    pub(super) fn software(&self) -> u64 {
        self.look().tallies.last().map_or(0, |tally| tally.noise_of("software"))
    }

    /// Answers that clients hold.
    pub(super) fn answers(&self) -> Vec<(ReleaseId, u64)> {
        self.look().answers.clone()
    }

    /// Encrypted inputs that were answered, by client.
    pub(super) fn encrypted_inputs(&self) -> BTreeMap<&'static str, u64> {
        self.look().encrypted.clone()
    }

    fn note_encrypted(&self, client: &'static str, inputs: usize) {
        *self.look().encrypted.entry(client).or_default() += inputs as u64;
    }

    /// Members that said to keep a file of encodings.
    pub(super) fn keepers(&self) -> BTreeSet<&'static str> {
        self.look().keepers.clone()
    }

    pub(super) fn note_keeper(&self, member: &'static str) {
        self.look().keepers.insert(member);
    }

    pub(super) fn now(&self) -> usize {
        self.look().tallies.len().saturating_sub(1)
    }

    pub(super) fn note(&self, part: usize, task: &'static Task, outcome: Outcome, took: Duration) {
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

    /// Whether a node is up.
    pub(super) fn is_up(&self, node: &str) -> bool {
        self.standing(node).up
    }

    /// How often a node was stopped or started.
    pub(super) fn changes(&self, node: &str) -> u64 {
        self.standing(node).changes
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

    pub(super) fn is_over(&self) -> bool {
        self.look().over
    }
}

/// A stream of questions: a client that asks about a task.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) board: Arc<Board>,
    pub(super) client: &'static str,
    pub(super) task: &'static Task,
    pub(super) subject: Arc<dyn Subject>,
    pub(super) socket: PathBuf,
}

impl Asker {
    /// Asks until the run is over. `first` is the question to begin with.
    pub(super) async fn keep_asking(self, first: usize) {
        let mut question = first;
        while !self.board.is_over() {
            let due = Instant::now() + Duration::from_secs_f64(self.task.every);
            if self.board.standing(self.client).up {
                question = (question + 1) % self.subject.questions();
                self.ask(question).await;
            }
            // The rate of the stream; never less than a look, so that a node that is down is no busy loop.
            tokio::time::sleep_until(due.max(Instant::now() + LOOK_EVERY).into()).await;
        }
    }

    /// Asks one question and counts what comes of it; whether it was answered as it is where nothing is broken.
    pub(super) async fn ask(&self, question: usize) -> bool {
        let question = question % self.subject.questions();
        let (client, task) = (self.client, self.task);
        let (part, before) = (self.board.now(), self.board.standing(client));
        let request = self.subject.request(task, question);
        let asked = Instant::now();
        let told = tokio::time::timeout(ANSWER_WITHIN, call(&self.socket, &request)).await;
        let took = asked.elapsed();
        let after = self.board.standing(client);
        match &told {
            Ok(Ok(AdminReply::Answer(answer))) => self.board.note_answer(part, answer),
            Ok(Ok(AdminReply::Opened(opened))) => self.board.note_encrypted(client, opened.labels.len()),
            _ => {}
        }
        let judged = match &told {
            Ok(Ok(reply)) => self.subject.judge(task, question, reply),
            _ => None,
        };
        let outcome = match (judged, told) {
            (Some(outcome), _) => outcome,
            (None, Ok(Ok(AdminReply::Refused(refusal)))) => Outcome::Refused(refusal),
            // Whoever asks a node that was stopped meanwhile hears nothing, which is no fault of the node.
            _ if before.changes != after.changes || !after.up => Outcome::Down,
            (None, Ok(Ok(other))) => Outcome::Untyped(format!("{client} answered {other:?}")),
            (None, Ok(Err(error))) => Outcome::Untyped(format!("{client}: {error}")),
            (None, Err(_)) => Outcome::Untyped(format!("{client} did not answer within {ANSWER_WITHIN:?}")),
        };
        let whole = outcome.is_whole();
        self.board.note(part, task, outcome, took);
        whole
    }
}
