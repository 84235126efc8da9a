//! One member: its namespace, its files, its process, and what its commands say.

use super::load::Board;
use super::{LOOK_EVERY, TestbedError};
use consilium::admin::{AdminReply, AdminRequest, Report, call};
use consilium_config::VARIABLE_PREFIX;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a process may take to come up, or to go when it is asked to.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long a command may take, joining aside.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);
/// How long the node's own report may take.
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// A member's machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    folder: PathBuf,
    namespace: String,
    program: PathBuf,
    child: Option<Child>,
    board: Arc<Board>,
}

/// Where a node is, and how others reach it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'static str,
    pub(super) root: &'a Path,
    pub(super) namespace: String,
    pub(super) reach: Reach,
}

/// How others reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not at all; it dials them.
    Dials,
    /// At this address; whether it also relays for those behind address translation.
    Listens(String, bool),
    /// Through those that relay, until a direct connection succeeds.
    Relayed,
}

impl Reach {
    /// What stands in the table `network`.
    fn words(&self) -> String {
        match self {
            Self::Dials => "listen = []\n".to_owned(),
            Self::Listens(address, false) => format!("listen = [\"{address}\"]\n"),
            Self::Listens(address, true) => format!("listen = [\"{address}\"]\nrelay = true\n"),
            Self::Relayed => "listen = [\"/ip4/0.0.0.0/tcp/4710\"]\nbehind_nat = true\n".to_owned(),
        }
    }
}

impl Node {
    /// Writes the node file.
    pub(super) fn new(place: Place<'_>, program: &Path, board: Arc<Board>) -> Result<Self, TestbedError> {
        let folder = place.root.join(place.name);
        let io =
            |source| TestbedError::Io { what: format!("cannot write the files of {}", place.name), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let text = file(&place);
        consilium_config::Node::parse("consilium.toml", &text, &folder)?;
        std::fs::write(folder.join("consilium.toml"), text).map_err(io)?;
        let (name, namespace, program) = (place.name, place.namespace, program.to_owned());
        Ok(Self { name, folder, namespace, program, child: None, board })
    }

    fn words(&self, words: &[&str]) -> Vec<std::ffi::OsString> {
        let mut all: Vec<std::ffi::OsString> =
            ["netns", "exec", &self.namespace].map(Into::into).into_iter().collect();
        all.push(self.program.clone().into());
        all.extend(words.iter().map(Into::into));
        all.push("--config".into());
        all.push(self.folder.join("consilium.toml").into());
        all
    }

    /// A command on this machine, which prints one object; it is killed if it is given up.
    pub(super) fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(self.words(words)).arg("--json").stdin(Stdio::null()).kill_on_drop(true);
        for (variable, _) in foreign() {
            command.env_remove(variable);
        }
        command
    }

    /// The one object that a command prints.
    pub(super) async fn told(&self, words: &[&str]) -> Result<Value, TestbedError> {
        let what = || format!("{}: consilium {}", self.name, words.join(" "));
        let output = tokio::time::timeout(COMMAND_WITHIN, self.command(words).output()).await;
        let output = output.map_err(|_| TestbedError::Late { what: what() })?;
        let output = output.map_err(|source| TestbedError::Io { what: what(), source })?;
        told(what(), &output)
    }

    /// Starts the daemon.
    pub(super) fn launch(&mut self) -> Result<(), TestbedError> {
        let io = |source| TestbedError::Io { what: format!("cannot start {}", self.name), source };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(io)?;
        let mut command = Command::new("ip");
        command.args(self.words(&["daemon"])).env("RAYON_NUM_THREADS", "1").env("MALLOC_ARENA_MAX", "2");
        for (variable, _) in foreign() {
            command.env_remove(variable);
        }
        // A group of its own: an interrupt of the terminal is for the run, which then ends its nodes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().map_err(io)?;
        self.board.started(self.name, child.id());
        self.child = Some(child);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid =
            self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Ends the daemon at once, as a power cut would.
    pub(super) fn kill(&mut self) {
        self.board.stopped(self.name);
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Asks the daemon to end, and waits until it has.
    pub(super) async fn terminate(&mut self) -> Result<(), TestbedError> {
        self.board.stopped(self.name);
        self.signal(Signal::TERM);
        let started = Instant::now();
        while let Some(child) = &mut self.child {
            if matches!(child.try_wait(), Ok(Some(_))) {
                self.child = None;
            } else if started.elapsed() > UP_WITHIN {
                return Err(TestbedError::Late { what: format!("{}: the end after SIGTERM", self.name) });
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Has the daemon stand still, as a machine without a processor to spare would.
    pub(super) fn pause(&self) {
        self.board.stopped(self.name);
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        self.signal(Signal::CONT);
        self.board.resumed(self.name);
    }

    /// That the daemon still runs, if it should.
    pub(super) fn check(&mut self) -> Result<(), TestbedError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Ok(Some(status)) = child.try_wait() else { return Ok(()) };
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        let (node, status) = (self.name.to_owned(), status.to_string());
        Err(TestbedError::Ended { node, status, log: self.log(), tail })
    }

    /// What the node says about itself, if it answers.
    pub(super) async fn report(&self) -> Option<Report> {
        let socket = self.socket();
        let asked = tokio::time::timeout(REPORT_WITHIN, call(&socket, &AdminRequest::Status));
        match asked.await {
            Ok(Ok(AdminReply::Status(report))) => Some(*report),
            _ => None,
        }
    }

    /// Waits until the daemon answers.
    pub(super) async fn up(&mut self) -> Result<Report, TestbedError> {
        let started = Instant::now();
        loop {
            if let Some(report) = self.report().await {
                self.board.resumed(self.name);
                return Ok(report);
            }
            self.check()?;
            if started.elapsed() > UP_WITHIN {
                return Err(TestbedError::Late { what: format!("{}: the start", self.name) });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.state().join("admin.sock")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The one object that a command printed, or why it failed.
pub(super) fn told(what: String, output: &std::process::Output) -> Result<Value, TestbedError> {
    if !output.status.success() {
        // The report breaks lines to the width of a terminal.
        let text = String::from_utf8_lossy(&output.stderr);
        let told = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        return Err(TestbedError::Command { what, told });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| TestbedError::Command { what, told: format!("no JSON: {error}") })
}

/// What overrides the settings of a node of this machine would override those of all nodes here.
fn foreign() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os()
        .filter(|(variable, _)| variable.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes()))
}

/// The node file. Deadlines are those of a wide area: twenty rounds of 40 ms, and a few packets sent again.
fn file(place: &Place<'_>) -> String {
    format!(
        "[node]\nname = \"{}\"\nstate = \"state\"\n\n\
         [network]\n{}round_deadline_ms = 5000\nquery_deadline_ms = {}\n\n\
         [pool]\nrefill_batch_queries = 32\n\n\
         [log]\nformat = \"plain\"\nfilter = \"info\"\n",
        place.name,
        place.reach.words(),
        super::load::QUERY_DEADLINE.as_millis()
    )
}
