//! Log lines about what strangers do, of which they must not be able to cause a flood.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Distance between two lines about the same, as a rule.
pub(crate) const LOGGED_EVERY: Duration = Duration::from_secs(60);

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

/// The same for each of a few things, as there are members or reasons. Whoever keeps one sees to it that they are few.
#[derive(Debug)]
pub(crate) struct SeldomOf<K> {
    each: Mutex<HashMap<K, Seldom>>,
}

impl<K> Default for SeldomOf<K> {
    fn default() -> Self {
        Self { each: Mutex::default() }
    }
}

impl<K: Eq + Hash> SeldomOf<K> {
    /// As [`Seldom::note`], for one of them and at this moment.
    pub(crate) fn note(&self, of: K) -> Option<u64> {
        self.note_at(of, Instant::now())
    }

    fn note_at(&self, of: K, now: Instant) -> Option<u64> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        each.entry(of).or_insert_with(|| Seldom::new(LOGGED_EVERY)).note(now)
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

    #[test]
    fn each_has_an_interval_of_its_own() {
        let (seldom, start) = (SeldomOf::default(), Instant::now());
        let note = |of, now| seldom.note_at(of, now);
        assert_eq!([note("a", start), note("a", start), note("b", start)], [Some(0), None, Some(0)]);
        let later = start + LOGGED_EVERY;
        assert_eq!([note("a", later), note("b", later)], [Some(1), Some(0)]);
    }
}
