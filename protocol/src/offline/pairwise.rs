//! The two compute parties make their bundles themselves; no third party.
//!
//! - Computes: for every [`Demand`] of the plan shares of fresh correlated randomness, for many bundles
//!   at once.
//! - Learns: nothing, as long as both follow the protocol and do not collude; the assumptions are those
//!   of [`crate::lattice`] and [`super::ot`].
//! - Consumes: nothing that was made before but the keys of [`Pairwise::set_up`].
//! - Costs: for each cross product of a linear layer the ciphertexts of [`crate::lattice`]; for bits
//!   [`ands`] bit triples and 2 bits each way per AND; rounds that do not depend on the number of
//!   bundles.
//! - Source: the parts stand in the files below; a bundle is what [`super::dealer`] deals.
//!
//! Each party draws a seed for each bundle. Its free words expand from the seed as they do for dealt
//! bundles; the dependent words come out of the protocol and are stored.

mod arithmetic;
mod boolean;
mod linear;
mod work;

pub use linear::bundles_max;

use super::ot::{BitTriples, Correlator, Extension};
use crate::algebra::prg::{Prg, Seed};
use crate::context::{Dialogue, DialogueError, Link};
use crate::lattice::{PackingError, PublicKey, SecretKey};
use crate::stock::{Demand, Tape};
use work::{Work, parts, spread};
use zeroize::{Zeroize, Zeroizing};

/// Bit triples are made at least this many words at a time.
const TRIPLE_WORDS_MIN: usize = 1 << 12;
/// Bundles whose bits are made together hold at most this many dependent words.
const BITS_WORDS_MAX: usize = 1 << 22;
/// Rows of transfers after which everything is set up anew: each tree behind a row gives an attacker on the
/// sender's offset a few more targets, see [`crate::manual::review`].
const ROWS_MAX: u64 = 1 << 32;

/// Why no bundles were made.
#[derive(Debug, thiserror::Error)]
pub enum PairwiseError {
    /// The dialogue ended.
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    /// The system gave no randomness.
    #[error(transparent)]
    Seed(#[from] crate::algebra::prg::SeedError),
    /// A layer does not fit the lattice parameters; such a task needs a dealer.
    #[error("{0}; a task with such a layer needs a dealer")]
    Packing(#[from] PackingError),
    /// The plan compares by keys.
    #[error("comparison keys come from a dealer; choose digits for a task whose pair has none")]
    Keys,
    /// This party lacks its share of a weight mask, or it has another length.
    #[error(
        "the share of the weight mask of model {model}, layer {layer} is missing or has the wrong length"
    )]
    Mask {
        /// Position of the model in the task.
        model: usize,
        /// Position of the weights in the model.
        layer: usize,
    },
}

/// This party's shares of the masks of the weights, by model and layer.
pub trait WeightMaskShares {
    /// The share of `A` of one layer, row-major.
    fn share(&self, model: usize, layer: usize) -> Option<&[u64]>;
}

/// One party's bundle: the seed of its free words, and its dependent words.
pub struct Bundle {
    /// Seed of the free words.
    pub seed: Seed,
    /// Dependent words in the order of the plan.
    pub dependent: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({})", self.dependent.len())
    }
}

impl Bundle {
    /// The bundle as a tape.
    pub fn into_tape(mut self) -> Tape {
        Tape::stored(&self.seed, std::mem::take(&mut *self.dependent))
    }
}

/// The keys of one party for making bundles with the other. They serve batch after batch and are set up anew
/// when the transfers are worn.
pub struct Pairwise {
    extension: Extension,
    correlator: Correlator,
    secret: SecretKey,
    public: PublicKey,
    /// Randomness of ciphertexts.
    prg: Prg,
    spare: BitTriples,
    anded: u64,
}

impl std::fmt::Debug for Pairwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pairwise")
    }
}

impl Pairwise {
    /// Base transfers, transfer extension and lattice keys, all fresh. Both sides name the same
    /// extension.
    ///
    /// # Errors
    /// [`PairwiseError`].
    pub async fn set_up<L: Link>(
        dialogue: &mut Dialogue<L>,
        extension: Extension,
    ) -> Result<Self, PairwiseError> {
        let correlator = Correlator::setup(dialogue, extension, &Seed::random()?).await?;
        let secret = SecretKey::generate(&Seed::random()?);
        let public = linear::swap_keys(dialogue, &secret).await?;
        let prg = Prg::new(&Seed::random()?);
        let spare = BitTriples::default();
        Ok(Self { extension, correlator, secret, public, prg, spare, anded: 0 })
    }

    /// Makes `count` bundles for the plan with these lanes. A failure leaves the keys useless: both
    /// sides drop them and what was made.
    ///
    /// # Errors
    /// [`PairwiseError`].
    pub async fn make<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        lanes: &[Vec<Demand>],
        masks: &impl WeightMaskShares,
        count: usize,
    ) -> Result<Vec<Bundle>, PairwiseError> {
        // Both sides have used equally many rows.
        if self.correlator.used() >= ROWS_MAX {
            *self = Self::set_up(dialogue, self.extension).await?;
        }
        let seeds = (0..count).map(|_| Seed::random()).collect::<Result<Vec<_>, _>>()?;
        let work = Work::gather(lanes, &seeds)?;
        let words = work.words;
        let bundle = |seed| Bundle { seed, dependent: Zeroizing::new(vec![0; words]) };
        let mut bundles: Vec<Bundle> = seeds.into_iter().map(bundle).collect();
        linear::multiply(self, dialogue, &work, masks, &mut bundles).await?;
        drop(work);
        for part in bundles.chunks_mut((BITS_WORDS_MAX / words.max(1)).max(1)) {
            self.bits(dialogue, lanes, part).await?;
        }
        Ok(bundles)
    }

    /// Everything but the linear layers.
    async fn bits<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        lanes: &[Vec<Demand>],
        bundles: &mut [Bundle],
    ) -> Result<(), PairwiseError> {
        let seeds: Vec<Seed> = bundles.iter().map(|bundle| bundle.seed.clone()).collect();
        let work = Work::gather(lanes, &seeds)?;
        let sums = boolean::add(self, dialogue, &work.masked).await?;
        let thermometers = boolean::thermometers(self, dialogue, &work.masked, &sums).await?;
        let mut monomials = boolean::monomials(self, dialogue, &work.products).await?;
        let arithmetic = arithmetic::settle(self, dialogue, &work, &sums).await?;
        let mut slots = Slots { bundles };
        for ((job, sum), mut rows) in work.masked.iter().zip(&sums).zip(thermometers) {
            let shape = job.of.shape;
            let Some(comparison) = shape.digits() else { continue };
            let parts = parts(shape);
            for (block, entries) in rows.iter().enumerate() {
                let at = job.at + parts.thermometers + block * parts.thermometer;
                slots.tables(at, shape.count, comparison.block_bits, entries);
            }
            slots.put_bits(
                job.at + parts.top,
                shape.count,
                &sum.bits[(shape.shift + comparison.width) as usize],
            );
            rows.zeroize();
        }
        for (job, rows) in work.products.iter().zip(&monomials) {
            for (monomial, row) in rows.iter().enumerate() {
                slots.put_bits(job.at + monomial * job.of.count.div_ceil(64), job.of.count, row);
            }
        }
        monomials.zeroize();
        for (job, lifted) in work.masked.iter().zip(&arithmetic.lifted) {
            let (shape, parts) = (job.of.shape, parts(job.of.shape));
            slots.put(job.at, &lifted.high);
            slots.put(job.at + shape.count, &lifted.wrap);
            slots.put(job.at + parts.selected, &lifted.selected[0]);
            slots.put(job.at + parts.selected + shape.count, &lifted.selected[1]);
        }
        for (job, words) in work.bits.iter().zip(&arithmetic.bits) {
            slots.put(job.at, words);
        }
        for (job, words) in work.squares.iter().zip(&arithmetic.squares) {
            slots.put(job.at, words);
        }
        for (job, words) in work.norms.iter().zip(&arithmetic.norms) {
            slots.put(job.at, words);
        }
        Ok(())
    }

    /// Bit triples, from what the last call left and from new ones.
    async fn triples<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        words: usize,
    ) -> Result<BitTriples, DialogueError> {
        let spare = &mut self.spare;
        if spare.a.len() < words {
            let missing = (words - spare.a.len()).max(TRIPLE_WORDS_MIN);
            let mut fresh = self.correlator.bit_triples(dialogue, missing).await?;
            spare.a.append(&mut fresh.a);
            spare.b.append(&mut fresh.b);
            spare.c.append(&mut fresh.c);
        }
        self.anded += 64 * words as u64;
        let left = spare.a.len() - words;
        let last = |row: &mut Vec<u64>| row.split_off(left);
        Ok(BitTriples { a: last(&mut spare.a), b: last(&mut spare.b), c: last(&mut spare.c) })
    }

    /// ANDs done since the keys were set up.
    pub fn anded(&self) -> u64 {
        self.anded
    }
}

/// Where results go: each bundle's dependent words.
struct Slots<'a> {
    bundles: &'a mut [Bundle],
}

impl Slots<'_> {
    /// Puts a vector over all bundles at one place of each.
    fn put(&mut self, at: usize, words: &[u64]) {
        let each = words.len() / self.bundles.len();
        if each > 0 {
            for (bundle, words) in self.bundles.iter_mut().zip(words.chunks_exact(each)) {
                bundle.dependent[at..at + each].copy_from_slice(words);
            }
        }
    }

    /// Puts a row of bits, `count` of each bundle.
    fn put_bits(&mut self, at: usize, count: usize, row: &[u64]) {
        for (index, bundle) in self.bundles.iter_mut().enumerate() {
            for (word, bits) in bundle.dependent[at..].iter_mut().zip(spread(row, index * count, count)) {
                *word = bits;
            }
        }
    }

    /// Puts thermometers: rows over the values become the entries of each value, side by side.
    fn tables(&mut self, at: usize, count: usize, block_bits: u32, entries: &[Vec<u64>]) {
        for (index, bundle) in self.bundles.iter_mut().enumerate() {
            for (c, row) in entries.iter().enumerate() {
                for value in 0..count {
                    let (from, place) = (index * count + value, (value << block_bits) + c);
                    let bit = row[from / 64] >> (from % 64) & 1;
                    bundle.dependent[at + place / 64] |= bit << (place % 64);
                }
            }
        }
    }
}

/// ANDs that so many bundles take when they are made together: whole words of them.
pub fn ands(lanes: &[Vec<Demand>], bundles: usize) -> usize {
    let slots = |count: usize| (count * bundles).div_ceil(64) * 64;
    let of = |demand: &Demand| match demand {
        Demand::Products { count, set } => slots(*count) * set.monomials().len(),
        Demand::Masked(shape) => {
            let carries = shape.ring_bits as usize - usize::from(!shape.lift);
            let compared = shape.digits().map_or(0, |comparison| comparison.ands());
            slots(shape.count) * (carries + compared)
        }
        _ => 0,
    };
    lanes.iter().flatten().map(of).sum()
}

/// Cross terms (one correlated transfer in each direction) that one bundle takes.
pub fn crossings(lanes: &[Vec<Demand>]) -> usize {
    let of = |demand: &Demand| match demand {
        Demand::BitMask { count } => *count,
        Demand::Square { count } => 64 * count,
        Demand::Norm { values, batch, .. } => 64 * values * batch,
        Demand::Masked(shape) => shape.count * (3 * usize::from(shape.lift) + 3 * usize::from(shape.select)),
        _ => 0,
    };
    lanes.iter().flatten().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::dealer::{sent_words, weight_mask_share};
    use crate::party::Party;
    use crate::stock::Gadget;
    use crate::testing::{MaskSeeds, MemoryLink, contract, run_now};
    use std::collections::VecDeque;

    /// One party's shares of the masks of one model.
    struct Shares(Vec<Vec<u64>>);

    impl Shares {
        fn new(lanes: &[Vec<Demand>], seeds: &MaskSeeds, party: usize) -> Self {
            let mut shares = Vec::new();
            for demand in lanes.iter().flatten() {
                if let Demand::Linear { model, layer, shape, .. } = demand {
                    shares.resize(shares.len().max(layer + 1), Vec::new());
                    let seed = &seeds.of(*model, *layer)[party];
                    shares[*layer] = weight_mask_share(seed, shape.weight_len()).to_vec();
                }
            }
            Self(shares)
        }
    }

    impl WeightMaskShares for Shares {
        fn share(&self, _: usize, layer: usize) -> Option<&[u64]> {
            self.0.get(layer).map(Vec::as_slice)
        }
    }

    type Made = Result<Vec<Bundle>, PairwiseError>;

    fn make(
        lanes: &[Vec<Demand>],
        shares: [&Shares; 2],
        extension: Extension,
        counts: &[usize],
    ) -> [Made; 2] {
        let [zero, one] = MemoryLink::pair();
        let run = |party, link, shares: &Shares| {
            let mut dialogue = Dialogue::new(link, party, 5);
            run_now(async {
                let mut pairwise = Pairwise::set_up(&mut dialogue, extension).await?;
                let mut made = Vec::new();
                for count in counts {
                    made.extend(pairwise.make(&mut dialogue, lanes, shares, *count).await?);
                }
                let expected: usize = counts.iter().map(|count| ands(lanes, *count)).sum();
                assert_eq!(pairwise.anded() as usize, expected);
                Ok(made)
            })
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(Party::One, one, shares[1]));
            let first = run(Party::Zero, zero, shares[0]);
            [first, other.join().unwrap()]
        })
    }

    fn holds(extension: Extension) {
        let mut made: VecDeque<[Tape; 2]> = VecDeque::new();
        let verdict = contract(Gadget::Digits, |lanes, seeds| {
            if made.is_empty() {
                let shares = [0, 1].map(|party| Shares::new(lanes, seeds, party));
                let [zero, one] = make(lanes, shares.each_ref(), extension, &[2, 1]).map(Result::unwrap);
                let words = sent_words(lanes, Party::One);
                for (zero, one) in zero.into_iter().zip(one) {
                    assert_eq!([zero.dependent.len(), one.dependent.len()], [words, words]);
                    made.push_back([zero, one].map(Bundle::into_tape));
                }
            }
            made.pop_front().unwrap()
        });
        assert_eq!(verdict, Ok(()));
    }

    #[test]
    fn the_contract_of_sources_holds() {
        holds(Extension::Iknp);
    }

    #[test]
    fn worn_transfers_are_set_up_anew_on_both_sides() {
        let demand = Demand::Products { count: 65, set: crate::stock::ProductSet::conjunction(3) };
        let lanes = [vec![demand]];
        let [zero, one] = MemoryLink::pair();
        let run = |party, link| {
            let mut dialogue = Dialogue::new(link, party, 5);
            run_now(async {
                let mut pairwise = Pairwise::set_up(&mut dialogue, Extension::Iknp).await.unwrap();
                let public = pairwise.secret.public_key().to_vec();
                let mut changed = Vec::new();
                for age in [ROWS_MAX - 1, ROWS_MAX] {
                    pairwise.correlator.age(age);
                    pairwise.make(&mut dialogue, &lanes, &Shares(Vec::new()), 1).await.unwrap();
                    changed.push(pairwise.secret.public_key() != public);
                }
                (changed, pairwise.correlator.used() < ROWS_MAX)
            })
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(Party::One, one));
            let expected = (vec![false, true], true);
            assert_eq!(run(Party::Zero, zero), expected);
            assert_eq!(other.join().unwrap(), expected);
        });
    }

    #[test]
    fn the_contract_holds_with_silent_transfers() {
        holds(Extension::Silent);
    }
}
