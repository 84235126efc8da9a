//! What a node tells of the ledger: a compute party of the whole task, an owner of its own accounts.

use crate::compute::Compute;
use crate::ledger::{
    Account, Head, Opening, OwnerBooks, Past, RecordedStatement, Report as Counts, Snapshot, seconds_now,
};
use crate::losses::rounded_up;
use crate::message::{Obstacle, Refusal};
use crate::net::{Identity, PeerId};
use crate::node::Shared;
use crate::task::TaskTerms;
use crate::vault::hex;
use consilium_attest::choice::NoiseRule;
use consilium_protocol::privacy::Mechanism;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const DOMAIN: &str = "consilium privacy report 2";

/// A report and the signature of the compute party that made it, over its JSON form without spaces and with
/// fields in the order declared. No number in it is a fraction, so that the form is exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReport {
    /// The report.
    pub report: LedgerReport,
    /// The signature.
    #[serde(with = "hex")]
    pub signature: [u8; 64],
}

/// The ledger of a task as one compute party keeps it. Amounts are in units of 2^-40 of the promise's unit;
/// epsilons are decimal texts, rounded up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerReport {
    /// Name of the consortium.
    pub consortium: String,
    /// The pair.
    pub pair: String,
    /// The compute party that reports.
    pub party: String,
    /// Its identity key.
    pub peer: PeerId,
    /// When, in seconds since 1970 by its clock.
    pub at: u64,
    /// How the task's book was opened.
    pub opening: Opening,
    /// How answers are protected now.
    pub mechanism: Mechanism,
    /// Where noise comes from now; `None` for an exact release.
    pub noise: Option<NoiseRule>,
    /// What one answer costs every owner now.
    pub price: u64,
    /// Models that may vote.
    pub votes: u64,
    /// Every owner's account for each data epoch.
    pub owners: Vec<Loss>,
    /// Every client's account.
    pub clients: Vec<Loss>,
    /// Releases that were answered.
    pub answered: u64,
    /// Releases that are being computed.
    pub in_progress: u64,
    /// Releases that were given up and stay charged.
    pub kept: u64,
    /// Releases that were given up before anything was computed, and refunded.
    pub refunded: u64,
    /// Releases that a crash interrupted; they stay charged.
    pub dead: u64,
    /// What owners signed.
    pub statements: Vec<RecordedStatement>,
    /// The latest releases, newest first.
    pub releases: Vec<Past>,
    /// The end of this party's chain.
    pub head: Head,
    /// The other party's ledger.
    pub other: OtherView,
}

/// An account with its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// The account.
    pub account: Account,
    /// What was spent, as an epsilon; `None` for exact answers.
    pub epsilon_spent: Option<String>,
    /// The budget, as an epsilon; `None` where nothing is limited.
    pub epsilon_limit: Option<String>,
}

/// The other party's ledger as seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherView {
    /// The other compute party.
    pub party: String,
    /// The newest head that it had shown before.
    pub shown: Option<Head>,
    /// Its head now, if it answered.
    pub now: Option<Head>,
    /// Whether either party's chain holds what it has shown to the other.
    pub agrees: bool,
    /// Why not, or why nobody can say.
    pub fault: Option<String>,
}

/// An owner's accounts at both compute parties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerAccount {
    /// The task.
    pub task: String,
    /// The owner.
    pub owner: String,
    /// Of each pair, party Zero's view and party One's.
    pub parties: Vec<PartyBooks>,
}

/// What one compute party says of an owner's accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyBooks {
    /// The compute party.
    pub party: String,
    /// Its pair.
    #[serde(default)]
    pub pair: String,
    /// The accounts, unless it refused.
    pub books: Option<OwnerBooks>,
    /// The accounts with their meaning.
    pub losses: Vec<Loss>,
    /// The budget in force, as an epsilon; where the task has several pairs, what this one may spend.
    pub epsilon: Option<String>,
    /// Why there are none.
    pub refusal: Option<Refusal>,
}

/// What the snapshot of a ledger says of one task.
struct View {
    opening: Opening,
    counts: Counts,
    owners: Vec<Account>,
    statements: Vec<RecordedStatement>,
    releases: Vec<Past>,
    head: Head,
}

impl SignedReport {
    /// Reads this node's ledger and asks the other party for its head.
    ///
    /// # Errors
    /// The node is no compute party of the task, or its ledger fails.
    pub async fn of(shared: &Shared, task: &str, latest: u32) -> Result<Self, Refusal> {
        let terms = shared.task(task)?;
        let (pair, compute) = seat_of(shared, &terms)?;
        let terms = compute.task(task)?;
        let view = read(compute, &terms, latest).await?;
        let other = compute.other_ledger().await;
        let loss = |account: &Account| loss(&terms, account.clone());
        let report = LedgerReport {
            consortium: shared.roster.consortium().to_owned(),
            pair: pair.to_owned(),
            party: shared.me.name.to_string(),
            peer: shared.identity.peer_id(),
            at: seconds_now(),
            mechanism: terms.mechanism,
            noise: terms.rule,
            price: terms.budget.map_or(0, |budget| budget.price),
            votes: terms.roster.votes() as u64,
            owners: view.owners.iter().map(loss).collect(),
            clients: view.counts.clients.iter().map(loss).collect(),
            answered: view.counts.answered,
            in_progress: view.counts.in_progress,
            kept: view.counts.kept,
            refunded: view.counts.refunded,
            dead: view.counts.dead,
            opening: view.opening,
            statements: view.statements,
            releases: view.releases,
            head: view.head,
            other: OtherView {
                party: compute.other_name.clone(),
                shown: other.shown,
                now: other.now,
                agrees: other.fault.is_none(),
                fault: other.fault,
            },
        };
        report.sign(&shared.identity)
    }

    /// Whether the party that the report names signed it.
    pub fn is_genuine(&self) -> bool {
        serde_json::to_vec(&self.report)
            .is_ok_and(|text| self.report.peer.verify(DOMAIN, &text, &self.signature))
    }
}

impl LedgerReport {
    fn sign(self, identity: &Identity) -> Result<SignedReport, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::new(Obstacle::Local, error);
        let text = serde_json::to_vec(&self).map_err(|error| failed(&error))?;
        let signature = identity.sign(DOMAIN, &text).try_into();
        let signature = signature.map_err(|_| failed(&"the signature has another form"))?;
        Ok(SignedReport { report: self, signature })
    }
}

impl OwnerAccount {
    /// Asks the compute parties of all pairs of a task.
    ///
    /// # Errors
    /// There is no such task, or this node owns no model of it. A compute party's refusal stands in the list.
    pub async fn of(shared: &Shared, task: &str) -> Result<Self, Refusal> {
        let terms = shared.task(task)?;
        let owner = shared.me.name.to_string();
        if !terms.has_owner(&owner) {
            let text = format!("the roster does not list {owner} as an owner of task {task}");
            return Err(Refusal::new(Obstacle::NotAllowed, text));
        }
        let told = shared.owner.books(task, &shared.pairs_of(&terms)?).await;
        let mut keepers = Vec::with_capacity(told.len());
        for (pair, seats) in shared.roster.seats_of(&terms.roster).unwrap_or_default() {
            let view = TaskTerms::of_pair(&terms.roster, pair.name.as_str());
            let view = Arc::new(view.map_err(|error| Refusal::new(Obstacle::Task, error))?);
            keepers.extend([seats.zero, seats.one].map(|member| (pair, member, view.clone())));
        }
        let parties = keepers.into_iter().zip(told).map(|((pair, member, terms), told)| {
            let (books, refusal) = match told {
                Ok(books) => (Some(books), None),
                Err(refusal) => (None, Some(refusal)),
            };
            let accounts = books.iter().flat_map(|books| &books.accounts);
            PartyBooks {
                party: member.name.to_string(),
                pair: pair.name.to_string(),
                losses: accounts.map(|account| loss(&terms, account.clone())).collect(),
                epsilon: books.as_ref().and_then(|books| epsilon_in_force(&terms, books)),
                books,
                refusal,
            }
        });
        Ok(Self { task: task.to_owned(), owner, parties: parties.collect() })
    }
}

/// The seat that keeps the ledger of a task.
pub(super) fn seat_of<'s>(
    shared: &'s Shared,
    terms: &TaskTerms,
) -> Result<(&'s str, &'s Arc<Compute>), Refusal> {
    let serves = |pair: &str| terms.roster.pairs().any(|name| name.as_str() == pair);
    let seat = shared.seats.iter().find(|(pair, _)| serves(pair));
    seat.map(|(pair, compute)| (pair.as_str(), compute)).ok_or_else(|| {
        let names = shared.roster.seats_of(&terms.roster).map(|pairs| {
            let members = pairs.iter().flat_map(|(_, seats)| [seats.zero, seats.one]);
            members.map(|member| member.name.to_string()).collect::<Vec<_>>().join(" and ")
        });
        let text = format!(
            "this node keeps no ledger of task {}; {} do. An owner sees its own account with `consilium privacy \
             budget {}`",
            terms.name(),
            names.unwrap_or_default(),
            terms.name()
        );
        Refusal::new(Obstacle::NotAllowed, text)
    })
}

async fn read(compute: &Compute, terms: &Arc<TaskTerms>, latest: u32) -> Result<View, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::new(Obstacle::Local, error);
    let snapshot = compute.ledger().snapshot().await.map_err(|error| failed(&error))?;
    let terms = terms.clone();
    let reading = tokio::task::spawn_blocking(move || view(&snapshot, &terms, latest));
    reading.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn view(snapshot: &Snapshot, terms: &TaskTerms, latest: u32) -> Result<View, crate::ledger::LedgerError> {
    let task = terms.name();
    let opening = snapshot.opening(task)?;
    let opening = opening.ok_or_else(|| crate::ledger::LedgerError::NotOpened { task: task.to_owned() })?;
    let counts = snapshot.report(task)?;
    let mut owners = counts.owners.clone();
    let roster = terms.budget.map_or(u64::MAX, |budget| budget.owner);
    // Those that were never charged have a budget too.
    for name in &terms.roster.owners {
        let (data_epoch, signed) = snapshot.standing(task, name.as_str())?;
        let known = owners.iter().any(|one| one.name == name.as_str() && one.data_epoch == data_epoch);
        if !known {
            let limit = signed.unwrap_or_else(|| opening.owner_limit().min(roster));
            owners.push(Account { name: name.to_string(), data_epoch, spent: 0, limit });
        }
    }
    owners.sort_by(|one, other| (&one.name, one.data_epoch).cmp(&(&other.name, other.data_epoch)));
    Ok(View {
        opening,
        counts,
        owners,
        statements: snapshot.statements(task, None)?,
        releases: snapshot.latest(task, latest as usize)?,
        head: snapshot.head()?,
    })
}

fn loss(terms: &TaskTerms, account: Account) -> Loss {
    Loss {
        epsilon_spent: epsilon(terms, account.spent),
        epsilon_limit: epsilon(terms, account.limit),
        account,
    }
}

/// What an owner's budget is now, whether it was charged or not.
fn epsilon_in_force(terms: &TaskTerms, books: &OwnerBooks) -> Option<String> {
    let promise = books.promise.as_ref()?;
    let signed = books.statements.iter().rev().find_map(|signed| match signed.statement.change {
        crate::ledger::Change::Budget { epsilon } => Some(epsilon),
        crate::ledger::Change::Disjoint { .. } => None,
    });
    match (signed, promise.slice) {
        (Some(signed), None) => Some(signed.to_string()),
        (Some(signed), Some(_)) => epsilon(terms, promise.limit(signed).ok()?),
        (None, _) => {
            let roster = terms.budget.map_or(u64::MAX, |budget| budget.owner);
            epsilon(terms, promise.owner_limit.min(roster))
        }
    }
}

/// An amount as an epsilon with four places, rounded up; `None` for exact answers and where nothing is limited.
fn epsilon(terms: &TaskTerms, amount: u64) -> Option<String> {
    if amount == u64::MAX {
        return None;
    }
    terms.epsilon_spent(amount).map(rounded_up)
}
