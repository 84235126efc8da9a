//! Distances in the clear, and whom they name.

use super::{Value, outputs, square, truncate};
use crate::graph::{OneClassShape, Op, Program};
use crate::model::OneClass;
use crate::model::fixed::{FixedError, FixedWeights, encode_one_class};
use crate::stock::Gadget;

/// One user's model, ready to measure in the clear.
#[derive(Debug)]
pub struct DistanceOracle {
    model: OneClass,
    program: Program,
    weights: Vec<FixedWeights>,
}

/// How far one query is from what one user's model knows, in units of twice the task's bits after the point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// With all truncations rounded down.
    pub word: i64,
    /// How far roundings can move it.
    pub error: f64,
    /// The largest that the user accepts.
    pub threshold: i64,
}

/// Whom a query belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The user with the smallest distance, the first of equal ones, if it accepts.
    pub user: Option<usize>,
    /// Whether no rounding can change that.
    pub certain: bool,
}

impl DistanceOracle {
    /// Encodes the model with the task's numbers.
    ///
    /// # Errors
    /// The model does not fit the numbers.
    pub fn new(model: OneClass, shape: OneClassShape) -> Result<Self, FixedError> {
        let program = Program::measure(&model.measure(), shape.numbers, 1, Gadget::Digits)?;
        let weights = encode_one_class(&model, shape)?;
        Ok(Self { model, program, weights })
    }

    /// The distance of one encoded query (fixed-point words, channels outermost).
    pub fn measure(&self, input: &[u64]) -> Distance {
        let Value { word, error } = match self.model.reconstructor() {
            Some(network) => {
                let outputs = outputs(&self.program, network.network(), &self.weights, input);
                let apart = outputs.iter().zip(input).map(|(output, value)| {
                    let word = output.word.wrapping_sub(*value as i64);
                    square(Value { word, error: output.error })
                });
                apart.fold(Value::default(), plus)
            }
            None => self.residual(input),
        };
        let threshold = self.weights.last().and_then(|entry| entry.bias.first());
        Distance { word, error, threshold: threshold.map_or(0, |word| *word as i64) }
    }

    fn residual(&self, input: &[u64]) -> Value {
        let (Some(rows), Some(Op::Residual { shape, .. })) =
            (self.weights.first(), self.program.ops().last())
        else {
            return Value::default();
        };
        let dot = |row: &[u64]| {
            row.iter().zip(input).fold(0u64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)))
        };
        let all = rows.weight.chunks(input.len().max(1)).zip(&rows.bias);
        let exact = |word: u64| Value { word: word as i64, error: 0.0 };
        let mut products: Vec<Value> = all.map(|(row, bias)| exact(dot(row).wrapping_add(*bias))).collect();
        let offset = products.pop().unwrap_or_default();
        let explained = products.into_iter().map(|value| square(truncate(value, shape.shift)));
        let explained = explained.fold(Value::default(), plus);
        let away = Value { word: explained.word.wrapping_neg(), error: explained.error };
        [offset, away].into_iter().fold(exact(dot(input)), plus)
    }
}

fn plus(one: Value, other: Value) -> Value {
    Value { word: one.word.wrapping_add(other.word), error: one.error + other.error }
}

impl Distance {
    fn accepted(&self) -> bool {
        self.word <= self.threshold
    }

    /// Whether roundings decide if it is accepted.
    fn is_close_call(&self) -> bool {
        // Both are below 2^60, so that the difference is exact but for the 53 bits of a float.
        let margin = self.threshold.saturating_sub(self.word) as f64;
        if self.accepted() { margin < self.error } else { margin >= -self.error }
    }

    /// Whether it is smaller than `other` whatever the roundings; `earlier` wins a tie.
    fn surely_before(&self, other: &Self, earlier: bool) -> bool {
        let gap = other.word.saturating_sub(self.word);
        let error = self.error + other.error;
        if error == 0.0 { gap > 0 || gap == 0 && earlier } else { gap as f64 > error }
    }
}

/// Whom the distances of all users name, and whether roundings could name another.
pub fn nearest(distances: &[Distance]) -> Nearest {
    let Some(first) = (0..distances.len()).min_by_key(|user| distances[*user].word) else {
        return Nearest { user: None, certain: true };
    };
    let best = &distances[first];
    let user = best.accepted().then_some(first);
    let possible = |other: &usize| *other == first || !best.surely_before(&distances[*other], first < *other);
    let mut candidates = (0..distances.len()).filter(possible);
    // Several may be the nearest and all refuse; one alone must be sure of its own answer.
    let refused = |user: usize| !distances[user].accepted() && !distances[user].is_close_call();
    let certain = match user {
        Some(_) => candidates.all(|other| other == first) && !best.is_close_call(),
        None => candidates.all(refused),
    };
    Nearest { user, certain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(word: i64, error: f64, threshold: i64) -> Distance {
        Distance { word, error, threshold }
    }

    fn found(distances: &[Distance]) -> (Option<usize>, bool) {
        let Nearest { user, certain } = nearest(distances);
        (user, certain)
    }

    #[test]
    fn an_answer_is_certain_only_beyond_all_doubts() {
        let far = distance(900, 5.0, 10_000);
        assert_eq!(found(&[far, distance(100, 5.0, 200)]), (Some(1), true));
        // Within the errors of both, of equal size, or at the threshold.
        assert_eq!(found(&[distance(110, 5.0, 200), distance(100, 5.0, 200)]), (Some(1), false));
        assert_eq!(found(&[distance(111, 5.0, 200), distance(100, 5.0, 200)]), (Some(1), true));
        assert_eq!(found(&[far, distance(100, 5.0, 104)]), (Some(1), false));
        assert_eq!(found(&[far, distance(100, 5.0, 105)]), (Some(1), true));
        assert_eq!(found(&[far, distance(100, 5.0, 96)]), (None, false));
        assert_eq!(found(&[far, distance(100, 5.0, 94)]), (None, true));
        // Nobody is certain although either may be the nearest, but not if one of these might accept.
        assert_eq!(found(&[distance(101, 5.0, 50), distance(100, 5.0, 50)]), (None, true));
        assert_eq!(found(&[distance(101, 5.0, 99), distance(100, 5.0, 50)]), (None, false));
    }

    #[test]
    fn ties_without_rounding_are_certain() {
        let exact = |word, threshold| distance(word, 0.0, threshold);
        assert_eq!(found(&[exact(7, 7), exact(5, 9), exact(5, 9)]), (Some(1), true));
        assert_eq!(found(&[exact(5, 4), exact(5, 9)]), (None, true));
        assert_eq!(found(&[exact(5, 5)]), (Some(0), true));
        assert_eq!(found(&[exact(6, 5)]), (None, true));
        assert_eq!(found(&[]), (None, true));
    }
}
