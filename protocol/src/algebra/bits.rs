//! Bits packed 64 to a word, and low parts of words packed into bytes.

use super::prg::Prg;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A row of bits, the first in the lowest bit of the first word. Bits of the last word beyond the
/// length are zero. They may be shares of secrets: only the length is ever printed.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Packed {
    words: Vec<u64>,
    len: usize,
}

impl Packed {
    /// Words that hold `len` bits.
    pub const fn word_count(len: usize) -> usize {
        len.div_ceil(64)
    }

    /// `len` bits, all zero.
    pub fn zeros(len: usize) -> Self {
        Self { words: vec![0; Self::word_count(len)], len }
    }

    /// `len` bits, all one.
    pub fn ones(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; Self::word_count(len)], len };
        bits.mask_tail();
        bits
    }

    /// The next `word_count(len)` words of a stream, without the bits beyond `len`.
    pub fn random(prg: &mut Prg, len: usize) -> Self {
        let mut bits = Self { words: prg.words(Self::word_count(len)), len };
        bits.mask_tail();
        bits
    }

    /// Bits from words; `None` unless there are exactly as many words as `len` bits need. Bits
    /// beyond `len` are dropped.
    pub fn from_words(words: Vec<u64>, len: usize) -> Option<Self> {
        let mut bits = Self { words, len };
        if bits.words.len() != Self::word_count(len) {
            return None;
        }
        bits.mask_tail();
        Some(bits)
    }

    /// Number of bits.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words, to compute on them. Whoever may have set bits beyond the length calls
    /// [`Self::mask_tail`] afterwards.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Clears the bits of the last word beyond the length.
    pub fn mask_tail(&mut self) {
        let used = self.len % 64;
        if let Some(last) = self.words.last_mut().filter(|_| used > 0) {
            *last &= u64::MAX >> (64 - used);
        }
    }

    /// The bit at `index`.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "bit {index} of {}", self.len);
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Sets the bit at `index`.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub fn set(&mut self, index: usize, bit: bool) {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let (word, place) = (&mut self.words[index / 64], index % 64);
        *word = *word & !(1 << place) | u64::from(bit) << place;
    }

    /// The bits in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + '_ {
        (0..self.len).map(|index| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    /// `self ^= other`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn xor_assign(&mut self, other: &Self) {
        self.combine(other, |word, other| word ^ other);
    }

    /// `self &= other`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn and_assign(&mut self, other: &Self) {
        self.combine(other, |word, other| word & other);
    }

    /// Inverts each bit.
    pub fn not_assign(&mut self) {
        for word in &mut self.words {
            *word = !*word;
        }
        self.mask_tail();
    }

    /// `self ^ other`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        let mut bits = self.clone();
        bits.xor_assign(other);
        bits
    }

    /// `self & other`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut bits = self.clone();
        bits.and_assign(other);
        bits
    }

    fn combine(&mut self, other: &Self, operation: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.len, other.len, "rows of bits differ in length");
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = operation(*word, *other);
        }
    }
}

impl FromIterator<bool> for Packed {
    fn from_iter<I: IntoIterator<Item = bool>>(bits: I) -> Self {
        let mut packed = Self::default();
        for bit in bits {
            let place = packed.len % 64;
            if place == 0 {
                packed.words.push(0);
            }
            if let Some(last) = packed.words.last_mut() {
                *last |= u64::from(bit) << place;
            }
            packed.len += 1;
        }
        packed
    }
}

/// Compares the bits in constant time.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        let differences = self.words.iter().zip(&other.words).fold(0, |all, (a, b)| all | (a ^ b));
        self.len == other.len && differences == 0
    }
}

impl Eq for Packed {}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} bits)", self.len)
    }
}

/// Bit `bit` (0 is the lowest) of each value.
///
/// # Panics
/// If `bit` is above 63.
pub fn bit_of_each(values: &[u64], bit: u32) -> Packed {
    assert!(bit < 64, "bit {bit} of a 64-bit word");
    let mut words = Vec::with_capacity(Packed::word_count(values.len()));
    for group in values.chunks(64) {
        let gather = |word, (place, value): (usize, &u64)| word | (value >> bit & 1) << place;
        words.push(group.iter().enumerate().fold(0, gather));
    }
    Packed { words, len: values.len() }
}

/// The lowest `width_bits` bits of all values, the lowest bits of each first: entry `k` is
/// [`bit_of_each`] for bit `k`, several times faster than bit by bit.
///
/// # Panics
/// If the width is above 64.
pub fn bit_planes(values: &[u64], width_bits: u32) -> Vec<Packed> {
    assert!(width_bits <= 64, "width of {width_bits} bits");
    let mut planes = vec![Packed::zeros(values.len()); width_bits as usize];
    let mut block = [0; 64];
    for (index, group) in values.chunks(64).enumerate() {
        block[..group.len()].copy_from_slice(group);
        block[group.len()..].fill(0);
        transpose(&mut block);
        for (plane, word) in planes.iter_mut().zip(&block) {
            plane.words[index] = *word;
        }
    }
    block.zeroize();
    planes
}

/// The inverse of [`bit_planes`]: values whose bit `k` comes from `planes[k]`; higher bits are 0.
///
/// # Panics
/// If there are more than 64 planes or their lengths differ.
pub fn join_planes(planes: &[Packed]) -> Vec<u64> {
    assert!(planes.len() <= 64, "{} planes for 64 bits", planes.len());
    let len = planes.first().map_or(0, Packed::len);
    assert!(planes.iter().all(|plane| plane.len == len), "planes differ in length");
    let mut values = vec![0; len];
    let mut block = [0; 64];
    for (index, group) in values.chunks_mut(64).enumerate() {
        block.fill(0);
        for (word, plane) in block.iter_mut().zip(planes) {
            *word = plane.words[index];
        }
        transpose(&mut block);
        group.copy_from_slice(&block[..group.len()]);
    }
    block.zeroize();
    values
}

/// Swaps bit `j` of word `i` with bit `i` of word `j`: squares of 32 bits first, then of 16, down
/// to single bits.
fn transpose(block: &mut [u64; 64]) {
    let (mut half, mut mask) = (32, u64::MAX >> 32);
    while half > 0 {
        for row in (0..64).filter(|row| row & half == 0) {
            let swap = (block[row] >> half ^ block[row + half]) & mask;
            block[row] ^= swap << half;
            block[row + half] ^= swap;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// Bytes that [`pack_low`] uses for one value.
pub const fn low_bytes(width_bits: u32) -> usize {
    width_bits.div_ceil(8) as usize
}

/// The lowest `width_bits` of each value, in as few whole bytes as hold them, little-endian.
///
/// # Panics
/// If the width is not between 1 and 64.
pub fn pack_low(values: &[u64], width_bits: u32) -> Vec<u8> {
    assert!((1..=64).contains(&width_bits), "width of {width_bits} bits");
    let (bytes, mask) = (low_bytes(width_bits), u64::MAX >> (64 - width_bits));
    let mut packed = Vec::with_capacity(values.len() * bytes);
    for value in values {
        packed.extend_from_slice(&(value & mask).to_le_bytes()[..bytes]);
    }
    packed
}

/// The inverse of [`pack_low`] for `count` values: `None` if the length is not exactly theirs, if
/// the width is not between 1 and 64, or if a bit beyond the width is set.
pub fn unpack_low(packed: &[u8], count: usize, width_bits: u32) -> Option<Vec<u64>> {
    let bytes = low_bytes(width_bits);
    if !(1..=64).contains(&width_bits) || count.checked_mul(bytes) != Some(packed.len()) {
        return None;
    }
    let mut excess = 0;
    let mut values = Vec::with_capacity(count);
    for piece in packed.chunks_exact(bytes) {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(piece);
        let value = u64::from_le_bytes(word);
        excess |= value & !(u64::MAX >> (64 - width_bits));
        values.push(value);
    }
    (excess == 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::prg::Seed;
    use proptest::prelude::*;

    fn tail_is_clear(bits: &Packed) -> bool {
        bits.words.len() == Packed::word_count(bits.len)
            && (bits.len..bits.words.len() * 64).all(|index| bits.words[index / 64] >> (index % 64) & 1 == 0)
    }

    #[test]
    fn tails_stay_clear() {
        for len in [0, 1, 63, 64, 65, 130] {
            let random = Packed::random(&mut Prg::new(&Seed::from_bytes([len as u8; 16])), len);
            let mut inverted = Packed::zeros(len);
            inverted.not_assign();
            assert_eq!(inverted, Packed::ones(len));
            for bits in [&random, &inverted, &random.xor(&inverted)] {
                assert!(tail_is_clear(bits), "{bits:?}");
            }
            assert_eq!(Packed::from_words(vec![u64::MAX; len.div_ceil(64)], len), Some(inverted));
            assert_eq!(Packed::from_words(vec![0; len.div_ceil(64) + 1], len), None);
        }
    }

    #[test]
    fn only_the_length_is_printed() {
        assert_eq!(format!("{:?}", Packed::ones(70)), "Packed(70 bits)");
    }

    #[test]
    fn values_take_whole_bytes() {
        assert_eq!(pack_low(&[0x1_23, u64::MAX], 9), [0x23, 1, 0xFF, 1]);
        assert_eq!(unpack_low(&[0x23, 1, 0xFF, 1], 2, 9), Some(vec![0x123, 0x1FF]));
        assert_eq!(unpack_low(&[0x23, 1, 0xFF, 2], 2, 9), None);
        assert_eq!(unpack_low(&[0x23, 1, 0xFF], 2, 9), None);
        assert_eq!(unpack_low(&[], 0, 0), None);
        assert_eq!(unpack_low(&[], usize::MAX, 64), None);
    }

    #[test]
    #[should_panic(expected = "bit 3 of 3")]
    fn bits_beyond_the_length_are_refused() {
        Packed::zeros(3).get(3);
    }

    proptest! {
        #[test]
        fn packing_inverts(bits in prop::collection::vec(any::<bool>(), 0..200)) {
            let packed: Packed = bits.iter().copied().collect();
            prop_assert!(tail_is_clear(&packed));
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), bits.clone());
            let mut copy = Packed::zeros(bits.len());
            for (index, bit) in bits.iter().enumerate() {
                prop_assert_eq!(packed.get(index), *bit);
                copy.set(index, !bit);
                copy.set(index, *bit);
            }
            prop_assert_eq!(copy, packed);
        }

        #[test]
        fn operations_agree_with_booleans(pairs in prop::collection::vec(any::<(bool, bool)>(), 0..200)) {
            let a: Packed = pairs.iter().map(|pair| pair.0).collect();
            let b: Packed = pairs.iter().map(|pair| pair.1).collect();
            prop_assert_eq!(a.xor(&b), pairs.iter().map(|(a, b)| a ^ b).collect());
            prop_assert_eq!(a.and(&b), pairs.iter().map(|(a, b)| a & b).collect());
            prop_assert_eq!(a == b, pairs.iter().all(|(a, b)| a == b));
        }

        #[test]
        fn low_parts_survive(values in prop::collection::vec(any::<u64>(), 0..140), width in 1_u32..=64, bit in 0_u32..64) {
            let packed = pack_low(&values, width);
            let masked: Vec<u64> = values.iter().map(|value| value & (u64::MAX >> (64 - width))).collect();
            prop_assert_eq!(unpack_low(&packed, values.len(), width), Some(masked));
            let bits: Packed = values.iter().map(|value| value >> bit & 1 == 1).collect();
            prop_assert_eq!(bit_of_each(&values, bit), bits.clone());
            let planes = bit_planes(&values, width);
            prop_assert_eq!(planes.len(), width as usize);
            if let Some(plane) = planes.get(bit as usize) {
                prop_assert_eq!(plane, &bits);
            }
            if !values.is_empty() {
                prop_assert_eq!(Some(join_planes(&planes)), unpack_low(&packed, values.len(), width));
            }
        }
    }
}
