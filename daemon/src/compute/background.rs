//! Heavy work that comes after everything else.

use super::local_failed;
use crate::message::Refusal;
use std::time::Duration;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::runtime::{Builder, Runtime};

/// What background work leaves to other threads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Yielding {
    /// All that they want, and at once: whoever wakes takes the processor. On a busy machine nothing may be left,
    /// so this is for what somebody else can do instead.
    All,
    /// Most: as far down as an ordinary process may go.
    Most,
}

impl Yielding {
    /// Gives way with this thread. Where the system refuses, the work is done all the same.
    fn begin(self) {
        match self {
            Self::All => {
                let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
                let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
            }
            Self::Most => {
                // On Linux a priority belongs to the thread.
                let _ = rustix::process::setpriority_process(None, NICENESS);
            }
        }
    }
}

const NICENESS: i32 = 19;
/// Few, and kept as long as the service lives: an allocator with memory of its own for each thread keeps what
/// a large work has freed, once for every thread that ever did one. Batches are made one at a time.
const THREADS_MAX: usize = 2;
const KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Threads that give way to the others of this service.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// # Errors
    /// The system has no means to wait for events.
    pub(crate) fn new(yielding: Yielding) -> Result<Self, Refusal> {
        let mut builder = Builder::new_current_thread();
        builder.thread_name("background").on_thread_start(move || yielding.begin());
        builder.max_blocking_threads(THREADS_MAX).thread_keep_alive(KEPT);
        builder.build().map(|threads| Self(Some(threads))).map_err(local_failed)
    }

    /// Runs `work`. Dropping the future does not stop it.
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
        let background = Background::new(Yielding::Most).unwrap();
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let work = (0..10).map(|_| background.run(|| thread::current().id()));
            seen.extend(futures::future::try_join_all(work).await.unwrap());
        }
        assert!((1..=THREADS_MAX).contains(&seen.len()), "{}", seen.len());
    }

    #[tokio::test]
    async fn a_panic_is_a_refusal() {
        let background = Background::new(Yielding::Most).unwrap();
        assert!(background.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(background.run(|| 7).await.unwrap(), 7);
    }
}
