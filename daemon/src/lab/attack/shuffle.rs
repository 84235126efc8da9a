//! The shuffle of the patches undone: the vector that is added to each position tells the position.

use super::assignment::assign;
use crate::lab::{Encodings, LabError};
use crate::training::products;

/// The patches of all encodings in one order.
#[derive(Clone, PartialEq)]
pub struct Undone {
    /// Of each encoding and each place of the common order, the patch that belongs there.
    pub orders: Vec<Vec<usize>>,
    /// The numbers in the common order, `positions x encodings x width`.
    pub(super) values: Vec<f32>,
}

impl std::fmt::Debug for Undone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Undone({} encodings)", self.orders.len())
    }
}

impl Undone {
    /// Share of patches that are where most others of their position are. `patches` says of each encoding's patches
    /// which position they are of.
    pub fn share(&self, patches: &[Vec<usize>]) -> f64 {
        let positions = self.orders.first().map_or(0, Vec::len);
        let mut right = 0;
        for place in 0..positions {
            let mut counts = vec![0; positions];
            self.orders.iter().zip(patches).for_each(|(order, truth)| counts[truth[order[place]]] += 1);
            right += counts.into_iter().max().unwrap_or(0);
        }
        right as f64 / (positions * self.orders.len()).max(1) as f64
    }
}

/// Brings the patches of all encodings into one order: that of the first, then that of the mean.
///
/// # Errors
/// The tensor library failed.
pub fn undo_shuffle(encodings: &Encodings) -> Result<Undone, LabError> {
    let shape = encodings.shape();
    let (count, positions, width, size) = (encodings.count(), shape.positions(), shape.width, shape.values());
    let mut reference = encodings.values()[..size].to_vec();
    let mut orders = Vec::new();
    for _ in 0..2 {
        orders = Vec::with_capacity(count);
        let mut mean = vec![0.0f32; size];
        for encoding in encodings.values().chunks_exact(size) {
            let order = nearest(&reference, encoding, positions, width)?;
            for (sum, patch) in mean.chunks_exact_mut(width).zip(&order) {
                let values = &encoding[patch * width..][..width];
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / count as f32);
            }
            orders.push(order);
        }
        reference = mean;
    }
    let mut values = Vec::with_capacity(encodings.values().len());
    for place in 0..positions {
        for (encoding, order) in encodings.values().chunks_exact(size).zip(&orders) {
            values.extend_from_slice(&encoding[order[place] * width..][..width]);
        }
    }
    Ok(Undone { orders, values })
}

/// The patch for each place of the reference that makes all distances together smallest.
fn nearest(
    reference: &[f32],
    encoding: &[f32],
    positions: usize,
    width: usize,
) -> Result<Vec<usize>, LabError> {
    // Of a squared distance, what belongs to one side alone is the same for every assignment.
    let products = products(reference, encoding, [1, positions, positions, width])?;
    let costs: Vec<f32> = products.iter().map(|product| -product).collect();
    Ok(assign(&costs, positions))
}
