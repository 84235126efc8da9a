//! Values of types that read themselves: what such a type complains about, at its place and in our words.

use super::{closest, value};
use crate::error::{Problem, quoted};
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeValue, Error, ValueDeserializer},
};

/// A value that was read and still does not fit: what is wrong, and the keys from the value to the place.
pub(crate) struct Misfit {
    /// Keys below the value; those that are not there are left out.
    pub(crate) keys: &'static [&'static str],
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

/// Reads a value. `path` is its place for messages, `manual` says where all that belongs into it is explained.
///
/// # Errors
/// The first thing that the type does not accept.
pub(super) fn read<T: DeserializeOwned>(
    path: &str,
    found: &Spanned<DeValue<'_>>,
    manual: &str,
) -> Result<T, Problem> {
    T::deserialize(ValueDeserializer::from(found.clone()))
        .map_err(|error| complaint(path, found.span(), &error, manual))
}

/// The place of a misfit.
pub(super) fn place(found: &Spanned<DeValue<'_>>, keys: &[&str]) -> Range<usize> {
    let below = keys.split_first().and_then(|(key, rest)| Some((found.get_ref().get(key)?, rest)));
    below.map_or_else(|| found.span(), |(below, rest)| place(below, rest))
}

/// Serde's words are `missing field K`, `unknown field K, expected K or K`, `invalid type: F, expected E`,
/// `unknown variant F, expected E` and some rarer ones, which are shown as they are.
fn complaint(path: &str, whole: Range<usize>, error: &Error, manual: &str) -> Problem {
    let message = error.message();
    // The message is followed by a line with the keys, unless there are none.
    let text = error.to_string();
    let keys = text.strip_prefix(message).unwrap_or("").trim();
    let keys = keys.strip_prefix("in `").and_then(|keys| keys.strip_suffix('`')).unwrap_or("");
    let path = if keys.is_empty() { path.to_owned() } else { format!("{path}.{keys}") };
    let span = error.span().filter(|span| !span.is_empty()).unwrap_or(whole);
    if let Some(key) = message.strip_prefix("missing field ") {
        let key = key.trim_matches('`');
        return Problem::new(format!("`{path}.{key}` is missing"))
            .at(span, format!("`{key}` belongs here"))
            .help(format!("add it: nothing here has a default; {manual}"));
    }
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if let Some(key) = found.strip_prefix("unknown field ") {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let key = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')).unwrap_or(key);
        let help = match closest(key, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys here are {}", value::alternatives(&known)),
        };
        return Problem::new(format!("`{path}` has no key {}", quoted(key)))
            .at(span, "unknown key")
            .help(help);
    }
    if expected.is_empty() {
        return Problem::new(format!("`{path}` cannot be read"))
            .at(span, printable(message))
            .help(manual.to_owned());
    }
    let found = ["invalid type: ", "invalid value: ", "unknown variant ", "invalid "]
        .iter()
        .find_map(|prefix| found.strip_prefix(prefix))
        .unwrap_or(found);
    Problem::new(format!("`{path}` must be {}", in_words(expected)))
        .at(span, format!("found {}", printable(found)))
        .help(manual.to_owned())
}

/// What serde calls by the names of Rust.
fn in_words(expected: &str) -> String {
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" => i64::MAX.cast_unsigned(),
        "a boolean" => return "`true` or `false`".to_owned(),
        "a string" => return "a string in quotes".to_owned(),
        "a sequence" => return "a list in square brackets".to_owned(),
        _ if expected.starts_with("struct ") => return "a table".to_owned(),
        _ => return printable(expected),
    };
    format!("a whole number from 0 to {most}")
}

/// Text that may come from the file: cut short, without control characters.
fn printable(text: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let shown = text.chars().take(SHOWN_CHARS);
    let mut shown: String = shown
        .flat_map(|one| if one.is_control() { one.escape_debug().collect() } else { vec![one] })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Every key that stands in a value, for the test that the examples show what there is.
#[cfg(test)]
pub(super) fn keys(path: &str, value: &DeValue<'_>, found: &mut std::collections::BTreeSet<String>) {
    match value {
        DeValue::Table(table) => {
            for (key, below) in table.iter() {
                let path = format!("{path}.{}", key.get_ref());
                keys(&path, below.get_ref(), found);
                found.insert(path);
            }
        }
        DeValue::Array(elements) => {
            elements.iter().for_each(|element| keys(path, element.get_ref(), found));
        }
        _ => {}
    }
}
