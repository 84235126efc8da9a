//! A consortium of eight daemons, each on a machine of its own as far as the kernel can make one: a network namespace
//! with its own address, 40 ms from all others, over links that lose packets, one of them behind address translation.
//!
//! It forms by the commands that administrators run, is asked all the time about several subjects, is broken in one way
//! after the other, and has to heal by itself. Every exact label is held against the oracle, noise must come from the
//! module that a member hosts or, while that is gone, from software; every refusal must have a reason that the fault
//! gives, and at the end the ledgers of both pairs must be sound and have every answer once.
//!
//! Links are carried in user space, through one TUN device for each node: the network emulation of the kernel is not
//! everywhere, and this way all machines measure the same. It takes the rights of root.

mod packet;
mod nat;
mod switch;
mod host;
mod tally;
mod subject;
mod terms;
mod encrypted;
mod load;
mod process;
mod module;
mod node;
mod world;
mod laboratory;
mod forming;
mod growth;
mod books;
mod coverage;
mod endurance;
mod report;
mod acts;

pub use books::Books;
pub use coverage::Coverage;
pub use endurance::{Faults, Healed};
pub use growth::{Growth, Holding};
pub use host::{Offer, offer, sweep};
pub use report::{Part, Summary};
pub use switch::{Carried, Line};
pub use tally::{Counts, Tally};
pub use terms::Second;

use growth::Watch;
use load::Asker;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use subject::Subjects;
use tokio::task::JoinSet;
use world::{Whole, World};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a process may take to come up, or to go when it is asked to.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Any error of a run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where progress is told.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// A file, device or process.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A command failed.
    #[error("{what}: {told}")]
    Command {
        /// The command.
        what: String,
        /// What it said.
        told: String,
    },
    /// A node file that this version of the program does not take.
    #[error(transparent)]
    Config(#[from] consilium_config::ConfigError),
    /// Something did not come in time.
    #[error("{what} did not come in time")]
    Late {
        /// What.
        what: String,
    },
    /// A process ended by itself.
    #[error("{name} ended with {status}; its log is {}:\n{tail}", log.display())]
    Ended {
        /// What it is.
        name: String,
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// The consortium did not become whole by itself.
    #[error("not whole again: {missing}")]
    Unhealed {
        /// What was missing.
        missing: String,
    },
    /// An act showed something else than it must.
    #[error("{what}")]
    Unexpected {
        /// What.
        what: String,
    },
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program of the nodes.
    pub program: PathBuf,
    /// Whether the acts are played.
    pub acts: bool,
    /// Whether the second pair has a task of its own, also where it could stand in for the first one.
    pub apart: bool,
    /// How long faults come at random after them.
    pub soak: Option<Duration>,
    /// Seed of losses, of data, and of faults.
    pub seed: u64,
    /// What links do.
    pub line: Line,
    /// Members behind address translation. One that others have to reach is then relayed, where this version of the
    /// program has that.
    pub nat: Vec<String>,
}

/// Forms a consortium beneath the folder `root`, breaks it, and tells what it showed.
///
/// # Errors
/// It did not come up, or the machine refused something; what a consortium that was up did wrong stands in the
/// summary.
pub async fn run(plan: &Plan, root: &Path, say: Say<'_>) -> Result<Summary, Failure> {
    let subjects = Subjects::new(plan.seed)?;
    let mut world = World::new(root, plan)?;
    say("namespaces, links and node files are made");
    let started = Instant::now();
    forming::form(&mut world, say).await?;
    let joined = started.elapsed();
    let second = forming::agree(&mut world, &subjects, plan.apart, say).await?;
    forming::publish(&world, &subjects, second).await?;
    say("all models are published");
    world.until(terms::MEMBERS.len(), Whole::Serving).await?;
    let answering = started.elapsed();
    say("all pools have bundles");
    let round_trip_ms = world.round_trip().await;

    let courier = laboratory::Courier::new(&world, plan.seed)?;
    let (mut asking, probes) = ask(&world, &subjects, second);
    asking.spawn(courier.keep_sending());
    let mut summary = Summary {
        seed: plan.seed,
        second,
        round_trip_ms,
        forming_seconds: [joined.as_secs_f64(), answering.as_secs_f64()],
        parts: Vec::new(),
        faults: None,
        coverage: None,
        growth: Vec::new(),
        books: Vec::new(),
        disks: Vec::new(),
        carried: Carried::default(),
        good: false,
    };
    if plan.acts {
        summary.parts = acts::play(&mut world, second, &probes, say).await?;
    }
    if let Some(length) = plan.soak.filter(|_| summary.parts.iter().all(|part| part.problems.is_empty())) {
        soak(&mut world, plan, length, &probes, &mut summary, say).await?;
    }
    close(&mut world, asking, &mut summary, say).await?;
    Ok(summary)
}

/// Starts all askers, and gives those that probe.
fn ask(world: &World, subjects: &Subjects, second: Second) -> (JoinSet<()>, Vec<Asker>) {
    let asker = |client, task| Asker {
        board: world.board.clone(),
        client,
        task,
        subject: subjects.of(task),
        socket: world.nodes[terms::index(client)].socket(),
    };
    let (mut asking, mut probes) = (JoinSet::new(), Vec::new());
    world.board.turn();
    for (number, client) in terms::with_role("client").enumerate() {
        for task in second.tasks() {
            asking.spawn(asker(client, task).keep_asking(number * 50));
        }
        let probed = second.tasks().iter().filter(|task| task.probed);
        probes.extend(probed.map(|task| asker(client, task)));
    }
    (asking, probes)
}

/// Faults at random, while everything that the daemons hold is watched.
async fn soak(
    world: &mut World,
    plan: &Plan,
    length: Duration,
    probes: &[Asker],
    summary: &mut Summary,
    say: Say<'_>,
) -> Result<(), Failure> {
    let (number, started) = (world.board.turn(), Instant::now());
    let every = (length / 2000).max(Duration::from_secs(2));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let watch = Watch::look(world.board.clone(), world.root().to_owned(), every, stopped);
    let watch = tokio::spawn(watch);
    let faults = endurance::endure(world, length, plan.seed, probes, say).await;
    drop(stop);
    let watch = watch.await?;
    let part = Part::new("faults at random", world.board.tally(number), started.elapsed());
    let answers = part.tally.right + part.tally.near_ties + part.tally.noisy;
    say(&part.line());
    summary.parts.push(part);
    summary.growth = watch.judge(answers);
    summary.faults = Some(faults?);
    Ok(())
}

/// No more questions; the ledgers are read, first of those that run, then on the disks.
async fn close(
    world: &mut World,
    mut asking: JoinSet<()>,
    summary: &mut Summary,
    say: Say<'_>,
) -> Result<(), Failure> {
    world.board.finish();
    while let Some(asker) = asking.join_next().await {
        asker?;
    }
    // The first part on the board is of before the acts; the others are in their order, with late answers now.
    for (number, part) in summary.parts.iter_mut().enumerate() {
        part.count(world.board.tally(number + 1));
    }
    let before = world.board.tally(0);
    if let Some(first) = summary.parts.first_mut() {
        let mut whole = first.tally.clone();
        whole.add(&before);
        first.count(whole);
    }
    if let Some(part) = summary.faults.as_ref().and(summary.parts.last()) {
        let length = Duration::from_secs_f64(part.seconds);
        summary.coverage = Some(Coverage::of(&summary.tally(), summary.second, length));
    }
    let unhealed = summary.parts.iter().any(|part| !part.problems.is_empty())
        || summary.faults.as_ref().is_some_and(|faults| faults.unhealed.is_some());
    if !unhealed {
        summary.books = books::check(&world.nodes, &world.board.answers()).await?;
        let counted = encrypted::check(&world.nodes, &world.board.encrypted_inputs()).await?;
        let problems = [counted, laboratory::check(world)?].concat();
        summary.books.iter_mut().take(1).for_each(|books| books.problems.extend(problems.clone()));
        say("ledgers are read");
    }
    summary.carried = world.carried();
    for node in &mut world.nodes {
        node.terminate().await?;
    }
    summary.disks = books::check_disks(&world.nodes)?;
    summary.good = summary.judge();
    Ok(())
}
