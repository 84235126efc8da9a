//! The same small network under this crate's encryption and under that of an independent library.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use consilium_protocol::algebra::{Prg, Seed};
use consilium_protocol::graph::{Layer, Network, Shape};
use consilium_protocol::homomorphic::{
    Block, EvaluationKeys, Evaluator, IntegerNet, Messages, Mode, Opening, Plan, Scales, SecretKey,
};
use consilium_protocol::model::{Model, Weights};
use fhe::bfv::{
    BfvParametersBuilder, Ciphertext, Encoding, Plaintext, RelinearizationKey, SecretKey as OtherKey,
};
use fhe_traits::{FheDecoder, FheDecrypter, FheEncoder, FheEncrypter};

const INPUTS: usize = 4;
const HIDDEN: usize = 3;
const OUTPUTS: usize = 2;
const FIRST: [i64; INPUTS * HIDDEN] = [2, -1, 0, 3, -3, 1, 1, 0, 0, 2, -2, 1];
const SECOND: [i64; HIDDEN * OUTPUTS] = [1, -3, 2, 0, 3, -1];

fn prg(seed: u8) -> Prg {
    Prg::new(&Seed::from_bytes([seed; 16]))
}

fn model() -> Model {
    let layers = vec![
        Layer::Dense { outputs: HIDDEN as u32 },
        Layer::Square,
        Layer::Dense { outputs: OUTPUTS as u32 },
    ];
    let network = Network::new(Shape::vector(INPUTS as u32), layers).unwrap();
    let weights = |numbers: &[i64], outputs: usize| Weights {
        weight: numbers.iter().map(|number| *number as f32).collect(),
        bias: vec![0.0; outputs],
    };
    Model::new(network, vec![weights(&FIRST, HIDDEN), weights(&SECOND, OUTPUTS)]).unwrap()
}

/// The logits of a whole batch by the other library, modulo a plaintext prime.
fn by_other(prime: u64, inputs: &[i64]) -> Vec<Vec<u64>> {
    let parameters = BfvParametersBuilder::new()
        .set_degree(8192)
        .set_plaintext_modulus(prime)
        .set_moduli_sizes(&[43, 43, 44, 44, 44])
        .build_arc()
        .unwrap();
    let mut random = rand_for_fhe::rng();
    let key = OtherKey::random(&parameters, &mut random);
    let relinearisation = RelinearizationKey::new(&key, &mut random).unwrap();
    let residue = |number: i64| number.rem_euclid(prime as i64) as u64;
    let plain = |numbers: Vec<u64>| Plaintext::try_encode(&numbers, Encoding::simd(), &parameters).unwrap();
    let sum = |terms: Vec<(Ciphertext, i64)>| {
        let products = terms.into_iter().map(|(term, weight)| &term * &plain(vec![residue(weight); 8192]));
        products.reduce(|sum, product| &sum + &product).unwrap()
    };
    let encrypted: Vec<Ciphertext> = (0..INPUTS)
        .map(|number| {
            let values = inputs.chunks_exact(INPUTS).map(|input| residue(input[number])).collect();
            key.try_encrypt(&plain(values), &mut random).unwrap()
        })
        .collect();
    let row = |weights: &[i64], from: &[Ciphertext]| {
        sum(from.iter().cloned().zip(weights.iter().copied()).collect())
    };
    let squares: Vec<Ciphertext> = FIRST
        .chunks_exact(INPUTS)
        .map(|weights| {
            let hidden = row(weights, &encrypted);
            let mut square = &hidden * &hidden;
            relinearisation.relinearizes(&mut square).unwrap();
            square
        })
        .collect();
    let opened = SECOND.chunks_exact(HIDDEN).map(|weights| {
        let message = key.try_decrypt(&row(weights, &squares)).unwrap();
        Vec::<u64>::try_decode(&message, Encoding::simd()).unwrap()
    });
    opened.collect()
}

#[test]
fn an_independent_library_computes_the_same_residues() {
    let model = model();
    let scales = Scales { input: 1, maps: vec![1.0; 2] };
    let net = IntegerNet::quantise(&model, [0.0, 7.0], &scales).unwrap();
    let (plan, _) = Plan::choose(model.network(), &net, Mode::Batch).unwrap();
    let inputs: Vec<i64> = prg(1).words(8192 * INPUTS).into_iter().map(|word| (word % 8) as i64).collect();
    let key = SecretKey::of_seed(&plan, &Seed::from_bytes([2; 16]));
    let keys = EvaluationKeys::decode(&plan, &key.evaluation_keys(&plan, &mut prg(3))).unwrap();
    let evaluator = Evaluator::new(plan.clone(), &net);
    let (mut stream, seed) = (prg(4), Seed::from_bytes([5; 16]));
    let mut parts = vec![Vec::new(); OUTPUTS];
    for plain in 0..plan.primes.len() {
        let messages = Messages::new(&plan, plain, &inputs, &Seed::from_bytes([6; 16]));
        let block = |limb| {
            let rows = messages.encrypt(&key, &seed, limb, 0..INPUTS);
            evaluator.evaluate(&seed, Block { plain, limb }, &rows).unwrap()
        };
        let blocks: Vec<_> = (0..plan.query_limbs()).map(block).collect();
        for (output, parts) in parts.iter_mut().enumerate() {
            parts.push(evaluator.answer(plain, output, &blocks, &keys, 8192, &mut stream));
        }
    }
    let opening = Opening::new(&plan, &key);
    let others: Vec<Vec<Vec<u64>>> = plan.primes.iter().map(|prime| by_other(*prime, &inputs)).collect();
    for (output, parts) in parts.iter().enumerate() {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let (logits, _) = opening.logits(output, &parts, 8192).unwrap();
        for (prime, other) in plan.primes.iter().zip(&others) {
            let residues: Vec<u64> =
                logits.iter().map(|logit| logit.rem_euclid(i128::from(*prime)) as u64).collect();
            assert_eq!(residues, other[output], "output {output} modulo {prime}");
        }
    }
}
