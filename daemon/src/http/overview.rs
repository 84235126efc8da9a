//! What the dashboard shows, in one object.

use super::App;
use super::backend::PairSeats;
use super::failure::{ErrorBody, json};
use super::outlooks::Course;
use crate::admin::Report;
use crate::ledger::seconds_now;
use crate::message::Obstacle;
use crate::outlook::Supply;
use crate::tally::Noted;
use crate::telemetry::{Trouble, latest};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What the dashboard shows.
#[derive(Serialize, ToSchema)]
pub(crate) struct Overview {
    /// Seconds since 1970 by the node's clock.
    pub(crate) now: u64,
    /// Version of the node.
    pub(crate) version: &'static str,
    /// What `consilium status --json` prints.
    #[schema(value_type = Object)]
    report: Report,
    /// Who computes in each pair.
    #[schema(value_type = Vec<Object>)]
    pairs: Vec<PairSeats>,
    /// The tasks that questions may be asked of.
    pub(crate) offers: Vec<Offer>,
    /// What would become of a question of each task.
    pub(crate) outlooks: Vec<OutlookOf>,
    /// How budgets went.
    #[schema(value_type = Vec<Object>)]
    courses: Vec<Course>,
    /// The latest questions, oldest first.
    #[schema(value_type = Vec<Object>)]
    queries: Vec<Noted>,
    /// The latest warnings and errors, oldest first.
    #[schema(value_type = Vec<Object>)]
    troubles: Vec<Trouble>,
}

/// A task that questions may be asked of.
#[derive(Serialize, ToSchema)]
pub(crate) struct Offer {
    /// Its name.
    pub(crate) task: String,
    /// What it is about.
    pub(crate) title: String,
    /// How its labels are released.
    pub(crate) release: String,
}

/// What would become of a question of a task.
#[derive(Serialize, ToSchema)]
pub(crate) struct OutlookOf {
    /// The task; empty where what is missing concerns no single one.
    pub(crate) task: String,
    /// Whether it would be answered.
    pub(crate) ready: bool,
    /// Bundles at hand at the party that has fewer.
    pub(crate) bundles: Option<u64>,
    /// Answers that the budget still pays for.
    pub(crate) answers_left: Option<u64>,
    /// What stands in the way.
    #[schema(value_type = Option<String>)]
    pub(crate) obstacle: Option<Obstacle>,
    /// The same in words.
    pub(crate) reason: Option<String>,
}

/// What the dashboard shows.
#[utoipa::path(get, path = "/api/overview", tag = "node", responses(
    (status = 200, description = "The state of the node", body = Overview),
    (status = 401, description = "Wrong token", body = ErrorBody)))]
pub(crate) async fn overview(State(app): State<Arc<App>>) -> Response {
    let outlooks = app.outlooks.get(&*app.backend).await;
    let outlooks = outlooks.iter().map(|one| {
        let (supply, refusal): (Option<&Supply>, _) = (one.outlook.as_ref().ok(), one.outlook.as_ref().err());
        OutlookOf {
            task: one.task.clone(),
            ready: supply.is_some(),
            bundles: supply.map(|supply| supply.bundles),
            answers_left: supply.and_then(|supply| supply.answers_left),
            obstacle: refusal.map(|refusal| refusal.obstacle),
            reason: refusal.map(ToString::to_string),
        }
    });
    let offer = |terms: &Arc<crate::task::TaskTerms>| Offer {
        task: terms.name().to_owned(),
        title: terms.roster.title.clone(),
        release: terms.mechanism.to_string(),
    };
    let overview = Overview {
        now: seconds_now(),
        version: env!("CARGO_PKG_VERSION"),
        report: app.backend.report().await,
        pairs: app.backend.pairs(),
        offers: app.backend.offers().iter().map(offer).collect(),
        outlooks: outlooks.collect(),
        courses: app.outlooks.courses(),
        queries: app.backend.tally().latest(),
        troubles: latest(),
    };
    json(StatusCode::OK, &overview)
}
