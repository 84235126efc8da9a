//! Errors in the protocol's own form: a status and `{"error": "…"}`.

use crate::message::{Obstacle, Refusal};
use crate::tally;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What stood in the way of a question, for machines.
const OBSTACLE: HeaderName = HeaderName::from_static("consilium-obstacle");

/// The body of every error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What happened and what to do, for people.
    pub(crate) error: String,
}

/// A request that was not granted.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    text: String,
    obstacle: Option<Obstacle>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), obstacle: None }
    }

    /// The request does not fit.
    pub(crate) fn request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(crate) fn too_long(limit: usize) -> Self {
        let text = format!(
            "the body is longer than {limit} bytes; `body_bytes_max` under `[http]` in the node file sets this"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    pub(crate) fn token() -> Self {
        let text = "this needs the token of the node: send it as `Authorization: Bearer TOKEN`; `consilium \
                    dashboard` on the node shows it";
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    #[cfg(test)]
    pub(crate) fn told(&self) -> (u16, &str) {
        (self.status.as_u16(), &self.text)
    }
}

/// The status that says whether to change the question, to wait, or to give up.
fn status(obstacle: Obstacle) -> StatusCode {
    match obstacle {
        Obstacle::Request | Obstacle::Model => StatusCode::BAD_REQUEST,
        Obstacle::NotAllowed | Obstacle::Budget | Obstacle::Inputs | Obstacle::Laboratory => {
            StatusCode::FORBIDDEN
        }
        Obstacle::Roster | Obstacle::Task | Obstacle::Release => StatusCode::CONFLICT,
        Obstacle::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Obstacle::Local => StatusCode::INTERNAL_SERVER_ERROR,
        Obstacle::Models
        | Obstacle::Correlations
        | Obstacle::Epoch
        | Obstacle::Peer
        | Obstacle::Dealer
        | Obstacle::Noise
        | Obstacle::Busy
        | Obstacle::Ledger => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { obstacle, explanation } = refusal;
        Self { status: status(obstacle), text: explanation, obstacle: Some(obstacle) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &ErrorBody { error: self.text });
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"consilium\""));
        }
        if let Some(obstacle) = self.obstacle {
            headers.insert(OBSTACLE, HeaderValue::from_static(tally::name(obstacle)));
        }
        response
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!("an answer has no JSON form: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
