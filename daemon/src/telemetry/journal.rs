//! Events as journal entries with their fields kept apart.

use log::kv::{Key, Value};
use std::error::Error;
use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Installs a subscriber that writes to the journal.
pub(super) fn install(filter: EnvFilter) -> Result<(), Box<dyn Error + Send + Sync>> {
    let journal = JournalLog::new()?.with_syslog_identifier("consilium".to_owned());
    tracing_subscriber::registry().with(filter).with(Journal(journal)).try_init()?;
    Ok(())
}

struct Journal(JournalLog);

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.others.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.push((field.name(), value.to_owned()));
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

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        // There is nowhere left to report that the journal is gone.
        let _ = self.0.journal_send(
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
