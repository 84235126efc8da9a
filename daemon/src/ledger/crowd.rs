//! Ten thousand reservations of many threads at once, against the simplest ledger there is.

use super::trial::{Bench, charged, request, statement};
use super::{
    Abort, Aborted, Change, Entry, LedgerError, LedgerHandle, Record, ReleaseId, Reservation, Reserve,
};
use crate::net::Identity;
use futures::executor::block_on;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use zeroize::Zeroizing;

const THREADS: u8 = 40;
const EACH: u16 = 256;
/// Fewer names than reservations, so that many ask for one that was used.
const NAMES: u16 = 7000;
/// Costs are small multiples of this, so that budgets which can be signed are met.
const UNIT: u64 = 1 << 24;
/// Half of epsilon 1, in units of 2^-40.
const OWNER_LIMIT: u64 = 1 << 39;
const CLIENT_LIMIT: u64 = 1 << 40;
const STATEMENTS: u64 = 24;

/// What one thread saw of one reservation.
struct Told {
    request: Reserve,
    refunded: bool,
}

/// One question has one name and one content, whoever asks it; now and then a name is abused.
fn draw(random: &mut StdRng, thread: u8, turn: u16) -> Reserve {
    let name: u16 = random.random_range(0..NAMES);
    let mut about = StdRng::seed_from_u64(u64::from(name));
    let mut asked = request(0);
    asked.release = ReleaseId([0; 16]);
    asked.release.0[..2].copy_from_slice(&name.to_le_bytes());
    asked.content[..2].copy_from_slice(&name.to_le_bytes());
    asked.client = format!("client-{}", about.random_range(0..4));
    let voters: u8 = about.random_range(1..32);
    let votes = (0..5).filter(|bit| voters >> bit & 1 == 1);
    asked.owners = votes.map(|bit| charged(&format!("owner-{bit}"))).collect();
    asked.cost = UNIT * about.random_range(0..40);
    (asked.owner_limit, asked.client_limit) = (OWNER_LIMIT, CLIENT_LIMIT);
    if random.random_range(0..40) == 0 {
        asked.content[31] ^= 1;
    }
    asked.correlations.epoch = [thread; 16];
    (asked.correlations.first, asked.correlations.count) = (u64::from(turn), 1);
    asked.noise_ticket = None;
    asked
}

/// Reserves, then commits, gives up, or forgets. Gives what was granted.
fn live(handle: &LedgerHandle, thread: u8) -> Vec<Told> {
    let mut random = StdRng::seed_from_u64(1000 + u64::from(thread));
    let mut granted = Vec::new();
    for turn in 0..EACH {
        let request = draw(&mut random, thread, turn);
        let paid = match block_on(handle.reserve(request.clone())) {
            Ok(Reservation::Reserved(paid)) => paid,
            Ok(Reservation::Stored(share)) => {
                assert_eq!(share.as_slice(), request.release.0, "the stored answer is that of its name");
                continue;
            }
            Err(LedgerError::OwnerBudget { spent, cost, limit, .. }) => {
                assert!(spent + cost > limit && cost == request.cost);
                continue;
            }
            Err(LedgerError::ClientBudget { spent, cost, limit, .. }) => {
                assert!(spent + cost > limit && limit == CLIENT_LIMIT);
                continue;
            }
            Err(
                LedgerError::ContentDiffers { .. }
                | LedgerError::InProgress { .. }
                | LedgerError::Aborted { .. },
            ) => continue,
            Err(other) => panic!("{other}"),
        };
        let mut refunded = false;
        match random.random_range(0..10) {
            0..6 => {
                let share = Zeroizing::new(request.release.0.to_vec());
                block_on(handle.commit(paid, share)).unwrap();
            }
            6..8 => {
                let release = paid.release();
                let given_back = block_on(handle.abort(release, Abort::Bilateral)).unwrap();
                assert_eq!(given_back, Aborted::Refunded);
                assert_eq!(block_on(handle.abort(release, Abort::Alone)).unwrap(), Aborted::Refunded);
                refunded = true;
            }
            8 => {
                let kept = block_on(handle.abort(paid.release(), Abort::Alone)).unwrap();
                assert_eq!(kept, Aborted::Kept);
            }
            _ => drop(paid),
        }
        granted.push(Told { request, refunded });
    }
    granted
}

/// What is spent, by name.
#[derive(Default)]
struct Model {
    spent: BTreeMap<String, u64>,
    limits: BTreeMap<String, u64>,
    open: BTreeMap<ReleaseId, Reserve>,
    granted: usize,
}

impl Model {
    fn add(&mut self, record: Record) {
        match record.entry {
            Entry::Reserve(request) => {
                for owner in &request.owners {
                    let limit = self.limits.get(&owner.name).copied().unwrap_or(OWNER_LIMIT);
                    self.charge(&owner.name, request.cost, limit);
                }
                self.charge(&request.client, request.cost, CLIENT_LIMIT);
                self.granted += 1;
                assert!(self.open.insert(request.release, request).is_none(), "a name was charged twice");
            }
            Entry::Abort { release, refunded: true } => {
                let request = &self.open[&release];
                let names = request.owners.iter().map(|owner| &owner.name).chain([&request.client]);
                for name in names {
                    *self.spent.get_mut(name).unwrap() -= request.cost;
                }
            }
            Entry::State(signed) => {
                let Change::Budget { epsilon } = signed.statement.change else { panic!("only budgets") };
                let limit = (epsilon.numerator() << 40) / epsilon.denominator();
                self.limits.insert(signed.statement.owner, limit);
            }
            _ => {}
        }
    }

    fn charge(&mut self, name: &str, cost: u64, limit: u64) {
        let spent = self.spent.entry(name.to_owned()).or_default();
        *spent += cost;
        assert!(*spent <= limit, "{name} spent {spent} of {limit}");
    }
}

#[derive(serde::Deserialize)]
struct Line {
    record: Record,
}

#[test]
fn ten_thousand_reservations_at_once_are_what_a_simple_model_says() {
    let mut bench = Bench::new();
    let (handle, owner) = LedgerHandle::start(bench.take(), 64).unwrap();
    let over = AtomicBool::new(false);
    let granted: Vec<Told> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let handle = handle.clone();
                scope.spawn(move || live(&handle, thread))
            })
            .collect();
        // One owner changes its mind all the time, up and down.
        let stating = scope.spawn(|| {
            let identity = Identity::generate();
            for number in 1..=STATEMENTS {
                let epsilon = format!("{}/64", 8 + number * 7 % 48);
                let mut one = statement(number, Change::Budget { epsilon: epsilon.parse().unwrap() });
                one.owner = "owner-0".into();
                block_on(handle.state(one.sign(&identity).unwrap())).unwrap();
            }
        });
        let watching = scope.spawn(|| {
            let mut looks = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let report = block_on(handle.report("chest".into())).unwrap();
                let owners = report.owners.iter().filter(|owner| owner.name != "owner-0");
                for account in owners.chain(&report.clients) {
                    assert!(account.spent <= account.limit, "{account:?}");
                }
                looks += 1;
            }
            looks
        });
        // The watcher must end also where a thread failed.
        let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        over.store(true, Ordering::Relaxed);
        let granted = joined.into_iter().flat_map(Result::unwrap).collect();
        stating.join().unwrap();
        assert!(watching.join().unwrap() > 0);
        granted
    });
    owner.stop();
    bench.open();
    let mut lines = Vec::new();
    bench.ledger().export(&mut lines).unwrap();
    let mut model = Model::default();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        model.add(serde_json::from_slice::<Line>(line).unwrap().record);
    }
    let report = bench.ledger().report("chest").unwrap();
    let accounts = report.owners.iter().chain(&report.clients);
    let spent: BTreeMap<String, u64> = accounts.map(|one| (one.name.clone(), one.spent)).collect();
    assert_eq!(spent, model.spent, "the tables are what the chain says");

    let mut told: BTreeMap<String, u64> = spent.keys().map(|name| (name.clone(), 0)).collect();
    for one in granted.iter().filter(|one| !one.refunded) {
        let names = one.request.owners.iter().map(|owner| &owner.name).chain([&one.request.client]);
        names.for_each(|name| *told.get_mut(name).unwrap() += one.request.cost);
    }
    assert_eq!(told, model.spent, "and what the threads were told");
    assert_eq!(granted.len(), model.granted);
    assert!(usize::from(THREADS) * usize::from(EACH) >= 10_000);
    let exhausted = report.owners.iter().filter(|one| one.limit - one.spent.min(one.limit) < 40 * UNIT);
    assert!(exhausted.count() > 0, "the budgets were met: {report:?}");
    assert!(report.refunded > 100 && report.kept > 50 && report.dead > 50, "{report:?}");
}
