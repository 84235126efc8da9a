//! `consilium daemon`: runs a node until it is told to stop.

use crate::admin::Door;
use crate::http;
use crate::node::Node;
use crate::pulse::{Pulse, pulse};
use crate::service::{Failure, Manager, Outcome, Reloader, Watchdog, begin_anew, status_line};
use crate::telemetry::{self, Telemetry};
use clap::Args;
use consilium_config::{Log, Node as NodeFile, Settings};
use miette::IntoDiagnostic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time for every listening address to be there.
const LISTENING_WITHIN: Duration = Duration::from_secs(20);
/// Time to close network and stores, beside the deadline of the last questions.
const CLOSING_WITHIN: Duration = Duration::from_secs(15);

/// How long a start may take, as `TimeoutStartSec` of the unit.
const START_WITHIN: Duration = Duration::from_secs(300);
/// Signs of life during a start; a fraction of the shortest patience that a manager would have.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Before the node begins anew by another roster: whoever signed it has the answer by then, and the members know.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// Arguments of `consilium daemon`.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// The node file
    #[arg(long, short, value_name = "FILE", default_value = super::NODE_FILE)]
    config: PathBuf,
    /// Override one setting of the node file, such as `log.filter=debug`
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

pub(super) fn run(args: &DaemonArgs) -> ExitCode {
    let manager = Arc::new(Manager::default());
    let mut for_programs = false;
    match start(args, &manager, &mut for_programs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            manager.status(&format!("failed: {}", failure.line()));
            told(&failure, for_programs)
        }
    }
}

/// Tells why the process ends: in the log where programs read it, else on the terminal.
fn told(failure: &Failure, mut for_programs: bool) -> ExitCode {
    if !for_programs && telemetry::connected_to_journal() {
        // The node file did not say how to log, or was not read.
        for_programs = telemetry::start(&Log::default()).is_ok();
    }
    match for_programs {
        true => failure.log(),
        false => eprintln!("{:?}", failure.report()),
    }
    failure.exit()
}

fn start(args: &DaemonArgs, manager: &Arc<Manager>, for_programs: &mut bool) -> Result<(), Failure> {
    let config = Settings::in_force(&args.config, &args.set)?.node;
    let telemetry = telemetry::start(config.log()).map_err(Failure::configuration)?;
    *for_programs = telemetry.is_for_programs();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("consilium").build();
    let runtime = runtime.into_diagnostic().map_err(Failure::other)?;
    match runtime.block_on(serve(args, &config, telemetry, manager))? {
        End::Told => Ok(()),
        End::Anew => {
            // What still computes for a question that was given up must not outlive this.
            runtime.shutdown_timeout(CLOSING_WITHIN);
            Err(begin_anew())
        }
    }
}

/// Why a node stops that is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process was told to end.
    Told,
    /// It begins anew with other files.
    Anew,
}

/// What the process is told.
struct Signals {
    end: Ends,
    hangup: Signal,
}

/// Tells the manager during a start that the node lives: a node that begins anew has as long for that as one that
/// starts cold, a ledger of years included.
struct Starting(tokio::task::JoinHandle<()>);

impl Starting {
    fn of(manager: Arc<Manager>) -> Self {
        Self(tokio::spawn(async move {
            let mut beat = tokio::time::interval(ALIVE_EVERY);
            let until = tokio::time::Instant::now() + START_WITHIN;
            while beat.tick().await < until {
                manager.alive();
            }
        }))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The signals that ask it to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).into_diagnostic().map_err(Failure::other);
        let end = Ends { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? };
        Ok(Self { end, hangup: on(SignalKind::hangup())? })
    }
}

impl Ends {
    /// Returns when the process is asked to end.
    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("asked to stop"),
            _ = self.interrupt.recv() => tracing::info!("interrupted"),
        }
    }
}

async fn serve(
    args: &DaemonArgs,
    config: &NodeFile,
    telemetry: Telemetry,
    manager: &Arc<Manager>,
) -> Result<End, Failure> {
    // First, so that a signal during a long start ends it in order.
    let mut signals = Signals::listen()?;
    let starting = Starting::of(manager.clone());
    let mut node = tokio::select! {
        node = Node::start(config) => node?,
        () = signals.end.heard() => return Ok(End::Told),
    };
    drop(starting);
    let shared = node.shared().clone();
    let listening = tokio::time::timeout(LISTENING_WITHIN, shared.wait_listening()).await;
    if !matches!(listening, Ok(Ok(()))) {
        let text = "not every address of `network.listen` is listened on; see the log above";
        return Err(Failure::unavailable(text.to_owned()));
    }
    let door = Door::open(&config.admin().socket).await?;
    let serving = tokio::spawn(door.serve(shared.clone()));
    let http = http::Server::open(config, shared.clone()).await?;
    let answering = http.map(|server| tokio::spawn(server.serve()));
    let mut reloader = Reloader::new((&args.config, &args.set), config, &shared, telemetry);

    let (probe, mut pulse) = pulse("signals");
    let mut probes = node.probes();
    probes.push(probe);
    let (watchdog, note) = (Watchdog::new(probes, manager.patience()), reloader.note());
    let (watched, told) = (shared.clone(), manager.clone());
    let status = move || status_line(&watched, &note.lock().unwrap_or_else(PoisonError::into_inner));
    manager.ready(&status());
    let watching = tokio::spawn(async move { watchdog.watch(&told, status).await });

    let mut ended = turn(&mut node, &mut signals, &mut reloader, manager, &mut pulse).await;
    if let Ok(end) = &mut ended {
        *end = drain(*end, &node, &mut signals, manager, &mut pulse, config.network().query_deadline).await;
    }
    // Until here the loops turned; closing and beginning anew take less than the manager's patience.
    watching.abort();
    manager.alive();
    manager.status("closes its stores");
    if let Some(answering) = answering {
        // The last bytes of the last answers.
        tokio::time::sleep(ANSWERED_WITHIN).await;
        answering.abort();
        let _ = answering.await;
    }
    serving.abort();
    let _ = serving.await;
    node.stop().await;
    ended
}

/// Answers the questions in progress, unless it is asked to end at once.
async fn drain(
    mut end: End,
    node: &Node,
    signals: &mut Signals,
    manager: &Manager,
    pulse: &mut Pulse,
    within: Duration,
) -> End {
    if end == End::Told {
        manager.stopping("answers the last questions", within + CLOSING_WITHIN);
    }
    let mut drained = std::pin::pin!(tokio::time::timeout(within, node.drain()));
    loop {
        tokio::select! {
            () = pulse.beat() => {}
            drained = &mut drained => {
                if drained.is_err() {
                    tracing::warn!("some questions were not answered within their deadline");
                }
                return end;
            }
            () = signals.end.heard() => match end {
                End::Told => return end,
                End::Anew => {
                    end = End::Told;
                    manager.stopping("answers the last questions", within + CLOSING_WITHIN);
                }
            },
        }
    }
}

/// The main loop: until the process is asked to end, or a part of the node fails.
async fn turn(
    node: &mut Node,
    signals: &mut Signals,
    reloader: &mut Reloader,
    manager: &Manager,
    pulse: &mut Pulse,
) -> Result<End, Failure> {
    let shared = node.shared().clone();
    // Bad files of this machine must not stop a node because others have signed something.
    let mut waits = false;
    loop {
        tokio::select! {
            () = pulse.beat() => {}
            failed = node.failed() => {
                return Err(Failure::bug(format!("the node's loop `{failed}` failed; this is a bug")));
            }
            _ = signals.hangup.recv() => {
                if let Outcome::Anew(_) = reloader.reload(&shared, manager).await {
                    return Ok(End::Anew);
                }
                waits = false;
                manager.ready(&status_line(&shared, &reloader.note().lock().unwrap_or_else(PoisonError::into_inner)));
            }
            () = shared.superseded(), if !waits => {
                if !reloader.could_start().await {
                    waits = true;
                    continue;
                }
                tracing::info!(kind = "roster", "another version of the roster is in force; the node begins anew by it");
                tokio::time::sleep(ANSWERED_WITHIN).await;
                return Ok(End::Anew);
            }
            () = signals.end.heard() => return Ok(End::Told),
        }
    }
}
