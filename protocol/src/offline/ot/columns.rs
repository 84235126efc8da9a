//! Correlated transfers by columns: cheap to compute, eight bytes each.
//!
//! - Computes: in each direction rows `q` at the sender and `t = q ^ b * delta` at the receiver, with the
//!   sender's fixed `delta` and fresh random bits `b`. Bit 0 of `delta` is 1, of `q` 0, of `t` `b`.
//! - Learns: the sender nothing about the bits, the receiver nothing about `delta`.
//! - Consumes: the next words of the streams that [`Columns::setup`] made, once.
//! - Costs: set-up 3 exchanges, 6,176 bytes each way; then 1 exchange for up to 131,072 rows, 8 bytes a
//!   row each way.
//! - Source: Roy, CRYPTO 2022 (SoftSpokenOT, semi-honest, repetition code, `k = 2`); with `k = 1` it is
//!   Ishai, Kilian, Nissim, Petrank, CRYPTO 2003.

use super::base::{BaseTransfers, TRANSFERS, base_transfers};
use super::rows::Rows;
use super::transpose::{WIDTH, stride, transpose};
use crate::algebra::prg::{Prg, Seed};
use crate::context::{Dialogue, DialogueError, Link};
use zeroize::{Zeroize, Zeroizing};

/// Columns that share one correction: `k`. Each costs `2^k` streams, and a row costs `16 / k` bytes.
const SHARED: usize = 2;
const GROUPS: usize = WIDTH / SHARED;
const LEAVES: usize = 1 << SHARED;
/// Words of one exchange, so that the corrections fill one frame.
pub(super) const WORDS_MAX: usize = 1 << 11;
const STEP_LEVEL: u32 = 0x6f74_0010;
const STEP_COLUMNS: u32 = 0x6f74_0011;

/// One party's streams for both directions.
pub(super) struct Columns {
    delta: u128,
    /// As receiver: all streams of each group.
    kept: Vec<[Prg; LEAVES]>,
    /// As sender: all but one stream of each group; entry `y - 1` is leaf `y ^ hole`.
    punctured: Vec<[Prg; LEAVES - 1]>,
    choices: Prg,
    scratch: Scratch,
}

/// Buffers that are kept between calls.
#[derive(Zeroize)]
#[zeroize(drop)]
struct Scratch {
    received: Vec<u64>,
    sent: Vec<u64>,
    choices: Vec<u64>,
    stream: Vec<u64>,
    sum: Vec<u64>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        self.delta.zeroize();
    }
}

impl Columns {
    /// Base transfers and the streams. Returns also what names this session to both parties.
    pub(super) async fn setup<L: Link>(
        dialogue: &mut Dialogue<L>,
        random: &mut Prg,
    ) -> Result<(Self, [u8; 32]), DialogueError> {
        let delta = Zeroizing::new(u128::from(random.word()) << 64 | u128::from(random.word()) | 1);
        // Transfer `j` gives what lies beside the path to the hole, so its choice is the opposite bit.
        let base = base_transfers(dialogue, !*delta, random).await?;
        let session = base.session;
        let (kept, message) = grow(&base);
        let reply = dialogue.swap(STEP_LEVEL, &message, message.len()).await?;
        let punctured = grow_punctured(&base, *delta, &reply);
        let choices = Prg::new(&random.seed());
        let empty = Vec::new;
        let scratch =
            Scratch { received: empty(), sent: empty(), choices: empty(), stream: empty(), sum: empty() };
        Ok((Self { delta: *delta, kept, punctured, choices, scratch }, session))
    }

    /// This party's offset as sender.
    pub(super) fn delta(&self) -> u128 {
        self.delta
    }

    /// Fills `rows` with the next `64 * words` rows, at most [`WORDS_MAX`] words.
    pub(super) async fn fill<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        words: usize,
        rows: &mut Rows,
    ) -> Result<(), DialogueError> {
        rows.resize(words);
        let message = self.receive(words);
        let reply = dialogue.swap(STEP_COLUMNS, &message, message.len()).await?;
        self.send(words, &reply);
        transpose(&self.scratch.received, words, &mut rows.received);
        transpose(&self.scratch.sent, words, &mut rows.sent);
        Ok(())
    }

    /// The receiver's columns, and the corrections that carry its bits.
    fn receive(&mut self, words: usize) -> Vec<u8> {
        let Scratch { received, choices, stream, sum, .. } = &mut self.scratch;
        received.clear();
        received.resize(WIDTH * stride(words), 0);
        stream.resize(words, 0);
        choices.resize(words, 0);
        self.choices.fill_words(choices);
        let mut message = Vec::with_capacity(GROUPS * words * 8);
        for (group, leaves) in self.kept.iter_mut().enumerate() {
            sum.clone_from(choices);
            for (leaf, prg) in leaves.iter_mut().enumerate() {
                prg.fill_words(stream);
                add(sum, stream);
                for level in (0..SHARED).filter(|level| bit(leaf, *level)) {
                    add(&mut received[(group * SHARED + level) * stride(words)..][..words], stream);
                }
            }
            message.extend(sum.iter().flat_map(|word| word.to_le_bytes()));
        }
        // Bit 0 of each row is the choice itself.
        received[..words].copy_from_slice(choices);
        message
    }

    /// The sender's columns, after the receiver's corrections.
    fn send(&mut self, words: usize, corrections: &[u8]) {
        let Scratch { sent, stream, sum, .. } = &mut self.scratch;
        sent.clear();
        sent.resize(WIDTH * stride(words), 0);
        stream.resize(words, 0);
        for ((group, leaves), corrections) in
            self.punctured.iter_mut().enumerate().zip(corrections.chunks_exact(words * 8))
        {
            sum.clear();
            sum.extend(corrections.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            for level in 0..SHARED {
                let column = group * SHARED + level;
                let mask = ((self.delta >> column) as u64 & 1).wrapping_neg();
                let column = &mut sent[column * stride(words)..][..words];
                column.iter_mut().zip(&*sum).for_each(|(word, correction)| *word = mask & correction);
            }
            for (at, prg) in leaves.iter_mut().enumerate() {
                prg.fill_words(stream);
                for level in (0..SHARED).filter(|level| bit(at + 1, *level)) {
                    add(&mut sent[(group * SHARED + level) * stride(words)..][..words], stream);
                }
            }
        }
        sent[..words].fill(0);
    }
}

/// The branch that the path to a leaf takes at a level, the root's first.
fn bit(leaf: usize, level: usize) -> bool {
    leaf >> (SHARED - 1 - level) & 1 == 1
}

fn add(sum: &mut [u64], summand: &[u64]) {
    sum.iter_mut().zip(summand).for_each(|(sum, word)| *sum ^= word);
}

fn number(seed: &Seed) -> u128 {
    u128::from_le_bytes(*seed.as_bytes())
}

fn children(parent: u128) -> [u128; 2] {
    let parent = Seed::from_bytes(parent.to_le_bytes());
    [0, 1].map(|side| number(&parent.derive("consilium transfer tree", side)))
}

fn stream_of(leaf: u128) -> Prg {
    Prg::new(&Seed::from_bytes(leaf.to_le_bytes()))
}

/// All leaves of each group's tree, and per level below the first the sums of its left and of its right
/// nodes, each under the key of its side.
fn grow(base: &BaseTransfers) -> (Vec<[Prg; LEAVES]>, Vec<u8>) {
    let mut message = Vec::new();
    let groups = base.offered.chunks_exact(SHARED).map(|keys| {
        let mut nodes = Zeroizing::new([0; LEAVES]);
        [nodes[0], nodes[1]] = [number(&keys[0][0]), number(&keys[0][1])];
        for (level, keys) in keys.iter().enumerate().skip(1) {
            let mut sums = [number(&keys[0]), number(&keys[1])];
            for parent in (0..1 << level).rev() {
                let [left, right] = children(nodes[parent]);
                [nodes[2 * parent], nodes[2 * parent + 1]] = [left, right];
                sums = [sums[0] ^ left, sums[1] ^ right];
            }
            message.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        }
        std::array::from_fn(|leaf| stream_of(nodes[leaf]))
    });
    (groups.collect(), message)
}

/// All leaves but one of each group's tree: the hole's path is the bits of `delta`.
fn grow_punctured(base: &BaseTransfers, delta: u128, sums: &[u8]) -> Vec<[Prg; LEAVES - 1]> {
    let mut sums = sums.as_chunks::<16>().0.iter().map(|bytes| u128::from_le_bytes(*bytes));
    let groups = (0..TRANSFERS).step_by(SHARED).map(|first| {
        // Node `y` lies at `y ^ (path to the hole)`; node 0 is the hole's and stays unknown.
        let mut nodes = Zeroizing::new([0; LEAVES]);
        nodes[1] = number(&base.chosen[first]);
        for level in 1..SHARED {
            let mask = (delta >> (first + level) & 1).wrapping_neg();
            let [left, right] = [sums.next().unwrap_or(0), sums.next().unwrap_or(0)];
            // The sum of the side that the path avoids.
            let mut beside = number(&base.chosen[first + level]) ^ right ^ (mask & (left ^ right));
            for parent in (1..1 << level).rev() {
                let [left, right] = children(nodes[parent]);
                let swap = mask & (left ^ right);
                [nodes[2 * parent], nodes[2 * parent + 1]] = [left ^ swap, right ^ swap];
                beside ^= right ^ swap;
            }
            nodes[1] = beside;
        }
        std::array::from_fn(|at| stream_of(nodes[at + 1]))
    });
    groups.collect()
}
