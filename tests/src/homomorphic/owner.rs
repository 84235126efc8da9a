//! The owner's part in a process of its own, so that its time and memory are its own.

use super::{RANGE, TrialError, process_seconds};
use consilium::homomorphic::{evaluate, read_keys, read_plan};
use consilium_protocol::homomorphic::{Evaluator, IntegerNet};
use consilium_protocol::model::import;
use serde::{Deserialize, Serialize};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What a process needed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effort {
    /// Seconds of all cores, from the query on: reading it, evaluating, sanitising and writing the answer.
    pub processor: f64,
    /// Seconds that passed.
    pub wall: f64,
    /// Most memory of the whole process, in bytes.
    pub memory: u64,
}

/// Files of one evaluation.
#[derive(Clone, Debug)]
pub struct OwnerRun {
    /// The model, as ONNX.
    pub model: PathBuf,
    /// Its plan.
    pub plan: PathBuf,
    /// The client's evaluation keys.
    pub keys: PathBuf,
    /// The query.
    pub query: PathBuf,
    /// Where the answer goes.
    pub answer: PathBuf,
    /// Threads.
    pub threads: NonZero<usize>,
}

impl OwnerRun {
    /// Runs in a new process of this program, which must hand the arguments after `owner` to [`evaluate_alone`].
    ///
    /// # Errors
    /// The process fails, or says something else.
    pub fn run(&self) -> Result<Effort, TrialError> {
        let failed = |error: &dyn std::fmt::Display| TrialError::Owner(error.to_string());
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.arg("owner");
        for path in [&self.model, &self.plan, &self.keys, &self.query, &self.answer] {
            command.arg(path);
        }
        let output = command.arg(self.threads.to_string()).output().map_err(|error| failed(&error))?;
        if !output.status.success() {
            return Err(failed(&String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
    }

    /// From the arguments of such a process.
    pub fn of_arguments(arguments: &[String]) -> Option<Self> {
        let [model, plan, keys, query, answer, threads] = arguments else { return None };
        let [model, plan, keys, query, answer] = [model, plan, keys, query, answer].map(PathBuf::from);
        Some(Self { model, plan, keys, query, answer, threads: threads.parse().ok()? })
    }
}

/// Evaluates in this process.
///
/// # Errors
/// [`TrialError`].
pub fn evaluate_alone(run: &OwnerRun) -> Result<Effort, TrialError> {
    let plan = read_plan(&run.plan)?;
    let bytes =
        std::fs::read(&run.model).map_err(|source| TrialError::File { path: run.model.clone(), source })?;
    let imported = import(&bytes)
        .map_err(|source| TrialError::Model { path: run.model.clone(), source: Box::new(source) })?;
    let net = IntegerNet::quantise(&imported.model, RANGE, &plan.scales)
        .map_err(|error| TrialError::Memory(error.to_string()))?;
    let keys = read_keys(&run.keys, &plan)?;
    let evaluator = Evaluator::new(plan, &net);
    let (start, before) = (Instant::now(), process_seconds());
    evaluate(&evaluator, &keys, &run.query, &run.answer, run.threads, &|_, _| ())?;
    let processor = process_seconds() - before;
    Ok(Effort { processor, wall: start.elapsed().as_secs_f64(), memory: peak_memory()? })
}

/// Most memory that this process has had, in bytes.
fn peak_memory() -> Result<u64, TrialError> {
    let path = Path::new("/proc/self/status");
    let text =
        std::fs::read_to_string(path).map_err(|source| TrialError::File { path: path.to_owned(), source })?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| TrialError::Owner("no VmHWM".into()))
}
