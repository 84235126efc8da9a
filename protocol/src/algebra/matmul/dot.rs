//! Dot products of rows with one vector.

use crate::algebra::lanes::Lanes;
use pulp::bytemuck::cast_slice;

/// Rows whose dot products share the loads of the right vector.
const DOT_ROWS: usize = 4;

/// `out[i * stride] += row i of w * x`.
#[inline(always)]
pub(super) fn dot_rows<L: Lanes>(lanes: L, out: &mut [u64], stride: usize, w: &[u64], x: &[u64]) {
    let mut groups = w.chunks_exact(DOT_ROWS * x.len());
    let mut place = 0;
    for group in groups.by_ref() {
        let mut rows = group.chunks_exact(x.len());
        let rows: [&[u64]; DOT_ROWS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
        for sum in dot::<L, DOT_ROWS>(lanes, rows, x) {
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
