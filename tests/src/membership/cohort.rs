//! The victim in all its versions, and the other owners.

use super::{Material, MembershipError, Subject, cores, on_all_cores};
use consilium::training::{Examples, TrainError, classify, train};
use consilium_protocol::model::Model;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::path::Path;

/// Test rows that accuracies are measured on.
const TEST_ROWS_MAX: usize = 2_000;
const VERSIONS: std::ops::RangeInclusive<usize> = 6..=1024;
const OWNERS: std::ops::RangeInclusive<usize> = 2..=1000;

/// An experiment.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Data and network.
    pub subject: Subject,
    /// Owners, the victim among them.
    pub owners: usize,
    /// Records that each owner trains on; the pool has twice as many.
    pub records: usize,
    /// Versions of the victim, an even number.
    pub versions: usize,
    /// Seed of split, halves, training, noise and resampling.
    pub seed: u64,
    /// Passes over the records, instead of the preset.
    pub epochs: Option<usize>,
}

/// The victim, trained on one half of the pool.
#[derive(Debug)]
pub struct Version {
    /// What it trained.
    pub model: Model,
    /// Whether each record of the pool was trained on.
    pub inside: Vec<bool>,
}

/// All owners.
#[derive(Debug)]
pub struct Cohort {
    /// Network, numbers and classes.
    pub material: Material,
    /// The records that are asked about.
    pub pool: Examples,
    /// The owners beside the victim.
    pub others: Vec<Model>,
    /// Versions 2k and 2k + 1 complement each other.
    pub versions: Vec<Version>,
    /// Mean accuracy of the versions on their own halves.
    pub train_accuracy: f64,
    /// Mean accuracy of the versions on rows that nobody trained on.
    pub test_accuracy: f64,
}

impl Cohort {
    /// Loads the data and trains everybody. On all cores where `RAYON_NUM_THREADS` is 1, else one after the
    /// other, since the library then takes all cores for each.
    ///
    /// # Errors
    /// Too few rows, or a training failed.
    pub fn train(
        plan: &Plan,
        shared: Option<&Path>,
        trained: &(dyn Fn() + Sync),
    ) -> Result<Self, MembershipError> {
        if !VERSIONS.contains(&plan.versions)
            || !plan.versions.is_multiple_of(2)
            || !OWNERS.contains(&plan.owners)
        {
            return Err(MembershipError::Versions(plan.versions));
        }
        let material = plan.subject.load(shared, plan.seed)?;
        let (owners, records, rows) = (plan.owners, plan.records, material.train.rows());
        let needed = (owners + 1).saturating_mul(records);
        if records == 0 || needed > rows {
            return Err(MembershipError::Rows { owners, records, needed, rows });
        }
        let mut random = StdRng::seed_from_u64(plan.seed);
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(&mut random);
        let (pool, rest) = order.split_at(2 * records);
        let pool = material.train.select(pool)?;
        let halves = halves(plan, &mut random);
        let mut parts = Vec::with_capacity(owners - 1 + plan.versions);
        for dealt in rest.chunks(records).take(owners - 1) {
            parts.push(material.train.select(dealt)?);
        }
        for inside in &halves {
            let rows: Vec<usize> = (0..2 * records).filter(|row| inside[*row]).collect();
            parts.push(pool.select(&rows)?);
        }
        let recipe = plan.subject.recipe(records, plan.epochs);
        let first: u64 = random.random();
        let single = std::env::var("RAYON_NUM_THREADS").is_ok_and(|threads| threads == "1");
        let workers = if single { cores() } else { 1 };
        let mut models = on_all_cores(parts.len(), workers, |index| {
            let seed = first.wrapping_add(index as u64);
            let model = train(&material.network, &parts[index], &recipe, seed, &mut |_, _| {})?;
            trained();
            Ok(model)
        })?;
        let victims = models.split_off(owners - 1);
        let test = material.test.head(TEST_ROWS_MAX)?;
        let (mut train_accuracy, mut test_accuracy) = (0.0, 0.0);
        for (model, half) in victims.iter().zip(&parts[owners - 1..]) {
            train_accuracy += accuracy(model, half)? / plan.versions as f64;
            test_accuracy += accuracy(model, &test)? / plan.versions as f64;
        }
        let versions = victims.into_iter().zip(halves);
        let versions = versions.map(|(model, inside)| Version { model, inside }).collect();
        Ok(Self { material, pool, others: models, versions, train_accuracy, test_accuracy })
    }
}

/// For each version, which records are inside: a random half, and in the next version the other half.
fn halves(plan: &Plan, random: &mut StdRng) -> Vec<Vec<bool>> {
    let mut order: Vec<usize> = (0..2 * plan.records).collect();
    let mut halves = Vec::with_capacity(plan.versions);
    for _ in 0..plan.versions / 2 {
        order.shuffle(random);
        let mut inside = vec![false; 2 * plan.records];
        order[..plan.records].iter().for_each(|row| inside[*row] = true);
        let outside = inside.iter().map(|inside| !inside).collect();
        halves.extend([inside, outside]);
    }
    halves
}

fn accuracy(model: &Model, rows: &Examples) -> Result<f64, TrainError> {
    let found = classify(model, rows)?;
    let right = found.iter().zip(rows.labels()).filter(|(found, label)| found == label).count();
    Ok(right as f64 / rows.rows() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_halves_and_pairs_complement_each_other() {
        let plan =
            Plan { subject: Subject::Digits, owners: 2, records: 25, versions: 8, seed: 1, epochs: None };
        let halves = halves(&plan, &mut StdRng::seed_from_u64(1));
        assert_eq!(halves.len(), 8);
        for pair in halves.chunks(2) {
            assert_eq!(pair[0].iter().filter(|inside| **inside).count(), 25);
            assert!(pair[0].iter().zip(&pair[1]).all(|(one, other)| one != other));
        }
        assert_ne!(halves[0], halves[2]);
    }

    #[test]
    fn experiments_that_cannot_be_made_are_refused() {
        let plan =
            Plan { subject: Subject::Digits, owners: 3, records: 100, versions: 8, seed: 1, epochs: Some(1) };
        for (versions, owners) in [(7, 3), (4, 3), (0, 3), (8, 1), (8, 5_000)] {
            let error = Cohort::train(&Plan { versions, owners, ..plan }, None, &|| {}).unwrap_err();
            assert!(matches!(error, MembershipError::Versions(found) if found == versions));
        }
        let error = Cohort::train(&Plan { records: 400, ..plan }, None, &|| {}).unwrap_err();
        assert!(matches!(error, MembershipError::Rows { needed: 1_600, .. }), "{error}");
        let error = Cohort::train(&Plan { subject: Subject::Heart, ..plan }, None, &|| {}).unwrap_err();
        assert!(matches!(error, MembershipError::NoData("heart")));
    }
}
