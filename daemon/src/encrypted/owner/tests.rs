use super::*;
use crate::encrypted::message::REPLY_BYTES_MAX;
use crate::homomorphic::{Secret, Ticket, decrypt, encrypt, make_keys, read_plan, read_secret, testing};
use crate::transfer::{receive_file, send_file};
use consilium_protocol::graph::Shape;
use consilium_protocol::homomorphic::{Plan, Scales};
use consilium_protocol::model::export;
use std::path::PathBuf;
use tempfile::TempDir;

const TASK: &str = "digits";
const CLIENT: &str = "practice";
const LIMIT: u64 = 20;

fn task() -> HomomorphicTask {
    HomomorphicTask {
        name: TASK.parse().unwrap(),
        title: "Digits".to_owned(),
        owner: "north".parse().unwrap(),
        clients: vec![CLIENT.parse().unwrap()],
        input: Shape::vector(5),
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        input_min: 0.0,
        input_abs_max: 2.0,
        inputs_per_client_max: LIMIT,
        image: None,
        features: None,
    }
}

fn wanted() -> ToPublish {
    let scales = Some(Scales { input: 2, maps: vec![1.0, 1.0] });
    ToPublish { file: export(&testing::model(), "test"), mode: Some(Mode::Batch), scales }
}

/// An owner with a plan for batches, and a client's files.
struct Bench {
    owner: Arc<Owner>,
    folder: TempDir,
    plan: Plan,
    secret: Secret,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = Arc::new(StorageKey::random().unwrap());
        let tally = Arc::new(Tally::new([TASK.to_owned()]));
        std::fs::create_dir(at("owner")).unwrap();
        let threads = NonZero::<usize>::MIN;
        let owner = Arc::new(Owner::open(&at("owner"), vec![task()], key, threads, tally).unwrap());
        owner.publish(TASK, wanted()).await.unwrap();
        let file = &owner.shelf.of(TASK).unwrap().plans[0].file;
        let plan = read_plan(file).unwrap();
        make_keys(&plan, &at("secret"), &at("keys")).unwrap();
        let secret = read_secret(&at("secret"), &plan).unwrap();
        Self { owner, folder, plan, secret }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A query of so many rows, and its ticket.
    fn query(&self, rows: usize) -> (Vec<i64>, Ticket) {
        let inputs: Vec<i64> = (0..rows * 5).map(|place| (place * place % 5) as i64).collect();
        let files = (&*self.at("query"), &*self.at("ticket"));
        let made = encrypt(&self.plan, &self.secret, &inputs, files, NonZero::<usize>::MIN, &|_, _| ());
        (inputs, made.unwrap().0)
    }

    fn length(&self, name: &str) -> u64 {
        std::fs::metadata(self.at(name)).unwrap().len()
    }

    /// What an honest client asks about the query that is there.
    fn ask(&self, inputs: u32) -> Request {
        Request::Ask {
            task: TASK.to_owned(),
            task_digest: task().digest().to_bytes(),
            plan: self.plan.digest(),
            key: self.secret.id(),
            inputs,
            query_bytes: self.length("query"),
            keys_bytes: self.length("keys"),
        }
    }

    /// The other end of a channel that the owner serves.
    fn channel(&self, client: &str) -> Channel {
        let (here, there) = Channel::pair();
        tokio::spawn(self.owner.clone().serve(there, client.to_owned()));
        here
    }

    /// Asks and sends what is wanted; the last word of the owner, and whether it wanted keys.
    async fn put(&self, channel: &mut Channel, request: &Request) -> (Reply, bool) {
        channel.send_value(request).await.unwrap();
        let mut keys = false;
        loop {
            match channel.receive_value(REPLY_BYTES_MAX).await.unwrap() {
                Reply::Keys => {
                    keys = true;
                    send_file(channel, &self.at("keys"), self.length("keys")).await.unwrap();
                }
                Reply::Query => send_file(channel, &self.at("query"), self.length("query")).await.unwrap(),
                Reply::Working { .. } => {}
                reply => return (reply, keys),
            }
        }
    }

    /// Why a request is refused.
    async fn refused(&self, request: &Request) -> Refusal {
        match self.put(&mut self.channel(CLIENT), request).await.0 {
            Reply::Refused(refusal) => refusal,
            reply => panic!("{reply:?}"),
        }
    }

    fn counted(&self) -> u64 {
        self.owner.books.count(TASK, CLIENT, LIMIT).unwrap().counted
    }
}

#[tokio::test]
async fn an_honest_question_is_counted_and_answered_and_keys_are_wanted_once() {
    let bench = Bench::new().await;
    let mut channel = bench.channel(CLIENT);
    for (turn, wanted) in [(1, true), (2, false)] {
        let (inputs, ticket) = bench.query(4);
        let (reply, keys) = bench.put(&mut channel, &bench.ask(4)).await;
        let Reply::Answer { bytes, counted, left } = reply else { panic!("{reply:?}") };
        assert_eq!((counted, left, keys), (4 * turn, LIMIT - 4 * turn, wanted));
        receive_file(&mut channel, &bench.at("answer"), bytes).await.unwrap();
        let threads = NonZero::<usize>::MIN;
        let opened =
            decrypt(&bench.plan, &bench.secret, &ticket, &bench.at("answer"), threads, &|_, _| ()).unwrap();
        assert_eq!(opened.logits.concat(), testing::net().1.evaluate(&inputs));
    }
    assert_eq!(bench.owner.counts(&task()).unwrap(), [(CLIENT.to_owned(), 8, LIMIT - 8)]);
    while bench.owner.tally.counts(Side::Owner, TASK).answered < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn more_inputs_than_were_named_are_not_answered() {
    let bench = Bench::new().await;
    bench.query(5);
    let refusal = bench.refused(&bench.ask(1)).await;
    assert_eq!(refusal.obstacle, Obstacle::Request);
    assert!(refusal.explanation.contains("5 inputs and was said to have 1"), "{refusal}");
    assert_eq!(bench.counted(), 0);
    bench.query(1);
    assert_eq!(bench.refused(&bench.ask(5)).await.obstacle, Obstacle::Request);
    bench.query(15);
    assert!(matches!(bench.put(&mut bench.channel(CLIENT), &bench.ask(15)).await.0, Reply::Answer { .. }));
    bench.query(6);
    let refusal = bench.refused(&bench.ask(6)).await;
    assert_eq!((refusal.obstacle, bench.counted()), (Obstacle::Inputs, 15));
}

#[tokio::test]
async fn a_query_that_was_changed_is_refused_and_counted() {
    let bench = Bench::new().await;
    bench.query(3);
    let mut bytes = std::fs::read(bench.at("query")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(bench.at("query"), &bytes).unwrap();
    let refusal = bench.refused(&bench.ask(3)).await;
    assert_eq!(refusal.obstacle, Obstacle::Request);
    assert!(refusal.explanation.starts_with("the query was changed"), "no path is told: {refusal}");
    assert!(refusal.explanation.ends_with("; its inputs are counted"), "{refusal}");
    assert_eq!(bench.counted(), 3, "it was counted before anything was evaluated");
    std::fs::write(bench.at("query"), vec![7; bytes.len()]).unwrap();
    assert_eq!(bench.refused(&bench.ask(3)).await.obstacle, Obstacle::Request);
    assert_eq!((bench.counted(), bench.owner.queries()), (3, 0));
}

#[tokio::test]
async fn questions_that_do_not_fit_are_refused_before_anything_is_sent() {
    let bench = Bench::new().await;
    bench.query(1);
    let changed = |change: fn(&mut Request)| {
        let mut request = bench.ask(1);
        change(&mut request);
        request
    };
    type Change = fn(&mut Request);
    let cases: [(Obstacle, Change); 9] = [
        (Obstacle::Task, |request| {
            if let Request::Ask { task, .. } = request {
                *task = "x".repeat(2000);
            }
        }),
        (Obstacle::Task, |request| {
            if let Request::Ask { task_digest, .. } = request {
                task_digest[0] ^= 1;
            }
        }),
        (Obstacle::Models, |request| {
            if let Request::Ask { plan, .. } = request {
                plan[0] ^= 1;
            }
        }),
        (Obstacle::Request, |request| {
            if let Request::Ask { inputs, .. } = request {
                *inputs = 0;
            }
        }),
        (Obstacle::Request, |request| {
            if let Request::Ask { inputs, .. } = request {
                *inputs = u32::MAX;
            }
        }),
        (Obstacle::Inputs, |request| {
            if let Request::Ask { inputs, .. } = request {
                *inputs = 21;
            }
        }),
        (Obstacle::Request, |request| {
            if let Request::Ask { query_bytes, .. } = request {
                *query_bytes = u64::MAX;
            }
        }),
        (Obstacle::Request, |request| {
            if let Request::Ask { query_bytes, .. } = request {
                *query_bytes = 0;
            }
        }),
        (Obstacle::Request, |request| {
            if let Request::Ask { keys_bytes, .. } = request {
                *keys_bytes = u64::MAX;
            }
        }),
    ];
    for (obstacle, change) in cases {
        let mut channel = bench.channel(CLIENT);
        channel.send_value(&changed(change)).await.unwrap();
        let reply: Reply = channel.receive_value(REPLY_BYTES_MAX).await.unwrap();
        let Reply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.obstacle, obstacle, "{refusal}");
        assert!(matches!(channel.receive(1).await, Err(ChannelError::Closed)), "the channel ends");
    }
    let mut stranger = bench.channel("stranger");
    stranger.send_value(&bench.ask(1)).await.unwrap();
    let reply: Reply = stranger.receive_value(REPLY_BYTES_MAX).await.unwrap();
    assert!(matches!(reply, Reply::Refused(Refusal { obstacle: Obstacle::NotAllowed, .. })), "{reply:?}");
    assert_eq!(bench.counted(), 0);
}

#[tokio::test]
async fn a_client_has_one_query_at_a_time_and_leaves_nothing_when_it_goes() {
    let bench = Bench::new().await;
    bench.query(1);
    let mut first = bench.channel(CLIENT);
    first.send_value(&bench.ask(1)).await.unwrap();
    let reply: Reply = first.receive_value(REPLY_BYTES_MAX).await.unwrap();
    assert_eq!(reply, Reply::Keys);
    let refusal = bench.refused(&bench.ask(1)).await;
    assert_eq!(refusal.obstacle, Obstacle::Busy, "{refusal}");
    assert_eq!(bench.owner.queries(), 1);
    first.send(&[0; 1]).await.unwrap();
    let reply: Reply = first.receive_value(REPLY_BYTES_MAX).await.unwrap();
    assert!(matches!(reply, Reply::Refused(_)), "a frame of another length: {reply:?}");
    drop(first);
    assert!(matches!(bench.put(&mut bench.channel(CLIENT), &bench.ask(1)).await.0, Reply::Answer { .. }));
    assert_eq!(bench.counted(), 1);
}

#[tokio::test]
async fn what_is_withdrawn_or_replaced_while_a_query_waits_is_neither_counted_nor_evaluated() {
    let bench = Bench::new().await;
    bench.query(2);
    for replaced in [true, false] {
        let live = bench.owner.shelf.of(TASK).unwrap();
        let question = Arc::new(bench.owner.question(CLIENT, bench.ask(2)).unwrap());
        let berth = bench.owner.spool.enter(CLIENT, 1).unwrap();
        std::fs::copy(bench.at("query"), &berth.query).unwrap();
        if replaced {
            bench.owner.publish(TASK, wanted()).await.unwrap();
        } else {
            assert!(bench.owner.withdraw(live.entry.model).await.unwrap());
        }
        let refusal = bench.owner.work(&question, &berth, &Progress::default()).unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Models, "{refusal}");
        assert!(refusal.explanation.contains("ask again"), "{refusal}");
        assert_eq!(bench.owner.still(&task(), &live).unwrap_err(), refusal);
        assert_eq!((bench.counted(), berth.answer.exists()), (0, false));
    }
}

#[tokio::test]
async fn keys_that_are_gone_when_it_is_a_query_s_turn_cost_nothing_and_are_wanted_again() {
    let bench = Bench::new().await;
    bench.query(2);
    let answered = async || {
        let mut channel = bench.channel(CLIENT);
        let told = bench.put(&mut channel, &bench.ask(2)).await;
        let (Reply::Answer { bytes, .. }, true) = told else { panic!("{told:?}") };
        receive_file(&mut channel, &bench.at("answer"), bytes).await.unwrap();
        while bench.owner.queries() > 0 {
            tokio::task::yield_now().await;
        }
    };
    answered().await;
    let folder = bench.at("owner/keys").join(CLIENT);
    let kept = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&kept, bytes).unwrap();
    let refusal = bench.refused(&bench.ask(2)).await;
    assert_eq!(refusal.obstacle, Obstacle::Busy, "{refusal}");
    assert!(refusal.explanation.contains("nothing was counted; ask again") && !kept.exists(), "{refusal}");
    assert_eq!(bench.counted(), 2);
    answered().await;
    assert_eq!(bench.counted(), 4);
}

#[tokio::test]
async fn a_client_hears_nothing_of_the_owners_disk() {
    let bench = Bench::new().await;
    bench.query(1);
    std::fs::remove_dir_all(bench.at("owner/spool")).unwrap();
    let refusal = bench.refused(&bench.ask(1)).await;
    assert_eq!(refusal.obstacle, Obstacle::Local);
    assert!(!refusal.explanation.contains('/'), "{refusal}");
}

#[tokio::test]
async fn a_query_that_was_misdescribed_does_not_wait_for_its_turn() {
    let bench = Bench::new().await;
    bench.query(5);
    let _turn = bench.owner.turn.clone().acquire_owned().await.unwrap();
    let refusal = bench.refused(&bench.ask(1)).await;
    assert!(refusal.explanation.contains("5 inputs and was said to have 1"), "{refusal}");
}
