//! A table of a settings text, read key by key; what nobody asked for is refused at the end.

use super::{Document, Misfit, closest, typed, value};
use crate::error::{Problem, ValueError, quoted};
use serde::de::DeserializeOwned;
use std::ops::{Range, RangeInclusive};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A table that is being read. End it with [`Section::finish`], which refuses unknown keys.
pub(crate) struct Section<'d> {
    document: &'d Document,
    body: Body<'d>,
    span: Option<Range<usize>>,
    path: String,
    asked: Vec<&'static str>,
    retired: Vec<&'static str>,
}

/// What the text has in a section's place.
#[derive(Clone, Copy)]
enum Body<'d> {
    Table(&'d DeTable<'d>),
    Absent,
    /// Something other than a table, which has been reported; nothing is missed in it.
    Unreadable,
}

impl<'d> Section<'d> {
    /// The whole text.
    pub(crate) fn root(document: &'d Document, table: &'d DeTable<'d>) -> Self {
        Self {
            document,
            body: Body::Table(table),
            span: None,
            path: String::new(),
            asked: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// A key that must be there. `line` is what to add when it is not.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        line: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        match self.find(key) {
            Some(found) => self.take(key, found, read),
            None => {
                self.missing(key, line);
                None
            }
        }
    }

    /// A key that may be left out. The outer `None` means that it is there and wrong.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Option<Spanned<T>>> {
        match self.find(key) {
            Some(found) => self.take(key, found, read).map(Some),
            None => Some(None),
        }
    }

    /// A key with a default, which is placed at the head of the section.
    pub(crate) fn defaulted<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        self.optional(key, read).map(|value| value.unwrap_or_else(|| Spanned::new(self.place(), default)))
    }

    /// A list that may be left out; every faulty element is reported.
    pub(crate) fn optional_list<T>(
        &mut self,
        key: &'static str,
        counts: RangeInclusive<usize>,
        read: impl Fn(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Option<Spanned<Vec<Spanned<T>>>>> {
        let Some(found) = self.find(key) else { return Some(None) };
        let DeValue::Array(elements) = found.get_ref() else {
            let error = ValueError::new("a list in square brackets", value::kind(found.get_ref()));
            self.refuse(key, found.span(), error);
            return None;
        };
        if !counts.contains(&elements.len()) {
            let expected = format!("a list of {}", value::between(&counts));
            self.refuse(key, found.span(), ValueError::new(expected, format!("{} of them", elements.len())));
            return None;
        }
        let mut values = Vec::with_capacity(elements.len());
        for element in elements.iter() {
            values.extend(self.take(key, element, &read));
        }
        (values.len() == elements.len()).then(|| Some(Spanned::new(found.span(), values)))
    }

    /// A list that must be there.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        line: &str,
        counts: RangeInclusive<usize>,
        read: impl Fn(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let list = self.optional_list(key, counts, read)?;
        if list.is_none() {
            self.missing(key, line);
        }
        list
    }

    /// A value of a type that reads itself, and what `judge` says of it then. `line` is what to add when it is
    /// not there, `manual` where to read what belongs into it.
    pub(crate) fn typed<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        line: &str,
        manual: &str,
        judge: impl FnOnce(&T) -> Result<(), Misfit>,
    ) -> Option<Spanned<T>> {
        let Some(found) = self.find(key) else {
            self.missing(key, line);
            return None;
        };
        if !found.get_ref().is_table() {
            self.refuse(key, found.span(), ValueError::new("a table", value::kind(found.get_ref())));
            return None;
        }
        #[cfg(test)]
        typed::keys(&self.join(key), found.get_ref(), &mut self.document.schema.borrow_mut());
        let judged = typed::read::<T>(&self.join(key), found, manual).and_then(|value| match judge(&value) {
            Ok(()) => Ok(value),
            Err(misfit) => {
                let place = typed::place(found, misfit.keys);
                Err(Problem::new(misfit.message).at(place, "in this policy").help(misfit.help))
            }
        });
        match judged {
            Ok(value) => Some(Spanned::new(found.span(), value)),
            Err(problem) => {
                self.document.report(|| problem);
                None
            }
        }
    }

    /// A key that had a meaning once. Whether it is there; if so, it is reported with what to write now.
    pub(crate) fn retired(&mut self, key: &'static str, message: &str, help: &str) -> bool {
        self.unwanted(key, "no longer a key", message, help)
    }

    /// A key that has a meaning in other tables of that name, and none in this one. As [`Section::retired`].
    pub(crate) fn foreign(&mut self, key: &'static str, message: &str, help: &str) -> bool {
        self.unwanted(key, "does not belong here", message, help)
    }

    fn unwanted(&mut self, key: &'static str, label: &str, message: &str, help: &str) -> bool {
        self.retired.push(key);
        let Body::Table(table) = self.body else { return false };
        let Some((key, _)) = table.iter().find(|(name, _)| name.get_ref() == key) else { return false };
        self.document.report(|| Problem::new(message).at(key.span(), label).help(help.to_owned()));
        true
    }

    /// A table below this one. Left out, it reads like an empty one.
    pub(crate) fn table(&mut self, key: &'static str) -> Section<'d> {
        let found = self.find(key);
        let (body, span) = match found.map(|found| (found.get_ref(), found.span())) {
            Some((DeValue::Table(table), span)) => (Body::Table(table), Some(span)),
            Some((other, span)) => {
                self.refuse(key, span.clone(), ValueError::new("a table", value::kind(other)));
                (Body::Unreadable, Some(span))
            }
            None if matches!(self.body, Body::Unreadable) => (Body::Unreadable, None),
            None => (Body::Absent, self.span.clone()),
        };
        self.below(key, body, span)
    }

    /// Repeated tables, `[[key]]`, at most `count_max`; `None` if what is there is something else.
    pub(crate) fn tables(&mut self, key: &'static str, count_max: usize) -> Option<Vec<Section<'d>>> {
        let Some(found) = self.find(key) else { return Some(Vec::new()) };
        let heading = || format!("tables under the heading `[[{}]]`", self.join(key));
        let DeValue::Array(elements) = found.get_ref() else {
            self.refuse(key, found.span(), ValueError::new(heading(), value::kind(found.get_ref())));
            return None;
        };
        if elements.len() > count_max {
            let error =
                ValueError::new(format!("at most {count_max} {}", heading()), elements.len().to_string());
            self.refuse(key, found.span(), error);
            return None;
        }
        let mut sections = Vec::with_capacity(elements.len());
        for element in elements.iter() {
            match element.get_ref() {
                DeValue::Table(table) => {
                    sections.push(self.below(key, Body::Table(table), Some(element.span())))
                }
                other => self.refuse(key, element.span(), ValueError::new(heading(), value::kind(other))),
            }
        }
        (sections.len() == elements.len()).then_some(sections)
    }

    /// Whether the text has this section, as a table.
    pub(crate) fn is_present(&self) -> bool {
        matches!(self.body, Body::Table(_))
    }

    /// Whether the text leaves this section out.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.body, Body::Absent)
    }

    /// Where to point when the fault is the section itself.
    pub(crate) fn place(&self) -> Range<usize> {
        self.span.clone().unwrap_or(0..0)
    }

    /// Reports the keys that were never asked for.
    pub(crate) fn finish(self) {
        #[cfg(test)]
        self.document.schema.borrow_mut().extend(self.asked.iter().map(|key| self.join(key)));
        let Body::Table(table) = self.body else { return };
        let known = |key: &str| self.asked.contains(&key) || self.retired.contains(&key);
        for (key, _) in table.iter().filter(|(key, _)| !known(key.get_ref())) {
            self.document.report(|| {
                let meant = closest(key.get_ref(), self.asked.iter().copied());
                let advice = match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the keys here are {}", value::alternatives(&self.asked)),
                };
                let place =
                    if self.path.is_empty() { "this file".to_owned() } else { format!("`{}`", self.path) };
                let message = format!("{place} has no key {}", quoted(key.get_ref()));
                Problem::new(message).at(key.span(), "unknown key").help(advice)
            });
        }
    }

    fn find(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        let Body::Table(table) = self.body else { return None };
        table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn below(&self, key: &str, body: Body<'d>, span: Option<Range<usize>>) -> Section<'d> {
        Section {
            document: self.document,
            body,
            span,
            path: self.join(key),
            asked: Vec::new(),
            retired: Vec::new(),
        }
    }

    fn take<T>(
        &self,
        key: &str,
        found: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        match read(found.get_ref()) {
            Ok(value) => Some(Spanned::new(found.span(), value)),
            Err(error) => {
                self.refuse(key, found.span(), error);
                None
            }
        }
    }

    fn refuse(&self, key: &str, span: Range<usize>, error: ValueError) {
        self.document.report(|| {
            let message = format!("`{}` must be {}", self.join(key), error.expected);
            Problem::new(message).at(span, format!("found {}", error.found)).help(error.help)
        });
    }

    fn missing(&self, key: &str, line: &str) {
        if matches!(self.body, Body::Unreadable) {
            return;
        }
        self.document.conflict(|| {
            let problem = Problem::new(format!("`{}` is missing", self.join(key)));
            let heading = if self.is_present() { String::new() } else { format!(" under `[{}]`", self.path) };
            let problem = problem.help(format!("add a line such as `{line}`{heading}"));
            match &self.span {
                Some(span) => problem.at(span.clone(), format!("`{key}` belongs here")),
                None => problem,
            }
        });
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
