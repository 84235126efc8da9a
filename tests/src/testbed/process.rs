//! A program on a member's machine: started, stopped and looked at from outside, as an administrator would.

use super::{LOOK_EVERY, TestbedError};
use consilium_config::VARIABLE_PREFIX;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// A program that is to run for long. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    /// What it is, for people.
    name: String,
    words: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

/// What the program `ip` takes to run another one in a namespace.
pub(super) fn within(namespace: &str, program: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["netns", "exec", namespace].map(Into::into).into_iter().collect();
    words.push(program.into());
    words
}

/// What overrides the settings of a node of this machine would override those of all nodes here.
pub(super) fn foreign() -> impl Iterator<Item = OsString> {
    std::env::vars_os()
        .map(|(variable, _)| variable)
        .filter(|variable| variable.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes()))
}

impl Process {
    /// One that `ip` starts with these words; its errors go to the file `log`.
    pub(super) fn new(name: String, words: Vec<OsString>, log: PathBuf) -> Self {
        Self { name, words, log, child: None }
    }

    /// Starts it; its process id.
    pub(super) fn launch(&mut self) -> Result<u32, TestbedError> {
        let io = |source| TestbedError::Io { what: format!("cannot start {}", self.name), source };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).map_err(io)?;
        let mut command = Command::new("ip");
        command.args(&self.words).env("RAYON_NUM_THREADS", "1").env("MALLOC_ARENA_MAX", "2");
        for variable in foreign() {
            command.env_remove(variable);
        }
        // A group of its own: an interrupt of the terminal is for the run, which then ends its nodes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().map_err(io)?;
        let pid = child.id();
        self.child = Some(child);
        Ok(pid)
    }

    /// Sends a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        let pid =
            self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Ends it at once, as a power cut would.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn terminate(&mut self) -> Result<(), TestbedError> {
        self.signal(Signal::TERM);
        let started = Instant::now();
        while let Some(child) = &mut self.child {
            if matches!(child.try_wait(), Ok(Some(_))) {
                self.child = None;
            } else if started.elapsed() > super::UP_WITHIN {
                return Err(TestbedError::Late { what: format!("{}: the end after SIGTERM", self.name) });
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// That it still runs, if it should.
    pub(super) fn check(&mut self) -> Result<(), TestbedError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Ok(Some(status)) = child.try_wait() else { return Ok(()) };
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        let (name, status, log) = (self.name.clone(), status.to_string(), self.log.clone());
        Err(TestbedError::Ended { name, status, log, tail })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
