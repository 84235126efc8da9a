//! Which rows are worth a question: the middle of each cluster.

use super::space::{Space, distance};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Most passes over all rows.
const PASSES_MAX: u64 = 25;
/// Products of coordinates that may be computed; with many rows and clusters there are fewer passes.
const PRODUCTS_MAX: u64 = 60_000_000_000;

/// Rows by clusters, the largest cluster first, and in each the row nearest to the middle first: one answer
/// for it tells most about the others. Asked in this order, a budget that ends early is spent on the largest.
///
/// Lloyd's algorithm from seeds far apart (k-means++). At most `count` clusters, none of them empty; together
/// they hold every row once. Equal arguments give equal clusters.
pub fn clusters(space: &Space, count: usize, seed: u64) -> Vec<Vec<usize>> {
    let count = count.clamp(1, space.rows().max(1));
    let mut centres = seeds(space, count, &mut StdRng::seed_from_u64(seed));
    let products = (space.rows() as u64).saturating_mul((count * space.width()) as u64).max(1);
    let passes = (PRODUCTS_MAX / products).clamp(1, PASSES_MAX);
    // At first no row is a member of any cluster.
    let mut members = vec![usize::MAX; space.rows()];
    for _ in 0..passes {
        let mut moved = false;
        for (row, member) in members.iter_mut().enumerate() {
            let nearest = nearest(&centres, space.point(row), space.width());
            moved |= nearest != *member;
            *member = nearest;
        }
        if !moved {
            break;
        }
        recentre(space, &members, &mut centres);
    }
    ordered(space, &members, &centres)
}

/// Rows far apart: each is drawn with probability proportional to its squared distance from those before.
fn seeds(space: &Space, count: usize, generator: &mut StdRng) -> Vec<f32> {
    let rows = space.rows();
    let mut chosen = generator.random_range(0..rows);
    let mut centres = space.point(chosen).to_vec();
    let mut far = vec![f32::INFINITY; rows];
    for _ in 1..count {
        for (row, far) in far.iter_mut().enumerate() {
            *far = far.min(distance(space.point(row), space.point(chosen)));
        }
        let total: f64 = far.iter().map(|far| f64::from(*far)).sum();
        let mut left = generator.random::<f64>() * total;
        let fits = |far: &f32| {
            left -= f64::from(*far);
            left < 0.0
        };
        // Where all rows are equal to a centre already, any will do: its cluster stays empty.
        chosen = far.iter().position(fits).unwrap_or(chosen);
        centres.extend_from_slice(space.point(chosen));
    }
    centres
}

fn nearest(centres: &[f32], point: &[f32], width: usize) -> usize {
    let mut best = (f32::INFINITY, 0);
    for (index, centre) in centres.chunks_exact(width).enumerate() {
        let found = distance(centre, point);
        if found < best.0 {
            best = (found, index);
        }
    }
    best.1
}

/// Moves each centre to the mean of its rows; one without rows stays.
fn recentre(space: &Space, members: &[usize], centres: &mut [f32]) {
    let width = space.width();
    let mut sums = vec![0.0f64; centres.len()];
    let mut sizes = vec![0u32; centres.len() / width];
    for (row, member) in members.iter().enumerate() {
        sizes[*member] += 1;
        let sum = &mut sums[member * width..][..width];
        sum.iter_mut().zip(space.point(row)).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    for (index, size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
        let pairs = centres[index * width..][..width].iter_mut().zip(&sums[index * width..][..width]);
        pairs.for_each(|(centre, sum)| *centre = (sum / f64::from(*size)) as f32);
    }
}

fn ordered(space: &Space, members: &[usize], centres: &[f32]) -> Vec<Vec<usize>> {
    let width = space.width();
    let mut clusters = vec![Vec::new(); centres.len() / width];
    for (row, member) in members.iter().enumerate() {
        clusters[*member].push((distance(space.point(row), &centres[member * width..][..width]), row));
    }
    clusters.retain(|cluster| !cluster.is_empty());
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
    let by_distance = |mut cluster: Vec<(f32, usize)>| {
        cluster.sort_by(|a, b| a.0.total_cmp(&b.0));
        cluster.into_iter().map(|(_, row)| row).collect()
    };
    clusters.into_iter().map(by_distance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Examples;

    /// Three heaps of 30, 20 and 10 rows round far corners.
    fn heaps() -> Space {
        let mut generator = StdRng::seed_from_u64(8);
        let mut values = Vec::new();
        for (corner, size) in [([0.0, 0.0], 30), ([10.0, 0.0], 20), ([0.0, 10.0], 10)] {
            for _ in 0..size {
                values.extend(corner.map(|at: f32| at + generator.random_range(-1.0f32..1.0)));
            }
        }
        Space::of(&Examples::new(2, values, vec![0; 60]).unwrap(), 0)
    }

    #[test]
    fn heaps_are_found_the_largest_first() {
        for seed in 0..10 {
            let found = clusters(&heaps(), 3, seed);
            assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [30, 20, 10], "seed {seed}");
            for (cluster, rows) in found.iter().zip([0..30, 30..50, 50..60]) {
                assert!(cluster.iter().all(|row| rows.contains(row)));
            }
        }
    }

    #[test]
    fn every_row_is_in_one_cluster_nearest_to_the_middle_first() {
        let space = heaps();
        for count in [1, 7, 60, 1000] {
            let found = clusters(&space, count, 3);
            assert!(!found.is_empty() && found.len() <= count.min(60));
            let mut rows: Vec<usize> = found.iter().flatten().copied().collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..60).collect::<Vec<_>>());
            assert_eq!(found, clusters(&space, count, 3));
            let cluster = &found[0];
            let mean = |axis: usize| {
                cluster.iter().map(|row| space.point(*row)[axis]).sum::<f32>() / cluster.len() as f32
            };
            let middle = [mean(0), mean(1)];
            let distances: Vec<f32> =
                cluster.iter().map(|row| distance(space.point(*row), &middle)).collect();
            assert!(distances.windows(2).all(|pair| pair[0] <= pair[1] + 1e-5), "{distances:?}");
        }
    }

    #[test]
    fn equal_rows_make_one_cluster() {
        let space = Space::of(&Examples::new(2, vec![4.0; 20], vec![0; 10]).unwrap(), 0);
        assert_eq!(clusters(&space, 5, 1), [(0..10).collect::<Vec<_>>()]);
    }
}
