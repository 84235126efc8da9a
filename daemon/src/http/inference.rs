//! A question by the Open Inference Protocol.

use super::App;
use super::body::{self, Named};
use super::failure::{ErrorBody, Failure, json};
use super::tensor::{self, VERSION};
use super::wire::{InferRequest, InferResponse, Parameters};
use crate::client::Answer;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use consilium_attest::Provenance;
use serde_json::{Value, json as value};
use std::sync::Arc;

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Asks one or more questions of a task.
///
/// Costs privacy where the task's release has noise, unless `parameters.release` names an earlier question with
/// the same input. The body is JSON, or JSON with tensors behind it and the length of the JSON in the header
/// `Inference-Header-Content-Length`.
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "inference",
    params(("name" = String, Path, description = "The task"),
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Length of the JSON in bytes")),
    request_body = InferRequest, responses(
    (status = 200, description = "The answer, with tensors behind the JSON where they were asked for in binary",
        body = InferResponse),
    (status = 400, description = "The request does not fit the task", body = ErrorBody),
    (status = 401, description = "Wrong token", body = ErrorBody),
    (status = 403, description = "Not allowed, or a privacy budget is spent", body = ErrorBody),
    (status = 404, description = "No such task", body = ErrorBody),
    (status = 408, description = "The body did not come in time", body = ErrorBody),
    (status = 409, description = "Other terms of the task, or a name that cannot be used again", body = ErrorBody),
    (status = 413, description = "The body is too long", body = ErrorBody),
    (status = 415, description = "The body is compressed", body = ErrorBody),
    (status = 500, description = "The node's own storage failed", body = ErrorBody),
    (status = 503, description = "Models, pools, noise or members are missing; ask again later", body = ErrorBody),
    (status = 504, description = "The deadline passed", body = ErrorBody)))]
pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    named: Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let terms = app.terms(&named)?;
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let text = "send the body without compression";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bytes = body::read(body, app.body_bytes_max).await?;
    let header = headers.get(HEADER_LENGTH).map(|length| length.to_str().unwrap_or_default().to_owned());
    let asked = {
        // Few at a time: what a text says may take more room than the text.
        let place = app.reading.acquire().await;
        let stopping = |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping");
        let _place = place.map_err(stopping)?;
        let terms = terms.clone();
        let reading = tokio::task::spawn_blocking(move || tensor::read(&terms, header.as_deref(), &bytes));
        reading
            .await
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??
    };
    let answer = app.backend.ask(&terms, asked.rows, asked.release).await?;
    let (outputs, tensors) = tensor::write(&asked.outputs, &answer);
    let response = InferResponse {
        model_name: terms.name().to_owned(),
        model_version: VERSION,
        id: asked.id,
        parameters: provenance(&answer),
        outputs,
    };
    Ok(with_tensors(json(StatusCode::OK, &response), &response, tensors))
}

/// Puts tensors behind the JSON.
fn with_tensors(plain: Response, response: &InferResponse, tensors: Vec<u8>) -> Response {
    if tensors.is_empty() {
        return plain;
    }
    let Ok(mut bytes) = serde_json::to_vec(response) else { return plain };
    let length = bytes.len();
    bytes.extend(tensors);
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    response
}

/// Where an answer comes from and what it cost.
fn provenance(answer: &Answer) -> Parameters {
    let terms = &answer.terms;
    let mut parameters = Parameters::new();
    let mut put = |key: &str, value: Value| parameters.insert(key.to_owned(), value);
    put("release", value!(answer.release.to_string()));
    put("mechanism", value!(answer.mechanism));
    let (source, evidence) = match terms.noise {
        Provenance::Exact => ("none", None),
        Provenance::Software => ("software", None),
        Provenance::Module { evidence } => ("module", Some(evidence.to_string())),
    };
    put("noise_source", value!(source));
    put("noise", value!(terms.noise.to_string()));
    if let Some(evidence) = evidence {
        put("noise_evidence", value!(evidence));
    }
    put("preprocessing", value!(terms.preprocessing));
    put("owners", value!(terms.owners));
    put("models_of_each_owner", value!(terms.shards));
    // A value of the protocol's parameters is no list.
    if !terms.users.is_empty() {
        put("users", value!(terms.users.join(",")));
    }
    // An exact release promises nothing: there is no epsilon to tell.
    if let Some(epsilon) = answer.epsilon {
        put("epsilon_charged", value!(epsilon));
    }
    if let Some(losses) = &answer.losses {
        put("epsilon_covers", value!(losses.covered()));
    }
    put("pair", value!(answer.pair));
    if !answer.tried.is_empty() {
        put("pairs_tried", value!(answer.tried_in_words()));
    }
    put("repeated", value!(terms.repeated));
    put("rounds", value!(terms.rounds));
    put("milliseconds", value!(answer.milliseconds));
    parameters
}
