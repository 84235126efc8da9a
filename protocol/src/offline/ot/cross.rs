//! Products of one party's bits by the other party's words.
//!
//! - Computes: additive shares of `b0 * v1 + b1 * v0` for bits `b` and words `v` of each party.
//! - Learns: each party its own shares.
//! - Consumes: one row in each direction per product, a multiple of 64 rows per call and chunk.
//! - Costs: 2 exchanges per chunk of up to 131,072 products beside the rows; 8 bytes and one bit each way
//!   per product.
//! - Source: Beaver, CRYPTO 1995 (random choices, corrected by one bit); Gilboa, CRYPTO 1999; correlated
//!   transfers as in Asharov et al., CCS 2013.

use super::Correlator;
use super::hash::{BATCH, low_bits};
use crate::context::{Dialogue, DialogueError, Link};
use zeroize::Zeroizing;

const STEP_CHOICES: u32 = 0x6f74_0020;
const STEP_VALUES: u32 = 0x6f74_0021;

impl Correlator {
    /// This party's additive shares over Z_2^64 of `bits[i] * other's values[i] + other's bits[i] *
    /// values[i]`, one for each of `values`. `bits` are packed, the first at bit 0; missing words count as
    /// zero and surplus bits are ignored. Both parties bring equally many values.
    ///
    /// # Errors
    /// The link failed or the peer broke the protocol.
    pub async fn cross<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        bits: &[u64],
        values: &[u64],
    ) -> Result<Vec<u64>, DialogueError> {
        let mut shares = Vec::with_capacity(values.len());
        for (chunk, values) in values.chunks(64 * Self::WORDS_MAX).enumerate() {
            let words = values.len().div_ceil(64);
            let tweaks = self.take(dialogue, words).await?;
            let from = (chunk * Self::WORDS_MAX).min(bits.len());
            let bits = &bits[from..(from + words).min(bits.len())];
            let asked = self.ask(bits, words);
            let answer = dialogue.swap(STEP_CHOICES, &asked, words * 8).await?;
            let from = shares.len();
            let offered = self.offer(tweaks[0], &answer, values, &mut shares);
            let answer = dialogue.swap(STEP_VALUES, &offered, values.len() * 8).await?;
            self.accept(tweaks[1], bits, &answer, &mut shares[from..]);
        }
        Ok(shares)
    }

    /// By what the random choices of the rows received differ from `bits`.
    fn ask(&self, bits: &[u64], words: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(words * 8);
        for (at, rows) in self.rows.received.as_chunks::<BATCH>().0.iter().enumerate() {
            let wanted = bits.get(at).copied().unwrap_or(0);
            message.extend((wanted ^ low_bits(rows)).to_le_bytes());
        }
        message
    }

    /// As sender: pads `p0`, `p1`; the message is `p0 + v - p1` and the own share `-p0`.
    fn offer(&self, tweak: u128, asked: &[u8], values: &[u64], shares: &mut Vec<u64>) -> Vec<u8> {
        let mut message = Vec::with_capacity(values.len() * 8);
        let [mut plain, mut shifted] = [Zeroizing::new([0; BATCH]), Zeroizing::new([0; BATCH])];
        let words = self.rows.sent.as_chunks::<BATCH>().0.iter().zip(asked.as_chunks().0);
        for (at, ((rows, asked), values)) in words.zip(values.chunks(BATCH)).enumerate() {
            let asked = u64::from_le_bytes(*asked);
            let tweak = tweak.wrapping_add((at * BATCH) as u128);
            for (bit, row) in rows.iter().enumerate() {
                plain[bit] = row ^ (u128::from(asked >> bit & 1).wrapping_neg() & *self.delta);
                shifted[bit] = plain[bit] ^ *self.delta;
            }
            self.hash.apply(&mut plain, tweak);
            self.hash.apply(&mut shifted, tweak);
            for ((value, zero), one) in values.iter().zip(plain.iter()).zip(shifted.iter()) {
                let zero = (zero >> 64) as u64;
                let word = zero.wrapping_add(*value).wrapping_sub((one >> 64) as u64);
                message.extend(word.to_le_bytes());
                shares.push(zero.wrapping_neg());
            }
        }
        message
    }

    /// As receiver: the share is the pad of the own bit, and the peer's message where the bit is 1.
    fn accept(&self, tweak: u128, bits: &[u64], answer: &[u8], shares: &mut [u64]) {
        let mut batch = Zeroizing::new([0; BATCH]);
        let words = self.rows.received.as_chunks::<BATCH>().0.iter();
        let messages = answer.as_chunks::<8>().0.chunks(BATCH);
        for (at, ((rows, messages), shares)) in words.zip(messages).zip(shares.chunks_mut(BATCH)).enumerate()
        {
            *batch = *rows;
            self.hash.apply(&mut batch, tweak.wrapping_add((at * BATCH) as u128));
            let bits = bits.get(at).copied().unwrap_or(0);
            for (bit, ((share, pad), message)) in
                shares.iter_mut().zip(batch.iter()).zip(messages).enumerate()
            {
                let mask = (bits >> bit & 1).wrapping_neg();
                let chosen = ((pad >> 64) as u64).wrapping_add(mask & u64::from_le_bytes(*message));
                *share = share.wrapping_add(chosen);
            }
        }
    }
}
