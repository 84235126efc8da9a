//! What software and people on this machine reach by HTTP.
//!
//! ```text
//! /v2/…           questions by the Open Inference Protocol v2        models.rs inference.rs tensor.rs wire.rs
//! /metrics        the state of the node for Prometheus               metrics.rs
//! /api/overview   the same for the dashboard                         overview.rs outlooks.rs
//! /               the dashboard, which holds no data itself          page.rs
//! /openapi.json   all of this for machines                           openapi.rs
//! ```
//!
//! It listens on loopback, and everything that tells or does something needs the node's token; only health, the
//! page and the description do not. What a node offers are the tasks in which it is a client. Errors have the
//! protocol's form, also where the path is unknown. Neither the token nor an input is logged.

mod backend;
mod body;
mod failure;
mod inference;
mod metrics;
mod models;
pub mod openapi;
mod outlooks;
mod overview;
mod page;
mod tensor;
mod token;
mod visitors;
mod wire;

pub use token::{TokenError, read as read_token};

use crate::node::Shared;
use crate::task::TaskTerms;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use backend::Backend;
use body::Named;
use consilium_config::Node as NodeConfig;
use failure::Failure;
use hyper_util::service::TowerToHyperService;
use outlooks::Outlooks;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use token::Token;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use visitors::Visitors;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 64;
/// Requests that are read at the same time.
const READING_MAX: usize = 4;
/// Wait after a connection could not be taken.
const FAILED_WAIT: Duration = Duration::from_secs(1);
/// How often budgets are looked at for their plots while nobody looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often wrong tokens are logged.
const WARN_EVERY_SECS: u64 = 10;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address.
    #[error("cannot listen on {address} (`listen` under `[http]`): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The token.
    #[error("the token of the HTTP interface: {0}")]
    Token(#[from] TokenError),
}

/// The listening interface.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

/// What the handlers share.
pub(crate) struct App {
    backend: Arc<dyn Backend>,
    token: Token,
    body_bytes_max: usize,
    reading: Semaphore,
    outlooks: Outlooks,
    /// When a wrong token was logged last, in seconds since 1970.
    warned: AtomicU64,
}

impl Server {
    /// Listens as the node file says; `None` where it says nothing.
    ///
    /// # Errors
    /// [`HttpError`] says what to change.
    pub async fn open(config: &NodeConfig, shared: Arc<Shared>) -> Result<Option<Self>, HttpError> {
        let Some(address) = config.http().listen else { return Ok(None) };
        let token = Token::load_or_create(&config.http_token_file())?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| HttpError::Listen { address, source })?;
        let app = Arc::new(App::new(shared, token, config.http().body_bytes_max as usize));
        tracing::info!(%address, "the REST interface, metrics and dashboard are up");
        Ok(Some(Self { listener, app }))
    }

    /// Serves until dropped.
    pub async fn serve(self) {
        let service = TowerToHyperService::new(router(self.app.clone()));
        let (mut visitors, mut chores) = (Visitors::new(CONNECTIONS_MAX), JoinSet::new());
        let mut looking = tokio::time::interval(LOOK_EVERY);
        looking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                arrival = self.listener.accept(), if visitors.has_room() => match arrival {
                    Ok((stream, _)) => visitors.receive(stream, service.clone()),
                    Err(error) => {
                        tracing::warn!("a connection to the HTTP interface failed: {error}");
                        // Without descriptors it would fail again at once.
                        tokio::time::sleep(FAILED_WAIT).await;
                    }
                },
                () = visitors.change() => {}
                Some(_) = chores.join_next() => {}
                _ = looking.tick() => {
                    let app = self.app.clone();
                    chores.spawn(async move {
                        app.outlooks.get(&*app.backend).await;
                    });
                }
            }
        }
    }
}

impl App {
    fn new(backend: Arc<dyn Backend>, token: Token, body_bytes_max: usize) -> Self {
        Self {
            backend,
            token,
            body_bytes_max,
            reading: Semaphore::new(READING_MAX),
            outlooks: Outlooks::default(),
            warned: AtomicU64::new(0),
        }
    }

    /// The task of a path, if it is offered here.
    fn terms(&self, Named(name): &Named) -> Result<Arc<TaskTerms>, Failure> {
        let offers = self.backend.offers();
        let found = offers.iter().find(|terms| terms.name() == name).cloned();
        found.ok_or_else(|| {
            if self.backend.is_homomorphic(name) {
                return Failure::unknown(format!(
                    "task {name} is homomorphic, and this interface does not encrypt; ask by `consilium ask --task {name}`"
                ));
            }
            let names: Vec<&str> = offers.iter().map(|terms| terms.name()).collect();
            let list = if names.is_empty() {
                "it is a client of no task in the roster".to_owned()
            } else {
                format!("it offers {}", names.join(", "))
            };
            let name: String = name.chars().take(64).collect();
            Failure::unknown(format!("this node offers no model {name:?}; {list}"))
        })
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        presented.is_some_and(|token| self.token.is(token.trim_ascii()))
    }

    /// Once an interval: whoever guesses must not fill the disk.
    fn warn(&self) {
        let (now, last) = (crate::ledger::seconds_now(), self.warned.load(Ordering::Relaxed));
        let due = now.saturating_sub(last) >= WARN_EVERY_SECS;
        if due && self.warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("a request to the HTTP interface had no token or a wrong one");
        }
    }
}

/// All paths.
fn router(app: Arc<App>) -> Router {
    let closed = Router::new()
        .route("/v2", get(models::server))
        .route("/v2/models", get(models::list))
        .route("/v2/models/stats", get(models::stats))
        .route("/v2/repository/index", post(models::index))
        .route("/metrics", get(metrics::metrics))
        .route("/api/overview", get(overview::overview))
        .merge(of_model("/v2/models/{name}"))
        .merge(of_model("/v2/models/{name}/versions/{version}"))
        .route_layer(from_fn_with_state(app.clone(), guard));
    Router::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::program))
        .route("/plots.js", get(page::plots))
        .route("/icon.svg", get(page::icon))
        .route("/openapi.json", get(openapi::served))
        .route("/v2/health/live", get(models::live))
        .route("/v2/health/ready", get(models::ready))
        .merge(closed)
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn(page::strict))
        .with_state(app)
}

/// The paths of one model.
fn of_model(path: &str) -> Router<Arc<App>> {
    Router::new()
        .route(path, get(models::metadata))
        .route(&format!("{path}/ready"), get(models::model_ready))
        .route(&format!("{path}/config"), get(models::config))
        .route(&format!("{path}/stats"), get(models::model_stats))
        .route(&format!("{path}/infer"), post(inference::infer))
}

/// Lets only those pass who know the token.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.knows(request.headers()) {
        return next.run(request).await;
    }
    app.warn();
    Failure::token().into_response()
}

async fn nowhere() -> Failure {
    Failure::unknown("there is nothing at this path; /openapi.json lists what there is")
}

async fn no_method() -> Failure {
    let text = "this path takes another method; /openapi.json lists them";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests;
