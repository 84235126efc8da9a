//! Events as journal entries with their fields kept apart.

use log::kv::{Key, Value};
use std::borrow::Cow;
use std::fmt::{Debug, Write};
use std::io;
use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Longest value of a field, and of the message; what peers say may be long.
const VALUE_BYTES_MAX: usize = 4096;
/// Most fields of one entry.
const FIELDS_MAX: usize = 32;

/// What events call a thing, and the field by which administrators find it in all of them.
const ALIASES: [(&str, &str); 6] = [
    ("release", "query"),
    ("client", "peer"),
    ("owner", "peer"),
    ("member", "peer"),
    ("party", "peer"),
    ("host", "peer"),
];

/// The events that somebody may want to be called for, with identities that never change: `journalctl
/// MESSAGE_ID=…`, or a rule of a log collector.
const MESSAGES: [(&str, &str); 11] = [
    ("up", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a01"),
    ("stopped", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a02"),
    ("reloaded", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a03"),
    ("reload-refused", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a04"),
    ("restart-needed", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a05"),
    ("stuck", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a06"),
    ("failed", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a07"),
    ("evidence-refused", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a08"),
    ("ledger-behind", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a09"),
    ("detour", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a0a"),
    ("detour-over", "5d1c0f3f7a0b4f0c9b6b1a3a4b2f6a0b"),
];

/// The layer that writes to the journal.
///
/// # Errors
/// No journal listens.
pub(super) fn layer() -> io::Result<Journal<JournalLog>> {
    Ok(Journal(JournalLog::new()?.with_syslog_identifier("consilium".to_owned())))
}

/// Where entries go.
pub(super) trait Sink {
    fn send(&self, record: &log::Record<'_>);
}

impl Sink for JournalLog {
    fn send(&self, record: &log::Record<'_>) {
        // There is nowhere left to report that the journal is gone.
        let _ = self.journal_send(record);
    }
}

pub(super) struct Journal<S>(S);

#[derive(Clone, Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(Cow<'static, str>, String)>,
}

impl Fields {
    /// Later values take the place of earlier ones: those of an event that of its spans.
    fn put(&mut self, name: impl Into<Cow<'static, str>>, value: String) {
        let name = name.into();
        let value = bounded(value);
        let room = self.others.len() < FIELDS_MAX;
        match self.others.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None if room => self.others.push((name, value)),
            None => {}
        }
    }

    fn take(&mut self, inner: &Self) {
        for (name, value) in &inner.others {
            self.put(name.clone(), value.clone());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Adds the fields that mean the same in all events.
    fn unify(&mut self) {
        for (name, common) in ALIASES {
            if self.get(common).is_none()
                && let Some(value) = self.get(name).map(str::to_owned)
            {
                self.put(common, value);
            }
        }
        let kind = self.get("kind");
        if let Some((_, id)) = MESSAGES.into_iter().find(|(name, _)| Some(*name) == kind) {
            self.put("message_id", id.to_owned());
        }
    }
}

/// A value cut at a character.
fn bounded(mut value: String) -> String {
    if value.len() > VALUE_BYTES_MAX {
        value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
        value.push('…');
    }
    value
}

/// Stops a value that grows without end while it is written.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.push_str(text);
        if self.0.len() > VALUE_BYTES_MAX { Err(std::fmt::Error) } else { Ok(()) }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Bounded(String::new());
        // An error only says that enough was written.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let value = bounded(value.to_owned());
        match field.name() {
            "message" => self.message = value,
            name => self.put(name, value),
        }
    }
}

impl log::kv::Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn log::kv::VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        for (name, value) in &self.others {
            visitor.visit_pair(Key::from_str(name), Value::from(value.as_str()))?;
        }
        Ok(())
    }
}

impl<C: Subscriber + for<'s> LookupSpan<'s>, S: Sink + 'static> Layer<C> for Journal<S> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, C>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, C>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, C>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.take(outer);
            }
        }
        event.record(&mut fields);
        fields.unify();
        let level = match *event.metadata().level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        self.0.send(
            &log::Record::builder()
                .args(format_args!("{}", fields.message))
                .level(level)
                .target(event.metadata().target())
                .module_path(event.metadata().module_path())
                .file(event.metadata().file())
                .line(event.metadata().line())
                .key_values(&fields)
                .build(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    /// A message with its fields.
    type Entry = (String, BTreeMap<String, String>);

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Entry>>>);

    struct Collect<'a>(&'a mut BTreeMap<String, String>);

    impl<'kvs> log::kv::VisitSource<'kvs> for Collect<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
            self.0.insert(key.to_string(), value.to_string());
            Ok(())
        }
    }

    impl Sink for Kept {
        fn send(&self, record: &log::Record<'_>) {
            let mut fields = BTreeMap::new();
            record.key_values().visit(&mut Collect(&mut fields)).unwrap();
            self.0.lock().unwrap().push((record.args().to_string(), fields));
        }
    }

    fn entries(act: impl FnOnce()) -> Vec<(String, BTreeMap<String, String>)> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(Journal(kept.clone()));
        tracing::subscriber::with_default(subscriber, act);
        let entries = kept.0.lock().unwrap();
        entries.clone()
    }

    #[test]
    fn fields_of_spans_and_events_stay_apart_and_have_common_names() {
        let entries = entries(|| {
            let span =
                tracing::info_span!("question", task = "a", client = "clinic", seen = tracing::field::Empty);
            span.record("seen", 3);
            let _inside = span.enter();
            tracing::info!(release = %"1f0c", task = "b", verdict = "answered", "done in {} ms", 5);
        });
        let (message, fields) = &entries[0];
        assert_eq!(message, "done in 5 ms");
        let expected = [
            ("client", "clinic"),
            ("peer", "clinic"),
            ("query", "1f0c"),
            ("release", "1f0c"),
            ("seen", "3"),
            ("task", "b"),
            ("verdict", "answered"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(*fields, BTreeMap::from(expected));
    }

    #[test]
    fn a_peer_that_is_named_is_not_replaced_and_alarms_have_identities() {
        let entries = entries(|| tracing::error!(peer = "north", owner = "south", kind = "stuck", "hangs"));
        assert_eq!(entries[0].1["peer"], "north");
        assert_eq!(entries[0].1["message_id"].len(), 32);
        let ids: std::collections::BTreeSet<_> = MESSAGES.into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), MESSAGES.len());
    }

    #[test]
    fn what_a_peer_says_is_cut() {
        let long = "ü".repeat(VALUE_BYTES_MAX);
        let entries = entries(|| tracing::warn!(reason = long, "{long:?}"));
        let (message, fields) = &entries[0];
        for text in [message, &fields["reason"]] {
            assert!(text.len() <= VALUE_BYTES_MAX + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
        }
    }
}
