//! A distillation from a consortium of real processes.

use consilium::admin::{AdminError, AdminReply, publish};
use consilium::demo::{
    Progress, Releases, Scenario, ScenarioError, World, WorldError, breast_cancer, names, tasks,
};
use consilium::training::Examples;
use consilium_protocol::model::export;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// One held-out patient in this many measures the student; the others are the client's unlabelled rows.
const TEST_EVERY: usize = 4;
const SEED: u64 = 1;
const POOL_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Hospitals.
    pub owners: usize,
    /// Budget of every owner.
    pub epsilon: String,
    /// Deviation of the noise of each compute party, in votes.
    pub sigma: String,
    /// The command prints one JSON object.
    pub json: bool,
}

/// Why a live run failed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The hospitals' models.
    #[error(transparent)]
    Scenario(#[from] Box<ScenarioError>),
    /// The processes.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A node.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A file or process.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What the consortium or the command refused.
    #[error("{0}")]
    Refused(String),
}

/// Rows for the command, as files beside the client's node.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Unlabelled rows.
    pub unlabelled: PathBuf,
    /// Rows with their classes.
    pub test: PathBuf,
    /// Number of unlabelled rows.
    pub rows: usize,
}

/// The demo's hospitals with a budget for a distillation.
///
/// # Errors
/// Too many hospitals for the table.
pub fn distillable(options: &LiveOptions, progress: &Progress) -> Result<Scenario, ScenarioError> {
    let scenario = breast_cancer(options.owners, SEED, progress)?;
    let releases = Releases {
        sigma: options.sigma.clone(),
        epsilon: options.epsilon.clone(),
        ..Releases::usual(options.owners)
    };
    Ok(Scenario { releases, ..scenario })
}

/// Writes the scenario's held-out rows as a client would have them.
///
/// # Errors
/// What the system says.
pub fn client_files(test: &Examples, classes: &[String], folder: &Path) -> io::Result<ClientFiles> {
    let (mut unlabelled, mut labelled, mut rows) = (String::new(), String::new(), 0);
    for row in 0..test.rows() {
        let values = test.row(row).iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let written = if row % TEST_EVERY == 0 {
            writeln!(labelled, "{values},{}", classes[usize::from(test.labels()[row])])
        } else {
            rows += 1;
            writeln!(unlabelled, "{values}")
        };
        written.map_err(io::Error::other)?;
    }
    let files = ClientFiles { unlabelled: folder.join("rows.csv"), test: folder.join("test.csv"), rows };
    std::fs::write(&files.unlabelled, unlabelled)?;
    std::fs::write(&files.test, labelled)?;
    Ok(files)
}

/// Starts a consortium, publishes to its task with a budget, and runs `consilium distill` of this very program
/// on its client's machine.
///
/// # Errors
/// [`LiveError`].
pub async fn live(options: &LiveOptions, progress: &Progress) -> Result<(), LiveError> {
    let scenario = distillable(options, progress).map_err(Box::new)?;
    let program = std::env::current_exe()?;
    let mut world = World::start(&scenario, program.clone(), None).await?;
    let bar = progress.bar("hospitals publish shares", scenario.hospitals.len() as u64);
    for hospital in &scenario.hospitals {
        let file = export(&hospital.model, "consilium");
        let reply = publish(&world.socket(&hospital.name), tasks::SERVICE.to_owned(), &file).await?;
        if let AdminReply::Refused(refusal) = reply {
            return Err(LiveError::Refused(format!("{} cannot publish: {refusal}", hospital.name)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    filled(&world).await?;
    let home = world.folder_of(names::CLIENT);
    let files = client_files(&scenario.test, &scenario.classes, &home)?;
    let mut command = Command::new(program);
    command.arg("distill").arg(tasks::SERVICE).arg("--config").arg(home.join("consilium.toml"));
    command.arg("--unlabelled").arg(&files.unlabelled).arg("--test").arg(&files.test);
    command.arg("--out").arg(home.join("student")).kill_on_drop(true);
    if options.json {
        command.arg("--json");
    }
    let status = command.status().await?;
    world.stop();
    if status.success() { Ok(()) } else { Err(LiveError::Refused(format!("distill ended with {status}"))) }
}

/// Waits until party Zero has bundles at hand.
async fn filled(world: &World) -> Result<(), LiveError> {
    let started = Instant::now();
    loop {
        let report = world.status(names::ZERO).await?;
        let mut served = report.seats.iter().flat_map(|seat| &seat.tasks);
        if served.any(|task| task.task == tasks::SERVICE && task.pool.is_some_and(|pool| pool.left > 0)) {
            return Ok(());
        }
        if started.elapsed() > POOL_WITHIN {
            return Err(LiveError::Refused("the pool is not filled".into()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
