//! Replays the chain and compares what it leads to with what is stored.
//!
//! The replay knows the rules of a ledger but nothing of its tables, so that a mistake in either shows.

use super::books::{CLIENT, OWNER, PHASES, Phase};
use super::record::{BEFORE_FIRST, Entry, Record, link};
use super::spend::owner_limit;
use super::statement::Standing;
use super::{Head, Opening, ReleaseId, Reserve, SignedStatement};
use std::collections::{BTreeMap, BTreeSet};

/// Task, kind of account, name, data epoch.
pub(super) type Account = (String, u8, String, u32);
/// Task and owner.
type Owner = (String, String);

/// A reservation as far as later records need it.
struct Paid {
    phase: Phase,
    sequence: u64,
    task: String,
    accounts: Vec<Account>,
    cost: u64,
}

/// Everything that follows from a chain.
#[derive(Default)]
pub(super) struct Replay {
    head: Option<Head>,
    releases: BTreeMap<ReleaseId, Paid>,
    pub(super) accounts: BTreeMap<Account, (u64, u64)>,
    /// Number of the opening record, and what it says.
    pub(super) openings: BTreeMap<String, (u64, Opening)>,
    pub(super) owners: BTreeMap<Owner, Standing>,
    /// Record of each statement, by its owner and number.
    pub(super) statements: BTreeMap<(Owner, u64), u64>,
    pub(super) marks: BTreeMap<[u8; 16], u64>,
    pub(super) tickets: BTreeMap<([u8; 16], u64), ReleaseId>,
    /// Digests of the sealed answers.
    pub(super) answers: BTreeMap<ReleaseId, [u8; 32]>,
}

impl Replay {
    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// Adds the next record, or says what is wrong with it.
    pub(super) fn add(&mut self, bytes: &[u8], record: Record, hash: [u8; 32]) -> Result<(), String> {
        let before = self.head.map_or(BEFORE_FIRST, |head| head.hash);
        let expected = self.head.map_or(Some(0), |head| head.sequence.checked_add(1));
        if Some(record.sequence) != expected {
            return Err("it does not follow the record before it".to_owned());
        }
        if link(&before, bytes) != hash {
            return Err("its hash does not fit".to_owned());
        }
        let first = self.head.is_none();
        if first != matches!(record.entry, Entry::Created { .. }) {
            return Err("a ledger is created by its first record and by no other".to_owned());
        }
        match record.entry {
            Entry::Created { .. } => {}
            Entry::Open(opening) => self.open(opening, record.sequence)?,
            Entry::State(signed) => self.state(&signed, record.sequence)?,
            Entry::Reserve(request) => self.reserve(&request, record.sequence)?,
            Entry::Commit { release, sealed_digest } => {
                self.leave(release, Phase::Committed)?;
                self.answers.insert(release, sealed_digest);
            }
            Entry::Abort { release, refunded: false } => self.leave(release, Phase::Kept)?,
            Entry::Abort { release, refunded: true } => {
                self.leave(release, Phase::Refunded)?;
                self.refund(release)?;
            }
            Entry::Dead { release } => self.leave(release, Phase::Dead)?,
            Entry::Burn { epoch, below } => {
                let mark = self.marks.entry(epoch).or_default();
                if below <= *mark {
                    return Err("it burns serials that were burnt before".to_owned());
                }
                *mark = below;
            }
        }
        self.head = Some(Head { sequence: record.sequence, hash });
        Ok(())
    }

    /// The budget of an owner that signed none or one, as far as the book says.
    pub(super) fn limit_of(&self, task: &str, owner: &str, named: u64) -> u64 {
        let standing = self.owners.get(&(task.to_owned(), owner.to_owned()));
        let opened = self.openings.get(task).map_or(0, |(_, opening)| opening.owner_limit());
        owner_limit(standing.and_then(|standing| standing.limit), opened, named)
    }

    pub(super) fn releases(&self) -> BTreeMap<ReleaseId, (u8, u64)> {
        let row = |paid: &Paid| (paid.phase.number(), paid.sequence);
        self.releases.iter().map(|(release, paid)| (*release, row(paid))).collect()
    }

    pub(super) fn phase(&self, release: &ReleaseId) -> Option<Phase> {
        self.releases.get(release).map(|paid| paid.phase)
    }

    pub(super) fn unfinished(&self) -> BTreeSet<ReleaseId> {
        let open = self.releases.iter().filter(|(_, paid)| paid.phase == Phase::Reserved);
        open.map(|(release, _)| *release).collect()
    }

    pub(super) fn tasks(&self) -> BTreeMap<String, [u64; PHASES]> {
        let mut tasks: BTreeMap<String, [u64; PHASES]> = BTreeMap::new();
        for paid in self.releases.values() {
            tasks.entry(paid.task.clone()).or_default()[paid.phase.slot()] += 1;
        }
        tasks
    }

    fn open(&mut self, opening: Opening, sequence: u64) -> Result<(), String> {
        opening.check().map_err(|refusal| refusal.to_string())?;
        match self.openings.insert(opening.task.clone(), (sequence, opening)) {
            None => Ok(()),
            Some(_) => Err("it opens a book again".to_owned()),
        }
    }

    fn state(&mut self, signed: &SignedStatement, sequence: u64) -> Result<(), String> {
        signed.check().map_err(|refusal| refusal.to_string())?;
        let statement = &signed.statement;
        let (_, opening) = self.openings.get(&statement.task).ok_or("it is about a task without a book")?;
        let owner = (statement.task.clone(), statement.owner.clone());
        let standing = self.owners.entry(owner.clone()).or_default();
        *standing = standing.after(statement, opening).map_err(|refusal| refusal.to_string())?;
        self.statements.insert((owner, statement.number), sequence);
        Ok(())
    }

    fn reserve(&mut self, request: &Reserve, sequence: u64) -> Result<(), String> {
        request.check().map_err(|refusal| refusal.to_string())?;
        let mark_after = request.mark_after().map_err(|refusal| refusal.to_string())?;
        let mark = self.marks.entry(request.correlations.epoch).or_default();
        if request.correlations.first < *mark {
            return Err("it uses a serial again".to_owned());
        }
        *mark = mark_after;
        let ticket = request.ticket().map_err(|refusal| refusal.to_string())?;
        if ticket.is_some_and(|ticket| self.tickets.insert(ticket, request.release).is_some()) {
            return Err("it uses a noise ticket again".to_owned());
        }
        let task = request.task.as_str();
        let (_, opening) = self.openings.get(task).ok_or("it is about a task without a book")?;
        opening.counts(&request.mechanism).map_err(|refusal| refusal.to_string())?;
        let mut charged = vec![(CLIENT, &request.client, 0, request.client_limit)];
        for owner in &request.owners {
            let standing = self.owners.get(&(task.to_owned(), owner.name.clone()));
            if owner.data_epoch > standing.map_or(0, |standing| standing.data_epoch) {
                return Err("it charges a data epoch that its owner did not begin".to_owned());
            }
            let limit = self.limit_of(task, &owner.name, request.owner_limit);
            charged.push((OWNER, &owner.name, owner.data_epoch, limit));
        }
        let mut accounts = Vec::new();
        for (kind, name, data_epoch, limit) in charged {
            let account = (task.to_owned(), kind, name.clone(), data_epoch);
            let balance = self.accounts.entry(account.clone()).or_default();
            let spent = balance.0.checked_add(request.cost).filter(|spent| *spent <= limit);
            *balance = (spent.ok_or("it overspends a budget")?, limit);
            accounts.push(account);
        }
        let (task, cost) = (request.task.clone(), request.cost);
        let paid = Paid { phase: Phase::Reserved, sequence, task, accounts, cost };
        match self.releases.insert(request.release, paid) {
            None => Ok(()),
            Some(_) => Err("its release was reserved before".to_owned()),
        }
    }

    fn leave(&mut self, release: ReleaseId, phase: Phase) -> Result<(), String> {
        match self.releases.get_mut(&release) {
            Some(paid) if paid.phase == Phase::Reserved => paid.phase = phase,
            Some(paid) => return Err(format!("its release was {:?} already", paid.phase)),
            None => return Err("its release was never reserved".to_owned()),
        }
        Ok(())
    }

    fn refund(&mut self, release: ReleaseId) -> Result<(), String> {
        let paid = self.releases.get(&release).ok_or("its release was never reserved")?;
        for account in &paid.accounts {
            let balance = self.accounts.get_mut(account).ok_or("it refunds an unknown account")?;
            balance.0 = balance.0.checked_sub(paid.cost).ok_or("it refunds more than was spent")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Change;
    use crate::ledger::record::VERSION;
    use crate::ledger::trial::{opening, request, statement};
    use crate::net::Identity;

    /// Builds a chain with valid hashes from any entries and replays it.
    fn replay(entries: &[Entry]) -> Result<Replay, String> {
        replay_after(&[Entry::Created { ledger: [1; 16] }, Entry::Open(opening())], entries)
    }

    fn replay_after(begin: &[Entry], entries: &[Entry]) -> Result<Replay, String> {
        let mut replay = Replay::default();
        for (sequence, entry) in (0..).zip(begin.iter().chain(entries)) {
            let record = Record { version: VERSION, sequence, entry: entry.clone() };
            let bytes = record.encode();
            let before = replay.head().map_or(BEFORE_FIRST, |head| head.hash);
            replay.add(&bytes, record, link(&before, &bytes))?;
        }
        Ok(replay)
    }

    #[test]
    fn a_chain_that_breaks_the_rules_is_refused_although_its_hashes_fit() {
        let paid = |n| Entry::Reserve(request(n));
        let refused = |entries: &[Entry]| replay(entries).err().unwrap();
        let release = request(1).release;
        let commit = Entry::Commit { release, sealed_digest: [0; 32] };
        let refund = Entry::Abort { release, refunded: true };

        assert!(refused(&[paid(2), paid(1)]).contains("serial"));
        assert!(refused(std::slice::from_ref(&commit)).contains("never reserved"));
        assert!(refused(&[paid(1), commit.clone(), refund.clone()]).contains("Committed already"));
        assert!(refused(&[paid(1), refund.clone(), refund]).contains("Refunded already"));
        assert!(refused(&[paid(1), Entry::Dead { release }, commit]).contains("Dead already"));
        assert!(refused(&[Entry::Created { ledger: [1; 16] }]).contains("first record"));
        let mut again = request(2);
        again.release = release;
        assert!(refused(&[paid(1), Entry::Reserve(again)]).contains("reserved before"));
        let mut dear = request(2);
        dear.cost = dear.owner_limit;
        assert!(refused(&[paid(1), Entry::Reserve(dear)]).contains("overspends"));
        let mut ticket = request(2);
        ticket.noise_ticket = request(1).noise_ticket;
        assert!(refused(&[paid(1), Entry::Reserve(ticket)]).contains("ticket"));
    }

    #[test]
    fn openings_and_statements_have_rules_too() {
        let paid = |n| Entry::Reserve(request(n));
        let refused = |entries: &[Entry]| replay(entries).err().unwrap();
        let identity = Identity::generate();
        let state = |number, change| Entry::State(statement(number, change).sign(&identity).unwrap());
        let budget = |epsilon: &str| Change::Budget { epsilon: epsilon.parse().unwrap() };
        let created = Entry::Created { ledger: [1; 16] };

        assert!(refused(&[Entry::Open(opening())]).contains("again"));
        let unopened = replay_after(std::slice::from_ref(&created), &[paid(1)]);
        assert!(unopened.err().unwrap().contains("without a book"));
        let unopened = replay_after(&[created], &[state(1, budget("1"))]);
        assert!(unopened.err().unwrap().contains("without a book"));
        assert!(refused(&[state(2, budget("1"))]).contains("number 1, not 2"));
        assert!(refused(&[state(1, budget("1")), state(1, budget("1"))]).contains("number 2, not 1"));
        let mut forged = statement(1, budget("1")).sign(&identity).unwrap();
        forged.statement.change = budget("2");
        assert!(refused(&[Entry::State(forged)]).contains("valid signature"));
        let mut later = request(1);
        later.owners[0].data_epoch = 1;
        let begun = state(1, Change::Disjoint { data_epoch: 1 });
        assert!(refused(&[Entry::Reserve(later.clone())]).contains("data epoch"));
        replay(&[begun, Entry::Reserve(later)]).unwrap();
        let mut dear = request(1);
        dear.cost = 200;
        assert!(refused(&[Entry::Reserve(dear.clone())]).contains("overspends"));
        dear.owners.truncate(1);
        let chain = replay(&[state(1, budget("1")), Entry::Reserve(dear)]).unwrap();
        assert_eq!(chain.accounts[&("chest".into(), OWNER, "north".into(), 0)], (200, 1 << 40));
    }

    #[test]
    fn a_changed_record_breaks_the_chain() {
        let mut chain = replay(&[Entry::Reserve(request(1))]).unwrap();
        let entry = Entry::Dead { release: request(1).release };
        let record = Record { version: VERSION, sequence: 3, entry };
        let bytes = record.encode();
        let hash = link(&[3; 32], &bytes);
        assert!(chain.add(&bytes, record, hash).unwrap_err().contains("hash"));
    }
}
