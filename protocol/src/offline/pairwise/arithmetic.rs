//! Bits turned into additive shares, bits times words, and squares.
//!
//! - Computes: additive shares of XOR-shared bits; of `bit * word`; of the squares of shared words.
//! - Learns: nothing beyond what [`crate::offline::ot`] lets through.
//! - Consumes: one correlated transfer in each direction per bit or selected word, 64 per square, alone or in a
//!   sum.
//! - Costs: one call for everything that depends on bits, one more for what is selected by them.
//! - Source: Demmler, Schneider and Zohner, NDSS 2015; squares as in Gilboa, CRYPTO 1999.

use super::boolean::Sums;
use super::work::{Job, MaskedWork, Work};
use super::{Pairwise, PairwiseError};
use crate::algebra::z64::add_rows;
use crate::context::{Dialogue, Link};
use zeroize::Zeroizing;

/// Cross terms that share a call: `bit * (the other's word) + (the other's bit) * word`.
#[derive(Default)]
struct Crossing {
    bits: Zeroizing<Vec<u64>>,
    words: Zeroizing<Vec<u64>>,
}

impl Crossing {
    fn push(&mut self, bit: u64, word: u64) {
        let at = self.words.len();
        if at.is_multiple_of(64) {
            self.bits.push(0);
        }
        self.bits[at / 64] |= (bit & 1) << (at % 64);
        self.words.push(word);
    }

    /// Asks for the product of both parties' bits, twice, for each bit of a row.
    fn push_bits(&mut self, row: &[u64], values: usize) {
        for bit in bits(row).take(values) {
            self.push(bit, bit);
        }
    }

    async fn settle<L: Link>(
        self,
        pairwise: &mut Pairwise,
        dialogue: &mut Dialogue<L>,
    ) -> Result<Zeroizing<Vec<u64>>, PairwiseError> {
        if self.words.is_empty() {
            return Ok(Zeroizing::default());
        }
        let crossed = pairwise.correlator.cross(dialogue, &self.bits, &self.words).await?;
        Ok(Zeroizing::new(crossed))
    }
}

/// The bits of a row.
fn bits(row: &[u64]) -> impl Iterator<Item = u64> {
    row.iter().flat_map(|word| (0..64).map(move |at| word >> at & 1))
}

/// Additive shares of a row of bits, given shares of twice the product of both parties' bits.
fn converted(row: &[u64], values: usize, crossed: &mut std::slice::Iter<'_, u64>) -> Zeroizing<Vec<u64>> {
    let crossed = crossed.by_ref().take(values).zip(bits(row));
    Zeroizing::new(crossed.map(|(crossed, bit)| bit.wrapping_sub(*crossed)).collect())
}

/// Additive shares of what a mask is lifted with; empty for a gate that does not lift.
#[derive(Default)]
pub(super) struct Lifted {
    /// Shares of `r >> shift`.
    pub(super) high: Zeroizing<Vec<u64>>,
    /// Shares of the top bit of `r`.
    pub(super) wrap: Zeroizing<Vec<u64>>,
    /// Shares of the selecting bit times each of both; empty for a gate that does not select.
    pub(super) selected: [Zeroizing<Vec<u64>>; 2],
}

/// Everything additive: `[masked gate]`, `[random bits]`, `[squares]`, `[sums of squares]`.
#[derive(Default)]
pub(super) struct Arithmetic {
    pub(super) lifted: Vec<Lifted>,
    pub(super) bits: Vec<Zeroizing<Vec<u64>>>,
    pub(super) squares: Vec<Zeroizing<Vec<u64>>>,
    pub(super) norms: Vec<Zeroizing<Vec<u64>>>,
}

/// Runs both calls.
pub(super) async fn settle<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    work: &Work,
    sums: &[Sums],
) -> Result<Arithmetic, PairwiseError> {
    let mut crossing = Crossing::default();
    for (job, sum) in work.masked.iter().zip(sums).filter(|(job, _)| job.of.shape.lift) {
        for row in [&sum.low_carry, &sum.carry, top(sum)] {
            crossing.push_bits(row, job.of.mask.len());
        }
    }
    for job in &work.bits {
        crossing.push_bits(&job.of.bits, work.bundles * job.of.count);
    }
    let of_norms = work.norms.iter().flat_map(|job| job.of.0.iter());
    for word in work.squares.iter().flat_map(|job| job.of.iter()).chain(of_norms) {
        for bit in 0..64 {
            crossing.push(word >> bit, word << bit);
        }
    }
    let crossed = crossing.settle(pairwise, dialogue).await?;
    let mut crossed = crossed.iter();
    let mut arithmetic = Arithmetic::default();
    for (job, sum) in work.masked.iter().zip(sums) {
        arithmetic.lifted.push(lift(job, sum, &mut crossed));
    }
    for job in &work.bits {
        let values = work.bundles * job.of.count;
        arithmetic.bits.push(converted(&job.of.bits, values, &mut crossed));
    }
    for job in &work.squares {
        arithmetic.squares.push(squares(&job.of, &mut crossed));
    }
    for job in &work.norms {
        let (words, batch) = &job.of;
        let squares = squares(words, &mut crossed);
        let each = words.len() / work.bundles.max(1);
        let sums = squares.chunks(each.max(1)).flat_map(|bundle| add_rows(bundle, *batch));
        arithmetic.norms.push(Zeroizing::new(sums.collect()));
    }
    select(pairwise, dialogue, work, &mut arithmetic.lifted).await?;
    Ok(arithmetic)
}

/// Additive shares of the squares of shared words.
fn squares(words: &[u64], crossed: &mut std::slice::Iter<'_, u64>) -> Zeroizing<Vec<u64>> {
    let square = |word: &u64| {
        let twice = crossed.by_ref().take(64).fold(0u64, |sum, term| sum.wrapping_add(*term));
        word.wrapping_mul(*word).wrapping_add(twice)
    };
    Zeroizing::new(words.iter().map(square).collect())
}

fn top(sum: &Sums) -> &[u64] {
    sum.bits.last().map_or(&[], Vec::as_slice)
}

fn lift(job: &Job<MaskedWork>, sum: &Sums, crossed: &mut std::slice::Iter<'_, u64>) -> Lifted {
    let shape = job.of.shape;
    if !shape.lift {
        return Lifted::default();
    }
    let [low, carry, wrap] =
        [&sum.low_carry, &sum.carry, top(sum)].map(|row| converted(row, job.of.mask.len(), crossed));
    // r >> s = (r_0 >> s) + (r_1 >> s) + carry into bit s - 2^(ring - s) * carry out of the ring.
    let wrapped = 1u64.checked_shl(shape.ring_bits - shape.shift).unwrap_or(0);
    let one = |at: usize| {
        (job.of.mask[at] >> shape.shift).wrapping_add(low[at]).wrapping_sub(carry[at].wrapping_mul(wrapped))
    };
    let high = Zeroizing::new((0..job.of.mask.len()).map(one).collect());
    Lifted { high, wrap, selected: Default::default() }
}

/// `bit * word` for both words of every gate that selects. Each party's own bit times its own word is
/// local; the other's bit acts on `(1 - 2 * own bit) * own word`.
async fn select<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    work: &Work,
    lifted: &mut [Lifted],
) -> Result<(), PairwiseError> {
    let selecting = |job: &&Job<MaskedWork>| job.of.shape.select;
    let mut crossing = Crossing::default();
    for (job, lifted) in work.masked.iter().zip(lifted.iter()).filter(|(job, _)| selecting(job)) {
        for words in [&lifted.high, &lifted.wrap] {
            for (word, bit) in words.iter().zip(bits(&job.of.bit)) {
                crossing.push(bit, word.wrapping_sub(word.wrapping_mul(2 * bit)));
            }
        }
    }
    let crossed = crossing.settle(pairwise, dialogue).await?;
    let mut crossed = crossed.iter();
    for (job, lifted) in work.masked.iter().zip(lifted).filter(|(job, _)| selecting(job)) {
        let words = [&lifted.high, &lifted.wrap];
        lifted.selected = words.map(|words| {
            let terms = words.iter().zip(bits(&job.of.bit)).zip(crossed.by_ref());
            Zeroizing::new(
                terms.map(|((word, bit), crossed)| word.wrapping_mul(bit).wrapping_add(*crossed)).collect(),
            )
        });
    }
    Ok(())
}
