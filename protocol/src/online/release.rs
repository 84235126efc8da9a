//! The answer to a query, from the votes that were counted and the noise that hides them.
//!
//! - Computes: `argmax_c (n_c + e_c)` for shared counts `n` and both parties' noise `e`, equal values counting
//!   for the lowest index. With a threshold `T` only if `max_c n_c + e >= T` for noise `e` of its own, else no
//!   label. XOR shares: with no threshold the one-hot winner without its last entry, with one the same or zeros
//!   and then the bit that says which.
//! - Learns: nothing, whether there is a label included; the client learns the answer from both shares.
//! - Consumes: as [`super::vote::winner`], or as [`super::consensus`].
//! - Costs: as these; noise is added without a message.
//! - Source: PRICURE (Jarin and Eshete, IWSPA 2021) with noise under sharing; Confident-GNMax (Papernot et al.,
//!   ICLR 2018). The same noise on all margins is what the mechanism asks for: one noisy maximum.

use super::consensus;
use super::vote::{VoteShape, winner};
use crate::context::Context;
use crate::share::Additive;
use crate::stock::{Demand, StockError};
use crate::wire::Opening;

/// How the counts of a query become its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseGate {
    /// The comparison of the noisy counts.
    pub vote: VoteShape,
    /// Votes that the noisy top count needs for a label, if any.
    pub threshold: Option<u64>,
}

impl ReleaseGate {
    /// Words of one party's noise: one per class and query, and with a threshold one more per query, last.
    pub fn noise_words(&self) -> usize {
        (self.vote.classes + usize::from(self.threshold.is_some())) * self.vote.batch
    }

    /// Bits of the result per query.
    pub fn bits_per_query(&self) -> usize {
        self.vote.classes - usize::from(self.threshold.is_none())
    }

    /// Correlations of [`release`], in order.
    pub fn demands(&self) -> Vec<Demand> {
        match self.threshold {
            None => self.vote.winner_demands(),
            Some(_) => consensus::demands(&self.vote),
        }
    }

    /// What [`release`] opens, round by round.
    pub fn openings(&self) -> Vec<Opening> {
        match self.threshold {
            None => self.vote.winner_openings(),
            Some(_) => consensus::openings(&self.vote),
        }
    }
}

/// XOR shares of the answer, `[bit][query]`, packed. `counts` are this party's shares of the votes of each
/// class, `[class][query]`, and `noise` is its own, [`ReleaseGate::noise_words`] or none for an exact release.
///
/// # Errors
/// The stock holds something else.
pub async fn release(
    context: &mut Context,
    counts: &[u64],
    noise: &[u64],
    gate: ReleaseGate,
) -> Result<Vec<u64>, StockError> {
    let (on_counts, on_top) = noise.split_at(noise.len().min(counts.len()));
    let mut noisy = Additive::from(counts.to_vec());
    for (count, noise) in noisy.iter_mut().zip(on_counts) {
        *count = count.wrapping_add(*noise);
    }
    let Some(threshold) = gate.threshold else { return winner(context, &noisy, gate.vote).await };
    let offset = threshold.wrapping_mul(context.unit());
    let mut margins = Additive::from(counts.to_vec());
    for (at, margin) in margins.iter_mut().enumerate() {
        let noise = on_top.get(at % gate.vote.batch).copied().unwrap_or(0);
        *margin = margin.wrapping_add(noise).wrapping_sub(offset);
    }
    consensus::consensus(context, &noisy, &margins, gate.vote).await
}

/// The labels of all queries from both parties' shares; none where there was no consensus, for which the shares
/// have a bit if `consensus` says so.
pub fn answers(
    [zero, one]: [&[u64]; 2],
    classes: usize,
    batch: usize,
    consensus: bool,
) -> Vec<Option<usize>> {
    let bit = |class: usize, query: usize| {
        let at = class * batch + query;
        (zero[at / 64] ^ one[at / 64]) >> (at % 64) & 1 == 1
    };
    let label = |query: usize| {
        let told = !consensus || bit(classes - 1, query);
        let first = (0..classes - 1).find(|class| bit(*class, query)).unwrap_or(classes - 1);
        told.then_some(first)
    };
    (0..batch).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::Gadget;
    use crate::testing::Dealt;

    const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

    /// The answers to one query each, of counts with this noise of both parties together.
    fn decided(
        counts: &[[u64; 3]],
        noise: &[[i64; 4]],
        threshold: Option<u64>,
        gadget: Gadget,
    ) -> Vec<Option<usize>> {
        let batch = counts.len();
        let gate = ReleaseGate { vote: VoteShape { classes: 3, batch, value_bits: 6, gadget }, threshold };
        let row = |class: usize| counts.iter().map(move |counts| counts[class]);
        let counts: Vec<u64> = (0..3).flat_map(row).collect();
        let row = |class: usize| noise.iter().map(move |noise| noise[class] as u64);
        let noise: Vec<u64> = (0..gate.noise_words() / batch).flat_map(row).collect();
        let outcome = Dealt::new(&gate.demands(), &[], 1).unwrap().run(&counts, |mut context, counts| {
            // One of both adds all of the noise, the other none.
            let noise: Vec<u64> = noise.iter().map(|noise| noise * context.unit()).collect();
            Box::pin(async move { release(&mut context, &counts, &noise, gate).await })
        });
        let [zero, one] = outcome.results.map(|result| result.unwrap());
        assert_eq!(zero.len(), (gate.bits_per_query() * batch).div_ceil(64));
        answers([&zero, &one], 3, batch, threshold.is_some())
    }

    #[test]
    fn the_threshold_is_for_the_true_top_count_under_its_own_noise() {
        let counts = [[4, 2, 3], [4, 2, 3], [4, 2, 3], [3, 3, 3], [9, 0, 0], [0, 0, 9], [0, 9, 0]];
        let noise = [
            [0, 0, 0, 0],
            [0, 0, 0, -1],
            // Noise on the counts moves the label, not the consensus; either way.
            [-20, 0, 9, 0],
            [0, 1, 1, 1],
            [0, 0, 0, -6],
            [9, 0, 0, -5],
            [0, 20, 20, -30],
        ];
        let expected = [Some(0), None, Some(2), Some(1), None, Some(0), None];
        let plain = [Some(0), Some(0), Some(2), Some(1), Some(0), Some(0), Some(1)];
        for gadget in GADGETS {
            assert_eq!(decided(&counts, &noise, Some(4), gadget), expected, "{gadget:?}");
            assert_eq!(decided(&counts, &noise, None, gadget), plain, "{gadget:?}");
        }
    }
}
