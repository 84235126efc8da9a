//! One-class tasks under sharing against the oracle, the measured cost against the plan, and what a plan refuses.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::evaluate::clear::{DistanceOracle, decision, nearest};
use consilium_protocol::evaluate::float;
use consilium_protocol::evaluate::shared::{EvaluationError, GateError, answer};
use consilium_protocol::graph::{
    Layer, Measure, MeasureError, Network, Numbers, OneClassShape, Plan, PlanError, ProgramError,
    ReleaseShape, Shape, Slope, Threshold, USERS_MAX, Window,
};
use consilium_protocol::model::fixed::{FixedError, prove_one_class};
use consilium_protocol::model::{Model, OneClass, Projection, Weights};
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::{Seat, TestTask, run_now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];
const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };
const IMAGE: Shape = Shape { channels: 2, height: 4, width: 4 };

fn shape(input: Shape) -> OneClassShape {
    OneClassShape { input, numbers: NUMBERS, distance_bits: 20 }
}

fn encode(values: &[f32]) -> Vec<u64> {
    values.iter().map(|value| (f64::from(*value) * 65536.0).round() as i64 as u64).collect()
}

/// Values that 16 bits after the point hold exactly.
fn random_values(count: usize, spread: f32, rng: &mut StdRng) -> Vec<f32> {
    (0..count).map(|_| (rng.random_range(-spread..spread) * 65536.0).round() / 65536.0).collect()
}

/// Orthonormal rows by Gram and Schmidt.
fn random_projection(input: Shape, rank: usize, threshold: f64, rng: &mut StdRng) -> OneClass {
    let values = input.len();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    while rows.len() < rank {
        let mut row: Vec<f64> = (0..values).map(|_| rng.random_range(-1.0..1.0)).collect();
        for other in &rows {
            let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
        }
        let length = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        rows.push(row.iter().map(|a| a / length).collect());
    }
    let rows = rows.into_iter().flatten().map(|value| value as f32).collect();
    let mean = random_values(values, 0.5, rng);
    OneClass::projection(input, Projection { mean, rows }, threshold).unwrap()
}

fn random_network(input: Shape, layers: Vec<Layer>, rng: &mut StdRng) -> Model {
    let network = Network::new(input, layers).unwrap();
    let mut weights = Vec::new();
    for (index, layer) in network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
        let (weight, bias) = layer.parameters(network.shape_before(index));
        let spread = (3.0 * bias as f32 / weight as f32).sqrt();
        let mut draw =
            |count: usize, spread: f32| (0..count).map(|_| rng.random_range(-spread..spread)).collect();
        weights.push(Weights { weight: draw(weight, spread), bias: draw(bias, 0.1) });
    }
    Model::new(network, weights).unwrap()
}

/// Two down, one up, as the convolutional reconstructor has them.
fn random_reconstructor(threshold: f64, rng: &mut StdRng) -> OneClass {
    let leaky = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
    let down = Window { kernel: [4, 4], stride: [2, 2], padding: [1; 4] };
    let same = Window { kernel: [3, 3], stride: [1, 1], padding: [1; 4] };
    let layers = vec![
        Layer::Conv { outputs: 4, window: down },
        leaky,
        Layer::Conv { outputs: 8, window: same },
        Layer::PixelShuffle { block: 2 },
        Layer::HardTanh,
    ];
    OneClass::reconstruction(random_network(IMAGE, layers, rng), threshold).unwrap()
}

/// Asks `batches` batches and returns how many answers were certain, and how many of them named somebody and nobody.
fn check(models: &[OneClass], (batch, batches): (usize, usize), gadget: Gadget, seed: u64) -> [usize; 3] {
    let mut rng = StdRng::seed_from_u64(seed);
    let input = models[0].measure().input();
    let mut task = TestTask::one_class(models, shape(input), batch, EXACT, gadget, seed).unwrap();
    let oracles: Vec<DistanceOracle> =
        models.iter().map(|model| DistanceOracle::new(model.clone(), shape(input)).unwrap()).collect();
    if gadget != Gadget::Keys {
        // The first half is made by the two parties themselves.
        task.make_pairwise(Extension::Iknp, batches / 2).unwrap();
    }
    let mut found = [0; 3];
    for _ in 0..batches {
        let queries: Vec<Vec<u64>> =
            (0..batch).map(|_| encode(&random_values(input.len(), 1.0, &mut rng))).collect();
        let (labels, meter, _) = task.ask(&queries, [&[], &[]]).unwrap();
        let cost = task.plan().cost();
        assert_eq!((meter.rounds, meter.bytes), (cost.rounds, cost.bytes), "the plan states the true cost");
        for (query, label) in queries.iter().zip(labels) {
            let distances: Vec<_> = oracles.iter().map(|oracle| oracle.measure(query)).collect();
            let right = nearest(&distances);
            if right.certain {
                assert_eq!(label, right.user.unwrap_or(models.len()), "seed {seed}, {gadget:?}");
                found[0] += 1;
                found[if right.user.is_some() { 1 } else { 2 }] += 1;
            }
        }
    }
    found
}

#[test]
fn projections_agree() {
    let mut rng = StdRng::seed_from_u64(1);
    for (users, rank) in [(1, 1), (2, 3), (3, 20), (10, 5), (12, 2)] {
        let models: Vec<OneClass> =
            (0..users).map(|_| random_projection(IMAGE, rank, 11.0 - rank as f64 / 3.0, &mut rng)).collect();
        for gadget in GADGETS {
            let [certain, somebody, nobody] = check(&models, (3, 8), gadget, 2);
            assert!(
                certain >= 22 && somebody > 0,
                "{users} users of rank {rank}: {certain}, {somebody}, {nobody}"
            );
        }
    }
}

#[test]
fn reconstructors_and_projections_agree_side_by_side() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut models: Vec<OneClass> = (0..3).map(|_| random_reconstructor(14.0, &mut rng)).collect();
    models.push(random_projection(IMAGE, 6, 10.5, &mut rng));
    let dense = vec![Layer::Dense { outputs: 5 }, Layer::Relu, Layer::Dense { outputs: 32 }];
    models.push(OneClass::reconstruction(random_network(IMAGE, dense, &mut rng), 20.0).unwrap());
    for gadget in GADGETS {
        let [certain, somebody, nobody] = check(&models, (2, 20), gadget, 4);
        assert!(certain >= 38 && somebody > 0 && nobody > 0, "{certain}, {somebody}, {nobody}, {gadget:?}");
    }
}

/// Distances stay within the bound of the oracle, which uses up most of it, and near those in floating point.
#[test]
fn shared_distances_stay_within_the_bound_of_the_oracle() {
    let mut rng = StdRng::seed_from_u64(5);
    let (mut moved, mut closest) = (0, 0.0f64);
    for round in 0..150 {
        let rank = rng.random_range(1..4);
        let models = [random_projection(IMAGE, rank, 9.0, &mut rng), random_reconstructor(9.0, &mut rng)];
        let gadget = GADGETS[round as usize % 3];
        let mut task = TestTask::one_class(&models, shape(IMAGE), 1, EXACT, gadget, round).unwrap();
        let values = random_values(IMAGE.len(), 1.0, &mut rng);
        let query = encode(&values);
        let inside = task.inside(std::slice::from_ref(&query)).unwrap();
        for (model, inside) in models.into_iter().zip(inside) {
            let plain = float::distance(&model, &values);
            let oracle = DistanceOracle::new(model, shape(IMAGE)).unwrap().measure(&query);
            let found = inside.logits[0] as i64;
            let apart = found.wrapping_sub(oracle.word).unsigned_abs() as f64;
            assert!(apart <= oracle.error, "{apart} past {}, round {round}, {gadget:?}", oracle.error);
            assert!((found as f64 / 2f64.powi(32) - plain).abs() < 5e-3, "{found} for {plain}");
            moved += u32::from(apart > 0.0);
            closest = closest.max(apart / oracle.error);
        }
    }
    assert!(moved > 100 && closest > 0.5, "{moved} distances moved, {closest} of the bound used");
}

/// A model that gives back `offset` more than it was shown, whatever that is: at distance `16 offset^2`.
fn off_by(offset: f32, threshold: f64) -> OneClass {
    let values = 16;
    let identity = (0..values * values).map(|at| if at % (values + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let network = Network::new(Shape::vector(16), vec![Layer::Dense { outputs: 16 }]).unwrap();
    let weights = Weights { weight: identity, bias: vec![offset; values] };
    OneClass::reconstruction(Model::new(network, vec![weights]).unwrap(), threshold).unwrap()
}

#[test]
fn ties_strangers_and_thresholds_at_the_distance() {
    // A truncation may lift an output by a unit: thresholds of those distances are exact only in halves of it.
    let slack = 1e-3;
    let far = off_by(4.0, 1e4);
    for (models, expected) in [
        (vec![off_by(1.0, 16.0 + slack)], Some(0)),
        (vec![off_by(1.0, 16.0 - slack)], None),
        (vec![far.clone(), off_by(1.0, 17.0)], Some(1)),
        // The nearest refuses: nobody else is asked, even if it would accept.
        (vec![far.clone(), off_by(1.0, 15.0)], None),
        (vec![off_by(0.5, 3.0), far.clone(), off_by(1.0, 15.0), off_by(2.0, 60.0)], None),
        (vec![far; 5], Some(9)),
    ] {
        for gadget in GADGETS {
            let users = models.len();
            let input = Shape::vector(16);
            let mut task = TestTask::one_class(&models, shape(input), 1, EXACT, gadget, 6).unwrap();
            let (labels, ..) = task.ask(&[vec![1 << 15; 16]], [&[], &[]]).unwrap();
            match expected {
                // Five alike: roundings choose among them.
                Some(9) => assert!(labels[0] < users),
                Some(user) => assert_eq!(labels, [user], "{users} users, {gadget:?}"),
                None => assert_eq!(labels, [users], "{users} users, {gadget:?}"),
            }
        }
    }
}

/// Without a fraction nothing is rounded, so that equal distances are equal words.
#[test]
fn exact_ties_go_to_the_first() {
    let numbers = Numbers { fraction_bits: 0, value_bits: 12 };
    let shape = OneClassShape { input: Shape::vector(16), numbers, distance_bits: 20 };
    let [near, far] = [off_by(1.0, 16.0), off_by(2.0, 64.0)];
    for (models, expected) in [
        (vec![near.clone(), near.clone()], 0),
        (vec![far.clone(), near.clone(), near.clone()], 1),
        (vec![far.clone(), far, near.clone(), off_by(1.0, 1e3), near], 2),
        (vec![off_by(1.0, 15.0), off_by(1.0, 16.0)], 2),
    ] {
        for gadget in GADGETS {
            let mut task = TestTask::one_class(&models, shape, 2, EXACT, gadget, 7).unwrap();
            let (labels, ..) = task.ask(&[vec![3; 16], vec![0; 16]], [&[], &[]]).unwrap();
            assert_eq!(labels, [expected; 2], "{gadget:?}");
        }
    }
}

/// With noise the answer is that of the noisy counts of all users and of nobody.
#[test]
fn noisy_answers_count_one_for_a_user_or_nobody() {
    let (batch, magnitude) = (12, 2i64);
    let release = ReleaseShape { noise_magnitude_max: magnitude as u64, threshold: None };
    let mut rng = StdRng::seed_from_u64(8);
    let mut seen = [0; 2];
    for (users, truth) in [(1, 0), (1, 1), (2, 1), (4, 4), (11, 3)] {
        let model = |user: usize| off_by(if user == truth { 1.0 } else { 3.0 }, 17.0);
        let models: Vec<OneClass> = (0..users).map(model).collect();
        for gadget in GADGETS {
            let shape = shape(Shape::vector(16));
            let mut task = TestTask::one_class(&models, shape, batch, release, gadget, 9).unwrap();
            assert_eq!(task.plan().release().noise_words(), (users + 1) * batch);
            let mut draw = || -> Vec<i64> {
                (0..(users + 1) * batch).map(|_| rng.random_range(-magnitude..=magnitude)).collect()
            };
            let noise = [draw(), draw()];
            let own = noise.each_ref().map(|noise| noise.iter().map(|x| *x as u64).collect::<Vec<_>>());
            let (labels, meter, _) = task.ask(&vec![vec![0; 16]; batch], [&own[0], &own[1]]).unwrap();
            let cost = task.plan().cost();
            assert_eq!((meter.rounds, meter.bytes), (cost.rounds, cost.bytes));
            let counts: Vec<i64> = (0..=users).map(|user| i64::from(user == truth.min(users))).collect();
            for (query, label) in labels.into_iter().enumerate() {
                let sum = |class: usize| noise.iter().map(|noise| noise[class * batch + query]).sum();
                let due = decision(&counts, &(0..=users).map(sum).collect::<Vec<_>>(), None);
                assert_eq!(Some(label), due, "{users} users, {gadget:?}");
                seen[usize::from(label == truth.min(users))] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn an_exact_release_takes_no_noise() {
    let task =
        TestTask::one_class(&[off_by(1.0, 17.0)], shape(Shape::vector(16)), 1, EXACT, Gadget::Digits, 10);
    let mut task = task.unwrap();
    let bundles = task.bundle().unwrap();
    let outcomes = task.seat(&[vec![0; 16]], bundles, |seat| {
        let Seat { mut computation, plan, models, input, provisions } = seat;
        run_now(answer(&mut computation, plan, &models, input, provisions, &[0, 0]))
    });
    for outcome in outcomes {
        let Err(EvaluationError::Gate(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error, GateError::Length { what: "the noise of an exact release", expected: 0, found: 2 });
    }
}

/// 28 x 28 pixels, rank 25: what the plan of ten and of 33 users costs.
#[test]
fn rounds_do_not_depend_on_users_but_for_the_argmin() {
    let input = Shape { channels: 1, height: 28, width: 28 };
    let plan = |users, gadget| {
        let measure = Measure::Projection { input, rank: 25 };
        Plan::one_class(&vec![measure; users], shape(input), 1, gadget, EXACT).unwrap()
    };
    for (gadget, rounds) in GADGETS.into_iter().zip([[5, 6, 7], [6, 8, 9], [4, 5, 5]]) {
        let found = [1, 9, 33].map(|users| plan(users, gadget).cost().rounds as usize);
        assert_eq!(found, rounds, "{gadget:?}");
        for users in [1, 9, 33] {
            let plan = plan(users, gadget);
            // Input, truncation, squares: the same for all.
            assert_eq!(plan.cost().rounds as usize - plan.closing_rounds(), 3);
        }
        let [ten, many] = [10, 33].map(|users| plan(users, gadget).cost().bytes);
        assert!(ten < 12_000 && 2 * many <= 7 * ten, "{ten} and {many} bytes, {gadget:?}");
    }
}

/// The paper's reconstructor on 32 x 32 x 3, with its norms folded, upsampling as shuffles of four times the outputs
/// and a hard tanh: what the plan of ten users costs.
#[test]
fn the_papers_reconstructor_has_a_plan() {
    let input = Shape { channels: 3, height: 32, width: 32 };
    let leaky = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
    let down = Window { kernel: [4, 4], stride: [2, 2], padding: [1; 4] };
    let same = Window { kernel: [3, 3], stride: [1, 1], padding: [1; 4] };
    let mut layers = Vec::new();
    for outputs in [32, 64, 128, 128, 256] {
        layers.extend([Layer::Conv { outputs, window: down }, leaky]);
    }
    for outputs in [256, 256, 256, 128, 64] {
        let conv = Layer::Conv { outputs: 4 * outputs, window: same };
        layers.extend([conv, Layer::PixelShuffle { block: 2 }, Layer::Relu]);
    }
    let last = Window { kernel: [4, 4], stride: [1, 1], padding: [1, 1, 2, 2] };
    layers.extend([Layer::Conv { outputs: 3, window: last }, Layer::HardTanh]);
    let measure = Measure::Reconstruction(Network::new(input, layers).unwrap());
    for gadget in GADGETS {
        let plan = |users| Plan::one_class(&vec![measure.clone(); users], shape(input), 1, gadget, EXACT);
        let one = plan(1).unwrap().cost();
        let ten = plan(10).unwrap().cost();
        assert!(ten.bytes < 10 * one.bytes && ten.rounds <= one.rounds + 3, "{one:?} {ten:?}");
    }
}

#[test]
fn what_makes_no_plan_is_refused() {
    let input = Shape::vector(4);
    let projection = Measure::Projection { input, rank: 2 };
    let compile = |measures: &[Measure], shape, release| {
        Plan::one_class(measures, shape, 1, Gadget::Digits, release).err()
    };
    let refused = |measures: &[Measure]| compile(measures, shape(input), EXACT);
    let users = |count| vec![projection.clone(); count];
    assert_eq!(refused(&users(1)), None);
    assert_eq!(refused(&users(USERS_MAX)), None);
    assert_eq!(refused(&users(0)), Some(PlanError::Users(0)));
    assert_eq!(refused(&users(USERS_MAX + 1)), Some(PlanError::Users(USERS_MAX + 1)));
    let other = Measure::Projection { input: Shape::vector(5), rank: 2 };
    let error = PlanError::Input { model: 1, expected: input, found: Shape::vector(5) };
    assert_eq!(refused(&[projection.clone(), other]), Some(error));

    let of_layers = |layers| Measure::Reconstruction(Network::new(input, layers).unwrap());
    let error = |error| Some(PlanError::Program { model: 0, error });
    let outputs = MeasureError::Outputs { expected: 4, found: 3 };
    let narrow = of_layers(vec![Layer::Dense { outputs: 3 }]);
    assert_eq!(refused(&[narrow]), error(ProgramError::Measure(outputs)));
    let leaky = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
    let leaking = of_layers(vec![Layer::Dense { outputs: 4 }, leaky]);
    assert_eq!(refused(&[leaking]), error(ProgramError::Multiple("the distance".to_owned())));
    let cut = of_layers(vec![leaky, Layer::HardTanh]);
    assert_eq!(refused(&[cut]), error(ProgramError::Multiple("1 (hardtanh)".to_owned())));

    let wide = |distance_bits| compile(&users(2), OneClassShape { distance_bits, ..shape(input) }, EXACT);
    assert_eq!((wide(1), wide(28)), (None, None));
    for distance_bits in [0, 29, u32::MAX] {
        assert_eq!(wide(distance_bits), Some(PlanError::Distance { distance_bits, fraction_bits: 16 }));
    }
    let threshold = Some(Threshold { votes: 1, noise_magnitude_max: 1 });
    let release = ReleaseShape { noise_magnitude_max: 1, threshold };
    assert_eq!(compile(&users(2), shape(input), release), Some(PlanError::Threshold));
}

#[test]
fn everything_public_changes_the_digest() {
    let input = Shape::vector(4);
    let of = |ranks: &[u32], distance_bits, batch, noise_magnitude_max| {
        let measures: Vec<Measure> =
            ranks.iter().map(|rank| Measure::Projection { input, rank: *rank }).collect();
        let shape = OneClassShape { distance_bits, ..shape(input) };
        let release = ReleaseShape { noise_magnitude_max, threshold: None };
        Plan::one_class(&measures, shape, batch, Gadget::Digits, release).unwrap().digest()
    };
    let digests = [
        of(&[2], 20, 1, 0),
        of(&[3], 20, 1, 0),
        of(&[2, 2], 20, 1, 0),
        of(&[2], 21, 1, 0),
        of(&[2], 20, 2, 0),
        of(&[2], 20, 1, 1),
    ];
    assert_eq!(std::collections::BTreeSet::from(digests).len(), digests.len());
    assert_eq!(of(&[2], 20, 1, 0), digests[0]);
}

/// The proof refuses what an allowed input can break, and what it lets pass is right at the ends of all inputs.
#[test]
fn bounds_are_proved_before_anything_is_shared() {
    let input = Shape::vector(16);
    let with = |value_bits, distance_bits| OneClassShape {
        input,
        numbers: Numbers { fraction_bits: 16, value_bits },
        distance_bits,
    };
    // Outputs reach 4 + 1 and lie within 16 (4 + 2 + a unit)^2 = 576 of the input.
    let model = off_by(4.0, 300.0);
    assert_eq!(prove_one_class(&model, with(3, 10), 1.0), Ok(()));
    let refused = |shape, most| prove_one_class(&model, shape, most).unwrap_err();
    assert!(
        matches!(refused(with(3, 9), 1.0), FixedError::Distance { distance_bits: 9, reach } if reach > 575.0)
    );
    assert!(matches!(refused(with(3, 10), 4.0), FixedError::Reach { .. }));
    assert_eq!(refused(with(3, 8), 1.0), FixedError::Threshold { distance_bits: 8 });
    assert!(matches!(refused(with(2, 10), 1.0), FixedError::Weight { value_bits: 2, .. }));

    let mut rng = StdRng::seed_from_u64(11);
    let plane = random_projection(input, 3, 5.0, &mut rng);
    let smallest = (1..28).find(|bits| prove_one_class(&plane, with(8, *bits), 1.0).is_ok()).unwrap();
    assert!((4..10).contains(&smallest), "{smallest} bits for distances of at most {}", 16.0 * 2.25);
    let rejected = prove_one_class(&plane, with(1, 20), 1.0);
    assert!(matches!(rejected, Err(FixedError::Reach { .. })), "{rejected:?}");

    let models = [model, plane];
    let shape = with(8, smallest.max(10));
    for gadget in GADGETS {
        let mut task = TestTask::one_class(&models, shape, 1, EXACT, gadget, 12).unwrap();
        let oracles = models.clone().map(|model| DistanceOracle::new(model, shape).unwrap());
        let mut certain = 0;
        for corner in 0..40u64 {
            let sign = |at: usize| if corner.wrapping_mul(0x9e37_79b9) >> at & 1 == 0 { 1i64 } else { -1 };
            let query: Vec<u64> = (0..16).map(|at| (sign(at) << 16) as u64).collect();
            let right = nearest(&oracles.each_ref().map(|oracle| oracle.measure(&query)));
            let (labels, ..) = task.ask(&[query], [&[], &[]]).unwrap();
            if right.certain {
                assert_eq!(labels, [right.user.unwrap_or(2)], "{corner}, {gadget:?}");
                certain += 1;
            }
        }
        assert!(certain > 20, "{certain} of 40 are certain");
    }
}
