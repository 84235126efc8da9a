//! Files that PyTorch and scikit-learn wrote, and files that nobody should have written.
//!
//! `CONSILIUM_FUZZ_CASES` sets the number of damaged files per property; a few hundred by default.

use consilium_protocol::evaluate::float::{argmax, logits};
use consilium_protocol::graph::Shape;
use consilium_protocol::model::{export, import, import_for};
use proptest::collection::vec;
use proptest::prelude::*;

/// Each file with the answers that belong to it.
macro_rules! fixtures {
    ($($model:literal, $answers:literal;)*) => {
        [$((
            $model,
            include_bytes!(concat!("../../tests/fixtures/", $model, ".onnx")).as_slice(),
            include_str!(concat!("../../tests/fixtures/", $answers, ".json")),
        ),)*]
    };
}

const FIXTURES: [(&str, &[u8], &str); 14] = fixtures! {
    "sklearn_logistic_binary", "sklearn_logistic_binary";
    "sklearn_logistic_digits", "sklearn_logistic_digits";
    "sklearn_mlp_binary", "sklearn_mlp_binary";
    "sklearn_mlp_digits", "sklearn_mlp_digits";
    "torch_mlp_script", "torch_mlp";
    "torch_mlp_dynamo", "torch_mlp";
    "torch_cnn_script", "torch_cnn";
    "torch_cnn_dynamo", "torch_cnn";
    "torch_square_script", "torch_square";
    "torch_square_dynamo", "torch_square";
    "torch_view_script", "torch_view";
    "torch_view_dynamo", "torch_view";
    "torch_logistic_script", "torch_logistic";
    "torch_logistic_dynamo", "torch_logistic";
};

#[derive(serde::Deserialize)]
struct Answer {
    input: Vec<f32>,
    logits: Vec<f64>,
    label: usize,
}

#[test]
fn every_fixture_answers_as_its_own_runtime() {
    for (name, bytes, answers) in FIXTURES {
        let model = import(bytes).unwrap_or_else(|error| panic!("{name}: {error}")).model;
        let answers: Vec<Answer> = serde_json::from_str(answers).unwrap();
        assert!(answers.len() >= 5, "{name}");
        for answer in answers {
            let found = logits(&model, &answer.input);
            assert_eq!(found.len(), answer.logits.len(), "{name}");
            for (found, expected) in found.iter().zip(&answer.logits) {
                let allowed = 1e-4 * expected.abs().max(1.0);
                assert!((found - expected).abs() <= allowed, "{name}: {found} for {expected}");
            }
            assert_eq!(argmax(&found), answer.label, "{name}");
        }
    }
}

#[test]
fn every_fixture_has_the_expected_layers() {
    let summaries = FIXTURES.map(|(_, bytes, _)| import(bytes).unwrap().model.network().summary());
    let cnn = "1x8x8 conv3x3x6 relu maxpool2 conv3x3x8 relu avgpool2 conv1x2x16 relu avgpool2 fc10";
    let square = "1x8x8 fc24 square fc12 square fc10";
    let view = "1x8x8 conv3x3x6 relu avgpool2 fc10";
    let expected = [
        "30x1x1 fc2",
        "64x1x1 fc10",
        "30x1x1 fc12 relu fc6 relu fc2",
        "64x1x1 fc16 relu fc10",
        "30x1x1 fc16 relu fc8 relu fc2",
        "30x1x1 fc16 relu fc8 relu fc2",
        cnn,
        cnn,
        square,
        square,
        view,
        view,
        "30x1x1 fc6 relu fc2",
        "30x1x1 fc6 relu fc2",
    ];
    assert_eq!(summaries, expected);
}

#[test]
fn every_fixture_survives_export() {
    for (name, bytes, _) in FIXTURES {
        let model = import(bytes).unwrap().model;
        let again = import(&export(&model, "test")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.model, model, "{name}");
    }
}

#[test]
fn a_task_with_images_takes_a_model_on_plain_features() {
    let (_, bytes, _) = FIXTURES[3];
    let image = Shape { channels: 1, height: 8, width: 8 };
    let model = import_for(bytes, Some(image)).unwrap().model;
    assert_eq!(model.network().summary(), "1x8x8 fc16 relu fc10");
}

#[test]
fn a_task_with_features_refuses_a_model_on_images() {
    let (_, bytes, _) = FIXTURES[6];
    let error = import_for(bytes, Some(Shape::vector(64))).unwrap_err();
    let expected = "input \"input\" has dimensions 1x8x8 without the batch, the task asks for 64x1x1";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn warnings_say_what_was_changed() {
    let warnings = import(FIXTURES[2].1).unwrap().warnings;
    let expected = [
        "node \"Scaler\" (Scaler) was folded into the first linear layer; the model takes unscaled inputs",
        "node \"Relu2\" (Sigmoid) gives one probability; the model has the logits 0 and z for the two classes \
         instead",
        "node \"ArgMax\" (ArgMax) was dropped: the protocol takes the largest logit itself",
    ];
    assert_eq!(warnings, expected);
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("CONSILIUM_FUZZ_CASES").map_or(300, |text| text.parse().expect("a number"));
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// A damaged file may still be a model, which must then be one that can be used.
fn survives(bytes: &[u8]) {
    if let Ok(imported) = import(bytes) {
        let again = import(&export(&imported.model, "test")).expect("an export is a model");
        assert_eq!(again.model, imported.model);
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Set { at: usize, to: u8 },
    Flip { at: usize, bit: u8 },
    Cut { at: usize },
    Remove { at: usize, length: usize },
    Repeat { at: usize, length: usize },
    Splice { at: usize, other: usize, from: usize, length: usize },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len();
        let span = |at: usize, length: usize, end: usize| {
            let at = at % (end + 1);
            at..(at + length).min(end)
        };
        match *self {
            Self::Set { at, to } => bytes.iter_mut().skip(at % (end + 1)).take(1).for_each(|byte| *byte = to),
            Self::Flip { at, bit } => {
                bytes.iter_mut().skip(at % (end + 1)).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            Self::Cut { at } => bytes.truncate(at % (end + 1)),
            Self::Remove { at, length } => drop(bytes.drain(span(at, length, end))),
            Self::Repeat { at, length } => {
                let part = bytes[span(at, length, end)].to_vec();
                bytes.splice(at % (end + 1)..at % (end + 1), part);
            }
            Self::Splice { at, other, from, length } => {
                let source = FIXTURES[other % FIXTURES.len()].1;
                let part = source[span(from, length, source.len())].to_vec();
                bytes.splice(span(at, length, end), part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..16_384usize;
    let length = 1..200usize;
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, to)| Damage::Set { at, to }),
        4 => (at.clone(), 0..8u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        1 => at.clone().prop_map(|at| Damage::Cut { at }),
        2 => (at.clone(), length.clone()).prop_map(|(at, length)| Damage::Remove { at, length }),
        2 => (at.clone(), length.clone()).prop_map(|(at, length)| Damage::Repeat { at, length }),
        2 => (at.clone(), 0..FIXTURES.len(), at, length)
            .prop_map(|(at, other, from, length)| Damage::Splice { at, other, from, length }),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        survives(&bytes);
    }

    #[test]
    fn damaged_files_never_panic(index in 0..FIXTURES.len(), damages in vec(damage(), 1..6)) {
        let mut bytes = FIXTURES[index].1.to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        survives(&bytes);
    }
}
