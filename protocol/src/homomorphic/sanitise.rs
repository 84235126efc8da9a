//! Answers that say the logits and nothing else about the weights.

use super::key::EvaluationKeys;
use super::ring::{Ring, Rows, Secret, Slots, each, map};
use super::rows;
use crate::algebra::Prg;
use crate::lattice::residues::add_flood;
use crate::lattice::sample;
use zeroize::Zeroizing;

/// Makes an answer fresh, floods its noise, adds the numbers `mask` to its slots, and brings it to the first prime of the
/// modulus: two rows, packed. `halves` are values at the roots. `prg` is for this answer alone.
pub(super) fn seal(
    ring: &Ring,
    slots: &Slots,
    halves: [Rows; 2],
    mut mask: Secret,
    (keys, flood_bits): (&EvaluationKeys, u32),
    prg: &mut Prg,
) -> Vec<u8> {
    let [mut constant, mut linear] = halves;
    let limbs = constant.len() / ring.degree();
    // The client's encryption of zero times a fresh secret: with the noise below, the linear half looks uniform to it.
    let secret = Ring::small(&sample::ternary(prg, ring.degree()));
    let secret = Zeroizing::new(ring.lifted(limbs, &secret, 1));
    ring.multiply_add(&mut constant, &secret, &keys.zero.constant);
    ring.multiply_add(&mut linear, &secret, &keys.zero.linear);
    let plain = slots.prime();
    let noises = [0; 2].map(|_| Ring::small(&sample::binomial(prg, ring.degree())));
    let flood = sample::flood(prg, ring.degree(), flood_bits);
    slots.encode(&mut mask);
    for (half, (noise, rows)) in noises.into_iter().zip([&mut constant, &mut linear]).enumerate() {
        let mut terms = Zeroizing::new(ring.zero(1));
        for (limb, row) in ring.rows_mut(rows) {
            let prime = ring.prime(limb);
            let factor = prime.constant(plain.value.into());
            ring.coefficients(limb, row);
            terms.copy_from_slice(&noise);
            if half == 0 {
                add_flood(prime, &mut terms, &flood, flood_bits);
                map(row, &mask, |value, mask| value + mask);
            }
            map(row, &terms, |value, term| prime.reduce(value + prime.multiply(term, factor)));
        }
    }
    let mut bytes = Vec::with_capacity(2 * rows::row_bytes(ring.degree()));
    for mut rows in [constant, linear] {
        for limb in (1..limbs).rev() {
            let (kept, dropped) = rows.split_at_mut(limb * ring.degree());
            let prime = ring.prime(limb);
            let dropped = &mut dropped[..ring.degree()];
            each(dropped, |value| prime.centre(prime.canonical(value)));
            ring.divide(plain, kept, dropped, limb, false);
        }
        let row = &mut rows[..ring.degree()];
        each(row, |value| ring.prime(0).canonical(value));
        rows::write(&mut bytes, row);
    }
    bytes
}

/// Appends uniform numbers modulo the plaintext prime, by rejection.
pub(super) fn uniform_slots(prg: &mut Prg, slots: &Slots, count: usize) -> Secret {
    let prime = slots.prime().value;
    let mask = prime.next_power_of_two() - 1;
    let mut values = Zeroizing::new(Vec::with_capacity(count));
    while values.len() < count {
        let word = prg.word() & mask;
        if word < prime {
            values.push(word as f64);
        }
    }
    values
}

/// `(constant, linear)` of a product without one prime: what [`EvaluationKeys::switch`] summed up is divided by the
/// special prime and added.
pub(super) fn add_switched(ring: &Ring, slots: &Slots, halves: [&mut Rows; 2], sums: &mut [Rows; 2]) {
    for (sums, half) in sums.iter_mut().zip(halves) {
        let (kept, last) = sums.split_at_mut(half.len());
        for (limb, row) in ring.rows_mut(kept) {
            let prime = ring.prime(limb);
            each(row, |value| prime.reduce(value));
        }
        ring.coefficients(ring.special(), last);
        ring.divide(slots.prime(), kept, last, ring.special(), true);
        ring.add(half, kept);
    }
}

/// Divides a polynomial of values at the roots by its last prime, whose row it loses.
pub(super) fn drop_last(ring: &Ring, slots: &Slots, rows: &mut Rows) {
    let limb = rows.len() / ring.degree() - 1;
    let (kept, last) = rows.split_at_mut(limb * ring.degree());
    ring.coefficients(limb, last);
    ring.divide(slots.prime(), kept, last, limb, true);
    last.fill(0.0);
    rows.truncate(limb * ring.degree());
}
