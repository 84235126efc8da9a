//! An owner's side: plans, keys, queries and answers of its clients, each counted before it is worked on.
//!
//! One query is worked on at a time, on threads of its own; a few wait. Files are on the disk, in bounded places.

use super::books::{Books, Count, spent};
use super::keyring::Keyring;
use super::message::{FRAMING_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request};
use super::shelf::{Live, LivePlan, Planned, Shelf, ToPublish, fits, word};
use super::spool::{Berth, Spool};
use super::transfer::{local, receive_file, send_file};
use crate::crash::{self, Step};
use crate::homomorphic::{KeyId, Keys, Sizes, evaluate, read_query};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError, SeldomOf};
use crate::reception::Reception;
use crate::registry::ModelId;
use crate::tally::{Side, Tally};
use crate::vault::{StorageKey, read_bounded};
use consilium_config::HomomorphicTask;
use consilium_protocol::homomorphic::Mode;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How often a client hears that its query is waited for or worked on.
pub(super) const WORKING_EVERY: Duration = Duration::from_secs(5);
/// Longest time for a message to a client.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
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

/// How far an evaluation is, in bytes.
#[derive(Debug, Default)]
struct Progress {
    done: AtomicU64,
    all: AtomicU64,
}

impl Owner {
    /// Opens everything below `folder`. `new` says that there never were any counts.
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
            shelf: Shelf::open(&models, key)?,
            books,
            keyring: Keyring::open(&folder.join("keys"), &clients).map_err(local)?,
            spool: Arc::new(Spool::open(&folder.join("spool")).map_err(local)?),
            turn: Arc::new(Semaphore::new(1)),
            threads,
            tally,
            said: SeldomOf::default(),
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
        self.blocking(move |owner| owner.shelf.publish(&task, &wanted, owner.threads)).await
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
                tell(&mut channel, &Reply::Refused(refusal)).await?;
                // What the client still sends makes no sense after this.
                return channel.close().await;
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
        let (name, client) = (task.name.to_string(), client.to_owned());
        let read = self.blocking(move |owner| {
            let count = owner.books.count(&name, &client, task.inputs_per_client_max)?;
            Ok((count, read_bounded(&plan.file, FRAMING_BYTES_MAX).map_err(local)?))
        });
        let (count, file) = read.await?;
        let sending = async {
            tell(channel, &Reply::Plan { left: count.left }).await?;
            channel.send(&file).await
        };
        let sent = tokio::time::timeout(TOLD_WITHIN, sending).await;
        sent.unwrap_or(Err(ChannelError::Deadline { within: TOLD_WITHIN })).map_err(|error| lost(&error))
    }

    /// Takes a query in, answers it, and sends the answer.
    async fn answer(
        self: &Arc<Self>,
        channel: &mut Channel,
        client: &str,
        asked: Request,
    ) -> Result<(), Refusal> {
        let _visit = self.reception.enter()?;
        let question = Arc::new(self.question(client, asked)?);
        let sizes = Sizes::of(&question.plan.plan);
        let bytes = question.query_bytes + question.keys_bytes + sizes.answer;
        let berth = Arc::new(self.spool.enter(client, bytes)?);
        let keys = self.keys(channel, &question, &berth).await?;
        tell(channel, &Reply::Query).await.map_err(|error| lost(&error))?;
        receive_file(channel, &berth.query, question.query_bytes).await?;
        let progress = Arc::<Progress>::default();
        let turn = {
            let turn = std::pin::pin!(self.turn.clone().acquire_owned());
            watched(channel, turn, &progress).await?
        };
        let turn = turn.map_err(|_| Refusal::new(Obstacle::Local, "the node is stopping; ask again"))?;
        let work = self.begin((question.clone(), keys), berth.clone(), progress.clone(), turn)?;
        let worked = watched(channel, work, &progress).await?;
        let failed =
            |_| Refusal::new(Obstacle::Local, "the evaluation failed; this is a bug, see the owner's log");
        let (Count { counted, left }, bytes) = worked.map_err(failed)??;
        tell(channel, &Reply::Answer { bytes, counted, left }).await.map_err(|error| lost(&error))?;
        send_file(channel, &berth.answer, bytes).await?;
        let (task, inputs) = (question.task.name.as_str(), question.inputs);
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

    /// The client's keys, from the ring or from the client.
    async fn keys(
        self: &Arc<Self>,
        channel: &mut Channel,
        question: &Arc<Question>,
        berth: &Arc<Berth>,
    ) -> Result<Keys, Refusal> {
        let asked = question.clone();
        let held = self.blocking(move |owner| owner.keyring.read(&asked.client, &asked.plan.plan, asked.key));
        if let Some(keys) = held.await? {
            return Ok(keys);
        }
        tell(channel, &Reply::Keys).await.map_err(|error| lost(&error))?;
        receive_file(channel, &berth.keys, question.keys_bytes).await?;
        let (asked, berth) = (question.clone(), berth.clone());
        let taken = self.blocking(move |owner| {
            owner.keyring.take(&asked.client, &asked.plan.plan, asked.key, &berth.keys)
        });
        let keys = taken.await?;
        tracing::info!(peer = question.client, task = %question.task.name, key = %question.key, "took evaluation keys");
        Ok(keys)
    }

    /// Counts and evaluates on a thread of its own, which the runtime does not wait for when the process ends.
    fn begin(
        self: &Arc<Self>,
        (question, keys): (Arc<Question>, Keys),
        berth: Arc<Berth>,
        progress: Arc<Progress>,
        turn: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Worked>, Refusal> {
        let (told, work) = oneshot::channel();
        let owner = self.clone();
        let begun = std::thread::Builder::new().name("encrypted query".to_owned()).spawn(move || {
            let outcome = owner.work(&question, &keys, &berth, &progress);
            // Before the client hears of it, which may ask again at once.
            drop((turn, berth));
            // The client may have left.
            drop(told.send(outcome));
        });
        begun.map_err(|error| Refusal::new(Obstacle::Local, format!("no thread for a query: {error}")))?;
        Ok(work)
    }

    fn work(&self, question: &Question, keys: &Keys, berth: &Berth, progress: &Progress) -> Worked {
        let Question { task, client, plan, key, inputs, .. } = question;
        let request = |error: &dyn std::fmt::Display| Refusal::new(Obstacle::Request, error);
        let ticket = read_query(&berth.query, &plan.plan, *key).map_err(|error| request(&error))?;
        if ticket.used != *inputs {
            return Err(request(&format!(
                "the query has {} inputs and was said to have {inputs}",
                ticket.used
            )));
        }
        let evaluator = self.shelf.evaluator(task, question.live.entry.model, plan)?;
        let most = task.inputs_per_client_max;
        let count = self.books.reserve(task.name.as_str(), client, (*inputs).into(), most)?;
        crash::at(Step::EncryptedReserved);
        let heard = |done, all| {
            progress.done.store(done, Ordering::Relaxed);
            progress.all.store(all, Ordering::Relaxed);
        };
        let evaluated = evaluate(&evaluator, keys, &berth.query, &berth.answer, self.threads, &heard);
        let (_, bytes) = evaluated.map_err(|error| match error {
            crate::homomorphic::HomomorphicError::Vault(error) => local(error),
            error => request(&error),
        })?;
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

/// Waits for a work, and tells the client every few seconds that it is waited for. Of a client that is gone the work is
/// given up, or its outcome dropped.
async fn watched<T>(
    channel: &mut Channel,
    mut work: impl Future<Output = T> + Unpin,
    progress: &Progress,
) -> Result<T, Refusal> {
    loop {
        tokio::select! {
            outcome = &mut work => return Ok(outcome),
            () = tokio::time::sleep(WORKING_EVERY) => {}
        }
        let [done, all] = [&progress.done, &progress.all].map(|count| count.load(Ordering::Relaxed));
        tell(channel, &Reply::Working { done, all }).await.map_err(|error| lost(&error))?;
    }
}

async fn tell(channel: &mut Channel, reply: &Reply) -> Result<(), ChannelError> {
    let told = tokio::time::timeout(TOLD_WITHIN, channel.send_value(reply)).await;
    told.unwrap_or(Err(ChannelError::Deadline { within: TOLD_WITHIN }))
}

fn lost(error: &ChannelError) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("the client is gone: {error}"))
}

#[cfg(test)]
mod tests;
