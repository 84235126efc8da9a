//! Principal component analysis: the mean of rows and the directions in which they differ most.

use super::Examples;
use consilium_protocol::graph::RANK_MAX;
use consilium_protocol::model::Projection;
use nalgebra::{DMatrix, SymmetricEigen};

/// Largest number of which the rows or the values of a row, whichever are fewer, may be: time grows with its cube.
pub const PCA_SIZE_MAX: usize = 4096;
/// Steps of the decomposition, for each row and column of the matrix; it needs about two.
const STEPS_PER_ROW: usize = 100;
/// Smallest part of the largest variance that is more than rounding of the rows.
const VARIANCE_SHARE_MIN: f64 = 1e-10;
/// The same for all variances together, as a part of the squares of the mean.
const SPREAD_SHARE_MIN: f64 = 1e-18;

/// Why rows have no such directions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcaError {
    /// No rank of a plane that says something about these rows.
    #[error(
        "rank {rank}, and these rows allow 1 to {most}: fewer than a row has values, and no more than the rows differ in"
    )]
    Rank {
        /// The rank asked for.
        rank: usize,
        /// The largest that there is.
        most: usize,
    },
    /// Every row is the same.
    #[error("all rows are alike, so there is no direction in which they differ")]
    Constant,
    /// Too many rows of too many values.
    #[error(
        "{rows} rows of {values} values; one of both must be at most {PCA_SIZE_MAX}: take a random part of the rows"
    )]
    Size {
        /// Rows given.
        rows: usize,
        /// Values of a row.
        values: usize,
    },
    /// The decomposition came to no end.
    #[error("the decomposition did not converge; scale the rows to about 1")]
    NotConverged,
}

/// Mean of the rows and the `rank` orthonormal directions of their largest variances, falling. The entry of the
/// largest magnitude of each direction is positive, so that equal rows give equal directions.
///
/// The variances are those of the covariance of the values, or, where there are fewer rows than values, of the
/// products of rows with each other. The library does not wipe its copies of the rows.
///
/// # Errors
/// [`PcaError`] where the rows do not have so many directions, or there are too many of them.
pub fn pca(rows: &Examples, rank: usize) -> Result<Projection, PcaError> {
    let (count, values) = (rows.rows(), rows.features());
    let size = count.min(values);
    let most = (values - 1).min(count - 1).min(RANK_MAX as usize);
    if rank == 0 || rank > most {
        return Err(PcaError::Rank { rank, most });
    }
    if size > PCA_SIZE_MAX {
        return Err(PcaError::Size { rows: count, values });
    }
    let (mean, spread) = centre(rows);
    if spread == 0.0 {
        return Err(PcaError::Constant);
    }
    let centred = DMatrix::from_fn(count, values, |row, value| f64::from(rows.row(row)[value]) - mean[value]);
    let is_short = count < values;
    let products = if is_short { &centred * centred.transpose() } else { centred.transpose() * &centred };
    let eigen = SymmetricEigen::try_new(products, f64::EPSILON, STEPS_PER_ROW * size);
    let eigen = eigen.ok_or(PcaError::NotConverged)?;
    let mut falling: Vec<usize> = (0..size).collect();
    falling.sort_by(|one, other| eigen.eigenvalues[*other].total_cmp(&eigen.eigenvalues[*one]));
    let least = VARIANCE_SHARE_MIN * eigen.eigenvalues[falling[0]];
    let found = falling.iter().filter(|at| eigen.eigenvalues[**at] > least).count();
    if rank > found {
        return Err(PcaError::Rank { rank, most: found.min(most) });
    }
    let mut directions = Vec::with_capacity(rank * values);
    for at in &falling[..rank] {
        let vector: Vec<f64> = eigen.eigenvectors.column(*at).iter().copied().collect();
        let direction: Vec<f64> = if is_short {
            let along = |value: usize| -> f64 {
                centred.column(value).iter().zip(&vector).map(|(entry, weight)| entry * weight).sum()
            };
            (0..values).map(along).collect()
        } else {
            vector
        };
        directions.extend(unit(&direction));
    }
    Ok(Projection { mean: mean.iter().map(|mean| *mean as f32).collect(), rows: directions })
}

/// Mean of the rows, and the mean of their squared distances from it: 0 where that is only rounding.
pub(super) fn centre(rows: &Examples) -> (Vec<f64>, f64) {
    let count = rows.rows() as f64;
    let mut mean = vec![0.0; rows.features()];
    for row in rows.inputs().chunks(rows.features()) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / count);
    }
    let square = |value: f64| value * value;
    let distance = |row: &[f32]| -> f64 {
        row.iter().zip(&mean).map(|(value, mean)| square(f64::from(*value) - mean)).sum()
    };
    let spread = rows.inputs().chunks(rows.features()).map(distance).sum::<f64>() / count;
    let size: f64 = mean.iter().copied().map(square).sum();
    let spread = if spread <= SPREAD_SHARE_MIN * size { 0.0 } else { spread };
    (mean, spread)
}

/// The direction with length 1, and its largest entry above 0.
fn unit(direction: &[f64]) -> Vec<f32> {
    let length = direction.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
    let largest = direction.iter().copied().fold(
        0.0,
        |best: f64, entry| {
            if entry.abs() > best.abs() { entry } else { best }
        },
    );
    let scale = if largest < 0.0 { -1.0 / length } else { 1.0 / length };
    direction.iter().map(|entry| (entry * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::graph::Shape;
    use consilium_protocol::model::OneClass;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const MEAN: [f64; 3] = [1.0, -2.0, 0.5];
    /// Orthonormal, with the deviations along them.
    const AXES: [([f64; 3], f64); 3] =
        [([0.6, 0.8, 0.0], 3.0), ([0.0, 0.0, 1.0], 2.0), ([0.8, -0.6, 0.0], 0.1)];

    /// Six rows whose covariance has these axes, with `more` values that are always 0.
    fn rows(more: usize) -> Examples {
        let mut inputs = Vec::new();
        for (axis, deviation) in AXES {
            for sign in [-1.0, 1.0] {
                let row = MEAN.iter().zip(axis).map(|(mean, axis)| (mean + sign * deviation * axis) as f32);
                inputs.extend(row.chain(std::iter::repeat_n(0.0, more)));
            }
        }
        Examples::new(3 + more, inputs, vec![0; 6]).unwrap()
    }

    fn close(found: &[f32], expected: &[f64]) {
        for (at, found) in found.iter().enumerate() {
            let expected = expected.get(at).copied().unwrap_or(0.0);
            assert!((f64::from(*found) - expected).abs() < 1e-5, "entry {at}: {found} for {expected}");
        }
    }

    /// By the covariance with three values, by the products of rows with eight.
    #[test]
    fn directions_are_those_of_a_known_covariance() {
        for more in [0, 5] {
            let projection = pca(&rows(more), 2).unwrap();
            close(&projection.mean, &MEAN);
            for (direction, (axis, _)) in projection.rows.chunks(3 + more).zip(AXES) {
                close(direction, &axis);
            }
            assert_eq!(projection.rows.len(), 2 * (3 + more));
        }
    }

    #[test]
    fn directions_are_orthonormal_by_both_ways() {
        let mut generator = StdRng::seed_from_u64(1);
        for (count, values, rank) in [(120, 40, 39), (30, 90, 29), (40, 40, 20)] {
            let inputs = (0..count * values).map(|at| {
                // Variances over five orders of magnitude.
                let scale = 10f32.powf(-2.5 * (at % values) as f32 / values as f32);
                scale * generator.random_range(-1.0f32..1.0)
            });
            let rows = Examples::new(values, inputs.collect(), vec![0; count]).unwrap();
            let projection = pca(&rows, rank).unwrap();
            assert_eq!(projection, pca(&rows, rank).unwrap());
            // It refuses rows that are not orthonormal to 1e-3.
            OneClass::projection(Shape::vector(values as u32), projection, 1.0).unwrap();
        }
    }

    #[test]
    fn a_rank_that_says_nothing_is_refused() {
        let refused = |more, rank| pca(&rows(more), rank).unwrap_err();
        assert_eq!(refused(0, 0), PcaError::Rank { rank: 0, most: 2 });
        assert_eq!(refused(0, 3), PcaError::Rank { rank: 3, most: 2 });
        // Six rows may differ in five ways; these differ in three.
        assert_eq!(refused(5, 4), PcaError::Rank { rank: 4, most: 3 });
        assert!(pca(&rows(5), 3).is_ok());
        let single = Examples::new(3, vec![1.0; 3], vec![0]).unwrap();
        assert_eq!(pca(&single, 1).unwrap_err(), PcaError::Rank { rank: 1, most: 0 });
    }

    #[test]
    fn rows_that_are_alike_are_refused() {
        for value in [0.0, 0.1, -3e7] {
            let alike = Examples::new(4, vec![value; 28], vec![0; 7]).unwrap();
            assert_eq!(pca(&alike, 1).unwrap_err(), PcaError::Constant, "{value}");
            assert_eq!(centre(&alike).1, 0.0);
        }
    }
}
