//! Bodies of the Open Inference Protocol.

use super::tensor::Flat;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Values that are strings, numbers or booleans.
pub(crate) type Parameters = BTreeMap<String, Value>;

/// `GET /v2`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerMetadata {
    /// Name of this server.
    pub(crate) name: &'static str,
    /// Version of this server.
    pub(crate) version: &'static str,
    /// Extensions of the protocol that it speaks.
    pub(crate) extensions: [&'static str; 4],
}

/// `GET /v2/models`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Tasks that questions may be asked of.
    pub(crate) models: Vec<String>,
}

/// One entry of the repository index.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexEntry {
    /// The task.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: &'static str,
    /// `READY` where a question would be answered now, otherwise `UNAVAILABLE`.
    pub(crate) state: &'static str,
    /// What is missing.
    pub(crate) reason: String,
}

/// The body of a request for the repository index.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct IndexRequest {
    /// List only what would be answered now.
    #[serde(default)]
    pub(crate) ready: bool,
}

/// A tensor as metadata describe it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TensorMetadata {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its datatype.
    pub(crate) datatype: &'static str,
    /// Its shape; -1 stands for the number of questions.
    pub(crate) shape: Vec<i64>,
}

/// `GET /v2/models/{name}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelMetadata {
    /// The task.
    pub(crate) name: String,
    /// Its only version.
    pub(crate) versions: [&'static str; 1],
    /// Always `consilium`.
    pub(crate) platform: &'static str,
    /// The input.
    pub(crate) inputs: Vec<TensorMetadata>,
    /// The outputs.
    pub(crate) outputs: Vec<TensorMetadata>,
    /// Title, class names, release and preprocessing.
    #[schema(value_type = Object)]
    pub(crate) parameters: Parameters,
}

/// A request for an inference.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InferRequest {
    /// Comes back in the answer.
    pub(crate) id: Option<String>,
    /// `binary_data_output`; `release`, the name of an earlier question, to have its answer again without a charge.
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Parameters>,
    /// The input.
    #[schema(min_items = 1, max_items = 1)]
    pub(crate) inputs: Vec<RequestInput>,
    /// The outputs that are wanted; all if none is named.
    pub(crate) outputs: Option<Vec<RequestOutput>>,
}

/// A tensor of a request.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RequestInput {
    /// `input`.
    pub(crate) name: String,
    /// Number of questions, then the shape of one.
    pub(crate) shape: Vec<i64>,
    /// `FP64` or `FP32`.
    pub(crate) datatype: String,
    /// `binary_data_size`.
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Parameters>,
    /// The values in row-major order, flat or nested, unless they follow the JSON in bytes.
    #[schema(value_type = Option<Vec<f64>>)]
    pub(crate) data: Option<Flat>,
}

/// An output of a request.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RequestOutput {
    /// `label` or `class`.
    pub(crate) name: String,
    /// `binary_data`.
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Parameters>,
}

/// The answer to a question.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferResponse {
    /// The task.
    pub(crate) model_name: String,
    /// Its version.
    pub(crate) model_version: &'static str,
    /// The id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Where the answer comes from and what it cost: noise, preprocessing, votes, epsilon, and the name of the
    /// question.
    #[schema(value_type = Object)]
    pub(crate) parameters: Parameters,
    /// The outputs.
    pub(crate) outputs: Vec<Value>,
}

/// `GET /v2/models/{name}/stats`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// One entry for each task.
    pub(crate) model_stats: Vec<ModelStatistics>,
}

/// What this node asked of one task since it started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelStatistics {
    /// The task.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: &'static str,
    /// When the last question ended, in milliseconds since 1970.
    pub(crate) last_inference: u64,
    /// Questions that were answered.
    pub(crate) inference_count: u64,
    /// The same: each is its own request.
    pub(crate) execution_count: u64,
    /// Numbers and times.
    pub(crate) inference_stats: InferenceStatistics,
}

/// Numbers and times of questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferenceStatistics {
    /// Answered.
    pub(crate) success: Duration,
    /// Refused.
    pub(crate) fail: Duration,
}

/// A number of questions and their time together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Duration {
    /// How many.
    pub(crate) count: u64,
    /// How long together, in nanoseconds.
    pub(crate) ns: u64,
}
