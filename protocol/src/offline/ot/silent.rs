//! Correlated transfers from short messages: a tenth of a byte each.
//!
//! - Computes: what [`super::columns`] computes.
//! - Learns: the same, if learning parity with regular noise is hard.
//! - Consumes: 143,942 rows of the batch before, the first time of columns.
//! - Costs: 1 exchange and 205,920 bytes each way per 2,250,752 rows; at set-up 143,942 rows by columns
//!   (2 exchanges, 1,152,000 bytes each way).
//! - Source: Yang, Weng, Lan, Zhang, Wang, CCS 2020 (Ferret, semi-honest), with the trees of Guo et al.,
//!   EUROCRYPT 2023; parameters of emp-ot (`ferret_b11`): n = 2,396,160, k = 131,072, t = 1,170.

use super::code::{Code, PLACES, Pair};
use super::columns::{Columns, WORDS_MAX};
use super::rows::Rows;
use super::tree::{DEPTH, Grower, LEAVES};
use crate::algebra::prg::{Prg, Seed};
use crate::context::{Dialogue, DialogueError, Link};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Trees of a batch, each with one noisy leaf: `t`.
const TREES: usize = 1170;
/// Rows that a batch needs from the one before: the secret, and one for each level of each tree.
const RESERVE: usize = PLACES + TREES * DEPTH;
/// Trees whose rows are kept for the next batch.
const RESERVE_TREES: usize = RESERVE.div_ceil(LEAVES);
const STEP_TREES: u32 = 0x6f74_0030;

/// One party's side of both directions.
pub(super) struct Silent {
    delta: u128,
    grower: Grower,
    code: Code,
    random: Prg,
    batch: Batch,
    /// The tree whose rows are handed out.
    tree: usize,
    /// The first of its rows that is not used.
    fresh: usize,
}

/// What stands for the rows of a batch until they are needed, a tree at a time.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Batch {
    /// As sender: the root of each tree.
    roots: Vec<u128>,
    /// As receiver: which side the path avoids at each level of each tree.
    beside: Vec<u32>,
    /// As receiver: the sums of those sides.
    sums: Vec<[u128; DEPTH]>,
    /// The rows of one tree.
    rows: Vec<Pair>,
    /// For the next batch.
    reserve: Vec<Pair>,
    nodes: Vec<[u128; LEAVES]>,
}

impl Silent {
    /// Grows out of `columns`; `session` is the same at both parties.
    pub(super) async fn setup<L: Link>(
        dialogue: &mut Dialogue<L>,
        mut columns: Columns,
        session: &[u8; 32],
        random: &mut Prg,
    ) -> Result<Self, DialogueError> {
        let mut reserve = Vec::with_capacity(RESERVE_TREES * LEAVES);
        let mut rows = Rows::default();
        while reserve.len() < RESERVE {
            let words = (RESERVE - reserve.len()).div_ceil(64).min(WORDS_MAX);
            columns.fill(dialogue, words, &mut rows).await?;
            let pairs = rows.sent.iter().zip(&rows.received);
            reserve.extend(pairs.map(|(sent, received)| Pair { sent: *sent, received: *received }));
        }
        let [mut public, mut key] = [[0; 16]; 2];
        public.copy_from_slice(&session[..16]);
        key.copy_from_slice(&session[16..]);
        Ok(Self {
            delta: columns.delta(),
            grower: Grower::new(key),
            code: Code::new(Seed::from_bytes(public).derive("consilium transfer code", 0)),
            random: Prg::new(&random.seed()),
            batch: Batch {
                roots: vec![0; TREES],
                beside: vec![0; TREES],
                sums: vec![[0; DEPTH]; TREES],
                rows: vec![Pair::default(); LEAVES],
                reserve,
                nodes: vec![[0; LEAVES]; 2],
            },
            tree: TREES,
            fresh: LEAVES,
        })
    }

    /// Fills `rows` with the next `64 * words` rows. What is left of a tree or a batch serves the next call.
    pub(super) async fn fill<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        words: usize,
        rows: &mut Rows,
    ) -> Result<(), DialogueError> {
        rows.resize(words);
        let mut done = 0;
        while done < 64 * words {
            if self.fresh == LEAVES {
                if self.tree == TREES {
                    self.renew(dialogue).await?;
                }
                self.expand();
            }
            let count = (64 * words - done).min(LEAVES - self.fresh);
            let from = &self.batch.rows[self.fresh..self.fresh + count];
            let to = rows.sent[done..].iter_mut().zip(&mut rows.received[done..]);
            for ((sent, received), pair) in to.zip(from) {
                (*sent, *received) = (pair.sent, pair.received);
            }
            self.fresh += count;
            done += count;
        }
        Ok(())
    }

    /// Spends the reserve on a new batch, and its first trees on the reserve of the next one.
    async fn renew<L: Link>(&mut self, dialogue: &mut Dialogue<L>) -> Result<(), DialogueError> {
        let message = self.offer();
        let reply = dialogue.swap(STEP_TREES, &message, message.len()).await?;
        self.accept(&reply);
        let mut reserve = std::mem::take(&mut self.batch.reserve);
        self.code.restart(&reserve[..PLACES]);
        reserve.clear();
        self.tree = 0;
        for _ in 0..RESERVE_TREES {
            self.expand();
            reserve.extend_from_slice(&self.batch.rows);
        }
        self.batch.reserve = reserve;
        Ok(())
    }

    /// As sender: fresh trees, and the sums of their left nodes under a row each.
    fn offer(&mut self) -> Vec<u8> {
        let mut message = Vec::with_capacity(TREES * DEPTH * 16);
        let rows = self.batch.reserve[PLACES..].as_chunks::<DEPTH>().0;
        for (root, rows) in self.batch.roots.iter_mut().zip(rows) {
            let mut seed = Zeroizing::new([0; 16]);
            self.random.fill_bytes(&mut *seed);
            *root = u128::from_le_bytes(*seed);
            let sums = Zeroizing::new(self.grower.full(*root, self.delta, &mut self.batch.nodes[0]));
            for (row, sum) in rows.iter().zip(sums.iter()) {
                message.extend((row.sent ^ sum).to_le_bytes());
            }
        }
        message
    }

    /// As receiver: the choice of each row is the side that the path avoids, and the row uncovers the sum
    /// of that side, since both sides' sums differ by the offset just as the row's two values do.
    fn accept(&mut self, reply: &[u8]) {
        let rows = self.batch.reserve[PLACES..].as_chunks::<DEPTH>().0;
        let replies = reply.as_chunks::<16>().0.as_chunks::<DEPTH>().0;
        let trees = self.batch.beside.iter_mut().zip(&mut self.batch.sums);
        for ((beside, sums), (rows, covered)) in trees.zip(rows.iter().zip(replies)) {
            *beside = rows.iter().fold(0, |path, row| path << 1 | (row.received & 1) as u32);
            for ((sum, row), covered) in sums.iter_mut().zip(rows).zip(covered) {
                *sum = row.received ^ u128::from_le_bytes(*covered);
            }
        }
    }

    /// Turns the next tree into rows: noise at one place, then the code.
    fn expand(&mut self) {
        let Batch { roots, beside, sums, rows, nodes, .. } = &mut self.batch;
        if let [sent, received] = nodes.as_mut_slice() {
            self.grower.full(roots[self.tree], self.delta, sent);
            self.grower.punctured(beside[self.tree], &sums[self.tree], received);
            for (row, (sent, received)) in rows.iter_mut().zip(sent.iter().zip(received.iter())) {
                *row = Pair { sent: *sent, received: *received };
            }
        }
        self.code.add(rows);
        self.tree += 1;
        self.fresh = 0;
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.delta.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::Party;
    use crate::testing::{MemoryLink, run_now};
    use crate::wire::HEADER_BYTES;

    const BATCH_ROWS: usize = (TREES - RESERVE_TREES) * LEAVES;

    /// Offset and rows of a party after `words`, and exchanges and bytes of set-up and of the rest.
    type Side = (u128, Vec<u128>, Vec<u128>, [(u32, u64); 2]);

    fn side(party: Party, link: MemoryLink, words: usize) -> Side {
        let mut dialogue = Dialogue::new(link, party, 1);
        let mut random = Prg::new(&Seed::random().unwrap());
        run_now(async {
            let (columns, session) = Columns::setup(&mut dialogue, &mut random).await.unwrap();
            let before = dialogue.traffic();
            let mut silent = Silent::setup(&mut dialogue, columns, &session, &mut random).await.unwrap();
            let after = dialogue.traffic();
            let mut rows = Rows::default();
            let [mut sent, mut received] = [Vec::new(), Vec::new()];
            let mut left = words;
            while left > 0 {
                let words = left.min(WORDS_MAX - 29);
                silent.fill(&mut dialogue, words, &mut rows).await.unwrap();
                sent.extend_from_slice(&rows.sent);
                received.extend_from_slice(&rows.received);
                left -= words;
            }
            let end = dialogue.traffic();
            let spent = [
                (after.rounds - before.rounds, after.sent - before.sent),
                (end.rounds - after.rounds, end.sent - after.sent),
            ];
            (silent.delta, sent, received, spent)
        })
    }

    #[test]
    fn rows_of_several_batches_are_correlated_and_all_differ() {
        assert_eq!((RESERVE, RESERVE_TREES, BATCH_ROWS), (143_942, 71, 2_250_752));
        let words = 2 * BATCH_ROWS / 64 + 40;
        let [left, right] = MemoryLink::pair();
        let [zero, one] = std::thread::scope(|scope| {
            let other = scope.spawn(move || side(Party::One, right, words));
            [side(Party::Zero, left, words), other.join().unwrap()]
        });
        for (sender, receiver) in [(&zero, &one), (&one, &zero)] {
            let (delta, sent, received) = (sender.0, &sender.1, &receiver.2);
            assert!(sent.iter().zip(received).all(|(q, t)| q & 1 == 0 && q ^ t == (t & 1) * delta));
            let ones = received.iter().filter(|row| *row & 1 == 1).count() as f64;
            let count = received.len() as f64;
            assert!((ones - count / 2.0).abs() < 3.0 * count.sqrt());
            let mut sorted = sent.clone();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a row came twice");
            let [setup, batches] = sender.3;
            assert_eq!(setup, (2, 1_152_000 + 2 * HEADER_BYTES as u64));
            assert_eq!(batches, (3, 3 * (205_920 + HEADER_BYTES as u64)));
        }
    }
}
