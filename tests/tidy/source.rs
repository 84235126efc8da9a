//! The files of the workspace.

use crate::lexer::{self, Function, Module, Path, Token};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;

/// The folder that holds all crates.
pub(crate) fn root() -> PathBuf {
    let tests = FilePath::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the crate is a folder of the workspace").to_path_buf()
}

/// Paths of all files that belong to the workspace, relative to it: what git tracks, or without git
/// everything but build output.
pub(crate) fn files() -> Vec<String> {
    let root = root();
    let mut files = tracked(&root).unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found
    });
    // A file may be deleted and not yet committed.
    files.retain(|path| root.join(path).is_file());
    files.sort();
    files
}

fn tracked(root: &FilePath) -> Option<Vec<String>> {
    if !root.join(".git").exists() {
        return None;
    }
    let answer = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().ok()?;
    let list = String::from_utf8(answer.stdout).ok().filter(|_| answer.status.success())?;
    Some(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &FilePath, folder: &FilePath, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the workspace can be read");
    for entry in entries {
        let path = entry.expect("a folder of the workspace can be read").path();
        let relative = path.strip_prefix(root).expect("it was found below the root");
        if relative == FilePath::new(".git") || relative == FilePath::new("target") {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
}

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// The file is compiled into tests, benches or the testing module only.
    pub(crate) only_tests: bool,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Reads a text as if it stood at `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens = lexer::tokens(text).unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let test_lines = lexer::test_lines(&tokens);
        Self { path: path.into(), text: text.into(), only_tests: stands_with_tests(path), test_lines, tokens }
    }

    /// Whether only tests see this line.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.only_tests || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// The folder below the root that holds the crate.
    pub(crate) fn package(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The modules of this file below the crate's `src`: `net/frame.rs` is `net::frame`. Nothing for files
    /// elsewhere and for the root of a crate.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix(self.package()).and_then(|path| path.strip_prefix("/src/"));
        let Some(inside) = inside.and_then(|path| path.strip_suffix(".rs")) else { return Vec::new() };
        if inside == "lib" || inside == "main" { Vec::new() } else { inside.split('/').collect() }
    }

    pub(crate) fn paths(&self) -> Vec<Path> {
        lexer::paths(&self.tokens)
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        lexer::functions(&self.tokens)
    }

    pub(crate) fn modules(&self) -> Vec<Module> {
        lexer::modules(&self.tokens)
    }

    /// Number of lines with code that is not for tests.
    pub(crate) fn code_lines(&self) -> usize {
        let lines = self.tokens.iter().map(|token| token.line).filter(|line| !self.is_test(*line));
        lines.collect::<BTreeSet<_>>().len()
    }
}

fn stands_with_tests(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts[0] == "tests"
        || parts.get(1).is_some_and(|folder| *folder == "tests" || *folder == "benches")
        || path.starts_with("protocol/src/testing/")
        || path == "protocol/src/testing.rs"
}

/// All Rust files of the workspace.
pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    let read = |path: String| {
        let text =
            std::fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Source::new(&path, &text)
    };
    let mut sources: Vec<Source> = rust.map(read).collect();
    mark_test_modules(&mut sources);
    sources
}

/// Finds the files of modules that are declared for tests only, such as `#[cfg(test)] mod tests;`.
fn mark_test_modules(sources: &mut [Source]) {
    let mut beneath = Vec::new();
    for source in sources.iter() {
        let stem = source.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => stem,
        };
        let declared =
            source.modules().into_iter().filter(|module| !module.inline && source.is_test(module.line));
        beneath.extend(declared.map(|module| format!("{folder}/{}", module.name)));
    }
    for source in sources {
        let stem = source.path.trim_end_matches(".rs");
        source.only_tests |= beneath.iter().any(|module| {
            stem.strip_prefix(module.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    }
}

#[test]
fn a_module_of_tests_in_its_own_file_is_found() {
    let mut sources = [
        Source::new("daemon/src/net.rs", "mod frame;\n#[cfg(test)]\nmod tests;"),
        Source::new("daemon/src/net/frame.rs", "fn a() {}"),
        Source::new("daemon/src/net/tests.rs", "fn b() {}"),
    ];
    mark_test_modules(&mut sources);
    assert_eq!(sources.each_ref().map(|source| source.only_tests), [false, false, true]);
}

#[test]
fn the_workspace_is_seen_whole() {
    let seen: BTreeSet<String> = sources().iter().map(|source| source.package().to_owned()).collect();
    for package in ["protocol", "attest", "config", "daemon", "tests"] {
        assert!(seen.contains(package), "no Rust file of {package} was found under {}", root().display());
    }
}
