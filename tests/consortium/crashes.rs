//! Either compute party dies at each step of its work: no serial is used twice, no answer is uncharged on
//! either side, and nobody is charged twice for one name.
//!
//! After each death both parties' exports are checked and compared. `CONSILIUM_KILLS=500` kills so often, at
//! steps drawn at random.

use crate::audit::{audit_both, exports};
use crate::setting::{EXACT, SOON, Setting, ask, in_runtime};
use crate::together::Inside;
use consilium::client::Answer;
use consilium::crash::Step;
use consilium::demo::{names, tasks};
use consilium::ledger::ReleaseId;
use consilium::message::Obstacle;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A task with a budget that pays for all of this.
const NOISY: &str = tasks::EVALUATION;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What may be said of a question that a death met.
const INTERRUPTED: [Obstacle; 6] = [
    Obstacle::Peer,
    Obstacle::Deadline,
    Obstacle::Correlations,
    Obstacle::Epoch,
    Obstacle::Release,
    Obstacle::Models,
];

/// Who passes a step.
fn passers(step: Step) -> &'static [&'static str] {
    match step {
        Step::ReserveZero | Step::ReserveAsk | Step::RefillOffer => &[names::ZERO],
        Step::ReconnectAsk | Step::ReconnectZero | Step::ReconnectDone => &[names::ZERO],
        // Only Zero learns that the other party reserved nothing.
        Step::AbortBoth | Step::AbortRefunded => &[names::ZERO],
        Step::ReserveOne | Step::ReserveReply | Step::RefillConfirm => &[names::ONE],
        Step::ReconnectOne | Step::ReconnectReply => &[names::ONE],
        _ => &[names::ZERO, names::ONE],
    }
}

/// One death: who dies, at which step, at which passage.
#[derive(Clone, Copy, Debug)]
struct Death {
    victim: &'static str,
    step: Step,
    passage: u32,
}

/// Every step of either party once, or as many as the environment says.
fn deaths() -> Vec<Death> {
    let of = |step: Step| passers(step).iter().map(move |victim| Death { victim, step, passage: 1 });
    let each: Vec<Death> = Step::ALL.into_iter().flat_map(of).collect();
    let Some(kills) = std::env::var("CONSILIUM_KILLS").ok() else { return each };
    let kills: usize = kills.parse().expect("CONSILIUM_KILLS is a number");
    let mut random = StdRng::seed_from_u64(kills as u64);
    let mut draw = || Death { passage: random.random_range(1..4), ..*each.choose(&mut random).unwrap() };
    (0..kills).map(|_| draw()).collect()
}

/// The task whose work passes a step. Pools are the same for all; charges are seen where they cost something.
fn task_of(step: Step) -> &'static str {
    use Step::*;
    match step {
        ReserveZero | ReserveAsk | ReserveOne | ReserveReply | OpenFirst | OpenLast | OpenCommitted => NOISY,
        OpenAnswered | LedgerWrite | LedgerDurable | AbortAlone | AbortKept | AbortBoth | AbortRefunded => {
            NOISY
        }
        _ => EXACT,
    }
}

/// What happened so far.
#[derive(Default)]
struct Run {
    /// Questions asked.
    number: usize,
    /// Answers that cost something: their names and prices.
    told: Vec<(ReleaseId, u64)>,
}

impl Run {
    fn note(&mut self, setting: &Setting, task: &str, answer: &Answer) {
        if task == EXACT {
            setting.check(self.number, answer.labels[0]);
        } else {
            assert!(answer.terms.charged > 0);
            self.told.push((answer.release, answer.terms.charged));
        }
    }

    /// Every answer that a client holds is charged by both parties, once and to everybody.
    async fn check_charges(&self, setting: &Setting) {
        for export in exports(setting).await {
            let party = &export.header().party;
            let mut sum = 0;
            for (release, charged) in &self.told {
                let found = &export.releases()[release];
                assert!(found.answered && !found.refunded, "{party}: {release}");
                assert_eq!(found.request.cost, *charged, "{party}: {release}");
                sum += charged;
            }
            let owners: Vec<_> = export.accounts(NOISY, false).collect();
            assert!(sum == 0 || owners.len() == setting.scenario.hospitals.len(), "{party}: {owners:?}");
            for (owner, _, spent, limit) in owners {
                assert!((sum..=limit).contains(&spent), "{party}: {owner} spent {spent}, answers cost {sum}");
                let charges = export.releases().values().filter(|one| !one.refunded);
                let charges = charges.filter(|one| one.request.task == NOISY).map(|one| one.request.cost);
                assert_eq!(spent, charges.sum::<u64>(), "{party}: one charge for each name");
            }
        }
    }
}

impl Setting {
    fn order(&self, name: &str) -> PathBuf {
        self.world.folder_of(name).join("crash-at")
    }

    fn arm(&self, death: Death) {
        let order = format!("{:?} {}", death.step, death.passage);
        std::fs::write(self.order(death.victim), order).unwrap();
    }

    fn has_died(&self, death: Death) -> bool {
        !self.order(death.victim).exists()
    }

    /// Asks until a process is dead. Whatever is answered is right.
    async fn ask_until_dead(&self, death: Death, run: &mut Run) {
        let (started, task) = (Instant::now(), task_of(death.step));
        while !self.has_died(death) {
            assert!(started.elapsed() < SOON, "{death:?} does not come");
            run.number += 1;
            let row = self.row(run.number);
            let told = ask(self.world.socket(names::CLIENT), task, row, None).await.unwrap();
            match told {
                Ok(answer) => run.note(self, task, &answer),
                Err(refusal) => {
                    assert!(INTERRUPTED.contains(&refusal.obstacle), "{death:?}: {refusal}");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    fn check(&self, row: usize, label: Option<u32>) {
        let verdict = self.verdict(row % self.scenario.test.rows());
        assert!(!verdict.certain || label == Some(verdict.label as u32), "row {row}");
    }

    /// The order goes first, then the process, by itself.
    async fn until_dead(&self, death: Death) {
        let started = Instant::now();
        while !self.has_died(death) || self.world.status(death.victim).await.is_ok() {
            assert!(started.elapsed() < SOON, "{death:?} does not come");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The other compute party.
fn other_than(victim: &str) -> &'static str {
    if victim == names::ZERO { names::ONE } else { names::ZERO }
}

/// A question that party One never hears of: Zero reserves, One says that it did not, and Zero refunds.
async fn half_asked(setting: &mut Setting, death: Death, run: &mut Run) {
    let inside = Inside::enter(setting, NOISY);
    while !setting.has_died(death) {
        run.number += 1;
        let mut release = ReleaseId([0xab; 16]);
        release.0[..8].copy_from_slice(&(run.number as u64).to_le_bytes());
        if let Some((refusal, _)) = inside.try_ask_only(0, release).await {
            assert!(INTERRUPTED.contains(&refusal.obstacle), "{death:?}: {refusal}");
        }
    }
    inside.leave().await;
    setting.world.launch(names::CLIENT).unwrap();
}

/// Brings a process to a step and lets it die there.
async fn die(setting: &mut Setting, death: Death, run: &mut Run) {
    use Step::*;
    setting.arm(death);
    match death.step {
        // When a party comes back, both agree anew, also a second and a third time.
        ReconnectAsk | ReconnectOne | ReconnectReply | ReconnectZero | ReconnectDone => {
            let other = other_than(death.victim);
            while !setting.has_died(death) {
                setting.world.kill(other).unwrap();
                setting.world.launch(other).unwrap();
                let started = Instant::now();
                while !setting.has_died(death) && setting.world.status(other).await.is_err() {
                    assert!(started.elapsed() < SOON, "{death:?}: {other} does not come back");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                let patience = Instant::now();
                while !setting.has_died(death) && patience.elapsed() < Duration::from_secs(3) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
        // Another model makes the pool useless.
        BurnMark | BurnPool => {
            let hospital = &setting.scenario.hospitals[0];
            while !setting.has_died(death) {
                let told = setting.publish(&hospital.name, EXACT, &hospital.model).await;
                if let Err(refusal) = told {
                    assert!(INTERRUPTED.contains(&refusal.obstacle), "{death:?}: {refusal}");
                }
                let patience = Instant::now();
                while !setting.has_died(death) && patience.elapsed() < Duration::from_millis(500) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
        AbortBoth | AbortRefunded => half_asked(setting, death, run).await,
        // The other party dies in the rounds; the victim, about to give the question up, follows.
        AbortAlone | AbortKept => {
            let other = other_than(death.victim);
            let first = Death { victim: other, step: OpenFirst, passage: 1 };
            while !setting.has_died(death) {
                setting.arm(first);
                setting.ask_until_dead(first, run).await;
                setting.until_dead(first).await;
                setting.world.kill(other).unwrap();
                // The victim gives up as soon as it has lost the connection.
                let patience = Instant::now();
                while !setting.has_died(death) && patience.elapsed() < Duration::from_secs(3) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                setting.start_alone(other).await;
                if !setting.has_died(death) {
                    setting.world.ready(other).await.unwrap();
                    setting.filled(NOISY).await;
                }
            }
        }
        _ => setting.ask_until_dead(death, run).await,
    }
    setting.until_dead(death).await;
    setting.world.kill(death.victim).unwrap();
}

#[test]
fn nothing_is_used_or_charged_twice_wherever_a_party_dies() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT, NOISY]).await;
        let (mut run, deaths) = (Run::default(), deaths());
        for death in &deaths {
            let death = *death;
            die(&mut setting, death, &mut run).await;
            setting.revive(death.victim).await;
            if matches!(death.step, Step::AbortBoth | Step::AbortRefunded) {
                setting.world.ready(names::CLIENT).await.unwrap();
            }
            if matches!(death.step, Step::BurnMark | Step::BurnPool) {
                // The owner does not know whether it was heard; publishing again settles it.
                let hospital = &setting.scenario.hospitals[0];
                setting.publish(&hospital.name, EXACT, &hospital.model).await.unwrap();
            }
            for task in [EXACT, NOISY] {
                setting.filled(task).await;
                run.number += 1;
                let answer = setting.ask(task, run.number, None).await;
                let answer = answer.unwrap_or_else(|refusal| panic!("{death:?}: {refusal}"));
                run.note(&setting, task, &answer);
            }
            run.check_charges(&setting).await;
        }
        let [zero, one] = audit_both(&mut setting, EXACT);
        assert!(zero.committed.len().min(one.committed.len()) >= 2 * deaths.len());
        for books in [zero.books, one.books] {
            assert_eq!(books.in_progress, 0, "{books:?}");
        }
    });
}
