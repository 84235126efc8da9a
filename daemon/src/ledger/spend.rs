//! The accounts: who would be charged, whether it fits, and giving back.

use super::books::{Books, CLIENT, OWNER, Trouble, inconsistent};
use super::{Charged, LedgerError, Reserve};
use redb::ReadableTable;

/// An account after a change that is known to be allowed.
pub(super) struct Balance {
    kind: u8,
    name: String,
    data_epoch: u32,
    spent: u64,
    limit: u64,
}

/// Budget of an owner: what it signed, else what both the opening of the book and the roster in force allow.
pub(super) fn owner_limit(signed: Option<u64>, opened: u64, roster: u64) -> u64 {
    signed.unwrap_or_else(|| opened.min(roster))
}

/// Spent after the charge, unless that is more than the limit. A sum that leaves 64 bits is more.
fn charge(spent: u64, cost: u64, limit: u64) -> Option<u64> {
    spent.checked_add(cost).filter(|after| *after <= limit)
}

impl Books<'_> {
    /// What all accounts of a release would hold afterwards. The owners come first: their limit is a
    /// promise, the client's is a policy.
    pub(super) fn price(&self, request: &Reserve) -> Result<Vec<Balance>, Trouble> {
        let Reserve { task, client, cost, owner_limit, client_limit, .. } = request;
        let opening = self.opening(task)?;
        opening.counts(&request.mechanism)?;
        let mut balances = Vec::with_capacity(request.owners.len() + 1);
        for Charged { name: owner, data_epoch } in &request.owners {
            let standing = self.standing(task, owner)?;
            if *data_epoch > standing.data_epoch {
                let (owner, found, known) = (owner.clone(), *data_epoch, standing.data_epoch);
                return Err(LedgerError::DataEpoch { owner, found, known }.into());
            }
            let spent = self.spent((task, OWNER, owner, *data_epoch))?;
            let limit = self::owner_limit(standing.limit, opening.owner_limit(), *owner_limit);
            let after = charge(spent, *cost, limit).ok_or_else(|| LedgerError::OwnerBudget {
                task: task.clone(),
                owner: owner.clone(),
                spent,
                cost: *cost,
                limit,
            })?;
            let (name, data_epoch) = (owner.clone(), *data_epoch);
            balances.push(Balance { kind: OWNER, name, data_epoch, spent: after, limit });
        }
        let (spent, limit) = (self.spent((task, CLIENT, client, 0))?, *client_limit);
        let after = charge(spent, *cost, limit).ok_or_else(|| LedgerError::ClientBudget {
            task: task.clone(),
            client: client.clone(),
            spent,
            cost: *cost,
            limit,
        })?;
        let name = client.clone();
        balances.push(Balance { kind: CLIENT, name, data_epoch: 0, spent: after, limit });
        Ok(balances)
    }

    /// What all accounts of a reserved release would hold without it.
    pub(super) fn price_back(&self, request: &Reserve) -> Result<Vec<Balance>, Trouble> {
        let owners = request.owners.iter().map(|owner| (OWNER, &owner.name, owner.data_epoch));
        let mut balances = Vec::with_capacity(request.owners.len() + 1);
        for (kind, name, data_epoch) in owners.chain([(CLIENT, &request.client, 0)]) {
            let wrong = || inconsistent(self.path, format!("the account of {name} in {}", request.task));
            let row = self.accounts.get((request.task.as_str(), kind, name.as_str(), data_epoch))?;
            let row = row.ok_or_else(wrong)?;
            let (spent, limit) = row.value();
            let spent = spent.checked_sub(request.cost).ok_or_else(wrong)?;
            balances.push(Balance { kind, name: name.clone(), data_epoch, spent, limit });
        }
        Ok(balances)
    }

    pub(super) fn settle(&mut self, task: &str, balances: &[Balance]) -> Result<(), Trouble> {
        for Balance { kind, name, data_epoch, spent, limit } in balances {
            self.accounts.insert((task, *kind, name.as_str(), *data_epoch), (*spent, *limit))?;
        }
        self.touch();
        Ok(())
    }

    fn spent(&self, account: (&str, u8, &str, u32)) -> Result<u64, Trouble> {
        Ok(self.accounts.get(account)?.map_or(0, |row| row.value().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_raises_its_budget() {
        assert_eq!(owner_limit(None, 10, 20), 10, "a roster that was edited afterwards raises nothing");
        assert_eq!(owner_limit(None, 10, 5), 5);
        assert_eq!(owner_limit(Some(30), 10, 5), 30);
        assert_eq!(owner_limit(Some(0), 10, 20), 0);
    }

    #[test]
    fn the_last_unit_is_granted_and_one_more_is_not() {
        assert_eq!(charge(7, 3, 10), Some(10));
        assert_eq!(charge(7, 4, 10), None);
        assert_eq!(charge(0, 0, 0), Some(0));
        assert_eq!(charge(u64::MAX, 1, u64::MAX), None, "a sum beyond 64 bits is over any limit");
        assert_eq!(charge(u64::MAX - 1, 1, u64::MAX), Some(u64::MAX));
        assert_eq!(charge(11, 0, 10), None, "a limit lowered below what was spent stays exhausted");
    }
}
