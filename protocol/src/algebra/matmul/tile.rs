//! Strips of columns, and the tiles of the result that they make with a few rows each.

use super::Source;
use crate::algebra::lanes::Lanes;
use pulp::bytemuck::{cast_slice, cast_slice_mut};

/// Columns of the widest strip.
const STRIP_COLUMNS_MAX: usize = 16;

/// Copies `width` columns from `place` on, step by step from `first` on, `VECTORS` registers each.
/// Lanes beyond `width` keep what they held: nothing reads their sums.
#[inline(always)]
pub(super) fn pack<L: Lanes, S: Source, const VECTORS: usize>(
    packed: &mut [u64],
    source: S,
    first: usize,
    place: usize,
    width: usize,
) {
    let mut offsets = [0; STRIP_COLUMNS_MAX];
    for (index, offset) in offsets[..width].iter_mut().enumerate() {
        *offset = source.offset(place + index);
    }
    let words = source.words();
    for vector in 0..VECTORS {
        let lanes = width.saturating_sub(vector * L::LANES).min(L::LANES);
        let offsets = &offsets[vector * L::LANES..][..lanes];
        let adjacent = offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        for (index, target) in packed.chunks_exact_mut(VECTORS * L::LANES).enumerate() {
            let base = source.base(first + index);
            let target = &mut target[vector * L::LANES..][..L::LANES];
            if adjacent && lanes == L::LANES {
                target.copy_from_slice(&words[base + offsets[0]..][..L::LANES]);
            } else {
                for (word, offset) in target.iter_mut().zip(offsets) {
                    *word = words[base + offset];
                }
            }
        }
    }
}

/// The left matrix, read from the step `first` on.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) w: &'a [u64],
    pub(super) inner: usize,
    pub(super) first: usize,
}

/// Where the tiles of one strip go: `width` words in each `stride` words.
pub(super) struct Target<'a> {
    pub(super) out: &'a mut [u64],
    pub(super) stride: usize,
    pub(super) width: usize,
}

#[inline(always)]
pub(super) fn column_of_tiles<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    lanes: L,
    mut target: Target<'_>,
    mut left: Left<'_>,
    strip: &[u64],
) {
    let strip = cast_slice::<u64, L::Vector>(strip).as_chunks::<VECTORS>().0;
    macro_rules! tiles {
        ($rows:literal) => {
            while ROWS >= $rows && left.w.len() >= $rows * left.inner {
                tile::<L, $rows, VECTORS>(lanes, &mut target, left, strip);
                left.w = &left.w[$rows * left.inner..];
                target.out = target.out.get_mut($rows * target.stride..).unwrap_or_default();
            }
        };
    }
    tiles!(8);
    tiles!(4);
    tiles!(2);
    tiles!(1);
}

#[inline(always)]
fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    lanes: L,
    target: &mut Target<'_>,
    left: Left<'_>,
    strip: &[[L::Vector; VECTORS]],
) {
    let mut rows: [&[u64]; ROWS] = [&[]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = &left.w[index * left.inner + left.first..][..strip.len()];
    }
    let mut sums = [[lanes.empty(); VECTORS]; ROWS];
    for (index, vectors) in strip.iter().enumerate() {
        let mut right = [lanes.right(vectors[0]); VECTORS];
        for vector in 1..VECTORS {
            right[vector] = lanes.right(vectors[vector]);
        }
        for row in 0..ROWS {
            let factor = lanes.splat(rows[row][index]);
            for vector in 0..VECTORS {
                sums[row][vector] = lanes.multiply_add(sums[row][vector], factor, right[vector]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let line = &mut target.out[row * target.stride..][..target.width];
        if target.width == VECTORS * L::LANES {
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
