//! Products of random bits, 64 in a word.
//!
//! - Computes: XOR shares with `(a0 ^ a1) & (b0 ^ b1) = c0 ^ c1`.
//! - Learns: each party its own shares.
//! - Consumes: one row in each direction per bit.
//! - Costs: what the rows cost; no message beside.
//! - Source: Asharov, Lindell, Schneider, Zohner, CCS 2013, section 5.1.

use super::Correlator;
use super::hash::{BATCH, low_bits};
use crate::context::{Dialogue, DialogueError, Link};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// One party's XOR shares of random bits `a`, `b` and of `c = a & b`, packed.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct BitTriples {
    /// Shares of the left factors.
    pub a: Vec<u64>,
    /// Shares of the right factors.
    pub b: Vec<u64>,
    /// Shares of the products.
    pub c: Vec<u64>,
}

impl std::fmt::Debug for BitTriples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BitTriples({} words)", self.a.len())
    }
}

impl Correlator {
    /// Shares of `64 * words` products of random bits. Both parties name the same `words`.
    ///
    /// # Errors
    /// The link failed or the peer broke the protocol.
    pub async fn bit_triples<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        words: usize,
    ) -> Result<BitTriples, DialogueError> {
        let room = || Vec::with_capacity(words);
        let mut triples = BitTriples { a: room(), b: room(), c: room() };
        while triples.a.len() < words {
            let chunk = (words - triples.a.len()).min(Self::WORDS_MAX);
            let tweaks = self.take(dialogue, chunk).await?;
            self.multiply_bits(tweaks, &mut triples);
        }
        Ok(triples)
    }

    /// What a party is offered and chooses are its factors: the sender's two bits differ by `a`, the
    /// receiver's choice is `b`, and what they hold afterwards are shares of `a & b`.
    fn multiply_bits(&self, tweaks: [u128; 2], triples: &mut BitTriples) {
        let mut batch = Zeroizing::new([0; BATCH]);
        let rows =
            self.rows.sent.as_chunks::<BATCH>().0.iter().zip(self.rows.received.as_chunks::<BATCH>().0);
        for (at, (sent, received)) in rows.enumerate() {
            let offset = (at * BATCH) as u128;
            *batch = *sent;
            self.hash.apply(&mut batch, tweaks[0].wrapping_add(offset));
            let zero = low_bits(&batch);
            batch.iter_mut().zip(sent).for_each(|(row, sent)| *row = sent ^ *self.delta);
            self.hash.apply(&mut batch, tweaks[0].wrapping_add(offset));
            let a = zero ^ low_bits(&batch);
            let b = low_bits(received);
            *batch = *received;
            self.hash.apply(&mut batch, tweaks[1].wrapping_add(offset));
            triples.a.push(a);
            triples.b.push(b);
            triples.c.push((a & b) ^ zero ^ low_bits(&batch));
        }
    }
}
