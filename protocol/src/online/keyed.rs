//! Sign and rectification read off one opening with comparison keys.
//!
//! - Computes: for `z = y + 2^v + r` modulo `2^(v + 1)`, which is open, additive shares of whether
//!   `y >= 0`, exactly, or of `max(floor(y / 2^s) + c, 0)` with a carry `c` in {0, 1}, for
//!   `y < 2^v - 2^s`.
//! - Learns: nothing. As in [`super::masked`] the functionality includes the carry.
//! - Consumes: the [`Keyed`] part of a masked entry.
//! - Costs: no round. Per value and party `v - s` levels of two blocks of AES for a sign, three to
//!   rectify; the bytes of a key stand in [`crate::manual::keys`].
//! - Source: Boyle et al., Eurocrypt 2021 (comparison keys); one comparison below the top bit instead
//!   of an interval of two.

use crate::party::Party;
use crate::share::Additive;
use crate::stock::{Keyed, MaskedShape};

/// The opened value without its dropped bits: the compared bits, and the bit above them.
fn split(opened: u64, shape: MaskedShape) -> (u64, u64) {
    let high = opened >> shape.shift;
    (high & ((1 << shape.width()) - 1), high >> shape.width() & 1)
}

/// Shares of `e`, the sign but for the public bit: with `a` the compared bits of the mask and `b` the bit
/// above them, `e = b XOR [low < a] = b + [low < a] (1 - 2 b)`.
fn flips(sums: &[u64], keyed: &Keyed) -> Vec<u64> {
    sums.iter().zip(keyed.top.iter()).map(|(sum, top)| sum.wrapping_add(*top)).collect()
}

fn evaluate(opened: &[u64], shape: MaskedShape, keyed: &Keyed, party: Party) -> Vec<Vec<u64>> {
    let points: Vec<u64> = opened.iter().map(|z| split(*z, shape).0).collect();
    keyed.key.evaluate(party, &points)
}

/// Additive shares of whether each value is at least zero.
pub(super) fn signs(opened: &[u64], shape: MaskedShape, keyed: &Keyed, party: Party) -> Additive {
    let unit = u64::from(party.holds_constants());
    let sums = Additive::from(evaluate(opened, shape, keyed, party).swap_remove(0));
    let sign = |(z, e): (&u64, u64)| {
        let above = split(*z, shape).1;
        // The bit above XOR e.
        (above * unit).wrapping_add(e).wrapping_sub(e.wrapping_mul(2 * above))
    };
    opened.iter().zip(flips(&sums, keyed)).map(sign).collect::<Vec<_>>().into()
}

/// Additive shares of `max(floor(y / 2^s) + c, 0)`.
///
/// Where the sign is 1, the shifted value is `low - a`, plus `2^w` if `low < a`. With `e` from [`flips`]:
///
/// - the public bit is 0, so the sign is `e`: `e (low + 2^w) - e a - 2^w e b`;
/// - it is 1, so the sign is `1 - e`: `(1 - e) low - a + e a + 2^w (b - e b)`.
///
/// Shares of `e`, `e a` and `e b` are what the keys give, and the rest is dealt.
pub(super) fn select(opened: &[u64], shape: MaskedShape, keyed: &Keyed, party: Party) -> Additive {
    let unit = u64::from(party.holds_constants());
    let sums = evaluate(opened, shape, keyed, party).into_iter().map(Additive::from).collect::<Vec<_>>();
    let [flipped, low_flipped, top_flipped] = [0, 1, 2].map(|word| sums.get(word).map_or(&[][..], |sum| sum));
    let one = |((at, z), e): ((usize, &u64), u64)| {
        let (low, above) = split(*z, shape);
        let (a, b) = (keyed.low[at], keyed.top[at]);
        let e_a = low_flipped[at].wrapping_add(keyed.product[at]);
        let e_b = top_flipped[at].wrapping_add(b);
        let wrap = 1 << shape.width();
        let of_zero = e.wrapping_mul(wrap | low).wrapping_sub(e_a).wrapping_sub(e_b.wrapping_mul(wrap));
        let rest = (low * unit).wrapping_sub(low.wrapping_mul(e)).wrapping_sub(a).wrapping_add(e_a);
        let of_one = rest.wrapping_add(b.wrapping_sub(e_b).wrapping_mul(wrap));
        if above == 0 { of_zero } else { of_one }
    };
    opened.iter().enumerate().zip(flips(flipped, keyed)).map(one).collect::<Vec<_>>().into()
}

/// XOR shares of bits from additive ones, packed: the lowest bit of a sum is the XOR of the lowest bits.
pub(super) fn parities(sums: &[u64]) -> Vec<u64> {
    let word = |sums: &[u64]| sums.iter().rev().fold(0, |word, sum| word << 1 | sum & 1);
    sums.chunks(64).map(word).collect()
}
