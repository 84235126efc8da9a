//! A second pair of compute parties: it takes questions when the first one cannot, within its slice.

use crate::audit::{Audit, audit_in};
use crate::http;
use crate::setting::{
    ANSWER_WITHIN, EXACT, LOOK_EVERY, PRIVATE, SOON, Setting, in_runtime, refused, release, scenario,
};
use consilium::client::{Answer, Detour};
use consilium::demo::{Releases, Scenario, names};
use consilium::message::{Obstacle, Refusal};
use consilium::task::{TaskBudget, TaskTerms};
use consilium_config::Roster;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::time::Instant;

const SLICE: &str = "2/5";
const PAIRS: [(&str, [&str; 2]); 2] = [("main", [names::ZERO, names::ONE]), ("second", names::SECOND)];
/// What may be said of a question that no pair can answer now.
const AWAY: [Obstacle; 5] =
    [Obstacle::Peer, Obstacle::Deadline, Obstacle::Epoch, Obstacle::Correlations, Obstacle::Ledger];

/// Both pairs run, hold all models, and have filled their pools.
async fn two_pairs(epsilon: &str) -> Setting {
    let scenario = scenario();
    let releases = Releases { epsilon: epsilon.into(), ..scenario.releases };
    let scenario = Scenario { standby: Some(SLICE.into()), releases, ..scenario };
    let setting = Setting::bare(scenario, "info").await;
    for task in [EXACT, PRIVATE] {
        for hospital in &setting.scenario.hospitals {
            let entry = setting.publish_shards(&hospital.name, task, &hospital.voters()).await.unwrap();
            assert_eq!(entry.pairs, ["main", "second"]);
        }
    }
    for task in [EXACT, PRIVATE] {
        filled(&setting, task).await;
    }
    setting
}

async fn filled(setting: &Setting, task: &str) {
    for (_, [zero, _]) in PAIRS {
        let low = u64::from(setting.scenario.pool.0);
        let enough = |status: &consilium::admin::TaskStatus| status.pool.is_some_and(|pool| pool.left > low);
        setting.until(zero, task, "bundles at hand", enough).await;
    }
}

/// The budget of the noisy task, of all pairs or in one pair's view.
fn budget(setting: &Setting, pair: Option<&str>) -> TaskBudget {
    let roster = Roster::load(&setting.world.folder_of("roster.toml")).unwrap();
    let task = roster.task(PRIVATE).unwrap();
    let terms = pair.map_or_else(|| TaskTerms::new(task), |pair| TaskTerms::of_pair(task, pair));
    terms.unwrap().budget.unwrap()
}

/// Answers for which a budget pays.
fn paid(budget: TaskBudget) -> usize {
    (budget.owner / budget.price) as usize
}

/// Asks without noise and sees that the label is right, if it is certain.
async fn right(setting: &Setting, row: usize) -> Answer {
    let answer = setting.ask(EXACT, row, None).await.unwrap();
    let verdict = setting.verdict(row);
    assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)], "row {row}: {answer:?}");
    answer
}

/// Asks for noisy labels until no pair gives one any more.
async fn until_refused(setting: &Setting) -> (Vec<Answer>, Refusal) {
    let mut answers = Vec::new();
    loop {
        match setting.ask(PRIVATE, answers.len(), None).await {
            Ok(answer) => answers.push(answer),
            Err(refusal) => return (answers, refusal),
        }
    }
}

/// Until questions go to the first pair again, without any help.
async fn healed(setting: &Setting, task: &str) {
    let started = Instant::now();
    let detours = async || setting.world.status(names::CLIENT).await.unwrap().detours;
    while detours().await.iter().any(|detour| detour.task == task) {
        assert!(started.elapsed() < SOON, "still going around: {:?}", detours().await);
        let _ = setting.ask(task, 0, None).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the four ledgers of a world at rest say, by pair. Within a pair both agree, each pair keeps to its slice, and
/// no account of all pairs together holds more than the whole budget.
fn ledgers(setting: &mut Setting) -> BTreeMap<&'static str, [Audit; 2]> {
    setting.world.stop();
    let whole = budget(setting, None);
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (pair, parties) in PAIRS {
        let both = parties.map(|name| audit_in(setting, (name, pair), PRIVATE));
        let slice = budget(setting, Some(pair));
        assert!(slice.owner < whole.owner);
        for audit in &both {
            for account in &audit.books.owners {
                assert_eq!(account.limit, slice.owner, "{pair}: {account:?}");
                assert!(account.spent <= slice.owner, "{pair}: {account:?}");
            }
        }
        // Where a crash left more charged on one side, that counts.
        for owner in &setting.scenario.hospitals {
            let spent = both.iter().flat_map(|audit| &audit.books.owners);
            let spent = spent.filter(|account| account.name == owner.name).map(|account| account.spent);
            *sums.entry(owner.name.clone()).or_default() += spent.max().unwrap_or(0);
        }
        assert!(both[1].committed.iter().all(|release| both[0].reserved.contains_key(release)), "{pair}");
        all.insert(pair, both);
    }
    for (owner, spent) in sums {
        assert!(spent <= whole.owner, "{owner} lost {spent} of {} over all pairs", whole.owner);
    }
    all
}

/// Answers of the task with a budget that stand in a ledger.
fn answered(audit: &Audit) -> usize {
    audit.committed.intersection(&audit.of_task).count()
}

async fn detours_of(setting: &Setting, task: &str) -> Vec<Detour> {
    let mut detours = setting.world.status(names::CLIENT).await.unwrap().detours;
    detours.retain(|detour| detour.task == task);
    detours
}

/// Every compute party is killed and comes back.
async fn all_crash(setting: &mut Setting) {
    let parties = || PAIRS.iter().flat_map(|(_, parties)| parties);
    for name in parties() {
        setting.world.kill(name).unwrap();
    }
    for name in parties() {
        setting.world.launch(name).unwrap();
    }
    for name in parties() {
        setting.world.ready(name).await.unwrap();
    }
}

#[test]
fn the_second_pair_takes_over_within_its_slice_and_the_first_returns_by_itself() {
    in_runtime(async {
        let mut setting = two_pairs("8").await;
        let [main, second] = ["main", "second"].map(|pair| paid(budget(&setting, Some(pair))));
        assert!(main >= 2 && second >= 2 && main + second <= paid(budget(&setting, None)), "{main} {second}");
        let first = right(&setting, 0).await;
        assert_eq!((first.pair.as_str(), first.tried.len()), ("main", 0));
        let named = setting.ask(PRIVATE, 0, release(1)).await.unwrap();
        assert_eq!(named.pair, "main");
        setting.world.kill(names::ONE).unwrap();

        // The first question finds out; those after it do not wait for a party that is gone.
        let around = right(&setting, 1).await;
        assert_eq!(around.pair, "second");
        assert_eq!((around.tried.len(), around.tried[0].pair.as_str()), (1, "main"), "{around:?}");
        let started = Instant::now();
        for row in 2..10 {
            let answer = right(&setting, row).await;
            assert_eq!((answer.pair.as_str(), answer.tried[0].pair.as_str()), ("second", "main"));
        }
        assert!(started.elapsed() < ANSWER_WITHIN, "{:?}", started.elapsed());
        let [detour] = detours_of(&setting, EXACT).await.try_into().unwrap();
        assert_eq!(detour.pair, "main");
        http::until(&setting, names::CLIENT, &format!("/v2/models/{EXACT}/ready"), 200).await;
        let again = setting.ask(EXACT, 3, Some(around.release)).await;
        refused(again, &[Obstacle::Release]);
        let again = setting.ask(EXACT, 1, Some(around.release)).await.unwrap();
        assert_eq!(
            (again.pair.as_str(), again.terms.repeated),
            ("second", true),
            "whoever answered, answers again"
        );

        // With the first pair down, the second one spends its slice and not more.
        let (answers, refusal) = until_refused(&setting).await;
        assert_eq!(answers.len(), second, "{refusal}");
        assert!(answers.iter().all(|answer| answer.pair == "second" && answer.terms.charged > 0));
        assert!(AWAY.contains(&refusal.obstacle), "{refusal}");
        assert!(refusal.explanation.contains("pair second: the privacy budget"), "{refusal}");

        // Back, and found without help; what is left of the first slice is there.
        setting.revive(names::ONE).await;
        healed(&setting, EXACT).await;
        let back = right(&setting, 11).await;
        assert_eq!((back.pair.as_str(), back.tried.len()), ("main", 0));
        setting.filled(PRIVATE).await;
        let (answers, refusal) = until_refused(&setting).await;
        // A question that met the death of a party may stay charged.
        let given = answers.len() + 1;
        assert!((2..=main).contains(&given), "{given} of {main}: {refusal}");
        assert!(answers.iter().all(|answer| answer.pair == "main"));
        assert_eq!(refusal.obstacle, Obstacle::Budget, "{refusal}");
        let again = setting.ask(PRIVATE, 0, release(1)).await.unwrap();
        assert_eq!((again.labels, again.terms.repeated), (named.labels, true));

        // A crash of everybody gives nothing back.
        all_crash(&mut setting).await;
        filled(&setting, PRIVATE).await;
        refused(setting.ask(PRIVATE, 5, None).await, &[&AWAY[..], &[Obstacle::Budget]].concat());
        let books = ledgers(&mut setting);
        let committed = ["main", "second"].map(|pair| books[pair].each_ref().map(answered));
        assert_eq!(committed, [[given; 2], [second; 2]]);
    });
}

#[test]
fn parties_of_both_pairs_are_killed_and_no_slice_is_overspent() {
    in_runtime(async {
        let mut setting = two_pairs("16").await;
        let slices = ["main", "second"].map(|pair| paid(budget(&setting, Some(pair))));
        let mut labels: Vec<Answer> = Vec::new();
        for victims in [[names::ZERO, names::SECOND[1]], [names::ONE, names::SECOND[0]]] {
            for victim in victims {
                let mut asking: FuturesUnordered<_> =
                    (0..6).map(|row| setting.ask(PRIVATE, row, None)).collect();
                let mut first = true;
                while let Some(told) = asking.next().await {
                    // In the middle of the others.
                    if std::mem::take(&mut first) {
                        kill(&setting, victim);
                    }
                    match told {
                        Ok(answer) => labels.push(answer),
                        told => drop(refused(told, &[&AWAY[..], &[Obstacle::Budget]].concat())),
                    }
                }
                drop(asking);
                setting.world.kill(victim).unwrap();
                setting.revive(victim).await;
            }
        }
        for task in [PRIVATE, EXACT] {
            filled(&setting, task).await;
        }
        healed(&setting, EXACT).await;
        right(&setting, 1).await;
        labels.extend(until_refused(&setting).await.0);
        let books = ledgers(&mut setting);
        for (pair, slice) in ["main", "second"].into_iter().zip(slices) {
            let given = labels.iter().filter(|answer| answer.pair == pair).count();
            let [zero, one] = books[pair].each_ref().map(answered);
            assert!(given <= zero.min(one) && zero.max(one) <= slice, "{pair}: {given} {zero} {one} {slice}");
        }
        let mut releases: Vec<_> = labels.iter().map(|answer| answer.release).collect();
        releases.sort();
        releases.dedup();
        assert_eq!(releases.len(), labels.len(), "one question, one label");
    });
}

/// Kills a process at once, as the system does where memory ends; [`consilium::demo::World::kill`] reaps it later.
fn kill(setting: &Setting, name: &str) {
    let pid = i32::try_from(setting.world.pid(name).unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
