//! The assignment of least cost.

use pathfinding::kuhn_munkres::{Weights, kuhn_munkres};

/// Costs become integers up to this, so that no sum of them wraps.
const STEPS: f64 = (1u64 << 40) as f64;

/// Costs negated, since the library looks for the largest weight.
struct Square {
    size: usize,
    weights: Vec<i64>,
}

impl Weights<i64> for Square {
    fn rows(&self) -> usize {
        self.size
    }

    fn columns(&self) -> usize {
        self.size
    }

    fn at(&self, row: usize, column: usize) -> i64 {
        self.weights[row * self.size + column]
    }

    fn neg(&self) -> Self {
        Self { size: self.size, weights: self.weights.iter().map(|weight| -weight).collect() }
    }
}

/// A column for each row, each taken once, so that the sum of `costs`, `size x size`, is least. What is no number
/// counts as the largest cost.
pub(super) fn assign(costs: &[f32], size: usize) -> Vec<usize> {
    let finite = || costs.iter().copied().filter(|cost| cost.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    // In double precision the span of any two single ones neither overflows nor becomes too small to divide by.
    let (high, span) = (f64::from(high), f64::from(high) - f64::from(low));
    let weight = |cost: &f32| match cost.is_finite() {
        true if span > 0.0 => ((high - f64::from(*cost)) / span * STEPS) as i64 + 1,
        true => 1,
        false => 0,
    };
    kuhn_munkres(&Square { size, weights: costs.iter().map(weight).collect() }).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn permutations(size: usize) -> Vec<Vec<usize>> {
        if size == 0 {
            return vec![vec![]];
        }
        let smaller = permutations(size - 1);
        let with = |place: usize| {
            smaller.iter().map(move |rest| {
                let mut whole = rest.clone();
                whole.insert(place, size - 1);
                whole
            })
        };
        (0..size).flat_map(with).collect()
    }

    #[test]
    fn no_assignment_is_cheaper() {
        let mut generator = StdRng::seed_from_u64(1);
        for size in 1..=6 {
            let all = permutations(size);
            for _ in 0..20 {
                let costs: Vec<f32> =
                    (0..size * size).map(|_| generator.random_range(-3.0f32..3.0)).collect();
                let sum = |columns: &Vec<usize>| -> f32 {
                    columns.iter().enumerate().map(|(row, column)| costs[row * size + column]).sum()
                };
                let least = all.iter().map(sum).fold(f32::INFINITY, f32::min);
                let found = assign(&costs, size);
                assert!((sum(&found) - least).abs() < 1e-4, "{found:?}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_avoided() {
        assert_eq!(assign(&[f32::NAN, 1.0, 1.0, f32::INFINITY], 2), [1, 0]);
        assert_eq!(assign(&[f32::NAN; 4], 2).len(), 2);
        assert_eq!(assign(&[], 0), [0; 0]);
    }

    #[test]
    fn costs_that_are_nearly_equal_or_far_apart_are_told_apart() {
        for large in [f32::from_bits(1), 1e-30, 1.0, f32::MAX] {
            assert_eq!(assign(&[large, 0.0, 0.0, large], 2), [1, 0], "{large}");
            assert_eq!(assign(&[-large, large, large, -large], 2), [0, 1], "{large}");
        }
        assert_eq!(assign(&[1e-30; 4], 2).len(), 2);
    }
}
