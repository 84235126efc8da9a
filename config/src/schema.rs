//! Both settings files as JSON Schema, for editors and for whoever makes such files by program.
//!
//! A schema sees one value at a time. What values say about each other, such as a pair that names a member, is
//! judged by [`crate::Node`] and [`crate::Roster`] alone: what they accept, the schema accepts too.

mod node;
mod roster;

pub use node::node;
pub use roster::roster;

use crate::{fraction::Fraction, limits::*};
use serde_json::{Map, Value, json};
use std::{fmt::Display, ops::RangeInclusive};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A key of a table.
struct Key {
    name: &'static str,
    required: bool,
    schema: Value,
}

/// A key that must be there.
fn needed(name: &'static str, about: &str, schema: Value) -> Key {
    Key { name, required: true, schema: described(schema, about) }
}

/// A key that may be left out.
fn optional(name: &'static str, about: &str, schema: Value) -> Key {
    Key { name, required: false, schema: described(schema, about) }
}

fn described(mut schema: Value, about: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), about.into());
    }
    schema
}

/// A table with these keys and no others.
fn table(keys: Vec<Key>) -> Value {
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let properties: Map<String, Value> =
        keys.into_iter().map(|key| (key.name.to_owned(), key.schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The schema of a whole file.
fn file(title: &str, keys: Vec<Key>) -> Value {
    let mut schema = table(keys);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), DIALECT.into());
        object.insert("title".to_owned(), title.into());
    }
    schema
}

fn list(counts: &RangeInclusive<usize>, of: Value) -> Value {
    json!({ "type": "array", "items": of, "minItems": counts.start(), "maxItems": counts.end() })
}

fn whole<T: Display + Copy + Into<u64>>(range: &RangeInclusive<T>) -> Value {
    let (least, most): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn real(magnitude_max: f64) -> Value {
    json!({ "type": "number", "minimum": -magnitude_max, "maximum": magnitude_max })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> Value {
    json!({ "enum": words.into_iter().collect::<Vec<_>>() })
}

/// A member's, pair's or task's name.
fn name() -> Value {
    let inner = NAME_CHARS.end() - 2;
    json!({ "type": "string", "pattern": format!("^[a-z0-9]([-a-z0-9]{{0,{inner}}}[a-z0-9])?$") })
}

/// A text for people.
fn label() -> Value {
    json!({ "type": "string", "minLength": LABEL_CHARS.start(), "maxLength": LABEL_CHARS.end() })
}

fn path() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": PATH_BYTES_MAX })
}

fn address() -> Value {
    let pattern = "^(/(ip4|ip6|dns|dns4|dns6)/[^/]+/(tcp/[0-9]{1,5}|udp/[0-9]{1,5}/quic-v1)|/p2p-circuit)$";
    json!({ "type": "string", "pattern": pattern, "maxLength": ADDRESS_BYTES_MAX })
}

/// An exact number in quotes. Its range is a matter for the reader, and told here.
fn exact(range: &RangeInclusive<Fraction>) -> Value {
    let pattern = "^([0-9]{1,18}(\\.[0-9]{1,18})?(e-?[0-9]{1,2})?|[0-9]{1,18}/[0-9]{1,18})$";
    let range = format!("exact, from {} to {}", range.start(), range.end());
    json!({ "type": "string", "pattern": pattern, "$comment": range })
}

#[cfg(test)]
mod tests;
