//! A small consortium with random networks, and how to talk to it.

use consilium::admin::{AdminError, AdminReply, AdminRequest, ModelFile, TaskStatus, call, publish_all};
use consilium::client::Answer;
use consilium::demo::{Hospital, Preprocessing, Releases, Scenario, Shard, World, names, tasks};
use consilium::ledger::ReleaseId;
use consilium::message::{Obstacle, Refusal};
use consilium::net::{Identity, Limits, Member, Network as Net, PeerId, Reach, Settings};
use consilium::owner::Published;
use consilium::registry::ModelId;
use consilium::task::TaskTerms;
use consilium::training::Examples;
use consilium_config::{Network as NetworkFile, Node, Pools, Roster};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::{Oracle, Verdict, verdict};
use consilium_protocol::graph::{Layer, Network, Numbers, Shape};
use consilium_protocol::model::{Model, Weights, export};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) const OWNERS: usize = 3;
pub(crate) const INPUTS: usize = 6;
pub(crate) const CLASSES: u32 = 3;
pub(crate) const BOUND: f64 = 64.0;
pub(crate) const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
pub(crate) const ROUND_DEADLINE: Duration = Duration::from_secs(2);
pub(crate) const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// A client waits for a query and a round; the rest is for a busy machine.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(12);
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// The first bundles need keys and the first transfers of bits, beside those of other tests.
const FIRST_POOL_WITHIN: Duration = Duration::from_secs(180);
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running consortium.
pub(crate) struct Setting {
    pub(crate) world: World,
    pub(crate) scenario: Scenario,
}

/// What came of a question: an answer, a refusal, or a client that died.
pub(crate) type Told = Result<Result<Answer, Refusal>, AdminError>;

/// Runs a test in a runtime of its own.
pub(crate) fn in_runtime<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(test)
}

pub(crate) fn network(inputs: u32, classes: u32) -> Network {
    let dense = |outputs| Layer::Dense { outputs };
    Network::new(Shape::vector(inputs), vec![dense(5), Layer::Relu, dense(classes)]).unwrap()
}

/// A model with weights and biases up to `magnitude`.
pub(crate) fn model(network: &Network, magnitude: f32, seed: u64) -> Model {
    let mut random = StdRng::seed_from_u64(seed);
    let layers = network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear());
    let weights = layers.map(|(index, layer)| {
        let (weight, bias) = layer.parameters(network.shape_before(index));
        let mut draw = |count| (0..count).map(|_| random.random_range(-magnitude..magnitude)).collect();
        Weights { weight: draw(weight), bias: draw(bias) }
    });
    Model::new(network.clone(), weights.collect()).unwrap()
}

pub(crate) fn scenario() -> Scenario {
    let network = network(INPUTS as u32, CLASSES);
    let hospital = |number: usize| Hospital {
        name: format!("hospital-{number:02}"),
        rows: 1,
        model: model(&network, 1.5, number as u64),
        shards: Vec::new(),
    };
    let (rows, mut random) = (64, StdRng::seed_from_u64(7));
    let inputs = (0..rows * INPUTS).map(|_| random.random_range(-30.0f32..30.0)).collect();
    Scenario {
        name: "small".into(),
        title: "Which of three?".into(),
        credit: String::new(),
        input: Shape::vector(INPUTS as u32),
        classes: (0..CLASSES).map(|class| format!("class {class}")).collect(),
        input_abs_max: BOUND,
        numbers: NUMBERS,
        normalisation: None,
        hospitals: (1..=OWNERS).map(hospital).collect(),
        test: Examples::new(INPUTS, inputs, vec![0; rows]).unwrap(),
        releases: Releases { sigma: "5/2".into(), ..Releases::usual(OWNERS) },
        preprocessing: Preprocessing::Pairwise,
        pool: (4, 12),
        query_deadline: 4 * QUERY_DEADLINE,
        standby: None,
    }
}

/// The same consortium with several models of each owner.
pub(crate) fn sharded_scenario(shards: usize) -> Scenario {
    let network = network(INPUTS as u32, CLASSES);
    let mut scenario = scenario();
    for (index, hospital) in scenario.hospitals.iter_mut().enumerate() {
        let shard = |number: usize| Shard {
            patients: vec![number],
            model: model(&network, 1.5, (1000 + index * shards + number) as u64),
        };
        hospital.rows = shards;
        hospital.shards = (0..shards).map(shard).collect();
    }
    Scenario { releases: Releases { sigma: "4".into(), ..Releases::usual(OWNERS * shards) }, ..scenario }
}

/// The same consortium with a dealer.
pub(crate) fn dealt_scenario() -> Scenario {
    Scenario { preprocessing: Preprocessing::Dealer, ..scenario() }
}

impl Setting {
    /// All files are written, no process runs.
    pub(crate) fn prepared(scenario: Scenario, filter: &str) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_node"));
        let world = World::prepare(&scenario, program, None).unwrap();
        let hospitals = scenario.hospitals.iter().map(|hospital| hospital.name.as_str());
        let dealer = (scenario.preprocessing == Preprocessing::Dealer).then_some(names::DEALER);
        let others = [names::ZERO, names::ONE, names::CLIENT].into_iter().chain(dealer);
        for name in others.chain(hospitals) {
            shorten(&world, name, filter);
        }
        Self { world, scenario }
    }

    /// All processes run, nothing is published.
    pub(crate) async fn bare(scenario: Scenario, filter: &str) -> Self {
        let mut setting = Self::prepared(scenario, filter);
        setting.world.launch_all().await.unwrap();
        setting
    }

    /// All models vote and the pools of `tasks` are filled.
    pub(crate) async fn published(tasks: &[&str]) -> Self {
        let setting = Self::bare(scenario(), "info").await;
        setting.publish_all(tasks).await;
        setting
    }

    /// The same with a dealer.
    pub(crate) async fn dealt(tasks: &[&str]) -> Self {
        let setting = Self::bare(dealt_scenario(), "info").await;
        setting.publish_all(tasks).await;
        setting
    }

    pub(crate) async fn publish_all(&self, tasks: &[&str]) {
        for task in tasks {
            for hospital in &self.scenario.hospitals {
                self.publish_shards(&hospital.name, task, &hospital.voters()).await.unwrap();
            }
            self.filled(task).await;
        }
    }

    /// Publishes models that belong together; the files are called `part-1.onnx` and so on.
    pub(crate) async fn publish_shards(
        &self,
        owner: &str,
        task: &str,
        models: &[&Model],
    ) -> Result<Published, Refusal> {
        let files: Vec<Vec<u8>> = models.iter().map(|model| export(model, "consilium")).collect();
        self.publish_files(owner, task, &files).await
    }

    pub(crate) async fn publish(&self, owner: &str, task: &str, model: &Model) -> Result<Published, Refusal> {
        self.publish_file(owner, task, &export(model, "consilium")).await
    }

    pub(crate) async fn publish_file(
        &self,
        owner: &str,
        task: &str,
        file: &[u8],
    ) -> Result<Published, Refusal> {
        self.publish_files(owner, task, &[file.to_vec()]).await
    }

    /// The same with several files.
    pub(crate) async fn publish_files(
        &self,
        owner: &str,
        task: &str,
        files: &[Vec<u8>],
    ) -> Result<Published, Refusal> {
        let named = files.iter().enumerate().map(|(index, bytes)| ModelFile {
            name: format!("part-{}.onnx", index + 1),
            bytes: bytes.clone(),
        });
        let named: Vec<ModelFile> = named.collect();
        match publish_all(&self.world.socket(owner), task.to_owned(), &named).await.unwrap() {
            AdminReply::Published { entry, .. } => Ok(entry),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// What an owner has published for a task.
    pub(crate) async fn published_by(&self, owner: &str, task: &str) -> ModelId {
        match call(&self.world.socket(owner), &AdminRequest::Models).await.unwrap() {
            AdminReply::Models(models) => models.into_iter().find(|entry| entry.task == task).unwrap().model,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn withdraw(&self, owner: &str, model: ModelId) -> Result<(), Refusal> {
        match call(&self.world.socket(owner), &AdminRequest::Withdraw { model }).await.unwrap() {
            AdminReply::Withdrawn => Ok(()),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn row(&self, row: usize) -> Vec<f64> {
        self.scenario.prepared(row % self.scenario.test.rows())
    }

    /// Asks about a test row, from the client's node.
    pub(crate) async fn ask(
        &self,
        task: &str,
        row: usize,
        release: Option<ReleaseId>,
    ) -> Result<Answer, Refusal> {
        ask(self.world.socket(names::CLIENT), task, self.row(row), release).await.unwrap()
    }

    /// Asks as often as the pool is empty, as a client does that asks faster than bundles are made.
    pub(crate) async fn answered(&self, task: &str, row: usize) -> Answer {
        loop {
            match self.ask(task, row, None).await {
                Err(refusal) if refusal.obstacle == Obstacle::Correlations => {
                    let some = |status: &TaskStatus| status.pool.is_some_and(|pool| pool.left > 0);
                    self.until_within(FIRST_POOL_WITHIN, names::ZERO, task, "bundle", some).await;
                }
                told => return told.unwrap(),
            }
        }
    }

    /// The oracle on a test row.
    pub(crate) fn verdict(&self, row: usize) -> Verdict {
        verdict_of(&self.scenario.voters(), &self.row(row))
    }

    /// Waits until party Zero has bundles at hand for a task, and gives its state.
    pub(crate) async fn filled(&self, task: &str) -> TaskStatus {
        let filled =
            |status: &TaskStatus| status.pool.is_some_and(|pool| pool.left > u64::from(self.scenario.pool.0));
        self.until_within(FIRST_POOL_WITHIN, names::ZERO, task, "bundles at hand", filled).await
    }

    /// Waits until a compute party's view of a task is as wanted.
    pub(crate) async fn until(
        &self,
        name: &str,
        task: &str,
        what: &str,
        wanted: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        self.until_within(SOON, name, task, what, wanted).await
    }

    async fn until_within(
        &self,
        within: Duration,
        name: &str,
        task: &str,
        what: &str,
        wanted: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        let started = Instant::now();
        loop {
            let report = self.world.status(name).await.unwrap();
            let seat = report.seats.into_iter().next().unwrap();
            let status = seat.tasks.into_iter().find(|status| status.task == task).unwrap();
            if wanted(&status) {
                return status;
            }
            let (fault, waited) = (seat.refill_fault, started.elapsed());
            assert!(waited < within, "{name}: no {what} in {waited:?}; {fault:?}; {status:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a dead process again and waits until the consortium is whole, without any other help.
    pub(crate) async fn revive(&mut self, name: &str) {
        self.world.launch(name).unwrap();
        self.world.ready(name).await.unwrap();
    }

    /// The network of a node in this very process, with its key. Its own process is killed.
    pub(crate) fn impersonate(&mut self, name: &str) -> (Net, Roster) {
        self.world.kill(name).unwrap();
        let key = self.world.folder_of(name).join("identity.key");
        let roster = Roster::load(&self.world.folder_of("roster.toml")).unwrap();
        let members = roster.members().iter().filter(|member| member.name.as_str() != name);
        let members = members.map(|member| Member {
            peer: member.peer.as_str().parse().unwrap(),
            addresses: member.addresses.iter().map(|text| text.as_str().parse().unwrap()).collect(),
        });
        let settings = Settings {
            identity: Identity::load(&key).unwrap(),
            listen: Vec::new(),
            members: members.collect(),
            reach: Reach::default(),
            limits: Limits::default(),
        };
        let (network, _) = Net::start(settings).unwrap();
        (network, roster)
    }

    /// How many answers of a task its budget pays for.
    pub(crate) fn paid(&self, task: &str) -> usize {
        let roster = Roster::load(&self.world.folder_of("roster.toml")).unwrap();
        let terms = roster.tasks().iter().find(|found| found.name.as_str() == task).unwrap();
        let budget = TaskTerms::new(terms).unwrap().budget.unwrap();
        (budget.owner / budget.price) as usize
    }
}

/// The owners' names, in the order of the roster.
pub(crate) fn names_of(setting: &Setting) -> Vec<String> {
    setting.scenario.hospitals.iter().map(|hospital| hospital.name.clone()).collect()
}

/// The peer of a member.
pub(crate) fn peer_of(roster: &Roster, name: &str) -> PeerId {
    roster.member(name).unwrap().peer.as_str().parse().unwrap()
}

/// Short deadlines and the wanted log, in the node file as an administrator would set them.
fn shorten(world: &World, name: &str, filter: &str) {
    let file = world.folder_of(name).join("consilium.toml");
    let node = Node::load(&file).unwrap();
    let network = NetworkFile {
        round_deadline: ROUND_DEADLINE,
        query_deadline: QUERY_DEADLINE,
        ..node.network().clone()
    };
    let pools = Pools { refill_batch_queries: 4, ..*node.pools() };
    let log = consilium_config::Log { filter: filter.to_owned(), ..node.log().clone() };
    let node = Node::new(
        node.place().clone(),
        network,
        pools,
        node.admin().clone(),
        log,
        node.module().clone(),
        node.http().clone(),
    )
    .unwrap();
    std::fs::write(file, node.to_toml()).unwrap();
}

pub(crate) async fn ask(socket: PathBuf, task: &str, row: Vec<f64>, release: Option<ReleaseId>) -> Told {
    let request = AdminRequest::Ask { task: task.to_owned(), rows: vec![row], release };
    let asked = tokio::time::timeout(ANSWER_WITHIN, call(&socket, &request)).await;
    match asked.expect("nothing may hang")? {
        AdminReply::Answer(answer) => Ok(Ok(*answer)),
        AdminReply::Refused(refusal) => Ok(Err(refusal)),
        other => panic!("{other:?}"),
    }
}

/// The oracle for any models.
pub(crate) fn verdict_of(models: &[&Model], row: &[f64]) -> Verdict {
    let words = Fixed { fraction_bits: NUMBERS.fraction_bits }.encode_all(row, BOUND).unwrap();
    let vote = |model: &&Model| Oracle::new((*model).clone(), NUMBERS).unwrap().vote(&words);
    verdict(&models.iter().map(vote).collect::<Vec<_>>(), CLASSES as usize)
}

pub(crate) fn release(number: u8) -> Option<ReleaseId> {
    Some(ReleaseId([number; 16]))
}

#[track_caller]
pub(crate) fn refused(told: Result<Answer, Refusal>, allowed: &[Obstacle]) -> Refusal {
    match told {
        Err(refusal) if allowed.contains(&refusal.obstacle) => refusal,
        other => panic!("expected {allowed:?}, got {other:?}"),
    }
}

pub(crate) const PRIVATE: &str = tasks::SERVICE;
pub(crate) const EXACT: &str = tasks::EXACT;
