//! An owner's own accounts: reading them at the compute parties of all pairs, and signing a change.
//!
//! The owner keeps no book of what it signed; the ledgers do, and every statement carries its signature. So it
//! reads all, delivers what any lacks, and signs the next one only when all have all before it. A statement is
//! about the whole of a budget; each pair takes its slice of it.

use super::{Owner, TaskPair, unexpected};
use crate::ledger::{Change, OwnerBooks, SignedStatement, Statement, seconds_now};
use crate::message::{Obstacle, PublishReply, PublishRequest, Refusal};
use crate::net::{Channel, Identity, PeerId};
use consilium_protocol::privacy::Ratio;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

/// What an owner wants to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wanted {
    /// Another budget.
    Budget {
        /// What it accepts in all for each of its data epochs.
        epsilon: Ratio,
    },
    /// A new data epoch: from now on its models are trained on records that no earlier one used.
    Disjoint,
}

impl Owner {
    /// This owner's accounts in a task as each compute party keeps them: of each pair, Zero first.
    pub async fn books(&self, task: &str, pairs: &[TaskPair]) -> Vec<Result<OwnerBooks, Refusal>> {
        let ask = |peer: PeerId| async move {
            let mut channel = self.channel(peer).await?;
            self.books_at(&mut channel, task).await
        };
        join_all(pairs.iter().flat_map(|pair| pair.peers).map(ask)).await
    }

    /// Signs a change and has the compute parties of all pairs record it. Asking again after a failure delivers what
    /// is missing and signs nothing new.
    ///
    /// # Errors
    /// A compute party cannot be reached, or refused, or shows what this owner never signed. What one of
    /// them has recorded stays; the change counts in full when all have.
    pub async fn declare(
        &self,
        (consortium, task): (&str, &str),
        pairs: &[TaskPair],
        identity: &Identity,
        wanted: Wanted,
    ) -> Result<SignedStatement, Refusal> {
        let _changing = self.changing.lock().await;
        let opening = pairs.iter().flat_map(|pair| pair.peers).map(|peer| self.channel(peer));
        let mut channels = join_all(opening).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut held = Vec::with_capacity(channels.len());
        for channel in &mut channels {
            let books = self.books_at(channel, task).await?;
            held.push(own_statements(books.statements, identity.peer_id())?);
        }
        let lengths: Vec<usize> = held.iter().map(Vec::len).collect();
        let mut all = merged(held)?;
        let behind = lengths.iter().any(|length| *length < all.len());
        if !settled(&all, behind, wanted) {
            let change = match wanted {
                Wanted::Budget { epsilon } => Change::Budget { epsilon },
                Wanted::Disjoint => Change::Disjoint { data_epoch: data_epoch(&all).saturating_add(1) },
            };
            let (consortium, task) = (consortium.to_owned(), task.to_owned());
            let (owner, number) = (self.name.clone(), all.len() as u64 + 1);
            let statement = Statement { consortium, task, owner, number, at: seconds_now(), change };
            let signed = statement.sign(identity);
            all.push(signed.map_err(|error| Refusal::new(Obstacle::Local, error))?);
        }
        for (channel, length) in channels.iter_mut().zip(lengths) {
            for signed in all.iter().skip(length) {
                match self.call(channel, &PublishRequest::State(signed.clone()), None).await? {
                    PublishReply::Recorded(_) => {}
                    _ => return Err(unexpected()),
                }
            }
        }
        all.pop().ok_or_else(|| Refusal::new(Obstacle::Local, "nothing was signed"))
    }

    /// The data epoch that the next model belongs to, as far as this owner has signed it.
    pub(super) async fn data_epoch(&self, leader: &mut Channel, task: &str) -> Result<u32, Refusal> {
        let books = self.books_at(leader, task).await?;
        Ok(data_epoch(&own_statements(books.statements, self.network.peer_id())?))
    }

    async fn books_at(&self, channel: &mut Channel, task: &str) -> Result<OwnerBooks, Refusal> {
        match self.call(channel, &PublishRequest::Books { task: task.to_owned() }, None).await? {
            PublishReply::Books(books) => Ok(*books),
            _ => Err(unexpected()),
        }
    }
}

fn data_epoch(statements: &[SignedStatement]) -> u32 {
    let begun = statements.iter().filter_map(|signed| match signed.statement.change {
        Change::Disjoint { data_epoch } => Some(data_epoch),
        Change::Budget { .. } => None,
    });
    begun.max().unwrap_or(0)
}

/// Refuses what this owner did not sign, or not in this order.
fn own_statements(found: Vec<SignedStatement>, own: PeerId) -> Result<Vec<SignedStatement>, Refusal> {
    for (number, signed) in (1..).zip(&found) {
        if signed.statement.number != number || signed.signer != own || signed.check().is_err() {
            let text = format!(
                "a compute party shows a statement number {} that this node did not sign in this order; ask \
                 the consortium to look into it",
                signed.statement.number
            );
            return Err(Refusal::new(Obstacle::Ledger, text));
        }
    }
    Ok(found)
}

/// The longer list, if the other one is its beginning.
fn merged(held: Vec<Vec<SignedStatement>>) -> Result<Vec<SignedStatement>, Refusal> {
    let mut all: Vec<SignedStatement> = Vec::new();
    for list in held {
        let same = list.iter().zip(&all).all(|(one, other)| one.statement == other.statement);
        if !same {
            let text = "the compute parties hold different statements of this owner; compare exports";
            return Err(Refusal::new(Obstacle::Ledger, text));
        }
        if list.len() > all.len() {
            all = list;
        }
    }
    Ok(all)
}

/// Whether what is wanted was signed before. A budget that is in force is not signed again; a data epoch
/// only counts where a party still lacks it, since an owner may begin as many as it has data for.
fn settled(all: &[SignedStatement], behind: bool, wanted: Wanted) -> bool {
    let mut changes = all.iter().rev().map(|signed| &signed.statement.change);
    match wanted {
        Wanted::Budget { epsilon } => {
            let budget = changes.find(|change| matches!(change, Change::Budget { .. }));
            matches!(budget, Some(Change::Budget { epsilon: signed }) if *signed == epsilon)
        }
        Wanted::Disjoint => behind && matches!(changes.next(), Some(Change::Disjoint { .. })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(identity: &Identity, number: u64, change: Change) -> SignedStatement {
        let (consortium, task, owner) = ("hospitals".into(), "chest".into(), "north".into());
        Statement { consortium, task, owner, number, at: number, change }.sign(identity).unwrap()
    }

    fn budget(epsilon: &str) -> Change {
        Change::Budget { epsilon: epsilon.parse().unwrap() }
    }

    #[test]
    fn what_a_party_invents_or_leaves_out_is_refused() {
        let identity = Identity::generate();
        let (one, two) = (signed(&identity, 1, budget("2")), signed(&identity, 2, budget("3")));
        let own = identity.peer_id();
        own_statements(vec![one.clone(), two.clone()], own).unwrap();
        assert!(own_statements(vec![two.clone()], own).is_err(), "the first is missing");
        assert!(own_statements(vec![one.clone(), one.clone()], own).is_err());
        let stranger = Identity::generate();
        assert!(own_statements(vec![signed(&stranger, 1, budget("9"))], own).is_err());
        let mut raised = one.clone();
        raised.statement.change = budget("900");
        assert!(own_statements(vec![raised], own).is_err());
        let other = signed(&identity, 1, budget("4"));
        assert!(merged(vec![vec![one.clone()], vec![other]]).is_err());
        assert_eq!(merged(vec![vec![one.clone()], vec![one.clone(), two.clone()]]).unwrap().len(), 2);
        assert_eq!(merged(vec![vec![one, two], Vec::new()]).unwrap().len(), 2);
    }

    #[test]
    fn nothing_is_signed_twice_for_one_wish() {
        let identity = Identity::generate();
        let epoch = |number, data_epoch| signed(&identity, number, Change::Disjoint { data_epoch });
        let all = [signed(&identity, 1, budget("2")), epoch(2, 1)];
        let wish = |epsilon: &str| Wanted::Budget { epsilon: epsilon.parse().unwrap() };
        for behind in [false, true] {
            assert!(settled(&all, behind, wish("2")));
            assert!(!settled(&all, behind, wish("3")));
            assert!(!settled(&[], behind, wish("2")));
            assert!(!settled(&all[..1], behind, Wanted::Disjoint));
        }
        assert!(settled(&all, true, Wanted::Disjoint), "the delivery is made good");
        assert!(!settled(&all, false, Wanted::Disjoint), "this is a second one");
        assert_eq!((data_epoch(&all), data_epoch(&all[..1])), (1, 0));
    }
}
