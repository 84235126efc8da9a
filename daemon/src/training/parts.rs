//! A user's own rows in two parts: one to learn from, one to choose by.

use crate::vault::hex;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use ring::digest::{Context, SHA256};

/// Fewest rows of either part.
pub const PART_ROWS_MIN: usize = 10;

/// Why rows cannot be divided so.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PartsError {
    /// The share leaves one part empty.
    #[error("the share for validation is {0}; it must lie above 0 and below 1")]
    Share(f64),
    /// A part would be too small.
    #[error(
        "{rows} rows make {train} to train on and {validation} to validate on; each part needs {PART_ROWS_MIN}: collect more rows, or change the share for validation"
    )]
    Few {
        /// Rows there are.
        rows: usize,
        /// Rows to train on.
        train: usize,
        /// Rows to validate on.
        validation: usize,
    },
}

/// Positions of rows in two parts: disjoint, together all, each in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    train: Vec<usize>,
    validation: Vec<usize>,
}

impl Parts {
    /// Shuffles the positions `0..rows` and sets a `share` of them aside for validation, rounded to whole rows. Equal
    /// seeds give equal parts. It sees how many rows there are and nothing of them.
    ///
    /// # Errors
    /// [`PartsError`] where a part would be too small.
    pub fn deal(rows: usize, share: f64, seed: u64) -> Result<Self, PartsError> {
        if !(share > 0.0 && share < 1.0) {
            return Err(PartsError::Share(share));
        }
        let validation = ((share * rows as f64).round() as usize).min(rows);
        let train = rows - validation;
        if train.min(validation) < PART_ROWS_MIN {
            return Err(PartsError::Few { rows, train, validation });
        }
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut train = order.split_off(validation);
        train.sort_unstable();
        order.sort_unstable();
        Ok(Self { train, validation: order })
    }

    /// Rows to learn from.
    pub fn train(&self) -> &[usize] {
        &self.train
    }

    /// Rows to choose by, which nothing is learnt from.
    pub fn validation(&self) -> &[usize] {
        &self.validation
    }
}

/// Names a set of rows, in hexadecimal: SHA-256 of their positions from 0, in the order given, in decimal digits with a
/// line feed after each. `sha256sum` of such a list gives the same.
pub fn digest_of_positions(positions: &[usize]) -> String {
    let mut context = Context::new(&SHA256);
    positions.iter().for_each(|position| context.update(format!("{position}\n").as_bytes()));
    hex::encode(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_together_all() {
        for (rows, share, seed) in [(100, 0.2, 1), (101, 0.5, 2), (20, 0.5, 3)] {
            let parts = Parts::deal(rows, share, seed).unwrap();
            assert_eq!(parts.validation().len(), (share * rows as f64).round() as usize);
            let rising = |part: &[usize]| part.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(rising(parts.train()) && rising(parts.validation()));
            let mut all = [parts.train(), parts.validation()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_seed_fixes_the_parts() {
        let parts = Parts::deal(100, 0.3, 7).unwrap();
        assert_eq!(parts, Parts::deal(100, 0.3, 7).unwrap());
        assert_ne!(parts, Parts::deal(100, 0.3, 8).unwrap());
        let digests = [parts.train(), parts.validation()].map(digest_of_positions);
        assert_ne!(digests[0], digests[1]);
    }

    #[test]
    fn small_parts_are_refused() {
        let few = |train, validation| Err(PartsError::Few { rows: 40, train, validation });
        assert_eq!(Parts::deal(40, 0.2, 0), few(32, 8));
        assert_eq!(Parts::deal(40, 0.8, 0), few(8, 32));
        assert!(Parts::deal(40, 0.25, 0).is_ok());
        assert!(Parts::deal(0, 0.5, 0).is_err());
        for share in [0.0, 1.0, -0.5] {
            assert_eq!(Parts::deal(100, share, 0), Err(PartsError::Share(share)));
        }
        assert!(matches!(Parts::deal(100, f64::NAN, 0), Err(PartsError::Share(_))));
    }

    /// `printf '0\n2\n10\n' | sha256sum`
    #[test]
    fn a_digest_is_that_of_the_list() {
        let expected = "faef594c973ca2e0ef075db923848d84f23d8278b994b0c37a8150cea6ffa84d";
        assert_eq!(digest_of_positions(&[0, 2, 10]), expected);
    }
}
