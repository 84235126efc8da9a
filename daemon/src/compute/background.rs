//! Heavy work that comes after everything else.

use super::local_failed;
use crate::message::Refusal;
use std::time::Duration;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::runtime::{Builder, Runtime};

/// Any other thread of this service that wakes takes the processor at once, which no niceness brings about.
const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// Few, and kept as long as the service lives: an allocator with memory of its own for each thread keeps what
/// a large work has freed, once for every thread that ever did one. Batches are made one at a time; the others
/// serve what is short.
const THREADS_MAX: usize = 3;
const KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Threads that run where nothing else of this service wants to.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// # Errors
    /// The system has no means to wait for events.
    pub(crate) fn new() -> Result<Self, Refusal> {
        let give_way = || {
            // Where it is refused the work is done all the same.
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE);
        };
        let mut builder = Builder::new_current_thread();
        builder.thread_name("background").on_thread_start(give_way);
        builder.max_blocking_threads(THREADS_MAX).thread_keep_alive(KEPT);
        builder.build().map(|threads| Self(Some(threads))).map_err(local_failed)
    }

    /// Runs `work`. Dropping the future does not stop it. Nothing that is waited for may depend on it without
    /// a limit.
    ///
    /// # Errors
    /// The thread cannot be started, or it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let threads = self.0.as_ref().ok_or_else(|| local_failed("the service is going down"))?;
        threads.spawn_blocking(work).await.map_err(local_failed)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime that waits for its threads must not be dropped by a task of another one.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    #[tokio::test]
    async fn few_threads_do_all_the_work() {
        let background = Background::new().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let work = (0..10).map(|_| background.run(|| thread::current().id()));
            seen.extend(futures::future::try_join_all(work).await.unwrap());
        }
        assert!((1..=THREADS_MAX).contains(&seen.len()), "{}", seen.len());
    }

    #[tokio::test]
    async fn a_panic_is_a_refusal() {
        let background = Background::new().unwrap();
        assert!(background.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(background.run(|| 7).await.unwrap(), 7);
    }
}
