//! Who may use whom.

use crate::finding::{Finding, none};
use crate::source::{Source, root, sources};

/// Crates by folder and package; each may depend on those before it.
const CRATES: [(&str, &str); 5] = [
    ("protocol", "consilium-protocol"),
    ("attest", "consilium-attest"),
    ("config", "consilium-config"),
    ("daemon", "consilium"),
    ("tests", "consilium-tests"),
];
/// What crates without a machine under them may not name.
const MACHINE: [&[&str]; 7] = [
    &["tokio"],
    &["libp2p"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
];

fn position(package: &str) -> Option<usize> {
    CRATES.iter().position(|(_, name)| *name == package)
}

/// The names under all tables of dependencies of a manifest.
fn dependencies(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            found.extend(inner.keys().cloned());
        } else {
            found.extend(dependencies(inner));
        }
    }
    found
}

fn manifest(at: usize, text: &str) -> Vec<Finding> {
    let (folder, own) = CRATES[at];
    let path = format!("{folder}/Cargo.toml");
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    let wrong = |name: &String| position(name).is_some_and(|other| other >= at && name != own);
    let wrong = dependencies(&table).into_iter().filter(wrong);
    wrong.map(|name| Finding::new(&path, 0, format!("{own} may not depend on {name}"))).collect()
}

/// The path from the root of the crate, when it is one into the own crate.
fn from_root(source: &Source, segments: &[String]) -> Option<Vec<String>> {
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    let above = source.module();
    if segments.first().is_some_and(|segment| segment == "crate") {
        return Some(segments[1..].to_vec());
    }
    let kept = above.len().checked_sub(supers).filter(|_| supers > 0)?;
    Some(
        above[..kept]
            .iter()
            .map(|part| (*part).to_owned())
            .chain(segments[supers..].iter().cloned())
            .collect(),
    )
}

fn order(source: &Source, modules: &[String]) -> Vec<Finding> {
    let rank = |name: &str| modules.iter().position(|module| module == name);
    let own = source.module().first().copied();
    let Some(at) = own.and_then(rank) else { return Vec::new() };
    let mut found = Vec::new();
    for path in source.paths().iter().filter(|path| !source.is_test(path.line)) {
        let target = from_root(source, &path.segments).and_then(|target| target.into_iter().next());
        if let Some(target) = target.filter(|target| rank(target).is_some_and(|other| other > at)) {
            let what = format!("`{}` uses `{target}`, which stands after it in lib.rs", modules[at]);
            found.push(Finding::new(&source.path, path.line, what));
        }
    }
    found
}

fn testing(source: &Source) -> Vec<Finding> {
    let paths = source.paths().into_iter().filter(|path| !source.is_test(path.line));
    let wrong = paths.filter(|path| {
        path.starts_with(&["consilium_protocol", "testing"])
            || source.package() == "protocol" && path.starts_with(&["crate", "testing"])
    });
    wrong.map(|path| Finding::new(&source.path, path.line, "`testing` is for tests and benches")).collect()
}

fn network(source: &Source) -> Vec<Finding> {
    if source.path == "daemon/src/net.rs" || source.path.starts_with("daemon/src/net/") {
        return Vec::new();
    }
    let named =
        source.tokens.iter().filter(|token| token.ident().is_some_and(|name| name.starts_with("libp2p")));
    named.map(|token| Finding::new(&source.path, token.line, "only daemon/src/net names libp2p")).collect()
}

/// The module is a program on a machine of its own: its command line, its streams and its attesters.
const MODULE: [&str; 5] = [
    "attest/src/bin/",
    "attest/src/module/command.rs",
    "attest/src/module/first_process.rs",
    "attest/src/module/serve",
    "attest/src/module/attester",
];

fn machine(source: &Source) -> Vec<Finding> {
    let module = MODULE.iter().any(|place| source.path.starts_with(place));
    if module || !["protocol", "attest"].contains(&source.package()) {
        return Vec::new();
    }
    let paths = source.paths().into_iter().filter(|path| !source.is_test(path.line));
    let wrong = paths.filter(|path| MACHINE.iter().any(|prefix| path.starts_with(prefix)));
    wrong.map(|path| Finding::new(&source.path, path.line, path.segments.join("::"))).collect()
}

fn protocol_modules(sources: &[Source]) -> Vec<String> {
    let root = sources.iter().find(|source| source.path == "protocol/src/lib.rs");
    let modules = root.map(Source::modules).unwrap_or_default();
    assert!(modules.len() > 5, "protocol/src/lib.rs declares {} modules", modules.len());
    modules.into_iter().map(|module| module.name).collect()
}

#[test]
fn crates_depend_on_earlier_ones() {
    let read = |at: usize| {
        let path = root().join(CRATES[at].0).join("Cargo.toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        manifest(at, &text)
    };
    none("crates stand in a line", &(0..CRATES.len()).flat_map(read).collect::<Vec<_>>());
}

#[test]
fn modules_of_protocol_use_earlier_ones() {
    let sources = sources();
    let modules = protocol_modules(&sources);
    let protocol = sources.iter().filter(|source| source.package() == "protocol");
    none("modules stand in order", &protocol.flat_map(|source| order(source, &modules)).collect::<Vec<_>>());
}

#[test]
fn testing_serves_only_tests() {
    none("testing is for tests", &sources().iter().flat_map(testing).collect::<Vec<_>>());
}

#[test]
fn only_net_names_libp2p() {
    none("the network library has one home", &sources().iter().flat_map(network).collect::<Vec<_>>());
}

#[test]
fn protocol_and_attest_know_no_machine() {
    let found = sources().iter().flat_map(machine).collect::<Vec<_>>();
    none("no runtime, socket, file, clock or environment", &found);
}

#[test]
fn a_dependency_to_the_right_is_caught() {
    let text = "[dependencies]\nconsilium.workspace = true\nconsilium-protocol.workspace = true\n\
        [target.'cfg(unix)'.dev-dependencies]\nconsilium-tests.workspace = true";
    assert_eq!(manifest(2, text).len(), 2);
    assert_eq!(manifest(0, "[dev-dependencies]\nconsilium-protocol = { path = \".\" }"), []);
}

#[test]
fn a_use_of_a_later_module_is_caught() {
    let modules = ["share", "wire", "online"].map(String::from);
    let text = "use crate::{share::A, online::B};\nfn a() { super::super::online::c() }\n\
        #[cfg(test)]\nmod tests { use crate::online::D; }";
    let lines: Vec<usize> = order(&Source::new("protocol/src/wire/frame.rs", text), &modules)
        .iter()
        .map(|finding| finding.line)
        .collect();
    assert_eq!(lines, [1, 2]);
}

#[test]
fn forbidden_names_are_caught() {
    let text = "use std::{collections::BTreeMap, time::{Duration, Instant}};\nfn a() { std::fs::read(\"b\"); }\n\
        use libp2p::PeerId;\nuse consilium_protocol::testing::pair;\n#[test]\nfn b() { std::env::args(); }";
    assert_eq!(machine(&Source::new("attest/src/a.rs", text)).len(), 3);
    assert_eq!(machine(&Source::new("attest/src/module/engine.rs", text)).len(), 3);
    assert_eq!(machine(&Source::new("attest/src/module/serve/patience.rs", text)), []);
    assert_eq!(machine(&Source::new("config/src/a.rs", text)), []);
    assert_eq!(network(&Source::new("attest/src/a.rs", text)).len(), 1);
    assert_eq!(network(&Source::new("daemon/src/net/a.rs", text)), []);
    assert_eq!(testing(&Source::new("attest/src/a.rs", text)).len(), 1);
    assert_eq!(testing(&Source::new("protocol/benches/a.rs", text)), []);
}
