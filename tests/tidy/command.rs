//! The test command that the README gives is the one that runs.

use crate::source::root;

/// The lines that call the tests, without a prompt.
fn commands(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    let lines = lines.map(|line| line.strip_prefix("$ ").unwrap_or(line));
    lines.filter(|line| line.starts_with("cargo test")).collect()
}

fn read(path: &str) -> String {
    let whole = root().join(path);
    std::fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

#[test]
fn the_readme_gives_the_command_that_runs() {
    let (readme, script) = (read("README.md"), read(".ci/run"));
    let run = commands(&script);
    assert_eq!(run.len(), 1, ".ci/run calls the tests once, not as {run:?}");
    let told = commands(&readme);
    assert_eq!(told.first(), run.first(), "README.md gives {told:?}, .ci/run runs {run:?}");
}

#[test]
fn commands_are_read_without_their_prompt() {
    assert_eq!(
        commands("Run `cargo test`:\n\n    $ cargo test --all  \n# cargo test\n"),
        ["cargo test --all"]
    );
}
