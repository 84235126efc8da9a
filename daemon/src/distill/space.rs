//! Coordinates in which near means alike.

use crate::training::Examples;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use zeroize::Zeroizing;

/// Most coordinates of a row. Beyond this, distances between images hardly change.
const WIDTH_MAX: usize = 48;
/// Multiplications by the covariance; enough for directions that differ clearly in variance.
const ITERATIONS: usize = 4;
/// A direction that keeps less than this share of the longest is rounding.
const RANK_TOLERANCE: f32 = 1e-5;
const LANES: usize = 16;

/// One point per row. As sensitive as the rows: wiped when dropped.
pub struct Space {
    width: usize,
    values: Zeroizing<Vec<f32>>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Space({} x {})", self.rows(), self.width)
    }
}

impl Space {
    /// Narrow rows with every feature at variance 1, wide ones by their principal components (subspace
    /// iteration from a random start, Halko, Martinsson, Tropp 2011). Equal arguments give equal points.
    pub fn of(rows: &Examples, seed: u64) -> Self {
        let mean = mean(rows);
        if rows.features() <= WIDTH_MAX {
            return Self::standard(rows, &mean);
        }
        let directions = principal(rows, &mean, seed);
        let width = directions.len().max(1);
        let mut values = Zeroizing::new(Vec::with_capacity(rows.rows() * width));
        let mut centred = Zeroizing::new(vec![0.0; rows.features()]);
        for row in 0..rows.rows() {
            centre(rows.row(row), &mean, &mut centred);
            values.extend(directions.iter().map(|direction| dot(&centred, direction)));
            if directions.is_empty() {
                values.push(0.0);
            }
        }
        Self { width, values }
    }

    fn standard(rows: &Examples, mean: &[f32]) -> Self {
        let width = rows.features();
        let mut squares = vec![0.0f64; width];
        for row in 0..rows.rows() {
            let pairs = rows.row(row).iter().zip(mean).zip(&mut squares);
            pairs.for_each(|((value, mean), square)| *square += f64::from(value - mean).powi(2));
        }
        let scale = |square: &f64| {
            let deviation = (square / rows.rows() as f64).sqrt() as f32;
            if deviation > 0.0 { 1.0 / deviation } else { 0.0 }
        };
        let scales: Vec<f32> = squares.iter().map(scale).collect();
        let mut values = Zeroizing::new(Vec::with_capacity(rows.rows() * width));
        for row in 0..rows.rows() {
            let public = mean.iter().zip(&scales);
            values.extend(
                rows.row(row).iter().zip(public).map(|(value, (mean, scale))| (value - mean) * scale),
            );
        }
        Self { width, values }
    }

    /// Number of points.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Coordinates of a point.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// One point.
    pub(super) fn point(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }
}

fn mean(rows: &Examples) -> Vec<f32> {
    let mut sums = vec![0.0f64; rows.features()];
    for row in 0..rows.rows() {
        sums.iter_mut().zip(rows.row(row)).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums.into_iter().map(|sum| (sum / rows.rows() as f64) as f32).collect()
}

fn centre(row: &[f32], mean: &[f32], into: &mut [f32]) {
    into.iter_mut().zip(row.iter().zip(mean)).for_each(|(into, (value, mean))| *into = value - mean);
}

/// Orthonormal directions of the largest variance.
fn principal(rows: &Examples, mean: &[f32], seed: u64) -> Vec<Vec<f32>> {
    let features = rows.features();
    let mut generator = StdRng::seed_from_u64(seed);
    let mut draw = || (0..features).map(|_| generator.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
    let mut directions: Vec<Vec<f32>> = (0..WIDTH_MAX).map(|_| draw()).collect();
    let mut centred = Zeroizing::new(vec![0.0; features]);
    for _ in 0..ITERATIONS {
        let mut images = vec![vec![0.0f32; features]; directions.len()];
        for row in 0..rows.rows() {
            centre(rows.row(row), mean, &mut centred);
            for (direction, image) in directions.iter().zip(&mut images) {
                let along = dot(&centred, direction);
                image.iter_mut().zip(centred.iter()).for_each(|(image, value)| *image += along * value);
            }
        }
        directions = orthonormal(images);
    }
    directions
}

/// Gram and Schmidt, twice for each vector, without vectors that lie in the span of earlier ones.
fn orthonormal(vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut kept: Vec<Vec<f32>> = Vec::with_capacity(vectors.len());
    for mut vector in vectors {
        let before = dot(&vector, &vector).sqrt();
        for _ in 0..2 {
            for earlier in &kept {
                let along = dot(&vector, earlier);
                vector.iter_mut().zip(earlier).for_each(|(value, other)| *value -= along * other);
            }
        }
        let length = dot(&vector, &vector).sqrt();
        if length > RANK_TOLERANCE * before && length.is_finite() {
            vector.iter_mut().for_each(|value| *value /= length);
            kept.push(vector);
        }
    }
    kept
}

/// Sum of products, in lanes that the processor adds side by side.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |a, b| a * b)
}

/// Squared distance.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |a, b| (a - b) * (a - b))
}

fn lanes(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a_whole, a_rest), (b_whole, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_whole.iter().zip(b_whole) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_distances_are_whole() {
        for length in [0usize, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..length).map(|value| value as f32).collect();
            let b = vec![2.0; length];
            let sum: usize = (0..length).sum();
            assert_eq!(dot(&a, &b), 2.0 * sum as f32);
            let squares: f32 = a.iter().map(|value| (value - 2.0) * (value - 2.0)).sum();
            assert_eq!(distance(&a, &b), squares);
        }
    }

    #[test]
    fn narrow_rows_get_one_scale_and_constants_vanish() {
        let rows = Examples::new(3, vec![1.0, 1000.0, 7.0, 3.0, 3000.0, 7.0], vec![0; 2]).unwrap();
        let space = Space::of(&rows, 1);
        assert_eq!((space.rows(), space.width()), (2, 3));
        assert_eq!((space.point(0), space.point(1)), (&[-1.0, -1.0, 0.0][..], &[1.0, 1.0, 0.0][..]));
    }

    /// Rows of 100 features that lie in a plane, with a little noise: distances survive.
    #[test]
    fn wide_rows_keep_their_distances() {
        let mut generator = StdRng::seed_from_u64(5);
        let mut draw = |count: usize, size: f32| -> Vec<f32> {
            (0..count).map(|_| generator.random_range(-size..size)).collect()
        };
        let axes = [draw(100, 1.0), draw(100, 1.0)];
        let mut values = Vec::new();
        for _ in 0..80 {
            let (at, noise) = (draw(2, 3.0), draw(100, 1e-3));
            values.extend((0..100).map(|cell| at[0] * axes[0][cell] + at[1] * axes[1][cell] + noise[cell]));
        }
        let rows = Examples::new(100, values, vec![0; 80]).unwrap();
        let space = Space::of(&rows, 9);
        for pair in [(0, 1), (3, 50), (79, 2)] {
            let (found, real) = (
                distance(space.point(pair.0), space.point(pair.1)),
                distance(rows.row(pair.0), rows.row(pair.1)),
            );
            assert!((found - real).abs() < 0.01 * real + 1e-3, "{found} {real}");
        }
        assert_eq!(space.point(5), Space::of(&rows, 9).point(5));
        assert!(format!("{space:?}").starts_with("Space(80 x "));
    }

    #[test]
    fn equal_rows_are_equal_points() {
        let rows = Examples::new(60, vec![0.5; 60 * 4], vec![0; 4]).unwrap();
        let space = Space::of(&rows, 2);
        assert!((1..4).all(|row| space.point(row) == space.point(0)));
    }
}
