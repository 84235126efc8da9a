//! Noise as it is, beside what is foretold.

use super::*;
use crate::homomorphic::batch::BatchNet;
use crate::homomorphic::noise::{VARIANCES, deviation_of, output_deviation};
use crate::homomorphic::plan::Room;
use crate::homomorphic::ring::{BATCH, Ring, SINGLE};
use crate::homomorphic::single::SingleNet;
use dashu_int::IBig;

/// The root of the mean square of numbers given by their residues, in bits.
fn deviation(ring: &Ring, rows: &[f64]) -> f64 {
    let limbs = rows.len() / ring.degree();
    let whole: IBig = (0..limbs).map(|limb| IBig::from(ring.prime(limb).value)).product();
    let half: IBig = &whole / IBig::from(2);
    let units: Vec<IBig> = (0..limbs)
        .map(|limb| {
            let prime = ring.prime(limb);
            let rest: IBig = &whole / IBig::from(prime.value);
            let residue = u128::try_from(&rest % IBig::from(prime.value)).unwrap();
            rest * IBig::from(prime.canonical(prime.inverse_of(residue)) as u64)
        })
        .collect();
    let square = |at: usize| {
        let joined = units.iter().enumerate().fold(IBig::ZERO, |sum, (limb, unit)| {
            let value = ring.prime(limb).canonical(rows[limb * ring.degree() + at]);
            sum + unit * IBig::from(value as u64)
        });
        let residue: IBig = joined % &whole;
        let centred = if residue > half { residue - &whole } else { residue };
        // Its size is all that counts.
        centred.to_f64().value().powi(2)
    };
    let count = ring.degree() / 16;
    ((0..count).map(|at| square(16 * at)).sum::<f64>() / count as f64).log2() / 2.0
}

/// What a polynomial in the secret opens to, as coefficients.
fn opened(ring: &Ring, key: &SecretKey, parts: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = parts.last().unwrap().clone();
    for part in parts.iter().rev().skip(1) {
        let mut next = part.clone();
        ring.multiply_add(&mut next, &sum, &key.secret()[..sum.len()]);
        sum = next;
    }
    for (limb, row) in ring.rows_mut(&mut sum) {
        ring.coefficients(limb, row);
    }
    sum
}

/// The noise of the worst output of a batch.
fn most(world: &World, plain: usize, inputs: &[i64]) -> f64 {
    let blocks = world.blocks(plain, inputs);
    let parts = (1 << world.net.squares()) + 1;
    let of = |output: usize| {
        let part = |part: usize| {
            let from = (output * parts + part) * BATCH.degree();
            blocks.iter().flat_map(|block| block.values()[from..from + BATCH.degree()].to_vec()).collect()
        };
        let parts: Vec<Vec<f64>> = (0..parts).map(part).collect();
        deviation(&BATCH, &opened(&BATCH, &world.key, &parts))
    };
    (0..world.plan.outputs()).map(of).fold(0.0, f64::max)
}

#[test]
fn outputs_of_a_batch_are_as_noisy_as_foretold() {
    for (widths, largest, seed) in [(&[60, 40, 30, 3][..], 3, 1), (&[70, 20, 2], 9, 3)] {
        let world = world(&model(widths, largest, seed), Mode::Batch, seed);
        let plain = world.plan.primes.len() - 1;
        let prime = world.plan.primes[plain] as f64;
        let inputs = world.inputs(BATCH.degree(), 4);
        // Different inputs have nothing in common, so that this is no bound but the deviation.
        let independent = deviation_of(&world.net, [VARIANCES[0] + VARIANCES[1], 0.0], prime, BATCH.degree());
        let found = most(&world, plain, &inputs);
        assert!((found - independent).abs() < 1.0, "{found} bits, foretold {independent}");
        // What is flooded is that without the last prime.
        let slots = world.plan.slots(plain);
        let net = BatchNet::new(&world.net, &slots);
        let halves = net.output(0, &world.blocks(plain, &inputs), &slots, &world.keys);
        let left = deviation(&BATCH, &opened(&BATCH, &world.key, &halves));
        let dropped = BATCH.bits(BATCH.limbs()) - BATCH.bits(BATCH.special());
        assert!(left < (independent - dropped).max(world.plan.key_noise_bits()) + 1.0, "{left} bits");
    }
}

#[test]
fn inputs_that_are_alike_make_no_more_noise_than_the_bound() {
    let first = model(&[80, 30, 20, 2], 1, 1);
    let mut weights = first.weights().to_vec();
    weights.iter_mut().for_each(|entry| entry.weight.iter_mut().for_each(|weight| *weight = 1.0));
    let world = world(&Model::new(first.network().clone(), weights).unwrap(), Mode::Batch, 2);
    let mut inputs = vec![0; 80 * BATCH.degree()];
    inputs[..80].fill(1);
    let bound = output_deviation(&world.net, world.plan.primes[0] as f64, BATCH.degree());
    let independent = deviation_of(
        &world.net,
        [VARIANCES[0] + VARIANCES[1], 0.0],
        world.plan.primes[0] as f64,
        BATCH.degree(),
    );
    let found = most(&world, 0, &inputs);
    assert!(
        found > independent + 1.0 && found < bound + 0.5,
        "{found} bits, {independent} to {bound} foretold"
    );
}

#[test]
fn answers_to_single_queries_are_no_noisier_than_foretold() {
    for (model, seed) in
        [(convolution(1), 2), (model(&[6, 5, 4, 3], 3, 3), 4), (model(&[300, 70, 11], 2, 5), 6)]
    {
        let world = world(&model, Mode::Single, seed);
        let layout = world.plan.layout().unwrap();
        let blocks = world.blocks(0, &world.inputs(1, 4));
        let slots = world.plan.slots(0);
        let net = SingleNet::new(&world.plan, &layout, &world.net, &slots);
        let halves = net.run(&blocks, &slots, &world.keys);
        let found = deviation(&SINGLE, &opened(&SINGLE, &world.key, &halves));
        let Room { noise, .. } = world.room;
        assert!(found < noise + 0.5 && found > noise - 8.0, "{found} bits, foretold {noise}");
    }
}

#[test]
fn every_plan_has_room_for_flood_and_margin_and_is_within_the_standard() {
    for mode in [Mode::Batch, Mode::Single] {
        for (model, seed) in [(convolution(1), 2), (model(&[6, 5, 4, 3], 3, 3), 4), (model(&[5, 3], 3, 5), 6)]
        {
            let world = world(&model, mode, seed);
            let room = world.room;
            assert!(room.statistical >= f64::from(STATISTICAL_BITS));
            let plain = world.plan.primes.iter().max().map_or(0.0, |prime| (*prime as f64).log2());
            let used = plain + f64::from(world.plan.flood_bits) + 1.0 + f64::from(MARGIN_BITS);
            assert!(used <= room.answer && used > room.answer - 1.0, "{used} of {}", room.answer);
            let (_, allowed) =
                MODULUS_BITS_MAX.into_iter().find(|(n, _)| *n == world.plan.ring().degree()).unwrap();
            let ring = world.plan.ring();
            assert!(room.modulus <= allowed && ring.bits(ring.limbs()) <= allowed);
            let product: f64 = world.plan.primes.iter().map(|prime| (*prime as f64).log2()).sum();
            assert!(product >= f64::from(world.plan.logit_bits));
        }
    }
}
