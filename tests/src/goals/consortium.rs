//! One owner, one client, two parties on a core each.

use super::{Case, WARM_UP};
use crate::link::{Line, Link, PlacingError, place_before};
use consilium::admin::{AdminError, AdminReply, TaskStatus, publish};
use consilium::bench::Net;
use consilium::demo::{Hospital, Releases, Scenario, World, WorldError, names, tasks};
use consilium::training::{Examples, ExamplesError};
use consilium_config::{Comparison, ConfigError, Log, Node, Pools, Roster, Stock, Task};
use consilium_protocol::graph::{Network, Numbers};
use consilium_protocol::model::{Model, ModelError, Weights, export};
use consilium_protocol::stock::Gadget;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::process::Command;

pub(super) const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
const OWNER: &str = "hospital-01";
/// Refilling starts at this many bundles, which a run leaves untouched.
const LEFT: u32 = 2;
/// Longest way of a question; the longest making of a batch is a multiple of it.
const QUERY_DEADLINE: Duration = Duration::from_secs(300);
const FILLED_WITHIN: Duration = Duration::from_secs(1800);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const POOL_BYTES: u64 = 8 << 30;
/// Values of all rows of the bundles that are made in one go.
const REFILL_ROWS: u32 = 64;
const DELAY: Duration = Duration::from_millis(20);
const BITS_PER_SECOND: u64 = 100_000_000;

/// Where the parties are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LinkKind {
    /// On one machine
    Loopback,
    /// 40 ms there and back, 100 Mbit/s, between the parties and from the client to them
    #[value(name = "40ms")]
    Wide,
}

/// Why a consortium cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum ConsortiumError {
    /// A process.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A link.
    #[error(transparent)]
    Placing(#[from] PlacingError),
    /// A configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An administration socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The rows.
    #[error(transparent)]
    Examples(#[from] ExamplesError),
    /// A file or process.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What the owner's node says.
    #[error("the model was not published: {0}")]
    Published(String),
    /// The pools.
    #[error("the pools are not as wanted: {0}")]
    Pool(String),
    /// What the measuring command says.
    #[error("the measuring command failed: {0}")]
    Bench(String),
}

/// Running processes, and links in front of them.
pub(super) struct Consortium {
    world: World,
    _links: Vec<Link>,
}

impl LinkKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Wide => "40ms",
        }
    }

    /// What it does; `None` where there is none.
    pub(super) fn line(self) -> Option<Line> {
        (self == Self::Wide).then_some(Line { delay: DELAY, bits_per_second: Some(BITS_PER_SECOND) })
    }
}

/// Keeps this process on the core of the compute party that a node file belongs to. To be called before there
/// are threads. Other nodes, and systems that refuse, go on as they are.
pub fn pin_by_name(arguments: impl Iterator<Item = String>) {
    for argument in arguments {
        for (core, name) in [names::ZERO, names::ONE].into_iter().enumerate() {
            if argument.ends_with(&format!("/{name}/consilium.toml")) {
                pin(core);
            }
        }
    }
}

/// Keeps this thread, and those that it starts, on a core.
pub(super) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    // A machine with one core has no other to keep free.
    let _ = sched_setaffinity(None, &cores);
}

impl Consortium {
    /// Starts all processes, publishes a model of random weights and waits until the pool lasts for the run.
    pub(super) async fn start(case: &Case, network: &Network) -> Result<Self, ConsortiumError> {
        let scenario = scenario(case, network)?;
        let program = std::env::current_exe()?;
        let mut world = World::prepare(&scenario, program, None)?;
        let roster_file = world.folder_of("roster.toml");
        let roster = Roster::load(&roster_file)?;
        let wanted = roster.tasks().iter().filter(|task| task.name.as_str() == tasks::EXACT);
        let wanted = wanted.map(|task| Task {
            batch_queries: case.batch,
            comparison: match case.gadget {
                Gadget::Digits => Comparison::Digits,
                Gadget::Nibbles => Comparison::Nibbles,
                Gadget::Keys => Comparison::Keys,
            },
            stock: Stock { low: LEFT, high: bundles(case) },
            ..task.clone()
        });
        let (members, pairs) = (roster.members().to_vec(), roster.pairs().to_vec());
        let roster =
            Roster::new(roster.consortium(), members, pairs, wanted.collect(), roster.module().cloned())?;
        std::fs::write(roster_file, roster.to_toml())?;
        for member in roster.members() {
            provide(&world, member.name.as_str(), case)?;
        }
        let mut links = Vec::new();
        if let Some(line) = case.link.line() {
            for name in [names::ZERO, names::ONE] {
                links.push(place_before(&world, name, line)?);
            }
        }
        world.launch_all().await?;
        let consortium = Self { world, _links: links };
        for hospital in &scenario.hospitals {
            consortium.publish(&hospital.model).await?;
        }
        consortium.filled(case).await?;
        Ok(consortium)
    }

    async fn publish(&self, model: &Model) -> Result<(), ConsortiumError> {
        let (socket, task) = (self.world.socket(OWNER), tasks::EXACT.to_owned());
        match publish(&socket, task, &export(model, "consilium")).await? {
            AdminReply::Published { .. } => Ok(()),
            AdminReply::Refused(refusal) => Err(ConsortiumError::Published(refusal.to_string())),
            _ => Err(ConsortiumError::Published("its node answered something else".to_owned())),
        }
    }

    async fn task(&self, name: &str) -> Result<TaskStatus, ConsortiumError> {
        let report = self.world.status(name).await?;
        let mut tasks = report.seats.into_iter().flat_map(|seat| seat.tasks);
        tasks.next().ok_or_else(|| ConsortiumError::Pool(format!("{name} serves no task")))
    }

    async fn filled(&self, case: &Case) -> Result<(), ConsortiumError> {
        let started = Instant::now();
        loop {
            let mut full = true;
            for name in [names::ZERO, names::ONE] {
                let status = self.task(name).await?;
                full &= status.pool.is_some_and(|level| level.left >= u64::from(bundles(case)))
                    && status.refill.is_some_and(|refill| refill.batch.is_none());
            }
            if full {
                return Ok(());
            }
            if started.elapsed() > FILLED_WITHIN {
                let status = self.task(names::ZERO).await?;
                return Err(ConsortiumError::Pool(format!("{status:?}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Runs the product's own measuring command. Nothing may be made meanwhile.
    pub(super) async fn bench(&self, case: &Case) -> Result<Vec<Value>, ConsortiumError> {
        let (queries, warm_up) = (case.queries.to_string(), WARM_UP.to_string());
        let output = Command::new(std::env::current_exe()?)
            .args(["bench", "online", "--json", "--task", tasks::EXACT, "--link", case.link.name()])
            .args(["--queries", &queries, "--warm-up", &warm_up, "--rows", &case.batch.to_string()])
            .arg("--config")
            .arg(self.world.folder_of(names::CLIENT).join("consilium.toml"))
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(ConsortiumError::Bench(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let level = self.task(names::ZERO).await?.pool;
        if level.is_none_or(|level| level.left + level.used != u64::from(bundles(case))) {
            return Err(ConsortiumError::Pool(format!("it was refilled meanwhile: {level:?}")));
        }
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        lines.map_err(|error| ConsortiumError::Bench(error.to_string()))
    }
}

/// Bundles that a run uses, and those that it leaves.
fn bundles(case: &Case) -> u32 {
    (case.queries + WARM_UP + LEFT + 1).max(case.batch)
}

fn scenario(case: &Case, network: &Network) -> Result<Scenario, ConsortiumError> {
    let inputs = network.input().len();
    let hospital =
        Hospital { name: OWNER.to_owned(), rows: 1, model: random_model(network)?, shards: Vec::new() };
    Ok(Scenario {
        name: case.net.name().to_owned(),
        title: "How long does it take?".to_owned(),
        credit: String::new(),
        input: network.input(),
        classes: (1..=network.output().len()).map(|class| format!("class {class}")).collect(),
        input_abs_max: 1.0,
        numbers: NUMBERS,
        normalisation: None,
        hospitals: vec![hospital],
        test: Examples::new(inputs, vec![0.0; inputs], vec![0])?,
        releases: Releases::usual(1),
        preprocessing: case.source,
        pool: (LEFT, bundles(case)),
        query_deadline: QUERY_DEADLINE,
        standby: None,
    })
}

/// A quarter of what He et al. draw, so that no input leaves the public bound. Others would take as long.
fn random_model(network: &Network) -> Result<Model, ModelError> {
    let mut random = StdRng::seed_from_u64(1);
    let mut weights = Vec::new();
    for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
        let (weight, bias) = layer.parameters(network.shape_before(index));
        let spread = (6.0 * bias as f32 / weight as f32).sqrt() / 4.0;
        let weight = (0..weight).map(|_| random.random_range(-spread..spread)).collect();
        weights.push(Weights { weight, bias: vec![0.0; bias] });
    }
    Model::new(network.clone(), weights)
}

/// Room for large bundles, in the node file as an administrator would give it.
fn provide(world: &World, name: &str, case: &Case) -> Result<(), ConsortiumError> {
    let file = world.folder_of(name).join("consilium.toml");
    let node = Node::load(&file)?;
    // A bundle of the largest network is as much work as many of the others.
    let rows = if case.net == Net::Cnn { REFILL_ROWS / 4 } else { REFILL_ROWS };
    let refill_batch_queries = (rows / case.batch).max(1);
    let pools = Pools { bytes_max: POOL_BYTES, refill_batch_queries, ..*node.pools() };
    let log = Log { filter: "warn".to_owned(), ..node.log().clone() };
    let node = Node::new(
        node.place().clone(),
        node.network().clone(),
        pools,
        node.admin().clone(),
        log,
        node.module().clone(),
        node.http().clone(),
    )?;
    Ok(std::fs::write(file, node.to_toml())?)
}
