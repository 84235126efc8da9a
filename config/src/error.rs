//! What is wrong with settings, where, and what to write instead.

use miette::{Diagnostic, LabeledSpan, NamedSource};
use std::{fmt, io, ops::Range, path::PathBuf, sync::Arc};

/// Why settings were refused.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check that the file exists and that this user may read it"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is longer than any sensible settings.
    #[error("{file} is longer than {} bytes", crate::limits::FILE_BYTES_MAX)]
    #[diagnostic(help("this does not look like a settings file; check the path"))]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The text, or the name of its folder, is not UTF-8.
    #[error("{file} is not UTF-8")]
    #[diagnostic(help("save the file as UTF-8 text, in a folder with a UTF-8 name"))]
    NotText {
        /// The file.
        file: String,
    },
    /// More files than any sensible folder of settings holds.
    #[error("{} holds more than {} files of settings", folder.display(), crate::layers::DROP_INS_MAX)]
    #[diagnostic(help(
        "keep one file for each purpose, and move the others away or give them another ending"
    ))]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
    /// The text was read, and says something that it may not.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(Box<Problems>),
}

impl ConfigError {
    /// The file that all of it is about, where that is one.
    pub fn file(&self) -> Option<String> {
        match self {
            Self::Unreadable { path, .. } | Self::TooMany { folder: path } => {
                Some(path.display().to_string())
            }
            Self::TooLarge { file } | Self::NotText { file } => Some(file.clone()),
            Self::Invalid(problems) => Some(problems.source.name().to_owned()),
        }
    }

    /// The problems in the text, if it could be read at all.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => &problems.problems,
            _ => &[],
        }
    }
}

/// All that is wrong with one text.
#[derive(Debug, Diagnostic)]
pub struct Problems {
    #[source_code]
    source: NamedSource<String>,
    #[related]
    problems: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    /// Puts problems in the order of the text. `unlisted` counts those beyond the limit.
    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>, unlisted: usize) -> Self {
        for problem in &mut problems {
            problem.line = problem.offset().map(|offset| line_of(text, offset));
        }
        problems.sort_by_key(|problem| problem.offset().unwrap_or(usize::MAX));
        Self { source: NamedSource::new(file, text.to_owned()), problems, unlisted }
    }

    /// Problems of several texts, each of which knows its place already. The first text names the whole.
    pub(crate) fn of_several(first: &NamedSource<String>, problems: Vec<Problem>, unlisted: usize) -> Self {
        Self { source: NamedSource::new(first.name(), first.inner().clone()), problems, unlisted }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len() + self.unlisted;
        write!(f, "{}: {count} problem{}", self.source.name(), if count == 1 { "" } else { "s" })?;
        if self.unlisted > 0 {
            write!(f, " (the first {} are shown)", self.problems.len())?;
        }
        match self.problems.first() {
            Some(Problem { message, line: Some(line), source: Some(source), .. }) => {
                write!(f, "; {}, line {line}: {message}", source.name())
            }
            Some(Problem { message, line: Some(line), .. }) => write!(f, "; line {line}: {message}"),
            Some(problem) => write!(f, "; {}", problem.message),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problems {}

/// One thing that is wrong, with its place in the text.
#[derive(Clone, Debug, Diagnostic)]
pub struct Problem {
    message: String,
    line: Option<usize>,
    /// The text, where it is not the one that all problems of a report are about.
    #[source_code]
    source: Option<Arc<NamedSource<String>>>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
    #[help]
    help: Option<String>,
}

impl Problem {
    /// A problem that is nowhere in particular until [`Problem::at`] says so.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: None, source: None, labels: Vec::new(), help: None }
    }

    /// Points at `span`; the first call names the place to change, later ones what it depends on.
    pub(crate) fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.labels.push(LabeledSpan::new_with_span(Some(label.into()), span));
        self
    }

    /// Says what to write instead.
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Line in the text, from 1, where there is one to point at.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The text that the problem is in, where that is known of the problem itself.
    pub fn file(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.name())
    }

    /// Places the problem in `source`: `place` turns its places into the text and the place in it. Places in
    /// other texts are told in words, because a picture shows one text.
    pub(crate) fn placed<'s>(
        mut self,
        place: impl Fn(Range<usize>) -> Option<(&'s Arc<NamedSource<String>>, Range<usize>)>,
    ) -> Self {
        let mut elsewhere = Vec::new();
        for label in std::mem::take(&mut self.labels) {
            let span = label.offset()..label.offset() + label.len();
            let Some((source, span)) = place(span) else { continue };
            let own = self.source.get_or_insert_with(|| source.clone());
            let line = line_of(source.inner(), span.start);
            if Arc::ptr_eq(own, source) {
                self.line.get_or_insert(line);
                self.labels.push(LabeledSpan::new_with_span(label.label().map(str::to_owned), span));
            } else {
                let what = label.label().unwrap_or("here");
                elsewhere.push(format!("{what} in {}, line {line}", source.name()));
            }
        }
        if !elsewhere.is_empty() {
            let help = self.help.take().map_or_else(String::new, |help| format!("{help}; "));
            self.help = Some(format!("{help}there is {}", elsewhere.join(", and ")));
        }
        self
    }

    /// Where the first place starts.
    pub(crate) fn offset(&self) -> Option<usize> {
        self.labels.first().map(LabeledSpan::offset)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// A single value is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ValueError {
    /// What would be accepted, in words.
    pub expected: String,
    /// What was given, shortened and made printable.
    pub found: String,
    /// What to write instead, where that can be guessed.
    pub help: Option<String>,
}

impl ValueError {
    pub(crate) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// Text from a file for a message: cut short, in quotes, without control characters.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 48;
    let shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(SHOWN_CHARS).is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

/// The line of a place in a text, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_printable() {
        assert_eq!(quoted("north"), "`north`");
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), 51);
    }

    #[test]
    fn the_summary_names_file_line_and_first_problem() {
        let problems = vec![Problem::new("second").at(4..5, ""), Problem::new("first").at(2..3, "")];
        let problems = Problems::new("roster.toml", "a\nb\nc\n", problems, 0);
        assert_eq!(problems.to_string(), "roster.toml: 2 problems; line 2: first");
        let many = Problems::new("roster.toml", "", vec![Problem::new("no task")], 3);
        assert_eq!(many.to_string(), "roster.toml: 4 problems (the first 1 are shown); no task");
    }
}
