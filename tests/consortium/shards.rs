//! Several models of each owner, one of each part of its patients: published, counted and withdrawn as one.

use crate::audit::audit_both;
use crate::setting::{
    CLASSES, EXACT, INPUTS, PRIVATE, Setting, dealt_scenario, in_runtime, model, network, peer_of, refused,
    sharded_scenario,
};
use consilium::admin::{AdminReply, AdminRequest, TaskStatus, call};
use consilium::demo::{Preprocessing, Scenario, Shard, WorldError, names};
use consilium::message::{MESSAGE_BYTES_MAX, Obstacle, PublishReply, PublishRequest, Refusal};
use consilium::net::{Channel, Network, Role};
use consilium::owner::Published;
use consilium::registry::{Announcement, MaskId, ModelId, Shard as Registered};
use consilium::task::TaskTerms;
use consilium_config::{Release, Roster, Task, Unit};
use consilium_protocol::graph::Network as Architecture;
use consilium_protocol::model::{Model, export};
use std::time::Duration;

const SHARDS: usize = 3;
const OWNER: &str = "hospital-01";
const BOTH: [&str; 2] = [names::ZERO, names::ONE];
const WITHIN: Duration = Duration::from_secs(5);
/// Of 64 rows, those on which a rounded vote may decide; with random models there are few.
const NEAR_MAX: usize = 6;

async fn published(tasks: &[&str]) -> Setting {
    let setting = Setting::bare(sharded_scenario(SHARDS), "info").await;
    setting.publish_all(tasks).await;
    setting
}

/// Every row gets the label that the oracle gives, whatever the unit.
async fn right_labels(setting: &Setting) {
    let mut near = 0;
    for row in 0..setting.scenario.test.rows() {
        let verdict = setting.verdict(row);
        let answer = setting.answered(EXACT, row).await;
        assert!(!verdict.certain || answer.labels[0] == Some(verdict.label as u32), "row {row}");
        near += usize::from(!verdict.certain);
    }
    assert!(near <= NEAR_MAX, "{near} rows say nothing");
}

/// Other models for an owner, which the oracle knows from now on once they are published.
fn other_models(seed: u64) -> Vec<Shard> {
    let fits = network(INPUTS as u32, CLASSES);
    let shard =
        |number: usize| Shard { patients: vec![number], model: model(&fits, 1.5, seed + number as u64) };
    (0..SHARDS).map(shard).collect()
}

fn models(shards: &[Shard]) -> Vec<&Model> {
    shards.iter().map(|shard| &shard.model).collect()
}

async fn book(setting: &Setting, owner: &str) -> Vec<Published> {
    match call(&setting.world.socket(owner), &AdminRequest::Models).await.unwrap() {
        AdminReply::Models(book) => book,
        other => panic!("{other:?}"),
    }
}

async fn until_ready(setting: &Setting, owners: usize) {
    for name in BOTH {
        let ready = |status: &TaskStatus| status.owners_ready == owners;
        let status = setting.until(name, EXACT, "ready owners", ready).await;
        assert_eq!((status.models_ready, status.shards as usize), (owners * SHARDS, SHARDS), "{name}");
    }
}

/// Files of models that a party holds.
fn files(setting: &Setting, name: &str) -> usize {
    let folder = setting.world.folder_of(name).join("pairs/main/models");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "share" || end == "opened")).count()
}

#[track_caller]
fn refused_model(refusal: Result<Published, Refusal>, words: &[&str]) {
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.obstacle, Obstacle::Model, "{refusal}");
    for word in words {
        assert!(refusal.explanation.contains(word), "{word}: {refusal}");
    }
}

#[test]
fn every_model_of_every_owner_has_a_vote() {
    for preprocessing in [Preprocessing::Pairwise, Preprocessing::Dealer] {
        in_runtime(async {
            let scenario = Scenario { preprocessing, ..sharded_scenario(SHARDS) };
            let setting = Setting::bare(scenario, "info").await;
            setting.publish_all(&[EXACT]).await;
            right_labels(&setting).await;
            let answer = setting.ask(EXACT, 0, None).await.unwrap();
            assert_eq!((answer.terms.owners, answer.terms.shards, answer.losses), (3, 3, None));
            until_ready(&setting, 3).await;
            // One registration a task, with one version for all its models.
            let entry = book(&setting, OWNER).await.remove(0);
            assert_eq!((entry.version, entry.shards as usize), (1, SHARDS));
            let one = network(INPUTS as u32, CLASSES);
            assert_eq!(entry.summary, one.summary());
            assert_eq!(
                BOTH.map(|name| files(&setting, name)),
                [6, 6],
                "a share and an opening of each owner"
            );
        });
    }
}

#[test]
fn an_owner_is_charged_once_and_the_answer_says_what_it_means() {
    in_runtime(async {
        let mut setting = published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        assert!((4..40).contains(&paid), "{paid} answers");
        let mut charged = 0;
        for row in 0..paid {
            let answer = setting.answered(PRIVATE, row).await;
            charged += answer.terms.charged;
            let losses = answer.losses.unwrap();
            assert_eq!((losses.unit.as_str(), losses.shards as usize), ("patient", SHARDS));
            assert_eq!(losses.promised.epsilon, answer.epsilon);
            let rho = losses.promised.rho.unwrap();
            assert!((losses.owner.rho.unwrap() - 9.0 * rho).abs() < 1e-9, "{losses:?}");
            assert!((losses.patient_at[0].loss.rho.unwrap() - 4.0 * rho).abs() < 1e-9, "{losses:?}");
            assert!(losses.owner.epsilon > losses.promised.epsilon);
        }
        refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
        for name in BOTH {
            let status = setting.until(name, PRIVATE, "books", |_| true).await;
            let (spent, budget) = (status.losses.unwrap(), status.losses_at_budget.unwrap());
            assert_eq!(spent.unit, "patient");
            assert_eq!((spent.promised.epsilon, spent.owner.votes), (status.epsilon_spent, 3));
            assert!((budget.promised.epsilon.unwrap() - status.epsilon_budget.unwrap()).abs() < 1e-3);
            assert!(budget.owner.epsilon >= spent.owner.epsilon);
        }
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        for books in [zero.books, one.books] {
            assert_eq!(books.owners.len(), 3);
            assert!(books.owners.iter().all(|owner| owner.spent == charged), "{books:?}");
        }
    });
}

/// A member of the consortium that speaks to the compute parties by itself.
struct Stranger {
    network: Network,
    roster: Roster,
}

impl Stranger {
    async fn channel(&self, name: &str) -> Channel {
        self.network.open(peer_of(&self.roster, name), Role::Publish, WITHIN).await.unwrap()
    }

    fn terms(&self, task: &str) -> TaskTerms {
        TaskTerms::new(self.roster.task(task).unwrap()).unwrap()
    }

    fn announce(&self, task: &str, networks: Vec<Architecture>) -> PublishRequest {
        let networks = networks.into_iter().map(Into::into).collect();
        PublishRequest::Announce { task: task.to_owned(), task_digest: self.terms(task).digest, networks }
    }

    fn share(&self, masks: Vec<MaskId>) -> PublishRequest {
        let network = network(INPUTS as u32, CLASSES);
        let shard = |mask| Registered { network: network.clone().into(), mask };
        PublishRequest::Share(Announcement {
            task: EXACT.to_owned(),
            owner: OWNER.to_owned(),
            model: ModelId([77; 16]),
            version: 2,
            data_epoch: 0,
            encoding: Some(self.terms(EXACT).encoding()),
            shards: masks.into_iter().map(shard).collect(),
        })
    }
}

async fn call_party(channel: &mut Channel, request: &PublishRequest, share: Option<&[u8]>) -> PublishReply {
    channel.send_value(request).await.unwrap();
    if let Some(share) = share {
        channel.send(share).await.unwrap();
    }
    channel.receive_value(MESSAGE_BYTES_MAX).await.unwrap()
}

#[test]
fn fewer_or_more_models_than_the_roster_says_are_refused_by_all() {
    in_runtime(async {
        let mut setting = Setting::bare(sharded_scenario(SHARDS), "info").await;
        let own = other_models(1);
        let fits = network(INPUTS as u32, CLASSES);
        let four: Vec<Model> = (0..4).map(|number| model(&fits, 1.5, number)).collect();
        for count in [1, 2, 4] {
            let models: Vec<&Model> = four.iter().take(count).collect();
            let count = format!("{count} of 3 models");
            let words = [count.as_str(), "task exact takes exactly 3", "--shards"];
            refused_model(setting.publish_shards(OWNER, EXACT, &models).await, &words);
        }
        refused_model(setting.publish_shards(OWNER, EXACT, &[]).await, &["0 of 3 models"]);
        assert!(book(&setting, OWNER).await.is_empty());
        // The parties do not rely on the owner's own program.
        let (network, roster) = setting.impersonate(OWNER);
        let stranger = Stranger { network, roster };
        for count in [0, 1, 2, 4, 400] {
            let networks = vec![fits.clone(); count];
            let masks: Vec<MaskId> = (0..count).map(|at| MaskId((at as u128).to_be_bytes())).collect();
            let (mut zero, mut one) =
                (stranger.channel(names::ZERO).await, stranger.channel(names::ONE).await);
            let announce = stranger.announce(EXACT, networks);
            let share = stranger.share(masks);
            for reply in [
                call_party(&mut zero, &announce, None).await,
                call_party(&mut zero, &share, None).await,
                call_party(&mut one, &share, None).await,
            ] {
                let PublishReply::Refused(refusal) = reply else { panic!("{count}: {reply:?}") };
                refused_model(Err(refusal), &[&format!("{count} of 3 models")]);
            }
        }
        let announce = stranger.announce(EXACT, vec![fits.clone(); SHARDS]);
        let mut zero = stranger.channel(names::ZERO).await;
        let PublishReply::Masks(masks) = call_party(&mut zero, &announce, None).await else { panic!() };
        assert_eq!(masks.len(), SHARDS);
        // Two models under one mask.
        let twice = stranger.share(vec![masks[0], masks[1], masks[0]]);
        let reply = call_party(&mut zero, &twice, Some(&[1; 16])).await;
        let PublishReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert!(refusal.explanation.contains("another model"), "{refusal}");
        stranger.network.shutdown().await;
        setting.revive(OWNER).await;
        setting.publish_shards(OWNER, EXACT, &models(&own)).await.unwrap();
        until_ready(&setting, 1).await;
    });
}

#[test]
fn a_task_with_one_model_of_each_owner_takes_no_more() {
    in_runtime(async {
        let setting = Setting::bare(dealt_scenario(), "info").await;
        let own = other_models(1);
        let words = ["3 models at once", "one of each owner"];
        refused_model(setting.publish_shards(OWNER, EXACT, &models(&own)).await, &words);
    });
}

#[test]
fn one_bad_model_refuses_all_and_the_former_ones_stay() {
    in_runtime(async {
        let setting = published(&[EXACT]).await;
        let before = book(&setting, OWNER).await;
        let pool = setting.until(names::ZERO, EXACT, "pool", |status| status.refill.is_some()).await;
        let fits = network(INPUTS as u32, CLASSES);
        let good = || export(&model(&fits, 1.5, 50), "consilium");
        let second = || export(&model(&fits, 1.5, 51), "consilium");
        let wide = export(&model(&fits, 60.0, 1), "consilium");
        let inputs = export(&model(&network(INPUTS as u32 + 1, CLASSES), 1.0, 1), "consilium");
        let which = "model 2 of 3 (part-2.onnx)";
        let cases: [(Vec<u8>, &[&str]); 4] = [
            (b"no model".to_vec(), &[which]),
            (wide, &[which, "allowed input"]),
            (inputs, &[which]),
            (good(), &[which, "the same model as part-1.onnx"]),
        ];
        for (bad, words) in cases {
            let files = [good(), bad, second()];
            refused_model(setting.publish_files(OWNER, EXACT, &files).await, words);
            let refusal = setting.publish_files(OWNER, EXACT, &files).await.unwrap_err();
            assert!(refusal.explanation.starts_with("nothing was published"), "{refusal}");
        }
        assert_eq!(book(&setting, OWNER).await, before);
        until_ready(&setting, 3).await;
        right_labels(&setting).await;
        let after = setting.until(names::ZERO, EXACT, "pool", |status| status.refill.is_some()).await;
        assert_eq!(after.refill.unwrap().pool, pool.refill.unwrap().pool, "nobody even noticed");
    });
}

#[test]
fn all_models_of_an_owner_are_replaced_and_withdrawn_together() {
    in_runtime(async {
        let mut setting = published(&[EXACT]).await;
        let newer = other_models(500);
        let entry = setting.publish_shards(OWNER, EXACT, &models(&newer)).await.unwrap();
        assert_eq!((entry.version, entry.shards as usize), (2, SHARDS));
        setting.scenario.hospitals[0].shards = newer;
        setting.filled(EXACT).await;
        right_labels(&setting).await;
        assert_eq!(BOTH.map(|name| files(&setting, name)), [6, 6], "the former ones are gone");

        setting.withdraw(OWNER, entry.model).await.unwrap();
        until_ready(&setting, 2).await;
        assert_eq!(BOTH.map(|name| files(&setting, name)), [4, 4]);
        assert!(book(&setting, OWNER).await.is_empty());
        let refusal = refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        let words = "the models of 2 of at least 3 owners are ready, 3 models each";
        assert!(refusal.explanation.contains(words), "{refusal}");

        let again = other_models(600);
        setting.publish_shards(OWNER, EXACT, &models(&again)).await.unwrap();
        setting.scenario.hospitals[0].shards = again;
        setting.filled(EXACT).await;
        right_labels(&setting).await;
    });
}

#[test]
fn a_restart_keeps_all_and_a_publication_that_was_cut_short_counts_for_nothing() {
    in_runtime(async {
        let mut setting = published(&[EXACT]).await;
        let pool = |status: TaskStatus| status.refill.unwrap().pool;
        let filled = pool(setting.filled(EXACT).await);
        for name in BOTH {
            setting.world.kill(name).unwrap();
        }
        for name in BOTH {
            setting.world.launch(name).unwrap();
        }
        for name in BOTH {
            setting.world.ready(name).await.unwrap();
        }
        assert_eq!(pool(setting.filled(EXACT).await), filled, "both go on with the pool of nine models");
        right_labels(&setting).await;

        // Both parties get their shares of other models, and then the owner dies.
        let (network, roster) = setting.impersonate(OWNER);
        let stranger = Stranger { network, roster };
        let fits = crate::setting::network(INPUTS as u32, CLASSES);
        let mut zero = stranger.channel(names::ZERO).await;
        let announce = stranger.announce(EXACT, vec![fits.clone(); SHARDS]);
        let PublishReply::Masks(masks) = call_party(&mut zero, &announce, None).await else { panic!() };
        let share = stranger.share(masks);
        let words: usize = consilium_protocol::graph::Architecture::from(fits.clone())
            .lengths()
            .into_iter()
            .map(|(weight, bias)| weight + bias)
            .sum();
        let mut one = stranger.channel(names::ONE).await;
        let stored = [
            call_party(&mut one, &share, Some(&vec![3; SHARDS * words * 8])).await,
            call_party(&mut zero, &share, Some(&[3; 16])).await,
        ];
        assert!(stored.iter().all(|reply| matches!(reply, PublishReply::Stored)), "{stored:?}");
        stranger.network.shutdown().await;
        setting.revive(OWNER).await;
        until_ready(&setting, 3).await;
        setting.world.kill(names::ONE).unwrap();
        let newer = other_models(700);
        let refusal = setting.publish_shards(OWNER, EXACT, &models(&newer)).await.unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Peer, "{refusal}");
        setting.revive(names::ONE).await;
        setting.filled(EXACT).await;
        right_labels(&setting).await;

        let entry = setting.publish_shards(OWNER, EXACT, &models(&newer)).await.unwrap();
        assert_eq!(entry.version, 2);
        assert_eq!(BOTH.map(|name| files(&setting, name)), [6, 6], "nothing stays of what was cut short");
        setting.scenario.hospitals[0].shards = newer;
        setting.filled(EXACT).await;
        right_labels(&setting).await;
    });
}

/// Changes the tasks of the roster that all processes read when they start.
fn edit_roster(setting: &Setting, change: impl Fn(&mut Task)) {
    let file = setting.world.folder_of("roster.toml");
    let roster = Roster::load(&file).unwrap();
    let mut tasks = roster.tasks().to_vec();
    tasks.iter_mut().for_each(change);
    let (members, pairs) = (roster.members().to_vec(), roster.pairs().to_vec());
    let roster = Roster::new(roster.consortium(), members, pairs, tasks, roster.module().cloned()).unwrap();
    std::fs::write(file, roster.to_toml()).unwrap();
}

/// Everybody gets a roster whose tasks were changed.
async fn change_roster(setting: &mut Setting, change: impl Fn(&mut Task)) {
    let mut everyone: Vec<String> =
        setting.scenario.hospitals.iter().map(|hospital| hospital.name.clone()).collect();
    everyone.extend([names::ZERO, names::ONE, names::CLIENT].map(str::to_owned));
    for name in &everyone {
        setting.world.kill(name).unwrap();
    }
    edit_roster(setting, change);
    for name in &everyone {
        setting.world.launch(name).unwrap();
    }
    for name in &everyone {
        setting.world.ready(name).await.unwrap();
    }
}

fn promise(task: &mut Task, unit: Unit, shards: u32) {
    task.shards = shards;
    if let Release::Gaussian { terms, .. } = &mut task.release {
        terms.unit = unit;
    }
}

#[test]
fn a_book_keeps_its_promise_for_life() {
    in_runtime(async {
        let mut setting = published(&[PRIVATE]).await;
        let answer = setting.ask(PRIVATE, 0, None).await.unwrap();
        assert_eq!(answer.losses.unwrap().unit, "patient");
        let file = setting.world.folder_of("roster.toml");
        let kept = std::fs::read(&file).unwrap();
        for (unit, shards, words) in
            [(Unit::Owner, 1, "a promise to each owner"), (Unit::Patient, 2, "patient (2 models")]
        {
            setting.world.kill(names::ZERO).unwrap();
            edit_roster(&setting, |task| promise(task, unit, shards));
            setting.world.launch(names::ZERO).unwrap();
            // It ends before it is ready, or just after: its log says why.
            let started = setting.world.ready(names::ZERO).await;
            let Err(WorldError::Ended { tail, .. }) = started else { panic!("{started:?}") };
            let said = tail.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            assert!(said.contains("patient (3 models of each owner)") && said.contains(words), "{said}");
            assert!(said.contains("restore the roster"), "{said}");
        }
        std::fs::write(&file, kept).unwrap();
        setting.revive(names::ZERO).await;
        setting.filled(PRIVATE).await;
        let answer = setting.ask(PRIVATE, 1, None).await.unwrap();
        assert_eq!(answer.losses.unwrap().unit, "patient");
    });
}

#[test]
fn a_roster_with_another_number_asks_for_new_models() {
    in_runtime(async {
        let mut setting = published(&[EXACT]).await;
        // Only where nothing is promised: a book keeps its number of models.
        let fewer = |task: &mut Task| task.shards = if task.name.as_str() == EXACT { 2 } else { task.shards };
        change_roster(&mut setting, fewer).await;
        let refusal = refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        for hospital in &setting.scenario.hospitals {
            let words = format!("{} published 3 of 2 models and must publish anew", hospital.name);
            assert!(refusal.explanation.contains(&words), "{refusal}");
        }
        for hospital in &mut setting.scenario.hospitals {
            hospital.shards.truncate(2);
        }
        setting.publish_all(&[EXACT]).await;
        right_labels(&setting).await;
        let status = setting.until(names::ONE, EXACT, "owners", |_| true).await;
        assert_eq!((status.owners_ready, status.models_ready), (3, 6));
    });
}
