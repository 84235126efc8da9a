//! The state of the node for Prometheus.
//!
//! Counters run on; the rest is read anew for each scrape, so that what is gone from the roster is gone here.
//! Labels name members, pairs, tasks and obstacles, never a patient, a question or an input.

use super::App;
use super::failure::{ErrorBody, Failure};
use crate::admin::{ModuleStatus, Report, SeatStatus, TaskStatus};
use crate::outlook::Readiness;
use crate::tally::Labels;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Number = Gauge<f64, AtomicU64>;

/// Gauges of one scrape.
#[derive(Default)]
struct Gauges(Vec<(&'static str, &'static str, Family<Labels, Number>)>);

impl Gauges {
    fn set(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let at = match self.0.iter().position(|(known, _, _)| *known == name) {
            Some(at) => at,
            None => {
                self.0.push((name, help, Family::default()));
                self.0.len() - 1
            }
        };
        let labels: Labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        if let Some((_, _, family)) = self.0.get(at) {
            family.get_or_create(&labels).set(value);
        }
    }

    fn flag(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: bool) {
        self.set(name, help, labels, f64::from(u8::from(value)));
    }
}

/// Metrics in the text form of OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "node", responses(
    (status = 200, description = "The metrics", body = String, content_type = "application/openmetrics-text"),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 500, description = "They have no text form", body = ErrorBody)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let report = app.backend.report().await;
    let outlooks = app.outlooks.get(&*app.backend).await;
    let mut registry = Registry::with_prefix("consilium");
    let labels: Labels =
        vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("member", report.name.clone())];
    registry.register("node", "The node and its version", Info::new(labels));
    let help = "Channels with members that ended in an error";
    registry.register("channel_faults", help, ConstCounter::new(report.faults));
    let mut gauges = Gauges::default();
    members(&mut gauges, &report);
    for seat in &report.seats {
        module(&mut gauges, seat);
        for task in &seat.tasks {
            of_task(&mut gauges, &seat.pair, task);
        }
    }
    for detour in &report.detours {
        let labels = [("pair", detour.pair.as_str()), ("task", detour.task.as_str())];
        gauges.flag("detour", "1 while this node's questions of the task go around the pair", &labels, true);
    }
    encrypted(&mut gauges, &report);
    readiness(&mut gauges, &app, &outlooks);
    for (name, help, family) in gauges.0 {
        registry.register(name, help, family);
    }
    app.backend.tally().register(&mut registry);
    let mut text = String::new();
    let failed = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics have no text form");
    encode(&mut text, &registry).map_err(failed)?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
    Ok(response)
}

fn members(gauges: &mut Gauges, report: &Report) {
    for member in &report.members {
        let roles = member.roles.join(",");
        let labels = [("member", member.name.as_str()), ("roles", roles.as_str())];
        gauges.flag(
            "member_connected",
            "Whether a connection to the member stands",
            &labels,
            member.connected,
        );
        if let Some(trip) = member.round_trip_ms {
            let help = "Last measured round trip to the member";
            gauges.set("member_round_trip_seconds", help, &[("member", member.name.as_str())], trip / 1e3);
        }
    }
}

/// What an owner of homomorphic tasks has counted.
fn encrypted(gauges: &mut Gauges, report: &Report) {
    for task in &report.encrypted {
        for client in &task.clients {
            let labels = [("task", task.task.as_str()), ("client", client.client.as_str())];
            let help = "Encrypted inputs that the owner has counted for the client";
            gauges.set("encrypted_inputs", help, &labels, client.counted as f64);
            let help = "Encrypted inputs that the owner still answers for the client";
            gauges.set("encrypted_inputs_left", help, &labels, client.left as f64);
        }
    }
}

fn module(gauges: &mut Gauges, seat: &SeatStatus) {
    let Some(status) = &seat.module else { return };
    let help = "This party's verdict on the module that draws noise: 1 for the one in force";
    let is = [
        ("unasked", matches!(status, ModuleStatus::Unasked)),
        ("accepted", matches!(status, ModuleStatus::Accepted { .. })),
        ("unreachable", matches!(status, ModuleStatus::Unreachable { .. })),
        ("refused", matches!(status, ModuleStatus::Refused { .. })),
    ];
    for (verdict, holds) in is {
        gauges.flag("noise_verdict", help, &[("pair", seat.pair.as_str()), ("verdict", verdict)], holds);
    }
    if let ModuleStatus::Accepted { valid_until, .. } = status {
        let help = "Last second, since 1970, in which the verdict on the module counts";
        gauges.set(
            "noise_verdict_valid_until_seconds",
            help,
            &[("pair", seat.pair.as_str())],
            *valid_until as f64,
        );
    }
}

fn of_task(gauges: &mut Gauges, pair: &str, task: &TaskStatus) {
    let labels = [("pair", pair), ("task", task.task.as_str())];
    let mut set = |name, help, value: f64| gauges.set(name, help, &labels, value);
    set("owners_ready", "Owners whose models may vote", task.owners_ready as f64);
    set("owners", "Owners in the roster", task.owners as f64);
    let left = task.pool.map_or(0, |pool| pool.left);
    set("pool_bundles", "Bundles of correlated randomness at hand", left as f64);
    if let Some(pool) = task.pool {
        set("pool_low", "Bundles below which the pool is refilled", pool.low.into());
        set("pool_high", "Bundles up to which the pool is refilled", pool.high.into());
    }
    if let Some(refill) = &task.refill {
        set(
            "pool_refill_failing",
            "Whether the last batch failed",
            f64::from(u8::from(refill.fault.is_some())),
        );
        if let Some(bytes) = refill.bytes_on_disk {
            set("pool_bytes", "Bytes of the pool on the disk", bytes as f64);
        }
        if let Some(rate) = refill.bundles_per_second {
            set("pool_bundles_per_second", "Bundles made in a second, over the last batch", rate);
        }
    }
    if let Some(noise) = &task.noise {
        set("noise_ahead", "Releases that the module drew noise for already", noise.ahead as f64);
        set("noise_failing", "Whether the last draw failed", f64::from(u8::from(noise.fault.is_some())));
    }
    if let Some(spent) = task.epsilon_spent {
        set("budget_epsilon_spent", "Largest privacy loss of any owner's account so far", spent);
    }
    if let Some(budget) = task.epsilon_budget {
        set("budget_epsilon_limit", "What that owner accepts in all, of this pair's answers", budget);
    }
}

fn readiness(gauges: &mut Gauges, app: &App, outlooks: &[Readiness]) {
    for Readiness { task, outlook } in outlooks {
        let help = "Whether a question of the task would be answered now";
        gauges.flag("ready", help, &[("task", task.as_str())], outlook.is_ok());
        if let Some(left) = app.outlooks.left(task) {
            let help = "Answers that the tightest privacy budget still pays for";
            gauges.set("budget_answers_left", help, &[("task", task.as_str())], left as f64);
        }
    }
}
