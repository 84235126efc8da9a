//! What a batch of bundles asks for, gathered by kind, so that all of it shares rounds.
//!
//! - Computes: this party's free words of every bundle, laid beside each other.
//! - Learns: nothing.
//! - Consumes: the seeds of the bundles.
//! - Costs: no message.
//! - Source: the order is that of [`crate::stock::Provision::lay_out`].

use super::PairwiseError;
use crate::algebra::linear::LinearShape;
use crate::algebra::prg::{Prg, Seed};
use crate::stock::{CompareShape, Demand, MaskedShape, ProductSet, free_stream};
use std::sync::Arc;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A gate's demand over all bundles. Vectors hold the words of the first bundle, then those of the
/// second, and so on; rows of bits do so without the bits that fill a bundle's last word. `at` is where
/// the gate's dependent words stand in each bundle.
pub(super) struct Job<T> {
    pub(super) at: usize,
    pub(super) of: T,
}

/// Masks with shared bits.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct MaskedWork {
    #[zeroize(skip)]
    pub(super) shape: MaskedShape,
    /// Own words of the masks, cut to the ring.
    pub(super) mask: Vec<u64>,
    /// Own bits of the selection's random bit; empty without one.
    pub(super) bit: Vec<u64>,
}

/// Products of masked bits.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct ProductWork {
    #[zeroize(skip)]
    pub(super) set: Arc<ProductSet>,
    pub(super) count: usize,
    /// One row of bits per input.
    pub(super) masks: Vec<Vec<u64>>,
}

/// Random bits that want an additive sharing as well.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct BitWork {
    pub(super) count: usize,
    pub(super) bits: Vec<u64>,
}

/// A product with fixed weights.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct LinearWork {
    pub(super) model: usize,
    pub(super) layer: usize,
    #[zeroize(skip)]
    pub(super) shape: LinearShape,
    /// Own operand words; empty where the operand is the input.
    pub(super) operand: Vec<u64>,
}

/// Everything that a batch of bundles asks for.
#[derive(Default)]
pub(super) struct Work {
    pub(super) bundles: usize,
    /// Dependent words of a bundle.
    pub(super) words: usize,
    pub(super) input: Zeroizing<Vec<u64>>,
    pub(super) masked: Vec<Job<MaskedWork>>,
    pub(super) products: Vec<Job<ProductWork>>,
    pub(super) bits: Vec<Job<BitWork>>,
    pub(super) squares: Vec<Job<Zeroizing<Vec<u64>>>>,
    /// Words whose squares are wanted in sums, and sums of a bundle.
    pub(super) norms: Vec<Job<(Zeroizing<Vec<u64>>, usize)>>,
    pub(super) linear: Vec<Job<LinearWork>>,
}

/// Reads the free words of all bundles in step.
struct Reader {
    streams: Vec<Prg>,
    at: usize,
}

impl Reader {
    fn free(&mut self, count: usize) -> Vec<u64> {
        let mut words = vec![0; count * self.streams.len()];
        if count > 0 {
            for (stream, words) in self.streams.iter_mut().zip(words.chunks_exact_mut(count)) {
                stream.fill_words(words);
            }
        }
        words
    }

    /// A row of `count` bits of each bundle.
    fn bits(&mut self, count: usize) -> Vec<u64> {
        let mut padded = self.free(count.div_ceil(64));
        let row = compact(&padded, count);
        padded.zeroize();
        row
    }

    fn dependent(&mut self, count: usize) -> usize {
        let at = self.at;
        self.at += count;
        at
    }
}

impl Work {
    /// Gathers what the plan's lanes ask for in the bundles of these seeds.
    pub(super) fn gather(lanes: &[Vec<Demand>], seeds: &[Seed]) -> Result<Self, PairwiseError> {
        let mut reader = Reader { streams: seeds.iter().map(free_stream).collect(), at: 0 };
        let mut work = Self { bundles: seeds.len(), ..Self::default() };
        for demand in lanes.iter().flatten() {
            match demand {
                Demand::InputMask { count } => work.input = Zeroizing::new(reader.free(*count)),
                Demand::Linear { model, layer, shape, first } => {
                    let operand = if *first { Vec::new() } else { reader.free(shape.input_len()) };
                    let at = reader.dependent(shape.output_len());
                    let of = LinearWork { model: *model, layer: *layer, shape: *shape, operand };
                    work.linear.push(Job { at, of });
                }
                Demand::Masked(shape) if shape.keys().is_some() => return Err(PairwiseError::Keys),
                Demand::Indicator(_) => return Err(PairwiseError::Keys),
                Demand::Masked(shape) => work.masked(&mut reader, *shape),
                Demand::Square { count } => {
                    let of = Zeroizing::new(reader.free(*count));
                    work.squares.push(Job { at: reader.dependent(*count), of });
                }
                Demand::Norm { values, batch, first } => {
                    let words =
                        if *first { work.input.clone() } else { Zeroizing::new(reader.free(values * batch)) };
                    work.norms.push(Job { at: reader.dependent(*batch), of: (words, *batch) });
                }
                Demand::Products { count, set } => work.products(&mut reader, *count, set),
                Demand::BitMask { count } => {
                    work.bits(&mut reader, *count);
                }
            }
        }
        work.words = reader.at;
        Ok(work)
    }

    fn masked(&mut self, reader: &mut Reader, shape: MaskedShape) {
        let ring = u64::MAX >> (64 - shape.ring_bits);
        let mut mask = reader.free(shape.count);
        mask.iter_mut().for_each(|word| *word &= ring);
        let at = reader.dependent(parts(shape).compared);
        if let Some(comparison) = shape.digits() {
            for sizes in comparison.groups() {
                for (group, blocks) in sizes.iter().enumerate() {
                    if let Some(set) = CompareShape::product(group, *blocks) {
                        self.products(reader, shape.count, &set);
                    }
                }
            }
        }
        let mut bit = Vec::new();
        if shape.select {
            bit = self.bits(reader, shape.count);
            reader.dependent(2 * shape.count);
        }
        self.masked.push(Job { at, of: MaskedWork { shape, mask, bit } });
    }

    fn products(&mut self, reader: &mut Reader, count: usize, set: &Arc<ProductSet>) {
        let words = count.div_ceil(64);
        let masks = (0..set.inputs()).map(|_| reader.bits(count)).collect();
        let at = reader.dependent(words * set.monomials().len());
        self.products.push(Job { at, of: ProductWork { set: set.clone(), count, masks } });
    }

    fn bits(&mut self, reader: &mut Reader, count: usize) -> Vec<u64> {
        let bits = reader.bits(count);
        let at = reader.dependent(count);
        self.bits.push(Job { at, of: BitWork { count, bits: bits.clone() } });
        bits
    }
}

/// Rows of whole words for each bundle, `count` bits of them used, as one row without gaps.
fn compact(padded: &[u64], count: usize) -> Vec<u64> {
    let words = count.div_ceil(64);
    if count.is_multiple_of(64) {
        return padded.to_vec();
    }
    let mut row = vec![0; (padded.len() / words.max(1) * count).div_ceil(64)];
    let mut to = 0;
    for bundle in padded.chunks_exact(words.max(1)) {
        for (word, bits) in bundle.iter().zip(lengths(count)) {
            let kept = word & (u64::MAX >> (64 - bits));
            row[to / 64] |= kept << (to % 64);
            if to % 64 + bits > 64 {
                row[to / 64 + 1] |= kept >> (64 - to % 64);
            }
            to += bits;
        }
    }
    row
}

/// The inverse of [`compact`], for one bundle: `count` bits from bit `from` on, in whole words.
pub(super) fn spread(row: &[u64], from: usize, count: usize) -> impl Iterator<Item = u64> {
    lengths(count).enumerate().map(move |(word, bits)| {
        let at = from + 64 * word;
        let low = row[at / 64] >> (at % 64);
        let high = if at % 64 + bits > 64 { row[at / 64 + 1] << (64 - at % 64) } else { 0 };
        (low | high) & (u64::MAX >> (64 - bits))
    })
}

/// How many bits of each word are used.
fn lengths(count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(64).map(move |at| (count - at).min(64))
}

/// How the dependent words of masks with shared bits follow each other.
pub(super) struct Parts {
    /// Words of one thermometer row.
    pub(super) thermometer: usize,
    /// Where the rows of thermometers begin, after both lifted shares.
    pub(super) thermometers: usize,
    /// Where the top bits begin.
    pub(super) top: usize,
    /// Where the products of the comparison begin.
    pub(super) compared: usize,
    /// Where the selected shares begin, after products and random bits.
    pub(super) selected: usize,
}

/// The places of all parts within the dependent words of one gate.
pub(super) fn parts(shape: MaskedShape) -> Parts {
    let lifted = if shape.lift { 2 * shape.count } else { 0 };
    let Some(comparison) = shape.digits() else {
        return Parts {
            thermometer: 0,
            thermometers: lifted,
            top: lifted,
            compared: lifted,
            selected: lifted,
        };
    };
    let thermometer = (shape.count << comparison.block_bits).div_ceil(64);
    let top = lifted + comparison.blocks as usize * thermometer;
    let compared = top + shape.count.div_ceil(64);
    let monomials = comparison.monomials();
    let selected = compared + monomials * shape.count.div_ceil(64) + shape.count;
    Parts { thermometer, thermometers: lifted, top, compared, selected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_gaps_spread_again() {
        for count in [1usize, 5, 63, 64, 65, 127, 128, 130] {
            let words = count.div_ceil(64);
            let last = u64::MAX >> ((64 - count % 64) % 64);
            let padded = Prg::new(&Seed::from_bytes([3; 16])).words(7 * words);
            let row = compact(&padded, count);
            assert_eq!(row.len(), (7 * count).div_ceil(64));
            for (index, bundle) in padded.chunks_exact(words).enumerate() {
                let mut expected = bundle.to_vec();
                expected[words - 1] &= last;
                assert_eq!(spread(&row, index * count, count).collect::<Vec<_>>(), expected, "{count} bits");
            }
        }
    }
}
