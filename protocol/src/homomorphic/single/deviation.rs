//! How much noise the answer to a single query carries.

use super::super::integer::IntegerNet;
use super::super::layout::{Layout, Step};
use super::super::noise::VARIANCES;
use super::super::ring::{Ring, SINGLE};
use super::weights::ciphertexts;

/// Deviation of the noise of an answer, as its base-two logarithm, before it is flooded.
pub(in super::super) fn deviation(layout: &Layout, net: &IntegerNet, primes: &[u64]) -> f64 {
    let plain = primes.iter().map(|prime| (*prime as f64).log2()).fold(0.0, f64::max);
    let product: f64 = primes.iter().map(|prime| (*prime as f64).log2()).sum();
    let degree = (SINGLE.degree() as f64).log2();
    let sum = |one: f64, other: f64| (one.exp2().powi(2) + other.exp2().powi(2)).log2() / 2.0;
    // Roundings of both halves, uniform within a plaintext prime.
    let floor = plain + ((1.0 + 2.0 * SINGLE.degree() as f64 / 3.0) / 12.0).log2() / 2.0;
    let prime_bits = f64::from(crate::lattice::prime::PRIME_BITS);
    let switched = |limbs: usize| {
        // Digits uniform within a prime times noise times all plaintext primes, over the special prime.
        let digits = ((limbs as f64).log2() + degree) / 2.0 - 12_f64.log2() / 2.0;
        sum(digits + product + VARIANCES[0].log2() / 2.0, floor)
    };
    let times_plaintext = plain - 12_f64.log2() / 2.0 + degree / 2.0;
    let [fresh, message] = VARIANCES;
    let mut noise = plain + (fresh + message).log2() / 2.0;
    for (index, stage) in layout.stages.iter().enumerate() {
        let map = &net.maps[index];
        let terms = match &stage.step {
            Step::Taps => {
                // Messages that are equal, as those of white pixels are, add up.
                let variance = |output| {
                    let [squares, sum] = map.row(output).fold([0.0, 0.0], |[squares, sum], (_, weight)| {
                        [squares + f64::from(weight).powi(2), sum + f64::from(weight).abs()]
                    });
                    fresh * squares + message * sum.powi(2)
                };
                noise = plain + (0..map.outputs()).map(variance).fold(1.0, f64::max).log2() / 2.0;
                0.0
            }
            Step::Spread { period, chunk } => {
                noise += times_plaintext;
                (period / chunk * ciphertexts(layout, index, map.inputs)) as f64
            }
            Step::Gather { .. } => {
                noise += times_plaintext;
                map.outputs() as f64
            }
        };
        if terms > 0.0 {
            noise = sum(noise + terms.log2() / 2.0, switched(stage.limbs) + terms.log2() / 2.0);
        }
        if !stage.squared {
            break;
        }
        if stage.step != Step::Taps {
            let folded = match &stage.step {
                Step::Taps => 1.0,
                Step::Spread { chunk, .. } => *chunk as f64,
                Step::Gather { chunk } => (SINGLE.degree() / chunk) as f64,
            };
            // What is folded are copies of one noise, which at worst add up.
            noise = sum(noise, switched(stage.limbs)) + folded.log2();
            noise = sum(noise - prime_bits, floor);
        }
        noise = 2.0 * noise + (degree + 1.0) / 2.0;
        noise = sum(noise, switched(stage.square_limbs()));
        noise = sum(noise - prime_bits, floor);
    }
    noise
}

/// Bits of the modulus of a query with the special prime.
pub(in super::super) fn modulus_bits(layout: &Layout) -> f64 {
    SINGLE.bits(layout.limbs()) + Ring::bits(&SINGLE, SINGLE.limbs()) - SINGLE.bits(SINGLE.special())
}
