//! Rows divided once, before anything is learnt from them.

use consilium::training::digest_of_positions;
use rand::rngs::StdRng;
use rand::{SeedableRng, seq::SliceRandom};
use serde::Serialize;

/// One row in so many is for the test.
const TEST_ONE_IN: usize = 5;
/// Of the others, one in so many is for validation.
const VALIDATION_ONE_IN: usize = 10;

/// Positions of rows, each in one part: the parts are cut from one shuffled list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows that models are fitted on.
    pub train: Vec<usize>,
    /// Rows that thresholds are chosen by.
    pub validation: Vec<usize>,
    /// Rows that are asked about, in an order that says nothing of them.
    pub test: Vec<usize>,
}

/// A part by its size and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is for.
    pub part: &'static str,
    /// Rows of it.
    pub rows: usize,
    /// SHA-256 of their positions in rising order, in decimal digits with a line feed after each.
    pub sha256: String,
}

impl Split {
    /// Four fifths to learn from, a tenth of these for validation, and a fifth for the test. Equal seeds give equal
    /// parts.
    pub fn new(rows: usize, seed: u64) -> Self {
        let mut test: Vec<usize> = (0..rows).collect();
        test.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut validation = test.split_off(rows / TEST_ONE_IN);
        let train = validation.split_off(validation.len() / VALIDATION_ONE_IN);
        Self { train, validation, test }
    }

    /// Names of the parts.
    pub fn parts(&self) -> Vec<Part> {
        let part = |part, positions: &[usize]| {
            let mut rising = positions.to_vec();
            rising.sort_unstable();
            Part { part, rows: rising.len(), sha256: digest_of_positions(&rising) }
        };
        vec![part("training", &self.train), part("validation", &self.validation), part("test", &self.test)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_together_all() {
        for rows in [0, 1, 7, 50, 10_000] {
            let split = Split::new(rows, 0);
            let mut all = [&split.train[..], &split.validation, &split.test].concat();
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
        let split = Split::new(10_000, 0);
        assert_eq!([&split.train, &split.validation, &split.test].map(Vec::len), [7_200, 800, 2_000]);
    }

    #[test]
    fn a_seed_names_the_parts() {
        let split = Split::new(500, 3);
        assert_eq!(split, Split::new(500, 3));
        let other = Split::new(500, 4);
        for (one, other) in split.parts().into_iter().zip(other.parts()) {
            assert_eq!((one.part, one.rows, one.sha256.len()), (other.part, other.rows, 64));
            assert_ne!(one.sha256, other.sha256);
        }
    }
}
