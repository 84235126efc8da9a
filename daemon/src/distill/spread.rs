//! From a few noisy answers to a belief about every row.

use super::space::{Space, distance};
use crate::training::{Targets, TargetsError};

/// Nearest rows that a row listens to.
const NEIGHBOURS: usize = 7;
/// Share that a row takes from its neighbours in each step; the rest stays with its own answer. High, so that
/// an answer that noise made wrong is outvoted by the answers round it.
const FROM_NEIGHBOURS: f32 = 0.95;
/// Steps at most, and the change at which they end.
const STEPS_MAX: usize = 200;
const SETTLED: f32 = 1e-6;

/// An answer about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Position of the row.
    pub row: usize,
    /// The class that the consortium named.
    pub class: u8,
}

/// Which rows are alike, and how much.
#[derive(Debug)]
pub struct Graph {
    /// For each row its neighbours and the weight of each, symmetric and normalised by degrees.
    edges: Vec<Vec<(u32, f32)>>,
}

impl Graph {
    /// Links each row with its nearest ones, both ways. Time grows with the square of the rows.
    pub fn of(space: &Space) -> Self {
        let rows = space.rows();
        let near: Vec<Vec<(f32, u32)>> = (0..rows).map(|row| nearest(space, row)).collect();
        // Distances count relative to how crowded it is at either end (Zelnik-Manor, Perona 2004).
        let reach: Vec<f32> =
            near.iter().map(|near| near.last().map_or(0.0, |(far, _)| far.sqrt())).collect();
        let mut edges: Vec<Vec<(u32, f32)>> = vec![Vec::with_capacity(2 * NEIGHBOURS); rows];
        for (row, near) in near.iter().enumerate() {
            for &(squared, other) in near {
                let scale = reach[row] * reach[other as usize];
                let weight = if scale > 0.0 { (-squared / scale).exp() } else { 1.0 };
                edges[row].push((other, weight));
                edges[other as usize].push((row as u32, weight));
            }
        }
        for list in &mut edges {
            list.sort_by_key(|(other, _)| *other);
            list.dedup_by_key(|(other, _)| *other);
        }
        let degrees: Vec<f32> =
            edges.iter().map(|list| list.iter().map(|(_, weight)| weight).sum::<f32>().sqrt()).collect();
        for (row, list) in edges.iter_mut().enumerate() {
            for (other, weight) in list {
                *weight /= (degrees[row] * degrees[*other as usize]).max(f32::MIN_POSITIVE);
            }
        }
        Self { edges }
    }

    /// Belief in each class for each row: answers spread along the links until they settle (Zhou et al.
    /// 2003), then each row's shares are sharpened and made to add up to 1. A row that no answer reaches has
    /// none.
    ///
    /// # Errors
    /// No class, or no row.
    ///
    /// # Panics
    /// Where an answer names a row or class that does not exist.
    pub fn spread(&self, answers: &[Labelled], classes: usize) -> Result<Targets, TargetsError> {
        let rows = self.edges.len();
        let mut given = vec![0.0f32; rows * classes];
        for answer in answers {
            given[answer.row * classes + usize::from(answer.class)] = 1.0 - FROM_NEIGHBOURS;
        }
        let mut belief = given.clone();
        for _ in 0..STEPS_MAX {
            let mut next = given.clone();
            for (row, list) in self.edges.iter().enumerate() {
                let into = &mut next[row * classes..][..classes];
                for (other, weight) in list {
                    let from = &belief[*other as usize * classes..][..classes];
                    into.iter_mut()
                        .zip(from)
                        .for_each(|(into, from)| *into += FROM_NEIGHBOURS * weight * from);
                }
            }
            let change = next.iter().zip(&belief).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            belief = next;
            if change < SETTLED {
                break;
            }
        }
        belief.chunks_mut(classes.max(1)).for_each(sharpen);
        Targets::new(classes, belief)
    }
}

/// Makes shares of what reached a row: squares that add up to 1, so that a student learns less of the answers
/// that were outvoted. Nothing stays nothing.
fn sharpen(row: &mut [f32]) {
    let most = row.iter().copied().fold(0.0, f32::max);
    if most > 0.0 {
        row.iter_mut().for_each(|share| *share = (*share / most).powi(2));
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|share| *share /= sum);
    }
}

/// Squared distance and position of the nearest other rows, nearest first.
fn nearest(space: &Space, row: usize) -> Vec<(f32, u32)> {
    let point = space.point(row);
    let mut found: Vec<(f32, u32)> = Vec::with_capacity(NEIGHBOURS + 1);
    for other in (0..space.rows()).filter(|other| *other != row) {
        let squared = distance(point, space.point(other));
        let last = found.last().map_or(f32::INFINITY, |(far, _)| *far);
        if found.len() < NEIGHBOURS || squared < last {
            let at = found.partition_point(|(near, _)| *near <= squared);
            found.insert(at, (squared, other as u32));
            found.truncate(NEIGHBOURS);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Examples;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// Two heaps of 40 rows far from each other, and the class of each row.
    fn heaps() -> (Space, Vec<u8>) {
        let mut generator = StdRng::seed_from_u64(4);
        let mut values = Vec::new();
        for corner in [0.0, 12.0] {
            values.extend((0..80).map(|_| corner + generator.random_range(-1.0f32..1.0)));
        }
        let space = Space::of(&Examples::new(2, values, vec![0; 80]).unwrap(), 0);
        (space, (0..80).map(|row| u8::from(row >= 40)).collect())
    }

    fn answers(list: &[(usize, u8)]) -> Vec<Labelled> {
        list.iter().map(|&(row, class)| Labelled { row, class }).collect()
    }

    #[test]
    fn one_answer_reaches_its_heap_and_no_other() {
        let (space, classes) = heaps();
        let graph = Graph::of(&space);
        let beliefs = graph.spread(&answers(&[(3, 0), (77, 1)]), 3).unwrap();
        for (row, class) in classes.iter().enumerate() {
            assert_eq!(beliefs.class(row), *class);
            assert!((beliefs.row(row)[usize::from(*class)] - 1.0).abs() < 1e-5, "{:?}", beliefs.row(row));
        }
        let half = graph.spread(&answers(&[(3, 0)]), 3).unwrap();
        assert!((40..80).all(|row| half.row(row) == [0.0; 3]), "no answer, no belief");
    }

    #[test]
    fn a_wrong_answer_is_outvoted_also_at_its_own_row() {
        let (space, classes) = heaps();
        let right = (0..80).step_by(4).map(|row| (row, classes[row]));
        let wrong = [(1, 1), (2, 1), (79, 0)];
        let beliefs = Graph::of(&space).spread(&answers(&right.chain(wrong).collect::<Vec<_>>()), 2).unwrap();
        let agreeing = (0..80).filter(|row| beliefs.class(*row) == classes[*row]).count();
        assert!(agreeing >= 78, "{agreeing}");
        assert!(
            beliefs.row(1)[1] > beliefs.row(9)[1],
            "the wrong answer is not forgotten: {:?}",
            beliefs.row(1)
        );
    }

    #[test]
    fn links_are_symmetric_and_few() {
        let (space, _) = heaps();
        let graph = Graph::of(&space);
        for (row, list) in graph.edges.iter().enumerate() {
            assert!((NEIGHBOURS..80).contains(&list.len()));
            for (other, weight) in list {
                assert_ne!(*other as usize, row);
                let back = graph.edges[*other as usize].iter().find(|(back, _)| *back as usize == row);
                assert!((back.unwrap().1 - weight).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn few_and_equal_rows_have_a_graph_too() {
        for rows in [1, 2, 5, 30] {
            let space = Space::of(&Examples::new(2, vec![1.0; 2 * rows], vec![0; rows]).unwrap(), 0);
            let beliefs = Graph::of(&space).spread(&answers(&[(0, 1)]), 2).unwrap();
            assert_eq!((beliefs.rows(), beliefs.class(0)), (rows, 1));
        }
        let space = Space::of(&Examples::new(1, vec![1.0], vec![0]).unwrap(), 0);
        assert!(Graph::of(&space).spread(&[], 0).is_err());
    }
}
