//! Correlated oblivious transfers between the two compute parties, and what is made of them.
//!
//! - Computes: XOR shares of products of random bits; additive shares of products of own bits by the
//!   other party's words.
//! - Learns: nothing but the shares, if both parties keep to the protocol.
//! - Consumes: one row of correlated transfers in each direction per product, never used again.
//! - Costs: per row 8 bytes each way by columns, 0.1 silently; a cross term 8 bytes and one bit more.
//! - Source: Beaver, CRYPTO 1995 (random transfers, corrected); Asharov, Lindell, Schneider, Zohner, CCS
//!   2013 (bit triples from random transfers); Gilboa, CRYPTO 1999.

mod base;
mod code;
mod columns;
mod cross;
mod hash;
mod rows;
mod silent;
mod transpose;
mod tree;
mod triples;

pub use triples::BitTriples;

use crate::algebra::prg::{Prg, Seed};
use crate::context::{Dialogue, DialogueError, Link};
use crate::party::Party;
use columns::Columns;
use hash::RowHash;
use rows::Rows;
use silent::Silent;
use zeroize::Zeroizing;

/// How correlated transfers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// By columns: the fewest assumptions, 8 bytes each way per transfer. For links of a gigabit per
    /// second and more.
    Iknp,
    /// From short messages: 0.1 bytes each way per transfer, made in batches of two million, if learning
    /// parity with regular noise is hard.
    Silent,
}

enum Source {
    Columns(Box<Columns>),
    Silent(Box<Silent>),
}

/// Both parties' store of correlated transfers for one session. After an error it is worth nothing,
/// since the peer may be elsewhere: drop it and set up another.
pub struct Correlator {
    source: Source,
    hash: RowHash,
    party: Party,
    delta: Zeroizing<u128>,
    /// Rows used so far, in each direction: the next hash tweak.
    used: u64,
    rows: Rows,
}

impl std::fmt::Debug for Correlator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correlator")
            .field("party", &self.party)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

impl Correlator {
    /// Agrees on everything that later transfers grow from. Both parties name the same `extension`; each
    /// brings its own secret `seed`, used for nothing else.
    ///
    /// # Errors
    /// The link failed, or the peer sent something that no honest party sends.
    pub async fn setup<L: Link>(
        dialogue: &mut Dialogue<L>,
        extension: Extension,
        seed: &Seed,
    ) -> Result<Self, DialogueError> {
        let mut random = Prg::new(&seed.derive("consilium transfers", 0));
        let (columns, session) = Columns::setup(dialogue, &mut random).await?;
        let delta = Zeroizing::new(columns.delta());
        let source = match extension {
            Extension::Iknp => Source::Columns(Box::new(columns)),
            Extension::Silent => {
                Source::Silent(Box::new(Silent::setup(dialogue, columns, &session, &mut random).await?))
            }
        };
        let mut key = [0; 16];
        key.copy_from_slice(&session[..16]);
        Ok(Self {
            delta,
            source,
            hash: RowHash::new(key),
            party: dialogue.party(),
            used: 0,
            rows: Rows::default(),
        })
    }

    /// Rows used so far in each direction, the same number on both sides.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Makes the correlator as old as one that has used so many rows.
    #[cfg(test)]
    pub(super) fn age(&mut self, rows: u64) {
        self.used = rows;
    }

    /// The most words of rows that one exchange provides.
    const WORDS_MAX: usize = columns::WORDS_MAX;

    /// Takes the next `64 * words` rows into `self.rows` and returns the tweaks of the first row sent and
    /// of the first row received.
    async fn take<L: Link>(
        &mut self,
        dialogue: &mut Dialogue<L>,
        words: usize,
    ) -> Result<[u128; 2], DialogueError> {
        match &mut self.source {
            Source::Columns(columns) => columns.fill(dialogue, words, &mut self.rows).await?,
            Source::Silent(silent) => silent.fill(dialogue, words, &mut self.rows).await?,
        }
        let first = self.used;
        // 2^64 rows are out of reach: centuries at a billion a second.
        self.used = self.used.wrapping_add(64 * words as u64);
        let tweak = |sender: Party| u128::from(sender == Party::One) << 64 | u128::from(first);
        Ok([tweak(self.party), tweak(self.party.other())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Traffic;
    use crate::misbehaviour::Misbehaviour;
    use crate::testing::{MemoryLink, run_now};
    use crate::wire::HEADER_BYTES;

    const EXTENSIONS: [Extension; 2] = [Extension::Iknp, Extension::Silent];

    /// One party's end: a fresh correlator and the dialogue it was set up over.
    struct End {
        correlator: Correlator,
        dialogue: Dialogue<MemoryLink>,
    }

    impl End {
        fn triples(&mut self, words: usize) -> BitTriples {
            run_now(self.correlator.bit_triples(&mut self.dialogue, words)).unwrap()
        }

        fn cross(&mut self, bits: &[u64], values: &[u64]) -> Vec<u64> {
            run_now(self.correlator.cross(&mut self.dialogue, bits, values)).unwrap()
        }

        fn rows(&mut self, words: usize) -> (Vec<u128>, Vec<u128>) {
            run_now(self.correlator.take(&mut self.dialogue, words)).unwrap();
            (self.correlator.rows.sent.clone(), self.correlator.rows.received.clone())
        }
    }

    /// Sets both parties up and lets each do `body`.
    fn both<T: Send>(extension: Extension, body: impl Fn(&mut End) -> T + Sync) -> [T; 2] {
        let run = |party, link| {
            let mut dialogue = Dialogue::new(link, party, 3);
            let seed = Seed::random().unwrap();
            let correlator = run_now(Correlator::setup(&mut dialogue, extension, &seed)).unwrap();
            body(&mut End { correlator, dialogue })
        };
        let [left, right] = MemoryLink::pair();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| run(Party::One, right));
            [run(Party::Zero, left), other.join().unwrap()]
        })
    }

    fn is_fair(words: &[u64]) -> bool {
        let bits = 64.0 * words.len() as f64;
        let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
        // Six standard deviations: fails by chance once in 10^9.
        (f64::from(ones) - bits / 2.0).abs() <= 3.0 * bits.sqrt()
    }

    #[test]
    fn rows_are_correlated_and_never_come_again() {
        for extension in EXTENSIONS {
            let calls = [1, 7, 33, 64, 5, 1000, 129];
            let ends = both(extension, |end| {
                let rows: Vec<_> = calls.iter().map(|words| end.rows(*words)).collect();
                (*end.correlator.delta, rows)
            });
            for (sender, receiver) in [(0, 1), (1, 0)] {
                let delta = ends[sender].0;
                assert_eq!(delta & 1, 1);
                let mut seen = std::collections::HashSet::new();
                let mut choices = Vec::new();
                for (at, words) in calls.iter().enumerate() {
                    let (sent, received) = (&ends[sender].1[at].0, &ends[receiver].1[at].1);
                    assert_eq!((sent.len(), received.len()), (64 * words, 64 * words));
                    for (q, t) in sent.iter().zip(received) {
                        assert_eq!(q & 1, 0);
                        assert_eq!(q ^ t, (t & 1) * delta);
                        assert!(seen.insert(*q), "a row came twice");
                    }
                    choices.extend(received.as_chunks::<64>().0.iter().map(hash::low_bits));
                }
                assert!(is_fair(&choices));
                // Bits beyond the lowest are fair as well.
                let high: Vec<u64> = seen.iter().map(|row| (row >> 64) as u64).collect();
                assert!(is_fair(&high));
            }
        }
    }

    #[test]
    fn triples_multiply_and_are_fair() {
        for extension in EXTENSIONS {
            let calls = [3, 1, Correlator::WORDS_MAX + 17, 64];
            let [zero, one] = both(extension, |end| calls.map(|words| end.triples(words)));
            for ((zero, one), words) in zero.iter().zip(&one).zip(calls) {
                assert_eq!([zero.a.len(), zero.b.len(), zero.c.len(), one.a.len()], [words; 4]);
                for at in 0..words {
                    let product = (zero.a[at] ^ one.a[at]) & (zero.b[at] ^ one.b[at]);
                    assert_eq!(zero.c[at] ^ one.c[at], product, "word {at}");
                }
                let columns = [&zero.a, &zero.b, &zero.c, &one.a, &one.b, &one.c];
                assert!(columns.iter().all(|words| is_fair(words)));
                let sum = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<_>>();
                assert!(is_fair(&sum(&zero.a, &one.a)) && is_fair(&sum(&zero.a, &zero.b)));
                assert!(is_fair(&sum(&zero.b, &one.b)) && is_fair(&sum(&zero.a, &zero.c)));
            }
            // No call repeats another.
            let firsts: std::collections::HashSet<_> = zero.iter().map(|triples| triples.a[0]).collect();
            assert_eq!(firsts.len(), calls.len());
        }
    }

    #[test]
    fn cross_terms_are_exact_up_to_the_ends_of_the_ring() {
        let extremes = [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 0x5555_5555_5555_5555];
        for extension in EXTENSIONS {
            for count in [0, 1, 63, 64, 65, 1000, 64 * Correlator::WORDS_MAX + 3] {
                let inputs = [5, 6].map(|salt| {
                    let mut prg = Prg::new(&Seed::from_bytes([salt; 16]));
                    let mut values = prg.words(count);
                    values
                        .iter_mut()
                        .zip(extremes.iter().cycle().skip(salt.into()))
                        .take(40)
                        .for_each(|(to, from)| *to = *from);
                    (prg.words(count.div_ceil(64)), values)
                });
                let shares = both(extension, |end| {
                    let (bits, values) = &inputs[usize::from(end.dialogue.party() == Party::One)];
                    [end.cross(bits, values), end.cross(bits, values)]
                });
                let [zero, one] = shares;
                for (zero, one) in zero.iter().zip(&one) {
                    assert_eq!([zero.len(), one.len()], [count; 2]);
                    for (at, (zero, one)) in zero.iter().zip(one).enumerate() {
                        let bit = |party: usize| inputs[party].0[at / 64] >> (at % 64) & 1;
                        let expected = (bit(0) * inputs[1].1[at]).wrapping_add(bit(1) * inputs[0].1[at]);
                        assert_eq!(zero.wrapping_add(*one), expected, "product {at}");
                    }
                }
                // The same inputs are masked afresh, and shares are fair.
                assert!(count == 0 || zero[0] != zero[1]);
                assert!(zero.iter().chain(&one).all(|shares| is_fair(shares)));
            }
        }
    }

    /// Missing words of bits are zeros.
    #[test]
    fn a_party_may_bring_values_only() {
        let values: Vec<u64> = (0..200).map(|at| at * at).collect();
        let [zero, one] = both(Extension::Iknp, |end| {
            let bits: &[u64] = if end.dialogue.party() == Party::Zero { &[] } else { &[!0; 4] };
            end.cross(bits, &values)
        });
        let sum: Vec<u64> = zero.iter().zip(&one).map(|(a, b)| a.wrapping_add(*b)).collect();
        assert_eq!(sum, values);
    }

    #[test]
    fn bytes_are_those_of_the_cards() {
        let header = HEADER_BYTES as u64;
        let words = 2048u64;
        let [zero, one] = both(Extension::Iknp, |end| {
            let setup = end.dialogue.traffic();
            end.triples(words as usize);
            let triples = end.dialogue.traffic();
            end.cross(&[], &vec![1; 64 * words as usize - 1]);
            [setup, triples, end.dialogue.traffic()]
        });
        assert_eq!(zero, one);
        let [setup, triples, cross] = zero;
        assert_eq!(setup, Traffic { rounds: 3, sent: 6176 + 3 * header, received: 6176 + 3 * header });
        assert_eq!((triples.rounds, triples.sent), (4, setup.sent + 8 * 64 * words + header));
        let sent = 8 * 64 * words + 8 * words + 8 * (64 * words - 1) + 3 * header;
        assert_eq!((cross.rounds, cross.sent), (7, triples.sent + sent));
    }

    /// A peer that answers each frame by the same frame with its payload replaced.
    struct Liar {
        payload: fn(usize, &mut Vec<u8>),
        frames: usize,
    }

    impl Link for Liar {
        async fn exchange(
            &mut self,
            mut frame: Vec<u8>,
            _: usize,
        ) -> Result<Vec<u8>, crate::context::LinkError> {
            let mut payload = frame.split_off(HEADER_BYTES);
            (self.payload)(self.frames, &mut payload);
            self.frames += 1;
            frame.extend(payload);
            Ok(frame)
        }
    }

    fn against(payload: fn(usize, &mut Vec<u8>)) -> Result<(BitTriples, Vec<u64>), DialogueError> {
        let mut dialogue = Dialogue::new(Liar { payload, frames: 0 }, Party::Zero, 3);
        run_now(async {
            let seed = Seed::random().unwrap();
            let mut correlator = Correlator::setup(&mut dialogue, Extension::Iknp, &seed).await?;
            let triples = correlator.bit_triples(&mut dialogue, 3).await?;
            Ok((triples, correlator.cross(&mut dialogue, &[7], &[1; 70]).await?))
        })
    }

    #[test]
    fn garbage_gives_an_error_or_garbage_never_a_panic() {
        let peer = |result: Result<_, DialogueError>| match result {
            Err(DialogueError::Peer(misbehaviour)) => misbehaviour,
            other => panic!("{:?}", other.map(|_| ())),
        };
        let point = |result| matches!(peer(result), Misbehaviour::Point { .. });
        assert!(point(against(|_, payload| payload.fill(0))));
        assert!(point(against(|_, payload| payload.fill(0xff))));
        // The last of the chosen points.
        assert_eq!(
            peer(against(|frame, payload| if frame == 1 {
                payload[127 * 32..].fill(0)
            })),
            Misbehaviour::Point { at: 127 }
        );
        for short in 0..6 {
            let result = match short {
                0 => against(|frame, payload| payload.truncate(if frame == 0 { 31 } else { usize::MAX })),
                1 => against(|frame, payload| payload.truncate(if frame == 1 { 4095 } else { usize::MAX })),
                2 => against(|frame, payload| payload.truncate(if frame == 2 { 0 } else { usize::MAX })),
                3 => against(|frame, payload| payload.truncate(if frame == 3 { 8 } else { usize::MAX })),
                4 => against(|frame, payload| payload.truncate(if frame == 5 { 8 } else { usize::MAX })),
                _ => against(|frame, payload| payload.truncate(if frame == 6 { 559 } else { usize::MAX })),
            };
            assert!(matches!(peer(result), Misbehaviour::PayloadLength { .. }), "case {short}");
        }
        // Numbers that are no honest party's spoil the result; an echo is as good as any.
        assert!(against(|_, _| {}).is_ok());
        assert!(
            against(|frame, payload| if frame > 1 {
                payload.fill(0xa5)
            })
            .is_ok()
        );
    }

    #[test]
    fn nothing_prints_a_secret() {
        let [zero, _] = both(Extension::Iknp, |end| {
            let triples = end.triples(2);
            format!("{:?} {:?}", end.correlator, triples)
        });
        assert_eq!(zero, "Correlator { party: Zero, used: 128, .. } BitTriples(2 words)");
    }
}
