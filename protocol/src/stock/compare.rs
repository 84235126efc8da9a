//! How a comparison of some width is cut into digits and combined.

use super::product::ProductSet;
use std::sync::Arc;

/// Most digits that one round combines.
pub const FAN_MAX: u32 = 9;
/// Most digits that one round combines where bit triples are dear.
pub const SMALL_FAN_MAX: u32 = 4;
const BLOCK_BITS_MAX: u32 = 6;
const GROUP_BLOCKS: u32 = 4;

/// A public number against a shared one, `width` bits each, cut into digits of `block_bits`.
///
/// Each digit of the shared number comes as a shared *thermometer* of `2^block_bits` entries
/// (entry `c` says whether `c` is less than the digit), so that a digit is compared by looking up
/// one entry, without interaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompareShape {
    /// Bits compared, 1 to 63.
    pub width: u32,
    /// Bits of a digit, 1 to 6.
    pub block_bits: u32,
    /// Digits.
    pub blocks: u32,
    /// Most digits that one round combines.
    pub fan: u32,
}

impl CompareShape {
    /// The cut with the fewest rounds and, among those, the fewest bits of preprocessing; with a small
    /// fan the one with the fewest ANDs.
    pub fn choose(width: u32, fan: u32) -> Self {
        assert!((1..=63).contains(&width), "a comparison has 1 to 63 bits");
        let cuts = (1..=BLOCK_BITS_MAX).map(|block_bits| Self {
            width,
            block_bits,
            blocks: width.div_ceil(block_bits),
            fan,
        });
        let best = if fan < FAN_MAX {
            // Two rounds of combining cut any width down.
            cuts.filter(|cut| cut.groups().len() <= 2).min_by_key(Self::ands)
        } else {
            cuts.filter(|cut| cut.blocks <= fan || cut.block_bits == BLOCK_BITS_MAX)
                .min_by_key(|cut| (cut.groups().len(), cut.dealt_bits()))
        };
        best.unwrap_or(Self { width, block_bits: 1, blocks: width, fan })
    }

    /// The rounds of combining: for each round the digits of each group, least significant first.
    pub fn groups(&self) -> Vec<Vec<u32>> {
        let mut rounds = Vec::new();
        let mut blocks = self.blocks;
        while blocks > 1 {
            if blocks <= self.fan {
                rounds.push(vec![blocks]);
                break;
            }
            let groups = blocks.div_ceil(GROUP_BLOCKS);
            let sizes: Vec<u32> =
                (0..groups).map(|group| GROUP_BLOCKS.min(blocks - group * GROUP_BLOCKS)).collect();
            blocks = groups;
            rounds.push(sizes);
        }
        rounds
    }

    /// The products of one group; groups of one digit pass through and have none.
    pub fn product(group: usize, blocks: u32) -> Option<Arc<ProductSet>> {
        (blocks > 1).then(|| ProductSet::chain(blocks, group > 0))
    }

    /// Bits of the thermometers of one comparison.
    pub fn thermometer_bits(&self) -> usize {
        (self.blocks as usize) << self.block_bits
    }

    fn dealt_bits(&self) -> usize {
        self.thermometer_bits() + self.monomials()
    }

    /// ANDs of shared bits that make the thermometers and the products.
    pub fn ands(&self) -> usize {
        let digit = |block: u32| {
            let width = self.block_bits.min(self.width - block * self.block_bits);
            (1 << width) - width as usize - 1
        };
        (0..self.blocks).map(digit).sum::<usize>() + self.monomials()
    }

    /// Products of all rounds.
    pub fn monomials(&self) -> usize {
        self.groups()
            .iter()
            .flat_map(|sizes| sizes.iter().enumerate())
            .filter_map(|(group, blocks)| Self::product(group, *blocks))
            .map(|set| set.monomials().len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_widths_combine_in_one_round() {
        for width in 7..=54 {
            let shape = CompareShape::choose(width, FAN_MAX);
            assert_eq!(shape.groups().len(), 1, "{shape:?}");
            assert!(shape.blocks * shape.block_bits >= width);
        }
    }

    #[test]
    fn widest_combines_in_two_rounds() {
        let shape = CompareShape::choose(63, FAN_MAX);
        assert_eq!(shape.groups(), vec![vec![4, 4, 3], vec![3]]);
    }

    #[test]
    fn small_digits_take_fewer_ands_and_at_most_a_round_more() {
        for width in 1..=63 {
            let [wide, small] = [FAN_MAX, SMALL_FAN_MAX].map(|fan| CompareShape::choose(width, fan));
            assert!(small.ands() <= wide.ands(), "{width}");
            assert!(small.groups().len() <= 2 && small.blocks * small.block_bits >= width, "{small:?}");
        }
        let ands = |width, fan| CompareShape::choose(width, fan).ands();
        assert!(3 * ands(45, SMALL_FAN_MAX) < ands(45, FAN_MAX));
    }
}
