//! Products of matrices over Z_2^64, row-major.
//!
//! One column is a row of dot products. More columns go through tiles held in registers: a few
//! rows of the left matrix against a strip of columns that is copied once into contiguous memory
//! (else each step of the inner loop touches another page).

use super::lanes::{self, Kernel, Lanes};
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use zeroize::Zeroize;

/// Steps of the inner dimension that one strip holds: 32 KiB for two registers of eight words.
const INNER_BLOCK: usize = 256;
/// Words of the copied strips: they share the second-level cache with the left matrix.
const PANEL_WORDS: usize = 1 << 14;
/// Below this many columns, one dot product per entry beats a padded strip.
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
    multiply_add_into(out, shape.columns, w, x, shape);
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

/// [`multiply_add`] into the first `shape.columns` words of each `stride` words of `out`; the last
/// row may end early.
pub(super) fn multiply_add_into(out: &mut [u64], stride: usize, w: &[u64], x: &[u64], shape: MatmulShape) {
    let task = Task::new(out, stride, w, x, shape);
    if shape.rows > 0 && shape.inner > 0 && shape.columns > 0 {
        lanes::run(task);
    }
}

struct Task<'a> {
    out: &'a mut [u64],
    stride: usize,
    w: &'a [u64],
    x: &'a [u64],
    shape: MatmulShape,
}

impl<'a> Task<'a> {
    fn new(out: &'a mut [u64], stride: usize, w: &'a [u64], x: &'a [u64], shape: MatmulShape) -> Self {
        let MatmulShape { rows, inner, columns } = shape;
        let reach =
            rows.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(columns));
        assert!(columns <= stride, "rows of the result overlap");
        assert!(reach.is_some_and(|reach| reach <= out.len()), "the result is shorter than {shape:?}");
        assert!(stride != columns || reach == Some(out.len()), "the result is longer than {shape:?}");
        assert_eq!(rows.checked_mul(inner), Some(w.len()), "left matrix against {shape:?}");
        assert_eq!(inner.checked_mul(columns), Some(x.len()), "right matrix against {shape:?}");
        Self { out, stride, w, x, shape }
    }

    #[inline(always)]
    fn dots<L: Lanes>(self, lanes: L) {
        let MatmulShape { inner, columns, .. } = self.shape;
        if columns == 1 {
            return dot_rows(lanes, self.out, self.stride, self.w, self.x);
        }
        let mut column = vec![0; inner];
        for index in 0..columns {
            for (word, row) in column.iter_mut().zip(self.x.chunks_exact(columns)) {
                *word = row[index];
            }
            dot_rows(lanes, &mut self.out[index..], self.stride, self.w, &column);
        }
        column.zeroize();
    }

    #[inline(always)]
    fn strips<L: Lanes, const ROWS: usize, const VECTORS: usize>(self, lanes: L) {
        let MatmulShape { inner, columns, .. } = self.shape;
        let strip = VECTORS * L::LANES;
        let steps_max = inner.min(INNER_BLOCK);
        let panel = (PANEL_WORDS / (steps_max * strip)).max(1) * strip;
        let mut packed = vec![0; steps_max * panel.min(columns.next_multiple_of(strip))];
        for step in (0..inner).step_by(INNER_BLOCK) {
            let steps = (inner - step).min(INNER_BLOCK);
            for first in (0..columns).step_by(panel) {
                let width = (columns - first).min(panel);
                let block = Block { step, steps, first, width };
                pack::<L, VECTORS>(&mut packed, self.x, columns, &block);
                for (index, strip_words) in packed.chunks_exact(steps * strip).enumerate() {
                    if index * strip >= width {
                        break;
                    }
                    let place = first + index * strip;
                    let target = Target {
                        out: &mut self.out[place..],
                        stride: self.stride,
                        width: strip.min(columns - place),
                    };
                    column_of_tiles::<L, ROWS, VECTORS>(lanes, target, self.w, inner, step, strip_words);
                }
            }
        }
        packed.zeroize();
    }
}

impl Kernel for Task<'_> {
    #[inline(always)]
    fn run<L: Lanes, const ROWS: usize, const VECTORS: usize>(self, lanes: L) {
        if self.shape.columns < STRIP_COLUMNS_MIN {
            self.dots(lanes);
        } else {
            self.strips::<L, ROWS, VECTORS>(lanes);
        }
    }
}

/// `out[i * stride] += row i of w * x`.
#[inline(always)]
fn dot_rows<L: Lanes>(lanes: L, out: &mut [u64], stride: usize, w: &[u64], x: &[u64]) {
    const ROWS: usize = 4;
    let mut groups = w.chunks_exact(ROWS * x.len());
    let mut place = 0;
    for group in groups.by_ref() {
        let mut rows = group.chunks_exact(x.len());
        let rows: [&[u64]; ROWS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
        for sum in dot::<L, ROWS>(lanes, rows, x) {
            out[place] = out[place].wrapping_add(sum);
            place += stride;
        }
    }
    for row in groups.remainder().chunks_exact(x.len()) {
        let [sum] = dot::<L, 1>(lanes, [row], x);
        out[place] = out[place].wrapping_add(sum);
        place += stride;
    }
}

#[inline(always)]
fn dot<L: Lanes, const ROWS: usize>(lanes: L, rows: [&[u64]; ROWS], x: &[u64]) -> [u64; ROWS] {
    let (body, tail) = x.split_at(x.len() - x.len() % L::LANES);
    let body: &[L::Vector] = cast_slice(body);
    let mut heads: [&[L::Vector]; ROWS] = [&[]; ROWS];
    for (head, row) in heads.iter_mut().zip(rows) {
        *head = &cast_slice(&row[..body.len() * L::LANES])[..body.len()];
    }
    let mut sums = [lanes.empty(); ROWS];
    for (index, vector) in body.iter().enumerate() {
        let right = lanes.right(*vector);
        for row in 0..ROWS {
            sums[row] = lanes.multiply_add(sums[row], heads[row][index], right);
        }
    }
    let mut result = [0; ROWS];
    for row in 0..ROWS {
        let total = [lanes.total(sums[row])];
        let mut sum = 0_u64;
        for word in cast_slice::<L::Vector, u64>(&total) {
            sum = sum.wrapping_add(*word);
        }
        for (a, b) in rows[row][body.len() * L::LANES..].iter().zip(tail) {
            sum = sum.wrapping_add(a.wrapping_mul(*b));
        }
        result[row] = sum;
    }
    result
}

/// Part of the right matrix: rows from `step`, columns from `first`.
struct Block {
    step: usize,
    steps: usize,
    first: usize,
    width: usize,
}

/// Copies a block strip by strip; within a strip row by row. Pads the last strip with zeros.
#[inline(always)]
fn pack<L: Lanes, const VECTORS: usize>(packed: &mut [u64], x: &[u64], columns: usize, block: &Block) {
    let strip = VECTORS * L::LANES;
    let whole = block.width / strip;
    for row in 0..block.steps {
        let source = &x[(block.step + row) * columns + block.first..][..block.width];
        let mut pieces = source.chunks_exact(strip);
        for (index, piece) in pieces.by_ref().enumerate() {
            let target = &mut packed[(index * block.steps + row) * strip..][..strip];
            let target: &mut [L::Vector] = cast_slice_mut(target);
            let piece: &[L::Vector] = cast_slice(piece);
            target[..VECTORS].copy_from_slice(&piece[..VECTORS]);
        }
        let rest = pieces.remainder();
        if !rest.is_empty() {
            let target = &mut packed[(whole * block.steps + row) * strip..][..strip];
            let (head, tail) = target.split_at_mut(rest.len());
            head.copy_from_slice(rest);
            tail.fill(0);
        }
    }
}

/// Where the tiles of one strip go: `width` words in each `stride` words.
struct Target<'a> {
    out: &'a mut [u64],
    stride: usize,
    width: usize,
}

#[inline(always)]
fn column_of_tiles<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    lanes: L,
    target: Target<'_>,
    w: &[u64],
    inner: usize,
    step: usize,
    strip: &[u64],
) {
    let Target { mut out, stride, width } = target;
    let vectors: &[L::Vector] = cast_slice(strip);
    let steps = vectors.as_chunks::<VECTORS>().0;
    let mut rows = w;
    macro_rules! tiles {
        ($count:literal) => {
            while ROWS >= $count && rows.len() >= $count * inner {
                tile::<L, $count, VECTORS>(lanes, out, stride, width, rows, inner, step, steps);
                rows = &rows[$count * inner..];
                out = out.get_mut($count * stride..).unwrap_or_default();
            }
        };
    }
    tiles!(8);
    tiles!(4);
    tiles!(2);
    tiles!(1);
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    lanes: L,
    out: &mut [u64],
    stride: usize,
    width: usize,
    w: &[u64],
    inner: usize,
    step: usize,
    strip: &[[L::Vector; VECTORS]],
) {
    let mut rows: [&[u64]; ROWS] = [&[]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &w[index * inner + step..][..strip.len()];
    }
    let mut sums = [[lanes.empty(); VECTORS]; ROWS];
    for (index, vectors) in strip.iter().enumerate() {
        let mut right = [lanes.right(vectors[0]); VECTORS];
        for vector in 1..VECTORS {
            right[vector] = lanes.right(vectors[vector]);
        }
        for row in 0..ROWS {
            let left = lanes.splat(rows[row][index]);
            for vector in 0..VECTORS {
                sums[row][vector] = lanes.multiply_add(sums[row][vector], left, right[vector]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let line = &mut out[row * stride..][..width];
        if width == VECTORS * L::LANES {
            let line: &mut [L::Vector] = cast_slice_mut(line);
            for vector in 0..VECTORS {
                line[vector] = lanes.add(line[vector], lanes.total(sums[vector]));
            }
        } else {
            for (part, sum) in line.chunks_mut(L::LANES).zip(sums) {
                let total = [lanes.total(*sum)];
                for (word, sum) in part.iter_mut().zip(cast_slice::<L::Vector, u64>(&total)) {
                    *word = word.wrapping_add(*sum);
                }
            }
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
                level.run(Task::new(&mut found, columns, &w, &x, shape));
            }
            assert_eq!(found, expected, "{shape:?} at {level:?}");
        }
        let mut found = start;
        multiply_add(&mut found, &w, &x, shape);
        assert_eq!(found, expected, "{shape:?}");
    }

    #[test]
    fn every_level_agrees_with_the_definition() {
        for (rows, inner, columns) in
            [(1, 1, 1), (10, 128, 1), (13, 257, 1), (16, 25, 576), (10, 600, 37), (9, 3, 5), (3, 700, 4)]
        {
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
    fn a_stride_leaves_the_words_between_alone() {
        let shape = MatmulShape { rows: 3, inner: 4, columns: 5 };
        let (w, x) = (words(12, 1), words(20, 2));
        let mut dense = vec![0; 15];
        naive(&mut dense, &w, &x, shape);
        let mut out = vec![7; 2 * 9 + 5];
        multiply_add_into(&mut out, 9, &w, &x, shape);
        for (index, word) in out.iter().enumerate() {
            let (row, column) = (index / 9, index % 9);
            let expected = if column < 5 { dense[row * 5 + column].wrapping_add(7) } else { 7 };
            assert_eq!(*word, expected, "row {row}, column {column}");
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
