//! `consilium config show`.

use super::FileArgs;
use crate::cli::output::print_json;
use clap::Args;
use consilium_config::{Origin, Settings, schema};
use miette::{IntoDiagnostic, Result};

/// Arguments of `consilium config show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    files: FileArgs,
}

/// One setting in force.
#[derive(Debug, PartialEq)]
struct Setting {
    section: String,
    key: String,
    /// `None` where it is left out and nothing takes its place.
    value: Option<toml::Value>,
    origin: Origin,
}

pub(super) fn run(args: &ShowArgs) -> Result<()> {
    let shown = all(&Settings::in_force(&args.files.file, &args.files.set)?)?;
    if args.files.json {
        let object: serde_json::Map<String, serde_json::Value> = shown
            .iter()
            .map(|one| {
                let name = format!("{}.{}", one.section, one.key);
                let value = serde_json::json!({ "value": one.value, "origin": one.origin.to_string() });
                (name, value)
            })
            .collect();
        return print_json(&object);
    }
    print!("{}", text(&shown));
    Ok(())
}

/// Every key that the schema has, with the value in force.
fn all(settings: &Settings) -> Result<Vec<Setting>> {
    let written: toml::Table = settings.node.to_toml().parse().into_diagnostic()?;
    let schema = schema::node();
    let mut shown = Vec::new();
    for (section, table) in schema["properties"].as_object().into_iter().flatten() {
        for key in table["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let value = written.get(section).and_then(|table| table.get(key)).cloned();
            let origin = settings.places.origin(&format!("{section}.{key}"));
            shown.push(Setting { section: section.clone(), key: key.clone(), value, origin });
        }
    }
    Ok(shown)
}

/// As a file that could be read back, with the origins behind the values.
fn text(shown: &[Setting]) -> String {
    let lines = shown.iter().map(|one| match &one.value {
        Some(value) => format!("{} = {value}", one.key),
        None => format!("# {} is not set", one.key),
    });
    let lines: Vec<String> = lines.collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    let (mut text, mut section) = (String::new(), "");
    for (one, line) in shown.iter().zip(&lines) {
        if one.section != section {
            section = &one.section;
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
        }
        match one.value {
            Some(_) => text.push_str(&format!("{line:width$}  # {}\n", one.origin)),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::{Layers, Node};
    use std::path::Path;

    #[test]
    fn what_is_shown_reads_back_and_says_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consilium.toml");
        std::fs::write(&file, "[node]\nname = \"a\"\nstate = \"s\"\n[network]\nlisten = []\n").unwrap();
        let variable = ("CONSILIUM_NODE__LOG__FORMAT".into(), "json".into());
        let layers = Layers::open(&file).unwrap().with_environment([variable]);
        let settings = layers.with_flags(&["network.dial_timeout_ms=500".to_owned()]).read().unwrap();
        let shown = all(&settings).unwrap();
        let text = text(&shown);
        assert_eq!(Node::parse("shown", &text, Path::new("/elsewhere")).unwrap(), settings.node, "{text}");
        let has = |start: &str, end: &str| {
            let found = text.lines().any(|line| line.starts_with(start) && line.ends_with(end));
            assert!(found, "{start} … {end} in\n{text}");
        };
        has("name = \"a\"", "consilium.toml, line 2");
        has("format = \"json\"", "# environment, CONSILIUM_NODE__LOG__FORMAT");
        has("dial_timeout_ms = 500", "# command line, --set");
        has("round_deadline_ms = 10000", "# default");
        has("# collateral is not set", "");
        assert!(text.contains("identity.key"), "derived paths are shown");
    }
}
