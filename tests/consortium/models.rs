//! Publishing, replacing and withdrawing models.

use crate::setting::{
    CLASSES, EXACT, INPUTS, Setting, dealt_scenario, in_runtime, model, network, refused, scenario,
    verdict_of,
};
use consilium::demo::names;
use consilium::message::Obstacle;
use consilium::registry::ModelId;
use consilium_protocol::model::{Model, export};

#[test]
fn a_model_that_does_not_fit_is_refused_with_its_layer() {
    in_runtime(async {
        let setting = Setting::bare(scenario(), "info").await;
        let fits = network(INPUTS as u32, CLASSES);
        let refuse = async |file: &[u8], words: &[&str]| {
            let refusal = setting.publish_file("hospital-01", EXACT, file).await.unwrap_err();
            assert_eq!(refusal.obstacle, Obstacle::Model, "{refusal}");
            for word in words {
                assert!(refusal.explanation.contains(word), "{refusal}");
            }
        };
        // A weight beyond 2^12, and weights that only together pass it.
        let mut wide = model(&fits, 1.0, 1);
        wide = with_weight(&wide, 1, 5000.0);
        refuse(&export(&wide, "consilium"), &["layer 2", "weight"]).await;
        refuse(&export(&model(&fits, 60.0, 1), "consilium"), &["layer", "allowed input"]).await;
        // NaN and infinity, in the bytes of the file.
        let good = model(&fits, 1.0, 1);
        let weight = good.weights()[1].weight[0].to_le_bytes();
        for poison in [f32::NAN, f32::INFINITY] {
            let mut file = export(&good, "consilium");
            let at = file.windows(4).position(|bytes| bytes == weight).unwrap();
            file[at..at + 4].copy_from_slice(&poison.to_le_bytes());
            refuse(&file, &["layer", "finite"]).await;
        }
        let file = |inputs, classes| export(&model(&network(inputs, classes), 1.0, 1), "consilium");
        refuse(&file(INPUTS as u32 + 1, CLASSES), &[]).await;
        refuse(&file(INPUTS as u32, CLASSES + 1), &[]).await;
        refuse(b"not a model", &[]).await;
        for name in [names::ZERO, names::ONE] {
            setting.until(name, EXACT, "empty registry", |status| status.models_ready == 0).await;
        }
    });
}

#[test]
fn strangers_do_not_publish_and_too_few_models_do_not_vote() {
    in_runtime(async {
        let setting = Setting::bare(dealt_scenario(), "info").await;
        let good = &setting.scenario.hospitals[0].model;
        for stranger in [names::CLIENT, names::DEALER, names::ONE] {
            let refusal = setting.publish(stranger, EXACT, good).await.unwrap_err();
            assert_eq!(refusal.obstacle, Obstacle::NotAllowed, "{stranger}: {refusal}");
        }
        let refusal = setting.publish("hospital-01", "no-such-task", good).await.unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Task);
        refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        for hospital in &setting.scenario.hospitals[1..] {
            setting.publish(&hospital.name, EXACT, &hospital.model).await.unwrap();
            refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        }
        setting.publish("hospital-01", EXACT, good).await.unwrap();
        setting.ask(EXACT, 0, None).await.unwrap();
    });
}

#[test]
fn models_are_replaced_and_withdrawn() {
    in_runtime(async {
        let mut setting = Setting::published(&[EXACT]).await;
        setting.ask(EXACT, 0, None).await.unwrap();
        // A new epoch starts to count its bundles anew.
        let fits = network(INPUTS as u32, CLASSES);
        let mut versions = Vec::new();
        for version in 2..4 {
            let newer = model(&fits, 1.5, 100 + version);
            let entry = setting.publish("hospital-01", EXACT, &newer).await.unwrap();
            assert_eq!(entry.version, version);
            versions.push(entry.model);
            setting.scenario.hospitals[0].model = newer;
            let status = setting.filled(EXACT).await;
            assert_eq!((status.models_ready, status.pool.unwrap().used), (3, 0));
            right_labels(&setting).await;
        }
        let refusal = setting.withdraw("hospital-01", versions[0]).await.unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Model, "replaced: {refusal}");
        let refusal = setting.withdraw("hospital-02", versions[1]).await.unwrap_err();
        assert_eq!(refusal.obstacle, Obstacle::Model, "not its own: {refusal}");
        setting.withdraw("hospital-01", versions[1]).await.unwrap();
        for name in [names::ZERO, names::ONE] {
            setting.until(name, EXACT, "ended epoch", |status| status.pool.is_none()).await;
        }
        refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        let first = setting.scenario.hospitals[0].model.clone();
        setting.publish("hospital-01", EXACT, &first).await.unwrap();
        setting.filled(EXACT).await;
        right_labels(&setting).await;
    });
}

/// With the dealer dead a withdrawal still takes the vote away.
#[test]
fn a_model_is_withdrawn_without_the_dealer() {
    in_runtime(async {
        let mut setting = Setting::dealt(&[EXACT]).await;
        setting.world.kill(names::DEALER).unwrap();
        let published = published(&setting, "hospital-03").await;
        setting.withdraw("hospital-03", published).await.unwrap();
        refused(setting.ask(EXACT, 0, None).await, &[Obstacle::Models]);
        setting.revive(names::DEALER).await;
        let model = &setting.scenario.hospitals[2].model;
        setting.publish("hospital-03", EXACT, model).await.unwrap();
        setting.ask(EXACT, 0, None).await.unwrap();
    });
}

async fn published(setting: &Setting, owner: &str) -> ModelId {
    use consilium::admin::{AdminReply, AdminRequest, call};
    match call(&setting.world.socket(owner), &AdminRequest::Models).await.unwrap() {
        AdminReply::Models(book) => book[0].model,
        other => panic!("{other:?}"),
    }
}

async fn right_labels(setting: &Setting) {
    let models: Vec<&Model> = setting.scenario.hospitals.iter().map(|hospital| &hospital.model).collect();
    for row in 0..16 {
        let verdict = verdict_of(&models, &setting.row(row));
        let answer = setting.answered(EXACT, row).await;
        assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)], "row {row}");
    }
}

fn with_weight(model: &Model, layer: usize, value: f32) -> Model {
    let mut weights = model.weights().to_vec();
    weights[layer].weight[0] = value;
    Model::new(model.network().clone(), weights).unwrap()
}
