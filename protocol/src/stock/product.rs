//! Products of masked bits: which subsets of masks the preprocessing must multiply.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Several XOR-sums of products over the same `inputs` bits, evaluated in one round.
///
/// With inputs `x_i = E_i ^ m_i` (`E_i` opened, `m_i` a shared mask) each product of the inputs in
/// a set `T` is the XOR over all `S` within `T` of `(product of E outside S) * (product of m in
/// S)`; the second factor is a *monomial* of the masks, shared beforehand.
#[derive(Debug, PartialEq, Eq)]
pub struct ProductSet {
    inputs: u32,
    monomials: Vec<u32>,
    publics: Vec<(usize, u32)>,
    outputs: Vec<Vec<Term>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    public: usize,
    shared: Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    One,
    Mask(u32),
    Monomial(usize),
}

/// Opened bits, masks and monomials of one gate, all as rows of words.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// One row per input: the opened bits.
    pub opened: &'a [Vec<u64>],
    /// One row per input: this party's share of the mask.
    pub masks: &'a [Vec<u64>],
    /// One row per monomial: this party's share.
    pub monomials: &'a [Vec<u64>],
    /// Whether this party adds public terms.
    pub constants: bool,
}

impl ProductSet {
    /// The AND of all `inputs` (2 to 9) bits.
    pub fn conjunction(inputs: u32) -> Arc<Self> {
        Self::cached((0, inputs, 0), || Self::new(inputs, &[vec![(1 << inputs) - 1]]))
    }

    /// The AND of the first `inputs` bits, unless the `exceptions` bits after them are all set; 2 to 9 bits
    /// together, at least one of each.
    pub fn unless(inputs: u32, exceptions: u32) -> Arc<Self> {
        let all = inputs + exceptions;
        Self::cached((2, inputs, exceptions), || Self::new(all, &[vec![(1 << inputs) - 1, (1 << all) - 1]]))
    }

    /// Combines `blocks` digits of a comparison, most significant last: given per digit whether it
    /// is less (`l_i`) and whether it is equal (`e_i`), the first output is
    /// `XOR_j l_j e_(j+1) ... e_top` without the term `l_top`, and the second, if `equality`, is
    /// the product of all `e_i`. Inputs in order: `e_1..e_top` (`e_0..` with equality), then
    /// `l_0..l_(top-1)`.
    pub fn chain(blocks: u32, equality: bool) -> Arc<Self> {
        Self::cached((1, blocks, u32::from(equality)), || {
            let first = u32::from(!equality);
            let equals = blocks - first;
            let less = |block: u32| 1u32 << (equals + block);
            let equal = |block: u32| 1u32 << (block - first);
            let above = |block: u32| (block + 1..blocks).fold(0, |set, i| set | equal(i));
            let mut outputs = vec![(0..blocks - 1).map(|block| less(block) | above(block)).collect()];
            if equality {
                outputs.push(vec![(1 << blocks) - 1]);
            }
            Self::new(equals + blocks - 1, &outputs)
        })
    }

    fn cached(key: (u8, u32, u32), make: impl FnOnce() -> Self) -> Arc<Self> {
        static MADE: Mutex<BTreeMap<(u8, u32, u32), Arc<ProductSet>>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(key).or_insert_with(|| Arc::new(make())).clone()
    }

    fn new(inputs: u32, products: &[Vec<u32>]) -> Self {
        let mut monomials: Vec<u32> =
            products.iter().flatten().flat_map(|set| subsets(*set)).filter(|s| s.count_ones() >= 2).collect();
        monomials.sort_unstable();
        monomials.dedup();
        let mut publics: Vec<u32> = products.iter().flatten().flat_map(|set| subsets(*set)).collect();
        publics.sort_unstable_by_key(|set| (set.count_ones(), *set));
        publics.dedup();
        let place: BTreeMap<u32, usize> = publics.iter().enumerate().map(|(at, set)| (*set, at)).collect();
        let term = |product: u32, subset: u32| Term {
            public: place[&(product ^ subset)],
            shared: match subset.count_ones() {
                0 => Shared::One,
                1 => Shared::Mask(subset.trailing_zeros()),
                _ => Shared::Monomial(monomials.partition_point(|monomial| *monomial < subset)),
            },
        };
        let outputs = products
            .iter()
            .map(|sum| sum.iter().flat_map(|set| subsets(*set).map(|subset| term(*set, subset))).collect())
            .collect();
        let publics = publics
            .iter()
            .map(|set| match set.count_ones() {
                0 => (usize::MAX, 0),
                _ => (place[&(set & (set - 1))], set.trailing_zeros()),
            })
            .collect();
        Self { inputs, monomials, publics, outputs }
    }

    /// Bits that are opened per position.
    pub fn inputs(&self) -> usize {
        self.inputs as usize
    }

    /// Sets of inputs whose masks are multiplied beforehand.
    pub fn monomials(&self) -> &[u32] {
        &self.monomials
    }

    /// This party's XOR share of each output, one row of words per output.
    pub fn evaluate(&self, tables: Tables<'_>) -> Vec<Vec<u64>> {
        let words = tables.opened.first().map_or(0, Vec::len);
        let mut publics: Vec<Vec<u64>> = Vec::with_capacity(self.publics.len());
        for (rest, input) in &self.publics {
            let row = match publics.get(*rest) {
                None => vec![u64::MAX; words],
                Some(rest) => and(rest, &tables.opened[*input as usize]),
            };
            publics.push(row);
        }
        let sum = |terms: &Vec<Term>| {
            let mut row = vec![0; words];
            for term in terms {
                let public = &publics[term.public];
                match term.shared {
                    Shared::One if tables.constants => xor_into(&mut row, public),
                    Shared::One => {}
                    Shared::Mask(input) => xor_and(&mut row, public, &tables.masks[input as usize]),
                    Shared::Monomial(at) => xor_and(&mut row, public, &tables.monomials[at]),
                }
            }
            row
        };
        self.outputs.iter().map(sum).collect()
    }
}

fn subsets(set: u32) -> impl Iterator<Item = u32> {
    let mut next = Some(set);
    std::iter::from_fn(move || {
        let subset = next?;
        next = if subset == 0 { None } else { Some((subset - 1) & set) };
        Some(subset)
    })
}

fn and(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(a, b)| a & b).collect()
}

fn xor_into(row: &mut [u64], other: &[u64]) {
    for (word, other) in row.iter_mut().zip(other) {
        *word ^= other;
    }
}

fn xor_and(row: &mut [u64], left: &[u64], right: &[u64]) {
    for ((word, a), b) in row.iter_mut().zip(left).zip(right) {
        *word ^= a & b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &ProductSet, expected: impl Fn(&[bool]) -> Vec<bool>) {
        let inputs = set.inputs();
        for value in 0u64..1 << inputs {
            for mask in [0x5a5a_3c3cu64, 0x1234_5678, 0xffff_ffff, 0] {
                let bit = |word: u64, i: usize| word >> i & 1 == 1;
                let full = |b: bool| vec![if b { u64::MAX } else { 0 }];
                let opened: Vec<_> = (0..inputs).map(|i| full(bit(value ^ mask, i))).collect();
                let masks: Vec<_> = (0..inputs).map(|i| full(bit(mask, i))).collect();
                let monomials: Vec<_> =
                    set.monomials().iter().map(|s| full(mask & u64::from(*s) == u64::from(*s))).collect();
                let tables =
                    Tables { opened: &opened, masks: &masks, monomials: &monomials, constants: true };
                let bits: Vec<bool> = (0..inputs).map(|i| bit(value, i)).collect();
                let found: Vec<bool> = set.evaluate(tables).iter().map(|row| row[0] == u64::MAX).collect();
                assert_eq!(found, expected(&bits), "value {value:b} mask {mask:b}");
            }
        }
    }

    #[test]
    fn conjunction_is_and() {
        for inputs in 2..=9 {
            check(&ProductSet::conjunction(inputs), |bits| vec![bits.iter().all(|bit| *bit)]);
        }
    }

    #[test]
    fn exceptions_count_only_together() {
        for inputs in 1..=4usize {
            for exceptions in 1..=5usize {
                check(&ProductSet::unless(inputs as u32, exceptions as u32), |bits| {
                    let (own, others) = bits.split_at(inputs);
                    vec![own.iter().all(|bit| *bit) && !others.iter().all(|bit| *bit)]
                });
            }
        }
    }

    #[test]
    fn chain_combines_digits() {
        for blocks in 2..=5usize {
            check(&ProductSet::chain(blocks as u32, false), |bits| {
                let (equal, less) = bits.split_at(blocks - 1);
                vec![(0..blocks - 1).fold(false, |sum, j| sum ^ (less[j] && equal[j..].iter().all(|e| *e)))]
            });
            check(&ProductSet::chain(blocks as u32, true), |bits| {
                let (equal, less) = bits.split_at(blocks);
                let sum = (0..blocks - 1)
                    .fold(false, |sum, j| sum ^ (less[j] && equal[j + 1..].iter().all(|e| *e)));
                vec![sum, equal.iter().all(|e| *e)]
            });
        }
    }
}
