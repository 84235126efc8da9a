//! The processes of a run: their folders, files, ports, births and deaths.

mod layout;
mod module;
mod port;
mod task;

pub use layout::Layout;
pub use port::free_port;

use super::scenario::{Preprocessing, Scenario};
use crate::admin::{AdminError, AdminReply, AdminRequest, Report, call};
use crate::net::{Identity, IdentityError};
use crate::vault::{VaultError, private_directory};
use consilium_config::{
    Admin, ConfigError, Http, LocalModule, Log, LogFormat, Member, ModuleSocket, Network, Node, Pair, Place,
    Pools, Role, Roster, VARIABLE_PREFIX,
};
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names of the pairs.
const MAIN: &str = "main";
const SECOND: &str = "second";
/// How long a process may take to come up, or to go.
const UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why the processes of a run cannot do their work.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A file or process.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A name or number that the configuration refuses.
    #[error("cannot write the configuration: {0}")]
    Value(String),
    /// A configuration that does not read back.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A folder.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A process ended by itself.
    #[error("the process of {name} ended with {status}; its log is {log}:\n{tail}")]
    Ended {
        /// The node.
        name: String,
        /// Its exit status.
        status: String,
        /// Its log.
        log: String,
        /// The last lines of it.
        tail: String,
    },
    /// A process does not get ready.
    #[error("{name} was not ready within {UP_WITHIN:?}: {waiting_for}")]
    Late {
        /// The node.
        name: String,
        /// What was missing.
        waiting_for: String,
    },
    /// The administration socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// A node's process.
#[derive(Debug)]
pub struct Process {
    name: String,
    folder: PathBuf,
    /// What the program is told.
    arguments: Vec<OsString>,
    child: Option<Child>,
    /// Where its REST interface and dashboard are, if it has them.
    http: Option<SocketAddr>,
}

/// All processes of a run. Dropping it kills them and, unless told otherwise, removes the folder.
#[derive(Debug)]
pub struct World {
    processes: Vec<Process>,
    program: PathBuf,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// Names of the tasks of a scenario.
pub mod tasks {
    /// Without noise.
    pub const EXACT: &str = "exact";
    /// With noise, until the budget is spent.
    pub const SERVICE: &str = "private";
    /// With the same noise and a budget for all queries.
    pub const EVALUATION: &str = "evaluation";
    /// All of them.
    pub const ALL: [&str; 3] = [EXACT, SERVICE, EVALUATION];
}

/// Names of the nodes that are not hospitals.
pub mod names {
    /// Compute party Zero.
    pub const ZERO: &str = "compute-zero";
    /// Compute party One.
    pub const ONE: &str = "compute-one";
    /// Compute parties Zero and One of the second pair, if there is one.
    pub const SECOND: [&str; 2] = ["second-zero", "second-one"];
    /// The dealer.
    pub const DEALER: &str = "dealer";
    /// The client.
    pub const CLIENT: &str = "clinic";
    /// The module that draws noise: a process, and no node.
    pub const MODULE: &str = "noise-module";
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> WorldError {
    let what = what.into();
    move |source| WorldError::Io { what, source }
}

impl World {
    /// Writes keys and configuration of every node into `keep` or a temporary folder, and starts all
    /// processes of `program`.
    ///
    /// # Errors
    /// [`WorldError`].
    pub async fn start(
        scenario: &Scenario,
        program: PathBuf,
        keep: Option<&Path>,
    ) -> Result<Self, WorldError> {
        let mut world = Self::prepare(scenario, program, keep)?;
        world.launch_all().await?;
        Ok(world)
    }

    /// Writes keys and configuration of every node, and starts nothing yet.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn prepare(scenario: &Scenario, program: PathBuf, keep: Option<&Path>) -> Result<Self, WorldError> {
        Self::lay_out(&Layout::of(scenario)?, program, keep)
    }

    /// The same for members and tasks of any kind.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn lay_out(layout: &Layout, program: PathBuf, keep: Option<&Path>) -> Result<Self, WorldError> {
        let (folder, temporary) = match keep {
            Some(folder) => (folder.to_owned(), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("consilium-").tempdir();
                let temporary = temporary.map_err(io("cannot make a temporary folder"))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        private_directory(&folder)?;
        let mut world = Self { processes: Vec::new(), program, folder, _temporary: temporary };
        world.write(layout)?;
        Ok(world)
    }

    /// Starts every process and waits until all are ready.
    ///
    /// # Errors
    /// [`WorldError`].
    pub async fn launch_all(&mut self) -> Result<(), WorldError> {
        let all = self.processes.iter().map(|process| process.name.clone());
        let (module, nodes): (Vec<String>, Vec<String>) = all.partition(|name| name == names::MODULE);
        // First, so that no node finds it missing and waits before it looks again.
        if !module.is_empty() {
            self.launch_module().await?;
        }
        for name in &nodes {
            self.launch(name)?;
        }
        for name in &nodes {
            self.ready(name).await?;
        }
        Ok(())
    }

    fn write(&mut self, layout: &Layout) -> Result<(), WorldError> {
        // The ports stay taken until all are chosen, so that they differ.
        let mut held = Vec::new();
        let mut address = || -> Result<String, WorldError> {
            let (port, listener) = port::free()?;
            held.push(listener);
            Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
        };
        let mut members = Vec::new();
        let deals = layout.preprocessing == Preprocessing::Dealer;
        let mut listeners = vec![(names::ZERO, Role::Compute), (names::ONE, Role::Compute)];
        if layout.standby {
            listeners.extend(names::SECOND.map(|name| (name, Role::Compute)));
        }
        listeners.extend(deals.then_some((names::DEALER, Role::Dealer)));
        for (name, role) in listeners {
            members.push(self.member(name, role, Some(address()?))?);
        }
        members.push(self.member(names::CLIENT, Role::Client, None)?);
        for owner in &layout.owners {
            members.push(self.member(owner, Role::Owner, None)?);
        }
        for name in [names::CLIENT, names::ZERO, names::ONE] {
            let (port, listener) = port::free()?;
            held.push(listener);
            self.process(name)?.http = Some((Ipv4Addr::LOCALHOST, port).into());
        }
        let mut pairs = vec![(MAIN, [names::ZERO, names::ONE])];
        pairs.extend(layout.standby.then_some((SECOND, names::SECOND)));
        let pair = |(name, [zero, one]): (&str, [&str; 2])| -> Result<Pair, WorldError> {
            let dealer = deals.then(|| parse(names::DEALER)).transpose()?;
            Ok(Pair { name: parse(name)?, zero: parse(zero)?, one: parse(one)?, dealer })
        };
        let pairs = pairs.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        // A dealer's machine is neither compute party's; where there is none, party Zero's carries the bytes.
        let host = if deals { names::DEALER } else { names::ZERO };
        let (module, socket) = self.module(&layout.noise, host)?.unzip();
        let roster = Roster::new("demo", members.clone(), pairs, layout.tasks.clone(), module)?;
        let roster_file = self.folder.join("roster.toml");
        std::fs::write(&roster_file, roster.to_toml()).map_err(io("cannot write the roster"))?;
        for member in &members {
            let socket = socket.clone().filter(|_| member.name.as_str() == host);
            self.write_node(member, &roster_file, layout.query_deadline, socket)?;
        }
        Ok(())
    }

    fn member(&mut self, name: &str, role: Role, address: Option<String>) -> Result<Member, WorldError> {
        let folder = self.folder.join(name);
        private_directory(&folder)?;
        let identity = Identity::load_or_create(&folder.join("identity.key"))?;
        let file = folder.join("consilium.toml");
        let arguments = vec!["daemon".into(), "--config".into(), file.into()];
        self.processes.push(Process { name: name.to_owned(), folder, arguments, child: None, http: None });
        Ok(Member {
            name: parse(name)?,
            peer: parse(&identity.peer_id().to_string())?,
            organisation: None,
            addresses: address.iter().map(|text| parse(text)).collect::<Result<_, _>>()?,
            roles: vec![role],
        })
    }

    fn write_node(
        &self,
        member: &Member,
        roster: &Path,
        query_deadline: Duration,
        socket: Option<ModuleSocket>,
    ) -> Result<(), WorldError> {
        let state = self.folder.join(member.name.as_str());
        let network = Network { listen: member.addresses.clone(), query_deadline, ..Network::default() };
        let log = Log { format: LogFormat::Plain, ..Log::default() };
        // All files are this program's own, so there is nobody who could sign for anybody.
        let place = Place::new(member.name.clone(), state.clone(), roster.to_owned());
        let place = Place { unsigned_roster: true, ..place };
        let node = Node::new(
            place,
            network,
            Pools::default(),
            Admin::beneath(&state),
            log,
            LocalModule { socket, collateral: None },
            Http { listen: self.http(member.name.as_str()), ..Http::default() },
        )?;
        std::fs::write(state.join("consilium.toml"), node.to_toml()).map_err(io("cannot write a node file"))
    }

    fn process(&mut self, name: &str) -> Result<&mut Process, WorldError> {
        let found = self.processes.iter_mut().find(|process| process.name == name);
        found.ok_or_else(|| WorldError::Value(format!("no node {name}")))
    }

    /// Starts the process of a node that does not run.
    ///
    /// # Errors
    /// The program does not start.
    pub fn launch(&mut self, name: &str) -> Result<(), WorldError> {
        let program = self.program.clone();
        let process = self.process(name)?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(process.log());
        let log = log.map_err(io("cannot open a log"))?;
        let mut command = Command::new(program);
        // What overrides the settings of a node of this machine would override those of all nodes here.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes()) {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(&process.arguments)
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io(format!("cannot start {name}")))?;
        process.child = Some(child);
        Ok(())
    }

    /// Process id of a node that runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let process = self.processes.iter().find(|process| process.name == name)?;
        process.child.as_ref().map(Child::id)
    }

    /// Kills a node's process at once, as a crash would.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self, name: &str) -> Result<(), WorldError> {
        let process = self.process(name)?;
        if let Some(mut child) = process.child.take() {
            child.kill().map_err(io(format!("cannot kill {name}")))?;
            child.wait().map_err(io(format!("cannot await the end of {name}")))?;
        }
        Ok(())
    }

    /// Has a node's process stand still, as an overloaded machine would.
    ///
    /// # Errors
    /// No such node.
    pub fn pause(&mut self, name: &str) -> Result<(), WorldError> {
        self.signal(name, Signal::STOP)
    }

    /// Lets a process that stands still go on.
    ///
    /// # Errors
    /// No such node.
    pub fn resume(&mut self, name: &str) -> Result<(), WorldError> {
        self.signal(name, Signal::CONT)
    }

    fn signal(&mut self, name: &str, signal: Signal) -> Result<(), WorldError> {
        if let Some(child) = &self.process(name)?.child {
            send(child, signal);
        }
        Ok(())
    }

    /// Waits until a node answers and is connected to every member that it can dial.
    ///
    /// # Errors
    /// The process ended, or is late.
    pub async fn ready(&mut self, name: &str) -> Result<Report, WorldError> {
        let started = Instant::now();
        loop {
            let waiting_for = match self.status(name).await {
                Ok(report) => {
                    let missing: Vec<&str> = report
                        .members
                        .iter()
                        .filter(|member| !member.connected && is_listener(&member.name))
                        .map(|member| member.name.as_str())
                        .collect();
                    if missing.is_empty() {
                        return Ok(report);
                    }
                    format!("no connection to {}", missing.join(", "))
                }
                Err(error) => error.to_string(),
            };
            self.check_alive(name)?;
            if started.elapsed() > UP_WITHIN {
                return Err(WorldError::Late { name: name.to_owned(), waiting_for });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn check_alive(&mut self, name: &str) -> Result<(), WorldError> {
        let process = self.process(name)?;
        let Some(child) = &mut process.child else { return Ok(()) };
        let ended = child.try_wait().map_err(io(format!("cannot look at {name}")))?;
        let Some(status) = ended else { return Ok(()) };
        let log = process.log();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        let (name, log) = (name.to_owned(), log.display().to_string());
        Err(WorldError::Ended { name, status: status.to_string(), log, tail })
    }

    /// The administration socket of a node.
    pub fn socket(&self, name: &str) -> PathBuf {
        Admin::beneath(&self.folder.join(name)).socket
    }

    /// The state of a node.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, name: &str) -> Result<Report, AdminError> {
        match call(&self.socket(name), &AdminRequest::Status).await? {
            AdminReply::Status(report) => Ok(*report),
            _ => Err(AdminError::Channel(crate::net::ChannelError::Closed)),
        }
    }

    /// Where the REST interface and dashboard of a node are, if it has them.
    pub fn http(&self, name: &str) -> Option<SocketAddr> {
        self.processes.iter().find(|process| process.name == name)?.http
    }

    /// Folder of a node.
    pub fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Number of processes.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Asks every process to stop and waits for it.
    pub fn stop(&mut self) {
        for process in &self.processes {
            if let Some(child) = &process.child {
                send(child, Signal::TERM);
            }
        }
        let started = Instant::now();
        for process in &mut self.processes {
            let Some(child) = &mut process.child else { continue };
            while matches!(child.try_wait(), Ok(None)) && started.elapsed() < UP_WITHIN {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

impl Process {
    fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(child) = &mut process.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn send(child: &Child, signal: Signal) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn is_listener(name: &str) -> bool {
    [names::ZERO, names::ONE, names::DEALER].contains(&name) || names::SECOND.contains(&name)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, WorldError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| WorldError::Value(format!("{text:?}: {error}")))
}
