//! Reading the files again while the node runs.
//!
//! Both are read and checked as a whole before anything changes. If either is bad, what is in force stays in force
//! and the log says why. Otherwise:
//!
//! - [`LIVE`] settings of the node file change at once;
//! - a roster that takes nothing from anybody, with a member more say, is taken over by a node that begins anew: it
//!   answers the questions in progress, closes its stores, and starts again as the same process;
//! - whatever else has changed is named, and waits for a restart that somebody orders.

use super::change::{Change, LIVE, When, changes, roster_changes};
use super::{Failure, Manager};
use crate::consortium;
use crate::net::PeerId;
use crate::node::{self, NodeError, Shared};
use crate::telemetry::{self, Telemetry};
use consilium_config::{Node as NodeFile, Roster, Settings};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use toml::Table;

/// Both files of a node, read and checked.
#[derive(Clone, Debug)]
pub struct Files {
    /// The node file.
    pub node: NodeFile,
    /// The roster.
    pub roster: Roster,
}

impl Files {
    /// Reads both, and checks what can be known without a network: the log filter, every task, every member, and
    /// that the node is one of them where its peer id is known.
    ///
    /// # Errors
    /// What is wrong, with the lines at fault.
    pub fn load(path: &Path, flags: &[String], peer: Option<PeerId>) -> Result<Self, Failure> {
        let node = Settings::in_force(path, flags)?.node;
        telemetry::check_filter(&node.log().filter).map_err(Failure::configuration)?;
        let roster = consortium::roster_in_use(&node).map_err(NodeError::from)?;
        node::check(&node, &roster, peer)?;
        Ok(Self { node, roster })
    }
}

/// What became of a reload.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing changed, or all of it is in force.
    InForce(Vec<Change>),
    /// All of it is in force once the node begins anew.
    Anew(Vec<Change>),
    /// Some changes wait for a restart.
    Partly(Vec<Change>),
    /// The files are bad and were not taken.
    Refused(Failure),
}

/// Reloads one node.
pub struct Reloader {
    path: PathBuf,
    flags: Vec<String>,
    node: Table,
    roster: Table,
    telemetry: Telemetry,
    note: Arc<Mutex<String>>,
}

impl Reloader {
    /// For the node that started with these files.
    pub fn new(
        (path, flags): (&Path, &[String]),
        node: &NodeFile,
        shared: &Shared,
        telemetry: Telemetry,
    ) -> Self {
        let (node, roster) = (table(&node.to_toml()), table(&shared.roster.to_toml()));
        Self { path: path.to_owned(), flags: flags.to_owned(), node, roster, telemetry, note: Arc::default() }
    }

    /// What the status line says of the last reload; empty when all is in force.
    pub fn note(&self) -> Arc<Mutex<String>> {
        self.note.clone()
    }

    /// Reads the files, changes what can change, and tells the manager and the log.
    pub async fn reload(&mut self, shared: &Shared, manager: &Manager) -> Outcome {
        manager.reloading();
        let (path, flags, peer) = (self.path.clone(), self.flags.clone(), shared.network.peer_id());
        let read = tokio::task::spawn_blocking(move || Files::load(&path, &flags, Some(peer))).await;
        let outcome = match read {
            Ok(Ok(files)) => self.apply(&files, shared),
            Ok(Err(failure)) => Outcome::Refused(failure),
            Err(error) => Outcome::Refused(Failure::bug(format!("reading the files failed: {error}"))),
        };
        let note = tell(&outcome);
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        outcome
    }

    /// Whether a node could begin anew by the node file as it stands. If not, the log and the status say why.
    pub async fn could_start(&self) -> bool {
        let (path, flags) = (self.path.clone(), self.flags.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<(), Failure> {
            let node = Settings::in_force(&path, &flags)?.node;
            telemetry::check_filter(&node.log().filter).map_err(Failure::configuration)
        });
        let outcome = match read.await {
            Ok(Ok(())) => return true,
            Ok(Err(failure)) => failure,
            Err(error) => Failure::bug(format!("reading the files failed: {error}")),
        };
        outcome.log_problems();
        let line = outcome.line();
        let text = format!(
            "another version of the roster is in force, and the node waits with it until its own file is mended and \
             reloaded: {line}"
        );
        tracing::error!(kind = "reload-refused", "{text}");
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = text;
        false
    }

    fn apply(&mut self, files: &Files, shared: &Shared) -> Outcome {
        let node = table(&files.node.to_toml());
        let mut found = changes(&self.node, &node, &LIVE);
        if let Err(report) = self.telemetry.set_filter(&files.node.log().filter) {
            return Outcome::Refused(Failure::configuration(report));
        }
        for (_, compute) in &shared.seats {
            compute.allow(files.node.pools());
        }
        for change in found.iter().filter(|change| change.when == When::Now) {
            copy(&change.key, &node, &mut self.node);
        }
        let roster = roster_changes(&self.roster, &table(&files.roster.to_toml()));
        found.extend(roster.into_iter().map(|change| change.of("roster")));
        let any = |when| found.iter().any(|change| change.when == when);
        match (any(When::Restart), any(When::Anew)) {
            (false, false) => Outcome::InForce(found),
            (false, true) => Outcome::Anew(found),
            // One interruption is enough.
            (true, _) => Outcome::Partly(found),
        }
    }
}

/// Logs the outcome; what of it goes into the status line.
fn tell(outcome: &Outcome) -> String {
    let (found, refused) = match outcome {
        Outcome::InForce(found) | Outcome::Anew(found) | Outcome::Partly(found) => (&found[..], None),
        Outcome::Refused(failure) => (&[][..], Some(failure)),
    };
    if let Some(failure) = refused {
        let line = failure.line();
        failure.log_problems();
        tracing::error!(
            kind = "reload-refused",
            "nothing was reloaded, the former settings stay in force: {line}"
        );
        return format!("the last reload was refused: {line}");
    }
    let list = |when| {
        let of = found.iter().filter(|change| change.when == when).map(ToString::to_string);
        of.collect::<Vec<_>>().join(", ")
    };
    let (now, anew, mut restart) = (list(When::Now), list(When::Anew), list(When::Restart));
    match outcome {
        Outcome::Anew(_) => tracing::info!(
            kind = "reloaded",
            "in force once the questions in progress are answered and the node has begun anew: {anew}"
        ),
        Outcome::Partly(_) if !anew.is_empty() => restart = format!("{anew}, {restart}"),
        _ => {}
    }
    match now.is_empty() {
        true if found.is_empty() => {
            tracing::info!(kind = "reloaded", "the files were read again; nothing changed")
        }
        true => {}
        false => tracing::info!(kind = "reloaded", "in force from now on: {now}"),
    }
    if restart.is_empty() {
        return String::new();
    }
    tracing::warn!(kind = "restart-needed", "in force only after a restart of this node: {restart}");
    format!("a restart is needed for {restart}")
}

fn table(text: &str) -> Table {
    text.parse().expect("what was written as TOML reads back as TOML")
}

/// Takes `key` (`section.name`) over from one table into another.
fn copy(key: &str, from: &Table, to: &mut Table) {
    let Some((section, name)) = key.split_once('.') else { return };
    let value = from.get(section).and_then(|section| section.get(name));
    if let (Some(value), Some(section)) =
        (value, to.get_mut(section).and_then(|section| section.as_table_mut()))
    {
        section.insert(name.to_owned(), value.clone());
    }
}
