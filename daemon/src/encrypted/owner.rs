//! An owner's side: plans, keys, queries and answers of its clients, each counted before it is worked on.
//!
//! One query is worked on at a time, on threads of its own; a few wait. Files are on the disk, in bounded places.

mod telling;

use super::books::{Books, Count, spent};
use super::keyring::Keyring;
use super::message::{FRAMING_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request};
use super::shelf::{Live, LivePlan, Planned, Shelf, ToPublish, fits, word};
use super::spool::{Berth, Spool};
use crate::crash::{self, Step};
use crate::homomorphic::{HomomorphicError, KeyId, Sizes, Ticket, evaluate, nameless, read_query};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError, SeldomOf};
use crate::reception::Reception;
use crate::registry::ModelId;
use crate::tally::{Side, Tally};
use crate::transfer::{local, receive_file, send_bytes, send_file};
use crate::vault::{StorageKey, read_bounded};
use consilium_config::HomomorphicTask;
use consilium_protocol::homomorphic::Mode;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use telling::{CLOSED_WITHIN, Progress, for_client, lost, tell, watched};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Longest time for a request that has begun.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// The owner of homomorphic tasks.
pub(crate) struct Owner {
    tasks: BTreeMap<String, HomomorphicTask>,
    shelf: Shelf,
    books: Books,
    keyring: Keyring,
    spool: Arc<Spool>,
    /// Whose query is worked on.
    turn: Arc<Semaphore>,
    threads: NonZero<usize>,
    tally: Arc<Tally>,
    said: SeldomOf<(String, Obstacle)>,
    taken: SeldomOf<String>,
    pub(crate) reception: Reception,
}

/// A client's question.
struct Question {
    task: HomomorphicTask,
    client: String,
    live: Arc<Live>,
    plan: Arc<LivePlan>,
    key: KeyId,
    inputs: u32,
    query_bytes: u64,
    keys_bytes: u64,
}

/// What is counted now, and the bytes of the answer.
type Worked = Result<(Count, u64), Refusal>;

impl Owner {
    /// Opens everything below `folder`.
    ///
    /// # Errors
    /// [`Obstacle::Local`]: a file is damaged, or counts are gone.
    pub(crate) fn open(
        folder: &Path,
        tasks: Vec<HomomorphicTask>,
        key: Arc<StorageKey>,
        threads: NonZero<usize>,
        tally: Arc<Tally>,
    ) -> Result<Self, Refusal> {
        let (counts, models) = (folder.join("counts.redb"), folder.join("models"));
        // Models without counts are not a new owner: empty books would give every client all inputs again.
        let new = !counts.exists() && !models.exists();
        let books = if new { Books::create(&counts) } else { Books::open(&counts) };
        let books = books.map_err(|error| Refusal::new(Obstacle::Local, error))?;
        let clients: Vec<&str> =
            tasks.iter().flat_map(|task| &task.clients).map(|client| client.as_str()).collect();
        Ok(Self {
            shelf: Shelf::open(&models, &tasks, key)?,
            books,
            keyring: Keyring::open(&folder.join("keys"), &clients).map_err(local)?,
            spool: Arc::new(Spool::open(&folder.join("spool")).map_err(local)?),
            turn: Arc::new(Semaphore::new(1)),
            threads,
            tally,
            said: SeldomOf::default(),
            taken: SeldomOf::default(),
            reception: Reception::default(),
            tasks: tasks.into_iter().map(|task| (task.name.to_string(), task)).collect(),
        })
    }

    /// Whether this node has the model of a task.
    pub(crate) fn owns(&self, task: &str) -> bool {
        self.tasks.contains_key(task)
    }

    /// What is published.
    pub(crate) fn published(&self) -> Vec<Planned> {
        self.shelf.all()
    }

    /// What is counted for each client of a task: inputs, and how many are left. Blocks on the disk.
    pub(crate) fn counts(&self, task: &HomomorphicTask) -> Result<Vec<(String, u64, u64)>, Refusal> {
        let found = self.books.of_task(task.name.as_str(), task.inputs_per_client_max)?;
        Ok(found.into_iter().map(|(client, Count { counted, left })| (client, counted, left)).collect())
    }

    /// Queries in the spool: waiting, coming in, or worked on.
    pub(crate) fn queries(&self) -> usize {
        self.spool.queries()
    }

    /// Plans a model, tries the plans and puts them in force.
    ///
    /// # Errors
    /// [`Obstacle::Task`], [`Obstacle::Model`], [`Obstacle::Local`].
    pub(crate) async fn publish(
        self: &Arc<Self>,
        task: &str,
        wanted: ToPublish,
    ) -> Result<(Planned, Vec<String>), Refusal> {
        let task = self.task(task)?.clone();
        let owner = self.clone();
        let planned = on_thread("planning", move || owner.shelf.publish(&task, &wanted, owner.threads))?;
        planned
            .await
            .map_err(|_| Refusal::new(Obstacle::Local, "planning failed; this is a bug, see the log"))?
    }

    /// Takes a publication out of force. Whether there was one of that name.
    ///
    /// # Errors
    /// [`Obstacle::Local`].
    pub(crate) async fn withdraw(self: &Arc<Self>, model: ModelId) -> Result<bool, Refusal> {
        self.blocking(move |owner| owner.shelf.withdraw(model)).await
    }

    /// Serves a client's channel until it closes, or until something was refused.
    ///
    /// # Errors
    /// The channel failed.
    pub(crate) async fn serve(
        self: Arc<Self>,
        mut channel: Channel,
        client: String,
    ) -> Result<(), ChannelError> {
        loop {
            let request = match channel.receive_request(REQUEST_BYTES_MAX, REQUEST_WITHIN).await {
                Ok(request) => request,
                Err(ChannelError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let (asks, started) = (matches!(request, Request::Ask { .. }), Instant::now());
            let task = match &request {
                Request::Plan { task, .. } | Request::Ask { task, .. } => self.tasks.get(task),
            };
            let task = task.map(|task| task.name.to_string());
            let outcome = match request {
                Request::Plan { task, task_digest, mode } => {
                    self.send_plan(&mut channel, &client, (&task, &task_digest), mode).await
                }
                asked @ Request::Ask { .. } => self.answer(&mut channel, &client, asked).await,
            };
            if let (true, Some(task)) = (asks, &task) {
                let obstacle = outcome.as_ref().err().map(|refusal| refusal.obstacle);
                self.tally.note(Side::Owner, task, started.elapsed(), obstacle);
            }
            if let Err(refusal) = outcome {
                self.note(task.as_deref(), &client, &refusal);
                tell(&mut channel, &Reply::Refused(for_client(refusal))).await?;
                // What the client still sends makes no sense after this. The end is abrupt for one that does not take it.
                let closed = tokio::time::timeout(CLOSED_WITHIN, channel.close()).await;
                return closed.unwrap_or(Err(ChannelError::Deadline { within: CLOSED_WITHIN }));
            }
        }
    }

    fn note(&self, task: Option<&str>, client: &str, refusal: &Refusal) {
        if let Some(unlogged) = self.said.note((client.to_owned(), refusal.obstacle)) {
            let obstacle = refusal.obstacle;
            tracing::warn!(
                task,
                peer = client,
                verdict = "refused",
                ?obstacle,
                unlogged,
                "refused an encrypted query: {refusal}"
            );
        }
    }

    async fn send_plan(
        self: &Arc<Self>,
        channel: &mut Channel,
        client: &str,
        (task, task_digest): (&str, &[u8; 32]),
        mode: Mode,
    ) -> Result<(), Refusal> {
        let task = self.admitted(client, task, task_digest)?.clone();
        let live = self.live(&task)?;
        let plan = live.plans.iter().find(|plan| plan.plan.mode == mode).cloned();
        let none = || {
            let text = format!("no plan for mode {} of task {} is published", word(mode), task.name);
            Refusal::new(Obstacle::Models, text)
        };
        let plan = plan.ok_or_else(none)?;
        let client = client.to_owned();
        let read = self.blocking(move |owner| {
            let count = owner.books.count(task.name.as_str(), &client, task.inputs_per_client_max)?;
            let file = read_bounded(&plan.file, FRAMING_BYTES_MAX);
            // Before an error is looked at: what is withdrawn is removed.
            owner.still(&task, &live)?;
            Ok((count, file.map_err(local)?))
        });
        let (Count { left, .. }, file) = read.await?;
        let told = tell(channel, &Reply::Plan { bytes: file.len() as u64, left }).await;
        told.map_err(|error| lost(&error))?;
        send_bytes(channel, &file).await
    }

    /// Takes a query in, answers it, and sends the answer.
    async fn answer(
        self: &Arc<Self>,
        channel: &mut Channel,
        client: &str,
        asked: Request,
    ) -> Result<(), Refusal> {
        let _visit = self.reception.enter()?;
        let of = client.to_owned();
        let entered = self.blocking(move |owner| {
            let question = owner.question(&of, asked)?;
            let bytes = question.query_bytes + question.keys_bytes + Sizes::of(&question.plan.plan).answer;
            let berth = owner.spool.enter(&of, bytes)?;
            Ok((Arc::new(question), Arc::new(berth)))
        });
        let (question, berth) = entered.await?;
        let outcome = self.answer_in(channel, &question, &berth).await;
        // Large files, and the client may ask again as soon as they are gone.
        let gone = move |_: &Self| {
            drop(berth);
            Ok(())
        };
        self.blocking(gone).await?;
        outcome
    }

    async fn answer_in(
        self: &Arc<Self>,
        channel: &mut Channel,
        question: &Arc<Question>,
        berth: &Arc<Berth>,
    ) -> Result<(), Refusal> {
        self.have_keys(channel, question, berth).await?;
        tell(channel, &Reply::Query).await.map_err(|error| lost(&error))?;
        receive_file(channel, &berth.query, question.query_bytes).await?;
        let (asked, lies) = (question.clone(), berth.clone());
        self.blocking(move |_| asked.check(&lies)).await?;
        let progress = Arc::<Progress>::default();
        let turn = {
            let turn = std::pin::pin!(self.turn.clone().acquire_owned());
            watched(channel, turn, &progress).await?
        };
        let turn = turn.map_err(|_| Refusal::stopping())?;
        let work = self.begin(question.clone(), berth.clone(), progress.clone(), turn)?;
        let worked = watched(channel, work, &progress).await?;
        let failed =
            |_| Refusal::new(Obstacle::Local, "the evaluation failed; this is a bug, see the owner's log");
        let (Count { counted, left }, bytes) = worked.map_err(failed)??;
        tell(channel, &Reply::Answer { bytes, counted, left }).await.map_err(|error| lost(&error))?;
        send_file(channel, &berth.answer, bytes).await?;
        let (task, client, inputs) = (question.task.name.as_str(), &question.client, question.inputs);
        tracing::info!(
            task,
            peer = client,
            inputs,
            counted,
            left,
            verdict = "answered",
            "answered an encrypted query"
        );
        Ok(())
    }

    /// Has the client's keys in the ring: they are on the disk until the query has its turn, for they are large.
    async fn have_keys(
        self: &Arc<Self>,
        channel: &mut Channel,
        question: &Arc<Question>,
        berth: &Arc<Berth>,
    ) -> Result<(), Refusal> {
        let asked = question.clone();
        let held = move |owner: &Self| Ok(owner.keyring.has(&asked.client, &asked.plan.digest, asked.key));
        if self.blocking(held).await? {
            return Ok(());
        }
        tell(channel, &Reply::Keys).await.map_err(|error| lost(&error))?;
        receive_file(channel, &berth.keys, question.keys_bytes).await?;
        let (asked, berth) = (question.clone(), berth.clone());
        let taken = self.blocking(move |owner| {
            owner.keyring.take(&asked.client, &asked.plan.plan, asked.key, &berth.keys)
        });
        taken.await?;
        if let Some(unlogged) = self.taken.note(question.client.clone()) {
            let (peer, task, key) = (&question.client, question.task.name.as_str(), question.key);
            tracing::info!(peer, task, %key, unlogged, "took evaluation keys");
        }
        Ok(())
    }

    /// Counts and evaluates on a thread of its own.
    fn begin(
        self: &Arc<Self>,
        question: Arc<Question>,
        berth: Arc<Berth>,
        progress: Arc<Progress>,
        turn: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Worked>, Refusal> {
        let owner = self.clone();
        on_thread("encrypted query", move || {
            let outcome = owner.work(&question, &berth, &progress);
            // Before the client hears of it, which may ask again at once.
            drop((turn, berth));
            outcome
        })
    }

    fn work(&self, question: &Question, berth: &Berth, progress: &Progress) -> Worked {
        let Question { task, client, plan, key, inputs, .. } = question;
        let evaluator = self.shelf.evaluator(task, question.live.entry.model, plan);
        // A query may have waited for long. Before an error is looked at: what is withdrawn is removed.
        self.still(task, &question.live)?;
        let evaluator = evaluator?;
        let gone = || {
            let text = "the evaluation keys are not here any more, and nothing was counted; ask again";
            Refusal::new(Obstacle::Busy, text)
        };
        let keys = self.keyring.read(client, &plan.plan, *key)?.ok_or_else(gone)?;
        let most = task.inputs_per_client_max;
        let count = self.books.reserve(task.name.as_str(), client, (*inputs).into(), most)?;
        crash::at(Step::EncryptedReserved);
        let heard = |done, all| {
            progress.done.store(done, Ordering::Relaxed);
            progress.all.store(all, Ordering::Relaxed);
        };
        let evaluated = evaluate(&evaluator, &keys, &berth.query, &berth.answer, self.threads, &heard);
        let counted = |error| {
            let Refusal { obstacle, explanation } = of_query(error, berth);
            Refusal::new(obstacle, format!("{explanation}; its inputs are counted"))
        };
        let (_, bytes) = evaluated.map_err(counted)?;
        Ok((count, bytes))
    }

    /// Checks a question against the roster, the plans and the counts, before anything of it is taken in.
    fn question(&self, client: &str, asked: Request) -> Result<Question, Refusal> {
        let Request::Ask { task, task_digest, plan, key, inputs, query_bytes, keys_bytes } = asked else {
            return Err(Refusal::new(Obstacle::Request, "this is no question"));
        };
        let task = self.admitted(client, &task, &task_digest)?.clone();
        let live = self.live(&task)?;
        let found = live.plans.iter().find(|live| live.digest == plan).cloned();
        let other = || {
            let text = format!(
                "the plan of the query is not in force for task {}; ask again, which fetches it",
                task.name
            );
            Refusal::new(Obstacle::Models, text)
        };
        let plan = found.ok_or_else(other)?;
        fits(&task, &plan.plan).map_err(|error| Refusal::new(Obstacle::Models, error))?;
        let most = plan.plan.inputs_max();
        if !(1..=most).contains(&(inputs as usize)) {
            return Err(Refusal::new(
                Obstacle::Request,
                format!("{inputs} inputs; a query of this plan holds 1 to {most}"),
            ));
        }
        let sizes = Sizes::of(&plan.plan);
        for (what, bytes, body) in [("query", query_bytes, sizes.query), ("keys", keys_bytes, sizes.keys)] {
            if !(body..=body + FRAMING_BYTES_MAX).contains(&bytes) {
                let text = format!("a {what} of {bytes} bytes; those of this plan have {body} and a heading");
                return Err(Refusal::new(Obstacle::Request, text));
            }
        }
        let count = self.books.count(task.name.as_str(), client, task.inputs_per_client_max)?;
        if u64::from(inputs) > count.left {
            return Err(spent(task.name.as_str(), client, inputs.into(), count));
        }
        Ok(Question { task, client: client.to_owned(), live, plan, key, inputs, query_bytes, keys_bytes })
    }

    fn live(&self, task: &HomomorphicTask) -> Result<Arc<Live>, Refusal> {
        let none = || {
            Refusal::new(Obstacle::Models, format!("its owner has published no model for task {}", task.name))
        };
        self.shelf.of(task.name.as_str()).ok_or_else(none)
    }

    /// Whether what a client asks about was neither withdrawn nor replaced meanwhile.
    fn still(&self, task: &HomomorphicTask, live: &Arc<Live>) -> Result<(), Refusal> {
        match self.shelf.of(task.name.as_str()) {
            Some(now) if Arc::ptr_eq(&now, live) => Ok(()),
            _ => {
                let text = format!(
                    "the owner has withdrawn or replaced the model of task {} meanwhile, and nothing was counted; ask again",
                    task.name
                );
                Err(Refusal::new(Obstacle::Models, text))
            }
        }
    }

    /// The task, if this node owns it, the client may ask, and both have the same terms of it.
    fn admitted(&self, client: &str, task: &str, digest: &[u8; 32]) -> Result<&HomomorphicTask, Refusal> {
        let task = self.task(task)?;
        if !task.has_client(client) {
            let text = format!("the roster does not list {client} as a client of task {}", task.name);
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        if task.digest().to_bytes() != *digest {
            let text = format!("the client's roster has other terms for task {}; compare rosters", task.name);
            return Err(Refusal::new(Obstacle::Task, text));
        }
        Ok(task)
    }

    fn task(&self, name: &str) -> Result<&HomomorphicTask, Refusal> {
        let unknown = || Refusal::new(Obstacle::Task, format!("this node owns no homomorphic task {name:?}"));
        self.tasks.get(name).ok_or_else(unknown)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let owner = self.clone();
        let worked = tokio::task::spawn_blocking(move || work(&owner)).await;
        worked.map_err(|error| Refusal::new(Obstacle::Local, error))?
    }
}

impl Question {
    /// Whether the query that came is the one that was spoken of.
    fn check(&self, berth: &Berth) -> Result<(), Refusal> {
        let ticket = read_query(&berth.query, &self.plan.plan, self.key);
        let Ticket { used, .. } = ticket.map_err(|error| of_query(error, berth))?;
        match used == self.inputs {
            true => Ok(()),
            false => {
                let text = format!("the query has {used} inputs and was said to have {}", self.inputs);
                Err(Refusal::new(Obstacle::Request, text))
            }
        }
    }
}

/// What is wrong with a query, without where it lies.
fn of_query(error: HomomorphicError, berth: &Berth) -> Refusal {
    match error {
        HomomorphicError::Vault(error) => local(error),
        error => Refusal::new(Obstacle::Request, nameless(&error, &berth.query, "the query")),
    }
}

/// Works on a thread of its own, which the runtime does not wait for when the process ends. Who asked may have left.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Refusal> {
    let (told, worked) = oneshot::channel();
    let begun = std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(told.send(work())));
    begun.map_err(|error| Refusal::new(Obstacle::Local, format!("no thread for {name}: {error}")))?;
    Ok(worked)
}

#[cfg(test)]
mod tests;
