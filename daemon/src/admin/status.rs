//! What a node tells its administrator.

use crate::client::Detour;
use crate::compute::{Compute, Epoch};
use crate::encrypted::EncryptedStatus;
use crate::laboratory::LaboratoryStatus;
use crate::ledger::{Account, seconds_now};
use crate::losses::Losses;
use crate::net::PeerId;
use crate::node::Shared;
use crate::noise::{Away, Verdict};
use crate::outlook::Readiness;
use crate::task::TaskTerms;
use crate::vault::hex;
use consilium_attest::EvidenceKind;
use consilium_attest::choice::NoiseRule;
use consilium_config::{Name, Roster};
use consilium_protocol::party::Party;
use serde::{Deserialize, Serialize};

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Name in the roster.
    pub name: String,
    /// Peer id.
    pub peer: String,
    /// Addresses listened on.
    pub listening: Vec<String>,
    /// Members that give this node a place, through which others reach it.
    pub relays: Vec<String>,
    /// The other members.
    pub members: Vec<MemberStatus>,
    /// What would become of a question now, of each task that this node may ask or serves. It takes the compute
    /// parties' answer, so it is asked for apart, and put here by `consilium status`.
    pub prospects: Vec<Prospect>,
    /// Seats of this node.
    pub seats: Vec<SeatStatus>,
    /// Whether this node deals correlated randomness.
    pub dealer: bool,
    /// Channels that ended in an error since the start.
    pub faults: u64,
    /// Pairs that this node's questions go around for now.
    #[serde(default)]
    pub detours: Vec<Detour>,
    /// Homomorphic tasks that this node has the model of, or may ask.
    #[serde(default)]
    pub encrypted: Vec<EncryptedStatus>,
    /// Tasks of encodings, which protect nothing, in which this node sends and takes.
    #[serde(default)]
    pub laboratory: Vec<LaboratoryStatus>,
}

/// What would become of a question of a task now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prospect {
    /// The task; empty where what is missing concerns no single one.
    pub task: String,
    /// Bundles at hand at the party that has fewer.
    pub bundles: Option<u64>,
    /// Answers that the tightest budget still pays for; `None` for an exact release.
    pub answers_left: Option<u64>,
    /// Why it would not be answered; `None` where it would.
    pub reason: Option<String>,
}

impl From<Readiness> for Prospect {
    fn from(Readiness { task, outlook }: Readiness) -> Self {
        let (supply, refusal) = (outlook.as_ref().ok(), outlook.as_ref().err());
        Self {
            task,
            bundles: supply.map(|supply| supply.bundles),
            answers_left: supply.and_then(|supply| supply.answers_left),
            reason: refusal.map(ToString::to_string),
        }
    }
}

/// Another member as seen from here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberStatus {
    /// Name in the roster.
    pub name: String,
    /// Roles in the roster.
    pub roles: Vec<String>,
    /// Tasks that it computes.
    pub serves: Vec<String>,
    /// Whether a connection stands.
    pub connected: bool,
    /// The member that relays, while there is no direct connection.
    pub relay: Option<String>,
    /// Last measured round trip.
    pub round_trip_ms: Option<f64>,
    /// Why the last dial failed.
    pub fault: Option<String>,
}

/// A seat in a pair of compute parties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatStatus {
    /// Name of the pair.
    pub pair: String,
    /// The seat.
    pub seat: Party,
    /// The tasks served.
    pub tasks: Vec<TaskStatus>,
    /// Why the last refill failed.
    pub refill_fault: Option<String>,
    /// The module that draws noise, if a task takes noise from it.
    pub module: Option<ModuleStatus>,
}

/// This party's verdict on the module that draws noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ModuleStatus {
    /// It was not asked yet.
    Unasked,
    /// Its evidence was accepted.
    Accepted {
        /// What vouches for it.
        evidence: EvidenceKind,
        /// What was measured, in digits.
        measurement: String,
        /// The machine, as far as the evidence names it.
        platform: String,
        /// The state of its firmware, in the vendor's terms.
        level: String,
        /// The module's boot, in hexadecimal.
        boot: String,
        /// When it was verified, in Unix seconds.
        verified_at: u64,
        /// Last second in which the verdict counts.
        valid_until: u64,
        /// The same in words, loud where nothing vouches for it.
        shown: String,
    },
    /// It does not answer, or the time of its verdict is over.
    Unreachable {
        /// Why.
        reason: String,
        /// Last second in which an earlier verdict counts, for what was drawn already.
        valid_until: Option<u64>,
    },
    /// Its evidence was refused.
    Refused {
        /// The rule that failed.
        reason: String,
    },
}

/// Where the noise of a task comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseStatus {
    /// The rule of the roster.
    pub rule: NoiseRule,
    /// Releases that the module drew noise for already.
    pub ahead: usize,
    /// Why the last draw failed.
    pub fault: Option<String>,
}

/// A task at a seat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskStatus {
    /// Its name.
    pub task: String,
    /// Models that may vote: all models of each owner that is ready.
    pub models_ready: usize,
    /// Owners whose models may vote.
    pub owners_ready: usize,
    /// Owners in the roster.
    pub owners: usize,
    /// Models of each owner.
    pub shards: u32,
    /// The pool, while an epoch is in force.
    pub pool: Option<Level>,
    /// How the pool is kept and refilled, while an epoch is in force.
    pub refill: Option<Refill>,
    /// Rounds of one query.
    pub rounds: Option<u32>,
    /// Bytes that this party sends in one query.
    pub bytes: Option<u64>,
    /// How labels are released.
    pub mechanism: String,
    /// Where its noise comes from; `None` for an exact release.
    pub noise: Option<NoiseStatus>,
    /// Answers given.
    pub answered: u64,
    /// Computations since the start; questions that came together shared one.
    pub computations: u64,
    /// Most questions that shared one.
    pub together_most: u64,
    /// Largest privacy loss of any owner's account, which is of one data epoch, so far.
    pub epsilon_spent: Option<f64>,
    /// What that owner accepts in all for that data epoch; where the task has several pairs, what this one may spend.
    pub epsilon_budget: Option<f64>,
    /// The part of every budget that this pair may spend, where other pairs have the rest.
    #[serde(default)]
    pub slice: Option<String>,
    /// What the losses so far mean for each who has a stake; `None` for an exact release.
    pub losses: Option<Losses>,
    /// What they mean when the largest budgets are spent.
    pub losses_at_budget: Option<Losses>,
}

/// Bundles of correlated randomness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// At hand.
    pub left: u64,
    /// Used in this epoch.
    pub used: u64,
    /// Low watermark.
    pub low: u32,
    /// High watermark.
    pub high: u32,
}

/// How a pool is kept and refilled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refill {
    /// Name of the pool, in hexadecimal.
    pub pool: String,
    /// Where its randomness comes from.
    pub source: String,
    /// Bytes on the disk; `None` while the disk does not answer.
    pub bytes_on_disk: Option<u64>,
    /// Bundles made in a second, over the last batch.
    pub bundles_per_second: Option<f64>,
    /// Bundles made of the batch in progress, and bundles in it.
    pub batch: Option<(u32, u32)>,
    /// Why the last batch failed.
    pub fault: Option<String>,
}

impl Report {
    /// Reads the state of a node.
    pub async fn of(shared: &Shared) -> Self {
        let states = shared.network.peers();
        let members = shared.roster.members().iter().filter(|member| member.name != shared.me.name);
        let named = |peer: PeerId| {
            let mut members = shared.roster.members().iter();
            let member = members.find(|member| member.peer.as_str() == peer.to_string());
            member.map_or_else(|| peer.to_string(), |member| member.name.to_string())
        };
        let status = |member: &consilium_config::Member| {
            let state = states.iter().find(|state| state.peer.to_string() == member.peer.as_str());
            MemberStatus {
                name: member.name.to_string(),
                roles: member.roles.iter().map(|role| role.as_str().to_owned()).collect(),
                serves: served_by(&shared.roster, &member.name),
                connected: state.is_some_and(|state| state.connected),
                relay: state.and_then(|state| state.relay).map(&named),
                round_trip_ms: state.and_then(|s| s.round_trip).map(|time| time.as_secs_f64() * 1e3),
                fault: state.and_then(|state| state.dial_fault.as_ref()).map(ToString::to_string),
            }
        };
        let members = members.map(status).collect();
        let here = shared.encrypted.clone();
        let encrypted = tokio::task::spawn_blocking(move || here.status());
        let here = shared.laboratory.clone();
        let laboratory = tokio::task::spawn_blocking(move || here.status());
        let mut seats = Vec::new();
        for (pair, compute) in &shared.seats {
            seats.push(seat(pair, compute).await);
        }
        Self {
            name: shared.me.name.to_string(),
            peer: shared.network.peer_id().to_string(),
            listening: shared.listening().iter().map(ToString::to_string).collect(),
            relays: shared.network.relays().into_iter().map(&named).collect(),
            members,
            prospects: Vec::new(),
            seats,
            dealer: shared.dealer.is_some(),
            faults: shared.faults(),
            detours: shared.client.detours(),
            encrypted: encrypted.await.unwrap_or_default(),
            laboratory: laboratory.await.unwrap_or_default(),
        }
    }
}

/// The tasks that a member computes by the roster.
fn served_by(roster: &Roster, member: &Name) -> Vec<String> {
    let seated = |name: &Name| {
        let pair = roster.pairs().iter().find(|pair| pair.name == *name);
        pair.is_some_and(|pair| pair.zero == *member || pair.one == *member)
    };
    let tasks = roster.tasks().iter().filter(|task| task.pairs().any(seated));
    tasks.map(|task| task.name.to_string()).collect()
}

async fn refill(compute: &Compute, epoch: &Epoch) -> Refill {
    let seen = compute.refilling(epoch.terms().name());
    let (pools, pool) = (compute.pools.clone(), epoch.id());
    let bytes = tokio::task::spawn_blocking(move || pools.bytes(pool)).await;
    Refill {
        pool: hex::encode(&pool),
        source: epoch.source().to_owned(),
        bytes_on_disk: bytes.ok().and_then(Result::ok),
        bundles_per_second: seen.bundles_per_second,
        batch: seen.batch,
        fault: seen.fault,
    }
}

/// What an owner accepts: by the roster, unless its account has another limit.
fn budget_of(terms: &TaskTerms, owner: Option<&Account>) -> Option<f64> {
    let budget = terms.budget?;
    match owner {
        Some(owner) if owner.limit != budget.owner => terms.epsilon_spent(owner.limit),
        _ if budget.slice.is_some() => terms.epsilon_spent(budget.owner),
        _ => Some(budget.epsilon.numerator() as f64 / budget.epsilon.denominator() as f64),
    }
}

fn module_status(verdict: &Verdict) -> ModuleStatus {
    let holding = verdict.holding(seconds_now());
    match (&verdict.away, holding) {
        (Some(Away::Refused(reason)), _) => ModuleStatus::Refused { reason: reason.clone() },
        (Some(Away::Unreachable(reason)), holding) => ModuleStatus::Unreachable {
            reason: reason.clone(),
            valid_until: holding.map(|module| module.valid_until()),
        },
        (None, None) if verdict.accepted.is_some() => {
            ModuleStatus::Unreachable { reason: "the last verdict is over".to_owned(), valid_until: None }
        }
        (None, None) => ModuleStatus::Unasked,
        (None, Some(module)) => ModuleStatus::Accepted {
            evidence: module.kind(),
            measurement: module.measurement().to_owned(),
            platform: module.platform().to_owned(),
            level: module.level().to_owned(),
            boot: hex::encode(&module.boot()),
            verified_at: module.verified_at(),
            valid_until: module.valid_until(),
            shown: module.to_string(),
        },
    }
}

async fn seat(pair: &str, compute: &Compute) -> SeatStatus {
    let mut tasks = Vec::new();
    for terms in compute.tasks() {
        let epoch = compute.epoch(terms.name());
        let pool = epoch.as_ref().map(|epoch| {
            let (left, used) = epoch.level();
            Level { left, used, low: terms.roster.stock.low, high: terms.roster.stock.high }
        });
        let refill = match &epoch {
            Some(epoch) => Some(refill(compute, epoch).await),
            None => None,
        };
        let cost = epoch.as_ref().map(|epoch| epoch.plan().cost());
        let (computations, together_most) = compute.shared_computations(terms.name());
        let report = compute.ledger().report(terms.name().to_owned()).await.ok();
        let accounts = report.as_ref().map_or(&[][..], |report| &report.owners[..]);
        let most = accounts.iter().max_by_key(|owner| owner.spent);
        let owners_ready = compute.ready_owners(terms.name());
        tasks.push(TaskStatus {
            task: terms.name().to_owned(),
            models_ready: owners_ready * terms.shards(),
            owners_ready,
            owners: terms.roster.owners.len(),
            shards: terms.roster.shards,
            pool,
            refill,
            rounds: cost.map(|cost| cost.rounds),
            bytes: cost.map(|cost| cost.bytes),
            mechanism: terms.mechanism.to_string(),
            noise: compute.noise.get(terms.name()).map(|stock| NoiseStatus {
                rule: stock.rule(),
                ahead: stock.level(),
                fault: stock.fault().map(|away| away.to_string()),
            }),
            answered: report.as_ref().map_or(0, |report| report.answered),
            computations,
            together_most,
            epsilon_spent: terms
                .budget
                .and_then(|_| terms.epsilon_spent(most.map_or(0, |owner| owner.spent))),
            epsilon_budget: budget_of(terms, most),
            slice: terms.budget.and_then(|budget| budget.slice).map(|slice| slice.to_string()),
            losses: Losses::so_far(terms, accounts),
            losses_at_budget: Losses::at_budget(terms, accounts),
        });
    }
    tasks.sort_by(|a, b| a.task.cmp(&b.task));
    SeatStatus {
        pair: pair.to_owned(),
        seat: compute.seat(),
        tasks,
        refill_fault: compute.refill_fault(),
        module: compute.module.as_ref().map(|module| module_status(&module.verdict())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Obstacle, Refusal};
    use crate::outlook::Supply;
    use consilium_config::EXAMPLE_ROSTER;

    #[test]
    fn members_show_the_tasks_that_they_compute() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let served = |name: &str| served_by(&roster, &name.parse().unwrap());
        assert!(served("north").contains(&"breast-cancer".to_owned()));
        assert_eq!(served("north"), served("south"));
        assert!(served("west").is_empty() && served("notary").is_empty());
    }

    #[test]
    fn a_prospect_has_a_reason_or_a_supply() {
        let task = "exact".to_owned();
        let supply = Supply { bundles: 3, answers_left: None };
        let good = Prospect::from(Readiness { task: task.clone(), outlook: Ok(supply) });
        assert_eq!((good.bundles, good.answers_left, good.reason), (Some(3), None, None));
        let refusal = Refusal::new(Obstacle::Peer, "no connection to south");
        let bad = Prospect::from(Readiness { task, outlook: Err(refusal) });
        assert_eq!(bad.bundles, None);
        assert!(bad.reason.unwrap().contains("no connection to south"));
    }
}
