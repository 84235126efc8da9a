//! Votes and trained owner networks of the published baselines.

use super::{DataError, files};
use consilium_protocol::graph::{Layer, Network, Shape};
use consilium_protocol::model::{Model, Weights};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const OWNERS_MAX: usize = 1 << 10;
const ROWS_MAX: usize = 1 << 20;
const CLASSES_MAX: usize = 256;
const LAYERS_MAX: usize = 16;
/// Most values of one file of weights.
const WEIGHTS_MAX: usize = 1 << 25;

/// The class that every owner of an ensemble chose for every test row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensemble {
    /// `SET_SPLIT_Nowners`.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// One list per owner, one class per test row.
    pub votes: Vec<Vec<u8>>,
    /// The true class of each test row.
    pub labels: Vec<u8>,
}

impl Ensemble {
    /// Votes per class for one test row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn histogram(&self, row: usize) -> Vec<u32> {
        let mut counts = vec![0; self.classes];
        self.votes.iter().for_each(|votes| counts[usize::from(votes[row])] += 1);
        counts
    }

    /// The class with most votes for one test row, the lowest of equals.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn majority(&self, row: usize) -> u8 {
        let counts = (0..=u8::MAX).zip(self.histogram(row));
        counts.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(0, |(class, _)| class)
    }
}

#[derive(Deserialize)]
struct VoteManifest {
    ensembles: BTreeMap<String, VoteSizes>,
}

#[derive(Clone, Copy, Deserialize)]
struct VoteSizes {
    owners: usize,
    test_n: usize,
    classes: usize,
}

#[derive(Deserialize)]
struct ModelManifest {
    models: BTreeMap<String, ModelSizes>,
}

#[derive(Clone, Deserialize)]
struct ModelSizes {
    layers: Vec<u32>,
    owners: usize,
    params_per_owner: usize,
}

fn folder(shared: &Path, name: &str) -> PathBuf {
    shared.join("data/baselines").join(name)
}

fn entry<T: Clone>(entries: &BTreeMap<String, T>, path: &Path, name: &str) -> Result<T, DataError> {
    let missing = || DataError::NoSuchEntry { path: path.into(), name: name.to_owned() };
    entries.get(name).cloned().ok_or_else(missing)
}

/// Names of all ensembles with recorded votes.
///
/// # Errors
/// A manifest that cannot be read.
pub fn ensemble_names(shared: &Path) -> Result<Vec<String>, DataError> {
    let manifest: VoteManifest = files::manifest(&folder(shared, "votes").join("manifest.json"))?;
    Ok(manifest.ensembles.into_keys().collect())
}

/// The recorded votes of one ensemble, such as `mnist_iid_N10`.
///
/// # Errors
/// [`DataError`] names the file at fault.
pub fn ensemble(shared: &Path, name: &str) -> Result<Ensemble, DataError> {
    let folder = folder(shared, "votes");
    let path = folder.join("manifest.json");
    let manifest: VoteManifest = files::manifest(&path)?;
    let VoteSizes { owners, test_n: rows, classes } = entry(&manifest.ensembles, &path, name)?;
    let sound = (1..=OWNERS_MAX).contains(&owners)
        && (1..=ROWS_MAX).contains(&rows)
        && (1..=CLASSES_MAX).contains(&classes);
    if !sound {
        return Err(DataError::Sizes { path, name: name.to_owned() });
    }
    let vote_path = folder.join(format!("{name}.u8.gz"));
    let votes = files::unpack_exact(&vote_path, owners * rows)?;
    files::check_classes(&vote_path, &votes, classes)?;
    let set = name.split('_').next().unwrap_or(name);
    let label_path = folder.join(format!("{set}.labels.u8.gz"));
    let labels = files::unpack_exact(&label_path, rows)?;
    files::check_classes(&label_path, &labels, classes)?;
    let votes = votes.chunks_exact(rows).map(<[u8]>::to_vec).collect();
    Ok(Ensemble { name: name.to_owned(), classes, votes, labels })
}

/// Names of all ensembles whose trained owner networks are recorded.
///
/// # Errors
/// A manifest that cannot be read.
pub fn owner_networks(shared: &Path) -> Result<Vec<String>, DataError> {
    let manifest: ModelManifest = files::manifest(&folder(shared, "models").join("manifest.json"))?;
    Ok(manifest.models.into_keys().collect())
}

/// The trained owner networks of one ensemble: dense layers with ReLU between them.
///
/// # Errors
/// [`DataError`] names the file at fault.
pub fn owner_models(shared: &Path, name: &str) -> Result<Vec<Model>, DataError> {
    let folder = folder(shared, "models");
    let manifest_path = folder.join("manifest.json");
    let manifest: ModelManifest = files::manifest(&manifest_path)?;
    let sizes = entry(&manifest.models, &manifest_path, name)?;
    let impossible = || DataError::Sizes { path: manifest_path.clone(), name: name.to_owned() };
    if !(2..=LAYERS_MAX).contains(&sizes.layers.len()) || !(1..=OWNERS_MAX).contains(&sizes.owners) {
        return Err(impossible());
    }
    let path = folder.join(format!("{name}.f32.gz"));
    let network = chain(&sizes.layers).map_err(|source| DataError::Network { path: path.clone(), source })?;
    let linear = |pair: &[u32]| (pair[0] as usize + 1).saturating_mul(pair[1] as usize);
    let parameters = sizes.layers.windows(2).map(linear).fold(0, usize::saturating_add);
    let values = parameters.saturating_mul(sizes.owners);
    if parameters != sizes.params_per_owner || values > WEIGHTS_MAX {
        return Err(impossible());
    }
    let floats = files::unpack_floats(&path, values)?;
    let model = |owner: &[f32]| {
        Model::new(network.clone(), transposed(&sizes.layers, owner))
            .map_err(|source| DataError::Model { path: path.clone(), source })
    };
    floats.chunks_exact(parameters).map(model).collect()
}

fn chain(widths: &[u32]) -> Result<Network, consilium_protocol::graph::NetworkError> {
    let mut layers = Vec::new();
    for &outputs in &widths[1..] {
        if !layers.is_empty() {
            layers.push(Layer::Relu);
        }
        layers.push(Layer::Dense { outputs });
    }
    Network::new(Shape::vector(widths[0]), layers)
}

/// The file has `inputs x outputs` then the bias; a model has `outputs x inputs`.
fn transposed(widths: &[u32], owner: &[f32]) -> Vec<Weights> {
    let mut rest = owner;
    let mut take = |count| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    let layer = |pair: &[u32]| {
        let (inputs, outputs) = (pair[0] as usize, pair[1] as usize);
        let matrix = take(inputs * outputs);
        let column = |output| (0..inputs).map(move |input| matrix[input * outputs + output]);
        Weights { weight: (0..outputs).flat_map(column).collect(), bias: take(outputs).to_vec() }
    };
    widths.windows(2).map(layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Set, load, shared_or_skip};

    /// Rows of the larger image sets that are checked in an ordinary run.
    const IMAGE_ROWS: usize = 1_000;

    /// Double precision, so that rounding cannot move a vote.
    fn vote(model: &Model, row: &[f32]) -> u8 {
        let mut values: Vec<f64> = row.iter().copied().map(f64::from).collect();
        let last = model.weights().len() - 1;
        for (position, entry) in model.weights().iter().enumerate() {
            let inputs = values.len();
            let output = |(weights, bias): (&[f32], &f32)| {
                let products = weights.iter().zip(&values).map(|(weight, value)| f64::from(*weight) * value);
                let sum = f64::from(*bias) + products.sum::<f64>();
                if position < last { sum.max(0.0) } else { sum }
            };
            values = entry.weight.chunks_exact(inputs).zip(&entry.bias).map(output).collect();
        }
        let scores = (0..=u8::MAX).zip(values);
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap().0
    }

    fn mismatches(data: &Dataset, models: &[Model], expected: &Ensemble, rows: usize) -> usize {
        let rows = rows.min(data.test.rows());
        let differs =
            |owner: usize, row: usize| vote(&models[owner], data.test.row(row)) != expected.votes[owner][row];
        (0..models.len()).map(|owner| (0..rows).filter(|&row| differs(owner, row)).count()).sum()
    }

    fn check_votes(image_rows: usize) {
        let Some(shared) = shared_or_skip("votes of the baselines' owner networks") else { return };
        for name in owner_networks(&shared).unwrap() {
            let set = Set::ALL.into_iter().find(|set| name.starts_with(&format!("{}_", set.name()))).unwrap();
            let data = load(set, &shared).unwrap();
            let (models, expected) =
                (owner_models(&shared, &name).unwrap(), ensemble(&shared, &name).unwrap());
            assert_eq!((models.len(), data.test.labels()), (expected.votes.len(), &expected.labels[..]));
            let rows = if data.shape.len() == 784 { image_rows } else { usize::MAX };
            assert_eq!(mismatches(&data, &models, &expected, rows), 0, "{name}");
        }
    }

    #[test]
    fn owner_networks_cast_the_recorded_votes() {
        check_votes(IMAGE_ROWS);
    }

    #[test]
    #[ignore = "half a minute: all 304,996 votes; run with --ignored"]
    fn owner_networks_cast_all_recorded_votes() {
        check_votes(usize::MAX);
    }

    /// Accuracy of the majority in `ensembles.csv`, by ensemble, for the recorded seed 0.
    fn published_majorities(shared: &Path) -> BTreeMap<String, f64> {
        let text = std::fs::read_to_string(folder(shared, "ensembles.csv")).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().unwrap();
        let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
        let [set, split, owners, seed, majority] =
            ["dataset", "split", "owners", "seed", "majority"].map(column);
        let recorded = lines.filter(|line| line[seed] == "0");
        let name = |line: &[&str]| format!("{}_{}_N{}", line[set], line[split], line[owners]);
        recorded.map(|line| (name(&line), line[majority].parse().unwrap())).collect()
    }

    #[test]
    fn recorded_votes_give_the_published_majorities() {
        let Some(shared) = shared_or_skip("majorities of the baselines") else { return };
        let published = published_majorities(&shared);
        let names = ensemble_names(&shared).unwrap();
        assert!(names.len() > 40);
        for name in names {
            let ensemble = ensemble(&shared, &name).unwrap();
            let rows = ensemble.labels.len();
            let right = (0..rows).filter(|&row| ensemble.majority(row) == ensemble.labels[row]).count();
            let found = right as f64 / rows as f64;
            assert!((found - published[&name]).abs() < 1e-6, "{name}: {found} against {}", published[&name]);
        }
    }

    #[test]
    fn every_recorded_ensemble_is_readable() {
        let Some(shared) = shared_or_skip("the baselines' votes") else { return };
        for name in ensemble_names(&shared).unwrap() {
            let ensemble = ensemble(&shared, &name).unwrap();
            assert!(name.ends_with(&format!("_N{}", ensemble.votes.len())), "{name}");
            assert_eq!(ensemble.histogram(0).iter().sum::<u32>() as usize, ensemble.votes.len());
        }
        assert!(matches!(super::ensemble(&shared, "mnist_none_N1"), Err(DataError::NoSuchEntry { .. })));
    }

    #[test]
    fn matrices_are_turned_to_outputs_by_inputs() {
        let weights =
            transposed(&[2, 3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0]);
        assert_eq!(weights[0].weight, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(weights[0].bias, [7.0, 8.0, 9.0]);
        assert_eq!((&weights[1].weight[..], &weights[1].bias[..]), (&[10.0, 11.0, 12.0][..], &[13.0][..]));
        assert!(Model::new(chain(&[2, 3, 1]).unwrap(), weights).is_ok());
    }

    #[test]
    fn a_tie_goes_to_the_lowest_class() {
        let votes = vec![vec![2], vec![1], vec![1], vec![2]];
        let ensemble = Ensemble { name: String::new(), classes: 3, votes, labels: vec![0] };
        assert_eq!((ensemble.histogram(0), ensemble.majority(0)), (vec![0, 2, 2], 1));
    }
}
