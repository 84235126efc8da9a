//! Either compute party dies at each step of its work, and no serial is used twice.
//!
//! `CONSILIUM_KILLS=500` kills so often, at steps drawn at random.

use crate::audit::audit_both;
use crate::setting::{EXACT, SOON, Setting, alone, ask};
use consilium::crash::Step;
use consilium::demo::names;
use consilium::message::Obstacle;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
    async fn ask_until_dead(&self, death: Death, number: &mut usize) {
        let started = Instant::now();
        while !self.has_died(death) {
            assert!(started.elapsed() < SOON, "{death:?} does not come");
            *number += 1;
            let told = ask(self.world.socket(names::CLIENT), EXACT, self.row(*number), None).await.unwrap();
            match told {
                Ok(answer) => self.check(*number, answer.labels[0]),
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

/// Brings a process to a step and lets it die there.
async fn die(setting: &mut Setting, death: Death, number: &mut usize) {
    use Step::*;
    setting.arm(death);
    match death.step {
        // When a party comes back, both agree anew, also a second and a third time.
        ReconnectAsk | ReconnectOne | ReconnectReply | ReconnectZero | ReconnectDone => {
            let other = if death.victim == names::ZERO { names::ONE } else { names::ZERO };
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
        _ => setting.ask_until_dead(death, number).await,
    }
    setting.until_dead(death).await;
    setting.world.kill(death.victim).unwrap();
}

#[test]
fn no_serial_is_used_twice_wherever_a_party_dies() {
    alone(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let mut number = 0;
        for death in deaths() {
            die(&mut setting, death, &mut number).await;
            setting.revive(death.victim).await;
            if matches!(death.step, Step::BurnMark | Step::BurnPool) {
                // The owner does not know whether it was heard; publishing again settles it.
                let hospital = &setting.scenario.hospitals[0];
                setting.publish(&hospital.name, EXACT, &hospital.model).await.unwrap();
            }
            setting.filled(EXACT).await;
            number += 1;
            let answer = setting.ask(EXACT, number, None).await;
            setting.check(number, answer.unwrap_or_else(|refusal| panic!("{death:?}: {refusal}")).labels[0]);
        }
        let [zero, one] = audit_both(&mut setting, EXACT);
        assert!(zero.committed.len().min(one.committed.len()) >= deaths().len());
    });
}
