//! What the encodings were for: one classifier trained on the encodings of several hospitals with keys of their own.

use super::attack::Figure;
use super::encodings::{Encodings, shuffled};
use super::fault::LabError;
use super::file::{Entry, Notes, note, write};
use super::images::Images;
use super::shape::EncoderShape;
use super::{Heard, NOT_CONFIDENTIAL};
use crate::training::{Examples, TokenClassifier, TokenRecipe, TrainError, train_tokens};
use consilium_protocol::algebra::prg::Seed;
use serde::Serialize;
use std::path::Path;

const KIND: &str = "classifier";

/// Labelled rows to train on, and others to test with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// To train on.
    pub train: Examples,
    /// To test with.
    pub test: Examples,
}

impl Parts {
    /// Sets aside a share of the rows, chosen by a seed.
    ///
    /// # Errors
    /// [`LabError::Unfit`] where one of both would be empty.
    pub fn split(rows: &Examples, held_out: f64, seed: u64) -> Result<Self, LabError> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let order = shuffled(rows.rows(), &Seed::from_bytes(bytes));
        let test = (held_out * rows.rows() as f64).round() as usize;
        if test == 0 || test >= rows.rows() {
            return Err(LabError::Unfit(format!(
                "a share of {held_out} of {} rows leaves none to test or to train",
                rows.rows()
            )));
        }
        let select =
            |places: &[usize]| rows.select(places).map_err(|error| LabError::Unfit(error.to_string()));
        Ok(Self { test: select(&order[..test])?, train: select(&order[test..])? })
    }
}

/// Encodings as rows of tokens.
///
/// # Errors
/// [`LabError::Unfit`] where they have no labels.
pub fn encoded_rows(encodings: &Encodings) -> Result<Examples, LabError> {
    rows(encodings.shape().values(), encodings.values().to_vec(), encodings.labels())
}

/// Plain images as rows of patches.
///
/// # Errors
/// As [`encoded_rows`], or images of another size.
pub fn plain_rows(images: &Images, shape: EncoderShape) -> Result<Examples, LabError> {
    images.fit(shape)?;
    rows(shape.pixels(), images.patches(shape, 0..images.count()), images.labels())
}

fn rows(values: usize, inputs: Vec<f32>, labels: &[u8]) -> Result<Examples, LabError> {
    if labels.is_empty() {
        return Err(LabError::Unfit("there are no labels to train with; encode with --labels".to_owned()));
    }
    Examples::new(values, inputs, labels.to_vec()).map_err(|error| LabError::Unfit(error.to_string()))
}

/// Rows of several, one behind the other.
///
/// # Errors
/// [`LabError::Unfit`] where there are none, or of different lengths.
pub fn together<'a>(parts: impl IntoIterator<Item = &'a Examples>) -> Result<Examples, LabError> {
    let parts: Vec<&Examples> = parts.into_iter().collect();
    let features = parts.first().map_or(0, |first| first.features());
    if parts.iter().any(|part| part.features() != features) {
        return Err(LabError::Unfit("rows of different lengths cannot be trained on together".to_owned()));
    }
    let inputs = parts.iter().flat_map(|part| part.inputs()).copied().collect();
    let labels = parts.iter().flat_map(|part| part.labels()).copied().collect();
    Examples::new(features, inputs, labels).map_err(|error| LabError::Unfit(error.to_string()))
}

/// How good beliefs in classes are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Share of rows whose most believed class is right.
    pub accuracy: f64,
    /// The same with every class weighing as much.
    pub balanced: f64,
    /// Area under the ROC curve, the mean over classes against the others.
    pub auc: f64,
}

impl Quality {
    /// Of beliefs `rows x classes`. A label that is none of the classes is never right.
    pub fn of(beliefs: &[f32], labels: &[u8], classes: usize) -> Self {
        let rows = || beliefs.chunks_exact(classes.max(1)).zip(labels);
        let (mut right, mut all) = (vec![0usize; classes], vec![0usize; classes]);
        for (row, label) in rows() {
            let best = (0..classes).reduce(|best, class| if row[class] > row[best] { class } else { best });
            let class = usize::from(*label);
            if class < classes {
                all[class] += 1;
                right[class] += usize::from(best == Some(class));
            }
        }
        let present: Vec<usize> = (0..classes).filter(|class| all[*class] > 0).collect();
        let mean = |value: &dyn Fn(usize) -> f64| {
            present.iter().map(|class| value(*class)).sum::<f64>() / present.len().max(1) as f64
        };
        let auc = |class: usize| {
            let score = |wanted: bool| -> Vec<f32> {
                rows()
                    .filter(|(_, label)| (usize::from(**label) == class) == wanted)
                    .map(|(row, _)| row[class])
                    .collect()
            };
            area(&score(true), &score(false))
        };
        Self {
            accuracy: right.iter().sum::<usize>() as f64 / labels.len().max(1) as f64,
            balanced: mean(&|class| right[class] as f64 / all[class] as f64),
            auc: mean(&auc),
        }
    }
}

/// The chance that one of `inside` is larger than one of `outside`; half where they are equal.
fn area(inside: &[f32], outside: &[f32]) -> f64 {
    let mut sorted = outside.to_vec();
    sorted.sort_by(f32::total_cmp);
    let below = |score: &f32| {
        let (less, not_more) =
            (sorted.partition_point(|other| other < score), sorted.partition_point(|other| other <= score));
        (less + not_more) as f64 / 2.0
    };
    let pairs = inside.len() * outside.len();
    if pairs == 0 { 0.5 } else { inside.iter().map(below).sum::<f64>() / pairs as f64 }
}

/// The usual sizes for tokens of this shape, two classes or more, with a front of its own for plain patches.
pub fn token_recipe(shape: EncoderShape, classes: usize, plain: bool) -> TokenRecipe {
    TokenRecipe {
        tokens: shape.positions(),
        classes,
        dim: 64,
        heads: 4,
        hidden: 128,
        front: plain.then_some(shape.width),
        epochs: 15,
        batch: 64,
        learning_rate: 1e-3,
        weight_decay: 1e-3,
    }
}

/// Trains on rows and says how good the classifier is on others.
///
/// # Errors
/// A training that failed, or a label that is none of the recipe's classes.
pub fn try_classifier(
    parts: &Parts,
    recipe: &TokenRecipe,
    seed: u64,
    heard: Heard<'_>,
) -> Result<(TokenClassifier, Quality), LabError> {
    // Before the training, which takes long.
    fits_classes(&parts.test, recipe.classes)?;
    let classifier = train_tokens(&parts.train, recipe, seed, heard)?;
    let quality = quality(&classifier, &parts.test)?;
    Ok((classifier, quality))
}

/// How good a classifier is on labelled rows.
///
/// # Errors
/// Rows of another length, or a label that is none of its classes.
pub fn quality(classifier: &TokenClassifier, rows: &Examples) -> Result<Quality, LabError> {
    let classes = classifier.recipe().classes;
    fits_classes(rows, classes)?;
    Ok(Quality::of(&classifier.beliefs(rows)?, rows.labels(), classes))
}

fn fits_classes(rows: &Examples, classes: usize) -> Result<(), LabError> {
    match rows.labels().iter().find(|label| usize::from(**label) >= classes) {
        Some(&label) => Err(TrainError::Label { label, classes }.into()),
        None => Ok(()),
    }
}

/// Writes a classifier, readable by its owner alone, in place of an older one. `figures` say how easily the encodings are
/// found that it was trained on, file by file.
///
/// # Errors
/// The disk's, or something else stands there.
pub fn write_classifier(
    path: &Path,
    classifier: &TokenClassifier,
    figures: &[Figure],
) -> Result<(), LabError> {
    let weights = classifier.weights()?;
    let entries: Vec<Entry> =
        weights.iter().map(|(name, dimensions, values)| Entry::floats(*name, dimensions, values)).collect();
    let notes = [
        ("recipe", note(classifier.recipe())),
        ("attacks", note(&figures)),
        ("warning", NOT_CONFIDENTIAL.to_owned()),
    ];
    write(path, KIND, Notes::from(notes.map(|(name, note)| (name.to_owned(), note))), &entries)
}

/// Mean and sample standard deviation.
pub fn spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count.max(1.0);
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{images, seed};
    use super::super::{EncoderKey, Making, encode};
    use super::*;
    use crate::training::Statistics;

    #[test]
    fn quality_counts_classes_equally() {
        let beliefs = [0.9, 0.1, 0.8, 0.2, 0.6, 0.4, 0.7, 0.3];
        let quality = Quality::of(&beliefs, &[0, 0, 1, 0], 2);
        assert_eq!((quality.accuracy, quality.balanced, quality.auc), (0.75, 0.5, 1.0));
        assert_eq!(area(&[1.0, 1.0], &[1.0]), 0.5);
        assert_eq!(spread([1.0, 3.0].into_iter()), (2.0, 2f64.sqrt()));
    }

    #[test]
    fn two_hospitals_with_keys_of_their_own_train_one_classifier() {
        let shape = EncoderShape { side: 8, patch: 2, width: 64, private_depth: 1 };
        let all = images(400);
        let making = Making { statistics: Statistics::Batch, batch: 64 };
        let parts: Vec<Parts> = (0..2)
            .map(|hospital| {
                let own = all.select(&(0..200).map(|at| 2 * at + hospital).collect::<Vec<_>>());
                let key = EncoderKey::draw(shape, &seed(hospital as u8)).unwrap();
                let made = encode(&key, &own, making, &seed(9), &mut |_, _| ()).unwrap();
                Parts::split(&encoded_rows(&made.encodings).unwrap(), 0.25, 1).unwrap()
            })
            .collect();
        let joint = Parts {
            train: together(parts.iter().map(|part| &part.train)).unwrap(),
            test: together(parts.iter().map(|part| &part.test)).unwrap(),
        };
        assert_eq!((joint.train.rows(), joint.test.rows()), (300, 100));
        let recipe = TokenRecipe { epochs: 12, learning_rate: 3e-3, ..token_recipe(shape, 10, false) };
        let (classifier, quality) = try_classifier(&joint, &recipe, 1, &mut |_, _| ()).unwrap();
        assert!(quality.accuracy > 0.4 && quality.auc > 0.8, "{quality:?}");
        let plain = Parts::split(&plain_rows(&all, shape).unwrap(), 0.25, 1).unwrap();
        let recipe = TokenRecipe { front: Some(64), ..recipe };
        let (_, beside) = try_classifier(&plain, &recipe, 1, &mut |_, _| ()).unwrap();
        assert!(beside.accuracy > 0.5, "{beside:?}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        write_classifier(&path, &classifier, &[]).unwrap();
        let written = super::super::file::open(&path, KIND).unwrap();
        assert_eq!(written.note("attacks").unwrap(), "[]");
        assert_eq!(written.note("warning").unwrap(), NOT_CONFIDENTIAL);
    }

    #[test]
    fn rows_without_labels_or_of_other_lengths_are_refused() {
        let shape = EncoderShape { side: 8, patch: 2, width: 4, private_depth: 0 };
        let unlabelled = Images::new(8, vec![0.5; 64], Vec::new()).unwrap();
        assert!(matches!(plain_rows(&unlabelled, shape), Err(LabError::Unfit(_))));
        let rows = |features: usize| Examples::new(features, vec![0.0; features], vec![0]).unwrap();
        assert!(together([&rows(1), &rows(2)]).is_err());
        assert!(Parts::split(&rows(1), 0.5, 1).is_err());
    }

    #[test]
    fn a_label_that_is_none_of_the_classes_is_an_error() {
        let shape = EncoderShape { side: 8, patch: 2, width: 4, private_depth: 0 };
        let rows = |labels: &[u8]| {
            let inputs = vec![0.5; labels.len() * shape.values()];
            Examples::new(shape.values(), inputs, labels.to_vec()).unwrap()
        };
        let recipe = TokenRecipe { epochs: 1, ..token_recipe(shape, 2, false) };
        let tried = |train: &[u8], test: &[u8]| {
            let parts = Parts { train: rows(train), test: rows(test) };
            try_classifier(&parts, &recipe, 1, &mut |_, _| ())
        };
        let refused = |told: Result<_, LabError>| {
            matches!(told, Err(LabError::Train(TrainError::Label { label: 2, classes: 2 })))
        };
        let (classifier, _) = tried(&[0, 1, 0], &[1]).unwrap();
        assert!(refused(tried(&[0, 1, 0], &[1, 2]).map(drop)) && refused(tried(&[0, 2], &[1]).map(drop)));
        assert!(refused(quality(&classifier, &rows(&[2])).map(drop)));
        let of = Quality::of(&[0.9, 0.1, 0.9, 0.1], &[0, 2], 2);
        assert_eq!((of.accuracy, of.balanced), (0.5, 1.0));
    }
}
