//! Whole graphs under sharing against the oracle, and the measured cost against the plan.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::evaluate::clear::{Oracle, decision, verdict};
use consilium_protocol::evaluate::shared::{
    EvaluationError, GateError, Question, answer, answer_together, cost_together, together_max,
};
use consilium_protocol::graph::{Layer, Network, Numbers, ReleaseShape, Shape, Threshold, Window};
use consilium_protocol::model::fixed::FixedWeights;
use consilium_protocol::model::{Model, Weights};
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::online::release::answers;
use consilium_protocol::party::Party;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::{Gadget, Provision};
use consilium_protocol::testing::{Seat, TestTask, pair, run_now};
use consilium_protocol::wire::HEADER_BYTES;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };

fn random_model(input: Shape, layers: &[Layer], rng: &mut StdRng) -> Model {
    let network = Network::new(input, layers.to_vec()).unwrap();
    let mut weights = Vec::new();
    for (index, layer) in layers.iter().enumerate().filter(|(_, layer)| layer.is_linear()) {
        let (weight, bias) = layer.parameters(network.shape_before(index));
        let spread = (3.0 * bias as f32 / weight as f32).sqrt();
        let mut draw = |count: usize, spread: f32| -> Vec<f32> {
            (0..count).map(|_| rng.random_range(-spread..spread)).collect()
        };
        weights.push(Weights { weight: draw(weight, spread), bias: draw(bias, 0.1) });
    }
    Model::new(network, weights).unwrap()
}

fn random_query(input: Shape, rng: &mut StdRng) -> Vec<u64> {
    (0..input.len()).map(|_| (rng.random_range(-1.0f64..1.0) * 65536.0).round() as i64 as u64).collect()
}

const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

/// Asks `batches` batches with each gadget and returns how many labels of the worse one were certain; all
/// of these must agree.
fn check(input: Shape, architectures: &[&[Layer]], batch: usize, batches: usize, seed: u64) -> usize {
    let certain = GADGETS.map(|gadget| check_with(gadget, input, architectures, (batch, batches), seed));
    certain.into_iter().min().unwrap()
}

fn check_with(
    gadget: Gadget,
    input: Shape,
    architectures: &[&[Layer]],
    (batch, batches): (usize, usize),
    seed: u64,
) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let models: Vec<Model> =
        architectures.iter().map(|layers| random_model(input, layers, &mut rng)).collect();
    let classes = models[0].network().output().len();
    let mut task = TestTask::new(&models, NUMBERS, batch, EXACT, gadget, seed).unwrap();
    let oracles: Vec<Oracle> = models.into_iter().map(|model| Oracle::new(model, NUMBERS).unwrap()).collect();
    if gadget != Gadget::Keys {
        // The first half is made by the two parties themselves.
        task.make_pairwise(Extension::Iknp, batches / 2).unwrap();
    }
    let mut certain = 0;
    for _ in 0..batches {
        let queries: Vec<Vec<u64>> = (0..batch).map(|_| random_query(input, &mut rng)).collect();
        let (labels, meter, _) = task.ask(&queries, [&[], &[]]).unwrap();
        let cost = task.plan().cost();
        assert_eq!((meter.rounds, meter.bytes), (cost.rounds, cost.bytes), "the plan states the true cost");
        for (query, label) in queries.iter().zip(labels) {
            let votes: Vec<_> = oracles.iter().map(|oracle| oracle.vote(query)).collect();
            let verdict = verdict(&votes, classes);
            if verdict.certain {
                assert_eq!(label, verdict.label, "seed {seed}, {gadget:?}");
                certain += 1;
            }
        }
    }
    certain
}

const fn dense(outputs: u32) -> Layer {
    Layer::Dense { outputs }
}

const fn conv(outputs: u32, kernel: u32, stride: u32, padding: u32) -> Layer {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4] };
    Layer::Conv { outputs, window }
}

const fn image(channels: u32, side: u32) -> Shape {
    Shape { channels, height: side, width: side }
}

#[test]
fn dense_networks_agree() {
    let layers: &[Layer] = &[dense(16), Layer::Relu, dense(8), Layer::Relu, dense(2)];
    assert!(check(Shape::vector(12), &[layers; 3], 1, 100, 1) > 95);
}

#[test]
fn batches_agree() {
    let layers: &[Layer] = &[dense(16), Layer::Relu, dense(5)];
    assert!(check(Shape::vector(9), &[layers; 2], 7, 20, 2) > 130);
}

#[test]
fn convolutions_and_pools_agree() {
    let layers: &[Layer] = &[
        conv(3, 3, 1, 1),
        Layer::Relu,
        Layer::MaxPool { window: Window::plain(2, 2) },
        conv(4, 3, 1, 0),
        Layer::Relu,
        Layer::AveragePool { window: Window::plain(2, 1) },
        dense(4),
    ];
    assert!(check(image(2, 9), &[layers; 2], 2, 20, 3) > 36);
}

#[test]
fn odd_averages_and_windows_agree() {
    let layers: &[Layer] = &[
        conv(2, 2, 2, 0),
        Layer::AveragePool { window: Window::plain(3, 2) },
        Layer::Square,
        Layer::MaxPool { window: Window::plain(3, 1) },
        dense(3),
    ];
    assert!(check(image(1, 15), &[layers], 3, 20, 4) > 55);
}

#[test]
fn squares_agree() {
    let layers: &[Layer] = &[dense(10), Layer::Square, dense(10), Layer::Square, dense(3)];
    assert!(check(Shape::vector(6), &[layers; 2], 2, 25, 5) > 45);
}

#[test]
fn different_architectures_run_in_lock_step() {
    let architectures: [&[Layer]; 4] = [
        &[dense(3)],
        &[dense(8), Layer::Relu, dense(3)],
        &[dense(6), Layer::Square, dense(6), Layer::Relu, dense(3)],
        &[Layer::Relu, dense(3)],
    ];
    assert!(check(Shape::vector(10), &architectures, 2, 25, 6) > 45);
}

#[test]
fn many_classes_agree() {
    for (classes, seed) in [(2, 7), (10, 8), (16, 9), (26, 10), (64, 11)] {
        let layers: &[Layer] = &[dense(classes)];
        assert!(check(Shape::vector(8), &[layers; 3], 2, 5, seed) >= 6, "{classes} classes");
    }
}

#[test]
fn any_weights_cast_exactly_one_vote() {
    let mut rng = StdRng::seed_from_u64(12);
    let architectures: [&[Layer]; 3] = [
        &[dense(5)],
        &[dense(8), Layer::Relu, dense(5), Layer::Square],
        &[conv(3, 3, 1, 1), Layer::MaxPool { window: Window::plain(2, 2) }, Layer::Relu, dense(5)],
    ];
    let input = image(1, 4);
    for round in 0..20 {
        let models: Vec<Model> =
            architectures.iter().map(|layers| random_model(input, layers, &mut rng)).collect();
        let garbage = |model: &Model| -> Vec<FixedWeights> {
            let layers = model.weights().iter().map(|entry| (entry.weight.len(), entry.bias.len()));
            let mut rng = StdRng::seed_from_u64(round);
            // Whole words, and words whose products sit at the edge of the bounds.
            let shift = [0, 1, 20, 36][round as usize % 4];
            let mut draw = |count: usize| (0..count).map(|_| rng.random::<u64>() >> shift).collect();
            layers.map(|(weight, bias)| FixedWeights { weight: draw(weight), bias: draw(bias) }).collect()
        };
        let weights: Vec<Vec<FixedWeights>> = models.iter().map(garbage).collect();
        let batch = 7;
        let gadget = GADGETS[round as usize / 4 % 3];
        let mut task = TestTask::with_weights(&models, &weights, NUMBERS, batch, (EXACT, gadget), round);
        // Garbage queries too: a client may share anything.
        let queries: Vec<Vec<u64>> =
            (0..batch).map(|_| (0..input.len()).map(|_| rng.random()).collect()).collect();
        for inside in task.inside(&queries).unwrap() {
            assert!(inside.votes.iter().all(|vote| *vote <= 1), "round {round}: {:?}", inside.votes);
            for query in 0..batch {
                let sum: u64 = inside.votes.iter().skip(query).step_by(batch).sum();
                assert_eq!(sum, 1, "round {round}, query {query}");
            }
        }
        let (labels, ..) = task.ask(&queries, [&[], &[]]).unwrap();
        assert!(labels.iter().all(|label| *label < 5));
    }
}

#[test]
fn ties_between_votes_and_logits_go_to_the_lowest_class() {
    let input = Shape::vector(2);
    let network = Network::new(input, vec![dense(4)]).unwrap();
    let model = |bias: [f32; 4]| {
        Model::new(network.clone(), vec![Weights { weight: vec![0.0; 8], bias: bias.to_vec() }]).unwrap()
    };
    let equal = model([0.5; 4]);
    let [first, second, third] = [0, 2, 3].map(|class| {
        let mut bias = [-1.0; 4];
        bias[class] = 1.0;
        model(bias)
    });
    for (models, label) in [
        (vec![equal.clone()], 0),
        (vec![third.clone(), second.clone()], 2),
        (vec![third.clone(), second.clone(), third.clone()], 3),
        (vec![third.clone(), first.clone(), third.clone(), equal], 0),
        (vec![third, second, first], 0),
    ] {
        for gadget in GADGETS {
            let mut task = TestTask::new(&models, NUMBERS, 1, EXACT, gadget, 13).unwrap();
            let (labels, ..) = task.ask(&[vec![0; 2]], [&[], &[]]).unwrap();
            assert_eq!(labels, [label]);
        }
    }
}

/// Models that vote as they are told, whatever they are asked: `votes[c]` of them for class `c`.
fn voters(votes: &[usize]) -> Vec<Model> {
    let network = Network::new(Shape::vector(1), vec![dense(votes.len() as u32)]).unwrap();
    let voter = |class: usize| {
        let bias = (0..votes.len()).map(|other| if other == class { 1.0 } else { 0.0 }).collect();
        Model::new(network.clone(), vec![Weights { weight: vec![0.0; votes.len()], bias }]).unwrap()
    };
    votes.iter().enumerate().flat_map(|(class, votes)| vec![voter(class); *votes]).collect()
}

/// Each attempt ends as the votes and the noise say, and costs what the plan says. Votes and noise are small,
/// so that noisy counts often tie and the threshold is often just reached or just missed.
#[test]
fn attempts_end_as_votes_and_noise_say() {
    const MAGNITUDE: i64 = 2;
    let (batch, mut rng) = (20, StdRng::seed_from_u64(16));
    let (mut told, mut withheld, mut ties) = (0, 0, 0);
    let sparse = |classes: usize| -> Vec<usize> {
        (0..classes).map(|class| usize::from(class % 9 == 4) * 2).collect()
    };
    let tasks: [(Vec<usize>, u64); 8] = [
        (vec![3, 2], 3),
        (vec![1, 3, 3], 4),
        (vec![2, 2, 2, 2], 3),
        (vec![2, 0, 3, 3, 1], 4),
        (vec![1, 1, 1, 1, 1, 2], 2),
        (sparse(10), 2),
        (sparse(12), 3),
        (sparse(40), 2),
    ];
    for ((votes, needed), gadget) in tasks.iter().flat_map(|task| GADGETS.map(|gadget| (task, gadget))) {
        let classes = votes.len();
        let counts: Vec<i64> = votes.iter().map(|votes| *votes as i64).collect();
        let magnitude = MAGNITUDE as u64;
        let threshold = Some(Threshold { votes: *needed, noise_magnitude_max: magnitude });
        let release = ReleaseShape { noise_magnitude_max: magnitude, threshold };
        let mut task = TestTask::new(&voters(votes), NUMBERS, batch, release, gadget, 16).unwrap();
        if gadget != Gadget::Keys && classes <= 12 {
            task.make_pairwise(Extension::Iknp, 1).unwrap();
        }
        for _ in 0..2 {
            let words = task.plan().release().noise_words();
            let mut draw =
                || -> Vec<i64> { (0..words).map(|_| rng.random_range(-MAGNITUDE..=MAGNITUDE)).collect() };
            let noise = [draw(), draw()];
            let own = noise.each_ref().map(|noise| noise.iter().map(|x| *x as u64).collect::<Vec<_>>());
            let (answers, meter, _) = task.attempt(&vec![vec![0]; batch], [&own[0], &own[1]]).unwrap();
            let cost = task.plan().cost();
            assert_eq!(
                (meter.rounds, meter.bytes),
                (cost.rounds, cost.bytes),
                "the plan states the true cost"
            );
            for (query, answer) in answers.into_iter().enumerate() {
                let sum = |class: usize| noise.iter().map(|noise| noise[class * batch + query]).sum::<i64>();
                let on_counts: Vec<i64> = (0..classes).map(sum).collect();
                let due = decision(&counts, &on_counts, Some((*needed as i64, sum(classes))));
                assert_eq!(answer, due, "{counts:?} and {on_counts:?}, {gadget:?}");
                let noisy = |class: usize| counts[class] + on_counts[class];
                let best = (0..classes).map(noisy).max().unwrap();
                ties += u32::from((0..classes).filter(|class| noisy(*class) == best).count() > 1);
                *(if due.is_some() { &mut told } else { &mut withheld }) += 1;
            }
        }
    }
    assert!(told > 200 && withheld > 200 && ties > 200, "{told} {withheld} {ties}");
}

/// A release with a threshold does not run without its noise, or with that of a plain release.
#[test]
fn an_attempt_without_its_noise_is_refused() {
    let threshold = Some(Threshold { votes: 2, noise_magnitude_max: 9 });
    let release = ReleaseShape { noise_magnitude_max: 9, threshold };
    let mut task = TestTask::new(&voters(&[1, 2, 0]), NUMBERS, 1, release, Gadget::Digits, 17).unwrap();
    for found in [0, 3] {
        let bundles = task.bundle().unwrap();
        let outcomes = task.seat(&[vec![0]], bundles, |seat| {
            let Seat { mut computation, plan, models, input, provisions } = seat;
            run_now(answer(&mut computation, plan, &models, input, provisions, &vec![0; found]))
        });
        for outcome in outcomes {
            let Err(EvaluationError::Gate(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(error, GateError::Length { what: "the noise", expected: 4, found });
        }
    }
}

/// Questions of one plan that share rounds and frames are answered as each alone is, noise included, and
/// cost the rounds of one.
#[test]
fn questions_together_are_answered_as_alone() {
    are_answered_as_alone(None);
    are_answered_as_alone(Some(Threshold { votes: 3, noise_magnitude_max: 40 }));
}

fn are_answered_as_alone(threshold: Option<Threshold>) {
    let mut rng = StdRng::seed_from_u64(14);
    let input = Shape::vector(7);
    let architectures: [&[Layer]; 2] = [&[dense(9), Layer::Relu, dense(4)], &[dense(4)]];
    let models: Vec<Model> =
        architectures.iter().map(|layers| random_model(input, layers, &mut rng)).collect();
    let (batch, release) = (3, ReleaseShape { noise_magnitude_max: 40, threshold });
    let mut task = TestTask::new(&models, NUMBERS, batch, release, Gadget::Digits, 14).unwrap();
    let words = task.plan().release().noise_words();
    for count in [1, 2, 5] {
        let questions: Vec<Vec<Vec<u64>>> =
            (0..count).map(|_| (0..batch).map(|_| random_query(input, &mut rng)).collect()).collect();
        let noises: Vec<[Vec<u64>; 2]> = (0..count)
            .map(|_| [(); 2].map(|()| (0..words).map(|_| rng.random_range(-40..40i64) as u64).collect()))
            .collect();
        let alone: Vec<Vec<Option<usize>>> = questions
            .iter()
            .zip(&noises)
            .map(|(queries, [zero, one])| task.attempt(queries, [zero, one]).unwrap().0)
            .collect();
        let bundles: Vec<[Vec<Provision>; 2]> = (0..count).map(|_| task.bundle().unwrap()).collect();
        let shares: Vec<[Additive; 2]> = questions.iter().map(|queries| task.input(queries)).collect();
        let mut brought: [Vec<Question>; 2] = Default::default();
        for ((provisions, shares), noises) in bundles.into_iter().zip(shares).zip(noises) {
            let parts = provisions.into_iter().zip(shares).zip(noises);
            for (side, ((provisions, input), noise)) in brought.iter_mut().zip(parts) {
                side.push(Question { input, provisions, noise: noise.into() });
            }
        }
        let brought = std::sync::Mutex::new(brought);
        let [(zero, meter), (one, _)] = pair(|mut computation| {
            let party = computation.party();
            let own = std::mem::take(&mut brought.lock().unwrap()[usize::from(party == Party::One)]);
            let models = task.models(party);
            let shares = run_now(answer_together(&mut computation, task.plan(), &models, own)).unwrap();
            (shares, computation.meter())
        });
        let shares = zero.iter().zip(&one);
        let together: Vec<Vec<Option<usize>>> =
            shares.map(|(zero, one)| answers([zero, one], 4, batch, threshold.is_some())).collect();
        assert_eq!(together, alone, "{count} together");
        let (one, all) = (task.plan().cost(), cost_together(task.plan(), count));
        assert_eq!((meter.rounds, meter.bytes), (all.rounds, all.bytes));
        assert_eq!(all.rounds, one.rounds);
        let headers = u64::from(one.rounds) * HEADER_BYTES as u64;
        assert_eq!(all.bytes - headers, count as u64 * (one.bytes - headers));
    }
}

#[test]
fn frames_bound_how_many_questions_share_them() {
    let mut rng = StdRng::seed_from_u64(15);
    let model = random_model(Shape::vector(7), &[dense(3)], &mut rng);
    let task = TestTask::new(&[model], NUMBERS, 1, EXACT, Gadget::Digits, 15).unwrap();
    let openings = task.plan().openings();
    let largest: usize = openings.iter().map(|round| round.iter().map(|o| o.bytes()).sum()).max().unwrap();
    assert_eq!(together_max(task.plan(), 0), 1);
    for count in [1, 2, 9] {
        assert_eq!(together_max(task.plan(), HEADER_BYTES + count * largest), count);
        assert_eq!(together_max(task.plan(), HEADER_BYTES + (count + 1) * largest - 1), count);
    }
    assert!(together_max(task.plan(), usize::MAX) < usize::MAX / largest);
}
