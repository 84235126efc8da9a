//! Labelled rows, as training and testing take them.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most rows of one set of examples.
pub const ROWS_MAX: usize = 1 << 22;
/// Most values of one set of examples, all rows together.
pub const VALUES_MAX: usize = 1 << 28;

/// Why rows and labels are not a set of examples.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExamplesError {
    /// No row or no feature.
    #[error("a set of examples needs at least one row and one feature; found {rows} rows of {features}")]
    Empty {
        /// Labels given.
        rows: usize,
        /// Features of one row.
        features: usize,
    },
    /// Inputs and labels do not go together.
    #[error(
        "{rows} labels of rows of {features} features need as many values as their product, found {values}"
    )]
    Length {
        /// Labels given.
        rows: usize,
        /// Features of one row.
        features: usize,
        /// Values given.
        values: usize,
    },
    /// More than [`ROWS_MAX`] rows or [`VALUES_MAX`] values.
    #[error("{rows} rows of {features} features; the limits are {ROWS_MAX} rows and {VALUES_MAX} values")]
    TooMany {
        /// Labels given.
        rows: usize,
        /// Features of one row.
        features: usize,
    },
    /// NaN or infinity.
    #[error("row {row} has a value that is not a finite number; repair or drop the row")]
    NotFinite {
        /// Position of the row, from 0.
        row: usize,
    },
    /// A selected row does not exist.
    #[error("row {row} was asked for, there are {rows}")]
    NoSuchRow {
        /// Position asked for.
        row: usize,
        /// Rows there are.
        rows: usize,
    },
}

/// Rows of features with one label each, row-major. Patients' records: wiped when dropped.
#[derive(Clone, PartialEq, Zeroize, ZeroizeOnDrop)]
pub struct Examples {
    features: usize,
    inputs: Vec<f32>,
    labels: Vec<u8>,
}

impl std::fmt::Debug for Examples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Examples({} x {})", self.rows(), self.features)
    }
}

impl Examples {
    /// Checks that `inputs` is `labels.len() x features`, row-major, finite and within the limits.
    ///
    /// # Errors
    /// [`ExamplesError`] names what is wrong.
    pub fn new(features: usize, inputs: Vec<f32>, labels: Vec<u8>) -> Result<Self, ExamplesError> {
        let (rows, values) = (labels.len(), inputs.len());
        if rows == 0 || features == 0 {
            return Err(ExamplesError::Empty { rows, features });
        }
        if rows > ROWS_MAX || rows.saturating_mul(features) > VALUES_MAX {
            return Err(ExamplesError::TooMany { rows, features });
        }
        if rows * features != values {
            return Err(ExamplesError::Length { rows, features, values });
        }
        if let Some(position) = inputs.iter().position(|value| !value.is_finite()) {
            return Err(ExamplesError::NotFinite { row: position / features });
        }
        Ok(Self { features, inputs, labels })
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Features of one row, at least 1.
    pub fn features(&self) -> usize {
        self.features
    }

    /// All values, row-major.
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// One label per row.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The features of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> &[f32] {
        &self.inputs[row * self.features..][..self.features]
    }

    /// A new set of the named rows, in the order given; a row may be named twice.
    ///
    /// # Errors
    /// No row named, a row that does not exist, or more values than the limits allow.
    pub fn select(&self, rows: &[usize]) -> Result<Self, ExamplesError> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows()) {
            return Err(ExamplesError::NoSuchRow { row, rows: self.rows() });
        }
        if rows.len() > ROWS_MAX || rows.len().saturating_mul(self.features) > VALUES_MAX {
            return Err(ExamplesError::TooMany { rows: rows.len(), features: self.features });
        }
        let mut inputs = Vec::with_capacity(rows.len() * self.features);
        let mut labels = Vec::with_capacity(rows.len());
        for &row in rows {
            inputs.extend_from_slice(self.row(row));
            labels.push(self.labels[row]);
        }
        Self::new(self.features, inputs, labels)
    }

    /// The first rows, at most `rows` of them.
    ///
    /// # Errors
    /// When `rows` is 0.
    pub fn head(&self, rows: usize) -> Result<Self, ExamplesError> {
        let rows = rows.min(self.rows());
        Self::new(self.features, self.inputs[..rows * self.features].to_vec(), self.labels[..rows].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_finite_rows_are_accepted() {
        let bad = |features, inputs: &[f32], labels: &[u8]| {
            Examples::new(features, inputs.to_vec(), labels.to_vec()).unwrap_err()
        };
        assert_eq!(bad(2, &[], &[]), ExamplesError::Empty { rows: 0, features: 2 });
        assert_eq!(bad(0, &[], &[1]), ExamplesError::Empty { rows: 1, features: 0 });
        assert_eq!(bad(2, &[1.0; 3], &[0, 1]), ExamplesError::Length { rows: 2, features: 2, values: 3 });
        assert_eq!(bad(1, &[0.0, f32::NAN], &[0, 1]), ExamplesError::NotFinite { row: 1 });
        let vast = bad(usize::MAX, &[], &[0, 1]);
        assert_eq!(vast, ExamplesError::TooMany { rows: 2, features: usize::MAX });
    }

    #[test]
    fn selected_rows_keep_their_labels() {
        let examples = Examples::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![7, 8, 9]).unwrap();
        let picked = examples.select(&[2, 0]).unwrap();
        assert_eq!((picked.inputs(), picked.labels()), (&[5.0, 6.0, 1.0, 2.0][..], &[9, 7][..]));
        assert_eq!(examples.head(1).unwrap().row(0), [1.0, 2.0]);
        assert_eq!(examples.head(9).unwrap(), examples);
        assert_eq!(examples.select(&[3]).unwrap_err(), ExamplesError::NoSuchRow { row: 3, rows: 3 });
        assert_eq!(examples.select(&[]).unwrap_err(), ExamplesError::Empty { rows: 0, features: 2 });
    }

    #[test]
    fn records_are_not_printed() {
        let examples = Examples::new(1, vec![42.5], vec![3]).unwrap();
        assert_eq!(format!("{examples:?}"), "Examples(1 x 1)");
    }
}
