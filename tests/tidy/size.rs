//! How long things may be.

use crate::finding::{Finding, none};
use crate::source::{Source, sources};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Lines before the first module of tests; of a file that is such a module, none.
fn lines_without_tests(source: &Source) -> usize {
    let tests = source.modules().into_iter().find(|module| !source.only_tests && source.is_test(module.line));
    match tests {
        Some(module) => module.line - 1,
        None => source.text.lines().count(),
    }
}

fn long_file(source: &Source) -> Option<Finding> {
    let beside_code = source.only_tests && source.path.ends_with("/tests.rs");
    let lines = lines_without_tests(source);
    let long = lines > FILE_LINES_MAX && !beside_code;
    long.then(|| Finding::new(&source.path, 0, format!("{lines} lines, at most {FILE_LINES_MAX}")))
}

fn long_functions(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for function in source.functions() {
        let lines = function.lines.clone().count();
        if lines > FUNCTION_LINES_MAX {
            let what = format!("`{}` has {lines} lines, at most {FUNCTION_LINES_MAX}", function.name);
            found.push(Finding::new(&source.path, *function.lines.start(), what));
        }
    }
    found
}

#[test]
fn files_are_short() {
    none("files are short", &sources().iter().filter_map(long_file).collect::<Vec<_>>());
}

#[test]
fn functions_are_short() {
    none("functions are short", &sources().iter().flat_map(long_functions).collect::<Vec<_>>());
}

#[test]
fn a_long_file_is_caught_whatever_its_tests() {
    let tests = format!("#[cfg(test)]\nmod tests {{{}}}", "\n".repeat(FILE_LINES_MAX));
    assert_eq!(long_file(&Source::new("config/src/a.rs", &tests)), None);
    let long = format!("fn a() {{{}}}\n{tests}", "\n".repeat(FILE_LINES_MAX));
    assert!(long_file(&Source::new("config/src/a.rs", &long)).is_some());
}

#[test]
fn a_long_function_is_caught() {
    let body = |lines: usize| format!("/// Doc.\nfn a() {{{}}}", "\n".repeat(lines - 1));
    assert_eq!(long_functions(&Source::new("config/src/a.rs", &body(FUNCTION_LINES_MAX))), []);
    assert_eq!(long_functions(&Source::new("config/src/a.rs", &body(FUNCTION_LINES_MAX + 1))).len(), 1);
}
