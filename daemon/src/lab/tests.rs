//! Files and attack together, on the digits that travel with the program.

use super::*;
use crate::datasets::{DIGITS_DEPTH, digits};
use crate::training::{CloneRecipe, Statistics};
use crate::vault::VaultError;
use consilium_protocol::algebra::prg::Seed;
use std::os::unix::fs::PermissionsExt;

pub(super) fn images(count: usize) -> Images {
    let table = digits();
    let pixels = table.inputs[..count * 64].iter().map(|cell| cell / DIGITS_DEPTH).collect();
    Images::new(8, pixels, table.labels[..count].to_vec()).unwrap()
}

pub(super) fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 16])
}

fn shape(private_depth: usize) -> EncoderShape {
    EncoderShape { side: 8, patch: 2, width: 128, private_depth }
}

const PUBLISHED: Making = Making { statistics: Statistics::Batch, batch: 64 };
const FOLDED: Making = Making { statistics: Statistics::Running, batch: 7 };

fn encoded(private_depth: usize, count: usize, making: Making) -> Encoded {
    let key = EncoderKey::draw(shape(private_depth), &seed(1)).unwrap();
    encode(&key, &images(count), making, &seed(2), &mut |_, _| ()).unwrap()
}

/// Encodings in the order of their images, patches in the order of positions.
fn in_order(encoded: &Encoded) -> Vec<Vec<f32>> {
    let (shape, truth) = (encoded.encodings.shape(), &encoded.truth);
    let mut images = vec![vec![0.0; shape.values()]; encoded.encodings.count()];
    for (at, encoding) in encoded.encodings.values().chunks_exact(shape.values()).enumerate() {
        for (patch, position) in encoding.chunks_exact(shape.width).zip(&truth.patches()[at]) {
            images[truth.images()[at]][position * shape.width..][..shape.width].copy_from_slice(patch);
        }
    }
    images
}

fn furthest(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

#[test]
fn an_encoding_depends_on_its_batch_unless_the_normalisation_is_fixed() {
    let mut key = EncoderKey::draw(shape(4), &seed(1)).unwrap();
    key.calibrate(&images(100)).unwrap();
    let beside = |count, statistics| {
        let making = Making { statistics, batch: count };
        in_order(&encode(&key, &images(count), making, &seed(2), &mut |_, _| ()).unwrap())[0].clone()
    };
    let apart = |statistics| furthest(&beside(20, statistics), &beside(40, statistics));
    assert!(apart(Statistics::Batch) > 1e-2, "{}", apart(Statistics::Batch));
    assert!(apart(Statistics::Running) < 1e-5, "{}", apart(Statistics::Running));
    // Statistics of the very batch make no difference.
    let all = |statistics| {
        in_order(
            &encode(&key, &images(100), Making { statistics, batch: 100 }, &seed(2), &mut |_, _| ()).unwrap(),
        )
    };
    let pairs = all(Statistics::Batch).into_iter().zip(all(Statistics::Running));
    assert!(pairs.map(|(batch, fixed)| furthest(&batch, &fixed)).all(|apart| apart < 1e-4));
}

#[test]
fn the_attack_finds_most_images_and_the_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encodings");
    for (private_depth, making, least) in [(0, PUBLISHED, 0.95), (0, FOLDED, 0.95), (4, PUBLISHED, 0.5)] {
        let made = encoded(private_depth, 150, making);
        let (measured, truth) = measure(made, &images(150), &seed(3), &mut |_, _| ()).unwrap();
        let figure = measured.figure();
        assert_eq!((figure.images, figure.own_encoders, truth.images().len()), (150, 5, 150));
        assert!(figure.shuffle_undone >= 0.99, "{figure}");
        assert!(figure.last().unwrap().share >= least, "{figure}");
        write_encodings(&path, &measured).unwrap();
        assert_eq!(&read_encodings(&path).unwrap(), &measured);
    }
}

/// A clone that did not learn the encoder would match at random.
#[test]
fn a_clone_matches_by_what_it_learnt_from_the_surest_half() {
    let made = encoded(4, 120, PUBLISHED);
    let recipe = CloneRecipe { steps: 80, batch: 24, learning_rate: 2e-3 };
    let clone = Some(CloneSetting { from: Stage::Images, recipe });
    let setting = AttackSetting { clone, own_encoders: 1, seed: seed(5) };
    let mut heard = 0;
    let told = attempt(&made.encodings, &made.truth, &images(120), &setting, &mut |_, _| heard += 1).unwrap();
    let [by_images, _, by_clone] = told.found.as_slice() else { panic!("{told:?}") };
    assert_eq!((by_images.stage, by_clone.stage), (Stage::Images, Stage::Clone));
    assert!(by_clone.share >= by_images.share.max(0.9), "{told:?}");
    assert!(heard > 80, "{heard}");
    let senseless = Some(CloneSetting { from: Stage::Clone, recipe });
    let refused =
        attack(&made.encodings, &images(120), &AttackSetting { clone: senseless, ..setting }, &mut |_, _| ());
    assert!(matches!(refused, Err(LabError::Unfit(_))));
}

/// What is attacked with other images is found no more often than by chance.
#[test]
fn candidates_that_are_others_are_not_found() {
    let made = encoded(0, 150, PUBLISHED);
    let others: Vec<usize> = (150..300).collect();
    let found =
        attack(&made.encodings, &images(300).select(&others), &AttackSetting::default(), &mut |_, _| ())
            .unwrap();
    let told = figure(&found, made.truth.images(), made.truth.patches(), "2026-01-31".into());
    assert!(told.last().unwrap().share < 0.06, "{told}");
}

#[test]
fn labels_go_with_their_images() {
    let made = encoded(0, 40, PUBLISHED);
    let labels: Vec<u8> = made.truth.images().iter().map(|place| images(40).labels()[*place]).collect();
    assert_eq!(made.encodings.labels(), labels);
    assert_ne!(labels, images(40).labels(), "the order is random");
}

#[test]
fn no_file_is_without_the_figure_of_an_attack() {
    let few = encoded(0, MEASURED_IMAGES_MIN - 1, PUBLISHED);
    let refused = measure(few, &images(MEASURED_IMAGES_MIN - 1), &seed(3), &mut |_, _| ()).unwrap_err();
    assert!(refused.to_string().contains("no encoding is written"), "{refused}");
}

const FIGURE: &str = r#"{"found":[{"stage":"images","share":0.5}],"shuffle_undone":1,"images":20,"encodings":20,
    "chance":0.05,"own_encoders":5,"date":"2026-01-31"}"#;

/// What a file of 20 encodings says.
fn notes() -> file::Notes {
    [
        ("shape", file::note(&shape(0))),
        ("normalised", "\"batch\"".into()),
        ("labelled", "false".into()),
        ("warning", NOT_CONFIDENTIAL.into()),
        ("attack", FIGURE.into()),
    ]
    .map(|(name, note): (&str, String)| (name.to_owned(), note))
    .into()
}

/// What all who read a file say of one by another hand.
fn read_as(notes: file::Notes, entries: &[file::Entry]) -> [std::result::Result<Figure, String>; 3] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encodings");
    file::write(&path, "set of encodings", notes, entries).unwrap();
    [
        read_encodings(&path).map(|measured| measured.figure().clone()),
        check_encodings(&path).map(|(_, figure)| figure),
        read_summary(&path).map(|(_, figure)| figure),
    ]
    .map(|told| told.map_err(|error| error.to_string().replace(&path.display().to_string(), "")))
}

fn entry(name: &str, values: &[f32]) -> file::Entry {
    file::Entry::floats(name, &[20, 16, 128], values)
}

/// Whole, but without something that a file must say, or with something else.
#[test]
fn no_file_is_read_without_the_figure_or_the_warning() {
    let values = encoded(0, 20, PUBLISHED).encodings.values().to_vec();
    assert!(read_as(notes(), &[entry("encodings", &values)]).iter().all(std::result::Result::is_ok));
    let without = |name: &str| {
        let mut notes = notes();
        notes.remove(name);
        notes
    };
    let with = |name: &str, note: &str| {
        let mut notes = notes();
        notes.insert(name.to_owned(), note.to_owned());
        notes
    };
    let nothing = FIGURE.replace(r#"[{"stage":"images","share":0.5}]"#, "[]");
    let obeyed = FIGURE.replace("2026-01-31", r"2026\u001b[2J-");
    let other = FIGURE.replace("\"chance\"", r#""\u001b[2J":1,"chance""#);
    for (notes, words) in [
        (without("attack"), "no note `attack`"),
        (without("warning"), "no note `warning`"),
        (with("warning", "confidential"), "does not say"),
        (with("patient", "x"), "note `patient`"),
        (with("attack", &nothing), "makes no sense"),
        (with("attack", &obeyed), "no day"),
        (with("attack", &other), "unknown field"),
    ] {
        for told in read_as(notes, &[entry("encodings", &values)]) {
            let told = told.unwrap_err();
            assert!(told.contains(words) && !told.contains('\u{1b}'), "{words:?} is not in {told:?}");
        }
    }
}

#[test]
fn a_file_has_the_tensors_that_it_must_have_and_no_others() {
    let mut values = encoded(0, 20, PUBLISHED).encodings.values().to_vec();
    let small = file::Entry::bytes("encodings", &[20, 16, 128], &vec![0; values.len()]);
    for (entries, words) in [
        (vec![entry("encodings", &values), entry("key", &values)], "a tensor key"),
        (vec![entry("other", &values)], "no tensor encodings"),
        (vec![small], "F32 [20, 16, 128] is needed"),
    ] {
        for told in read_as(notes(), &entries) {
            let told = told.unwrap_err();
            assert!(told.contains(words), "{words:?} is not in {told:?}");
        }
    }
    *values.last_mut().unwrap() = f32::NAN;
    let [read, checked, summary] = read_as(notes(), &[entry("encodings", &values)]);
    assert!(summary.is_ok(), "who looks at the heading alone sees no value");
    assert!(
        [read, checked].iter().all(|told| told.as_ref().is_err_and(|told| told.contains("not a finite")))
    );
}

#[test]
fn a_heading_has_the_same_bound_for_who_writes_reads_and_lists_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encodings");
    let (measured, _) = measure(encoded(0, 20, PUBLISHED), &images(20), &seed(3), &mut |_, _| ()).unwrap();
    write_encodings(&path, &measured).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap());
    let padded = |spaces: usize| {
        let mut bytes = (length + spaces as u64).to_le_bytes().to_vec();
        bytes.extend(&whole[8..8 + length as usize]);
        bytes.extend(std::iter::repeat_n(b' ', spaces));
        bytes.extend(&whole[8 + length as usize..]);
        std::fs::write(&path, bytes).unwrap();
        (read_encodings(&path).map(drop), check_encodings(&path).map(drop), read_summary(&path).map(drop))
    };
    let (Ok(()), Ok(()), Ok(())) = padded((1 << 20) - length as usize) else { panic!("1 MiB is within") };
    let (Err(read), Err(checked), Err(summary)) = padded((1 << 20) - length as usize + 1) else {
        panic!("more is not")
    };
    for told in [read, checked, summary] {
        assert!(told.to_string().contains("its heading has 1048577 bytes, at most 1048576"), "{told}");
    }
    // Bytes behind the tensors, or too few of them.
    for bytes in [[&whole[..], &[0]].concat(), whole[..whole.len() - 4].to_vec()] {
        std::fs::write(&path, bytes).unwrap();
        assert!(read_summary(&path).unwrap_err().to_string().contains("its heading says"));
    }
    let notes = file::Notes::from([("long".to_owned(), "x".repeat(1 << 20))]);
    let refused = file::write(&folder.path().join("other"), "set of encodings", notes, &[]).unwrap_err();
    assert!(refused.to_string().contains("at most 1048576"), "{refused}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn other_files_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "precious").unwrap();
    let (measured, truth) =
        measure(encoded(0, 20, PUBLISHED), &images(20), &seed(3), &mut |_, _| ()).unwrap();
    assert!(matches!(write_encodings(&path, &measured), Err(LabError::File { .. })));
    assert!(matches!(write_truth(&path, &truth), Err(LabError::Exists { .. })));
    let path = folder.path().join("truth");
    write_truth(&path, &truth).unwrap();
    assert_eq!(read_truth(&path).unwrap(), truth);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(read_truth(&path), Err(LabError::Vault(VaultError::Exposed { mode: 0o640, .. }))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let encodings = measured.encodings();
    truth.fit(encodings, &images(20)).unwrap();
    assert!(truth.fit(&encodings.head(19), &images(20)).is_err());
    let turned: Vec<usize> = (0..20).rev().collect();
    assert!(truth.fit(encodings, &images(20).select(&turned)).is_err());
    for (orders, patches) in [("[0]", "[]"), ("[1]", "[[0]]"), ("[0]", "[[0,0]]"), ("[0,0]", "[[0],[0]]")] {
        let text = format!(r#"{{"version":1,"digest":"","images":{orders},"patches":{patches}}}"#);
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read_truth(&path), Err(LabError::File { .. })), "{orders} {patches}");
    }
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let key = EncoderKey::draw(EncoderShape { side: 28, patch: 4, ..shape(0) }, &seed(1)).unwrap();
    assert!(matches!(
        encode(&key, &images(20), PUBLISHED, &seed(2), &mut |_, _| ()),
        Err(LabError::Images { .. })
    ));
    let made = encoded(0, 20, PUBLISHED);
    let refused =
        attack(&made.encodings, &images(19), &AttackSetting::default(), &mut |_, _| ()).unwrap_err();
    assert!(refused.to_string().contains("19 candidates for 20 encodings"), "{refused}");
}

/// An encoder, images and encodings from `tests/fixtures/neuracrypt_numpy.py`.
#[test]
fn the_encoder_is_that_of_the_paper_in_numpy() {
    let bytes = include_bytes!("../../../tests/fixtures/neuracrypt_numpy.safetensors");
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let (words, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let linear = |name: &str| crate::training::Linear {
        weight: floats(&format!("{name}.weight")),
        bias: floats(&format!("{name}.bias")),
    };
    let norm = |at: usize| crate::training::Norm {
        weight: floats(&format!("norm.{at}.weight")),
        bias: floats(&format!("norm.{at}.bias")),
        mean: floats(&format!("norm.{at}.running_mean")),
        variance: floats(&format!("norm.{at}.running_var")),
    };
    let mixes = (0..4).map(|at| (linear(&format!("mix.{at}")), norm(at))).collect();
    let parts = crate::training::EncoderParts {
        patch: linear("patch"),
        mixes,
        position: floats("position"),
        out: linear("out"),
    };
    let key = EncoderKey::from_parts(EncoderShape { side: 28, patch: 4, width: 8, private_depth: 4 }, parts)
        .unwrap();
    let images = Images::new(28, floats("images"), Vec::new()).unwrap();
    for (statistics, name) in
        [(Statistics::Batch, "encodings.batch"), (Statistics::Running, "encodings.folded")]
    {
        let made = encode(&key, &images, Making { statistics, batch: 3 }, &seed(1), &mut |_, _| ()).unwrap();
        let found = in_order(&made).concat();
        assert!(furthest(&found, &floats(name)) < 1e-4, "{name}: {}", furthest(&found, &floats(name)));
        assert_eq!(found.len(), 3 * 49 * 8);
    }
}
