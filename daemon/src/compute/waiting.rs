//! Questions that wait: at party Zero for their turn, at party One for party Zero.

use super::online::Outcome;
use super::peer_failed;
use crate::ledger::ReleaseId;
use crate::message::{Obstacle, QueryRequest, Refusal};
use consilium_protocol::share::Additive;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// A question as one party holds it.
pub(crate) struct Question {
    pub(crate) client: String,
    pub(crate) request: QueryRequest,
    pub(crate) share: Additive,
    /// Hash of everything that the client sent.
    pub(crate) content: [u8; 32],
}

/// A question and the client that waits for its outcome.
pub(crate) struct Asked {
    pub(crate) question: Question,
    arrived: Instant,
    reply: oneshot::Sender<Outcome>,
}

impl Asked {
    fn new(question: Question) -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, receiver) = oneshot::channel();
        (Self { question, arrived: Instant::now(), reply }, receiver)
    }

    pub(super) fn release(&self) -> ReleaseId {
        self.question.request.release
    }

    /// A client that has left does not mind.
    pub(super) fn tell(self, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }

    fn left(&self) -> bool {
        self.reply.is_closed()
    }
}

fn too_many() -> Refusal {
    Refusal::new(Obstacle::Deadline, "too many questions wait already; ask again later")
}

/// How questions of a task have shared computations since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) computations: u64,
    /// Most questions of one.
    pub(crate) together_most: u64,
}

/// Party Zero: questions of one task that wait for their turn, in the order of arrival.
#[derive(Default)]
pub(crate) struct Desk {
    queue: Mutex<VecDeque<Asked>>,
    arrived: Notify,
    /// Both parties count.
    tally: Mutex<Tally>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk({})", self.lock().len())
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a question; the receiver gets its outcome. Dropping the receiver takes it back, unless its
    /// turn has come.
    pub(crate) fn enter(
        &self,
        question: Question,
        most: usize,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let mut queue = self.lock();
        queue.retain(|asked| !asked.left());
        if queue.len() >= most {
            return Err(too_many());
        }
        let (asked, receiver) = Asked::new(question);
        queue.push_back(asked);
        drop(queue);
        self.arrived.notify_one();
        Ok(receiver)
    }

    pub(super) fn count(&self, together: usize) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.computations += 1;
        tally.together_most = tally.together_most.max(together as u64);
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the question that waits longest arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let mut queue = self.lock();
        queue.retain(|asked| !asked.left());
        queue.front().map(|asked| asked.arrived)
    }

    /// Waits until somebody waits.
    pub(super) async fn somebody(&self) {
        while self.oldest().is_none() {
            self.arrived.notified().await;
        }
    }

    /// The first few questions whose clients still wait.
    pub(super) fn take(&self, most: usize) -> Vec<Asked> {
        let mut queue = self.lock();
        queue.retain(|asked| !asked.left());
        let count = most.min(queue.len());
        queue.drain(..count).collect()
    }

    /// The questions that arrived until `moment`.
    pub(super) fn take_older(&self, moment: Instant) -> Vec<Asked> {
        let mut queue = self.lock();
        let count = queue.partition_point(|asked| asked.arrived <= moment);
        queue.drain(..count).collect()
    }
}

/// Refusals kept for questions that have not arrived yet.
const FORGOTTEN_MAX: usize = 256;

/// How long a refusal waits for its question, which the client sent to both parties at once.
const FORGOTTEN_FOR: Duration = Duration::from_secs(5);

struct Forgotten {
    release: ReleaseId,
    refusal: Refusal,
    at: Instant,
}

/// Party One: questions that wait for party Zero.
#[derive(Default)]
pub(crate) struct WaitingRoom {
    seats: Mutex<Seats>,
    arrived: Notify,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<ReleaseId, Asked>,
    forgotten: VecDeque<Forgotten>,
}

impl std::fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WaitingRoom({})", self.lock().taken.len())
    }
}

impl WaitingRoom {
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a question; the receiver gets its outcome.
    pub(crate) fn enter(
        &self,
        question: Question,
        most: usize,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let mut seats = self.lock();
        let release = question.request.release;
        // A refusal of an earlier attempt under this id says nothing about this one.
        seats.forgotten.retain(|forgotten| forgotten.at.elapsed() < FORGOTTEN_FOR);
        if let Some(at) = seats.forgotten.iter().position(|forgotten| forgotten.release == release) {
            let refusal = seats.forgotten.remove(at).map(|forgotten| forgotten.refusal);
            return Err(refusal.unwrap_or_else(|| peer_failed("it refused the question")));
        }
        if seats.taken.len() >= most {
            return Err(too_many());
        }
        if seats.taken.contains_key(&release) {
            return Err(Refusal::new(Obstacle::Release, "the same question is waiting already"));
        }
        let (asked, receiver) = Asked::new(question);
        seats.taken.insert(release, asked);
        drop(seats);
        self.arrived.notify_waiters();
        Ok(receiver)
    }

    pub(crate) fn leave(&self, release: ReleaseId) {
        self.lock().taken.remove(&release);
    }

    /// Ends the wait for a question that party Zero refused, also if it arrives only later.
    pub(crate) fn forget(&self, release: ReleaseId, refusal: Refusal) {
        let mut seats = self.lock();
        match seats.taken.remove(&release) {
            Some(asked) => asked.tell(Err(refusal)),
            None => {
                seats.forgotten.push_back(Forgotten { release, refusal, at: Instant::now() });
                if seats.forgotten.len() > FORGOTTEN_MAX {
                    seats.forgotten.pop_front();
                }
            }
        }
    }

    /// Ends the wait of everybody.
    pub(crate) fn dismiss(&self, refusal: &Refusal) {
        for (_, asked) in self.lock().taken.drain() {
            asked.tell(Err(refusal.clone()));
        }
    }

    /// The named questions as soon as all are here. After `patience` those that are, if anybody else would
    /// have to wait for the missing ones: one of them, or any other question. After `deadline` in any case.
    pub(super) async fn gather(
        &self,
        releases: &HashSet<ReleaseId>,
        patience: Duration,
        deadline: Duration,
    ) -> HashMap<ReleaseId, Asked> {
        let started = Instant::now();
        let mut here = HashMap::with_capacity(releases.len());
        loop {
            let arrived = self.arrived.notified();
            let nobody_else = {
                let mut seats = self.lock();
                for release in releases {
                    here.extend(seats.taken.remove(release).map(|asked| (*release, asked)));
                }
                here.is_empty() && seats.taken.is_empty()
            };
            let limit = started + if nobody_else { deadline.max(patience) } else { patience };
            if here.len() == releases.len() || tokio::time::timeout_at(limit, arrived).await.is_err() {
                return here;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const PATIENCE: Duration = Duration::from_millis(20);
    const DEADLINE: Duration = Duration::from_secs(20);

    fn question(number: u8) -> Question {
        let release = ReleaseId([number; 16]);
        let request = QueryRequest { release, task: "exact".into(), task_digest: [0; 32], rows: 1 };
        Question { client: "clinic".into(), request, share: Additive::zeros(1), content: [number; 32] }
    }

    fn releases(numbers: &[u8]) -> HashSet<ReleaseId> {
        numbers.iter().map(|number| ReleaseId([*number; 16])).collect()
    }

    #[test]
    fn questions_leave_the_desk_in_order_and_without_those_whose_clients_left() {
        let desk = Desk::default();
        let mut clients: Vec<_> = (0..4).map(|number| desk.enter(question(number), 4).unwrap()).collect();
        let refused = desk.enter(question(9), 4).err().map(|refusal| refusal.obstacle);
        assert_eq!(refused, Some(Obstacle::Deadline));
        drop(clients.remove(1));
        desk.enter(question(4), 4).unwrap();
        let taken = |most| desk.take(most).iter().map(|asked| asked.question.content[0]).collect::<Vec<_>>();
        assert_eq!(taken(2), [0, 2]);
        assert_eq!(taken(9), [3], "the last client did not wait");
        assert_eq!(desk.oldest(), None);
        let kept = desk.enter(question(5), 4).unwrap();
        let moment = desk.oldest().unwrap();
        assert!(desk.take_older(moment - PATIENCE).is_empty());
        assert_eq!(desk.take_older(moment).len(), 1);
        drop(kept);
        assert!(desk.somebody().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_missing_are_not_waited_for_long_where_others_are_here() {
        let room = WaitingRoom::default();
        let started = Instant::now();
        let _one = room.enter(question(1), 9).unwrap();
        let here = room.gather(&releases(&[1, 2]), PATIENCE, DEADLINE).await;
        assert!(here.contains_key(&ReleaseId([1; 16])) && here.len() == 1);
        let _stranger = room.enter(question(3), 9).unwrap();
        assert!(room.gather(&releases(&[4]), PATIENCE, DEADLINE).await.is_empty());
        assert!(started.elapsed() < DEADLINE / 2);
        room.leave(ReleaseId([3; 16]));
        assert!(room.gather(&releases(&[4]), PATIENCE, 2 * PATIENCE).await.is_empty());
    }

    #[tokio::test]
    async fn a_late_share_is_waited_for_where_nobody_else_waits() {
        let room = WaitingRoom::default();
        let named = releases(&[1, 2]);
        let mut gathering = std::pin::pin!(room.gather(&named, DEADLINE, DEADLINE));
        assert!((&mut gathering).now_or_never().is_none());
        let _two = room.enter(question(2), 9).unwrap();
        assert!((&mut gathering).now_or_never().is_none());
        let _one = room.enter(question(1), 9).unwrap();
        assert_eq!(gathering.await.len(), 2);
    }
}
