//! The description of the interface, in OpenAPI 3.1.

use super::failure::{ErrorBody, json};
use super::{inference, metrics, models, overview, wire};
use axum::http::StatusCode;
use axum::response::Response;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Consilium",
        description = "Questions to a consortium by the Open Inference Protocol v2, and the state of a node. Each \
                       task in which the node is a client is a model. Served on loopback; every request but those \
                       for health and this description needs the token of the node.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        models::live,
        models::ready,
        models::server,
        models::list,
        models::index,
        models::stats,
        models::metadata,
        models::model_ready,
        models::config,
        models::model_stats,
        inference::infer,
        metrics::metrics,
        overview::overview,
    ),
    components(schemas(ErrorBody, wire::RequestInput, wire::RequestOutput)),
    modifiers(&Bearer),
    security(("token" = [])),
    tags(
        (name = "health", description = "Whether it lives, and whether a question would be answered"),
        (name = "models", description = "What may be asked"),
        (name = "inference", description = "Questions"),
        (name = "node", description = "The state of this node"),
    ),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The node's token"));
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// The description of the interface.
pub fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    // Every path with a model has a twin that names the version.
    let twins: Vec<_> = description
        .paths
        .paths
        .iter()
        .filter_map(|(path, item)| Some((path.strip_prefix("/v2/models/{name}")?.to_owned(), item.clone())))
        .collect();
    for (rest, item) in twins {
        description
            .paths
            .paths
            .insert(format!("/v2/models/{{name}}/versions/{{version}}{rest}"), versioned(item));
    }
    description
}

/// Adds the version to the parameters of the operations of a path.
fn versioned(mut item: utoipa::openapi::PathItem) -> utoipa::openapi::PathItem {
    use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    use utoipa::openapi::{RefOr, Required};
    let version = ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Always 1"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["1"])).build()))
        .build();
    for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
        operation.parameters.get_or_insert_default().push(RefOr::T(version.clone()));
        if let Some(id) = &mut operation.operation_id {
            id.push_str("_of_version");
        }
    }
    item
}

/// The description as it is served.
pub(super) async fn served() -> Response {
    json(StatusCode::OK, &description())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Beside this file, so that a change of the interface shows in a review.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.json");

    #[test]
    fn the_file_is_the_description_of_this_interface() {
        let mut text = serde_json::to_string_pretty(&description()).unwrap();
        text.push('\n');
        if std::env::var_os("CONSILIUM_WRITE_OPENAPI").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let found = std::fs::read_to_string(Path::new(FILE)).unwrap_or_default();
        assert!(
            found == text,
            "openapi.json is old: run the test with CONSILIUM_WRITE_OPENAPI=1 and look at it"
        );
    }
}
