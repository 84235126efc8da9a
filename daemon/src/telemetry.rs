//! Logs: to the journal under systemd, otherwise to standard error as text or JSON.

use consilium_config::{Log, LogFormat};
use miette::{IntoDiagnostic, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

mod journal;

/// Installs the process's subscriber.
///
/// # Errors
/// The filter of the configuration does not parse, or a subscriber is installed already.
pub fn start(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter).into_diagnostic()?;
    let journal = systemd_journal_logger::connected_to_journal();
    let format = match log.format {
        LogFormat::Auto if journal => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Plain,
        chosen => chosen,
    };
    let stderr = || tracing_subscriber::fmt().with_env_filter(filter.clone()).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Json => stderr().json().try_init(),
        LogFormat::Journal => journal::install(filter.clone()),
        _ => stderr().with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    installed.map_err(|error| miette::miette!("cannot start logging: {error}"))
}
