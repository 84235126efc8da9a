//! Homomorphic tasks over the network: an owner publishes, clients ask under their own keys, and every input is counted
//! before it is answered.

use crate::setting::{INPUTS, SOON, Setting, in_runtime, names_of, peer_of, scenario};
use consilium::admin::{AdminReply, AdminRequest, call, publish_all, publish_planned};
use consilium::demo::{free_port, names};
use consilium::encrypted::{EncryptedStatus, Opened, Planned};
use consilium::homomorphic::{class, encode, read_plan};
use consilium::message::{Obstacle, Refusal};
use consilium::net::{ChannelError, Role};
use consilium_config::{HomomorphicTask, Member, Node, Roster};
use consilium_protocol::graph::{Layer, Network, Shape};
use consilium_protocol::homomorphic::{IntegerNet, Mode};
use consilium_protocol::model::{Model, Weights, export};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

const TASK: &str = "encrypted";
const CLASSES: usize = 3;
const RANGE: [f64; 2] = [-1.0, 2.0];
/// A question takes about a second on a machine with nothing else to do.
const WITHIN: Duration = Duration::from_secs(90);

/// Two dense layers with a square between them, and small integers for weights.
fn model() -> Model {
    let dense = |outputs| Layer::Dense { outputs };
    let layers = vec![dense(4), Layer::Square, dense(CLASSES as u32)];
    let network = Network::new(Shape::vector(INPUTS as u32), layers).unwrap();
    let weights = |inputs: usize, outputs: usize| Weights {
        weight: (0..inputs * outputs).map(|at| ((at * at + 3 * at) % 7) as f32 - 3.0).collect(),
        bias: (0..outputs).map(|at| at as f32 - 1.0).collect(),
    };
    Model::new(network, vec![weights(INPUTS, 4), weights(4, CLASSES)]).unwrap()
}

/// Rows of quarters within the range.
fn rows(count: usize) -> Vec<Vec<f64>> {
    let value = |row: usize, at: usize| -1.0 + ((row * 31 + at * 17 + row * at) % 13) as f64 / 4.0;
    (0..count).map(|row| (0..INPUTS).map(|at| value(row, at)).collect()).collect()
}

/// A consortium whose first hospital owns a homomorphic task of the clinic, and can be dialled.
struct Bench {
    setting: Setting,
    owner: String,
}

impl Bench {
    async fn new(inputs_per_client_max: u64) -> Self {
        let setting = Setting::prepared(scenario(), "info");
        let owner = names_of(&setting)[0].clone();
        let port = free_port().unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        let path = setting.world.folder_of("roster.toml");
        let roster = Roster::load(&path).unwrap();
        let placed = |member: &Member| match member.name.as_str() == owner {
            true => Member { addresses: vec![address.parse().unwrap()], ..member.clone() },
            false => member.clone(),
        };
        let task = HomomorphicTask {
            name: TASK.parse().unwrap(),
            title: "Which of three, encrypted".to_owned(),
            owner: owner.parse().unwrap(),
            clients: vec![names::CLIENT.parse().unwrap()],
            input: Shape::vector(INPUTS as u32),
            classes: (0..CLASSES).map(|class| format!("class {class}")).collect(),
            input_min: RANGE[0],
            input_abs_max: RANGE[1],
            inputs_per_client_max,
            image: None,
            features: None,
        };
        let members = roster.members().iter().map(placed).collect();
        let (pairs, tasks) = (roster.pairs().to_vec(), roster.tasks().to_vec());
        let roster =
            Roster::new(roster.consortium(), members, pairs, tasks, roster.module().cloned()).unwrap();
        let roster = roster.with_homomorphic(vec![task]).unwrap();
        std::fs::write(path, roster.to_toml()).unwrap();
        let file = setting.world.folder_of(&owner).join("consilium.toml");
        let text = Node::load(&file).unwrap().to_toml();
        let listening = text.replace("listen = []", &format!("listen = [\"{address}\"]"));
        assert_ne!(text, listening);
        std::fs::write(file, listening).unwrap();
        let mut bench = Self { setting, owner };
        bench.setting.world.launch_all().await.unwrap();
        bench
    }

    async fn published(inputs_per_client_max: u64) -> Self {
        let bench = Self::new(inputs_per_client_max).await;
        let published = bench.publish(None).await.unwrap();
        assert_eq!((published.version, published.plans.len()), (1, 2), "{published:?}");
        bench
    }

    async fn publish(&self, mode: Option<Mode>) -> Result<Planned, Refusal> {
        self.publish_file(&self.owner, &export(&model(), "consilium"), mode).await
    }

    async fn publish_file(&self, name: &str, file: &[u8], mode: Option<Mode>) -> Result<Planned, Refusal> {
        let (socket, task) = (self.setting.world.socket(name), TASK.to_owned());
        let reply = match mode {
            Some(mode) => publish_planned(&socket, task, (Some(mode), None), file).await,
            None => consilium::admin::publish(&socket, task, file).await,
        };
        match reply.unwrap() {
            AdminReply::Planned { entry, .. } => Ok(entry),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, rows: Vec<Vec<f64>>, mode: Option<Mode>) -> Result<Opened, Refusal> {
        self.ask_from(names::CLIENT, rows, mode).await
    }

    async fn ask_from(&self, name: &str, rows: Vec<Vec<f64>>, mode: Option<Mode>) -> Result<Opened, Refusal> {
        let request = AdminRequest::AskEncrypted { task: TASK.to_owned(), rows, mode, logits: true };
        let asked = tokio::time::timeout(WITHIN, call(&self.setting.world.socket(name), &request)).await;
        match asked.expect("nothing may hang").unwrap() {
            AdminReply::Opened(opened) => Ok(*opened),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Asks, and compares every logit with the network of integers in the clear, and every label with it.
    async fn right(&self, count: usize, mode: Option<Mode>) -> Opened {
        let asked = rows(count);
        let opened = self.ask(asked.clone(), mode).await.unwrap();
        let word = serde_json::to_value(opened.terms.mode).unwrap();
        let file = format!("homomorphic/secrets/{TASK}/{}.plan", word.as_str().unwrap());
        let plan = read_plan(&self.setting.world.folder_of(names::CLIENT).join(file)).unwrap();
        let net = IntegerNet::quantise(&model(), RANGE, &plan.scales).unwrap();
        let floats: Vec<Vec<f32>> =
            asked.iter().map(|row| row.iter().map(|value| *value as f32).collect()).collect();
        let clear: Vec<i128> = floats
            .iter()
            .flat_map(|row| net.evaluate(&encode(&plan, std::iter::once(row.as_slice())).unwrap()))
            .collect();
        assert_eq!(opened.logits.as_ref().unwrap().concat(), clear);
        let labels: Vec<u32> = clear.chunks(CLASSES).map(|logits| class(logits) as u32).collect();
        assert_eq!(opened.labels, labels);
        let named: Vec<String> = labels.iter().map(|label| format!("class {label}")).collect();
        assert_eq!(opened.classes, named);
        assert_eq!((opened.terms.kind.as_str(), &opened.terms.owner), ("homomorphic", &self.owner));
        opened
    }

    async fn status(&self, name: &str) -> EncryptedStatus {
        let report = self.setting.world.status(name).await.unwrap();
        report.encrypted.into_iter().find(|status| status.task == TASK).unwrap()
    }

    /// Inputs counted and left, as the owner says.
    async fn counts(&self) -> Option<(u64, u64)> {
        let status = self.status(&self.owner).await;
        let count = status.clients.iter().find(|count| count.client == names::CLIENT);
        count.map(|count| (count.counted, count.left))
    }

    fn in_owner(&self, path: &str) -> PathBuf {
        self.setting.world.folder_of(&self.owner).join("homomorphic").join(path)
    }

    async fn restart_owner(&mut self) {
        self.setting.world.kill(&self.owner).unwrap();
        let owner = self.owner.clone();
        self.setting.revive(&owner).await;
    }
}

#[test]
fn a_client_asks_in_both_modes_and_sends_keys_once() {
    in_runtime(async {
        let bench = Bench::new(1000).await;
        let refused = bench.ask(rows(1), None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Models, "{refused}");
        let relu = export(&bench.setting.scenario.hospitals[0].model, "consilium");
        let refused = bench.publish_file(&bench.owner, &relu, None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Model);
        assert!(refused.explanation.contains("x * x"), "{refused}");
        let refused = bench.publish_file(names::CLIENT, &relu, None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::NotAllowed, "{refused}");
        let published = bench.publish(None).await.unwrap();

        let first = bench.right(1, None).await;
        assert_eq!((first.terms.mode, first.terms.counted, first.terms.left), (Mode::Single, 1, 999));
        assert!(first.terms.keys_bytes > 0);
        let again = bench.right(1, None).await;
        assert_eq!((again.terms.keys_bytes, again.terms.counted), (0, 2), "the owner has the keys");
        let several = bench.right(7, None).await;
        assert_eq!((several.terms.mode, several.terms.queries, several.terms.counted), (Mode::Batch, 1, 9));
        assert!(several.terms.keys_bytes > 0, "another plan, another key");
        let singles = bench.right(3, Some(Mode::Single)).await;
        assert_eq!((singles.terms.queries, singles.terms.counted, singles.terms.keys_bytes), (3, 12, 0));
        assert!(published.plans.iter().any(|plan| plan.digest == singles.terms.plan));

        // Keys that are gone are sent again, and nothing else is noticed.
        std::fs::remove_dir_all(bench.in_owner("keys").join(names::CLIENT)).unwrap();
        let anew = bench.right(1, None).await;
        assert_eq!((anew.terms.keys_bytes, anew.terms.counted), (first.terms.keys_bytes, 13));
        assert_eq!(bench.counts().await, Some((13, 987)));
        let (owner, client) = (bench.status(&bench.owner).await, bench.status(names::CLIENT).await);
        assert_eq!((owner.answered, client.answered, owner.queries), (7, 5, 0), "{owner:?} {client:?}");
        assert_eq!(owner.published, Some(published.clone()));
        assert_eq!(std::fs::read_dir(bench.in_owner("spool")).unwrap().count(), 0);

        // What is beyond the range is named and nothing is sent.
        let mut beyond = rows(2);
        beyond[1][3] = 2.5;
        let refused = bench.ask(beyond, None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Request);
        assert!(refused.explanation.contains("row 2, value 4"), "{refused}");
        let refused = bench.ask(vec![vec![0.0; 5]], None).await.unwrap_err();
        assert!(refused.explanation.contains("the task takes 6"), "{refused}");
        assert_eq!(bench.counts().await, Some((13, 987)));

        // Another model goes on with the counts of the one before.
        bench.setting.withdraw(&bench.owner, published.model).await.unwrap();
        assert_eq!(bench.ask(rows(1), None).await.unwrap_err().obstacle, Obstacle::Models);
        let only = bench.publish(Some(Mode::Batch)).await.unwrap();
        assert_eq!(only.plans.len(), 1);
        let fallen = bench.right(1, None).await;
        assert_eq!((fallen.terms.mode, fallen.terms.counted), (Mode::Batch, 14), "the mode that there is");
        assert_eq!(bench.ask(rows(1), Some(Mode::Single)).await.unwrap_err().obstacle, Obstacle::Models);
        let listed = match call(&bench.setting.world.socket(&bench.owner), &AdminRequest::AllPlanned).await {
            Ok(AdminReply::AllPlanned(listed)) => listed,
            other => panic!("{other:?}"),
        };
        assert_eq!(listed, [only]);
    });
}

#[test]
fn the_limit_holds_over_deaths_of_the_owner() {
    in_runtime(async {
        let mut bench = Bench::published(5).await;
        let opened = bench.right(3, None).await;
        assert_eq!((opened.terms.counted, opened.terms.left), (3, 2));
        let refused = bench.ask(rows(3), None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Inputs);
        assert!(refused.explanation.contains("2 more inputs"), "{refused}");
        bench.restart_owner().await;
        assert_eq!(bench.counts().await, Some((3, 2)));
        bench.right(2, Some(Mode::Single)).await;
        assert_eq!(bench.ask(rows(1), None).await.unwrap_err().obstacle, Obstacle::Inputs);
        bench.restart_owner().await;
        assert_eq!(bench.ask(rows(1), None).await.unwrap_err().obstacle, Obstacle::Inputs);
        assert_eq!(bench.counts().await, Some((5, 0)));
        // An owner whose counts are gone does not begin again.
        bench.setting.world.kill(&bench.owner).unwrap();
        std::fs::remove_file(bench.in_owner("counts.redb")).unwrap();
        bench.setting.world.launch(&bench.owner.clone()).unwrap();
        let error = bench.setting.world.ready(&bench.owner.clone()).await.unwrap_err().to_string();
        assert!(error.contains("counts.redb does not exist"), "{error}");
    });
}

#[test]
fn a_query_that_dies_with_its_owner_is_counted_and_the_next_one_is_answered() {
    in_runtime(async {
        let mut bench = Bench::published(100).await;
        bench.right(1, None).await;
        let order = bench.setting.world.folder_of(&bench.owner).join("crash-at");
        std::fs::write(&order, "EncryptedReserved 1").unwrap();
        let refused = bench.ask(rows(4), None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::Peer);
        assert!(refused.explanation.contains("the owner broke off"), "{refused}");
        assert!(!order.exists(), "it died where it was told to");
        assert_ne!(std::fs::read_dir(bench.in_owner("spool")).unwrap().count(), 0, "and left its spool");
        bench.restart_owner().await;
        assert_eq!(std::fs::read_dir(bench.in_owner("spool")).unwrap().count(), 0);
        assert_eq!(bench.counts().await, Some((5, 95)), "inputs that were reserved count");
        let opened = bench.right(4, None).await;
        assert_eq!((opened.terms.counted, opened.terms.keys_bytes), (9, 0), "the keys are still there");
        // What was answered before is not lost.
        std::fs::write(&order, "EncryptedReserved 2").unwrap();
        let opened = bench.ask(rows(3), Some(Mode::Single)).await.unwrap();
        let unanswered = opened.unanswered.clone().unwrap();
        assert_eq!((opened.labels.len(), opened.terms.counted), (1, 10), "{opened:?}");
        assert_eq!((unanswered.row, unanswered.refusal.obstacle), (2, Obstacle::Peer), "{unanswered:?}");
        bench.restart_owner().await;
        let again = bench.right(1, Some(Mode::Single)).await;
        assert_eq!((again.logits, again.terms.counted), (opened.logits, 12));
        assert_eq!(again.unanswered, None);
    });
}

/// As a client would say it, for one who is none.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Plan { task: String, task_digest: [u8; 32], mode: Mode },
}

/// As an owner says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Refused(Refusal),
}

#[test]
fn who_is_no_client_is_refused_and_what_makes_no_sense_ends_the_channel() {
    in_runtime(async {
        let mut bench = Bench::published(100).await;
        let other = names_of(&bench.setting)[1].clone();
        let refused = bench.ask_from(&other, rows(1), None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::NotAllowed);
        let refused = bench.publish_file(&other, &export(&model(), "consilium"), None).await.unwrap_err();
        assert_eq!(refused.obstacle, Obstacle::NotAllowed);
        assert!(refused.explanation.contains(&bench.owner), "{refused}");
        let files = ["a", "b"].map(|name| consilium::admin::ModelFile {
            name: name.to_owned(),
            bytes: export(&model(), "consilium"),
        });
        let reply = publish_all(&bench.setting.world.socket(&bench.owner), TASK.to_owned(), &files).await;
        assert!(matches!(reply, Ok(AdminReply::Refused(Refusal { obstacle: Obstacle::Model, .. }))));

        // The same over the wire, by a member that does not ask its own node.
        let (network, roster) = bench.setting.impersonate(&other);
        let owner = peer_of(&roster, &bench.owner);
        let digest = roster.homomorphic_task(TASK).unwrap().digest().to_bytes();
        let said = async |request: &Request| {
            let mut channel = network.open(owner, Role::Homomorphic, SOON).await.unwrap();
            channel.send_value(request).await.unwrap();
            let Reply::Refused(refusal) = channel.receive_value(1 << 16).await.unwrap();
            refusal
        };
        let plan =
            |task: &str| Request::Plan { task: task.to_owned(), task_digest: digest, mode: Mode::Batch };
        let refusal = said(&plan(TASK)).await;
        assert_eq!(refusal.obstacle, Obstacle::NotAllowed);
        assert!(refusal.explanation.contains(&format!("does not list {other}")), "{refusal}");
        assert_eq!(said(&plan("no such task")).await.obstacle, Obstacle::Task);
        for bytes in [vec![0xff; 100], vec![0; 5000]] {
            let mut channel = network.open(owner, Role::Homomorphic, SOON).await.unwrap();
            channel.send(&bytes).await.unwrap();
            let ended = channel.receive_within(1 << 16, SOON).await.unwrap_err();
            assert!(matches!(ended, ChannelError::Closed), "{ended}");
        }
        // A compute party owns nothing, and says nothing.
        let zero = peer_of(&roster, names::ZERO);
        let mut channel = network.open(zero, Role::Homomorphic, SOON).await.unwrap();
        drop(channel.send_value(&plan(TASK)).await);
        assert!(channel.receive_within(1 << 16, SOON).await.is_err());

        // A client whose roster has other terms.
        let (network, roster) = bench.setting.impersonate(names::CLIENT);
        let mut channel = network.open(owner, Role::Homomorphic, SOON).await.unwrap();
        let request = Request::Plan { task: TASK.to_owned(), task_digest: [7; 32], mode: Mode::Batch };
        channel.send_value(&request).await.unwrap();
        let Reply::Refused(refusal) = channel.receive_value(1 << 16).await.unwrap();
        assert_eq!(refusal.obstacle, Obstacle::Task, "{refusal}");
        drop((network, roster));
        assert!(bench.setting.world.status(&bench.owner).await.unwrap().faults >= 2);
    });
}
