//! The data sets: images scaled to `[0, 1]`, tables as the baselines' networks read them.

use super::{DataError, files, idx};
use consilium::training::Examples;
use consilium_protocol::graph::Shape;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most rows of a table, and most features.
const ROWS_MAX: usize = 1 << 20;
const FEATURES_MAX: usize = 1 << 10;

/// A data set by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    /// Handwritten digits, 28 x 28.
    Mnist,
    /// Garments, 28 x 28.
    FashionMnist,
    /// Chest X-rays, 28 x 28: normal or pneumonia. The validation images are left out.
    PneumoniaMnist,
    /// Heart disease from four hospitals, 15 standardised features.
    Heart,
    /// Readmission of diabetes patients, 59 standardised features.
    Diabetes,
    /// Breast cancer, 30 standardised features.
    Wdbc,
}

impl Set {
    /// All sets, images first.
    pub const ALL: [Self; 6] =
        [Self::Mnist, Self::FashionMnist, Self::PneumoniaMnist, Self::Heart, Self::Diabetes, Self::Wdbc];

    /// The name in file names and in the baselines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::PneumoniaMnist => "pneumonia-mnist",
            Self::Heart => "heart",
            Self::Diabetes => "diabetes",
            Self::Wdbc => "wdbc",
        }
    }

    /// Names of the classes; a label is a position here.
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Mnist => &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Self::FashionMnist => &[
                "t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                "boot",
            ],
            Self::PneumoniaMnist => &["normal", "pneumonia"],
            Self::Heart => &["no disease", "disease"],
            Self::Diabetes => &["not readmitted", "readmitted"],
            Self::Wdbc => &["benign", "malignant"],
        }
    }

    fn test_prefix(self) -> Option<&'static str> {
        match self {
            Self::Mnist | Self::FashionMnist => Some("t10k"),
            Self::PneumoniaMnist => Some("test"),
            Self::Heart | Self::Diabetes | Self::Wdbc => None,
        }
    }
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name, as [`Set::name`].
    pub name: String,
    /// Shape of one row.
    pub shape: Shape,
    /// Names of the classes; a label is a position here.
    pub classes: Vec<String>,
    /// Rows to train on.
    pub train: Examples,
    /// Rows to test on, in the order of the baselines' votes.
    pub test: Examples,
    /// The hospital of each training row, where the data come from several; counts from 0.
    pub sites: Option<Vec<u8>>,
}

impl Dataset {
    /// The training rows of each site, in the order of sites; `None` where the set has no sites.
    ///
    /// # Errors
    /// A site without rows.
    pub fn by_site(&self) -> Option<Result<Vec<Examples>, consilium::training::ExamplesError>> {
        let sites = self.sites.as_ref()?;
        let last = sites.iter().copied().max()?;
        let rows =
            |site| sites.iter().enumerate().filter(move |(_, found)| **found == site).map(|(row, _)| row);
        Some((0..=last).map(|site| self.train.select(&rows(site).collect::<Vec<_>>())).collect())
    }
}

/// Loads a data set; `shared` is what [`shared_dir`](super::shared_dir) gives. MNIST takes 220 MB of memory.
///
/// # Errors
/// [`DataError`] names the file at fault.
pub fn load(set: Set, shared: &Path) -> Result<Dataset, DataError> {
    let data = shared.join("data");
    match set.test_prefix() {
        Some(prefix) => images(set, &data.join(set.name()), prefix),
        None => table(set, &data.join("baselines/features")),
    }
}

/// The file of test rows; `shared` is what [`shared_dir`](super::shared_dir) gives.
pub fn test_path(set: Set, shared: &Path) -> PathBuf {
    let data = shared.join("data");
    match set.test_prefix() {
        Some(prefix) => data.join(set.name()).join(format!("{prefix}-images-idx3-ubyte.gz")),
        None => data.join("baselines/features").join(format!("{}.x.f32.gz", set.name())),
    }
}

/// The test rows of a data set alone, and the shape of a row.
///
/// # Errors
/// [`DataError`] names the file at fault.
pub fn load_test(set: Set, shared: &Path) -> Result<(Shape, Examples), DataError> {
    match set.test_prefix() {
        Some(prefix) => labelled_images(set, &shared.join("data").join(set.name()), prefix),
        None => load(set, shared).map(|data| (data.shape, data.test)),
    }
}

fn dataset(set: Set, shape: Shape, train: Examples, test: Examples, sites: Option<Vec<u8>>) -> Dataset {
    let classes = set.classes().iter().map(ToString::to_string).collect();
    Dataset { name: set.name().to_owned(), shape, classes, train, test, sites }
}

fn images(set: Set, folder: &Path, test_prefix: &str) -> Result<Dataset, DataError> {
    let (shape, train) = labelled_images(set, folder, "train")?;
    let (test_shape, test) = labelled_images(set, folder, test_prefix)?;
    if shape != test_shape {
        let path = folder.join(format!("{test_prefix}-images-idx3-ubyte.gz"));
        return Err(DataError::Length { path, expected: shape.len(), found: test_shape.len() });
    }
    Ok(dataset(set, shape, train, test, None))
}

fn labelled_images(set: Set, folder: &Path, prefix: &str) -> Result<(Shape, Examples), DataError> {
    let path = folder.join(format!("{prefix}-images-idx3-ubyte.gz"));
    let images = idx::read::<3>(&path)?;
    let label_path = folder.join(format!("{prefix}-labels-idx1-ubyte.gz"));
    let labels = idx::read::<1>(&label_path)?.values;
    files::check_classes(&label_path, &labels, set.classes().len())?;
    let [_, height, width] = images.sizes.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
    let shape = Shape { channels: 1, height, width };
    let inputs = images.values.iter().map(|&grey| f32::from(grey) / 255.0).collect();
    let examples = Examples::new(shape.len(), inputs, labels);
    Ok((shape, examples.map_err(|source| DataError::Examples { path, source })?))
}

#[derive(Deserialize)]
struct Manifest {
    tables: BTreeMap<String, Sizes>,
}

#[derive(Clone, Copy, Deserialize)]
struct Sizes {
    rows: usize,
    train_rows: usize,
    features: usize,
}

fn table(set: Set, folder: &Path) -> Result<Dataset, DataError> {
    let name = set.name();
    let path = folder.join("manifest.json");
    let manifest: Manifest = files::manifest(&path)?;
    let missing = || DataError::NoSuchEntry { path: path.clone(), name: name.to_owned() };
    let Sizes { rows, train_rows, features } = *manifest.tables.get(name).ok_or_else(missing)?;
    if !(1..=ROWS_MAX).contains(&rows) || train_rows > rows || !(1..=FEATURES_MAX).contains(&features) {
        return Err(DataError::Sizes { path, name: name.to_owned() });
    }
    let input_path = folder.join(format!("{name}.x.f32.gz"));
    let label_path = folder.join(format!("{name}.y.u8.gz"));
    let mut train_inputs = files::unpack_floats(&input_path, rows * features)?;
    let mut train_labels = files::unpack_exact(&label_path, rows)?;
    files::check_classes(&label_path, &train_labels, set.classes().len())?;
    let test_inputs = train_inputs.split_off(train_rows * features);
    let test_labels = train_labels.split_off(train_rows);
    let examples = |inputs, labels| {
        let made = Examples::new(features, inputs, labels);
        made.map_err(|source| DataError::Examples { path: input_path.clone(), source })
    };
    let (train, test) = (examples(train_inputs, train_labels)?, examples(test_inputs, test_labels)?);
    let sites = match set {
        Set::Heart => {
            let mut sites = files::unpack_exact(&folder.join(format!("{name}.site.u8.gz")), rows)?;
            sites.truncate(train_rows);
            Some(sites)
        }
        _ => None,
    };
    let shape = Shape { channels: u32::try_from(features).unwrap_or(u32::MAX), height: 1, width: 1 };
    Ok(dataset(set, shape, train, test, sites))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shared_or_skip;

    #[test]
    fn every_set_has_the_published_sizes() {
        let Some(shared) = shared_or_skip("sizes of the data sets") else { return };
        for (set, train, test, features, positive) in [
            (Set::Mnist, 60_000, 10_000, 784, 6_742),
            (Set::FashionMnist, 60_000, 10_000, 784, 6_000),
            (Set::PneumoniaMnist, 4_708, 624, 784, 3_494),
            (Set::Heart, 736, 184, 15, 416),
            (Set::Diabetes, 59_973, 10_000, 59, 24_402),
            (Set::Wdbc, 455, 114, 30, 167),
        ] {
            let data = load(set, &shared).unwrap();
            assert_eq!((data.train.rows(), data.test.rows()), (train, test), "{}", data.name);
            assert_eq!((data.shape.len(), data.train.features()), (features, features));
            let ones = data.train.labels().iter().filter(|&&label| label == 1).count();
            assert_eq!(ones, positive, "{}", data.name);
            if set.test_prefix().is_some() {
                assert!(data.test.inputs().iter().all(|grey| (0.0..=1.0).contains(grey)));
                assert!(data.test.inputs().iter().any(|&grey| grey > 0.9));
            }
        }
    }

    #[test]
    fn heart_splits_into_its_four_hospitals() {
        let Some(shared) = shared_or_skip("the four hospitals of the heart data") else { return };
        let heart = load(Set::Heart, &shared).unwrap();
        let parts = heart.by_site().unwrap().unwrap();
        assert_eq!(parts.iter().map(Examples::rows).collect::<Vec<_>>(), [242, 234, 100, 160]);
        assert!(load(Set::Wdbc, &shared).unwrap().by_site().is_none());
    }

    #[test]
    fn a_manifest_of_impossible_sizes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |text: &str| {
            std::fs::write(folder.path().join("manifest.json"), text).unwrap();
            table(Set::Wdbc, folder.path()).unwrap_err()
        };
        assert!(matches!(manifest("{}"), DataError::Manifest { .. }));
        assert!(matches!(manifest(r#"{"tables":{}}"#), DataError::NoSuchEntry { .. }));
        for sizes in [(0, 0, 3), (9, 10, 3), (9, 5, 0), (usize::MAX, 5, 3), (9, 5, usize::MAX)] {
            let (rows, train_rows, features) = sizes;
            let entry = format!(r#""rows":{rows},"train_rows":{train_rows},"features":{features}"#);
            let error = manifest(&format!(r#"{{"tables":{{"wdbc":{{{entry}}}}}}}"#));
            assert!(matches!(error, DataError::Sizes { .. }), "{sizes:?}: {error}");
        }
    }
}
