//! Questions that wait at the same time share a computation, and nothing else.

use crate::audit::audit_both;
use crate::setting::{
    ANSWER_WITHIN, EXACT, LOOK_EVERY, PRIVATE, ROUND_DEADLINE, SOON, Setting, in_runtime, peer_of, refused,
    release,
};
use consilium::client::{Answer, Client};
use consilium::demo::names;
use consilium::ledger::ReleaseId;
use consilium::message::{MESSAGE_BYTES_MAX, Obstacle, QueryReply, QueryRequest, Refusal};
use consilium::net::{Identity, Network, Role};
use consilium::owner::TaskPair;
use consilium::task::TaskTerms;
use consilium_protocol::wire::HEADER_BYTES;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const AT_ONCE: usize = 16;

/// A client of this very process, with the key of the client's node, which is dead.
pub(crate) struct Inside {
    client: Client,
    network: Network,
    terms: TaskTerms,
    pair: TaskPair,
}

impl Inside {
    pub(crate) fn enter(setting: &mut Setting, task: &str) -> Self {
        let (network, roster) = setting.impersonate(names::CLIENT);
        let key = setting.world.folder_of(names::CLIENT).join("identity.key");
        let terms = roster.tasks().iter().find(|found| found.name.as_str() == task).unwrap();
        let identity = Arc::new(Identity::load(&key).unwrap());
        Self {
            client: Client::new(network.clone(), identity, ANSWER_WITHIN),
            network,
            terms: TaskTerms::new(terms).unwrap(),
            pair: TaskPair {
                name: "main".into(),
                peers: [peer_of(&roster, names::ZERO), peer_of(&roster, names::ONE)],
            },
        }
    }

    pub(crate) async fn leave(self) {
        self.network.shutdown().await;
    }

    async fn ask(
        &self,
        setting: &Setting,
        row: usize,
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        self.client.ask_once(&self.terms, &self.pair, &[setting.row(row)], release).await
    }

    /// Puts a question to one party alone; its refusal, and how long it took.
    async fn ask_only(&self, party: usize, release: ReleaseId) -> (Refusal, Duration) {
        self.try_ask_only(party, release).await.unwrap()
    }

    /// The same where the party may die meanwhile, which is `None`.
    pub(crate) async fn try_ask_only(&self, party: usize, release: ReleaseId) -> Option<(Refusal, Duration)> {
        let mut channel = self.network.open(self.pair.peers[party], Role::Query, ANSWER_WITHIN).await.ok()?;
        let (task, rows) = (self.terms.name().to_owned(), 1);
        let request = QueryRequest { release, task, task_digest: self.terms.digest, rows };
        let bytes = if party == 0 { 16 } else { self.terms.roster.input.len() * self.terms.batch() * 8 };
        let started = Instant::now();
        channel.send_value(&request).await.ok()?;
        channel.send(&vec![7; bytes]).await.ok()?;
        match channel.receive_value(MESSAGE_BYTES_MAX).await.ok()? {
            QueryReply::Refused(refusal) => Some((refusal, started.elapsed())),
            QueryReply::Answer(terms) => panic!("{terms:?}"),
        }
    }
}

#[track_caller]
fn right(setting: &Setting, row: usize, answer: &Answer) {
    let verdict = setting.verdict(row);
    assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)], "row {row}");
}

#[test]
fn questions_at_once_share_computations_and_are_charged_apart() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let alone = setting.ask(EXACT, 0, None).await.unwrap();
        assert_eq!(alone.terms.together, 1);
        let answers: Vec<Answer> = join_all((0..AT_ONCE).map(|row| setting.answered(EXACT, row))).await;
        for (row, answer) in answers.iter().enumerate() {
            right(&setting, row, answer);
            assert_eq!((answer.terms.rounds, answer.terms.bundles), (alone.terms.rounds, 1));
            let headers = u64::from(alone.terms.rounds) * HEADER_BYTES as u64;
            let payload = (alone.terms.bytes - headers) * u64::from(answer.terms.together);
            assert_eq!(answer.terms.bytes, headers + payload);
        }
        let most = answers.iter().map(|answer| answer.terms.together).max().unwrap();
        assert!(most > 1, "none of {AT_ONCE} questions shared a computation");
        for name in [names::ZERO, names::ONE] {
            let status = setting.until(name, EXACT, "books", |_| true).await;
            assert_eq!((status.answered, status.together_most), (AT_ONCE as u64 + 1, u64::from(most)));
            assert!(status.computations < status.answered, "{status:?}");
        }
        let [zero, one] = audit_both(&mut setting, EXACT);
        for audit in [&zero, &one] {
            assert_eq!((audit.committed.len(), audit.reserved.len()), (AT_ONCE + 1, AT_ONCE + 1));
            let serials: BTreeSet<_> =
                audit.reserved.values().map(|burnt| (burnt.epoch, burnt.first)).collect();
            assert_eq!(serials.len(), AT_ONCE + 1, "each its own bundle");
        }
        assert_eq!(zero.committed, one.committed);
    });
}

#[test]
fn a_question_that_one_party_never_gets_leaves_the_others_alone() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        let inside = Inside::enter(&mut setting, PRIVATE);
        inside.ask(&setting, 0, None).await.unwrap();
        let good = paid - 1;
        let (zero, one) = (ReleaseId([1; 16]), ReleaseId([2; 16]));
        let started = Instant::now();
        let ((at_zero, _), (at_one, _), told) = tokio::join!(
            inside.ask_only(0, zero),
            inside.ask_only(1, one),
            join_all((1..=good).map(|row| inside.ask(&setting, row, None)))
        );
        assert!(matches!(at_zero.obstacle, Obstacle::Deadline | Obstacle::Budget), "{at_zero}");
        assert!(matches!(at_one.obstacle, Obstacle::Peer), "{at_one}");
        let refusals: Vec<Refusal> = told.into_iter().filter_map(Result::err).collect();
        // The bad question may hold a charge while it waits; nothing else may be in the way.
        assert!(refusals.len() <= 1, "{refusals:?}");
        for refusal in &refusals {
            assert_eq!(refusal.obstacle, Obstacle::Budget);
        }
        for row in 0..refusals.len() {
            inside.ask(&setting, row, None).await.unwrap();
        }
        refused(inside.ask(&setting, 0, None).await, &[Obstacle::Budget]);
        assert!(started.elapsed() < 4 * ANSWER_WITHIN);
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!(zero.books.owners, one.books.owners);
        assert_eq!((zero.committed.len(), one.committed.len()), (paid, paid), "the bad one was refunded");
        assert_eq!((zero.books.kept, one.books.kept), (0, 0));
    });
}

#[test]
fn nobody_waits_long_for_a_share_that_does_not_come() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let inside = Inside::enter(&mut setting, EXACT);
        inside.ask(&setting, 0, None).await.unwrap();
        let bad = async {
            let (refusal, waited) = inside.ask_only(0, ReleaseId([3; 16])).await;
            assert_eq!(refusal.obstacle, Obstacle::Deadline, "{refusal}");
            waited
        };
        let good = async {
            let mut slowest = 0f64;
            for row in 0..8 {
                let answer = inside.ask(&setting, row, None).await.unwrap();
                right(&setting, row, &answer);
                slowest = slowest.max(answer.milliseconds);
            }
            slowest
        };
        let (waited, slowest) = tokio::join!(bad, good);
        assert!(slowest < ROUND_DEADLINE.as_secs_f64() * 750.0, "{slowest} ms behind a missing share");
        assert!(waited < ROUND_DEADLINE, "{waited:?}");
        // The name is used up, the bundle too, and the next question is answered.
        let told = inside.ask(&setting, 1, release(3)).await;
        refused(told, &[Obstacle::Release, Obstacle::Deadline]);
        inside.ask(&setting, 2, None).await.unwrap();
        let [zero, one] = audit_both(&mut setting, EXACT);
        assert_eq!((zero.committed.len(), one.committed.len()), (10, 10));
        assert_eq!((zero.books.refunded, one.reserved.len()), (1, 10));
    });
}

#[test]
fn what_one_party_burnt_for_a_question_that_the_other_never_got_is_burnt_at_both() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let inside = Inside::enter(&mut setting, EXACT);
        for number in 0..3 {
            let (refusal, _) = inside.ask_only(0, ReleaseId([number; 16])).await;
            assert_eq!(refusal.obstacle, Obstacle::Deadline, "{refusal}");
        }
        let level = async |name| {
            let some = setting.until(name, EXACT, "pool", |status| status.pool.is_some()).await;
            some.pool.unwrap().left
        };
        // Where refills are under way, one of them is ahead for a moment.
        let started = Instant::now();
        while level(names::ZERO).await != level(names::ONE).await {
            assert!(started.elapsed() < SOON, "the levels stay apart");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let answer = inside.ask(&setting, 0, None).await.unwrap();
        right(&setting, 0, &answer);
    });
}
