//! Heavy background work on a thread that the system serves last.

use super::local_failed;
use crate::message::Refusal;
use tokio::sync::oneshot;

/// As far down as an ordinary process may go.
const NICENESS: i32 = 19;

/// Runs `work` on a thread of its own with the lowest priority. Dropping the future does not stop it.
///
/// # Errors
/// The thread cannot be started, or it panicked.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let (reply, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("refill".to_owned()).spawn(move || {
        // On Linux a priority belongs to the thread. Where it is refused the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let _ = reply.send(work());
    });
    thread.map_err(local_failed)?;
    answer.await.map_err(|_| local_failed("background work broke off"))
}
