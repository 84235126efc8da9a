//! The last questions of a node that is asked to stop: those that others put to it, and those that it puts to others.

use crate::message::Refusal;
use tokio::sync::watch;

/// Questions that clients have put and that are not answered yet, and whether further ones are taken.
#[derive(Debug)]
pub(crate) struct Reception(watch::Sender<Open>);

#[derive(Clone, Copy, Debug)]
struct Open {
    inside: usize,
    closed: bool,
}

/// A question that is being answered, until this is dropped.
#[derive(Debug)]
#[must_use = "the question counts as over when this is dropped"]
pub(crate) struct Visit<'r>(&'r Reception);

impl Default for Reception {
    fn default() -> Self {
        Self(watch::Sender::new(Open { inside: 0, closed: false }))
    }
}

impl Reception {
    /// Lets a question in, unless the node is stopping.
    pub(crate) fn enter(&self) -> Result<Visit<'_>, Refusal> {
        let entered = self.0.send_if_modified(|open| {
            open.inside += usize::from(!open.closed);
            !open.closed
        });
        // Not `then_some`: a visit that did not happen must not be counted out.
        entered.then(|| Visit(self)).ok_or_else(Refusal::stopping)
    }

    /// Lets no further question in, and returns when those that are here are over. May be dropped; the doors stay
    /// closed.
    pub(crate) async fn close(&self) {
        self.shut();
        self.emptied().await;
    }

    fn shut(&self) {
        self.0.send_modify(|open| open.closed = true);
    }

    async fn emptied(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|open| open.inside == 0).await;
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| open.inside = open.inside.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Obstacle;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_is_inside_is_waited_for_and_nobody_else_comes_in() {
        let reception = Reception::default();
        reception.emptied().await;
        let (one, two) = (reception.enter().unwrap(), reception.enter().unwrap());
        reception.shut();
        assert_eq!(reception.enter().unwrap_err().obstacle, Obstacle::Busy);
        let mut emptied = Box::pin(reception.emptied());
        drop(two);
        assert!(emptied.as_mut().now_or_never().is_none());
        drop(one);
        emptied.await;
        assert!(reception.enter().is_err(), "closed for good");
    }
}
