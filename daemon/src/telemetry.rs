//! Logs: to the journal under systemd, otherwise to standard error as text or JSON.
//!
//! In the journal every field of an event is a field of its own, with those of the spans around it:
//!
//! ```text
//! journalctl -u consilium TASK=readmission VERDICT=refused
//! journalctl -u consilium QUERY=1f0c… -o json
//! ```
//!
//! `TASK`, `QUERY` (the name of a question), `PEER` (a member) and `VERDICT` mean the same in all of them. No event
//! holds a share, a key, an input, a weight or a vote.

use consilium_config::{Log, LogFormat};
use miette::{IntoDiagnostic, Result, miette};
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

mod journal;
mod recent;

pub use recent::{Trouble, latest};

/// Libraries of the network that write a line at every mistake of a peer, which can make any number of them. What
/// matters of it this program says itself, once an interval. A filter that names one of them hears it.
const SILENCED: &str = "libp2p=off,multistream_select=off,yamux=off";

/// The process's subscriber, whose filter can change.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
}

/// Installs the process's subscriber.
///
/// # Errors
/// The filter of the configuration does not parse, or a subscriber is installed already.
pub fn start(log: &Log) -> Result<Telemetry> {
    let format = match log.format {
        LogFormat::Auto if connected_to_journal() => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Plain,
        chosen => chosen,
    };
    let (filter, handle) = reload::Layer::new(parsed(&log.filter)?);
    let output = match format {
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogFormat::Journal => journal::layer().into_diagnostic()?.boxed(),
        _ => fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).boxed(),
    };
    let installed = tracing_subscriber::registry().with(filter).with(output).with(recent::Recent).try_init();
    installed.map_err(|error| miette!("cannot start logging: {error}"))?;
    Ok(Telemetry { filter: handle, format })
}

/// Whether standard error is the journal.
pub fn connected_to_journal() -> bool {
    systemd_journal_logger::connected_to_journal()
}

/// Whether a filter can be understood.
///
/// # Errors
/// It cannot; the message says where to change it.
pub fn check_filter(filter: &str) -> Result<()> {
    parsed(filter).map(drop)
}

fn parsed(filter: &str) -> Result<EnvFilter> {
    // As without anything else in the filter.
    let wanted = if filter.trim().is_empty() { "error" } else { filter };
    EnvFilter::try_new(format!("{SILENCED},{wanted}")).map_err(|error| {
        miette!(
            help = "write a level, or levels by module such as `info,consilium::net=debug`",
            "`log.filter` of the node file is not a filter: {error}"
        )
    })
}

impl Telemetry {
    /// Changes which events are logged.
    ///
    /// # Errors
    /// The filter does not parse; the former one stays.
    pub fn set_filter(&self, filter: &str) -> Result<()> {
        self.filter.reload(parsed(filter)?).into_diagnostic()
    }

    /// Whether programs read the log, so that messages for people belong into it as well.
    pub fn is_for_programs(&self) -> bool {
        matches!(self.format, LogFormat::Json | LogFormat::Journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What three events leave behind under a filter.
    fn written(filter: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Arc::new(file.reopen().unwrap());
        let layer = fmt::layer().with_ansi(false).with_writer(writer);
        let subscriber = tracing_subscriber::registry().with(parsed(filter).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "libp2p_yamux", "by a peer");
            tracing::error!(target: "consilium::net", "by this program");
            tracing::warn!(target: "redb", "by another library");
        });
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn libraries_of_the_network_are_heard_only_by_name() {
        let (usual, named, empty) = (written("info"), written("info,libp2p_yamux=warn"), written(""));
        assert!(!usual.contains("by a peer") && usual.contains("by another library"), "{usual}");
        assert!(named.contains("by a peer") && named.contains("by this program"), "{named}");
        assert!(empty.contains("by this program") && !empty.contains("by another library"), "{empty}");
    }

    #[test]
    fn a_filter_that_is_none_says_where_to_change_it() {
        check_filter("info,consilium::net=debug").unwrap();
        let report = check_filter("info,consilium=loud").unwrap_err();
        assert!(report.to_string().contains("`log.filter`"), "{report}");
        assert!(report.help().is_some_and(|help| help.to_string().contains("consilium::net=debug")));
    }
}
