//! Log lines about what strangers do, of which they must not be able to cause a flood.

use std::time::Duration;

use tokio::time::Instant;

/// Lets something be said at once, and then once per interval with the number of times that nothing was said.
#[derive(Clone, Debug)]
pub(crate) struct Seldom {
    every: Duration,
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, said: None, unsaid: 0 }
    }

    /// Notes one more event. `Some` says to speak of it, and how many were passed over since the last time.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now < said + self.every) {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_counts_the_others() {
        let (start, every) = (Instant::now(), Duration::from_secs(60));
        let mut seldom = Seldom::new(every);
        assert_eq!(seldom.note(start), Some(0));
        for second in 1..60 {
            assert_eq!(seldom.note(start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.note(start + every), Some(59));
        assert_eq!(seldom.note(start + every), None);
        assert_eq!(seldom.note(start + 3 * every), Some(1));
    }
}
