//! What a client and an owner say to each other, on the client's side.

use super::{Asker, Cost, Prepared, Received, blocking, of_files};
use crate::encrypted::message::{FRAMING_BYTES_MAX, REPLY_BYTES_MAX, Reply, Request};
use crate::encrypted::shelf::{fits, word};
use crate::homomorphic::{Sizes, encrypt, read_plan};
use crate::message::{Obstacle, Refusal};
use crate::net::{Channel, ChannelError, PeerId, Role};
use crate::transfer::{local, receive_file, send_file};
use crate::vault::remove_durably;
use consilium_config::HomomorphicTask;
use consilium_protocol::homomorphic::{Mode, Plan};
use std::sync::Arc;
use std::time::Duration;

/// Longest silence of an owner that has a query.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest time from the end of a query to its answer, in the owner's queue included.
const ANSWER_WITHIN: Duration = Duration::from_secs(2 * 3600);

impl Asker {
    /// A channel to the owner, its plan in force, and how many inputs are left.
    pub(super) async fn plan(
        self: &Arc<Self>,
        of: (&HomomorphicTask, PeerId),
        mode: Option<Mode>,
        rows: usize,
    ) -> Result<(Channel, Plan, u64), Refusal> {
        let wanted = mode.unwrap_or(if rows == 1 { Mode::Single } else { Mode::Batch });
        match self.fetched(of, wanted).await {
            Err(refusal) if refusal.obstacle == Obstacle::Models && mode.is_none() => {
                let other = if wanted == Mode::Batch { Mode::Single } else { Mode::Batch };
                let fetched = self.fetched(of, other).await;
                // That there is neither plan is told of the one that was wanted, and any other trouble as it is.
                fetched.map_err(|other| if other.obstacle == Obstacle::Models { refusal } else { other })
            }
            fetched => fetched,
        }
    }

    async fn fetched(
        self: &Arc<Self>,
        (task, owner): (&HomomorphicTask, PeerId),
        mode: Mode,
    ) -> Result<(Channel, Plan, u64), Refusal> {
        let opened = self.network.open(owner, Role::Homomorphic, self.deadline).await;
        let mut channel = opened.map_err(|error| Refusal::new(Obstacle::Peer, error))?;
        let request =
            Request::Plan { task: task.name.to_string(), task_digest: task.digest().to_bytes(), mode };
        self.put(&mut channel, &request).await?;
        let (bytes, left) = match heard(&mut channel, self.deadline).await? {
            Reply::Plan { bytes, left } if bytes <= FRAMING_BYTES_MAX => (bytes, left),
            _ => return Err(unexpected(task)),
        };
        let (asker, of) = (self.clone(), task.clone());
        let path = blocking(move || Ok(asker.files(&of, mode).map_err(local)?.plan)).await?;
        receive_file(&mut channel, &path, bytes).await?;
        let read = move || read_plan(&path).map_err(|error| Refusal::new(Obstacle::Peer, error));
        let plan = blocking(read).await?;
        let wrong = |text: String| {
            Refusal::new(Obstacle::Peer, format!("the plan of {} is none for the task: {text}", task.owner))
        };
        fits(task, &plan).map_err(wrong)?;
        if plan.mode != mode {
            return Err(wrong(format!("it is for mode {}", word(plan.mode))));
        }
        Ok((channel, plan, left))
    }

    async fn put(&self, channel: &mut Channel, request: &Request) -> Result<(), Refusal> {
        let sent = channel.send_value_within(request, self.deadline).await;
        sent.map_err(|error| Refusal::new(Obstacle::Peer, format!("the owner cannot be asked: {error}")))
    }

    /// Sends all queries, one after the other, and takes in their answers: those that came, and why no others did.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        channel: &mut Channel,
        task: &HomomorphicTask,
        prepared: &Prepared,
        cost: &mut Cost,
    ) -> (Vec<Received>, Option<Refusal>) {
        let each = prepared.plan.inputs_max();
        let mut received = Vec::new();
        for (number, first) in (0..prepared.rows).step_by(each).enumerate() {
            let rows = first..(first + each).min(prepared.rows);
            match self.one_query(channel, task, prepared, (number, rows), cost).await {
                Ok(one) => received.push(one),
                Err(refusal) => return (received, Some(refusal)),
            }
        }
        (received, None)
    }

    async fn one_query(
        self: &Arc<Self>,
        channel: &mut Channel,
        task: &HomomorphicTask,
        prepared: &Prepared,
        (number, rows): (usize, std::ops::Range<usize>),
        cost: &mut Cost,
    ) -> Result<Received, Refusal> {
        let at = |kind: &str| self.spool(task).join(format!("{number}.{kind}"));
        let (query, stub, answer) = (at("query"), at("ticket"), at("answer"));
        let (plan, secret, inputs) =
            (prepared.plan.clone(), prepared.secret.clone(), prepared.inputs.clone());
        let (threads, to) = (self.threads, (query.clone(), stub));
        let width = plan.inputs();
        let encrypted = blocking(move || {
            let taken = &inputs[rows.start * width..rows.end * width];
            encrypt(&plan, &secret, taken, (&to.0, &to.1), threads, &|_, _| ()).map_err(of_files)
        });
        let (ticket, query_bytes) = encrypted.await?;
        let (keys, keys_bytes) = (&prepared.files.keys, prepared.keys_bytes);
        let request = Request::Ask {
            task: task.name.to_string(),
            task_digest: task.digest().to_bytes(),
            plan: prepared.plan.digest(),
            key: prepared.secret.id(),
            inputs: ticket.used,
            query_bytes,
            keys_bytes,
        };
        self.put(channel, &request).await?;
        let mut reply = heard(channel, self.deadline).await?;
        if reply == Reply::Keys {
            send_file(channel, keys, keys_bytes).await?;
            cost.keys_bytes += keys_bytes;
            reply = heard(channel, SILENCE_MAX).await?;
        }
        if reply != Reply::Query {
            return Err(unexpected(task));
        }
        send_file(channel, &query, query_bytes).await?;
        cost.query_bytes += query_bytes;
        blocking(move || remove_durably(&query).map_err(local)).await?;
        let bytes = tokio::time::timeout(ANSWER_WITHIN, self.waited(channel, task, cost)).await;
        let late = |_| {
            Refusal::new(
                Obstacle::Deadline,
                format!("{} did not answer within {ANSWER_WITHIN:?}", task.owner),
            )
        };
        let bytes = bytes.map_err(late)??;
        let most = Sizes::of(&prepared.plan).answer + FRAMING_BYTES_MAX;
        if bytes > most {
            let text = format!(
                "{} sends an answer of {bytes} bytes; those of this plan have at most {most}",
                task.owner
            );
            return Err(Refusal::new(Obstacle::Peer, text));
        }
        receive_file(channel, &answer, bytes).await?;
        cost.answer_bytes += bytes;
        Ok(Received { ticket, answer })
    }

    /// Waits for an answer; its bytes.
    async fn waited(
        &self,
        channel: &mut Channel,
        task: &HomomorphicTask,
        cost: &mut Cost,
    ) -> Result<u64, Refusal> {
        loop {
            match heard(channel, SILENCE_MAX).await? {
                Reply::Working { done, all } => {
                    tracing::debug!(task = %task.name, done, all, "the owner works")
                }
                Reply::Answer { bytes, counted, left } => {
                    (cost.counted, cost.left) = (counted, left);
                    return Ok(bytes);
                }
                _ => return Err(unexpected(task)),
            }
        }
    }
}

/// The owner's next message; a refusal is an error.
async fn heard(channel: &mut Channel, within: Duration) -> Result<Reply, Refusal> {
    match channel.receive_value_within(REPLY_BYTES_MAX, within).await {
        Ok(Reply::Refused(refusal)) => Err(refusal),
        Ok(reply) => Ok(reply),
        Err(error @ ChannelError::Deadline { .. }) => {
            Err(Refusal::new(Obstacle::Deadline, format!("the owner is silent: {error}")))
        }
        Err(error) => {
            let text = format!(
                "the owner broke off: {error}; ask again. It may have counted the inputs of the query"
            );
            Err(Refusal::new(Obstacle::Peer, text))
        }
    }
}

fn unexpected(task: &HomomorphicTask) -> Refusal {
    Refusal::new(Obstacle::Peer, format!("{} answered something else than was asked", task.owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_owner_that_says_nothing_or_nonsense_is_an_error_by_name() {
        let (mut owner, mut client) = Channel::pair();
        let within = Duration::from_millis(20);
        assert_eq!(heard(&mut client, within).await.unwrap_err().obstacle, Obstacle::Deadline);
        owner.send(&[0xff; 9]).await.unwrap();
        assert_eq!(heard(&mut client, within).await.unwrap_err().obstacle, Obstacle::Peer);
        owner.send_value(&Reply::Refused(Refusal::new(Obstacle::Inputs, "spent"))).await.unwrap();
        assert_eq!(heard(&mut client, within).await.unwrap_err().obstacle, Obstacle::Inputs);
        owner.send(&vec![0; REPLY_BYTES_MAX + 1]).await.unwrap();
        assert_eq!(heard(&mut client, within).await.unwrap_err().obstacle, Obstacle::Peer);
    }
}
