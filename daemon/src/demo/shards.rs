//! What shows that each patient is in the training of one model only.

use super::report::table;
use super::scenario::{Hospital, Scenario};
use crate::vault::hex;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use std::collections::HashSet;

/// Digits of a hash for people.
const SHOWN_DIGITS: usize = 8;

/// How a hospital split its patients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Split {
    /// The hospital.
    pub hospital: String,
    /// Its patients.
    pub patients: usize,
    /// Whether every patient is in one shard and no more.
    pub disjoint: bool,
    /// Its shards.
    pub shards: Vec<ShardOf>,
}

/// One shard of a hospital.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardOf {
    /// Patients in it.
    pub patients: usize,
    /// SHA-256 of their positions among the hospital's patients, going up, as 8 bytes each, least first.
    pub sha256: String,
}

impl Split {
    /// The splits of a scenario; none where each hospital has one model.
    pub(super) fn all(scenario: &Scenario) -> Vec<Self> {
        scenario.hospitals.iter().filter(|hospital| !hospital.shards.is_empty()).map(Self::of).collect()
    }

    fn of(hospital: &Hospital) -> Self {
        let dealt = || hospital.shards.iter().flat_map(|shard| &shard.patients);
        let different: HashSet<&usize> = dealt().collect();
        let shards = hospital.shards.iter().map(|shard| {
            let mut hash = Context::new(&SHA256);
            shard.patients.iter().for_each(|patient| hash.update(&(*patient as u64).to_le_bytes()));
            ShardOf { patients: shard.patients.len(), sha256: hex::encode(hash.finish().as_ref()) }
        });
        Self {
            hospital: hospital.name.clone(),
            patients: hospital.rows,
            disjoint: different.len() == dealt().count() && different.len() == hospital.rows,
            shards: shards.collect(),
        }
    }
}

/// Prints sizes and hashes.
pub(super) fn print(splits: &[Split]) {
    let mut rows =
        table(&["hospital", "patients", "shards: patients in each, and a hash of which", "disjoint"]);
    for split in splits {
        let shard = |shard: &ShardOf| {
            format!("{} {}", shard.patients, shard.sha256.get(..SHOWN_DIGITS).unwrap_or(""))
        };
        let shards: Vec<String> = split.shards.iter().map(shard).collect();
        rows.add_row([
            split.hospital.clone(),
            split.patients.to_string(),
            shards.join("  "),
            if split.disjoint { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    println!("{rows}");
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Shard;
    use super::*;
    use consilium_protocol::graph::{Layer, Network, Shape};
    use consilium_protocol::model::{Model, Weights};

    fn hospital(rows: usize, shards: &[&[usize]]) -> Hospital {
        let network = Network::new(Shape::vector(1), vec![Layer::Dense { outputs: 2 }]).unwrap();
        let weights = vec![Weights { weight: vec![1.0; 2], bias: vec![0.0; 2] }];
        let model = Model::new(network, weights).unwrap();
        let shard = |patients: &&[usize]| Shard { patients: patients.to_vec(), model: model.clone() };
        Hospital { name: "north".into(), rows, shards: shards.iter().map(shard).collect(), model }
    }

    #[test]
    fn a_patient_twice_or_nowhere_is_seen() {
        assert!(Split::of(&hospital(5, &[&[0, 3], &[1, 2, 4]])).disjoint);
        for (rows, shards) in
            [(5, [&[0, 3][..], &[1, 2, 3, 4]]), (5, [&[0, 3], &[1, 2]]), (4, [&[0, 3], &[1, 2, 4]])]
        {
            assert!(!Split::of(&hospital(rows, &shards)).disjoint, "{shards:?}");
        }
    }

    #[test]
    fn hashes_are_those_of_the_positions() {
        let split = Split::of(&hospital(2, &[&[0], &[1]]));
        let expected = ring::digest::digest(&SHA256, &1u64.to_le_bytes());
        assert_eq!(split.shards[1], ShardOf { patients: 1, sha256: hex::encode(expected.as_ref()) });
        assert_ne!(split.shards[0].sha256, split.shards[1].sha256);
    }
}
