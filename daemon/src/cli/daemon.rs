//! `consilium daemon`: runs a node until it is told to stop.

use crate::admin::Door;
use crate::node::Node;
use crate::telemetry;
use clap::Args;
use consilium_config::Node as NodeFile;
use miette::{IntoDiagnostic, Result};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `consilium daemon`.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// The node file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/consilium/consilium.toml")]
    config: PathBuf,
}

pub(crate) fn run(args: &DaemonArgs) -> Result<()> {
    let config = NodeFile::load(&args.config)?;
    telemetry::start(config.log())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("consilium")
        .build()
        .into_diagnostic()?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &NodeFile) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
    let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic()?;
    let node = Node::start(config).await.into_diagnostic()?;
    let door = Door::open(&config.admin().socket).await.into_diagnostic()?;
    let serving = tokio::spawn(door.serve(node.shared().clone()));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    serving.abort();
    let _ = serving.await;
    node.stop().await;
    Ok(())
}
