//! One settings text, taken apart with the place of every value, and the problems found in it.

mod guess;
mod layered;
mod section;
mod typed;
pub(crate) mod value;

pub(crate) use guess::closest;
pub(crate) use layered::{Assignment, Layer, LayerKind, layered};
pub(crate) use section::Section;
pub(crate) use typed::Misfit;

use crate::{
    error::{ConfigError, Problem, Problems},
    limits::{FILE_BYTES_MAX, PROBLEMS_MAX},
};
use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::Read,
    path::Path,
};
use toml::{Spanned, de::DeTable};

/// Which problems are wanted of a reading.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Scope {
    /// All of them.
    #[default]
    Whole,
    /// Of one text among several: what is wrong with its own values. What it leaves out may stand in another.
    Alone,
    /// Of all texts together: what is missing, and values that do not go together.
    Together,
}

/// Collects problems while sections are read, so that one run reports them all.
#[derive(Default)]
pub(crate) struct Document {
    scope: Scope,
    problems: RefCell<Vec<Problem>>,
    unlisted: Cell<usize>,
    #[cfg(test)]
    pub(crate) schema: RefCell<std::collections::BTreeSet<String>>,
}

impl Document {
    /// Takes `text` apart, lets `read` make a value of it, and returns that value only if nothing was wrong.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems, or [`ConfigError::TooLarge`].
    pub(crate) fn parse<T>(
        file: &str,
        text: &str,
        read: impl FnOnce(&Self, Section<'_>) -> Option<T>,
    ) -> Result<T, ConfigError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        let document = Self::default();
        let value = match printable(text).and_then(|()| DeTable::parse(text).map_err(syntax)) {
            Ok(root) => read(&document, Section::root(&document, root.get_ref())),
            Err(problem) => {
                document.report(|| problem);
                None
            }
        };
        let (problems, unlisted) = (document.problems.into_inner(), document.unlisted.get());
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(ConfigError::Invalid(Box::new(Problems::new(file, text, problems, unlisted)))),
        }
    }

    /// Notes a problem of a value by itself.
    pub(crate) fn report(&self, problem: impl FnOnce() -> Problem) {
        if self.scope != Scope::Together {
            self.note(problem);
        }
    }

    /// Notes that something is missing, or that values do not go together.
    pub(crate) fn conflict(&self, problem: impl FnOnce() -> Problem) {
        if self.scope != Scope::Alone {
            self.note(problem);
        }
    }

    /// Above the limit a problem is only counted, and its text is not made.
    fn note(&self, problem: impl FnOnce() -> Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem());
        } else {
            self.unlisted.set(self.unlisted.get() + 1);
        }
    }
}

/// Takes a text apart and judges nothing else.
///
/// # Errors
/// [`ConfigError::Invalid`] where it is not TOML.
pub(crate) fn table<'t>(file: &str, text: &'t str) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    let parsed = printable(text).and_then(|()| DeTable::parse(text).map_err(syntax));
    parsed.map_err(|problem| ConfigError::Invalid(Box::new(Problems::new(file, text, vec![problem], 0))))
}

/// Reads a settings file of bounded size. Returns its name and text.
///
/// # Errors
/// [`ConfigError`] other than `Invalid`.
pub(crate) fn load(path: &Path) -> Result<(String, String), ConfigError> {
    let Some(file) = path.to_str().map(str::to_owned) else {
        return Err(ConfigError::NotText { file: path.display().to_string() });
    };
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let mut bounded = File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX as u64 + 1);
    bounded.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { file });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((file, text)),
        Err(_) => Err(ConfigError::NotText { file }),
    }
}

/// Control characters would reach the terminal with the quoted line, so they are refused before quoting.
fn printable(text: &str) -> Result<(), Problem> {
    let control = |character: char| character.is_control() && !"\n\r\t".contains(character);
    match text.chars().position(control) {
        None => Ok(()),
        Some(position) => {
            let line = text.chars().take(position).filter(|character| *character == '\n').count() + 1;
            let problem = Problem::new(format!("line {line} holds a control character"));
            Err(problem
                .help("remove it; in a string it can be written as an escape such as `\\u001B`".to_owned()))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn syntax(error: toml::de::Error) -> Problem {
    let problem = Problem::new("this is not TOML");
    let advice = "compare with the examples in config/src/example".to_owned();
    problem.at(error.span().unwrap_or(0..0), error.message()).help(advice)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::{EXAMPLE_NODE, EXAMPLE_ROSTER, Node, Roster};
    use miette::{GraphicalReportHandler, GraphicalTheme};

    /// The report as a terminal shows it, without colour.
    pub(crate) fn rendered(error: &ConfigError) -> String {
        let mut report = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
        handler.render_report(&mut report, error).unwrap();
        report.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// The example with `from` replaced by `to`, once.
    pub(crate) fn edited(example: &str, from: &str, to: &str) -> String {
        assert!(example.contains(from), "the example does not contain {from:?}");
        example.replacen(from, to, 1)
    }

    pub(crate) fn node(text: &str) -> Result<Node, ConfigError> {
        Node::parse("consilium.toml", text, Path::new("/etc/consilium"))
    }

    pub(crate) fn roster(text: &str) -> Result<Roster, ConfigError> {
        Roster::parse("roster.toml", text)
    }

    /// The one problem that an edit of the example node file causes: message and advice.
    pub(crate) fn node_refusal(from: &str, to: &str) -> String {
        only(&node(&edited(EXAMPLE_NODE, from, to)).expect_err("accepted"))
    }

    /// The one problem that an edit of the example roster causes: message and advice.
    pub(crate) fn roster_refusal(from: &str, to: &str) -> String {
        only(&roster(&edited(EXAMPLE_ROSTER, from, to)).expect_err("accepted"))
    }

    /// The one problem of a report: message and advice.
    pub(crate) fn only(error: &ConfigError) -> String {
        let [problem] = error.problems() else { panic!("not one problem: {}", rendered(error)) };
        assert!(problem.line().is_some(), "no place: {problem}");
        format!("{problem} | {}", problem.advice().unwrap_or("-"))
    }

    /// What an edit of the example roster's task that begins with `head` causes, one line for each problem: message and
    /// advice.
    pub(crate) fn task_refusals(head: &str, from: &str, to: &str) -> Vec<String> {
        let (before, task) = EXAMPLE_ROSTER.split_at(EXAMPLE_ROSTER.find(head).unwrap());
        let error = roster(&format!("{before}{}", edited(task, from, to))).expect_err(to);
        let told = |problem: &Problem| format!("{} | {}", problem.message(), problem.advice().unwrap_or("-"));
        error.problems().iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use crate::{EXAMPLE_NODE, EXAMPLE_ROSTER};
    use proptest::{prelude::*, sample::Index, test_runner::Config};
    use std::collections::BTreeSet;
    use toml::de::DeValue;

    /// Number of cases of each fuzz test: `CONSILIUM_FUZZ_CASES`, or a few hundred.
    fn fuzz_cases() -> Config {
        let cases =
            std::env::var("CONSILIUM_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512);
        Config { cases, failure_persistence: None, ..Config::default() }
    }

    /// Parses as both files; whatever is refused must also be showable.
    fn survive(text: &str) {
        for error in [node(text).err(), roster(text).err()].into_iter().flatten() {
            assert!(!error.problems().is_empty() && error.problems().len() <= PROBLEMS_MAX);
            assert!(!rendered(&error).chars().any(|shown| shown.is_control() && shown != '\n'), "{error}");
        }
    }

    fn keys(path: &str, table: &DeTable<'_>, found: &mut BTreeSet<String>) {
        for (key, value) in table.iter() {
            let path =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            match value.get_ref() {
                DeValue::Table(below) => keys(&path, below, found),
                DeValue::Array(elements) => {
                    for element in elements.iter() {
                        if let DeValue::Table(below) = element.get_ref() {
                            keys(&path, below, found);
                        }
                    }
                }
                _ => {}
            }
            found.insert(path);
        }
    }

    fn shown_and_asked<T>(example: &str, read: impl FnOnce(&Document, Section<'_>) -> Option<T>) {
        let table = DeTable::parse(example).unwrap();
        let mut shown = BTreeSet::new();
        keys("", table.get_ref(), &mut shown);
        let document = Document::default();
        assert!(read(&document, Section::root(&document, table.get_ref())).is_some());
        assert_eq!(shown, document.schema.into_inner());
    }

    #[test]
    fn the_examples_show_every_key() {
        shown_and_asked(EXAMPLE_NODE, |document, root| crate::node::read_from(document, root, Path::new("")));
        shown_and_asked(EXAMPLE_ROSTER, crate::roster::read);
    }

    #[test]
    fn every_section_refuses_unknown_keys() {
        for (example, refusal) in
            [(EXAMPLE_NODE, node_refusal as fn(&str, &str) -> String), (EXAMPLE_ROSTER, roster_refusal)]
        {
            let headings: BTreeSet<&str> = example.lines().filter(|line| line.starts_with('[')).collect();
            for heading in headings {
                let problem = refusal(heading, &format!("{heading}\nzzz = 1"));
                assert!(problem.contains("has no key `zzz`"), "{heading}: {problem}");
            }
            let first = example.lines().find(|line| line.starts_with('[')).unwrap();
            assert!(refusal(first, &format!("zzz = 1\n{first}")).starts_with("this file has no key `zzz`"));
        }
    }

    #[test]
    fn size_encoding_and_absence_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roster.toml");
        let load = || crate::Roster::load(&path);
        assert!(matches!(load(), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(load(), Err(ConfigError::NotText { .. })));
        std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(load(), Err(ConfigError::TooLarge { .. })));
        assert!(matches!(roster(&"#".repeat(FILE_BYTES_MAX + 1)), Err(ConfigError::TooLarge { .. })));
        std::fs::write(&path, EXAMPLE_ROSTER).unwrap();
        assert_eq!(load().unwrap(), roster(EXAMPLE_ROSTER).unwrap());
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let error = roster("a = 1\nb = \u{1b}[31m").unwrap_err();
        assert_eq!(error.to_string(), "roster.toml: 1 problem; line 2 holds a control character");
        survive("\"a\\u001b[31m\" = \"\\u001b[31m\"");
    }

    #[test]
    fn a_flood_of_problems_is_counted_not_listed() {
        let text: String = (0..100_000).map(|key| format!("k{key}=0\n")).collect();
        let error = roster(&text).unwrap_err();
        assert_eq!(error.problems().len(), PROBLEMS_MAX);
        assert!(
            error.to_string().starts_with("roster.toml: 100002 problems (the first 64 are shown)"),
            "{error}"
        );
    }

    #[test]
    fn odd_texts_are_survived() {
        for text in [
            "",
            "\n",
            "\u{feff}",
            "[",
            "[[member]]",
            "member = []",
            "member = 3",
            "task = [1, {}]",
            "node = 1\nnetwork = []",
            "a",
            "a =",
            "é = \"ü",
            "\"\"\"",
            "[a]\n[a]",
            &"[".repeat(5000),
            &"a.".repeat(5000),
            &format!("a = \"{}", "é".repeat(5000)),
        ] {
            survive(text);
        }
    }

    #[test]
    fn the_worst_megabyte_is_refused() {
        let filled = |piece: &str| piece.repeat(FILE_BYTES_MAX / piece.len());
        let listed = |head: &str, piece: &str| {
            let text = format!("{head}{}]", piece.repeat((FILE_BYTES_MAX - head.len() - 1) / piece.len()));
            assert!(text.len() <= FILE_BYTES_MAX);
            text
        };
        for text in [
            filled("[[member]]\n"),
            filled("[[task]]\n"),
            filled("a"),
            filled("a=[["),
            filled("\"\\u0041\"=1\n"),
            filled("#\n"),
            listed("[[task]]\nowners=[", "'a',"),
            listed("[[task]]\nfeatures.offset=[", "0,"),
            listed("[[member]]\nname='a'\n[[task]]\nowners=[", "'a',"),
            (0..FILE_BYTES_MAX / 10).map(|key| format!("k{key}=0\n")).collect::<String>(),
        ] {
            survive(&text);
        }
    }

    fn mutated() -> impl Strategy<Value = String> {
        let scrap = prop_oneof![
            Just(String::new()),
            "[-0-9a-z\"\\[\\]{}=.,#\n ]{1,4}",
            Just("\u{1b}".to_owned()),
            Just("é".to_owned()),
            Just("99999999999999999999999999".to_owned()),
            Just("-1".to_owned()),
            Just("nan".to_owned()),
            Just("[[task]]\n".to_owned()),
            Just("[task.release]\n".to_owned()),
            Just("\"\"".to_owned()),
        ];
        let edit = (any::<Index>(), 0_usize..12, scrap, any::<Index>());
        (any::<bool>(), proptest::collection::vec(edit, 1..6)).prop_map(|(which, edits)| {
            let mut text: Vec<char> = if which { EXAMPLE_NODE } else { EXAMPLE_ROSTER }.chars().collect();
            for (at, cut, scrap, from) in edits {
                let start = at.index(text.len());
                let end = (start + cut).min(text.len());
                // Half of the edits move a piece of the text itself, which stays close to valid.
                let moved: Vec<char> = match cut % 2 {
                    0 => scrap.chars().collect(),
                    _ => text[from.index(text.len())..].iter().copied().take(3 * cut).collect(),
                };
                text.splice(start..end, moved);
                if text.is_empty() {
                    text.push('\n');
                }
            }
            text.into_iter().collect()
        })
    }

    /// Swaps whole values between keys, so that the text stays TOML and only the schema can object.
    fn shuffled() -> impl Strategy<Value = String> {
        (any::<bool>(), proptest::collection::vec((any::<Index>(), any::<Index>()), 1..8)).prop_map(
            |(which, swaps)| {
                let example = if which { EXAMPLE_NODE } else { EXAMPLE_ROSTER };
                let mut lines: Vec<String> = example.lines().map(str::to_owned).collect();
                for (to, from) in swaps {
                    let (to, from) = (to.index(lines.len()), from.index(lines.len()));
                    let value = lines[from].split_once(" = ").map(|(_, value)| value.to_owned());
                    let key = lines[to].split_once(" = ").map(|(key, _)| key.to_owned());
                    match (key, value) {
                        (Some(key), Some(value)) => lines[to] = format!("{key} = {value}"),
                        _ => lines.swap(to, from),
                    }
                }
                lines.join("\n")
            },
        )
    }

    proptest! {
        #![proptest_config(fuzz_cases())]

        #[test]
        fn arbitrary_text_is_survived(text in "\\PC{0,200}") {
            survive(&text);
        }

        #[test]
        fn mutated_examples_are_survived(text in mutated()) {
            survive(&text);
        }

        #[test]
        fn shuffled_examples_are_survived_and_read_back(text in shuffled()) {
            survive(&text);
            if let Ok(node) = node(&text) {
                prop_assert_eq!(testing::node(&node.to_toml()).unwrap(), node);
            }
            if let Ok(roster) = roster(&text) {
                let again = testing::roster(&roster.to_toml()).unwrap();
                prop_assert_eq!(again.digest(), roster.digest());
                prop_assert_eq!(again, roster);
            }
        }
    }
}
