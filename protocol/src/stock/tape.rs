//! The compact form of a bundle, and the desk at which a dealer writes both parties' tapes.

use super::provision::StockError;
use crate::algebra::prg::{Prg, Seed};
use zeroize::Zeroizing;

const FREE: &str = "consilium free";
const DEPENDENT: &str = "consilium dependent";

/// The stream of the free words behind a bundle's seed.
pub fn free_stream(seed: &Seed) -> Prg {
    Prg::new(&seed.derive(FREE, 0))
}

/// One party's compact bundle. Reading it moves along; it cannot be cloned or rewound.
pub struct Tape {
    free: Prg,
    dependent: Dependent,
}

enum Dependent {
    Seeded(Box<Prg>),
    Stored { words: Zeroizing<Vec<u64>>, next: usize },
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape")
    }
}

impl Tape {
    /// A tape of nothing but its seed.
    pub fn seeded(seed: &Seed) -> Self {
        let dependent = Dependent::Seeded(Box::new(Prg::new(&seed.derive(DEPENDENT, 0))));
        Self { free: free_stream(seed), dependent }
    }

    /// A tape with its dependent words spelt out.
    pub fn stored(seed: &Seed, dependent: Vec<u64>) -> Self {
        let dependent = Dependent::Stored { words: Zeroizing::new(dependent), next: 0 };
        Self { free: free_stream(seed), dependent }
    }

    pub(super) fn free(&mut self, count: usize) -> Vec<u64> {
        self.free.words(count)
    }

    pub(super) fn dependent(&mut self, count: usize) -> Result<Vec<u64>, StockError> {
        match &mut self.dependent {
            Dependent::Seeded(prg) => Ok(prg.words(count)),
            Dependent::Stored { words, next } => {
                let end = next.checked_add(count).filter(|end| *end <= words.len());
                let end = end.ok_or(StockError::TapeShort { held: words.len() })?;
                let taken = words[*next..end].to_vec();
                *next = end;
                Ok(taken)
            }
        }
    }

    pub(super) fn finish(self) -> Result<(), StockError> {
        match self.dependent {
            Dependent::Stored { words, next } if next != words.len() => {
                Err(StockError::TapeLong { used: next, held: words.len() })
            }
            _ => Ok(()),
        }
    }
}

/// Where one who knows both seeds writes party One's dependent words.
pub struct Desk {
    free: [Prg; 2],
    dependent: Prg,
    corrections: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    /// Both parties' seeds, Zero first, and how many dependent words are to come.
    pub fn new(zero: &Seed, one: &Seed, words: usize) -> Self {
        let free = [free_stream(zero), free_stream(one)];
        Self {
            free,
            dependent: Prg::new(&zero.derive(DEPENDENT, 0)),
            corrections: Vec::with_capacity(words).into(),
        }
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

    /// Party Zero's next dependent words, where One's are to stand.
    fn settle(&mut self, count: usize) -> &mut [u64] {
        let first = self.corrections.len();
        self.corrections.resize(first + count, 0);
        let words = &mut self.corrections[first..];
        self.dependent.fill_words(words);
        words
    }

    /// Party One's dependent words.
    pub fn corrections(mut self) -> Vec<u64> {
        std::mem::take(&mut *self.corrections)
    }
}
