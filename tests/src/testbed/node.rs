//! One member: its namespace, its files, its process, and what its commands say.

use super::load::Board;
use super::process::{Process, foreign, within};
use super::terms::HOST;
use super::{LOOK_EVERY, TestbedError, UP_WITHIN, module};
use consilium::admin::{AdminReply, AdminRequest, Report, call};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a command may take, joining aside.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);
/// How long the node's own report may take.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

/// A member's machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    folder: PathBuf,
    namespace: String,
    program: PathBuf,
    process: Process,
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
        let words = words(&namespace, &program, &["daemon"], &folder);
        let process = Process::new(format!("the daemon of {name}"), words, folder.join("log.txt"));
        Ok(Self { name, folder, namespace, program, process, board })
    }

    /// A command on this machine, which prints one object; it is killed if it is given up.
    pub(super) fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(self::words(&self.namespace, &self.program, words, &self.folder));
        command.arg("--json").stdin(Stdio::null()).kill_on_drop(true);
        for variable in foreign() {
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
        self.board.started(self.name, self.process.launch()?);
        Ok(())
    }

    /// Ends the daemon at once, as a power cut would.
    pub(super) fn kill(&mut self) {
        self.board.stopped(self.name);
        self.process.kill();
    }

    /// Asks the daemon to end, and waits until it has.
    pub(super) async fn terminate(&mut self) -> Result<(), TestbedError> {
        self.board.stopped(self.name);
        self.process.terminate().await
    }

    /// Has the daemon stand still, as a machine without a processor to spare would.
    pub(super) fn pause(&self) {
        self.board.stopped(self.name);
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn resume(&self) {
        self.process.signal(Signal::CONT);
        self.board.resumed(self.name);
    }

    /// That the daemon still runs, if it should.
    pub(super) fn check(&mut self) -> Result<(), TestbedError> {
        self.process.check()
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
}

/// A command with its node file, as `ip` takes it.
fn words(namespace: &str, program: &Path, words: &[&str], folder: &Path) -> Vec<OsString> {
    let mut all = within(namespace, program);
    all.extend(words.iter().map(Into::into));
    all.push("--config".into());
    all.push(folder.join("consilium.toml").into());
    all
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

/// The node file. Deadlines are those of a wide area: twenty rounds of 40 ms, and a few packets sent again.
fn file(place: &Place<'_>) -> String {
    let module = match place.name {
        HOST => format!("[module]\nsocket = \"unix:{}\"\n\n", module::socket(place.root).display()),
        _ => String::new(),
    };
    format!(
        "[node]\nname = \"{}\"\nstate = \"state\"\n\n\
         [network]\n{}round_deadline_ms = 5000\nquery_deadline_ms = {}\n\n\
         [pool]\nrefill_batch_queries = 32\n\n{module}\
         [log]\nformat = \"plain\"\nfilter = \"info\"\n",
        place.name,
        place.reach.words(),
        super::load::QUERY_DEADLINE.as_millis()
    )
}
