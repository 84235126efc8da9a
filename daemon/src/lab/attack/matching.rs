//! Which encoding belongs to which candidate, from distances alone.

use super::assignment::assign;
use super::geometry::Geometry;
use crate::lab::LabError;
use crate::training::products;

/// Most refinements of a matching.
const ROUNDS_MAX: usize = 30;
/// Most refinements by patches, each of which is a larger work.
const PATCH_ROUNDS_MAX: usize = 6;

/// Mean 0 and variance 1 within each row.
fn standardised(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width.max(1)) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / width as f32;
        let factor = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
        row.iter_mut().for_each(|value| *value = (*value - mean) * factor);
    }
}

/// The place of each value among all of them, from 0 to 1. Equal values share the mean of their places, since an order
/// among them would tell where they stand.
fn ranks(values: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|left, right| values[*left].total_cmp(&values[*right]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|left, right| values[*left] == values[*right]) {
        let mean = first as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|place| ranks[*place] = (mean / values.len() as f64) as f32);
        first += equal.len();
    }
    ranks
}

fn sorted_rows(values: &[f32], width: usize) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.chunks_exact_mut(width).for_each(|row| row.sort_by(f32::total_cmp));
    sorted
}

/// The assignment that makes the products of rows largest.
fn alike(left: &[f32], right: &[f32], rows: usize) -> Result<Vec<usize>, LabError> {
    let products = products(left, right, [1, rows, rows, left.len() / rows.max(1)])?;
    let costs: Vec<f32> = products.iter().map(|product| -product).collect();
    Ok(assign(&costs, rows))
}

/// By the distances of whole images: each image is first known by its sorted distances from all others, then by its
/// distances from those that it is matched with. The first may lead nowhere, so it is tried with each table of distances
/// of `starts`, and what fits `candidates` best is taken.
pub(super) fn by_images(
    encodings: &[f32],
    candidates: &[f32],
    starts: &[&[f32]],
    images: usize,
) -> Result<Vec<usize>, LabError> {
    let (encodings, candidates) = (ranks(encodings), ranks(candidates));
    let mut best: Option<(f32, Vec<usize>)> = None;
    for start in starts {
        let first = by_profiles(&encodings, &ranks(start), images)?;
        let found = refined(&encodings, &candidates, first)?;
        let fit: f32 = sureness(&encodings, &candidates, &found).iter().sum();
        if best.as_ref().is_none_or(|(most, _)| fit > *most) {
            best = Some((fit, found));
        }
    }
    Ok(best.map(|(_, found)| found).unwrap_or_default())
}

/// By sorted distances.
fn by_profiles(encodings: &[f32], candidates: &[f32], images: usize) -> Result<Vec<usize>, LabError> {
    let (left, right) = (sorted_rows(encodings, images), sorted_rows(candidates, images));
    Ok(assign(&squares(&left, &right, images)?, images))
}

/// By distances from those that each is matched with, until nothing changes.
fn refined(encodings: &[f32], candidates: &[f32], mut matching: Vec<usize>) -> Result<Vec<usize>, LabError> {
    let images = matching.len();
    let mut left = encodings.to_vec();
    standardised(&mut left, images);
    for _ in 0..ROUNDS_MAX {
        let rows = candidates.chunks_exact(images);
        let mut right: Vec<f32> = rows.flat_map(|row| matching.iter().map(|place| row[*place])).collect();
        standardised(&mut right, images);
        let next = alike(&left, &right, images)?;
        if next == matching {
            break;
        }
        matching = next;
    }
    Ok(matching)
}

/// Squared distances between all rows of two tables of so many rows.
pub(super) fn squares(left: &[f32], right: &[f32], rows: usize) -> Result<Vec<f32>, LabError> {
    let width = left.len() / rows.max(1);
    let own = |table: &[f32]| -> Vec<f32> {
        table.chunks_exact(width).map(|row| row.iter().map(|value| value * value).sum()).collect()
    };
    let (of_left, of_right) = (own(left), own(right));
    let mut squares = products(left, right, [1, rows, rows, width])?;
    for (row, left) in squares.chunks_exact_mut(rows).zip(of_left) {
        row.iter_mut().zip(&of_right).for_each(|(value, right)| *value = left + right - 2.0 * *value);
    }
    Ok(squares)
}

/// How alike the distances of each pair of a matching are from the other pairs.
pub(super) fn sureness(encodings: &[f32], candidates: &[f32], matching: &[usize]) -> Vec<f32> {
    let images = matching.len();
    let mut left = encodings.to_vec();
    let of_pair =
        |row: &usize| matching.iter().map(|column| candidates[row * images + column]).collect::<Vec<f32>>();
    let mut right: Vec<f32> = matching.iter().flat_map(of_pair).collect();
    standardised(&mut left, images);
    standardised(&mut right, images);
    let rows = left.chunks_exact(images).zip(right.chunks_exact(images));
    rows.map(|(left, right)| left.iter().zip(right).map(|(left, right)| left * right).sum()).collect()
}

/// Which position of the candidates each position of the encodings is: where pairs of matched images are as far apart.
pub(super) fn positions(
    encodings: &Geometry,
    candidates: &Geometry,
    matching: &[usize],
) -> Result<Vec<usize>, LabError> {
    let square = encodings.images * encodings.images;
    let mut left = encodings.patches.clone();
    let mut right = Vec::with_capacity(candidates.patches.len());
    for distances in candidates.patches.chunks_exact(square) {
        for row in matching {
            right.extend(matching.iter().map(|column| distances[row * encodings.images + column]));
        }
    }
    standardised(&mut left, square);
    standardised(&mut right, square);
    alike(&left, &right, encodings.positions)
}

/// By the distances of patches, once a matching is right often enough to tell which position is which.
pub(super) fn by_patches(
    encodings: &Geometry,
    candidates: &Geometry,
    mut matching: Vec<usize>,
) -> Result<Vec<usize>, LabError> {
    let images = encodings.images;
    let square = images * images;
    let rows = |geometry: &Geometry, positions: &[usize], columns: &[usize]| -> Vec<f32> {
        let mut rows = Vec::with_capacity(geometry.patches.len());
        for image in 0..images {
            for position in positions {
                let distances = &geometry.patches[position * square + image * images..][..images];
                rows.extend(columns.iter().map(|column| distances[*column]));
            }
        }
        standardised(&mut rows, images);
        rows
    };
    let (in_order, all): (Vec<usize>, Vec<usize>) =
        ((0..encodings.positions).collect(), (0..images).collect());
    let left = rows(encodings, &in_order, &all);
    for _ in 0..PATCH_ROUNDS_MAX {
        let positions = positions(encodings, candidates, &matching)?;
        let next = alike(&left, &rows(candidates, &positions, &matching), images)?;
        if next == matching {
            break;
        }
        matching = next;
    }
    Ok(matching)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_ranks_wherever_they_stand() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.5]), [0.625, 0.25, 0.625, 0.0]);
        assert_eq!(ranks(&[2.0; 4]), [0.375; 4]);
        assert_eq!(ranks(&[0.0, -0.0]), [0.25; 2]);
        assert_eq!(ranks(&[]), [0.0; 0]);
    }
}
