//! Heavy background work on a thread that the system serves last.

use super::local_failed;
use crate::message::Refusal;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::oneshot;

const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// Runs `work` on a thread of its own that runs where nothing else of this service wants to: any other thread
/// that wakes takes its processor at once, which no niceness brings about. Dropping the future does not stop
/// it. Nothing that is waited for may depend on it without a limit.
///
/// # Errors
/// The thread cannot be started, or it panicked.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("background".to_owned()).spawn(move || {
        // Where it is refused the work is done all the same.
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE);
        let _ = reply.send(work());
    });
    thread.map_err(local_failed)?;
    answer.await.map_err(|_| local_failed("background work broke off"))
}
