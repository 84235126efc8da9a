//! Pools outlive processes, and nothing else does that should not.

use crate::audit::{audit, audit_both};
use crate::setting::{EXACT, SOON, Setting, in_runtime, refused};
use consilium::admin::{AdminReply, AdminRequest, Refill, call};
use consilium::demo::names;
use consilium::message::Obstacle;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(10);
pub(crate) const BOTH: [&str; 2] = [names::ZERO, names::ONE];

fn spools(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            found.extend(spools(&path));
        } else if path.extension().is_some_and(|extension| extension == "spool") {
            found.push(path);
        }
    }
    found.sort();
    found
}

impl Setting {
    pub(crate) fn spools(&self, name: &str) -> Vec<PathBuf> {
        spools(&self.world.folder_of(name).join("pairs/main/pools"))
    }

    pub(crate) async fn refill(&self, name: &str) -> Refill {
        self.until(name, EXACT, "pool", |status| status.refill.is_some()).await.refill.unwrap()
    }

    pub(crate) async fn eventually(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !wanted(self) {
            assert!(started.elapsed() < SOON, "no {what}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a process and waits until it answers, whoever else is dead.
    pub(crate) async fn start_alone(&mut self, name: &str) {
        self.world.launch(name).unwrap();
        let started = Instant::now();
        while let Err(error) = self.world.status(name).await {
            assert!(started.elapsed() < SOON, "{name}: {error}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_full_pool_outlives_both_parties_without_the_dealer() {
    in_runtime(async {
        let mut setting = Setting::dealt(&[EXACT]).await;
        let high = u64::from(setting.scenario.pool.1);
        let full = |status: &consilium::admin::TaskStatus| status.pool.is_some_and(|pool| pool.left == high);
        setting.until(names::ZERO, EXACT, "full pool", full).await;
        let before = setting.refill(names::ZERO).await;
        assert_eq!((before.source.as_str(), before.fault), ("dealer", None));
        assert!(before.bytes_on_disk.unwrap() > 0 && before.bundles_per_second.unwrap() > 0.0);
        setting.world.kill(names::DEALER).unwrap();
        for name in BOTH {
            setting.world.kill(name).unwrap();
        }
        for name in BOTH {
            setting.start_alone(name).await;
        }
        setting.until(names::ZERO, EXACT, "the same full pool", full).await;
        assert_eq!(setting.refill(names::ZERO).await.pool, before.pool);
        for number in 0..high {
            let answer = setting.ask(EXACT, number as usize, None).await.unwrap();
            assert_eq!(answer.terms.preprocessing, "dealer");
        }
        for name in BOTH {
            setting.eventually("deletion of what is spent", |setting| setting.spools(name).is_empty()).await;
        }
        setting.revive(names::DEALER).await;
        setting.filled(EXACT).await;
        assert_eq!(setting.refill(names::ONE).await.pool, before.pool, "the dealer's death burns nothing");
        let [zero, _] = audit_both(&mut setting, EXACT);
        let pools: std::collections::BTreeSet<_> = zero.reserved.values().map(|burnt| burnt.epoch).collect();
        assert_eq!((zero.reserved.len() as u64, pools.len()), (high, 1));
    });
}

#[test]
fn a_restored_copy_of_one_party_is_noticed_and_its_pool_burnt() {
    for victim in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[EXACT]).await;
            let folder = setting.world.folder_of(victim);
            let (old, new) = (folder.with_extension("old"), folder.with_extension("new"));
            setting.world.kill(victim).unwrap();
            copy(&folder, &old);
            setting.revive(victim).await;
            setting.filled(EXACT).await;
            for row in 0..3 {
                setting.ask(EXACT, row, None).await.unwrap();
            }
            let before = setting.refill(victim).await.pool;
            setting.world.kill(victim).unwrap();
            std::fs::rename(&folder, &new).unwrap();
            copy(&old, &folder);
            assert!(!setting.spools(victim).is_empty(), "the old copy has bundles");
            setting.start_alone(victim).await;
            for name in BOTH {
                setting.eventually("burning of the pool", |setting| setting.spools(name).is_empty()).await;
            }
            refused(
                setting.ask(EXACT, 4, None).await,
                &[Obstacle::Ledger, Obstacle::Peer, Obstacle::Deadline],
            );
            let report = setting.world.status(names::ZERO).await.unwrap();
            let fault = report.seats[0].refill_fault.clone().unwrap();
            assert!(fault.contains("restored"), "{fault}");

            // The operator brings the newer disk back.
            setting.world.kill(victim).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            std::fs::rename(&new, &folder).unwrap();
            setting.revive(victim).await;
            setting.filled(EXACT).await;
            setting.ask(EXACT, 5, None).await.unwrap();
            assert_ne!(setting.refill(names::ZERO).await.pool, before, "nothing of the old pool comes back");
            audit_both(&mut setting, EXACT);
        });
    }
}

#[test]
fn a_damaged_spool_file_costs_its_batch_on_both_sides() {
    for victim in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[EXACT]).await;
            let before = setting.refill(victim).await.pool;
            setting.world.kill(victim).unwrap();
            let files = setting.spools(victim);
            let last = files.last().unwrap();
            // One record in the middle, so that only reading it shows the damage.
            let mut bytes = std::fs::read(last).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(last, bytes).unwrap();
            setting.revive(victim).await;
            for name in BOTH {
                let same = setting.world.folder_of(name).join("pairs/main/pools").join(
                    last.strip_prefix(setting.world.folder_of(victim).join("pairs/main/pools")).unwrap(),
                );
                setting.eventually("loss of the batch", |_| !same.exists()).await;
            }
            setting.filled(EXACT).await;
            for row in 0..16 {
                setting.ask(EXACT, row, None).await.unwrap();
            }
            assert_eq!(setting.refill(victim).await.pool, before, "the rest of the pool is still good");
            audit_both(&mut setting, EXACT);
        });
    }
}

#[test]
fn a_new_version_and_a_withdrawal_delete_the_pool_on_both_sides() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        let before = BOTH.map(|name| setting.spools(name));
        let model = setting.scenario.hospitals[0].model.clone();
        setting.publish("hospital-01", EXACT, &model).await.unwrap();
        setting.filled(EXACT).await;
        for (name, former) in BOTH.iter().zip(&before) {
            assert!(!former.is_empty(), "{name} had a pool");
            assert!(former.iter().all(|file| !file.exists()), "{name}: the former mask's bundles stay");
        }
        // While One is dead, Zero is told; One hears of it when it is back.
        setting.world.kill(names::ONE).unwrap();
        let published = match call(&setting.world.socket("hospital-03"), &AdminRequest::Models).await.unwrap()
        {
            AdminReply::Models(book) => book[0].model,
            other => panic!("{other:?}"),
        };
        let share =
            |name: &str| setting.world.folder_of(name).join(format!("pairs/main/models/{published}.share"));
        let shares = BOTH.map(share);
        assert!(shares.iter().all(|share| share.exists()));
        setting.withdraw("hospital-03", published).await.unwrap();
        assert!(!shares[0].exists() && setting.spools(names::ZERO).is_empty());
        assert!(shares[1].exists() && !setting.spools(names::ONE).is_empty(), "One is dead");
        setting.revive(names::ONE).await;
        let gone = |setting: &Setting| !shares[1].exists() && setting.spools(names::ONE).is_empty();
        setting.eventually("withdrawal at One", gone).await;
        refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        // The other way round, One is told while Zero is dead.
        let model = setting.scenario.hospitals[2].model.clone();
        let published = setting.publish("hospital-03", EXACT, &model).await.unwrap().model;
        setting.filled(EXACT).await;
        let shares = BOTH
            .map(|name| setting.world.folder_of(name).join(format!("pairs/main/models/{published}.share")));
        setting.world.kill(names::ZERO).unwrap();
        setting.withdraw("hospital-03", published).await.unwrap();
        assert!(!shares[1].exists() && setting.spools(names::ONE).is_empty());
        setting.revive(names::ZERO).await;
        let gone = |setting: &Setting| !shares[0].exists() && setting.spools(names::ZERO).is_empty();
        setting.eventually("withdrawal at Zero", gone).await;
        setting.world.stop();
        for name in BOTH {
            audit(&setting, name, EXACT);
        }
    });
}
