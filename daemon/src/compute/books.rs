//! What owners and auditors ask of a seat's ledger.

use super::{Compute, local_failed, peer_failed};
use crate::ledger::{Head, LedgerError, OwnerBooks, SignedStatement, compare_heads};
use crate::message::{Obstacle, PairReply, PairRequest, Refusal};
use crate::net::PeerId;
use crate::registry::Announcement;

/// The other party's ledger as seen from here.
pub(crate) struct OtherLedger {
    /// The newest head that it has shown before now.
    pub(crate) shown: Option<Head>,
    /// Its head now, if it answered.
    pub(crate) now: Option<Head>,
    /// Why the two do not agree, or why nobody can say.
    pub(crate) fault: Option<String>,
}

impl Compute {
    /// An owner's own accounts in a task.
    pub(super) async fn own_books(&self, owner: &str, task: &str) -> Result<OwnerBooks, Refusal> {
        self.check_owner(owner, task)?;
        let view = self.ledger.snapshot().await.map_err(local_failed)?;
        view.owner_books(task, owner).map_err(local_failed)
    }

    /// Records what an owner signed with the key that the roster gives it.
    pub(super) async fn hear_statement(
        &self,
        (owner, peer): (&str, PeerId),
        signed: SignedStatement,
    ) -> Result<Head, Refusal> {
        let statement = &signed.statement;
        self.check_owner(owner, &statement.task)?;
        if statement.owner != owner || signed.signer != peer || statement.consortium != self.consortium {
            let text = format!("this is not a statement of {owner} in the consortium {}", self.consortium);
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        let (task, number) = (statement.task.clone(), statement.number);
        let position = self.ledger.state(signed).await.map_err(|error| match error {
            LedgerError::Signature(_) => Refusal::new(Obstacle::NotAllowed, error),
            LedgerError::Store(_) | LedgerError::Closed => local_failed(error),
            other => Refusal::new(Obstacle::Request, other),
        })?;
        tracing::info!(owner, task, number, record = position.sequence, "recorded what an owner signed");
        Ok(position)
    }

    /// A model is charged to the data epoch that its owner has begun, not to one of its choice.
    pub(super) async fn check_data_epoch(&self, announced: &Announcement) -> Result<(), Refusal> {
        let (task, owner) = (announced.task.clone(), announced.owner.clone());
        let known = self.ledger.data_epoch(task, owner).await.map_err(local_failed)?;
        if announced.data_epoch == known {
            return Ok(());
        }
        let (owner, found) = (announced.owner.clone(), announced.data_epoch);
        Err(Refusal::new(Obstacle::Request, LedgerError::DataEpoch { owner, found, known }))
    }

    /// Compares both ledgers' heads with what each has seen of the other. Records nothing.
    pub(crate) async fn other_ledger(&self) -> OtherLedger {
        let shown = self.ledger.peer_head(self.other_name.clone()).await;
        let (shown, mut fault) = match shown {
            Ok(shown) => (shown, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let within = self.limits.round_deadline * 2;
        let now = match self.ask_other_within(&PairRequest::Heads, within).await {
            Ok(PairReply::Heads { head, seen }) => {
                let theirs = shown.map_or(Ok(()), |shown| compare_heads(&self.other_name, shown, head));
                let ours = match seen {
                    Some(seen) => self.ledger.check_own_head(seen).await,
                    None => Ok(()),
                };
                fault = fault.or(theirs.and(ours).err().map(|error| error.to_string()));
                Some(head)
            }
            Ok(_) => {
                fault = Some(peer_failed("answered something else").explanation);
                None
            }
            Err(refusal) => {
                fault = Some(refusal.explanation);
                None
            }
        };
        OtherLedger { shown, now, fault }
    }

    fn check_owner(&self, owner: &str, task: &str) -> Result<(), Refusal> {
        if self.task(task)?.has_owner(owner) {
            return Ok(());
        }
        let text = format!("the roster does not list {owner} as an owner of task {task}");
        Err(Refusal::new(Obstacle::NotAllowed, text))
    }
}
