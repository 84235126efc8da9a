//! Circuits over bits that the two parties share by XOR, all gates of one depth in one round.
//!
//! - Computes: the bits and carries of `r = r_0 + r_1` for masks of which each party holds one
//!   summand; thermometers of their digits; products of masked bits.
//! - Learns: each party sees its partner's inputs to every AND under fresh random bits; nothing else.
//! - Consumes: a bit triple per AND.
//! - Costs: 2 bits each way per AND. A mask of `n` bits takes `n` ANDs in as many rounds, a digit of
//!   `b` bits `2^b - b - 1` in `b - 1`, products one AND each in as many rounds as the largest has
//!   doublings. Masks of a batch share all rounds.
//! - Source: Goldreich, Micali and Wigderson, STOC 1987, with triples of Beaver, CRYPTO 1991.

use super::work::{Job, MaskedWork, ProductWork};
use super::{Pairwise, PairwiseError};
use crate::algebra::bits::bit_of_each;
use crate::context::{Dialogue, Link};
use std::collections::BTreeMap;
use zeroize::{Zeroize, Zeroizing};

const AND_OPEN: u32 = 0x616e_6401;

/// Rows of shared bits over all values of a gate.
type Rows = Vec<Vec<u64>>;

/// ANDs that share a round: operands side by side.
#[derive(Default)]
pub(super) struct Ands {
    left: Zeroizing<Vec<u64>>,
    right: Zeroizing<Vec<u64>>,
}

impl Ands {
    /// Adds rows of one length; the product is later found at the returned place.
    pub(super) fn push(&mut self, left: impl IntoIterator<Item = u64>, right: impl IntoIterator<Item = u64>) {
        self.left.extend(left);
        self.right.extend(right);
    }
}

impl Pairwise {
    /// Shares of the products of all rows, one after the other.
    pub(super) async fn and<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        ands: Ands,
    ) -> Result<Zeroizing<Vec<u64>>, PairwiseError> {
        let words = ands.left.len();
        let triples = self.triples(dialogue, words).await?;
        let mut opened = Vec::with_capacity(2 * words);
        opened.extend(ands.left.iter().zip(triples.a.iter()).map(|(x, a)| x ^ a));
        opened.extend(ands.right.iter().zip(triples.b.iter()).map(|(y, b)| y ^ b));
        let message: Vec<u8> = opened.iter().flat_map(|word| word.to_le_bytes()).collect();
        let reply = dialogue.swap(AND_OPEN, &message, message.len()).await?;
        for (word, bytes) in opened.iter_mut().zip(reply.as_chunks().0) {
            *word ^= u64::from_le_bytes(*bytes);
        }
        let (d, e) = opened.split_at(words);
        let constants = if dialogue.party().holds_constants() { u64::MAX } else { 0 };
        let one = |at: usize| {
            triples.c[at] ^ (d[at] & triples.b[at]) ^ (e[at] & triples.a[at]) ^ (d[at] & e[at] & constants)
        };
        Ok(Zeroizing::new((0..words).map(one).collect()))
    }
}

/// The bits of the masks of one gate, one row of words per bit, and the carries that lifting needs.
#[derive(Default)]
pub(super) struct Sums {
    /// Rows from the lowest bit up.
    pub(super) bits: Vec<Vec<u64>>,
    /// Carry into bit `shift`; empty if the gate does not lift.
    pub(super) low_carry: Vec<u64>,
    /// Carry out of the ring; empty if the gate does not lift.
    pub(super) carry: Vec<u64>,
}

impl Drop for Sums {
    fn drop(&mut self) {
        self.bits.zeroize();
        self.low_carry.zeroize();
        self.carry.zeroize();
    }
}

/// Adds both parties' words of every mask, bit by bit.
pub(super) async fn add<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    jobs: &[Job<MaskedWork>],
) -> Result<Vec<Sums>, PairwiseError> {
    let first = dialogue.party().holds_constants();
    let mut sums: Vec<Sums> = jobs.iter().map(|_| Sums::default()).collect();
    let mut carries: Vec<Zeroizing<Vec<u64>>> =
        jobs.iter().map(|job| Zeroizing::new(vec![0; job.of.mask.len().div_ceil(64)])).collect();
    let deepest = jobs.iter().map(|job| job.of.shape.ring_bits).max().unwrap_or(0);
    for bit in 0..deepest {
        let mut ands = Ands::default();
        for ((job, sum), carry) in jobs.iter().zip(&mut sums).zip(&carries) {
            let shape = job.of.shape;
            if bit >= shape.ring_bits {
                continue;
            }
            let own = bit_of_each(&job.of.mask, bit);
            let summed: Vec<u64> =
                own.words().iter().zip(carry.iter()).map(|(own, carry)| own ^ carry).collect();
            if bit == shape.shift && shape.lift {
                sum.low_carry = carry.to_vec();
            }
            if needs_carry(shape, bit) {
                if first {
                    ands.push(summed.iter().copied(), carry.iter().copied());
                } else {
                    ands.push(carry.iter().copied(), summed.iter().copied());
                }
            }
            sum.bits.push(summed);
        }
        let products = pairwise.and(dialogue, ands).await?;
        let mut rest = &products[..];
        for ((job, sum), carry) in jobs.iter().zip(&mut sums).zip(&mut carries) {
            if bit >= job.of.shape.ring_bits || !needs_carry(job.of.shape, bit) {
                continue;
            }
            let (own, others) = rest.split_at(carry.len());
            rest = others;
            carry.iter_mut().zip(own).for_each(|(carry, product)| *carry ^= product);
            if bit + 1 == job.of.shape.ring_bits {
                sum.carry = carry.to_vec();
            }
        }
    }
    Ok(sums)
}

/// The carry out of the last bit serves lifting only.
fn needs_carry(shape: crate::stock::MaskedShape, bit: u32) -> bool {
    bit + 1 < shape.ring_bits || shape.lift
}

/// Thermometers of all digits of all gates: `[gate][digit][entry]`, each a row over the values. The
/// entry of the largest digit is always 0 and has no row.
pub(super) async fn thermometers<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    jobs: &[Job<MaskedWork>],
    sums: &[Sums],
) -> Result<Vec<Vec<Rows>>, PairwiseError> {
    // A digit's bits, lowest first, and its thermometer over the bits taken in so far.
    let mut digits: Vec<(&[Vec<u64>], Rows)> = Vec::new();
    let mut blocks = Vec::with_capacity(jobs.len());
    for (job, sum) in jobs.iter().zip(sums) {
        let shape = job.of.shape;
        let comparison = shape.digits();
        blocks.push(comparison.map_or(0, |comparison| comparison.blocks as usize));
        let Some(comparison) = comparison else { continue };
        for block in 0..comparison.blocks {
            let low = block * comparison.block_bits;
            let width = comparison.block_bits.min(comparison.width - low);
            let from = (shape.shift + low) as usize;
            let bits = &sum.bits[from..from + width as usize];
            digits.push((bits, vec![bits[0].clone()]));
        }
    }
    let deepest = digits.iter().map(|(bits, _)| bits.len()).max().unwrap_or(0);
    for bit in 1..deepest {
        let mut ands = Ands::default();
        for (bits, entries) in digits.iter().filter(|(bits, _)| bit < bits.len()) {
            for entry in entries {
                ands.push(bits[bit].iter().copied(), entry.iter().copied());
            }
        }
        let products = pairwise.and(dialogue, ands).await?;
        let mut rest = &products[..];
        for (bits, entries) in digits.iter_mut().filter(|(bits, _)| bit < bits.len()) {
            let top = &bits[bit];
            let mut upper = Vec::with_capacity(entries.len());
            for entry in entries.iter_mut() {
                // With the top bit: below it an entry is `top or entry`, above it `top and entry`.
                let (product, others) = rest.split_at(entry.len());
                rest = others;
                entry.iter_mut().zip(top).zip(product).for_each(|((entry, top), both)| *entry ^= top ^ both);
                upper.push(product.to_vec());
            }
            entries.push(top.clone());
            entries.extend(upper);
        }
    }
    let mut digits = digits.into_iter().map(|(_, entries)| entries);
    Ok(blocks.into_iter().map(|count| digits.by_ref().take(count).collect()).collect())
}

/// The monomials of all product sets, in the order of [`crate::stock::ProductSet::monomials`].
pub(super) async fn monomials<L: Link>(
    pairwise: &mut Pairwise,
    dialogue: &mut Dialogue<L>,
    jobs: &[Job<ProductWork>],
) -> Result<Vec<Rows>, PairwiseError> {
    let mut known: Vec<BTreeMap<u32, Vec<u64>>> = jobs
        .iter()
        .map(|job| job.of.masks.iter().enumerate().map(|(input, row)| (1 << input, row.clone())).collect())
        .collect();
    let mut half = 1;
    loop {
        let due = |set: &u32| set.count_ones() > half && set.count_ones() <= 2 * half;
        let mut ands = Ands::default();
        let mut wanted = Vec::new();
        for (at, job) in jobs.iter().enumerate() {
            for set in job.of.set.monomials().iter().filter(|set| due(set)) {
                let low = lowest(*set, half);
                ands.push(known[at][&low].iter().copied(), known[at][&(set ^ low)].iter().copied());
                wanted.push((at, *set));
            }
        }
        if wanted.is_empty() {
            break;
        }
        let products = pairwise.and(dialogue, ands).await?;
        let mut rest = &products[..];
        for (at, set) in wanted {
            let (own, others) = rest.split_at(jobs[at].of.masks[0].len());
            rest = others;
            known[at].insert(set, own.to_vec());
        }
        half *= 2;
    }
    let row = |(job, known): (&Job<ProductWork>, &mut BTreeMap<u32, Vec<u64>>)| {
        let monomials = job.of.set.monomials().iter();
        let rows = monomials.map(|set| known.remove(set).unwrap_or_default()).collect();
        known.values_mut().for_each(Zeroize::zeroize);
        rows
    };
    Ok(jobs.iter().zip(&mut known).map(row).collect())
}

/// The lowest `count` members of a set.
fn lowest(set: u32, count: u32) -> u32 {
    (0..count)
        .fold((0, set), |(low, rest), _| (low | (rest & rest.wrapping_neg()), rest & rest.wrapping_sub(1)))
        .0
}
