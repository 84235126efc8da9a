//! What owners sign about their own accounts: another budget, or a fresh start with other data.
//!
//! A statement is a record of the same chain, added and never edited. Statements of one owner about one task
//! are counted from 1 without a gap, so that an old one cannot be played again and both compute parties come
//! to the same state whatever order of deliveries they see.

use super::request::named;
use super::{LedgerError, Opening};
use crate::net::{Identity, PeerId};
use crate::vault::hex;
use consilium_protocol::privacy::Ratio;
use serde::{Deserialize, Serialize};

const DOMAIN: &str = "consilium privacy statement 1";
/// Most statements of one owner about one task.
pub(super) const STATEMENTS_MAX: u64 = 1000;

/// What an owner declares about its accounts in one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Name of the consortium.
    pub consortium: String,
    /// The task.
    pub task: String,
    /// Who declares it.
    pub owner: String,
    /// Counts this owner's statements about this task from 1.
    pub number: u64,
    /// When it was signed, in seconds since 1970 by the owner's clock; decides nothing.
    pub at: u64,
    /// What changes.
    pub change: Change,
}

/// What an owner may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// From now on, what the owner accepts in all for each of its data epochs; more or less than before.
    Budget {
        /// The new budget.
        epsilon: Ratio,
    },
    /// Models that are published from now on are trained only on records that no earlier model of this
    /// owner in this task used. They are charged to an account of their own.
    Disjoint {
        /// Number of the data epoch that begins: one more than the last.
        data_epoch: u32,
    },
}

/// A statement with its owner's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedStatement {
    /// What is declared.
    pub statement: Statement,
    /// The owner's identity key.
    pub signer: PeerId,
    /// Its signature.
    #[serde(with = "hex")]
    pub signature: [u8; 64],
}

/// Where an owner's statements about a task have led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Statements so far.
    pub(super) number: u64,
    /// The data epoch that newly published models belong to.
    pub(super) data_epoch: u32,
    /// The signed budget, if there is one.
    pub(super) limit: Option<u64>,
}

impl Statement {
    /// Signs with the owner's identity key.
    ///
    /// # Errors
    /// [`LedgerError::Signature`] if the key gives no signature of the expected form.
    pub fn sign(self, identity: &Identity) -> Result<SignedStatement, LedgerError> {
        let signature = identity.sign(DOMAIN, &self.bytes());
        let signature = signature.try_into().map_err(|_| LedgerError::Signature(self.owner.clone()))?;
        Ok(SignedStatement { signer: identity.peer_id(), signature, statement: self })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(self, &mut bytes).expect("a statement has only texts and whole numbers");
        bytes
    }
}

impl SignedStatement {
    /// Checks form and signature. Whether the key is the owner's, the caller knows.
    ///
    /// # Errors
    /// [`LedgerError::Signature`], [`LedgerError::Name`].
    pub fn check(&self) -> Result<(), LedgerError> {
        let Statement { task, owner, consortium, .. } = &self.statement;
        named("task", task)?;
        named("owner", owner)?;
        if consortium.len() > super::request::LABEL_BYTES_MAX {
            return Err(LedgerError::Name { what: "consortium", length: consortium.len() });
        }
        if self.signer.verify(DOMAIN, &self.statement.bytes(), &self.signature) {
            Ok(())
        } else {
            Err(LedgerError::Signature(owner.clone()))
        }
    }
}

impl Standing {
    /// The standing after the next statement.
    ///
    /// # Errors
    /// [`LedgerError::StatementOrder`], [`LedgerError::NothingPromised`], [`LedgerError::Promise`].
    pub(super) fn after(self, statement: &Statement, opening: &Opening) -> Result<Self, LedgerError> {
        let Statement { task, owner, number, change, .. } = statement;
        let expected = self.number + 1;
        let order = |expected| LedgerError::StatementOrder { owner: owner.clone(), expected, found: *number };
        if *number != expected || expected > STATEMENTS_MAX {
            return Err(order(expected));
        }
        let promise = opening.promise.as_ref();
        let promise = promise.ok_or_else(|| LedgerError::NothingPromised { task: task.clone() })?;
        let next = Self { number: expected, ..self };
        match change {
            Change::Budget { epsilon } => Ok(Self { limit: Some(promise.limit(*epsilon)?), ..next }),
            Change::Disjoint { data_epoch } if self.data_epoch.checked_add(1) == Some(*data_epoch) => {
                Ok(Self { data_epoch: *data_epoch, ..next })
            }
            Change::Disjoint { data_epoch } => Err(LedgerError::DataEpoch {
                owner: owner.clone(),
                found: *data_epoch,
                known: self.data_epoch,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{opening, statement};

    fn budget(epsilon: &str) -> Change {
        Change::Budget { epsilon: epsilon.parse().unwrap() }
    }

    #[test]
    fn a_signature_holds_for_its_own_statement_only() {
        let identity = Identity::generate();
        let signed = statement(1, budget("9")).sign(&identity).unwrap();
        signed.check().unwrap();
        let changes: [fn(&mut SignedStatement); 8] = [
            |s| s.statement.number = 2,
            |s| s.statement.at += 1,
            |s| s.statement.owner.push('x'),
            |s| s.statement.task.push('x'),
            |s| s.statement.consortium.push('x'),
            |s| s.statement.change = budget("9.5"),
            |s| s.signature[7] ^= 1,
            |s| s.signer = Identity::generate().peer_id(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = signed.clone();
            change(&mut other);
            assert!(matches!(other.check(), Err(LedgerError::Signature(_))), "change {at}");
        }
        let mut long = signed;
        long.statement.owner = "x".repeat(200);
        assert!(matches!(long.check(), Err(LedgerError::Name { what: "owner", .. })));
    }

    #[test]
    fn statements_follow_each_other_without_a_gap() {
        let opening = opening();
        let start = Standing::default();
        let after = |standing: Standing, number, change| standing.after(&statement(number, change), &opening);
        let first = after(start, 1, budget("2")).unwrap();
        assert_eq!(first, Standing { number: 1, data_epoch: 0, limit: Some(2 << 40) });
        let second = after(first, 2, Change::Disjoint { data_epoch: 1 }).unwrap();
        assert_eq!(second, Standing { number: 2, data_epoch: 1, limit: Some(2 << 40) });
        for number in [0, 1, 2, 4, u64::MAX] {
            let error = after(second, number, budget("1")).unwrap_err();
            assert!(matches!(error, LedgerError::StatementOrder { expected: 3, .. }), "{number}: {error}");
        }
        for data_epoch in [0, 1, 3, u32::MAX] {
            let error = after(second, 3, Change::Disjoint { data_epoch }).unwrap_err();
            assert!(matches!(error, LedgerError::DataEpoch { known: 1, .. }), "{data_epoch}: {error}");
        }
        let full = Standing { number: STATEMENTS_MAX, ..second };
        assert!(after(full, STATEMENTS_MAX + 1, budget("1")).is_err());
        let exact = Opening::new("chest".into(), None);
        let error = start.after(&statement(1, budget("2")), &exact).unwrap_err();
        assert!(matches!(error, LedgerError::NothingPromised { .. }));
    }
}
