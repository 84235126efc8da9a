//! Several texts of which later ones override earlier ones, key by key.
//!
//! Each is parsed and judged alone, so that what is wrong with it is shown in it; what is missing, and what does
//! not go together, is judged when all are laid over each other. Places of the whole count through the texts, as
//! if they stood behind each other.

use super::{Document, Scope, Section, printable, syntax};
use crate::{
    error::{ConfigError, Problem, Problems},
    limits::{FILE_BYTES_MAX, PROBLEMS_MAX},
};
use miette::NamedSource;
use std::{borrow::Cow, ops::Range, sync::Arc};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerKind {
    /// A file.
    File,
    /// Variables of the environment, one a line.
    Environment,
    /// Settings from the command line, one a line.
    Flags,
}

/// One text.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    kind: LayerKind,
    source: Arc<NamedSource<String>>,
    /// The lines of a text that is not a file.
    assignments: Vec<Assignment>,
    /// What was wrong before anything could be read, with places in the text.
    problems: Vec<Problem>,
}

/// A line that gives one key a value.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// The table.
    pub(crate) section: String,
    /// The key in it.
    pub(crate) key: String,
    /// Where the line names the key.
    pub(crate) name: Range<usize>,
    /// Where the line has the value.
    pub(crate) value: Range<usize>,
}

impl Layer {
    /// The text of a file.
    pub(crate) fn file(name: &str, text: String) -> Self {
        let source = Arc::new(NamedSource::new(name, text));
        Self { kind: LayerKind::File, source, assignments: Vec::new(), problems: Vec::new() }
    }

    /// Lines that each give one key a value.
    pub(crate) fn lines(
        kind: LayerKind,
        name: &str,
        text: String,
        assignments: Vec<Assignment>,
        problems: Vec<Problem>,
    ) -> Self {
        Self { kind, source: Arc::new(NamedSource::new(name, text)), assignments, problems }
    }

    /// What the text is.
    pub(crate) fn kind(&self) -> LayerKind {
        self.kind
    }

    /// The name and the text.
    pub(crate) fn source(&self) -> &Arc<NamedSource<String>> {
        &self.source
    }

    fn text(&self) -> &str {
        self.source.inner()
    }

    fn table(&self) -> Result<DeTable<'_>, Problem> {
        printable(self.text())?;
        if self.kind == LayerKind::File {
            return DeTable::parse(self.text()).map(Spanned::into_inner).map_err(syntax);
        }
        let mut table = DeTable::new();
        for line in &self.assignments {
            let key = Spanned::new(line.name.clone(), Cow::Borrowed(line.key.as_str()));
            let section = Spanned::new(line.name.clone(), Cow::Borrowed(line.section.as_str()));
            let inner = DeTable::from_iter([(key, self.value(line.value.clone()))]);
            let below =
                DeTable::from_iter([(section, Spanned::new(line.name.clone(), DeValue::Table(inner)))]);
            overlay(&mut table, below);
        }
        Ok(table)
    }

    /// What is written like a value of a file is one; all else is text, so that words and paths need no quotes.
    fn value(&self, place: Range<usize>) -> Spanned<DeValue<'_>> {
        let text = self.text().get(place.clone()).unwrap_or_default();
        match DeValue::parse(text) {
            Ok(value) => moved(value, place.start),
            Err(_) => Spanned::new(place, DeValue::String(Cow::Borrowed(text))),
        }
    }
}

/// All texts laid over each other.
pub(crate) struct Merged<'l> {
    /// Every key with its value, the last one that was given.
    pub(crate) table: DeTable<'l>,
    /// Each text and where its places start.
    pub(crate) layers: Vec<(usize, &'l Layer)>,
}

impl<'l> Merged<'l> {
    /// The text that a place of the whole is in, and the place in it.
    pub(crate) fn place(&self, span: &Range<usize>) -> Option<(&'l Layer, Range<usize>)> {
        let (start, layer) = self.layers.iter().rev().find(|(start, _)| *start <= span.start)?;
        Some((*layer, span.start - start..span.end.saturating_sub(*start)))
    }
}

/// Reads texts, later ones over earlier ones. The first one is where missing keys belong.
///
/// # Errors
/// [`ConfigError::Invalid`] with the problems of all texts, or [`ConfigError::TooLarge`].
pub(crate) fn layered<T>(
    layers: &[Layer],
    read: impl Fn(&Document, Section<'_>) -> Option<T>,
) -> Result<(T, Merged<'_>), ConfigError> {
    let mut merged = Merged { table: DeTable::new(), layers: Vec::new() };
    let (mut found, mut unlisted, mut start) = (Vec::new(), 0, 0);
    for layer in layers {
        if layer.text().len() > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: layer.source.name().to_owned() });
        }
        let mut problems = layer.problems.clone();
        match layer.table() {
            Ok(table) => {
                let alone = Document { scope: Scope::Alone, ..Document::default() };
                let _ = read(&alone, Section::root(&alone, &table));
                problems.extend(alone.problems.into_inner());
                unlisted += alone.unlisted.get();
                overlay(&mut merged.table, moved_table(table, start));
            }
            Err(problem) => problems.push(problem),
        }
        problems.sort_by_key(|problem| problem.offset().unwrap_or(usize::MAX));
        found.extend(problems.into_iter().map(|problem| problem.placed(|span| Some((&layer.source, span)))));
        merged.layers.push((start, layer));
        // One more, so that the end of a text is not the start of the next.
        start += layer.text().len() + 1;
    }
    let together = Document { scope: Scope::Together, ..Document::default() };
    let value = read(&together, Section::root(&together, &merged.table));
    let problems = together.problems.into_inner();
    unlisted += together.unlisted.get();
    found.extend(problems.into_iter().map(|problem| {
        problem.placed(|span| merged.place(&span).map(|(layer, span)| (&layer.source, span)))
    }));
    match value {
        Some(value) if found.is_empty() => Ok((value, merged)),
        _ => {
            unlisted += found.len().saturating_sub(PROBLEMS_MAX);
            found.truncate(PROBLEMS_MAX);
            let nothing = NamedSource::new("no file", String::new());
            let first = layers.first().map_or(&nothing, |layer| &*layer.source);
            Err(ConfigError::Invalid(Box::new(Problems::of_several(first, found, unlisted))))
        }
    }
}

/// Lays `above` over `below`. A table is laid over a table key by key; anything else takes the place of what is
/// there.
fn overlay<'t>(below: &mut DeTable<'t>, above: DeTable<'t>) {
    for (key, value) in above {
        let name = key.get_ref().clone();
        let there = below.get(&*name).is_some_and(|there| there.get_ref().is_table());
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(upper) if there => {
                if let Some(DeValue::Table(lower)) = below.get_mut(&*name).map(Spanned::get_mut) {
                    for (key, value) in upper {
                        lower.remove::<str>(key.get_ref());
                        lower.insert(key, value);
                    }
                }
            }
            inner => {
                below.remove(&*name);
                below.insert(key, Spanned::new(span, inner));
            }
        }
    }
}

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let far = |span: Range<usize>| span.start + by..span.end + by;
    let each = table.into_iter().map(|(key, value)| {
        let span = far(key.span());
        (Spanned::new(span, key.into_inner()), moved(value, by))
    });
    each.collect()
}

fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let inner = match value.into_inner() {
        DeValue::Array(elements) => {
            let mut array = DeArray::new();
            for element in elements {
                array.push(moved(element, by));
            }
            DeValue::Array(array)
        }
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        other => other,
    };
    Spanned::new(span, inner)
}
