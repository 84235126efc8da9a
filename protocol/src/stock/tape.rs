//! The compact form of a bundle, and the desk at which a dealer writes both parties' tapes.

use super::provision::StockError;
use crate::algebra::prg::{Prg, Seed};
use crate::party::Party;
use zeroize::Zeroizing;

const FREE: &str = "consilium free";
const DEPENDENT: &str = "consilium dependent";

/// The stream of the free words behind a bundle's seed.
pub fn free_stream(seed: &Seed) -> Prg {
    Prg::new(&seed.derive(FREE, 0))
}

/// One party's compact bundle. Reading it moves along; it cannot be cloned or rewound.
///
/// *Free* words expand from the party's seed. *Dependent* words expand from Zero's seed and are sent to
/// One. *Common* words are sent to both and are the same.
pub struct Tape {
    free: Prg,
    dependent: Option<Box<Prg>>,
    sent: Zeroizing<Vec<u64>>,
    next: usize,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape")
    }
}

impl Tape {
    /// A party's seed and the words that it was sent: One's dependent words and the common ones in the
    /// order of the plan, to Zero the common ones alone.
    pub fn new(party: Party, seed: &Seed, sent: Vec<u64>) -> Self {
        let dependent = (party == Party::Zero).then(|| Box::new(Prg::new(&seed.derive(DEPENDENT, 0))));
        Self { dependent, ..Self::stored(seed, sent) }
    }

    /// A seed and all dependent words spelt out, in the order of the plan, whichever party's they are.
    pub fn stored(seed: &Seed, words: Vec<u64>) -> Self {
        Self { free: free_stream(seed), dependent: None, sent: Zeroizing::new(words), next: 0 }
    }

    pub(super) fn free(&mut self, count: usize) -> Vec<u64> {
        self.free.words(count)
    }

    pub(super) fn dependent(&mut self, count: usize) -> Result<Vec<u64>, StockError> {
        match &mut self.dependent {
            Some(prg) => Ok(prg.words(count)),
            None => self.common(count),
        }
    }

    pub(super) fn common(&mut self, count: usize) -> Result<Vec<u64>, StockError> {
        let end = self.next.checked_add(count).filter(|end| *end <= self.sent.len());
        let end = end.ok_or(StockError::TapeShort { held: self.sent.len() })?;
        let taken = self.sent[self.next..end].to_vec();
        self.next = end;
        Ok(taken)
    }

    pub(super) fn finish(self) -> Result<(), StockError> {
        let (used, held) = (self.next, self.sent.len());
        if used == held { Ok(()) } else { Err(StockError::TapeLong { used, held }) }
    }
}

/// Where one who knows both seeds writes what both parties are sent.
pub struct Desk {
    free: [Prg; 2],
    dependent: Prg,
    sent: [Zeroizing<Vec<u64>>; 2],
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    /// Both parties' seeds and how many words each is to be sent, Zero's first.
    pub fn new(zero: &Seed, one: &Seed, words: [usize; 2]) -> Self {
        let free = [free_stream(zero), free_stream(one)];
        let sent = words.map(|words| Zeroizing::new(Vec::with_capacity(words)));
        Self { free, dependent: Prg::new(&zero.derive(DEPENDENT, 0)), sent }
    }

    /// Both parties' free words.
    pub fn free(&mut self, count: usize) -> [Zeroizing<Vec<u64>>; 2] {
        self.free.each_mut().map(|prg| Zeroizing::new(prg.words(count)))
    }

    /// Sum of both parties' free words.
    pub fn free_sum(&mut self, count: usize) -> Vec<u64> {
        let mut sum = self.free[0].words(count);
        for (word, other) in sum.iter_mut().zip(Zeroizing::new(self.free[1].words(count)).iter()) {
            *word = word.wrapping_add(*other);
        }
        sum
    }

    /// XOR of both parties' free words.
    pub fn free_xor(&mut self, count: usize) -> Vec<u64> {
        let mut sum = self.free[0].words(count);
        for (word, other) in sum.iter_mut().zip(Zeroizing::new(self.free[1].words(count)).iter()) {
            *word ^= *other;
        }
        sum
    }

    /// Makes `values` the additive secret behind both parties' next dependent words.
    pub fn settle_sum(&mut self, values: &[u64]) {
        for (word, value) in self.settle(values.len()).iter_mut().zip(values) {
            *word = value.wrapping_sub(*word);
        }
    }

    /// Makes `values` the XOR secret behind both parties' next dependent words.
    pub fn settle_xor(&mut self, values: &[u64]) {
        for (word, value) in self.settle(values.len()).iter_mut().zip(values) {
            *word ^= value;
        }
    }

    /// Makes `words` both parties' next common words.
    pub fn publish(&mut self, words: &[u64]) {
        self.sent.iter_mut().for_each(|sent| sent.extend_from_slice(words));
    }

    /// Party Zero's next dependent words, where One's are to stand.
    fn settle(&mut self, count: usize) -> &mut [u64] {
        let sent = &mut *self.sent[1];
        let first = sent.len();
        sent.resize(first + count, 0);
        let words = &mut sent[first..];
        self.dependent.fill_words(words);
        words
    }

    /// The words that each party is sent, Zero's first.
    pub fn sent(mut self) -> [Vec<u64>; 2] {
        self.sent.each_mut().map(|sent| std::mem::take(&mut **sent))
    }
}
