//! Messages to the service manager.

use sd_notify::NotifyState;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Longest status line; more would not be read.
const STATUS_CHARS_MAX: usize = 400;

/// The service manager. Where there is none, nothing happens.
#[derive(Debug, Default)]
pub struct Manager {
    status: Mutex<String>,
}

impl Manager {
    /// The node serves.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready]);
        self.status(status);
    }

    /// The node reads its files again; [`Manager::ready`] ends that. The time lets the manager match the two.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("the clock cannot be read, so no reload is announced: {error}"),
        }
    }

    /// The node ends, which may take as long as `within`.
    pub fn stopping(&self, status: &str, within: Duration) {
        let extended = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(extended)]);
        self.status(status);
    }

    /// What the node does, in a line; nothing is sent where it is the same as before.
    pub fn status(&self, status: &str) {
        let line: String =
            status.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_CHARS_MAX).collect();
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != line {
            tell(&[NotifyState::Status(&line)]);
            *last = line;
        }
    }

    /// The node's loops turn.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// How long the manager waits for [`Manager::alive`] before it ends the process, if it does.
    pub fn patience(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager does not hear: {error}");
    }
}
