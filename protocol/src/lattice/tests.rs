//! Both parties against the product in the clear, and what each of them sees.

use super::evaluation::{add_zero, finish};
use super::prime::{DEGREE, LIMBS, PRIMES, REPLY_LIMBS};
use super::residues::Digits;
use super::residues::tests::{centred, joined, modulus};
use super::sample::FLOOD_BITS;
use super::*;
use super::{residues, transform, wire};
use crate::algebra::{ConvShape, LinearShape, Prg, Seed, z64};
use crate::misbehaviour::Misbehaviour;
use dashu_int::IBig;

fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 16])
}

/// A layer, its two tensors, and everything both parties hold before the first reply.
struct Session {
    packing: Packing,
    encrypted: Vec<u64>,
    plain: Vec<u64>,
    expected: Vec<u64>,
    key: SecretKey,
    public: PublicKey,
    requests: Requests,
}

impl Session {
    fn new(shape: LinearShape, encrypted: Encrypted) -> Self {
        let mut prg = Prg::new(&seed(1));
        let (w, x) = (prg.words(shape.weight_len()), prg.words(shape.input_len()));
        let mut expected = vec![0; shape.output_len()];
        shape.multiply_add(&mut expected, &w, &x);
        let packing = Packing::choose(&shape, encrypted).unwrap();
        let (encrypted, plain) = match encrypted {
            Encrypted::Operand => (x, w),
            Encrypted::Weights => (w, x),
        };
        let key = SecretKey::generate(&seed(2));
        let public = PublicKey::decode(key.public_key()).unwrap();
        let mut requests = Requests::new(&packing);
        let mut prg = Prg::new(&seed(3));
        for request in 0..packing.requests() {
            let bytes = key.request(&packing, &encrypted, request, &mut prg);
            assert_eq!(bytes.len(), Packing::request_bytes());
            requests.absorb(request, &bytes).unwrap();
        }
        Self { packing, encrypted, plain, expected, key, public, requests }
    }

    /// The shares of key holder and evaluator.
    fn run(&mut self) -> [Vec<u64>; 2] {
        let (mut prg, mut shares) =
            (Prg::new(&seed(4)), [vec![5; self.expected.len()], vec![7; self.expected.len()]]);
        let mut evaluation = Evaluation::new(&self.packing, &self.plain);
        for reply in 0..self.packing.replies() {
            let [zero, one] = &mut shares;
            let bytes = evaluation.reply(reply, &self.requests, &self.public, &mut prg, one);
            assert_eq!(bytes.len(), self.packing.reply_bytes(reply));
            self.key.open(&self.packing, reply, &bytes, zero).unwrap();
        }
        // Shares are added to what was there.
        shares.each_mut().into_iter().zip([5, 7]).for_each(|(share, start)| {
            share.iter_mut().for_each(|word| *word = word.wrapping_sub(start));
        });
        shares
    }
}

fn check(shape: LinearShape) {
    for encrypted in [Encrypted::Operand, Encrypted::Weights] {
        let mut session = Session::new(shape, encrypted);
        let [zero, one] = session.run();
        assert_eq!(z64::sum(&zero, &one), session.expected, "{:?}", session.packing);
        assert!(session.packing.products_max() > 1 << 12, "{:?}", session.packing);
    }
}

fn dense(outputs: usize, inputs: usize, batch: usize) -> LinearShape {
    LinearShape::Dense { outputs, inputs, batch }
}

const CONV: ConvShape = ConvShape {
    channels: 3,
    height: 9,
    width: 8,
    outputs: 5,
    kernel: [3, 2],
    stride: [2, 1],
    padding: [1, 0, 2, 1],
    batch: 7,
};

#[test]
fn dense_layers_are_exact() {
    for [outputs, inputs, batch] in [[1, 1, 1], [3, 5, 7], [13, 70, 100], [16, 40, 128], [2, 9000, 1]] {
        check(dense(outputs, inputs, batch));
    }
}

#[test]
fn a_layer_of_usual_size_is_exact() {
    check(dense(128, 784, 3));
}

#[test]
fn convolutions_are_exact() {
    check(LinearShape::Conv(CONV));
    check(LinearShape::Conv(ConvShape { channels: 16, outputs: 16, batch: 20, ..CONV }));
    let large = ConvShape { channels: 2, height: 110, width: 90, outputs: 2, batch: 2, ..CONV };
    check(LinearShape::Conv(large));
}

#[test]
fn one_set_of_requests_serves_several_matrices() {
    let shapes = [dense(20, 50, 16), dense(3, 50, 16)];
    let packings = Packing::choose_shared(&shapes).unwrap();
    let mut prg = Prg::new(&seed(9));
    let x = prg.words(shapes[0].input_len());
    let key = SecretKey::generate(&seed(2));
    let public = PublicKey::decode(key.public_key()).unwrap();
    let mut requests = Requests::new(&packings[0]);
    for request in 0..packings[0].requests() {
        requests.absorb(request, &key.request(&packings[0], &x, request, &mut prg)).unwrap();
    }
    for (shape, packing) in shapes.iter().zip(&packings) {
        let w = prg.words(shape.weight_len());
        let mut expected = vec![0; shape.output_len()];
        shape.multiply_add(&mut expected, &w, &x);
        let mut evaluation = Evaluation::new(packing, &w);
        let (mut zero, mut one) = (vec![0; expected.len()], vec![0; expected.len()]);
        for reply in 0..packing.replies() {
            let bytes = evaluation.reply(reply, &requests, &public, &mut prg, &mut one);
            key.open(packing, reply, &bytes, &mut zero).unwrap();
        }
        assert_eq!(z64::sum(&zero, &one), expected);
    }
    requests.release(0..packings[0].requests());
    assert!(format!("{requests:?}").starts_with("Requests(0 of"));
}

#[test]
fn each_share_alone_is_uniform() {
    let mut session = Session::new(dense(16, 10, 128), Encrypted::Operand);
    session.plain.fill(1);
    for share in session.run() {
        for bit in 0..64 {
            let ones = share.iter().filter(|word| *word >> bit & 1 == 1).count();
            // Six standard deviations of 2048 coins.
            assert!(ones.abs_diff(share.len() / 2) < 136, "bit {bit}: {ones} of {}", share.len());
        }
    }
}

#[test]
fn wrong_bytes_are_refused() {
    let session = Session::new(dense(2, 3, 4), Encrypted::Operand);
    let mut share = vec![3; 8];
    let bytes = Evaluation::new(&session.packing, &session.plain).reply(
        0,
        &session.requests,
        &session.public,
        &mut Prg::new(&seed(5)),
        &mut [0; 8],
    );
    let mut requests = Requests::new(&session.packing);
    let fresh = session.key.request(&session.packing, &session.encrypted, 0, &mut Prg::new(&seed(6)));
    for length in [0, 1, 15, 16, fresh.len() - 1, fresh.len() + 1] {
        let mut wrong = fresh.clone();
        wrong.resize(length, 0);
        let error = |what| Misbehaviour::LatticeLength { what, expected: fresh.len(), found: length };
        assert_eq!(requests.absorb(0, &wrong), Err(error("request")));
        assert_eq!(PublicKey::decode(&wrong).unwrap_err(), error("public key"));
    }
    for length in [0, 1, bytes.len() - 1, bytes.len() + 1] {
        let mut wrong = bytes.clone();
        wrong.resize(length, 0);
        let error = Misbehaviour::LatticeLength { what: "reply", expected: bytes.len(), found: length };
        assert_eq!(session.key.open(&session.packing, 0, &wrong, &mut share), Err(error));
    }
    let row = DEGREE * 43 / 8;
    for (limb, place) in (0..LIMBS).map(|limb| (limb, 16 + limb * row)) {
        let mut wrong = fresh.clone();
        wrong[place + 43..place + 86].fill(0xFF);
        let error = Misbehaviour::LatticeCoefficient { what: "request", position: 8 };
        assert_eq!(requests.absorb(0, &wrong), Err(error), "limb {limb}");
    }
    // High digits of the linear half, its low digits, high digits of the constants. Low digits of those are
    // cut so far that all of their values are allowed.
    for place in [0, row, row + DEGREE * 37 / 8] {
        let mut wrong = bytes.clone();
        wrong[place..place + 23].fill(0xFF);
        let opened = session.key.open(&session.packing, 0, &wrong, &mut share);
        assert!(matches!(opened, Err(Misbehaviour::LatticeCoefficient { what: "reply", .. })), "{place}");
    }
    assert_eq!(share, vec![3; 8], "a refused reply changes nothing");
    session.key.open(&session.packing, 0, &bytes, &mut share).unwrap();
}

/// The numbers at these exponents of a ciphertext under the whole modulus, opened.
fn opened(key: &SecretKey, sums: &super::evaluation::Sums, exponents: &[usize]) -> Vec<IBig> {
    let mut rows = Vec::new();
    for limb in 0..LIMBS {
        let row = limb * DEGREE..(limb + 1) * DEGREE;
        let mut product = vec![0.0; DEGREE];
        transform::multiply_add(limb, &mut product, &sums.linear[row.clone()], &key.negated()[row.clone()]);
        let mut values: Vec<f64> = sums.constant[row].iter().zip(&product).map(|(a, b)| a - b).collect();
        residues::reduce(limb, &mut values);
        transform::inverse(limb, &mut values);
        rows.push(values);
    }
    let number = |exponent: &usize| joined(&rows.iter().map(|row| row[*exponent]).collect::<Vec<_>>());
    exponents.iter().map(number).collect()
}

/// Distance from the place of a message under the modulus of so many primes, next to zero.
fn noise(number: IBig, word: u64, limbs: usize) -> IBig {
    let whole = modulus(limbs);
    let place: IBig = (&whole * IBig::from(word)) >> 64;
    centred(number - place, &whole)
}

fn largest(values: &[IBig]) -> IBig {
    values.iter().map(|value| if *value < IBig::ZERO { -value } else { value.clone() }).max().unwrap()
}

#[test]
fn noise_stays_below_its_bound_and_the_flood_hides_it() {
    let mut session = Session::new(dense(8, 300, 64), Encrypted::Operand);
    // As large as a word can be in magnitude, so that the noise is large as well.
    session.plain.iter_mut().for_each(|word| *word = (1 << 63) ^ (*word >> 60));
    let bound = IBig::from(session.packing.noise_max());
    let (mut plain, mut flooded) = (Vec::new(), Vec::new());
    let mut prg = Prg::new(&seed(8));
    let mut evaluation = Evaluation::new(&session.packing, &session.plain);
    let shape = dense(8, 300, 64);
    let mut expected = vec![0; shape.output_len()];
    shape.multiply_add(&mut expected, &session.plain, &session.encrypted);
    for reply in 0..session.packing.replies() {
        let places = session.packing.output_places(reply);
        let exponents: Vec<usize> = places.iter().map(|place| place.exponent).collect();
        let sums = evaluation.product(reply, &session.requests);
        for (place, number) in places.iter().zip(opened(&session.key, &sums, &exponents)) {
            plain.push(noise(number, expected[place.word], LIMBS));
        }
        let mut share = vec![0; expected.len()];
        let bytes = evaluation.reply(reply, &session.requests, &session.public, &mut prg, &mut share);
        let Digits { low, high } = session.key.decrypt(&exponents, &bytes).unwrap();
        for (place, (low, high)) in places.iter().zip(low.into_iter().zip(high)) {
            let number = IBig::from(low) + IBig::from(high) * modulus(1);
            flooded.push(noise(number, expected[place.word].wrapping_sub(share[place.word]), REPLY_LIMBS));
        }
    }
    assert_eq!((plain.len(), flooded.len()), (512, 512));
    let dropped: IBig = modulus(LIMBS) / modulus(REPLY_LIMBS);
    let (before, after) = (largest(&plain), largest(&flooded));
    assert!(before <= bound && before > &bound >> 12, "noise {before}, bound {bound}");
    // The flood, scaled; half of what each cut leaves out; rounding.
    let flood: IBig = (IBig::ONE << FLOOD_BITS as usize) / &dropped;
    let linear = IBig::from(DEGREE << (wire::LINEAR_CUT - 1));
    let rounding: IBig = linear + IBig::from(1 << (wire::CONSTANT_CUT - 1)) + IBig::from(4 * DEGREE);
    assert!(after <= &flood + &rounding, "flooded noise {after}");
    assert!(&flood + &rounding < modulus(REPLY_LIMBS) >> 65, "replies open");
    // Before it was scaled, the flooded noise was 2^40 times the largest noise it may hide, for as many
    // coefficients as there are in all products that are allowed.
    assert!(&after * IBig::from(2) > flood);
    let life = IBig::from(session.packing.products_max()) * IBig::from(expected.len());
    let hidden: IBig = (&bound * life) << STATISTICAL_BITS as usize;
    assert!(hidden <= IBig::ONE << (FLOOD_BITS as usize + 1), "the flood covers the life of the tensor");
    assert!(&after * &dropped > before << STATISTICAL_BITS as usize);
    // Evenly spread over the flood's range: no trace of the sign of the noise below.
    let positive = flooded.iter().filter(|value| **value > IBig::ZERO).count();
    let outer = flooded.iter().filter(|value| largest(&[(*value).clone()]) * IBig::from(2) > flood).count();
    assert!(positive.abs_diff(256) < 70 && outer.abs_diff(256) < 70, "{positive} {outer}");
}

#[test]
fn the_modulus_is_within_the_standard() {
    let whole = modulus(LIMBS);
    assert!(whole < IBig::ONE << 218 && whole > IBig::ONE << (FLOOD_BITS as usize + 65));
    assert!(PRIMES.iter().all(|prime| prime.value > 1 << 42));
}

/// Without the encryption of zero, the linear half is the evaluator's tensor times a known polynomial.
#[test]
fn replies_have_a_fresh_linear_half() {
    let session = Session::new(dense(4, 20, 8), Encrypted::Operand);
    let mut evaluation = Evaluation::new(&session.packing, &session.plain);
    let places = session.packing.output_places(0);
    let masks = vec![1; places.len()];
    let mut known = evaluation.product(0, &session.requests);
    known.invert();
    let known = residues::rescale(&mut known.linear);
    let agreeing = |seed: Option<Seed>| {
        let mut sums = Evaluation::new(&session.packing, &session.plain).product(0, &session.requests);
        let mut prg = Prg::new(&Seed::from_bytes([7; 16]));
        if let Some(seed) = seed {
            add_zero(&mut sums, &session.public, &mut Prg::new(&seed));
        }
        let bytes = finish(sums, &places, &masks, &mut prg);
        let [linear, _] = wire::decode_reply(&bytes, places.len()).unwrap();
        let high = linear.high.iter().zip(&known.high).filter(|(a, b)| a == b).count();
        (high, linear.high)
    };
    let (bare, _) = agreeing(None);
    assert!(bare > DEGREE - 10, "the test must see the tensor where it is not hidden: {bare}");
    let ((first, linear), (second, other)) = (agreeing(Some(seed(1))), agreeing(Some(seed(2))));
    assert!(first < 3 && second < 3, "{first} {second}");
    assert!(linear.iter().zip(&other).filter(|(a, b)| a == b).count() < 3);
}

#[test]
fn nothing_secret_is_printed() {
    let session = Session::new(dense(1, 1, 1), Encrypted::Weights);
    assert_eq!(format!("{:?} {:?}", session.key, session.public), "SecretKey(..) PublicKey(..)");
    assert_eq!(format!("{:?}", session.requests), "Requests(1 of 1)");
}
