//! Whether a question would be answered now: what members tell each other beforehand, so that readiness is
//! true only where a question succeeds.

use crate::message::Refusal;
use serde::{Deserialize, Serialize};

/// From a client to a compute party on a status channel. Answered by [`OutlookReply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlookRequest {
    /// Tasks, each with its public terms as the client knows them.
    pub tasks: Vec<(String, [u8; 32])>,
}

/// From a compute party to a client: one outlook for each task that was named, in that order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlookReply {
    /// The outlooks.
    pub outlooks: Vec<Outlook>,
}

/// What would become of a question now.
pub type Outlook = Result<Supply, Refusal>;

/// What there is for questions of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supply {
    /// Bundles of correlated randomness at hand.
    pub bundles: u64,
    /// Answers that the tightest budget still pays for; `None` for an exact release.
    pub answers_left: Option<u64>,
}

impl Supply {
    /// The tighter of what both compute parties have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let left = [self.answers_left, other.answers_left];
        Self { bundles: self.bundles.min(other.bundles), answers_left: left.into_iter().flatten().min() }
    }
}

/// The outlook of one task as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The task; empty where what is missing concerns no single one.
    pub task: String,
    /// What would become of a question.
    pub outlook: Outlook,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Obstacle;
    use crate::net::codec::{decode, encode};

    #[test]
    fn the_tighter_party_decides() {
        let supply = |bundles, answers_left| Supply { bundles, answers_left };
        assert_eq!(supply(3, Some(4)).and(supply(5, Some(2))), supply(3, Some(2)));
        assert_eq!(supply(3, None).and(supply(5, None)), supply(3, None));
        assert_eq!(supply(9, None).and(supply(5, Some(1))), supply(5, Some(1)));
    }

    #[test]
    fn messages_read_back() {
        let refusal = Refusal::new(Obstacle::Noise, "the module is away");
        let reply =
            OutlookReply { outlooks: vec![Err(refusal), Ok(Supply { bundles: 1, answers_left: Some(0) })] };
        let again: OutlookReply = decode(&encode(&reply).unwrap()).unwrap();
        assert_eq!(again.outlooks, reply.outlooks);
        let request = OutlookRequest { tasks: vec![("exact".into(), [7; 32])] };
        let again: OutlookRequest = decode(&encode(&request).unwrap()).unwrap();
        assert_eq!(again.tasks, request.tasks);
    }
}
