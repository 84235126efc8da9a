//! Where files stand and what they are called.

use crate::finding::{Finding, none};
use crate::source::{Source, files, sources};
use std::collections::BTreeSet;

const TOP: [&str; 9] =
    ["Cargo.lock", "Cargo.toml", "README.md", "attest", "config", "daemon", "protocol", "systemd", "tests"];
/// Names that say nothing about what stands inside.
const VAGUE: [&str; 6] = ["utils", "util", "common", "helpers", "types", "misc"];
/// Folders below `src`.
const DEPTH_MAX: usize = 3;

fn top_level(files: &[String]) -> Vec<Finding> {
    let present: BTreeSet<&str> = files.iter().filter_map(|path| path.split('/').next()).collect();
    let allowed = |name: &&str| TOP.contains(name) || name.starts_with('.') || name.starts_with("LICENSE");
    let odd = present.iter().filter(|name| !allowed(name));
    let missing = TOP.iter().filter(|name| !present.contains(*name));
    odd.map(|name| Finding::new(name, 0, "does not belong at the top level"))
        .chain(missing.map(|name| Finding::new(name, 0, "is missing from the top level")))
        .collect()
}

fn names(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if stem == "mod" {
        found.push(Finding::new(&source.path, 0, "write name.rs beside name/"));
    }
    for part in source.path.trim_end_matches(".rs").split('/').filter(|part| VAGUE.contains(part)) {
        found.push(Finding::new(&source.path, 0, format!("`{part}` says nothing about what is inside")));
    }
    let root = source.path.contains("/src/") && source.module().is_empty();
    for module in source.modules() {
        if VAGUE.contains(&module.name.as_str()) {
            let what = format!("`{}` says nothing about what is inside", module.name);
            found.push(Finding::new(&source.path, module.line, what));
        }
        if root && module.name == "ring" {
            found.push(Finding::new(&source.path, module.line, "hides the crate of that name"));
        }
    }
    found
}

fn depth(source: &Source) -> Vec<Finding> {
    let folders = source.module().len().saturating_sub(1);
    let deep = folders > DEPTH_MAX;
    let what = || format!("{folders} folders below src, at most {DEPTH_MAX} are allowed");
    deep.then(|| Finding::new(&source.path, 0, what())).into_iter().collect()
}

#[test]
fn the_top_level_holds_the_agreed_entries() {
    none("the top level is fixed", &top_level(&files()));
}

#[test]
fn files_and_modules_have_telling_names() {
    none("names tell", &sources().iter().flat_map(names).collect::<Vec<_>>());
}

#[test]
fn folders_are_shallow() {
    none("folders are shallow", &sources().iter().flat_map(depth).collect::<Vec<_>>());
}

#[test]
fn a_stray_and_a_missing_entry_are_caught() {
    let mut files: Vec<String> = TOP.iter().skip(1).map(|name| format!("{name}/x")).collect();
    files.extend([".ci/run", "LICENSE-MIT", "scratch/x"].map(String::from));
    let found: Vec<String> = top_level(&files).into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["scratch", "Cargo.lock"]);
}

#[test]
fn bad_names_are_caught() {
    assert_eq!(names(&Source::new("daemon/src/net/mod.rs", "")).len(), 1);
    assert_eq!(names(&Source::new("daemon/src/net/helpers.rs", "")).len(), 1);
    assert_eq!(names(&Source::new("daemon/src/lib.rs", "mod ring;\nmod misc { }\nmod net;")).len(), 2);
    assert_eq!(names(&Source::new("daemon/src/net.rs", "mod ring;")), []);
}

#[test]
fn a_fourth_folder_is_caught() {
    assert_eq!(depth(&Source::new("config/src/a/b/c/d.rs", "")), []);
    assert_eq!(depth(&Source::new("config/src/a/b/c/d/e.rs", "")).len(), 1);
}
