//! No distance, threshold or decision of a user leaves the shares: what both parties send is uniform and independent
//! of the input and of whether a user or nobody is named, and the same inspection finds each of them opened.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::context::{Computation, Context, Lane, Step};
use consilium_protocol::evaluate::shared::{Entered, GateError, answer, enter, outputs};
use consilium_protocol::graph::{
    Closing, Layer, Network, Numbers, OneClassShape, ReleaseShape, Shape, Slope,
};
use consilium_protocol::model::{Model, OneClass, Projection, Weights};
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::online::nearest::{bits, nearest};
use consilium_protocol::online::release::answers;
use consilium_protocol::share::Additive;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::{Finding, MemoryLink, Observed, Place, Seat, TestTask, inspect, run_now};
use consilium_protocol::wire::Opening;
use std::future::Future;
use std::pin::Pin;

const SESSIONS: usize = 400;
const USERS: usize = 2;
const VALUES: u32 = 4;
const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];
const SHAPE: OneClassShape = OneClassShape {
    input: Shape::vector(VALUES),
    numbers: Numbers { fraction_bits: 16, value_bits: 8 },
    distance_bits: 12,
};
/// The first is near what user 0 knows, the second far from everybody's.
const INPUTS: [[f64; 4]; 2] = [[0.9, 0.1, -0.8, 0.5], [-0.9, 0.95, 0.9, -0.9]];
const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };

/// A plane through the first input, and a small reconstructor with every new gate.
fn task(release: ReleaseShape, gadget: Gadget, seed: u64) -> TestTask {
    let projection = Projection { mean: vec![0.9, 0.0, -0.8, 0.5], rows: vec![0.0, 0.6, 0.0, 0.8] };
    let plane = OneClass::projection(SHAPE.input, projection, 0.5).unwrap();
    let leaky = Layer::LeakyRelu { slope: Slope { rise: 1, run: 5 } };
    let layers = vec![Layer::Dense { outputs: 2 }, leaky, Layer::Dense { outputs: 4 }, Layer::HardTanh];
    let weights = vec![
        Weights { weight: vec![0.5, -0.25, 0.75, 0.1, -0.6, 0.3, 0.2, 0.9], bias: vec![0.1, -0.2] },
        Weights { weight: vec![0.5, -0.5, 0.8, 0.3, 0.2, -0.9, 0.4, 0.7], bias: vec![0.0, 0.1, -0.1, 0.2] },
    ];
    let network = Model::new(Network::new(SHAPE.input, layers).unwrap(), weights).unwrap();
    let whole = OneClass::reconstruction(network, 0.75).unwrap();
    TestTask::one_class(&[plane, whole], SHAPE, 1, release, gadget, seed).unwrap()
}

fn encode(input: [f64; 4]) -> Vec<u64> {
    input.iter().map(|value| (value * 65536.0).round() as i64 as u64).collect()
}

/// Sessions on both inputs.
fn record(mut session: impl FnMut(&[Vec<u64>]) -> Observed) -> [Vec<Observed>; 2] {
    INPUTS.map(|input| {
        let queries = [encode(input)];
        (0..SESSIONS).map(|_| session(&queries)).collect()
    })
}

#[test]
fn a_user_and_nobody_look_alike() {
    let noisy = ReleaseShape { noise_magnitude_max: 20, threshold: None };
    for (release, gadget) in
        [EXACT, noisy].into_iter().flat_map(|release| GADGETS.map(|gadget| (release, gadget)))
    {
        let mut task = task(release, gadget, 1);
        let openings = task.plan().openings();
        let noise = [[3, u64::MAX, 0], [1, 2, u64::MAX]];
        let noise = noise.each_ref().map(|noise| if release == EXACT { &[][..] } else { &noise[..] });
        for pairwise in [false, true] {
            // Comparison keys come from a dealer only.
            if pairwise && gadget == Gadget::Keys {
                continue;
            }
            if pairwise {
                task.make_pairwise(Extension::Iknp, 2 * SESSIONS).unwrap();
            }
            let mut named = Vec::new();
            let [first, second] = record(|queries| {
                let (labels, _, sent) = task.ask(queries, noise).unwrap();
                named.extend(labels);
                Observed::of(&sent)
            });
            if release == EXACT {
                assert!(named[..SESSIONS].iter().all(|label| *label == 0), "user 0 is named");
                assert!(named[SESSIONS..].iter().all(|label| *label == USERS), "nobody is named");
            }
            assert_eq!(inspect(&openings, [&first, &second]), Ok(()), "{gadget:?}, pairwise: {pairwise}");
        }
    }
}

/// What a faulty party opens that it should not.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Distance,
    Threshold,
    Decision,
}

type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, GateError>> + Send + 'a>>;

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A whole evaluation with a fault at its end.
fn evaluate(seat: Seat<'_>, fault: Fault) -> Computation<MemoryLink> {
    let Seat { mut computation, plan, models, input, provisions } = seat;
    let party = computation.party();
    let mut provisions = provisions.into_iter();
    let (stock, share) = (provisions.next().unwrap(), &*input);
    let last = provisions.next_back().unwrap();
    let open = |lane: Lane| -> Running<'_, (Vec<u64>, Additive)> {
        Box::pin(async move { enter(&mut Context::new(party, lane, stock), plan, share).await })
    };
    let (opened, norm) = &run_now(computation.run(vec![open])).unwrap().swap_remove(0);
    let entered = Entered { opened, share, norm };
    let lanes = plan.programs().iter().zip(&models).zip(provisions).map(|((program, model), stock)| {
        move |lane: Lane| -> Running<'_, Additive> {
            Box::pin(
                async move { outputs(&mut Context::new(party, lane, stock), program, model, entered).await },
            )
        }
    });
    let distances = run_now(computation.run(lanes.collect())).unwrap();
    let distances: Vec<u64> = distances.iter().flat_map(|share| share.to_vec()).collect();
    let of_user = plan.programs().iter().zip(&models);
    let thresholds: Vec<u64> = of_user.map(|(program, model)| model.threshold(program).unwrap()).collect();
    let Closing::Nearest { shape, .. } = plan.closing() else { panic!("another task") };
    let close = |lane: Lane| -> Running<'_, ()> {
        Box::pin(async move {
            let mut context = Context::new(party, lane, last);
            let decision = nearest(&mut context, &distances, &thresholds, shape).await?;
            let opened = match fault {
                Fault::None => return Ok(()),
                Fault::Distance => bytes(&distances),
                Fault::Threshold => bytes(&thresholds),
                Fault::Decision => vec![decision[0] as u8],
            };
            context.lane().exchange(Step::OperandOpen, opened).await;
            Ok(())
        })
    };
    run_now(computation.run(vec![close])).unwrap();
    computation
}

/// What an observer finds of this fault, which opens `extra`.
fn planted(fault: Fault, extra: Option<Opening>) -> (Result<(), Finding>, usize) {
    let mut task = task(EXACT, Gadget::Digits, 2);
    let mut openings = task.plan().openings();
    let rounds = openings.len();
    openings.extend(extra.map(|opening| vec![opening]));
    let [first, second] = record(|queries| {
        let bundles = task.bundle().unwrap();
        Observed::of(&task.seat(queries, bundles, |seat| evaluate(seat, fault).into_link().transcript()))
    });
    (inspect(&openings, [&first, &second]), rounds)
}

#[test]
fn what_is_opened_is_found() {
    assert_eq!(planted(Fault::None, None).0, Ok(()));
    for (fault, opening) in [
        (Fault::Distance, Opening::values(USERS, 64)),
        (Fault::Threshold, Opening::values(USERS, 64)),
        (Fault::Decision, Opening::bits(1, USERS)),
    ] {
        let (found, round) = planted(fault, Some(opening));
        let place = Place { round, opening: 0, row: 0, at: 0 };
        let expected = match fault {
            // The other user's decision is as constant, but the first that is found is reported.
            Fault::Decision => {
                matches!(found, Err(Finding::Opened { place: at } | Finding::Input { place: at }) if at == place)
            }
            _ => found == Err(Finding::Opened { place }),
        };
        assert!(expected, "{found:?}");
    }
}

#[test]
fn no_message_holds_a_distance() {
    // Truncations may move a distance by some units.
    let near = 1u64 << 20;
    for (input, gadget) in INPUTS.into_iter().zip([Gadget::Digits, Gadget::Keys]) {
        let mut task = task(EXACT, gadget, 3);
        let queries = [encode(input)];
        let inside = task.inside(&queries).unwrap();
        let mut secrets: Vec<u64> = inside.into_iter().flat_map(|inside| inside.logits).collect();
        assert_eq!(secrets.len(), USERS);
        secrets.extend([0.5, 0.75].map(|threshold: f64| (threshold * 2f64.powi(32)) as u64));
        for _ in 0..50 {
            let (_, _, sent) = task.ask(&queries, [&[], &[]]).unwrap();
            let [zero, one] = Observed::of(&sent).payloads;
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            let sums = zero.iter().zip(&one).map(|(zero, one)| {
                let pairs = zero.chunks_exact(8).zip(one.chunks_exact(8));
                bytes(&pairs.map(|(a, b)| word(a).wrapping_add(word(b))).collect::<Vec<_>>())
            });
            let sums: Vec<Vec<u8>> = sums.collect();
            for window in zero.iter().chain(&one).chain(&sums).flat_map(|payload| payload.windows(8)) {
                let hit = |secret: &u64| word(window).wrapping_sub(*secret).wrapping_add(near) <= 2 * near;
                assert!(!secrets.iter().any(hit), "a distance or a threshold stands in a message");
            }
        }
    }
}

#[test]
fn the_clients_shares_hold_the_answer_and_nothing_else() {
    for (input, gadget) in INPUTS.into_iter().flat_map(|input| GADGETS.map(|gadget| (input, gadget))) {
        let mut task = task(EXACT, gadget, 4);
        let queries = [encode(input)];
        let Closing::Nearest { shape, .. } = task.plan().closing() else { panic!("another task") };
        let mut ones = [vec![0u32; bits(&shape)], vec![0u32; bits(&shape)]];
        for _ in 0..SESSIONS {
            let bundles = task.bundle().unwrap();
            let shares = task.seat(&queries, bundles, |seat| {
                let Seat { mut computation, plan, models, input, provisions } = seat;
                run_now(answer(&mut computation, plan, &models, input, provisions, &[])).unwrap()
            });
            let named = answers([&shares[0], &shares[1]], USERS + 1, 1, false)[0].unwrap();
            // All that both shares together hold, bits beyond the count included.
            assert_eq!(shares[0][0] ^ shares[1][0], if named < USERS { 1 << named } else { 0 });
            for (ones, share) in ones.iter_mut().zip(&shares) {
                for (at, ones) in ones.iter_mut().enumerate() {
                    *ones += (share[0] >> at & 1) as u32;
                }
            }
        }
        for count in ones.into_iter().flatten() {
            let half = SESSIONS as u32 / 2;
            assert!(count.abs_diff(half) < 60, "{count} of {SESSIONS}: six standard deviations are 60");
        }
    }
}
