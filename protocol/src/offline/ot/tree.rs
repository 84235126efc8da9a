//! Trees of pseudo-random nodes whose levels all sum to the sender's offset.
//!
//! - Computes: from a root the leaves of a full tree and, per level, the sum of its left nodes; from the
//!   sums beside one path all leaves, the last one shifted by the offset.
//! - Learns: whoever has the sums beside a path nothing about the node at its end.
//! - Consumes: nothing.
//! - Costs: one AES block per leaf. No branch and no address depends on a path.
//! - Source: Guo, Yang, Wang, Zhang, Xie, Liu, Zhao, EUROCRYPT 2023 (Half-Tree, correlated GGM tree, in
//!   the random permutation model).

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};

/// Levels below the root.
pub(super) const DEPTH: usize = 11;
/// Leaves of a tree.
pub(super) const LEAVES: usize = 1 << DEPTH;
/// Nodes that are hashed at a time.
const BATCH: usize = 64;
/// Leaves keep all bits but the lowest, which tells the choice.
const LEAF_MASK: u128 = !1;

/// Grows trees. The key of the permutation is public.
pub(super) struct Grower {
    cipher: Aes128,
}

impl Grower {
    /// Both parties name the same `key`.
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { cipher: Aes128::new(&key.into()) }
    }

    /// Fills `nodes` with the leaves of the tree of `root` and returns the sum of the left nodes of each
    /// level; that of the right nodes differs from it by `delta`. The lowest bit of a leaf is 0.
    pub(super) fn full(&self, root: u128, delta: u128, nodes: &mut [u128; LEAVES]) -> [u128; DEPTH] {
        [nodes[0], nodes[1]] = [root, root ^ delta];
        let mut sums = [root; DEPTH];
        for (level, sum) in sums.iter_mut().enumerate().skip(1) {
            [*sum, _] = self.level(level, nodes);
        }
        sums
    }

    /// Fills `nodes` with the leaves of a full tree, given for each level the sum of the side that the
    /// path avoids. The path is `!beside`, the first level at the highest of [`DEPTH`] bits. The leaf at
    /// its end comes out shifted by `delta`, its lowest bit 1; the lowest bit of all others is 0.
    pub(super) fn punctured(&self, beside: u32, sums: &[u128; DEPTH], nodes: &mut [u128; LEAVES]) {
        let side = |level: usize| beside >> (DEPTH - 1 - level) & 1;
        let right = u128::from(side(0)).wrapping_neg();
        [nodes[0], nodes[1]] = [sums[0] & !right, sums[0] & right];
        let mut hole = side(0) ^ 1;
        for (level, sum) in sums.iter().enumerate().skip(1) {
            // The hole's node is not known, and neither are the two below it. The sum tells one of them:
            // adding everything that was found on that side cancels what was wrongly found there.
            let found = self.level(level, nodes);
            let right = u128::from(side(level)).wrapping_neg();
            let keep = if level == DEPTH - 1 { LEAF_MASK } else { !0 };
            let repairs = [(found[0] ^ sum) & !right & keep, (found[1] ^ sum) & right & keep];
            for (at, pair) in nodes[..2 << level].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let mask = equal(at as u32, hole);
                [pair[0], pair[1]] = [pair[0] ^ (mask & repairs[0]), pair[1] ^ (mask & repairs[1])];
            }
            hole = hole << 1 | (side(level) ^ 1);
        }
        let all = nodes.iter().fold(0, |sum, node| sum ^ node);
        for (at, node) in nodes.iter_mut().enumerate() {
            let mask = equal(at as u32, hole);
            *node = (*node ^ (mask & all)) | (mask & 1);
        }
    }

    /// Replaces the nodes of a level by their children: the hash of a node, and what is left of it.
    /// Returns the sums of the left and of the right ones.
    fn level(&self, level: usize, nodes: &mut [u128; LEAVES]) -> [u128; 2] {
        let keep = if level == DEPTH - 1 { LEAF_MASK } else { !0 };
        let mut sums = [0; 2];
        let mut end = 1 << level;
        while end > 0 {
            let start = end - BATCH.min(end);
            let mut blocks = [Block::<Aes128>::default(); BATCH];
            for (block, node) in blocks.iter_mut().zip(&nodes[start..end]) {
                *block = spread(*node).to_le_bytes().into();
            }
            let blocks = &mut blocks[..end - start];
            self.cipher.encrypt_blocks(blocks);
            // Backwards, so that no parent is overwritten before its turn.
            for (at, block) in blocks.iter().enumerate().rev() {
                let parent = nodes[start + at];
                let hash = u128::from_le_bytes((*block).into()) ^ spread(parent);
                let children = [hash & keep, (parent ^ hash) & keep];
                [nodes[2 * (start + at)], nodes[2 * (start + at) + 1]] = children;
                sums = [sums[0] ^ children[0], sums[1] ^ children[1]];
            }
            end = start;
        }
        sums
    }
}

/// The linear map that makes `p(spread(x)) ^ spread(x)` robust against known offsets of `x` by `delta`.
#[inline]
fn spread(node: u128) -> u128 {
    let swapped = node.rotate_left(64);
    swapped ^ (node >> 64 << 64)
}

/// All ones if the numbers are equal, else zero. Both are below 2^31.
#[inline]
fn equal(a: u32, b: u32) -> u128 {
    u128::from((a ^ b).wrapping_sub(1) >> 31).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punctured_tree_is_the_full_one_but_for_its_end() {
        let grower = Grower::new([9; 16]);
        let delta = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        for (root, path) in [0, 1, 1000, LEAVES - 1, 1023, 1024, 0x555].into_iter().enumerate() {
            let [mut full, mut punctured] = [[0; LEAVES]; 2];
            let sums = grower.full(root as u128 | 5 << 70, delta, &mut full);
            let beside = !(path as u32);
            let beside_sums = std::array::from_fn(|level| {
                let right = beside >> (DEPTH - 1 - level) & 1 == 1;
                if right { sums[level] ^ delta } else { sums[level] }
            });
            grower.punctured(beside, &beside_sums, &mut punctured);
            for (at, (whole, found)) in full.iter().zip(&punctured).enumerate() {
                assert_eq!(whole & 1, 0);
                assert_eq!(whole ^ found, if at == path { delta } else { 0 }, "leaf {at}, path {path}");
            }
            assert_eq!(full.iter().fold(0, |sum, leaf| sum ^ leaf), delta & LEAF_MASK);
            let distinct: std::collections::HashSet<_> = full.iter().collect();
            assert_eq!(distinct.len(), LEAVES);
        }
    }

    /// Neither the map nor its sum with the identity may lose anything.
    #[test]
    fn the_spread_is_an_orthomorphism() {
        let mut images = [Vec::new(), Vec::new()];
        for bit in 0..128 {
            images[0].push(spread(1 << bit));
            images[1].push(spread(1 << bit) ^ 1 << bit);
        }
        for mut rows in images {
            for bit in 0..128 {
                let pivot = (bit..128).find(|row| rows[*row] >> bit & 1 == 1).unwrap();
                rows.swap(bit, pivot);
                let pivot = rows[bit];
                rows[bit + 1..].iter_mut().filter(|row| **row >> bit & 1 == 1).for_each(|row| *row ^= pivot);
            }
        }
    }
}
