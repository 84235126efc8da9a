//! What a request holds: names in its path, and a bounded body.

use super::failure::Failure;
use super::tensor::VERSION;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use futures::StreamExt;
use std::collections::HashMap;
use std::time::Duration;

/// Longest time from the head of a request to the end of its body.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Bytes beyond the limit that are read and dropped, so that the caller hears why.
const DROPPED_MAX: usize = 16 << 20;

/// The model of a path.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut path) = path.map_err(|_| Failure::request("the path is no text in UTF-8"))?;
        let name = path.remove("name").unwrap_or_default();
        match path.remove("version") {
            Some(version) if version != VERSION => {
                let text = format!("models have one version, {VERSION}, and not {version:?}");
                Err(Failure::unknown(text))
            }
            _ => Ok(Self(name)),
        }
    }
}

/// The whole body.
///
/// # Errors
/// It is longer than `limit`, comes too slowly, or breaks off.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let late =
        |_| Failure::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not end in {BODY_WITHIN:?}"));
    tokio::time::timeout(BODY_WITHIN, read_patiently(body, limit)).await.map_err(late)?
}

async fn read_patiently(body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let (mut stream, mut bytes, mut length) = (body.into_data_stream(), Vec::new(), 0usize);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| Failure::request("the body broke off"))?;
        length = length.saturating_add(piece.len());
        if length <= limit {
            bytes.extend_from_slice(&piece);
        } else {
            bytes = Vec::new();
            if length > limit.saturating_add(DROPPED_MAX) {
                break;
            }
        }
    }
    if length > limit { Err(Failure::too_long(limit)) } else { Ok(bytes) }
}
