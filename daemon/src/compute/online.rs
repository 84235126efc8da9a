//! Questions between the two parties: reserve on both, compute once, commit on both.

use super::epoch::Epoch;
use super::link::ChannelLink;
use super::noise::Noise;
use super::waiting::{Asked, Question as WaitingQuestion};
use super::{Compute, TOGETHER_FRAME_BYTES_MAX, TOGETHER_MAX, local_failed};
use crate::crash::{self, Step};
use crate::ledger::{
    Abort, Correlations, Head, LedgerError, NoiseTicket, Receipt, ReleaseId, Reservation, Reserve,
    seconds_now,
};
use crate::losses::rounded_up;
use crate::message::{AnswerTerms, NamedNoise, Obstacle, Refusal};
use crate::net::Channel;
use crate::task::TaskTerms;
use consilium_attest::Provenance;
use consilium_attest::tickets::Ticket;
use consilium_protocol::context::{Computation, ComputationError, Meter};
use consilium_protocol::evaluate::shared::{Question, SharedModel, answer_together, together_max};
use consilium_protocol::party::Party;
use consilium_protocol::stock::{Gadget, Provision};
use futures::future::join_all;
use ring::digest::{Context, SHA256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// An answer as one party holds it: its share of the labels.
pub(crate) struct Answered {
    pub(crate) terms: AnswerTerms,
    pub(crate) share: Zeroizing<Vec<u64>>,
}

pub(crate) type Outcome = Result<Answered, Refusal>;

/// A question that this party's ledger has charged, with the bundle that it burns.
pub(super) struct Paid {
    pub(super) asked: Asked,
    pub(super) receipt: Receipt,
    pub(super) noise: NamedNoise,
    provenance: Provenance,
    own_noise: Option<Noise>,
    provisions: Vec<Provision>,
}

/// What became of questions that asked to be reserved together.
#[derive(Default)]
pub(super) struct Reserved {
    pub(super) paid: Vec<Paid>,
    /// Their clients know.
    pub(super) refused: Vec<(ReleaseId, Refusal)>,
}

/// What the rounds gave: this party's share of each winner.
struct Evaluated {
    words: Vec<Zeroizing<Vec<u64>>>,
    meter: Meter,
    taken: Duration,
    cpu: Duration,
    channel: Channel,
}

impl Reserved {
    pub(super) fn refuse(&mut self, asked: Asked, refusal: Refusal) {
        self.refused.push((asked.release(), refusal.clone()));
        asked.tell(Err(refusal));
    }
}

impl Compute {
    /// Charges the ledger for questions, durably and in one transaction, before anything of them is computed,
    /// and takes their bundles. Each comes with its serial and its noise, which are burnt whatever happens, and is
    /// granted or refused by itself; the refused are told. `shown` is the head of the other party's ledger, if it
    /// was shown with them.
    ///
    /// # Errors
    /// What concerns all of them; they are told.
    pub(super) async fn reserve_together(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        asked: Vec<(Asked, u64, Noise)>,
        shown: Option<Head>,
    ) -> Result<Reserved, Refusal> {
        let mut reserved = Reserved::default();
        let (mut waiting, mut requests) = (Vec::new(), Vec::new());
        for (asked, serial, noise) in asked {
            match reservation(epoch, &asked.question, (serial, noise.ticket())) {
                Ok(request) => {
                    waiting.push((asked, noise));
                    requests.push(request);
                }
                Err(refusal) => reserved.refuse(asked, refusal),
            }
        }
        let shown = shown.map(|head| (self.other_name.clone(), head));
        let outcomes = match self.ledger.reserve_all(shown, requests, self.seat == Party::Zero).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let refusal = ledger_refused(error);
                waiting.into_iter().for_each(|(asked, _)| asked.tell(Err(refusal.clone())));
                return Err(refusal);
            }
        };
        let mut granted = Vec::new();
        for ((asked, noise), outcome) in waiting.into_iter().zip(outcomes) {
            match receipt(epoch.terms(), outcome) {
                Ok(receipt) => granted.push((asked, noise, receipt)),
                Err(refusal) => reserved.refuse(asked, refusal),
            }
        }
        // In the order of their serials: a bundle that is taken drops those below it.
        let serials: Vec<u64> = granted.iter().map(|(_, _, receipt)| receipt.correlations().first).collect();
        let taken = epoch.take(&serials).await;
        for ((asked, noise, receipt), taken) in granted.into_iter().zip(taken) {
            match taken {
                Ok(provisions) => reserved.paid.push(Paid {
                    asked,
                    receipt,
                    noise: noise.name(),
                    provenance: noise.provenance(),
                    own_noise: Some(noise),
                    provisions,
                }),
                Err(refusal) => {
                    self.give_up(receipt.release(), Abort::Bilateral).await;
                    reserved.refuse(asked, refusal);
                }
            }
        }
        Ok(reserved)
    }

    /// Both parties: the rounds of reserved questions, then their durable commits, then the answers. Gives the
    /// channel back if it is still in step.
    pub(super) async fn compute_together(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        channel: Channel,
        mut paid: Vec<Paid>,
    ) -> Option<Channel> {
        let _running = self.traffic.enter();
        crash::at(Step::OpenFirst);
        let evaluated = match self.evaluate(epoch, channel, &mut paid).await {
            Ok(evaluated) => evaluated,
            Err(refusal) => {
                self.give_up_and_tell(paid, Abort::Alone, &refusal).await;
                return None;
            }
        };
        let together = paid.len();
        let (mut answers, mut commits) = (Vec::with_capacity(together), Vec::with_capacity(together));
        for (paid, words) in paid.into_iter().zip(&evaluated.words) {
            match self.answer_of(epoch, &paid, words, &evaluated, together) {
                Ok((answered, stored)) => {
                    answers.push((paid.asked, answered));
                    commits.push((paid.receipt, stored));
                }
                Err(refusal) => self.give_up_and_tell(vec![paid], Abort::Alone, &refusal).await,
            }
        }
        crash::at(Step::OpenLast);
        let committed = self.ledger.commit_all(commits).await;
        crash::at(Step::OpenCommitted);
        match committed {
            Ok(outcomes) => {
                for ((asked, answered), outcome) in answers.into_iter().zip(outcomes) {
                    asked.tell(outcome.map(|_| answered).map_err(ledger_refused));
                }
            }
            Err(error) => {
                let refusal = ledger_refused(error);
                answers.into_iter().for_each(|(asked, _)| asked.tell(Err(refusal.clone())));
            }
        }
        crash::at(Step::OpenAnswered);
        if let Some(desk) = self.desks.get(epoch.terms().name()) {
            desk.count(together);
        }
        Some(evaluated.channel)
    }

    /// An answer, and what the ledger keeps of it.
    fn answer_of(
        &self,
        epoch: &Epoch,
        paid: &Paid,
        words: &[u64],
        evaluated: &Evaluated,
        together: usize,
    ) -> Result<(Answered, Zeroizing<Vec<u8>>), Refusal> {
        let terms = epoch.terms();
        let rows = paid.asked.question.request.rows as usize;
        let owners = epoch.charged();
        let share = first_rows(words, terms.answer_bits(owners.len()), terms.batch(), rows);
        let users = if terms.is_one_class() {
            owners.iter().map(|owner| owner.name.clone()).collect()
        } else {
            Vec::new()
        };
        let terms = AnswerTerms {
            share_words: share.len() as u32,
            owners: owners.len() as u32,
            users,
            shards: terms.roster.shards,
            noise: paid.provenance,
            preprocessing: epoch.source().to_owned(),
            gadget: match epoch.plan().gadget() {
                Gadget::Digits => "digits",
                Gadget::Nibbles => "nibbles",
                Gadget::Keys => "keys",
            }
            .to_owned(),
            charged: paid.receipt.cost(),
            rounds: evaluated.meter.rounds,
            bytes: evaluated.meter.bytes,
            rounds_us: evaluated.taken.as_micros() as u64,
            together: together as u32,
            cpu_us: evaluated.cpu.as_micros() as u64,
            bundles: 1,
            repeated: false,
        };
        let stored = encode_answer(&terms, &share)?;
        Ok((Answered { terms, share }, stored))
    }

    /// Takes this party's noise and runs the plan for all questions at once. Nothing here can happen without
    /// a receipt of each.
    async fn evaluate(
        self: &Arc<Self>,
        epoch: &Arc<Epoch>,
        channel: Channel,
        paid: &mut [Paid],
    ) -> Result<Evaluated, Refusal> {
        let mut session = Context::new(&SHA256);
        let mut questions = Vec::with_capacity(paid.len());
        for paid in paid {
            session.update(&paid.receipt.release().0);
            questions.push(Question {
                noise: own_noise(epoch, paid)?,
                input: std::mem::take(&mut paid.asked.question.share),
                provisions: std::mem::take(&mut paid.provisions),
            });
        }
        let session = session.finish();
        let session = u64::from_le_bytes(*session.as_ref().first_chunk().unwrap_or(&[0; 8]));
        let link = ChannelLink::new(channel, self.limits.round_deadline);
        let (seat, epoch) = (self.seat, epoch.clone());
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let (started, used) = (Instant::now(), thread_time());
            let mut computation = Computation::new(link, seat, session);
            let models: Vec<&SharedModel> = epoch.models().0.iter().map(|model| &model.share).collect();
            let rounds = answer_together(&mut computation, epoch.plan(), &models, questions);
            let words = runtime.block_on(rounds)?.into_iter().map(Zeroizing::new).collect();
            let (taken, cpu) = (started.elapsed(), thread_time().saturating_sub(used));
            let meter = computation.meter();
            Ok(Evaluated { words, meter, taken, cpu, channel: computation.into_link().into_channel() })
        };
        let late = |_| Refusal::new(Obstacle::Deadline, "the query took longer than its deadline");
        let running = tokio::time::timeout(self.limits.query_deadline, tokio::task::spawn_blocking(work));
        let finished = running.await.map_err(late)?.map_err(local_failed)?;
        finished.map_err(|error: ComputationError<_>| match error {
            ComputationError::Gate(error) => local_failed(error),
            ComputationError::Bug(text) => local_failed(text),
            other => Refusal::new(Obstacle::Peer, other),
        })
    }

    /// Most questions of an epoch that share rounds.
    pub(super) fn together_max(&self, epoch: &Epoch) -> usize {
        let frame = TOGETHER_FRAME_BYTES_MAX.min(self.limits.frame_bytes_max);
        together_max(epoch.plan(), frame).min(TOGETHER_MAX)
    }

    /// Gives reservations up, in one transaction where they wait together, and tells the clients.
    pub(super) async fn give_up_and_tell(&self, paid: Vec<Paid>, abort: Abort, refusal: &Refusal) {
        join_all(paid.iter().map(|paid| self.give_up(paid.receipt.release(), abort))).await;
        paid.into_iter().for_each(|paid| paid.asked.tell(Err(refusal.clone())));
    }

    /// Gives a question up that was cut off at its deadline, wherever it was; what was reserved stays
    /// spent.
    pub(super) async fn give_up_if_reserved(&self, release: ReleaseId) {
        match self.ledger.abort(release, Abort::Alone).await {
            Ok(_) | Err(LedgerError::Unknown { .. } | LedgerError::AlreadyCommitted { .. }) => {}
            Err(error) => tracing::error!(query = %release, "cannot record an abort: {error}"),
        }
    }

    /// Gives a reservation up; its correlations stay burnt.
    pub(super) async fn give_up(&self, release: ReleaseId, abort: Abort) {
        let (before, after) = match abort {
            Abort::Alone => (Step::AbortAlone, Step::AbortKept),
            Abort::Bilateral => (Step::AbortBoth, Step::AbortRefunded),
        };
        crash::at(before);
        if let Err(error) = self.ledger.abort(release, abort).await {
            tracing::error!(query = %release, "cannot record an abort: {error}");
        }
        crash::at(after);
    }
}

/// What a question asks of the ledger.
fn reservation(
    epoch: &Epoch,
    question: &WaitingQuestion,
    (serial, ticket): (u64, Option<Ticket>),
) -> Result<Reserve, Refusal> {
    let terms = epoch.terms();
    let (price, owner_limit, client_limit) =
        terms.budget.map_or((0, u64::MAX, u64::MAX), |budget| (budget.price, budget.owner, budget.client));
    let cost = price
        .checked_mul(u64::from(question.request.rows))
        .ok_or_else(|| Refusal::new(Obstacle::Budget, "the price of so many answers overflows"))?;
    Ok(Reserve {
        release: question.request.release,
        task: terms.name().to_owned(),
        task_digest: terms.digest,
        client: question.client.clone(),
        owners: epoch.charged(),
        content: question.content,
        mechanism: terms.mechanism,
        answers: question.request.rows,
        cost,
        owner_limit,
        client_limit,
        correlations: Correlations { epoch: epoch.id(), first: serial, count: 1 },
        noise_ticket: ticket.map(NoiseTicket::from),
        at: seconds_now(),
    })
}

fn receipt(terms: &TaskTerms, outcome: Result<Reservation, LedgerError>) -> Result<Receipt, Refusal> {
    match outcome {
        Ok(Reservation::Reserved(receipt)) => Ok(receipt),
        Ok(Reservation::Stored(_)) => Err(Refusal::new(
            Obstacle::Release,
            "the question was answered meanwhile; ask again with the same id",
        )),
        Err(error) => Err(over_budget(terms, &error).unwrap_or_else(|| ledger_refused(error))),
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// This party's noise for a question that is paid for, once.
fn own_noise(epoch: &Epoch, paid: &mut Paid) -> Result<Zeroizing<Vec<u64>>, Refusal> {
    let noise =
        paid.own_noise.take().ok_or_else(|| local_failed("the noise of a release was used already"))?;
    noise.words(epoch.terms(), epoch.plan().release().noise_words())
}

/// The bits of the first `rows` of `batch` columns, repacked; everything else is dropped.
fn first_rows(words: &[u64], bits: usize, batch: usize, rows: usize) -> Zeroizing<Vec<u64>> {
    let mut share = Zeroizing::new(vec![0u64; (bits * rows).div_ceil(64)]);
    for bit in 0..bits {
        for row in 0..rows {
            let (from, to) = (bit * batch + row, bit * rows + row);
            share[to / 64] |= (words[from / 64] >> (from % 64) & 1) << (to % 64);
        }
    }
    share
}

/// What the ledger keeps of an answer, so that a repeated question gets it again.
fn encode_answer(terms: &AnswerTerms, share: &[u64]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut bytes = Zeroizing::new(Vec::new());
    ciborium::into_writer(&(terms, share), &mut *bytes).map_err(local_failed)?;
    Ok(bytes)
}

/// An answer from the ledger.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answered, Refusal> {
    let (mut terms, share): (AnswerTerms, Vec<u64>) = ciborium::from_reader(bytes).map_err(local_failed)?;
    terms.repeated = true;
    Ok(Answered { terms, share: Zeroizing::new(share) })
}

/// A spent budget in the words of the promise, and who can change it.
fn over_budget(terms: &TaskTerms, error: &LedgerError) -> Option<Refusal> {
    let (who, spent, cost, limit, way) = match error {
        LedgerError::OwnerBudget { owner, spent, cost, limit, .. } => {
            (owner, *spent, *cost, *limit, "That owner may sign another one with `consilium privacy budget`")
        }
        LedgerError::ClientBudget { client, spent, cost, limit, .. } => {
            let way = "It is `client_epsilon` in the roster, which only the consortium can change for all its \
                       members; nothing that an owner signs does";
            (client, *spent, *cost, *limit, way)
        }
        _ => return None,
    };
    let epsilon = |amount| terms.epsilon_spent(amount).map(rounded_up);
    let (spent, after, limit) = (epsilon(spent)?, epsilon(spent.checked_add(cost)?)?, epsilon(limit)?);
    let text = format!(
        "the privacy budget of {who} in task {} is spent: epsilon {spent} of {limit}; this answer would make it \
         {after}. {way}",
        terms.name()
    );
    Some(Refusal::new(Obstacle::Budget, text))
}

pub(super) fn ledger_refused(error: LedgerError) -> Refusal {
    let obstacle = match &error {
        LedgerError::OwnerBudget { .. } | LedgerError::ClientBudget { .. } => Obstacle::Budget,
        LedgerError::ContentDiffers { .. }
        | LedgerError::InProgress { .. }
        | LedgerError::Dead { .. }
        | LedgerError::Aborted { .. } => Obstacle::Release,
        LedgerError::SerialReused { .. } => Obstacle::Epoch,
        LedgerError::RolledBack { .. } | LedgerError::Forked { .. } => Obstacle::Ledger,
        _ => Obstacle::Local,
    };
    Refusal::new(obstacle, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{EXAMPLE_ROSTER, Roster};

    #[test]
    fn a_spent_budget_names_who_can_change_it() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let terms = TaskTerms::new(roster.task("breast-cancer").unwrap()).unwrap();
        let budget = terms.budget.unwrap();
        let (task, spent, cost, limit) = (terms.name().to_owned(), budget.owner, budget.price, budget.owner);
        let owner =
            LedgerError::OwnerBudget { task: task.clone(), owner: "north".into(), spent, cost, limit };
        let text = over_budget(&terms, &owner).unwrap().explanation;
        assert!(text.contains("north") && text.contains("consilium privacy budget"), "{text}");
        assert!(text.contains("epsilon 8.000"), "{text}");
        let client = LedgerError::ClientBudget { task, client: "practice".into(), spent, cost, limit };
        let text = over_budget(&terms, &client).unwrap().explanation;
        assert!(text.contains("practice") && text.contains("`client_epsilon`"), "{text}");
        assert!(!text.contains("consilium privacy budget"), "{text}");
    }
}
