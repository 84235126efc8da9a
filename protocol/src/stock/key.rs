//! Comparison keys: shares of `payload * [point < threshold]` at any public point, without a message.
//!
//! A key walks down a binary tree along the bits of the point, most significant first. A node is 128
//! secret bits and a control bit. Off the path of the threshold both parties' nodes are equal, so that
//! all they add cancels; on it they are independent, and exactly one party's control bit is 1. Where the
//! path is left, the *correction words* of that level, which are the same for both parties, make the
//! nodes equal again and the difference of what was added right. This is the construction of Boyle et
//! al. (Eurocrypt 2021) with the leaves of the last level corrected one by one instead of once more
//! below it.
//!
//! Three outputs of one hash that never share a bit become the next node, the control bit and the words
//! to add: a control bit that stayed in its node would let the correction words show the threshold.

use crate::algebra::hash::NodeHash;
use crate::party::Party;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Values that walk side by side, so that the processor's AES units are never idle.
const LANES: usize = 64;
/// Words of the public key of the hash, fresh for each entry.
pub const HASH_KEY_WORDS: usize = 2;

/// Comparison keys for `count` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyShape {
    /// Values.
    pub count: usize,
    /// Bits of points and thresholds, 1 to 63.
    pub width: u32,
    /// Words of the payload, 1 or 3.
    pub words: usize,
}

impl KeyShape {
    /// Words of each party's own roots.
    pub fn root_words(&self) -> usize {
        2 * self.count
    }

    /// Words of the corrections, which both parties hold.
    pub fn correction_words(&self) -> usize {
        let whole = self.count / LANES * self.group_words(LANES);
        whole + self.group_words(self.count % LANES)
    }

    /// Words for up to [`LANES`] values. Level by level: the corrections of nodes (low and high word of
    /// each value), of the control bits on the left and on the right (a bit for each value), of the
    /// payload (word by word). On the last level: those of the left leaves, those of the right ones.
    fn group_words(&self, values: usize) -> usize {
        let level = 2 * values + 2 + self.words * values;
        if values == 0 { 0 } else { (self.width as usize - 1) * level + 2 * self.words * values }
    }
}

/// One party's keys.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key {
    /// What they compare.
    #[zeroize(skip)]
    pub shape: KeyShape,
    /// Public key of the hash.
    pub hash: [u64; HASH_KEY_WORDS],
    /// This party's roots.
    pub roots: Vec<u64>,
    /// The correction words.
    pub corrections: Vec<u64>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.shape)
    }
}

impl Key {
    /// This party's additive share of each payload word where the point is less than the threshold, of
    /// zero elsewhere: a row for each word. The points are public.
    ///
    /// # Panics
    /// If there are fewer points, roots or corrections than the shape says.
    pub fn evaluate(&self, party: Party, points: &[u64]) -> Vec<Vec<u64>> {
        match self.shape.words {
            1 => self.walk::<1>(party, points, control),
            _ => self.walk::<3>(party, points, control),
        }
    }

    fn walk<const WORDS: usize>(&self, party: Party, points: &[u64], control: impl Control) -> Vec<Vec<u64>> {
        let hash = NodeHash::new(self.hash);
        let mut rows = vec![vec![0; self.shape.count]; WORDS];
        let mut corrections = &*self.corrections;
        for group in 0..self.shape.count.div_ceil(LANES) {
            let first = group * LANES;
            let points = &points[first..self.shape.count.min(first + LANES)];
            let mut walk = Walk::<WORDS>::new(&self.roots[2 * first..], points, party);
            for bit in (0..self.shape.width).rev() {
                walk.level(&hash, bit, &mut corrections, control);
            }
            for (row, sum) in rows.iter_mut().zip(&*walk.sums) {
                for (word, sum) in row[first..].iter_mut().zip(&sum[..points.len()]) {
                    *word = if party == Party::Zero { *sum } else { sum.wrapping_neg() };
                }
            }
        }
        rows
    }
}

/// Up to [`LANES`] values on their way down.
struct Walk<'a, const WORDS: usize> {
    points: &'a [u64],
    nodes: Zeroizing<[u128; LANES]>,
    control: u64,
    sums: Zeroizing<[[u64; LANES]; WORDS]>,
    hashed: Zeroizing<[Vec<u128>; 2]>,
}

impl<'a, const WORDS: usize> Walk<'a, WORDS> {
    fn new(roots: &[u64], points: &'a [u64], party: Party) -> Self {
        let mut nodes = Zeroizing::new([0; LANES]);
        for (node, root) in nodes.iter_mut().zip(roots.as_chunks().0).take(points.len()) {
            *node = wide(*root);
        }
        let control = if party == Party::Zero { 0 } else { u64::MAX };
        let blocks = blocks(WORDS) * points.len();
        let hashed = Zeroizing::new([vec![0; blocks], vec![0; blocks]]);
        Self { points, nodes, control, sums: Zeroizing::new([[0; LANES]; WORDS]), hashed }
    }

    /// One level down. Which way is public; which nodes are corrected is not, and takes no branch.
    fn level(&mut self, hash: &NodeHash, bit: u32, corrections: &mut &[u64], control: impl Control) {
        let count = self.points.len();
        let [inputs, images] = &mut *self.hashed;
        for block in 0..blocks(WORDS) {
            for (at, point) in self.points.iter().enumerate() {
                inputs[block * count + at] = self.nodes[at] ^ tweak((point >> bit & 1) as usize, block);
            }
        }
        // The leaves have no nodes.
        let used = if bit == 0 { count.. } else { 0.. };
        hash.apply(&inputs[used.clone()], &mut images[used]);
        let leaf = bit == 0;
        let nodes = take(corrections, if leaf { 0 } else { 2 * count });
        let controls = take(corrections, if leaf { 0 } else { 2 });
        let words = take(corrections, if leaf { 2 } else { 1 } * WORDS * count);
        let mut next = 0;
        for (at, point) in self.points.iter().enumerate() {
            let way = (point >> bit & 1) as usize;
            let mask = (self.control >> at & 1).wrapping_neg();
            let from = if leaf { way * WORDS * count } else { 0 };
            for (word, sums) in self.sums.iter_mut().enumerate() {
                let added = word_of(images, count, at, word);
                let correction = words[from + word * count + at] & mask;
                sums[at] = sums[at].wrapping_add(added).wrapping_add(correction);
            }
            if !leaf {
                let correction = wide([nodes[2 * at], nodes[2 * at + 1]]);
                self.nodes[at] = images[at] ^ correction & wide([mask; 2]);
                let own = control(images[at], word_of(images, count, at, WORDS));
                next |= (own ^ controls[way] >> at & mask & 1) << at;
            }
        }
        self.control = next;
    }
}

/// The correction words of keys with these roots (Zero's first), thresholds and payloads (a row for each
/// word of the payload). Takes no branch on any of them.
///
/// # Panics
/// If there are fewer roots, thresholds or payloads than the shape says.
pub fn correct(
    shape: KeyShape,
    hash: [u64; HASH_KEY_WORDS],
    roots: [&[u64]; 2],
    thresholds: &[u64],
    payload: &[&[u64]],
) -> Zeroizing<Vec<u64>> {
    match shape.words {
        1 => correct_with::<1>(shape, hash, roots, thresholds, payload, control),
        _ => correct_with::<3>(shape, hash, roots, thresholds, payload, control),
    }
}

fn correct_with<const WORDS: usize>(
    shape: KeyShape,
    hash: [u64; HASH_KEY_WORDS],
    roots: [&[u64]; 2],
    thresholds: &[u64],
    payload: &[&[u64]],
    control: impl Control,
) -> Zeroizing<Vec<u64>> {
    let hash = NodeHash::new(hash);
    let mut out = Zeroizing::new(Vec::with_capacity(shape.correction_words()));
    for first in (0..shape.count).step_by(LANES) {
        let end = shape.count.min(first + LANES);
        let mut path = Path::<WORDS> {
            thresholds: &thresholds[first..end],
            payload: std::array::from_fn(|word| &payload[word][first..end]),
            nodes: Zeroizing::new([[0; LANES]; 2]),
            control: 0,
            sums: Zeroizing::new([[0; LANES]; WORDS]),
        };
        let blocks = 4 * blocks(WORDS) * (end - first);
        let mut hashed = Zeroizing::new([vec![0; blocks], vec![0; blocks]]);
        for (nodes, roots) in path.nodes.iter_mut().zip(roots) {
            for (node, root) in nodes.iter_mut().zip(roots[2 * first..2 * end].as_chunks().0) {
                *node = wide(*root);
            }
        }
        for bit in (0..shape.width).rev() {
            let children = path.children(&hash, &mut hashed);
            if bit == 0 {
                path.leaves(children, &mut out);
            } else {
                path.level(children, bit, &mut out, control);
            }
        }
    }
    out
}

/// Up to [`LANES`] thresholds on their way down, seen by one who knows both parties' nodes.
struct Path<'a, const WORDS: usize> {
    thresholds: &'a [u64],
    payload: [&'a [u64]; WORDS],
    nodes: Zeroizing<[[u128; LANES]; 2]>,
    /// Zero's control bits; One's are the opposite.
    control: u64,
    /// What both parties' sums come to so far.
    sums: Zeroizing<[[u64; LANES]; WORDS]>,
}

/// The images of Zero's left and right child, then of One's.
type Children<'a> = [&'a [u128]; 4];

impl<const WORDS: usize> Path<'_, WORDS> {
    fn children<'a>(&self, hash: &NodeHash, [inputs, images]: &'a mut [Vec<u128>; 2]) -> Children<'a> {
        let count = self.thresholds.len();
        for (child, inputs) in inputs.chunks_exact_mut(blocks(WORDS) * count).enumerate() {
            for (block, inputs) in inputs.chunks_exact_mut(count).enumerate() {
                for (input, node) in inputs.iter_mut().zip(&self.nodes[child / 2]) {
                    *input = node ^ tweak(child % 2, block);
                }
            }
        }
        hash.apply(inputs, images);
        std::array::from_fn(|child| &images[child * blocks(WORDS) * count..][..blocks(WORDS) * count])
    }

    /// One level down, to the side of the threshold; the other side is corrected.
    fn level(&mut self, children: Children<'_>, bit: u32, out: &mut Vec<u64>, control: impl Control) {
        let count = self.thresholds.len();
        let first = out.len();
        out.resize(first + (2 + WORDS) * count + 2, 0);
        let (nodes, rest) = out[first..].split_at_mut(2 * count);
        let (controls, words) = rest.split_at_mut(2);
        let mut next = 0;
        for at in 0..count {
            let right = (self.thresholds[at] >> bit & 1).wrapping_neg();
            let zero = self.control >> at & 1;
            let masks = [zero.wrapping_neg(), (zero ^ 1).wrapping_neg()];
            let [keep, lose] = [right, !right];
            for (word, sums) in self.sums.iter_mut().enumerate() {
                let of = |child: usize| word_of(children[child], count, at, word);
                let difference = |side| choose(side, of(3), of(2)).wrapping_sub(choose(side, of(1), of(0)));
                let due = (self.payload[word][at] & right).wrapping_sub(sums[at]);
                let correction = negate(masks[1], difference(lose).wrapping_add(due));
                words[word * count + at] = correction;
                sums[at] = sums[at].wrapping_sub(difference(keep)).wrapping_add(negate(masks[1], correction));
            }
            let pick = |side, party: usize| {
                let [left, right] = [children[2 * party][at], children[2 * party + 1][at]];
                left & !wide([side; 2]) | right & wide([side; 2])
            };
            let node = pick(lose, 0) ^ pick(lose, 1);
            nodes[2 * at] = node as u64;
            nodes[2 * at + 1] = (node >> 64) as u64;
            let bits: [u64; 4] = std::array::from_fn(|child| {
                control(children[child][at], word_of(children[child], count, at, WORDS))
            });
            let corrections = [bits[0] ^ bits[2] ^ (right & 1) ^ 1, bits[1] ^ bits[3] ^ (right & 1)];
            controls[0] |= corrections[0] << at;
            controls[1] |= corrections[1] << at;
            for (party, mask) in masks.into_iter().enumerate() {
                self.nodes[party][at] = pick(keep, party) ^ node & wide([mask; 2]);
            }
            let [own, correction] = [bits[..2].as_ref(), &corrections].map(|b| choose(right, b[1], b[0]));
            next |= (own ^ correction & zero) << at;
        }
        self.control = next;
    }

    /// The last level: a point equal to the threshold is not less than it.
    fn leaves(&self, children: Children<'_>, out: &mut Vec<u64>) {
        let count = self.thresholds.len();
        for way in 0..2 {
            for word in 0..WORDS {
                for at in 0..count {
                    let below = (self.thresholds[at] & 1 & (way as u64 ^ 1)).wrapping_neg();
                    let one = (self.control >> at & 1 ^ 1).wrapping_neg();
                    let [zeros, ones] = [way, 2 + way].map(|child| word_of(children[child], count, at, word));
                    let due = (self.payload[word][at] & below).wrapping_sub(self.sums[word][at]);
                    out.push(negate(one, ones.wrapping_sub(zeros).wrapping_add(due)));
                }
            }
        }
    }
}

/// How a control bit comes from a node and from the word hashed for it.
trait Control: Fn(u128, u64) -> u64 + Copy {}

impl<F: Fn(u128, u64) -> u64 + Copy> Control for F {}

fn control(_: u128, spare: u64) -> u64 {
    spare & 1
}

/// Blocks of a child: its node, then its words and the word of its control bit, two in a block.
const fn blocks(words: usize) -> usize {
    1 + (words + 1).div_ceil(2)
}

/// Word `word` of a child's images.
fn word_of(images: &[u128], count: usize, at: usize, word: usize) -> u64 {
    (images[(1 + word / 2) * count + at] >> (word % 2 * 64)) as u64
}

fn tweak(way: usize, block: usize) -> u128 {
    (block << 1 | way) as u128
}

fn wide(words: [u64; 2]) -> u128 {
    u128::from(words[1]) << 64 | u128::from(words[0])
}

/// `right` where the mask is all ones, `left` where it is zero.
fn choose(mask: u64, right: u64, left: u64) -> u64 {
    left ^ (left ^ right) & mask
}

/// `-value` where the mask is all ones.
fn negate(mask: u64, value: u64) -> u64 {
    (value ^ mask).wrapping_sub(mask)
}

fn take<'a>(words: &mut &'a [u64], count: usize) -> &'a [u64] {
    let (taken, rest) = words.split_at(count);
    *words = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::prg::{Prg, Seed};
    use crate::share::reconstruct;

    const WORDS: [usize; 2] = [1, 3];

    struct Dealt {
        keys: [Key; 2],
        thresholds: Vec<u64>,
        payload: Vec<Vec<u64>>,
    }

    fn payload(rows: &[Vec<u64>]) -> Vec<&[u64]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    /// Keys of these thresholds with random payloads, their control bits taken by `control`.
    fn deal_with(shape: KeyShape, thresholds: Vec<u64>, control: impl Control) -> Dealt {
        let seed = Seed::from_bytes([shape.width as u8; 16]);
        let mut prg = Prg::new(&seed.derive("keys", shape.count as u64));
        let hash = [prg.word(), prg.word()];
        let roots = [prg.words(shape.root_words()), prg.words(shape.root_words())];
        let rows: Vec<Vec<u64>> = (0..shape.words).map(|_| prg.words(shape.count)).collect();
        let both = [&*roots[0], &*roots[1]];
        let corrections = match shape.words {
            1 => correct_with::<1>(shape, hash, both, &thresholds, &payload(&rows), control),
            _ => correct_with::<3>(shape, hash, both, &thresholds, &payload(&rows), control),
        };
        assert_eq!(corrections.len(), shape.correction_words());
        let keys = roots.map(|roots| Key { shape, hash, roots, corrections: corrections.to_vec() });
        Dealt { keys, thresholds, payload: rows }
    }

    fn deal(shape: KeyShape, thresholds: Vec<u64>) -> Dealt {
        deal_with(shape, thresholds, control)
    }

    fn holds(dealt: &Dealt, points: &[u64]) {
        let zero = dealt.keys[0].evaluate(Party::Zero, points);
        let one = dealt.keys[1].evaluate(Party::One, points);
        for ((zero, one), payload) in zero.iter().zip(&one).zip(&dealt.payload) {
            for (at, found) in reconstruct(zero, one).into_iter().enumerate() {
                let (point, threshold) = (points[at], dealt.thresholds[at]);
                let expected = if point < threshold { payload[at] } else { 0 };
                assert_eq!(found, expected, "{point} < {threshold}, {:?}", dealt.keys[0].shape);
            }
        }
    }

    #[test]
    fn narrow_keys_are_right_everywhere() {
        for width in 1..=6 {
            let size = 1u64 << width;
            for words in WORDS {
                // Every threshold at every point, and a group that is not full.
                let shape = KeyShape { count: (size * size) as usize, width, words };
                let dealt = deal(shape, (0..size * size).map(|at| at / size).collect());
                holds(&dealt, &(0..size * size).map(|at| at % size).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn wide_keys_are_right_around_their_thresholds() {
        for width in 1..=63 {
            let top = u64::MAX >> (64 - width);
            for words in WORDS {
                let shape = KeyShape { count: 70, width, words };
                let mut prg = Prg::new(&Seed::from_bytes([words as u8; 16]));
                let mut thresholds: Vec<u64> = prg.words(70).iter().map(|word| word & top).collect();
                thresholds[..4].copy_from_slice(&[0, top, top >> 1, top ^ top >> 1]);
                let dealt = deal(shape, thresholds.clone());
                let near = |by: u64| thresholds.iter().map(|t| t.wrapping_add(by) & top).collect::<Vec<_>>();
                for points in [near(0), near(1), near(u64::MAX), vec![0; 70], vec![top; 70]] {
                    holds(&dealt, &points);
                }
                // One bit apart, at each bit, and random.
                holds(
                    &dealt,
                    &thresholds.iter().zip(0..).map(|(t, at)| t ^ 1 << (at % width)).collect::<Vec<_>>(),
                );
                holds(&dealt, &prg.words(70).iter().map(|word| word & top).collect::<Vec<_>>());
            }
        }
    }

    /// Keys of many random thresholds.
    fn many(words: usize, control: impl Control) -> Dealt {
        let shape = KeyShape { count: 40 * LANES, width: 30, words };
        let thresholds = Prg::new(&Seed::from_bytes([7; 16])).words(shape.count);
        deal_with(shape, thresholds.iter().map(|word| word & ((1 << 30) - 1)).collect(), control)
    }

    /// How often the best guess of a threshold's bit from the correction words of its level is right, in
    /// standard deviations of a coin. Guesses that some bit of a node's correction is that of the losing
    /// side's control bit: where the two sides differ this names the side.
    fn advantage(dealt: &Dealt) -> f64 {
        let shape = dealt.keys[0].shape;
        let (mut right, mut guesses) = ([0i64; 128], 0i64);
        let mut corrections = &*dealt.keys[0].corrections;
        for group in dealt.thresholds.chunks(LANES) {
            for bit in (1..shape.width).rev() {
                let nodes = take(&mut corrections, 2 * group.len());
                let controls = take(&mut corrections, 2);
                take(&mut corrections, shape.words * group.len());
                for (at, threshold) in group.iter().enumerate() {
                    let [left, right_side] = [controls[0] >> at & 1, controls[1] >> at & 1];
                    if left != right_side {
                        guesses += 1;
                        let node = wide([nodes[2 * at], nodes[2 * at + 1]]);
                        for (place, right) in right.iter_mut().enumerate() {
                            let guess = u64::from((node >> place) as u64 & 1 == left);
                            *right += i64::from(guess == threshold >> bit & 1);
                        }
                    }
                }
            }
            take(&mut corrections, 2 * shape.words * group.len());
        }
        assert!(corrections.is_empty() && guesses > 10_000);
        let off = |right: i64| (2 * right - guesses).abs() as f64 / (guesses as f64).sqrt();
        right.map(off).into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn correction_words_do_not_show_the_threshold() {
        for words in WORDS {
            let found = advantage(&many(words, control));
            assert!(found < 6.0, "{found} standard deviations");
        }
    }

    #[test]
    fn a_control_bit_left_in_its_node_is_found() {
        let faults: [fn(u128, u64) -> u64; 3] =
            [|node, _| node as u64 & 1, |node, _| (node >> 77) as u64 & 1, |node, _| (node >> 127) as u64];
        for fault in faults {
            let faulty = many(1, fault);
            // The keys work all the same: no test of results sees this.
            let points = vec![1 << 29; faulty.thresholds.len()];
            let [zero, one] = [(0, Party::Zero), (1, Party::One)]
                .map(|(key, party)| faulty.keys[key].walk::<1>(party, &points, fault).concat());
            for (at, found) in reconstruct(&zero, &one).into_iter().enumerate() {
                let less = u64::from(points[at] < faulty.thresholds[at]);
                assert_eq!(found, faulty.payload[0][at] * less);
            }
            let found = advantage(&faulty);
            assert!(found > 100.0, "{found} standard deviations");
        }
    }

    #[test]
    fn a_single_key_looks_uniform_whatever_it_compares() {
        for words in WORDS {
            for threshold in [0, 1, (1 << 30) - 1] {
                let shape = KeyShape { count: 40 * LANES, width: 30, words };
                let Dealt { keys: [zero, one], .. } = deal(shape, vec![threshold; shape.count]);
                assert_eq!(zero.corrections, one.corrections);
                let points = vec![threshold; shape.count];
                let shares =
                    [zero.evaluate(Party::Zero, &points), one.evaluate(Party::One, &points)].concat();
                for words in shares.iter().chain([&zero.corrections]) {
                    let bits = 64 * words.len() as i64;
                    let ones: i64 = words.iter().map(|word| i64::from(word.count_ones())).sum();
                    assert!((2 * ones - bits).pow(2) < 36 * bits, "{ones} of {bits}");
                    let distinct: std::collections::BTreeSet<_> = words.iter().collect();
                    assert_eq!(distinct.len(), words.len(), "a word came twice");
                }
            }
        }
    }

    #[test]
    fn nothing_prints_a_key() {
        let dealt = deal(KeyShape { count: 1, width: 2, words: 1 }, vec![2]);
        assert_eq!(format!("{:?}", dealt.keys[0]), "Key(KeyShape { count: 1, width: 2, words: 1 })");
    }
}
