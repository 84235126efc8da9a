//! Health, metadata and statistics of the Open Inference Protocol.

use super::App;
use super::body::{self, Named};
use super::failure::{ErrorBody, Failure, json};
use super::tensor::{CLASS, INPUT, LABEL, VERSION, dimensions};
use super::wire::{
    Duration, IndexEntry, IndexRequest, InferenceStatistics, ModelList, ModelMetadata, ModelStatistics,
    Parameters, ServerMetadata, Statistics, TensorMetadata,
};
use crate::tally::Side;
use crate::task::TaskTerms;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json as value};
use std::sync::Arc;

/// Longest body of a request for the repository index.
const INDEX_BYTES_MAX: usize = 4096;

fn ok(value: &impl serde::Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// The node answers requests.
#[utoipa::path(get, path = "/v2/health/live", tag = "health", security(()),
    responses((status = 200, description = "It does; the body is empty")))]
pub(crate) async fn live() -> StatusCode {
    StatusCode::OK
}

/// A question of every task would be answered now.
///
/// The compute parties are asked for their models, pools, noise and budgets, at most once a second.
#[utoipa::path(get, path = "/v2/health/ready", tag = "health", security(()), responses(
    (status = 200, description = "It would; the body is empty"),
    (status = 400, description = "It would not; the body is empty, and `/api/overview` says why")))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> StatusCode {
    health(app.outlooks.get(&*app.backend).await.iter().all(|one| one.outlook.is_ok()))
}

fn health(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::BAD_REQUEST }
}

/// Who serves this, and what it speaks.
#[utoipa::path(get, path = "/v2", tag = "models", responses(
    (status = 200, description = "Name, version, extensions", body = ServerMetadata),
    (status = 401, description = "Wrong token", body = ErrorBody)))]
pub(crate) async fn server() -> Response {
    ok(&ServerMetadata {
        name: "consilium",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    })
}

/// The tasks that questions may be asked of.
#[utoipa::path(get, path = "/v2/models", tag = "models", responses(
    (status = 200, description = "Their names", body = ModelList),
    (status = 401, description = "Wrong token", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    let models = app.backend.offers().iter().map(|terms| terms.name().to_owned()).collect();
    ok(&ModelList { models })
}

/// The tasks that questions may be asked of, with their state.
#[utoipa::path(post, path = "/v2/repository/index", tag = "models",
    request_body(content = Option<IndexRequest>, description = "May be empty"), responses(
    (status = 200, description = "Their names and states", body = [IndexEntry]),
    (status = 400, description = "The body is not what it should be", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 413, description = "The body is too long", body = ErrorBody)))]
pub(crate) async fn index(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    let bytes = body::read(body, INDEX_BYTES_MAX).await?;
    let request: Option<IndexRequest> = match bytes.trim_ascii() {
        b"" => None,
        text => serde_json::from_slice(text)
            .map_err(|_| Failure::request("the body is empty, or an object such as {\"ready\": true}"))?,
    };
    let outlooks = app.outlooks.get(&*app.backend).await;
    let entry = |terms: &Arc<TaskTerms>| {
        let (state, reason) =
            match outlooks.iter().find(|one| one.task == terms.name()).map(|one| &one.outlook) {
                Some(Ok(_)) => ("READY", String::new()),
                Some(Err(refusal)) => ("UNAVAILABLE", refusal.to_string()),
                None => ("UNAVAILABLE", "not looked at yet".to_owned()),
            };
        IndexEntry { name: terms.name().to_owned(), version: VERSION, state, reason }
    };
    let mut entries: Vec<IndexEntry> = app.backend.offers().iter().map(entry).collect();
    if request.is_some_and(|request| request.ready) {
        entries.retain(|entry| entry.state == "READY");
    }
    Ok(ok(&entries))
}

/// Input, outputs and classes of a task.
#[utoipa::path(get, path = "/v2/models/{name}", tag = "models", params(("name" = String, Path, description = "The task")),
    responses(
    (status = 200, description = "Its metadata", body = ModelMetadata),
    (status = 400, description = "The path is no text", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 404, description = "No such task", body = ErrorBody)))]
pub(crate) async fn metadata(State(app): State<Arc<App>>, named: Named) -> Result<Response, Failure> {
    let terms = app.terms(&named)?;
    let shape = [&[-1], &dimensions(&terms)[..]].concat();
    let output = |name, datatype| TensorMetadata { name, datatype, shape: vec![-1, 1] };
    Ok(ok(&ModelMetadata {
        name: terms.name().to_owned(),
        versions: [VERSION],
        platform: "consilium",
        inputs: vec![TensorMetadata { name: INPUT, datatype: "FP64", shape }],
        outputs: vec![output(LABEL, "INT32"), output(CLASS, "BYTES")],
        parameters: described(&terms),
    }))
}

/// What people and programs need to know of a task beside its tensors.
fn described(terms: &TaskTerms) -> Parameters {
    let roster = &terms.roster;
    let mut parameters = Parameters::new();
    let mut put = |key: &str, value: Value| parameters.insert(key.to_owned(), value);
    put("title", value!(roster.title));
    put("classes", value!(value!(roster.classes).to_string()));
    put("release", value!(terms.mechanism.to_string()));
    put("normalised_by_the_node", value!(roster.features.is_some()));
    put("input_abs_max", value!(roster.input_abs_max));
    put("rows_at_once_max", value!(terms.batch()));
    parameters
}

/// A question of a task would be answered now.
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "health",
    params(("name" = String, Path, description = "The task")), responses(
    (status = 200, description = "It would; the body is empty"),
    (status = 400, description = "It would not, and why; or the path is no text", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 404, description = "No such task", body = ErrorBody)))]
pub(crate) async fn model_ready(State(app): State<Arc<App>>, named: Named) -> Result<Response, Failure> {
    let terms = app.terms(&named)?;
    let outlooks = app.outlooks.get(&*app.backend).await;
    let mine = outlooks.iter().find(|one| one.task == terms.name());
    match mine.map(|one| &one.outlook) {
        Some(Ok(_)) => Ok(StatusCode::OK.into_response()),
        Some(Err(refusal)) => Err(Failure::request(format!("not ready: {}", refusal.explanation))),
        None => Err(Failure::request("not ready: nothing is known of this task yet")),
    }
}

/// The task in the form of Triton's model configuration.
#[utoipa::path(get, path = "/v2/models/{name}/config", tag = "models",
    params(("name" = String, Path, description = "The task")), responses(
    (status = 200, description = "Its configuration", body = Value),
    (status = 400, description = "The path is no text", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 404, description = "No such task", body = ErrorBody)))]
pub(crate) async fn config(State(app): State<Arc<App>>, named: Named) -> Result<Response, Failure> {
    let terms = app.terms(&named)?;
    let text = |value: Value| match value {
        Value::String(text) => value!({ "string_value": text }),
        other => value!({ "string_value": other.to_string() }),
    };
    let parameters: serde_json::Map<String, Value> =
        described(&terms).into_iter().map(|(key, value)| (key, text(value))).collect();
    Ok(ok(&value!({
        "name": terms.name(),
        "platform": "consilium",
        "backend": "consilium",
        "version_policy": { "latest": { "num_versions": 1 } },
        "max_batch_size": terms.batch(),
        "input": [{ "name": INPUT, "data_type": "TYPE_FP64", "dims": dimensions(&terms) }],
        "output": [
            { "name": LABEL, "data_type": "TYPE_INT32", "dims": [1] },
            { "name": CLASS, "data_type": "TYPE_STRING", "dims": [1] },
        ],
        "parameters": parameters,
    })))
}

/// What this node asked of a task since it started.
#[utoipa::path(get, path = "/v2/models/{name}/stats", tag = "models",
    params(("name" = String, Path, description = "The task")), responses(
    (status = 200, description = "Numbers and times", body = Statistics),
    (status = 400, description = "The path is no text", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 404, description = "No such task", body = ErrorBody)))]
pub(crate) async fn model_stats(State(app): State<Arc<App>>, named: Named) -> Result<Response, Failure> {
    let terms = app.terms(&named)?;
    Ok(ok(&Statistics { model_stats: vec![statistics(&app, &terms)] }))
}

/// What this node asked of all tasks since it started.
#[utoipa::path(get, path = "/v2/models/stats", tag = "models", responses(
    (status = 200, description = "Numbers and times", body = Statistics),
    (status = 401, description = "Wrong token", body = ErrorBody)))]
pub(crate) async fn stats(State(app): State<Arc<App>>) -> Response {
    let model_stats = app.backend.offers().iter().map(|terms| statistics(&app, terms)).collect();
    ok(&Statistics { model_stats })
}

fn statistics(app: &App, terms: &TaskTerms) -> ModelStatistics {
    let counts = app.backend.tally().counts(Side::Client, terms.name());
    ModelStatistics {
        name: terms.name().to_owned(),
        version: VERSION,
        last_inference: counts.last_ms,
        inference_count: counts.answered,
        execution_count: counts.answered,
        inference_stats: InferenceStatistics {
            success: Duration { count: counts.answered, ns: counts.answered_ns },
            fail: Duration { count: counts.refused, ns: counts.refused_ns },
        },
    }
}
