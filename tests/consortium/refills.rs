//! Making bundles together goes wrong: by a party that sends nonsense, stands still, or cannot write. Both say
//! what it was and give the batch up, questions go on with what is there, and the next batch is good.

use crate::audit::audit_both;
use crate::pools::BOTH;
use crate::setting::{EXACT, SOON, Setting, in_runtime, refused};
use consilium::admin::TaskStatus;
use consilium::demo::{names, tasks};
use consilium::message::Obstacle;
use futures::future::join_all;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(10);
const NOISY: &str = tasks::EVALUATION;
/// What is said of points that are none, and of what is no ciphertext.
const NO_POINT: &str = "the other compute party broke the protocol: message 0 encodes no usable point";
const NO_CIPHERTEXT: &str = "the other compute party broke the protocol: a lattice request whose coefficient 0 is not below its modulus";

fn other(name: &str) -> &'static str {
    if name == names::ZERO { names::ONE } else { names::ZERO }
}

impl Setting {
    fn spoil(&self, name: &str) -> PathBuf {
        self.world.folder_of(name).join("spoil")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.world.folder_of(name).join("log.txt")).unwrap()
    }

    async fn full(&self, task: &str) {
        let high = u64::from(self.scenario.pool.1);
        let full = |status: &TaskStatus| status.pool.is_some_and(|pool| pool.left == high);
        self.until(names::ZERO, task, "full pool", full).await;
    }

    /// Asks until the pool is at its low watermark, which starts a refill.
    async fn drain(&self, task: &str) {
        for row in 0..u64::from(self.scenario.pool.1 - self.scenario.pool.0) {
            self.right(task, row as usize).await;
        }
    }

    async fn right(&self, task: &str, row: usize) {
        let labels = match self.ask(task, row, None).await {
            Ok(answer) => answer.labels,
            Err(refusal) => {
                let pools = join_all(BOTH.map(|name| self.refill(name))).await;
                panic!("row {row}: {refusal}: {pools:?}, {}", self.log(names::ZERO));
            }
        };
        let verdict = self.verdict(row % self.scenario.test.rows());
        assert!(task != EXACT || !verdict.certain || labels == [Some(verdict.label as u32)], "row {row}");
    }

    async fn faulty(&self, name: &str, part: &str) {
        let faulty = |status: &TaskStatus| {
            let refill = status.refill.as_ref();
            refill.and_then(|refill| refill.fault.as_ref()).is_some_and(|fault| fault.contains(part))
        };
        self.until(name, EXACT, part, faulty).await;
    }

    /// The same of the whole seat, which outlives the task's epoch.
    async fn seat_faulty(&self, name: &str, part: &str) {
        let started = Instant::now();
        loop {
            let fault = self.world.status(name).await.unwrap().seats[0].refill_fault.clone();
            if fault.as_ref().is_some_and(|fault| fault.contains(part)) {
                return;
            }
            assert!(started.elapsed() < SOON, "{name}: no {part}, but {fault:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Names of the spool files of a party.
    fn batches(&self, name: &str) -> Vec<PathBuf> {
        let folder = self.world.folder_of(name);
        self.spools(name).iter().map(|file| file.strip_prefix(&folder).unwrap().to_owned()).collect()
    }

    /// What one party gave up is gone at the other.
    async fn agrees(&self) {
        let same = |setting: &Self| setting.batches(names::ZERO) == setting.batches(names::ONE);
        self.eventually("agreement on the batches", same).await;
    }

    /// The fault is over: the pool fills, both say so, and what is made is good.
    async fn recovers(&mut self, pool: &str) {
        self.full(EXACT).await;
        for name in BOTH {
            let whole =
                |status: &TaskStatus| status.refill.as_ref().is_some_and(|refill| refill.fault.is_none());
            self.until(name, EXACT, "end of the fault", whole).await;
        }
        for row in 0..12 {
            self.right(EXACT, row).await;
        }
        self.agrees().await;
        assert_eq!(self.refill(names::ZERO).await.pool, pool, "the pool lives on");
        audit_both(self, EXACT);
    }
}

#[test]
fn a_spoilt_refill_is_named_and_given_up_on_both_sides() {
    for liar in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[EXACT]).await;
            setting.full(EXACT).await;
            let pool = setting.refill(names::ZERO).await.pool;
            std::fs::write(setting.spoil(liar), "0 ones").unwrap();
            setting.drain(EXACT).await;
            // The first failure costs the keys, so what is spoilt next are the points of a fresh set-up.
            for name in BOTH {
                setting.faulty(name, NO_POINT).await;
            }
            // The log names the first; the status had both, and one more line would come after an interval.
            let honest = setting.log(other(liar));
            assert!(honest.contains(NO_CIPHERTEXT), "{honest}");
            let gave_up = format!("the other compute party gave up: {NO_CIPHERTEXT}");
            let lied = setting.log(liar);
            assert!(lied.contains(&gave_up), "{gave_up}:\n{lied}");
            for row in 0..3 {
                setting.right(EXACT, row).await;
            }
            setting.agrees().await;
            std::fs::remove_file(setting.spoil(liar)).unwrap();
            setting.recovers(&pool).await;
        });
    }
}

/// Puts folders where the next spool files would go, so that no batch can be written.
fn block(spool: &Path) -> Vec<PathBuf> {
    let number = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let next = number(spool) + 1;
    let blocks: Vec<PathBuf> =
        (next..next + 600).map(|first| spool.with_file_name(format!("{first}.spool"))).collect();
    blocks.iter().for_each(|block| std::fs::create_dir(block).unwrap());
    blocks
}

#[test]
fn a_disk_that_takes_no_more_costs_only_the_batch() {
    for victim in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[EXACT]).await;
            setting.full(EXACT).await;
            let pool = setting.refill(names::ZERO).await.pool;
            let spools = setting.spools(victim);
            let last = spools.iter().max_by_key(|path| (path.as_os_str().len(), (*path).clone())).unwrap();
            let blocks = block(last);
            setting.drain(EXACT).await;
            setting.faulty(victim, ".spool").await;
            if victim == names::ONE {
                setting.faulty(names::ZERO, "the other compute party gave up: ").await;
            }
            for row in 0..3 {
                setting.right(EXACT, row).await;
            }
            setting.agrees().await;
            blocks.iter().for_each(|block| drop(std::fs::remove_dir(block)));
            setting.recovers(&pool).await;
        });
    }
}

#[test]
fn a_party_that_stands_still_in_a_refill_blocks_nothing_for_long() {
    for victim in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[EXACT]).await;
            setting.full(EXACT).await;
            let pool = setting.refill(names::ZERO).await.pool;
            setting.drain(EXACT).await;
            let making =
                |status: &TaskStatus| status.refill.as_ref().is_some_and(|refill| refill.batch.is_some());
            setting.until(other(victim), EXACT, "refill under way", making).await;
            setting.world.pause(victim).unwrap();
            let paused = Instant::now();
            let interrupted = [Obstacle::Peer, Obstacle::Deadline, Obstacle::Correlations, Obstacle::Epoch];
            refused(setting.ask(EXACT, 0, None).await, &interrupted);
            setting.seat_faulty(other(victim), "the other compute party").await;
            assert!(paused.elapsed() < SOON);
            setting.world.resume(victim).unwrap();
            setting.recovers(&pool).await;
        });
    }
}

#[test]
fn two_tasks_refill_at_once_and_neither_waits_for_the_other() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT, NOISY]).await;
        setting.full(EXACT).await;
        setting.full(NOISY).await;
        let before = BOTH.map(|name| setting.log(name).len());
        for _ in 0..4 {
            tokio::join!(setting.drain(EXACT), setting.drain(NOISY));
            tokio::join!(setting.full(EXACT), setting.full(NOISY));
        }
        for (name, before) in BOTH.iter().zip(before) {
            let log = &setting.log(name)[before..];
            assert!(!log.contains("cannot refill") && !log.contains("refused the other party"), "{log}");
        }
        audit_both(&mut setting, EXACT);
        audit_both(&mut setting, NOISY);
    });
}
