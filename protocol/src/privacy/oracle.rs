//! Reference values computed by other tools, kept outside the repository.

use serde_json::Value;
use std::path::PathBuf;

/// The parsed file `data/oracles/<name>` below `CONSILIUM_SHARED` or `../shared` beside the repository; says
/// so and returns nothing when there is none.
#[expect(clippy::print_stderr, reason = "a skipped comparison must be seen in the test output")]
pub(super) fn read(name: &str) -> Option<Value> {
    let shared = std::env::var_os("CONSILIUM_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let path = shared.join("data/oracles").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("reference values are JSON")),
        Err(error) => {
            eprintln!("skipped: no reference values at {}: {error}; set CONSILIUM_SHARED", path.display());
            None
        }
    }
}
