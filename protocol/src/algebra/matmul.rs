//! Products of matrices over Z_2^64, row-major.
//!
//! One column, or a few, is a row of dot products. More columns go through tiles held in
//! registers: some rows of the left matrix against a strip of columns, copied once into contiguous
//! memory. The copy reads through a `Source`, so that a convolution needs no window matrix.

mod dot;
mod tile;

use super::lanes::{self, Kernel, Lanes};
use dot::dot_rows;
use tile::{Left, Target, column_of_tiles, pack};
use zeroize::Zeroize;

/// Steps of the inner dimension in one strip: 16 KiB for two registers of eight words, so that
/// strip and left rows share the first-level cache.
const INNER_BLOCK: usize = 128;
/// From this many columns on, a strip beats one dot product per entry even if partly empty.
const STRIP_COLUMNS_MIN: usize = 5;

/// Shape of `out[rows x columns] += w[rows x inner] * x[inner x columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulShape {
    /// Rows of the left matrix and of the result.
    pub rows: usize,
    /// Columns of the left matrix, rows of the right one.
    pub inner: usize,
    /// Columns of the right matrix and of the result.
    pub columns: usize,
}

/// Adds the product of two row-major matrices to `out`, wrapping.
///
/// # Panics
/// If a slice is not as long as the shape says.
pub fn multiply_add(out: &mut [u64], w: &[u64], x: &[u64], shape: MatmulShape) {
    let MatmulShape { inner, columns, .. } = shape;
    assert_eq!(inner.checked_mul(columns), Some(x.len()), "right matrix against {shape:?}");
    multiply_add_from(out, w, Matrix { words: x, columns }, shape);
}

/// Adds `bias[i]` to each word of row `i` of `out`; the rows are equally long.
///
/// # Panics
/// If `out` does not divide into one row per bias.
pub fn add_bias(out: &mut [u64], bias: &[u64]) {
    let Some(width) = out.len().checked_div(bias.len()) else {
        assert!(out.is_empty(), "{} words but no bias", out.len());
        return;
    };
    assert_eq!(width.checked_mul(bias.len()), Some(out.len()), "one row of `out` per bias");
    if width == 0 {
        return;
    }
    for (row, bias) in out.chunks_exact_mut(width).zip(bias) {
        for word in row {
            *word = word.wrapping_add(*bias);
        }
    }
}

/// A right matrix whose entry at a step of the inner dimension and a column is the word at
/// `base(step) + offset(column)`.
pub(super) trait Source: Copy {
    /// The words that the places point into.
    fn words(&self) -> &[u64];
    /// The part of a place that comes from the step.
    fn base(&self, step: usize) -> usize;
    /// The part of a place that comes from the column.
    fn offset(&self, column: usize) -> usize;
    /// The only column, if it lies in one piece.
    fn whole_column(&self) -> Option<&[u64]>;
}

#[derive(Clone, Copy)]
struct Matrix<'a> {
    words: &'a [u64],
    columns: usize,
}

impl Source for Matrix<'_> {
    #[inline(always)]
    fn words(&self) -> &[u64] {
        self.words
    }

    #[inline(always)]
    fn base(&self, step: usize) -> usize {
        step * self.columns
    }

    #[inline(always)]
    fn offset(&self, column: usize) -> usize {
        column
    }

    #[inline(always)]
    fn whole_column(&self) -> Option<&[u64]> {
        (self.columns == 1).then_some(self.words)
    }
}

/// [`multiply_add`] with the right matrix behind a source.
pub(super) fn multiply_add_from(out: &mut [u64], w: &[u64], source: impl Source, shape: MatmulShape) {
    let task = Task::new(out, w, source, shape);
    if shape.rows > 0 && shape.inner > 0 && shape.columns > 0 {
        lanes::run(task);
    }
}

struct Task<'a, S> {
    out: &'a mut [u64],
    w: &'a [u64],
    source: S,
    shape: MatmulShape,
}

impl<'a, S: Source> Task<'a, S> {
    fn new(out: &'a mut [u64], w: &'a [u64], source: S, shape: MatmulShape) -> Self {
        let MatmulShape { rows, inner, columns } = shape;
        assert_eq!(rows.checked_mul(columns), Some(out.len()), "result against {shape:?}");
        assert_eq!(rows.checked_mul(inner), Some(w.len()), "left matrix against {shape:?}");
        Self { out, w, source, shape }
    }

    #[inline(always)]
    fn dots<L: Lanes>(self, lanes: L) {
        let columns = self.shape.columns;
        if let Some(column) = self.source.whole_column() {
            return dot_rows(lanes, self.out, columns, self.w, column);
        }
        let mut vector = vec![0; self.shape.inner];
        for column in 0..columns {
            let offset = self.source.offset(column);
            for (step, word) in vector.iter_mut().enumerate() {
                *word = self.source.words()[self.source.base(step) + offset];
            }
            dot_rows(lanes, &mut self.out[column..], columns, self.w, &vector);
        }
        vector.zeroize();
    }

    #[inline(always)]
    fn strips<L: Lanes, const ROWS: usize, const VECTORS: usize>(self, lanes: L) {
        let MatmulShape { inner, columns, .. } = self.shape;
        let mut packed = vec![0; inner.min(INNER_BLOCK) * VECTORS * L::LANES];
        for first in (0..inner).step_by(INNER_BLOCK) {
            let steps = (inner - first).min(INNER_BLOCK);
            let left = Left { w: self.w, inner, first };
            let mut place = 0;
            while place < columns {
                let rest = columns - place;
                let packed = &mut packed[..steps * VECTORS * L::LANES];
                if rest > L::LANES {
                    let width = rest.min(VECTORS * L::LANES);
                    let target = Target { out: &mut self.out[place..], stride: columns, width };
                    pack::<L, S, VECTORS>(packed, self.source, first, place, width);
                    column_of_tiles::<L, ROWS, VECTORS>(lanes, target, left, packed);
                    place += width;
                } else {
                    let packed = &mut packed[..steps * L::LANES];
                    let target = Target { out: &mut self.out[place..], stride: columns, width: rest };
                    pack::<L, S, 1>(packed, self.source, first, place, rest);
                    column_of_tiles::<L, ROWS, 1>(lanes, target, left, packed);
                    place += rest;
                }
            }
        }
        packed.zeroize();
    }
}

impl<S: Source> Kernel for Task<'_, S> {
    #[inline(always)]
    fn run<L: Lanes, const ROWS: usize, const VECTORS: usize>(self, lanes: L) {
        if self.shape.columns < STRIP_COLUMNS_MIN {
            self.dots(lanes);
        } else {
            self.strips::<L, ROWS, VECTORS>(lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::lanes::Level;
    use proptest::prelude::*;

    fn words(count: usize, salt: u64) -> Vec<u64> {
        (0..count as u64)
            .map(|index| (index ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
            .collect()
    }

    fn naive(out: &mut [u64], w: &[u64], x: &[u64], shape: MatmulShape) {
        for row in 0..shape.rows {
            for column in 0..shape.columns {
                for step in 0..shape.inner {
                    let product = w[row * shape.inner + step].wrapping_mul(x[step * shape.columns + column]);
                    let word = &mut out[row * shape.columns + column];
                    *word = word.wrapping_add(product);
                }
            }
        }
    }

    fn check(rows: usize, inner: usize, columns: usize) {
        let shape = MatmulShape { rows, inner, columns };
        let (w, x) = (words(rows * inner, 1), words(inner * columns, 2));
        let start = words(rows * columns, 3);
        let mut expected = start.clone();
        naive(&mut expected, &w, &x, shape);
        for level in Level::available() {
            let mut found = start.clone();
            if rows * inner * columns > 0 {
                let source = Matrix { words: &x, columns };
                level.run(Task::new(&mut found, &w, source, shape));
            }
            assert_eq!(found, expected, "{shape:?} at {level:?}");
        }
        let mut found = start;
        multiply_add(&mut found, &w, &x, shape);
        assert_eq!(found, expected, "{shape:?}");
    }

    #[test]
    fn every_level_agrees_with_the_definition() {
        for (rows, inner, columns) in [
            (1, 1, 1),
            (10, 128, 1),
            (13, 257, 1),
            (16, 25, 576),
            (10, 600, 37),
            (9, 300, 70),
            (9, 3, 5),
            (3, 700, 4),
        ] {
            check(rows, inner, columns);
        }
    }

    #[test]
    fn empty_dimensions_leave_the_result_alone() {
        for (rows, inner, columns) in [(0, 3, 4), (3, 0, 4), (3, 4, 0)] {
            check(rows, inner, columns);
        }
    }

    #[test]
    #[should_panic(expected = "left matrix")]
    fn wrong_lengths_are_refused() {
        multiply_add(&mut [0; 2], &[1; 3], &[1; 2], MatmulShape { rows: 2, inner: 2, columns: 1 });
    }

    #[test]
    fn bias_is_added_to_whole_rows() {
        let mut out = [1, 2, 3, 4, u64::MAX, 6];
        add_bias(&mut out, &[10, 20, 1]);
        assert_eq!(out, [11, 12, 23, 24, 0, 7]);
    }

    proptest! {
        #[test]
        fn any_shape_agrees(rows in 0_usize..20, inner in 0_usize..40, columns in 0_usize..40) {
            check(rows, inner, columns);
        }
    }
}
