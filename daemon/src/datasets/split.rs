//! Test rows set aside, and the training rows dealt out to owners.

use super::Table;
use crate::training::{Examples, ExamplesError};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Fewest rows that an owner may be dealt.
pub const PART_ROWS_MIN: usize = 5;

/// Why rows cannot be divided so.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// Both sides need at least one row.
    #[error("a test share of {fraction} of {rows} rows leaves one side empty; choose one inside 0 to 1")]
    Fraction {
        /// Share asked for.
        fraction: f64,
        /// Rows there are.
        rows: usize,
    },
    /// No owner, or fewer than [`PART_ROWS_MIN`] rows for some owner.
    #[error("{rows} rows do not give each of {owners} owners {PART_ROWS_MIN}; use fewer owners")]
    Owners {
        /// Owners asked for.
        owners: usize,
        /// Rows there are.
        rows: usize,
    },
    /// No shard, or fewer than [`PART_ROWS_MIN`] patients for some shard.
    #[error(
        "{patients} patients do not give each of {shards} shards {PART_ROWS_MIN}; use fewer shards or owners"
    )]
    Shards {
        /// Patients of the owner.
        patients: usize,
        /// Shards asked for.
        shards: usize,
    },
    /// An owner would have nothing to tell classes apart by.
    #[error("owner {owner} of {owners} would see a single class; use fewer owners or another seed")]
    SingleClass {
        /// Position of the owner, from 0.
        owner: usize,
        /// Owners asked for.
        owners: usize,
    },
    /// The table itself is not sound.
    #[error("table {table}")]
    Table {
        /// Its name.
        table: &'static str,
        /// What is wrong with it.
        source: ExamplesError,
    },
    /// A part could not be made.
    #[error("dealing rows to owners")]
    Part(#[from] ExamplesError),
}

fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    order
}

/// Shuffles the table and sets `test_fraction` of it aside, rounded to whole rows: training rows, then test
/// rows. Equal seeds give equal splits.
///
/// # Errors
/// A share that leaves either side empty, or an unsound table.
pub fn split(table: &Table, test_fraction: f64, seed: u64) -> Result<(Examples, Examples), SplitError> {
    let whole = Examples::new(table.feature_names.len(), table.inputs.clone(), table.labels.clone())
        .map_err(|source| SplitError::Table { table: table.name, source })?;
    let rows = whole.rows();
    let refused = SplitError::Fraction { fraction: test_fraction, rows };
    if !(0.0..=1.0).contains(&test_fraction) {
        return Err(refused);
    }
    let test_rows = (test_fraction * rows as f64).round() as usize;
    if test_rows == 0 || test_rows >= rows {
        return Err(refused);
    }
    let order = shuffled(rows, seed);
    let (test, train) = order.split_at(test_rows);
    Ok((whole.select(train)?, whole.select(test)?))
}

/// Deals shuffled rows to `owners` evenly: disjoint parts, alike in distribution, together all of `train`.
/// Equal seeds give equal parts; sizes differ by at most one.
///
/// # Errors
/// Too many owners for the rows, or a part with a single class.
pub fn partition(train: &Examples, owners: usize, seed: u64) -> Result<Vec<Examples>, SplitError> {
    let rows = train.rows();
    if owners == 0 || rows / owners < PART_ROWS_MIN {
        return Err(SplitError::Owners { owners, rows });
    }
    let order = shuffled(rows, seed);
    let part = |owner: usize| {
        let dealt: Vec<usize> = order.iter().copied().skip(owner).step_by(owners).collect();
        let part = train.select(&dealt)?;
        let first = part.labels()[0];
        if part.labels().iter().all(|&label| label == first) {
            return Err(SplitError::SingleClass { owner, owners });
        }
        Ok(part)
    };
    (0..owners).map(part).collect()
}

/// Deals the patients `0..patients` of one owner to shards: disjoint, together all, of sizes that differ by at
/// most one, each in rising order. Equal seeds give equal shards.
///
/// It sees how many patients there are and nothing of them. A split that balanced classes, or drew again
/// until every shard had each of them, would move other patients when the data of one changes; then that one
/// would move several votes, and the promise to patients would not hold. So a shard may have a single class.
///
/// # Errors
/// Too many shards for the patients.
pub fn deal(patients: usize, shards: usize, seed: u64) -> Result<Vec<Vec<usize>>, SplitError> {
    if shards == 0 || patients / shards < PART_ROWS_MIN {
        return Err(SplitError::Shards { patients, shards });
    }
    let order = shuffled(patients, seed);
    let shard = |first: usize| {
        let mut dealt: Vec<usize> = order.iter().copied().skip(first).step_by(shards).collect();
        dealt.sort_unstable();
        dealt
    };
    Ok((0..shards).map(shard).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(labels: &[u8]) -> Table {
        Table {
            name: "numbers",
            credit: "",
            feature_names: vec!["n".into(), "square".into()],
            class_names: vec!["even".into(), "odd".into()],
            inputs: (0..labels.len()).flat_map(|row| [row as f32, (row * row) as f32]).collect(),
            labels: labels.to_vec(),
        }
    }

    fn alternating(rows: usize) -> Table {
        table(&(0..rows).map(|row| (row % 2) as u8).collect::<Vec<_>>())
    }

    fn numbers(parts: &[&Examples]) -> Vec<usize> {
        let rows =
            parts.iter().flat_map(|part| (0..part.rows()).map(|row| (part.row(row), part.labels()[row])));
        let mut numbers: Vec<usize> = rows
            .map(|(row, label)| {
                assert_eq!((row[1], label), (row[0] * row[0], (row[0] as usize % 2) as u8));
                row[0] as usize
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_split_is_whole_disjoint_and_repeatable() {
        let table = alternating(50);
        let (train, test) = split(&table, 0.2, 1).unwrap();
        assert_eq!((train.rows(), test.rows()), (40, 10));
        assert_eq!(numbers(&[&train, &test]), (0..50).collect::<Vec<_>>());
        assert_eq!(split(&table, 0.2, 1).unwrap(), (train.clone(), test));
        assert_ne!(split(&table, 0.2, 2).unwrap().0, train);
    }

    #[test]
    fn parts_are_whole_disjoint_and_even() {
        let (train, _) = split(&alternating(100), 0.02, 1).unwrap();
        let parts = partition(&train, 6, 2).unwrap();
        let sizes: Vec<usize> = parts.iter().map(Examples::rows).collect();
        assert_eq!(sizes, [17, 17, 16, 16, 16, 16]);
        assert_eq!(numbers(&parts.iter().collect::<Vec<_>>()), numbers(&[&train]));
        assert_eq!(parts, partition(&train, 6, 2).unwrap());
        assert_ne!(parts, partition(&train, 6, 3).unwrap());
    }

    #[test]
    fn patients_are_in_one_shard_each() {
        let shards = deal(47, 5, 3).unwrap();
        assert_eq!(shards.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 9, 9, 9]);
        assert!(shards.iter().all(|shard| shard.is_sorted()));
        let mut all = shards.concat();
        all.sort_unstable();
        assert_eq!(all, (0..47).collect::<Vec<_>>());
        assert_eq!(deal(47, 5, 3).unwrap(), shards);
        assert_ne!(deal(47, 5, 4).unwrap(), shards);
        for (patients, shards) in [(24, 5), (10, 0), (0, 1)] {
            assert_eq!(deal(patients, shards, 0), Err(SplitError::Shards { patients, shards }));
        }
        assert_eq!(deal(25, 5, 0).unwrap().len(), 5);
    }

    #[test]
    fn a_side_is_never_empty() {
        for fraction in [-0.1, 0.0, 0.01, 0.999, 1.0, 1.5, f64::NAN] {
            assert!(matches!(
                split(&alternating(20), fraction, 0),
                Err(SplitError::Fraction { rows: 20, .. })
            ));
        }
    }

    #[test]
    fn an_owner_gets_enough_rows_of_two_classes() {
        let (train, _) = split(&alternating(40), 0.25, 1).unwrap();
        assert_eq!(partition(&train, 0, 0).unwrap_err(), SplitError::Owners { owners: 0, rows: 30 });
        assert_eq!(partition(&train, 7, 0).unwrap_err(), SplitError::Owners { owners: 7, rows: 30 });
        let mut labels = [0; 40];
        labels[3] = 1;
        let (train, _) = split(&table(&labels), 0.25, 1).unwrap();
        assert!(matches!(partition(&train, 4, 0), Err(SplitError::SingleClass { owners: 4, .. })));
    }
}
