//! Where in which text a key stands, for complaints about values that only their user can judge.

use crate::{
    document::{self, LayerKind},
    error::{ConfigError, Problem, line_of},
    layers::Origin,
    limits::FILE_BYTES_MAX,
};
use miette::NamedSource;
use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A text: where its places start, what it is, its name and content.
type Text = (usize, LayerKind, Arc<NamedSource<String>>);

/// The place of every key of a text, or of several laid over each other.
#[derive(Clone, Debug)]
pub struct Places {
    texts: Vec<Text>,
    spans: BTreeMap<String, Range<usize>>,
}

/// A text with its kind, and a place in it.
type Found<'p> = (LayerKind, &'p Arc<NamedSource<String>>, Range<usize>);

impl Places {
    pub(crate) fn new(texts: Vec<Text>, table: &DeTable<'_>) -> Self {
        let mut spans = BTreeMap::new();
        walk("", table, &mut spans);
        Self { texts, spans }
    }

    /// The places of a file that is TOML.
    ///
    /// # Errors
    /// [`ConfigError`] as for any settings file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (name, text) = document::load(path)?;
        Self::parse(&name, text)
    }

    /// The places of a text that is TOML.
    ///
    /// # Errors
    /// [`ConfigError`] as for any settings text.
    pub fn parse(file: &str, text: String) -> Result<Self, ConfigError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        let mut spans = BTreeMap::new();
        let table = document::table(file, &text)?;
        walk("", table.get_ref(), &mut spans);
        drop(table);
        let source = Arc::new(NamedSource::new(file, text));
        Ok(Self { texts: vec![(0, LayerKind::File, source)], spans })
    }

    /// Where the value of a key comes from, such as `network.listen`.
    pub fn origin(&self, key: &str) -> Origin {
        let Some((kind, source, span)) = self.spans.get(key).and_then(|span| self.find(span)) else {
            return Origin::Default;
        };
        let line = line_of(source.inner(), span.start);
        match kind {
            LayerKind::File => Origin::File { file: source.name().to_owned(), line },
            LayerKind::Environment => {
                let text = source.inner().lines().nth(line - 1).unwrap_or_default();
                let variable = text.split('=').next().unwrap_or_default().to_owned();
                Origin::Environment { variable }
            }
            LayerKind::Flags => Origin::CommandLine,
        }
    }

    /// A problem at the place of a key, such as `network.listen` or `member[2].peer`; where that is not given, at
    /// the nearest table around it that is.
    pub fn problem(&self, key: &str, message: impl Into<String>, label: &str, help: &str) -> Problem {
        let problem = Problem::new(message).help(help.to_owned());
        let mut near = key;
        let span = loop {
            match self.spans.get(near) {
                Some(span) => break Some(span.clone()),
                None => match near.rsplit_once('.') {
                    Some((above, _)) => near = above,
                    None => break None,
                },
            }
        };
        match span {
            Some(span) => problem
                .at(span, label)
                .placed(|span| self.find(&span).map(|(_, source, span)| (source, span))),
            None => problem,
        }
    }

    fn find(&self, span: &Range<usize>) -> Option<Found<'_>> {
        let (start, kind, source) = self.texts.iter().rev().find(|(start, ..)| *start <= span.start)?;
        Some((*kind, source, span.start - start..span.end.saturating_sub(*start)))
    }
}

fn walk(path: &str, table: &DeTable<'_>, spans: &mut BTreeMap<String, Range<usize>>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        below(&path, value, spans);
        // A heading says more than the whole table.
        let span = if value.get_ref().is_table() { key.span() } else { value.span() };
        spans.insert(path, span);
    }
}

fn below(path: &str, value: &Spanned<DeValue<'_>>, spans: &mut BTreeMap<String, Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => walk(path, table, spans),
        DeValue::Array(elements) if elements.iter().any(|element| element.get_ref().is_table()) => {
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{path}[{index}]");
                below(&path, element, spans);
                spans.insert(path, element.span());
            }
        }
        _ => {}
    }
}
