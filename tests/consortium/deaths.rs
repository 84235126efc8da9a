//! Processes die, or stand still, while questions are under way.

use crate::audit::{Audit, audit_both};
use crate::setting::{
    ANSWER_WITHIN, EXACT, QUERY_DEADLINE, ROUND_DEADLINE, SOON, Setting, Told, ask, in_runtime, refused,
    release, scenario,
};
use consilium::demo::{World, names, tasks};
use consilium::message::Obstacle;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NOISY: &str = tasks::EVALUATION;
const ASKERS: usize = 12;
const BEFORE: usize = 25;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What may be said of a question whose query a death met.
const INTERRUPTED: [Obstacle; 6] = [
    Obstacle::Peer,
    Obstacle::Deadline,
    Obstacle::Dealer,
    Obstacle::Correlations,
    Obstacle::Epoch,
    Obstacle::Release,
];

/// Askers of two tasks that do not stop for refusals.
struct Crowd {
    running: JoinSet<Vec<(usize, Told)>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Crowd {
    fn gather(setting: &Setting) -> Self {
        let mut crowd = Self {
            running: JoinSet::new(),
            stop: Arc::default(),
            answered: Arc::default(),
            refused: Arc::default(),
        };
        for asker in 0..ASKERS {
            let task = if asker % 2 == 0 { EXACT } else { NOISY };
            let rows: Vec<Vec<f64>> = (0..setting.scenario.test.rows()).map(|row| setting.row(row)).collect();
            let socket = setting.world.socket(names::CLIENT);
            let (stop, answered) = (crowd.stop.clone(), crowd.answered.clone());
            let refused = crowd.refused.clone();
            crowd.running.spawn(async move {
                let mut told = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let row = (asker + number) % rows.len();
                    let outcome = ask(socket.clone(), task, rows[row].clone(), None).await;
                    let count = if matches!(outcome, Ok(Ok(_))) { &answered } else { &refused };
                    count.fetch_add(1, Ordering::Relaxed);
                    let dead = outcome.is_err();
                    told.push((row, outcome));
                    if dead {
                        break;
                    }
                }
                told
            });
        }
        crowd
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !wanted(self) {
            assert!(started.elapsed() < SOON, "no {what}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn answers(&self, more: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        self.until("more answers", |crowd| crowd.answered.load(Ordering::Relaxed) >= goal).await;
    }

    async fn refusals(&self) {
        self.until("refusals", |crowd| crowd.refused.load(Ordering::Relaxed) >= ASKERS / 2).await;
    }

    /// Sends the askers home. Each answer of the exact task must be right, each refusal say why. Returns
    /// the number of refusals.
    async fn dismiss(mut self, setting: &Setting) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut refusals = 0;
        while let Some(told) = self.running.join_next().await {
            for (row, told) in told.unwrap() {
                match told {
                    Ok(Ok(answer)) if answer.epsilon.is_none() => {
                        let verdict = setting.verdict(row);
                        assert!(
                            !verdict.certain || answer.labels == [Some(verdict.label as u32)],
                            "row {row}"
                        );
                    }
                    Ok(Ok(_)) => {}
                    Ok(told) => {
                        refused(told, &INTERRUPTED);
                        refusals += 1;
                    }
                    Err(_) => refusals += 1,
                }
            }
        }
        refusals
    }
}

/// Every charge that was not refunded is the same or higher on neither side by more than what the
/// other side says was cut short there.
fn compare([zero, one]: &[Audit; 2]) {
    for audit in [zero, one] {
        assert_eq!(audit.books.in_progress, 0, "{:?}", audit.books);
        let unpaid = audit.books.refunded;
        let spent = audit.books.answered + audit.books.kept + audit.books.dead;
        assert!(spent + unpaid > 0);
    }
    for release in &one.committed {
        assert!(zero.reserved.contains_key(release));
    }
}

async fn a_compute_party_dies(victim: &str) {
    let mut setting = Setting::published(&[EXACT, NOISY]).await;
    let crowd = Crowd::gather(&setting);
    crowd.answers(BEFORE).await;
    for task in [EXACT, NOISY] {
        setting.until(names::ZERO, task, "shared computations", |status| status.together_most > 1).await;
    }
    setting.world.kill(victim).unwrap();
    crowd.refusals().await;
    assert!(crowd.dismiss(&setting).await > 0);
    setting.revive(victim).await;
    for task in [EXACT, NOISY] {
        setting.filled(task).await;
        setting.ask(task, 1, None).await.unwrap();
    }
    // A second time, and back at once.
    let crowd = Crowd::gather(&setting);
    crowd.answers(BEFORE).await;
    setting.world.kill(victim).unwrap();
    setting.revive(victim).await;
    crowd.answers(BEFORE).await;
    crowd.dismiss(&setting).await;
    compare(&audit_both(&mut setting, NOISY));
}

#[test]
fn party_zero_dies_and_comes_back() {
    in_runtime(a_compute_party_dies(names::ZERO));
}

#[test]
fn party_one_dies_and_comes_back() {
    in_runtime(a_compute_party_dies(names::ONE));
}

#[test]
fn a_compute_party_stands_still_and_goes_on() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT, NOISY]).await;
        for victim in [names::ONE, names::ZERO] {
            let crowd = Crowd::gather(&setting);
            crowd.answers(BEFORE).await;
            setting.world.pause(victim).unwrap();
            crowd.refusals().await;
            setting.world.resume(victim).unwrap();
            crowd.answers(BEFORE).await;
            assert!(crowd.dismiss(&setting).await > 0);
        }
        setting.filled(EXACT).await;
        setting.ask(EXACT, 2, None).await.unwrap();
        compare(&audit_both(&mut setting, NOISY));
    });
}

#[test]
fn the_client_dies_and_finds_its_answer_again() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT, NOISY]).await;
        let crowd = Crowd::gather(&setting);
        crowd.answers(BEFORE).await;
        let first = setting.ask(NOISY, 0, release(5)).await.unwrap();
        setting.world.kill(names::CLIENT).unwrap();
        assert_eq!(crowd.dismiss(&setting).await, ASKERS, "each asker lost one question");
        setting.revive(names::CLIENT).await;
        let again = setting.ask(NOISY, 0, release(5)).await.unwrap();
        assert_eq!((again.labels, again.terms.repeated), (first.labels, true));
        setting.ask(EXACT, 1, None).await.unwrap();
        // What the dead client had asked was computed, or given up; nothing lingers.
        compare(&audit_both(&mut setting, NOISY));
    });
}

#[test]
fn without_the_dealer_the_pool_lasts_until_it_is_empty() {
    in_runtime(async {
        let mut setting = Setting::dealt(&[EXACT]).await;
        let high = setting.scenario.pool.1;
        let full = |level: consilium::admin::Level| level.left == u64::from(high);
        setting.until(names::ZERO, EXACT, "full pool", |status| status.pool.is_some_and(full)).await;
        setting.world.kill(names::DEALER).unwrap();
        for number in 0..high {
            let answer = setting.ask(EXACT, number as usize, None).await;
            assert!(answer.is_ok(), "{number} of {high}: {answer:?}");
        }
        let started = Instant::now();
        refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Correlations, Obstacle::Dealer]);
        assert!(started.elapsed() < QUERY_DEADLINE + ROUND_DEADLINE);
        let asking = (0..8).map(|row| setting.ask(EXACT, row, None));
        for told in futures::future::join_all(asking).await {
            refused(told, &[Obstacle::Correlations, Obstacle::Dealer]);
        }
        setting.revive(names::DEALER).await;
        // Nobody waits for the pool: the question does.
        setting.ask(EXACT, 3, None).await.unwrap();
        setting.filled(EXACT).await;
        setting.ask(EXACT, 4, None).await.unwrap();
        compare(&audit_both(&mut setting, EXACT));
    });
}

#[test]
fn the_dealer_restarts_under_load() {
    in_runtime(async {
        let mut setting = Setting::dealt(&[EXACT, NOISY]).await;
        let crowd = Crowd::gather(&setting);
        crowd.answers(BEFORE).await;
        setting.world.kill(names::DEALER).unwrap();
        setting.revive(names::DEALER).await;
        crowd.answers(2 * BEFORE).await;
        crowd.dismiss(&setting).await;
        compare(&audit_both(&mut setting, NOISY));
    });
}

#[test]
fn a_hospital_that_dies_changes_nothing() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT, NOISY]).await;
        let crowd = Crowd::gather(&setting);
        crowd.answers(BEFORE).await;
        setting.world.kill("hospital-02").unwrap();
        crowd.answers(BEFORE).await;
        assert_eq!(crowd.dismiss(&setting).await, 0);
        let books = audit_both(&mut setting, NOISY);
        compare(&books);
        assert_eq!(books[0].books.kept + books[0].books.dead + books[0].books.refunded, 0);
    });
}

/// A node that is killed while it makes its files starts nevertheless.
#[test]
fn a_first_start_that_is_cut_off_can_be_repeated() {
    in_runtime(async {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_node"));
        let mut world = World::prepare(&scenario(), program, None).unwrap();
        let state = world.folder_of(names::ZERO);
        let marks = ["storage.key", "pairs", "pairs/main", "pairs/main/ledger.redb", "pairs/main/models"];
        for mark in marks {
            let _ = std::fs::remove_dir_all(state.join("pairs"));
            let _ = std::fs::remove_file(state.join("storage.key"));
            world.launch(names::ZERO).unwrap();
            let started = Instant::now();
            while !state.join(mark).exists() {
                assert!(started.elapsed() < SOON, "no {mark}");
                tokio::task::yield_now().await;
            }
            world.kill(names::ZERO).unwrap();
            world.launch(names::ZERO).unwrap();
            let started = Instant::now();
            while let Err(error) = world.status(names::ZERO).await {
                assert!(started.elapsed() < ANSWER_WITHIN, "{mark}: {error}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            world.kill(names::ZERO).unwrap();
        }
        // The worst moment: the folder is there and its database is not.
        std::fs::remove_dir_all(state.join("pairs/main/models")).unwrap();
        std::fs::create_dir(state.join("pairs/main/models")).unwrap();
        world.launch(names::ZERO).unwrap();
        let started = Instant::now();
        while let Err(error) = world.status(names::ZERO).await {
            assert!(started.elapsed() < ANSWER_WITHIN, "an empty folder of models: {error}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}
