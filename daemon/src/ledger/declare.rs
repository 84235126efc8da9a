//! Records that are not about releases: the opening of a task's book, and what owners sign.

use super::books::{Books, Trouble, inconsistent};
use super::record::{Entry, Head};
use super::{LedgerError, Opening, SignedStatement};
use redb::ReadableTable;

impl Books<'_> {
    /// Opens the book of a task, or goes on with the one that is open under the same promise.
    pub(super) fn open_task(&mut self, asked: &Opening) -> Result<(), Trouble> {
        asked.check()?;
        match self.opening(&asked.task) {
            Ok(opened) => Ok(opened.goes_on_as(asked)?),
            Err(Trouble::Refused(LedgerError::NotOpened { .. })) => {
                let position = self.append(Entry::Open(asked.clone()))?;
                self.openings.insert(asked.task.as_str(), position.sequence)?;
                Ok(())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Records what an owner signed. The same statement again changes nothing.
    pub(super) fn state(&mut self, signed: &SignedStatement) -> Result<Head, Trouble> {
        signed.check()?;
        let statement = &signed.statement;
        let (task, owner, number) = (statement.task.as_str(), statement.owner.as_str(), statement.number);
        let recorded = self.statements.get((task, owner, number))?.map(|row| row.value());
        if let Some(sequence) = recorded {
            return match self.record(sequence)?.entry {
                Entry::State(first) if first.statement == *statement => self.position(sequence),
                Entry::State(_) => {
                    Err(LedgerError::StatementDiffers { owner: owner.to_owned(), number }.into())
                }
                _ => Err(inconsistent(self.path, format!("statement {number} of {owner}")).into()),
            };
        }
        let opening = self.opening(task)?;
        let after = self.standing(task, owner)?.after(statement, &opening)?;

        let position = self.append(Entry::State(signed.clone()))?;
        self.statements.insert((task, owner, number), position.sequence)?;
        self.owners.insert((task, owner), (after.number, after.data_epoch, after.limit))?;
        Ok(position)
    }

    fn position(&self, sequence: u64) -> Result<Head, Trouble> {
        let row = self.chain.get(sequence)?;
        let row = row.ok_or_else(|| inconsistent(self.path, format!("record {sequence}")))?;
        Ok(Head { sequence, hash: *row.value().0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::trial::{Bench, charged, granted, opening, request, statement};
    use crate::ledger::{Change, Promise, Reserve};
    use crate::net::Identity;
    use consilium_protocol::privacy::Unit;

    /// Three quarters of the smallest budget that can be signed.
    const DEAR: u64 = 3 << 28;

    fn budget(epsilon: &str) -> Change {
        Change::Budget { epsilon: epsilon.parse().unwrap() }
    }

    fn north(number: u64, change: Change) -> SignedStatement {
        statement(number, change).sign(&Identity::generate()).unwrap()
    }

    fn dear(n: u8, data_epoch: u32) -> Reserve {
        let mut request = request(n);
        request.owners = vec![charged("north")];
        request.owners[0].data_epoch = data_epoch;
        (request.cost, request.owner_limit, request.client_limit) = (DEAR, 1 << 30, u64::MAX);
        request
    }

    #[test]
    fn nothing_is_charged_to_a_task_without_a_book() {
        let bench = Bench::new();
        let mut other = request(1);
        other.task = "brain".into();
        let error = bench.ledger().reserve(&other).unwrap_err();
        assert!(matches!(error, LedgerError::NotOpened { .. }), "{error}");
        let mut late = statement(1, budget("1"));
        late.task = "brain".into();
        let late = late.sign(&Identity::generate()).unwrap();
        assert!(matches!(bench.ledger().state(&late), Err(LedgerError::NotOpened { .. })));
        let opening = Opening { task: "brain".into(), ..opening() };
        bench.ledger().open_task(&opening).unwrap();
        granted(bench.ledger().reserve(&other));
    }

    #[test]
    fn a_book_is_opened_once_and_keeps_its_promise() {
        let mut bench = Bench::new();
        let head = bench.ledger().head().unwrap();
        bench.ledger().open_task(&opening()).unwrap();
        assert_eq!(bench.ledger().head().unwrap(), head, "the same again leaves no record");
        let exact = Opening::new("chest".into(), None);
        assert!(matches!(bench.ledger().open_task(&exact), Err(LedgerError::OtherPromise { .. })));
        // A larger budget in the roster is no other promise, and raises nothing.
        let promise = Promise::new("owner".into(), Unit::Pure, "1048576".parse().unwrap(), None).unwrap();
        bench.ledger().open_task(&Opening::new("chest".into(), Some(promise))).unwrap();
        bench.reopen();
        assert_eq!(bench.ledger().snapshot().unwrap().opening("chest").unwrap(), Some(opening()));
        assert_eq!(bench.ledger().head().unwrap(), head);
    }

    #[test]
    fn a_signed_budget_counts_from_its_record_on_up_and_down() {
        let mut bench = Bench::new();
        granted(bench.ledger().reserve(&dear(1, 0)));
        let spent = |result| matches!(result, Err(LedgerError::OwnerBudget { spent: DEAR, .. }));
        assert!(spent(bench.ledger().reserve(&dear(2, 0))));
        let more = north(1, budget("2/1024"));
        let position = bench.ledger().state(&more).unwrap();
        assert_eq!(bench.ledger().head().unwrap(), position);
        granted(bench.ledger().reserve(&dear(2, 0)));
        let report = bench.ledger().report("chest").unwrap();
        assert_eq!((report.owners[0].spent, report.owners[0].limit), (2 * DEAR, 1 << 31));
        // Less than was spent: exhausted, and nothing is given back.
        bench.ledger().state(&north(2, budget("1/1024"))).unwrap();
        bench.reopen();
        let error = bench.ledger().reserve(&dear(3, 0)).unwrap_err();
        assert!(matches!(error, LedgerError::OwnerBudget { limit: 0x4000_0000, .. }), "{error}");
        bench.ledger().state(&north(3, budget("4/1024"))).unwrap();
        granted(bench.ledger().reserve(&dear(3, 0)));
    }

    #[test]
    fn a_statement_is_recorded_once_whoever_delivers_it_again() {
        let mut bench = Bench::new();
        let first = north(1, budget("2"));
        let position = bench.ledger().state(&first).unwrap();
        bench.ledger().state(&north(2, budget("1/2"))).unwrap();
        let head = bench.ledger().head().unwrap();
        for _ in 0..2 {
            assert_eq!(bench.ledger().state(&first).unwrap(), position, "an old one again raises nothing");
            assert_eq!(bench.ledger().head().unwrap(), head);
            bench.reopen();
        }
        let other = bench.ledger().state(&north(1, budget("3"))).unwrap_err();
        assert!(matches!(other, LedgerError::StatementDiffers { number: 1, .. }), "{other}");
        let gap = bench.ledger().state(&north(4, budget("3"))).unwrap_err();
        assert!(matches!(gap, LedgerError::StatementOrder { expected: 3, found: 4, .. }), "{gap}");
        let mut forged = north(3, budget("3"));
        forged.statement.change = budget("300");
        assert!(matches!(bench.ledger().state(&forged), Err(LedgerError::Signature(_))));
        assert_eq!(bench.ledger().head().unwrap(), head);
    }

    #[test]
    fn a_data_epoch_has_an_account_of_its_own_and_an_old_model_stays_on_its_own() {
        let mut bench = Bench::new();
        granted(bench.ledger().reserve(&dear(1, 0)));
        let early = bench.ledger().reserve(&dear(2, 1)).unwrap_err();
        assert!(matches!(early, LedgerError::DataEpoch { found: 1, known: 0, .. }), "{early}");
        bench.ledger().state(&north(1, Change::Disjoint { data_epoch: 1 })).unwrap();
        let again = bench.ledger().reserve(&dear(2, 0)).unwrap_err();
        assert!(
            matches!(again, LedgerError::OwnerBudget { .. }),
            "the old data stay where they are: {again}"
        );
        granted(bench.ledger().reserve(&dear(2, 1)));
        bench.reopen();
        let report = bench.ledger().report("chest").unwrap();
        let told: Vec<_> = report.owners.iter().map(|account| (account.data_epoch, account.spent)).collect();
        assert_eq!(told, [(0, DEAR), (1, DEAR)]);
        assert_eq!(report.clients[0].spent, 2 * DEAR, "a client's account goes on");
    }

    #[test]
    fn one_owner_does_not_speak_for_another() {
        let bench = Bench::new();
        let mut south = dear(1, 0);
        south.owners = vec![charged("south")];
        granted(bench.ledger().reserve(&south));
        bench.ledger().state(&north(1, budget("9"))).unwrap();
        let mut again = dear(2, 0);
        again.owners = vec![charged("north"), charged("south")];
        let error = bench.ledger().reserve(&again).unwrap_err();
        assert!(matches!(&error, LedgerError::OwnerBudget { owner, .. } if owner == "south"), "{error}");
    }
}
