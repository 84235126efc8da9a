//! Words that do not belong in code, or not there.

use crate::finding::{Finding, none};
use crate::lexer::{Kind, Token};
use crate::source::{Source, files, root, sources};
use proc_macro2::Delimiter;
use std::collections::BTreeMap;

const UNWRAPS_PER_THOUSAND_MAX: usize = 3;
const REASON_LETTERS_MIN: usize = 10;
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
const PRINTING: [&str; 4] = ["print", "println", "eprint", "eprintln"];
/// Marks of work that was left; in pieces, so that this file passes.
const LEFT_OPEN: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// What says where or by what a text was made, which is nothing to its reader.
const WORKSHOP: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tm", "p/wt"), concat!("Cla", "ude"), concat!("AI assi", "stant")];

/// Calls of `unwrap` and `expect` outside tests: the line, and the reason where one is given.
fn unwraps(source: &Source) -> Vec<(usize, Option<&str>)> {
    let mut found = Vec::new();
    for four in source.tokens.windows(4) {
        let call = four[0].is('.') && four[2].kind == Kind::Open(Delimiter::Parenthesis);
        if !call || source.is_test(four[1].line) {
            continue;
        }
        match (four[1].ident(), &four[3].kind) {
            (Some("unwrap"), _) => found.push((four[1].line, None)),
            (Some("expect"), Kind::Literal(reason)) => {
                found.push((four[1].line, Some(reason.trim_matches('"'))))
            }
            (Some("expect"), _) => found.push((four[1].line, None)),
            _ => {}
        }
    }
    found
}

fn reasonless(source: &Source) -> Vec<Finding> {
    let enough = |reason: Option<&str>| reason.is_some_and(|text| text.chars().count() >= REASON_LETTERS_MIN);
    let poor = unwraps(source).into_iter().filter(|(_, reason)| !enough(*reason));
    poor.map(|(line, _)| Finding::new(&source.path, line, "say in `expect` why it cannot fail")).collect()
}

/// The unwraps of each crate that has more than its size allows.
fn crowded(sources: &[Source]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, (usize, Vec<Finding>)> = BTreeMap::new();
    for source in sources {
        let (lines, found) = crates.entry(source.package()).or_default();
        *lines += source.code_lines();
        let what = |reason: Option<&str>| format!("unwrapped: {}", reason.unwrap_or("no reason"));
        let calls = unwraps(source).into_iter();
        found.extend(calls.map(|(line, reason)| Finding::new(&source.path, line, what(reason))));
    }
    let mut over = Vec::new();
    for (name, (lines, found)) in crates {
        let allowed = (lines * UNWRAPS_PER_THOUSAND_MAX).div_ceil(1000);
        if found.len() > allowed {
            let what = format!("{} unwraps in {lines} lines, at most {allowed}", found.len());
            over.push(Finding::new(name, 0, what));
            over.extend(found);
        }
    }
    over
}

fn calls<'a>(source: &'a Source, names: &'a [&str]) -> impl Iterator<Item = &'a Token> {
    let pairs = source.tokens.windows(2).filter(|pair| pair[1].is('!'));
    pairs.map(|pair| &pair[0]).filter(|token| token.ident().is_some_and(|name| names.contains(&name)))
}

fn unfinished(source: &Source) -> Vec<Finding> {
    calls(source, &UNFINISHED).map(|token| Finding::new(&source.path, token.line, "unfinished")).collect()
}

fn printed(source: &Source) -> Vec<Finding> {
    let module = source.module();
    let program = source.path.contains("/src/bin/") || source.path.contains("/benches/");
    let speaks = source.package() == "daemon" && matches!(module.first(), Some(&("cli" | "demo")));
    if program || speaks || source.path.ends_with("/src/main.rs") {
        return Vec::new();
    }
    // In tests the linter asks for a reason where something is printed, which is enough.
    let spoken = calls(source, &PRINTING).filter(|token| !source.is_test(token.line));
    spoken.map(|token| Finding::new(&source.path, token.line, "only programs print")).collect()
}

fn unsound(source: &Source) -> Vec<Finding> {
    let named = source.tokens.iter().filter(|token| token.ident() == Some("unsafe"));
    named.map(|token| Finding::new(&source.path, token.line, "unsafe")).collect()
}

/// Lines of any file that hold one of the words.
fn holding(path: &str, bytes: &[u8], words: &[&str]) -> Vec<Finding> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let held = words.iter().filter(|word| line.contains(**word));
        found.extend(held.map(|word| Finding::new(path, at + 1, format!("`{word}`"))));
    }
    found
}

fn files_holding(words: &[&str]) -> Vec<Finding> {
    let root = root();
    let read =
        |path: &String| std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    files().iter().flat_map(|path| holding(path, &read(path), words)).collect()
}

#[test]
fn unwraps_are_few() {
    none("unwraps are few", &crowded(&sources()));
}

#[test]
fn unwraps_give_their_reason() {
    none("unwraps give their reason", &sources().iter().flat_map(reasonless).collect::<Vec<_>>());
}

#[test]
fn nothing_is_unsafe() {
    none("nothing is unsafe", &sources().iter().flat_map(unsound).collect::<Vec<_>>());
}

#[test]
fn nothing_is_unfinished() {
    let mut found: Vec<Finding> = sources().iter().flat_map(unfinished).collect();
    found.extend(files_holding(&LEFT_OPEN));
    none("nothing is unfinished", &found);
}

#[test]
fn only_programs_print() {
    none("only programs print", &sources().iter().flat_map(printed).collect::<Vec<_>>());
}

#[test]
fn files_do_not_tell_of_the_workshop() {
    none("files do not tell how they were made", &files_holding(&WORKSHOP));
}

#[test]
fn bad_unwraps_are_caught() {
    let text = "fn a() { b.unwrap(); }\nfn c() { d.expect(\"short\"); }\nfn e() { f.expect(\"long enough\"); }\n\
        #[cfg(test)]\nmod tests { fn g() { h.unwrap(); } }";
    let source = Source::new("config/src/a.rs", text);
    let lines: Vec<usize> = reasonless(&source).iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [1, 2]);
    assert_eq!(crowded(&[source]).len(), 4);
    assert_eq!(crowded(&[Source::new("tests/src/a.rs", text)]), []);
}

#[test]
fn bad_words_are_caught() {
    let text = "fn a() { todo!() }\nfn b() { println!(\"unsafe\") }\nunsafe fn c() {}";
    let source = Source::new("daemon/src/a.rs", text);
    assert_eq!(unfinished(&source).len(), 1);
    assert_eq!(printed(&source).len(), 1);
    assert_eq!(unsound(&source).len(), 1);
    for path in ["daemon/src/cli/a.rs", "daemon/src/demo.rs", "tests/src/bin/a.rs"] {
        assert_eq!(printed(&Source::new(path, text)), [], "{path}");
    }
    for word in LEFT_OPEN.iter().chain(&WORKSHOP) {
        let line = format!("ok\n\u{0}x{word}x");
        assert_eq!(holding("a", line.as_bytes(), &[word]).len(), 1, "{word}");
    }
}
