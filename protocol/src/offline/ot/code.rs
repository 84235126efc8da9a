//! The linear code that stretches a secret: each output adds ten places of it.
//!
//! - Computes: `y[i] ^= s[j_1] ^ .. ^ s[j_10]` for public pseudo-random places, in both directions alike.
//! - Learns: nothing is sent.
//! - Consumes: the next places of the stream; it starts anew with each secret.
//! - Costs: two AES blocks and ten reads of 32 bytes per row. Addresses depend on public places only.
//! - Source: Yang, Weng, Lan, Zhang, Wang, CCS 2020 (Ferret), local linear code with d = 10, after Boyle
//!   et al., CCS 2018.

use crate::algebra::prg::{Prg, Seed};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bits of a place.
const PLACE_BITS: usize = 17;
/// Places of a secret: `k`.
pub(super) const PLACES: usize = 1 << PLACE_BITS;
/// Words of the public stream per output: three places in each of the first three, one in the last.
const WORDS: usize = 4;
/// Outputs whose places are drawn at a time.
const BATCH: usize = 64;

/// A row of each direction side by side, so that one read serves both.
#[derive(Clone, Copy, Default, Zeroize)]
#[repr(align(32))]
pub(super) struct Pair {
    /// As sender.
    pub(super) sent: u128,
    /// As receiver.
    pub(super) received: u128,
}

/// A secret for each direction, and the place in the public stream.
pub(super) struct Code {
    seed: Seed,
    stream: Prg,
    secret: Secret,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Secret(Vec<Pair>);

impl Code {
    /// Both parties name the same public `seed`.
    pub(super) fn new(seed: Seed) -> Self {
        Self { stream: Prg::new(&seed), seed, secret: Secret(vec![Pair::default(); PLACES]) }
    }

    /// Starts anew with another secret, [`PLACES`] long.
    pub(super) fn restart(&mut self, secret: &[Pair]) {
        self.stream = Prg::new(&self.seed);
        self.secret.0.copy_from_slice(secret);
    }

    /// Adds the next outputs to `rows`, a multiple of 64 of them.
    pub(super) fn add(&mut self, rows: &mut [Pair]) {
        let Ok(secret) = <&[Pair; PLACES]>::try_from(self.secret.0.as_slice()) else { return };
        let mut places = [[0; WORDS]; BATCH];
        for rows in rows.as_chunks_mut::<BATCH>().0 {
            self.stream.fill_words(places.as_flattened_mut());
            for (row, places) in rows.iter_mut().zip(&places) {
                let mut add = |word: u64, position: usize| {
                    let from = &secret[(word >> (position * PLACE_BITS)) as usize % PLACES];
                    row.sent ^= from.sent;
                    row.received ^= from.received;
                };
                for word in &places[..WORDS - 1] {
                    add(*word, 0);
                    add(*word, 1);
                    add(*word, 2);
                }
                add(places[WORDS - 1], 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_add_ten_places_and_depend_on_all_of_the_secret() {
        let mut code = Code::new(Seed::from_bytes([3; 16]));
        // A secret that counts: every place is 1 in the low and its own number in the high half.
        let secret: Vec<Pair> =
            (0..PLACES).map(|at| Pair { sent: 1, received: 1 << (at % 127 + 1) }).collect();
        code.restart(&secret);
        let mut rows = vec![Pair::default(); 1 << 12];
        code.add(&mut rows);
        assert!(rows.iter().all(|row| row.sent == 0 && (1..=10).contains(&row.received.count_ones())));
        assert!(rows.iter().fold(0, |all, row| all | row.received) == !1);
        // In parts the same, and anew the same.
        let mut again = vec![Pair::default(); 1 << 12];
        code.restart(&secret);
        for part in again.chunks_mut(192) {
            code.add(part);
        }
        assert!(rows.iter().zip(&again).take(21 * 192).all(|(a, b)| a.received == b.received));
    }
}
