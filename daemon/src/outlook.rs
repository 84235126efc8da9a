//! Whether a question would be answered now: what members tell each other beforehand, so that readiness is
//! true only where a question succeeds.

use crate::message::{Obstacle, Refusal};
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

/// Whether what stood in the way is a matter of one pair, so that another pair of the task may answer.
///
/// A spent budget is none: what other pairs may still spend is kept for when this one cannot answer. Nor is what
/// owners decide, such as too few models, or what is wrong with a question.
pub fn another_may(obstacle: Obstacle) -> bool {
    match obstacle {
        Obstacle::Peer
        | Obstacle::Dealer
        | Obstacle::Deadline
        | Obstacle::Epoch
        | Obstacle::Correlations
        | Obstacle::Noise
        | Obstacle::Ledger
        | Obstacle::Busy
        | Obstacle::Local => true,
        Obstacle::NotAllowed
        | Obstacle::Roster
        | Obstacle::Task
        | Obstacle::Request
        | Obstacle::Model
        | Obstacle::Budget
        | Obstacle::Release
        | Obstacle::Inputs
        | Obstacle::Laboratory
        | Obstacle::Models => false,
    }
}

/// The outlook of a task that several pairs serve, from theirs in the order in which they are asked.
pub fn of_pairs(pairs: impl IntoIterator<Item = Outlook>) -> Option<Outlook> {
    let mut first = None;
    for outlook in pairs {
        match &outlook {
            Err(refusal) if another_may(refusal.obstacle) => {
                first.get_or_insert(outlook);
            }
            // Where another pair said before that it cannot answer, a question would meet its words, not these.
            Err(_) => return first.or(Some(outlook)),
            Ok(_) => return Some(outlook),
        }
    }
    first
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
    use crate::net::codec::{decode, encode};

    #[test]
    fn the_tighter_party_decides() {
        let supply = |bundles, answers_left| Supply { bundles, answers_left };
        assert_eq!(supply(3, Some(4)).and(supply(5, Some(2))), supply(3, Some(2)));
        assert_eq!(supply(3, None).and(supply(5, None)), supply(3, None));
        assert_eq!(supply(9, None).and(supply(5, Some(1))), supply(5, Some(1)));
    }

    #[test]
    fn a_task_is_answered_while_one_of_its_pairs_is_there() {
        let supply = |bundles| Ok(Supply { bundles, answers_left: Some(2) });
        let refusal = |obstacle| Err(Refusal::new(obstacle, "told"));
        let away = || refusal(Obstacle::Peer);
        assert_eq!(of_pairs([supply(3), supply(9)]), Some(supply(3)), "the first one is asked");
        assert_eq!(of_pairs([away(), supply(9)]), Some(supply(9)));
        assert_eq!(of_pairs([away(), refusal(Obstacle::Correlations)]), Some(away()));
        // What is kept for when the first pair is down does not prolong its budget.
        let spent = || refusal(Obstacle::Budget);
        assert_eq!(of_pairs([spent(), supply(9)]), Some(spent()));
        assert_eq!(of_pairs([away(), spent()]), Some(away()));
        assert_eq!(of_pairs([]), None);
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
