//! The latest warnings and errors of this process, for the dashboard.

use serde::Serialize;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Events kept.
const LATEST_MAX: usize = 64;
/// Characters kept of one.
const MESSAGE_CHARS_MAX: usize = 600;

/// There is one subscriber in a process, and so one list.
static LATEST: Mutex<VecDeque<Trouble>> = Mutex::new(VecDeque::new());

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When, in seconds since 1970.
    pub at: u64,
    /// `error` or `warning`.
    pub level: &'static str,
    /// The part of the program.
    pub target: String,
    /// What happened, and the fields of the event.
    pub message: String,
}

/// The latest warnings and errors, oldest first.
pub fn latest() -> Vec<Trouble> {
    LATEST.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Keeps what passes the filter of the log.
pub(super) struct Recent;

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => return,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let message = text.message.chars().chain(text.fields.chars()).take(MESSAGE_CHARS_MAX).collect();
        let target = event.metadata().target().to_owned();
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= LATEST_MAX {
            latest.pop_front();
        }
        latest.push_back(Trouble { at: crate::ledger::seconds_now(), level, target, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn warnings_are_kept_and_bounded() {
        let subscriber = tracing_subscriber::registry().with(Recent);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("recent: not kept");
            for number in 0..2 * LATEST_MAX {
                tracing::warn!(task = "exact", number, "recent: the pool is dry");
            }
            tracing::error!("recent: {}", "x".repeat(2 * MESSAGE_CHARS_MAX));
        });
        let latest = latest();
        assert_eq!(latest.len(), LATEST_MAX);
        assert!(latest.iter().all(|one| !one.message.contains("not kept")));
        let warning = latest.iter().rev().find(|one| one.level == "warning").unwrap();
        let last = 2 * LATEST_MAX - 1;
        assert_eq!(warning.message, format!("recent: the pool is dry task=\"exact\" number={last}"));
        let error = latest.iter().find(|one| one.level == "error").unwrap();
        assert_eq!(error.message.chars().count(), MESSAGE_CHARS_MAX);
    }
}
