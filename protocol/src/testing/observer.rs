//! What one who reads both parties' messages sees, and whether it tells anything.
//!
//! An observer of both parties can undo every opening, so it sees more than either party. All that it
//! sees must be uniform and independent of the input: every opened value, every party's part of it, and
//! every difference of two opened values, in one session and between neighbours.

use super::pair::Transcript;
use crate::algebra::stream;
use crate::wire::{HEADER_BYTES, Opening};
use std::sync::PoisonError;

/// Payloads of one session, Zero's first, round by round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Without frame headers.
    pub payloads: [Vec<Vec<u8>>; 2],
}

impl Observed {
    /// What both parties sent.
    pub fn of(sent: &[Transcript; 2]) -> Self {
        let payload = |frame: &Vec<u8>| frame.get(HEADER_BYTES..).unwrap_or_default().to_vec();
        let payloads = |sent: &Transcript| {
            sent.lock().unwrap_or_else(PoisonError::into_inner).iter().map(payload).collect()
        };
        Self { payloads: [payloads(&sent[0]), payloads(&sent[1])] }
    }

    fn shape(&self) -> [Vec<usize>; 2] {
        [0, 1].map(|party| self.payloads[party].iter().map(Vec::len).collect())
    }
}

/// Where a value is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The round.
    pub round: usize,
    /// Position of the opening among those of the round.
    pub opening: usize,
    /// Row of the opening.
    pub row: usize,
    /// Position in the row.
    pub at: usize,
}

/// What an observer can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A session whose frames are not those of the openings.
    Shape {
        /// Which session, those of the second input after those of the first.
        session: usize,
    },
    /// One party's bytes, all together, are not uniform.
    Bytes {
        /// 0 or 1.
        party: usize,
    },
    /// One party's part of an opening is not uniform.
    Part {
        /// 0 or 1.
        party: usize,
        /// Where.
        place: Place,
    },
    /// An opened value is not uniform.
    Opened {
        /// Where.
        place: Place,
    },
    /// Difference or sum of two opened values is not uniform: they share a mask.
    Related {
        /// Where, in one session.
        place: Place,
        /// Where, in the same session or the next.
        other: Place,
        /// Sessions between them, 0 or 1.
        sessions_apart: usize,
    },
    /// An opened value is distributed differently for the two inputs.
    Input {
        /// Where.
        place: Place,
    },
}

/// Probability of finding something in sessions that tell nothing, all tests together.
const FALSE_ALARM: f64 = 1e-3;
/// Bits from either end of a value that are counted.
const BIN_BITS: u32 = 3;

/// Values at one place in all sessions.
struct Column {
    place: Place,
    width: u32,
    parts: [Vec<u64>; 2],
    values: Vec<u64>,
}

/// Reads `sessions` on a first and on a second input. Takes some hundred of each to tell much.
///
/// # Errors
/// The first [`Finding`]; those that say most come first.
pub fn inspect(openings: &[Vec<Opening>], sessions: [&[Observed]; 2]) -> Result<(), Finding> {
    let first = sessions[0].len();
    let sessions: Vec<&Observed> = sessions.into_iter().flatten().collect();
    let shape: Vec<usize> = openings.iter().map(|round| round.iter().map(Opening::bytes).sum()).collect();
    for (session, observed) in sessions.iter().enumerate() {
        if observed.shape().iter().any(|found| *found != shape) {
            return Err(Finding::Shape { session });
        }
    }
    let columns = columns(openings, &sessions);
    let tests = 8 * columns.len() * columns.len();
    // The tail of a normal variable beyond z is below exp(-z^2 / 2).
    let limit = (2.0 * (tests as f64 / FALSE_ALARM).ln()).sqrt();
    for column in &columns {
        let place = column.place;
        if uneven(&column.values, column.width) > limit {
            return Err(Finding::Opened { place });
        }
        let (one, other) = column.values.split_at(first);
        if different(one, other, column.width) > limit {
            return Err(Finding::Input { place });
        }
    }
    relations(&columns, limit)?;
    for party in [0, 1] {
        let bytes = sessions.iter().flat_map(|observed| observed.payloads[party].iter().flatten());
        if deviation(&histogram(bytes.map(|byte| u64::from(*byte)), 8)) > limit {
            return Err(Finding::Bytes { party });
        }
    }
    for Column { place, width, parts, .. } in &columns {
        if let Some(party) = (0..2).find(|party| uneven(&parts[*party], *width) > limit) {
            return Err(Finding::Part { party, place: *place });
        }
    }
    Ok(())
}

fn columns(openings: &[Vec<Opening>], sessions: &[&Observed]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (round, gates) in openings.iter().enumerate() {
        let mut offset = 0;
        for (opening, gate) in gates.iter().enumerate() {
            let row_bytes = (gate.count * gate.width as usize).div_ceil(8);
            for row in 0..gate.rows {
                let first = columns.len();
                columns.extend((0..gate.count).map(|at| Column {
                    place: Place { round, opening, row, at },
                    width: gate.width,
                    parts: [Vec::new(), Vec::new()],
                    values: Vec::new(),
                }));
                for observed in sessions {
                    let read = |party: usize| {
                        let bytes = &observed.payloads[party][round][offset..][..row_bytes];
                        stream::unpack(bytes, gate.count, gate.width)
                    };
                    let (zero, one) = (read(0), read(1));
                    for (column, (zero, one)) in columns[first..].iter_mut().zip(zero.into_iter().zip(one)) {
                        // Modulo 2 the sum is the exclusive or.
                        column.values.push(zero.wrapping_add(one) & (u64::MAX >> (64 - gate.width)));
                        column.parts[0].push(zero);
                        column.parts[1].push(one);
                    }
                }
                offset += row_bytes;
            }
        }
    }
    columns
}

/// Every pair of bits, and every pair of wider values modulo the narrower one.
fn relations(columns: &[Column], limit: f64) -> Result<(), Finding> {
    let (bits, wide): (Vec<&Column>, Vec<&Column>) = columns.iter().partition(|column| column.width == 1);
    let packed: Vec<Vec<u64>> = bits.iter().map(|column| pack(&column.values)).collect();
    for sessions_apart in [0, 1] {
        let next: Vec<Vec<u64>> = bits.iter().map(|column| pack(&column.values[sessions_apart..])).collect();
        for (i, column) in bits.iter().enumerate() {
            let pairs = column.values.len() - sessions_apart;
            for (j, other) in bits.iter().enumerate().skip(if sessions_apart == 0 { i + 1 } else { 0 }) {
                let ones = differences(&packed[i], &next[j], pairs);
                if deviation(&[ones, pairs as f64 - ones]) > limit {
                    return Err(Finding::Related { place: column.place, other: other.place, sessions_apart });
                }
            }
        }
        for (i, column) in wide.iter().enumerate() {
            for other in wide.iter().skip(if sessions_apart == 0 { i + 1 } else { 0 }) {
                let width = column.width.min(other.width);
                let pairs = || column.values.iter().zip(&other.values[sessions_apart..]);
                let apart: Vec<u64> = pairs().map(|(a, b)| a.wrapping_sub(*b)).collect();
                let joined: Vec<u64> = pairs().map(|(a, b)| a.wrapping_add(*b)).collect();
                if uneven(&apart, width).max(uneven(&joined, width)) > limit {
                    return Err(Finding::Related { place: column.place, other: other.place, sessions_apart });
                }
            }
        }
    }
    Ok(())
}

fn pack(bits: &[u64]) -> Vec<u64> {
    let word = |bits: &[u64]| bits.iter().rev().fold(0, |word, bit| word << 1 | bit);
    bits.chunks(64).map(word).collect()
}

/// In how many of the first `count` bits two rows differ.
fn differences(left: &[u64], right: &[u64], count: usize) -> f64 {
    let words = left.iter().zip(right).enumerate().map(|(at, (a, b))| {
        let used = (count - (64 * at).min(count)).min(64) as u32;
        (a ^ b) & u64::MAX.checked_shr(64 - used).unwrap_or(0)
    });
    words.map(|word| f64::from(word.count_ones())).sum()
}

fn histogram(values: impl Iterator<Item = u64>, bits: u32) -> Vec<f64> {
    let mut counts = vec![0.0; 1 << bits];
    for value in values {
        counts[(value & ((1 << bits) - 1)) as usize] += 1.0;
    }
    counts
}

/// Both ends of values of this width.
fn ends(values: &[u64], width: u32) -> [Vec<f64>; 2] {
    let bits = width.min(BIN_BITS);
    let high = values.iter().map(|value| value >> (width - bits));
    [histogram(values.iter().copied(), bits), histogram(high, bits)]
}

fn uneven(values: &[u64], width: u32) -> f64 {
    let [low, high] = ends(values, width);
    deviation(&low).max(deviation(&high))
}

/// How far counts are from equal, in standard deviations of a normal variable.
fn deviation(counts: &[f64]) -> f64 {
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    normal(counts.iter().map(|count| (count - mean) * (count - mean) / mean).sum(), counts.len() - 1)
}

/// How far two samples are from one distribution, in standard deviations of a normal variable.
fn different(one: &[u64], other: &[u64], width: u32) -> f64 {
    let weight = (other.len() as f64 / one.len() as f64).sqrt();
    let compare = |(one, other): (Vec<f64>, Vec<f64>)| {
        let term = |(a, b): (&f64, &f64)| {
            let apart = weight * a - b / weight;
            if a + b > 0.0 { apart * apart / (a + b) } else { 0.0 }
        };
        normal(one.iter().zip(&other).map(term).sum(), one.len() - 1)
    };
    let ([low, high], [other_low, other_high]) = (ends(one, width), ends(other, width));
    compare((low, other_low)).max(compare((high, other_high)))
}

/// A chi-square statistic as a normal variable (Wilson and Hilferty).
fn normal(statistic: f64, freedom: usize) -> f64 {
    let spread = 2.0 / (9.0 * freedom as f64);
    ((statistic / freedom as f64).cbrt() - (1.0 - spread)) / spread.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::prg::{Prg, Seed};

    const OPENINGS: [Opening; 3] = [
        Opening { rows: 1, count: 2, width: 64 },
        Opening { rows: 2, count: 3, width: 1 },
        Opening { rows: 1, count: 2, width: 20 },
    ];

    /// Sessions of one round whose opened values `change` may spoil; parts are uniform.
    fn sessions(seed: u8, change: impl Fn(usize, &mut [u64])) -> Vec<Observed> {
        let mut prg = Prg::new(&Seed::from_bytes([seed; 16]));
        let session = |session| {
            let mut values = prg.words(10);
            change(session, &mut values);
            let parts = prg.words(10);
            let payload = |words: &[u64]| {
                let mut bytes = stream::pack(&words[..2], 64);
                bytes.extend(stream::pack(&words[2..5], 1));
                bytes.extend(stream::pack(&words[5..8], 1));
                bytes.extend(stream::pack(&words[8..], 20));
                bytes
            };
            let rest: Vec<u64> = values.iter().zip(&parts).map(|(a, b)| a.wrapping_sub(*b)).collect();
            Observed { payloads: [vec![payload(&parts)], vec![payload(&rest)]] }
        };
        (0..400).map(session).collect()
    }

    fn find(change: impl Fn(usize, &mut [u64])) -> Result<(), Finding> {
        inspect(&[OPENINGS.to_vec()], [&sessions(1, |_, _| {}), &sessions(2, change)])
    }

    fn place(opening: usize, row: usize, at: usize) -> Place {
        Place { round: 0, opening, row, at }
    }

    #[test]
    fn uniform_sessions_tell_nothing() {
        assert_eq!(find(|_, _| {}), Ok(()));
    }

    #[test]
    fn constants_and_biases_are_found() {
        assert_eq!(find(|_, values| values[1] = 5), Err(Finding::Opened { place: place(0, 0, 1) }));
        assert_eq!(find(|_, values| values[3] |= values[4]), Err(Finding::Opened { place: place(1, 0, 1) }));
        assert_eq!(find(|_, values| values[9] &= 0x7_ffff), Err(Finding::Opened { place: place(2, 0, 1) }));
    }

    #[test]
    fn relations_are_found() {
        let related = |place, other, sessions_apart| Err(Finding::Related { place, other, sessions_apart });
        let found = find(|_, values| values[1] = values[0].wrapping_add(77));
        assert_eq!(found, related(place(0, 0, 0), place(0, 0, 1), 0));
        let found = find(|_, values| values[8] = values[0].wrapping_neg().wrapping_add(77));
        assert_eq!(found, related(place(0, 0, 0), place(2, 0, 0), 0));
        let found = find(|_, values| values[6] = values[2]);
        assert_eq!(found, related(place(1, 0, 0), place(1, 1, 1), 0));
    }

    #[test]
    fn what_depends_on_the_input_is_found() {
        // Uniform only over both inputs together.
        let half = |top: u64| move |_: usize, values: &mut [u64]| values[0] = values[0] >> 1 | top << 63;
        let found = inspect(&[OPENINGS.to_vec()], [&sessions(1, half(0)), &sessions(2, half(1))]);
        assert_eq!(found, Err(Finding::Input { place: place(0, 0, 0) }));
    }

    #[test]
    fn another_shape_is_found() {
        let mut odd = sessions(3, |_, _| {});
        odd[7].payloads[1][0].pop();
        assert_eq!(inspect(&[OPENINGS.to_vec()], [&odd, &[]]), Err(Finding::Shape { session: 7 }));
    }

    #[test]
    fn a_party_that_sends_plain_parts_is_found() {
        let mut plain = sessions(4, |_, _| {});
        for observed in &mut plain {
            observed.payloads[0][0][..8].copy_from_slice(&[0; 8]);
        }
        let found = inspect(&[OPENINGS.to_vec()], [&plain, &sessions(5, |_, _| {})]);
        assert_eq!(found, Err(Finding::Bytes { party: 0 }));
    }
}
