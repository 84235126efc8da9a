//! The whole trial at a small size, on data that travel with the program.

use super::*;
use consilium::datasets::{DIGITS_DEPTH, digits};
use consilium::demo::Progress;
use consilium::training::Examples;
use consilium_protocol::graph::Shape;

const SETTING: Setting = Setting {
    subject: Subject::Mnist,
    kind: Kind::Pca,
    rank: 8,
    users: 4,
    queries: Some(60),
    seed: 1,
    accepted: 0.95,
    strangers: false,
    jpeg: false,
    costs: false,
};

fn material() -> Material {
    let table = digits();
    let inputs = table.inputs.iter().map(|value| value / DIGITS_DEPTH).collect();
    Material {
        shape: Shape { channels: 1, height: 8, width: 8 },
        rows: Examples::new(64, inputs, table.labels).unwrap(),
        classes: table.class_names,
    }
}

fn trained() -> Trained {
    Trained::new(&SETTING, &material(), &Progress::new(false)).unwrap()
}

#[test]
fn two_parties_name_whom_the_oracle_and_plaintext_name() {
    let Trained { panel, test, truth, unproved, .. } = trained();
    assert_eq!((panel.models.len(), test.rows(), unproved), (4, 60, None));
    let whose: Vec<Option<usize>> = truth.iter().copied().map(Some).collect();
    let plain = panel.plain(&test);
    for thresholds in [false, true] {
        let pass = panel.pass((&test, &whose[..]), &plain, thresholds, &|_| ()).unwrap();
        let Agreement { rows, certain, certain_equal, as_plain, .. } = pass.agreement;
        assert!(certain_equal == certain && certain >= 55 && as_plain >= 57 && rows == 60, "{pass}");
        assert!(pass.as_planned && pass.private.macro_recall > 0.8, "{pass}");
        assert!((pass.private.macro_recall - pass.plain.macro_recall).abs() < 0.05, "{pass}");
        assert!(thresholds || pass.private.refused == 0.0);
    }
}

#[test]
fn strangers_are_farther_than_the_users_own() {
    let Trained { panel, test, truth, .. } = trained();
    let found = Refusals::new(&panel, (&test, &truth[..]), &panel.plain(&test), &|_| ()).unwrap();
    assert_eq!(found.classes.len(), 4);
    assert!(found.private_area > 0.7 && (found.private_area - found.plain_area).abs() < 0.01, "{found}");
    assert!(found.private.windows(2).all(|pair| pair[0].strangers >= pair[1].strangers), "{found}");
    let strangers = truth.iter().filter(|user| **user == 3).count();
    assert_eq!((found.classes[3].strangers, found.classes[3].own), (strangers, 60 - strangers));
    assert!(found.answered.private.strangers_refused.is_some());
    let lonely = Panel { names: vec!["0".to_owned()], models: panel.models[..1].to_vec(), ..panel.clone() };
    let refused = Refusals::new(&lonely, (&test, &truth[..]), &[], &|_| ());
    assert!(matches!(refused, Err(TrialError::Lonely)));
}

#[test]
fn rounds_grow_less_than_users() {
    let Trained { panel, test, .. } = trained();
    let rows = costs(&panel, &test).unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let [few, many] = row.rounds;
        assert!(row.as_planned && many <= few + 1 && row.bytes[1] > row.bytes[0], "{row:?}");
    }
}

#[test]
fn each_user_needs_a_class_of_its_own() {
    let users = Trained::new(&Setting { users: 11, ..SETTING }, &material(), &Progress::new(false));
    assert!(matches!(users, Err(TrialError::Users { users: 11, classes: 10 })));
}
