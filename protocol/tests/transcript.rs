//! Nothing but the label is opened: what both parties send is of one shape, uniform and independent of
//! the input and of whether there is a label, and the same inspection finds an opened logit, an opened vote
//! and masks used twice.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::context::{Computation, Context, Lane, Step};
use consilium_protocol::evaluate::shared::{Entered, GateError, answer, outputs};
use consilium_protocol::graph::{
    Layer, Network, Numbers, Plan, Program, ReleaseShape, Shape, Threshold, Window,
};
use consilium_protocol::model::{Model, Weights};
use consilium_protocol::offline::ot::Extension;
use consilium_protocol::online::open::{masked_row, operand, rows};
use consilium_protocol::online::release::answers;
use consilium_protocol::online::vote::{vote, winner};
use consilium_protocol::party::Party;
use consilium_protocol::share::reconstruct;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::{Finding, MemoryLink, Observed, Place, Seat, TestTask, inspect, run_now};
use consilium_protocol::wire::Opening;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::future::Future;
use std::pin::Pin;

const SESSIONS: usize = 400;
const CLASSES: usize = 3;
const MODELS: usize = 2;
const NUMBERS: Numbers = Numbers { fraction_bits: 16, value_bits: 12 };
/// The second is far from the first in size and signs.
const INPUTS: [[f64; 5]; 2] = [[0.9, -0.8, 0.7, 0.6, -0.5], [0.0, 0.01, -0.02, 0.0, 0.03]];

const LAST: Layer = Layer::Dense { outputs: CLASSES as u32 };

const GADGETS: [Gadget; 3] = [Gadget::Digits, Gadget::Nibbles, Gadget::Keys];

fn task(seed: u64) -> TestTask {
    dense_task(Gadget::Digits, seed)
}

fn dense_task(gadget: Gadget, seed: u64) -> TestTask {
    task_of(Shape::vector(5), vec![Layer::Dense { outputs: 4 }, Layer::Relu, LAST], gadget, seed)
}

/// The same task, with a threshold that neither both votes together nor small noise decides.
fn confident_task(gadget: Gadget, seed: u64) -> TestTask {
    let layers = vec![Layer::Dense { outputs: 4 }, Layer::Relu, LAST];
    let threshold = Some(Threshold { votes: 2, noise_magnitude_max: 20 });
    task_with(Shape::vector(5), layers, threshold, (gadget, seed))
}

fn task_of(input: Shape, layers: Vec<Layer>, gadget: Gadget, seed: u64) -> TestTask {
    task_with(input, layers, None, (gadget, seed))
}

fn task_with(
    input: Shape,
    layers: Vec<Layer>,
    threshold: Option<Threshold>,
    (gadget, seed): (Gadget, u64),
) -> TestTask {
    let network = Network::new(input, layers).unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draw = |count| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let mut model = || {
        let entry = |weight: Vec<f32>, bias| Weights { weight, bias };
        let linear = network.layers().iter().enumerate().filter(|(_, layer)| layer.is_linear());
        let weights = linear.map(|(index, layer)| {
            let (weight, bias) = layer.parameters(network.shape_before(index));
            entry(draw(weight), draw(bias))
        });
        Model::new(network.clone(), weights.collect()).unwrap()
    };
    let models: Vec<Model> = (0..MODELS).map(|_| model()).collect();
    let release = ReleaseShape { noise_magnitude_max: 20, threshold };
    TestTask::new(&models, NUMBERS, 1, release, gadget, seed).unwrap()
}

fn encode(input: [f64; 5]) -> Vec<u64> {
    input.iter().map(|value| (value * 65536.0).round() as i64 as u64).collect()
}

/// Sessions on both inputs, each as `session` runs it; it gets the session's number.
fn record(mut session: impl FnMut(usize, &[Vec<u64>]) -> Observed) -> [Vec<Observed>; 2] {
    let mut number = 0;
    INPUTS.map(|input| {
        let queries = [encode(input)];
        let mut next = |_| {
            number += 1;
            session(number - 1, &queries)
        };
        (0..SESSIONS).map(&mut next).collect()
    })
}

fn found(openings: &[Vec<Opening>], [first, second]: &[Vec<Observed>; 2]) -> Result<(), Finding> {
    inspect(openings, [first, second])
}

/// A round of all models, each opening this.
fn all(opening: Opening) -> Vec<Opening> {
    vec![opening; MODELS]
}

/// The openings of the input and of all models, with `extra` rounds before and after the votes.
fn faulty_openings(plan: &Plan, before: Option<Opening>, after: Option<Opening>) -> Vec<Vec<Opening>> {
    let program = &plan.programs()[0];
    let own = program.openings();
    let (logits, votes) = own.split_at(own.len() - program.vote().unwrap().vote_openings().len());
    let mut rounds = vec![vec![Opening::values(plan.input_len(), 64)]];
    rounds.extend(logits.iter().chain(&before).chain(votes).chain(&after).copied().map(all));
    rounds
}

type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, GateError>> + Send + 'a>>;

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a faulty party opens that it should not.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Logit,
    Vote,
    OneMaskTwice,
    OneBitMaskTwice,
}

/// The lanes of an evaluation up to the votes, with a fault in each of them.
fn evaluate(seat: Seat<'_>, fault: Fault) -> Computation<MemoryLink> {
    let Seat { mut computation, plan, models, input, provisions } = seat;
    let party = computation.party();
    let mut provisions = provisions.into_iter();
    let (stock, share) = (provisions.next().unwrap(), &*input);
    let open = |lane: Lane| -> Running<'_, Vec<u64>> {
        Box::pin(async move {
            let mut context = Context::new(party, lane, stock);
            let entry = context.enter().input_mask(share.len())?;
            let opened = operand(&context, share, &entry.mask).await;
            if fault == Fault::OneMaskTwice {
                // Another operand under the same mask.
                let mut other = share.to_vec();
                other.rotate_left(1);
                operand(&context, &other, &entry.mask).await;
            }
            Ok(opened)
        })
    };
    let opened = &*run_now(computation.run(vec![open])).unwrap().swap_remove(0);
    let lanes = plan.programs().iter().zip(models).zip(provisions).map(|((program, model), stock)| {
        move |lane: Lane| -> Running<'_, ()> {
            Box::pin(async move {
                let mut context = Context::new(party, lane, stock);
                let entered = Entered { opened, share, norm: &[] };
                let logits = outputs(&mut context, program, model, entered).await?;
                if fault == Fault::Logit {
                    context.lane().exchange(Step::OperandOpen, words(&logits)).await;
                }
                if fault == Fault::OneBitMaskTwice {
                    return twice(&mut context, &logits, program).await;
                }
                let votes = vote(&mut context, &logits, program.vote().unwrap()).await?;
                if fault == Fault::Vote {
                    context.lane().exchange(Step::OperandOpen, words(&votes)).await;
                }
                Ok(())
            })
        }
    });
    run_now(computation.run(lanes.collect())).unwrap();
    computation
}

/// Opens the first two bits of the winner under the same masks, once in order and once swapped.
async fn twice(context: &mut Context, logits: &[u64], program: &Program) -> Result<(), GateError> {
    let shape = program.vote().unwrap();
    let bits = winner(context, logits, shape).await?;
    let entry = context.enter().bits(shape.bits())?;
    let swapped = vec![bits[0] >> 1 & 1 | (bits[0] & 1) << 1];
    for bits in [bits, swapped] {
        rows(context, Step::BitOpen, vec![masked_row(&bits, &entry.xor)], shape.bits()).await;
    }
    Ok(())
}

/// What an observer finds of this fault. It must be the same whoever made the bundles.
fn planted(fault: Fault, openings: &[Vec<Opening>], task: &mut TestTask) -> Result<(), Finding> {
    let look = |task: &mut TestTask| {
        let sessions = record(|_, queries| {
            let bundles = task.bundle().unwrap();
            let sent = task.seat(queries, bundles, |seat| evaluate(seat, fault).into_link().transcript());
            Observed::of(&sent)
        });
        found(openings, &sessions)
    };
    let insecure = look(task);
    task.make_pairwise(Extension::Iknp, 2 * SESSIONS).unwrap();
    assert_eq!(look(task), insecure);
    insecure
}

#[test]
fn nothing_but_the_label_is_opened() {
    let image = Shape { channels: 1, height: 5, width: 1 };
    let narrow = |rows| Window { kernel: [rows, 1], ..Window::plain(1, 1) };
    let convolution = vec![
        Layer::Conv { outputs: 2, window: narrow(2) },
        Layer::Relu,
        Layer::MaxPool { window: narrow(3) },
        Layer::Square,
        Layer::AveragePool { window: narrow(2) },
        LAST,
    ];
    let tasks =
        GADGETS.map(|gadget| [dense_task(gadget, 1), task_of(image, convolution.clone(), gadget, 11)]);
    for mut task in tasks.into_iter().flatten() {
        let openings = task.plan().openings();
        let noise = [[3, u64::MAX, 0], [1, 2, u64::MAX]];
        for pairwise in [false, true] {
            // Comparison keys come from a dealer only.
            if pairwise && task.make_pairwise(Extension::Iknp, 2 * SESSIONS).is_err() {
                continue;
            }
            let sessions = record(|_, queries| {
                let (_, _, sent) = task.ask(queries, [&noise[0], &noise[1]]).unwrap();
                Observed::of(&sent)
            });
            assert_eq!(found(&openings, &sessions), Ok(()), "pairwise: {pairwise}");
        }
    }
}

/// Noise that lets any top count reach the threshold, and noise that lets none; both alike on the counts.
const CONSENSUS: [[u64; CLASSES + 1]; 2] = [[3, u64::MAX, 0, 12], [1, 2, u64::MAX, 0]];
const NO_CONSENSUS: [[u64; CLASSES + 1]; 2] = [[3, u64::MAX, 0, 0], [1, 2, u64::MAX, u64::MAX - 11]];

#[test]
fn a_consensus_and_none_look_alike() {
    for gadget in GADGETS {
        let mut task = confident_task(gadget, 12);
        let openings = task.plan().openings();
        let queries = [encode(INPUTS[0])];
        for pairwise in [false, true] {
            if pairwise && task.make_pairwise(Extension::Iknp, 2 * SESSIONS).is_err() {
                continue;
            }
            let mut record = |noise: [[u64; CLASSES + 1]; 2]| -> Vec<Observed> {
                let session = |_| {
                    let (answers, _, sent) = task.attempt(&queries, [&noise[0], &noise[1]]).unwrap();
                    assert_eq!(answers[0].is_some(), noise == CONSENSUS);
                    Observed::of(&sent)
                };
                (0..SESSIONS).map(session).collect()
            };
            let sessions = [CONSENSUS, NO_CONSENSUS].map(&mut record);
            assert_eq!(found(&openings, &sessions), Ok(()), "{gadget:?}, pairwise: {pairwise}");
        }
    }
}

/// What a module may draw: noise as far apart as this release takes, in opposite directions.
const DRAWN: [[i64; CLASSES]; 2] = [[15, -15, 8], [-15, 15, -8]];

#[test]
fn neither_party_can_tell_which_noise_the_module_drew() {
    for (gadget, looking) in GADGETS.into_iter().zip([0, 1, 0]) {
        let mut task = dense_task(gadget, 14);
        let openings = task.plan().openings();
        let queries = [encode(INPUTS[0])];
        for looking in [looking, 1 - looking] {
            // The party that looks has the same halves in both lists of sessions.
            let sessions = DRAWN.map(|drawn| -> Vec<Observed> {
                let mut rng = StdRng::seed_from_u64(15);
                let mut session = |_| {
                    let own: Vec<u64> = drawn.iter().map(|_| rng.random()).collect();
                    let noise = drawn.iter().zip(&own);
                    let other: Vec<u64> =
                        noise.map(|(noise, own)| (*noise as u64).wrapping_sub(*own)).collect();
                    let halves = if looking == 0 { [&own, &other] } else { [&other, &own] };
                    let (_, _, sent) = task.ask(&queries, halves.map(Vec::as_slice)).unwrap();
                    Observed::of(&sent)
                };
                (0..SESSIONS).map(&mut session).collect()
            });
            assert_eq!(found(&openings, &sessions), Ok(()), "{gadget:?}, party {looking} looks");
        }
    }
}

#[test]
fn no_message_holds_a_logit() {
    let mut tasks = GADGETS.map(|gadget| dense_task(gadget, 2));
    // Truncations may move a logit by some units of the weights that follow.
    let near = 1u64 << 20;
    for (input, task) in INPUTS.into_iter().zip(&mut tasks) {
        let queries = [encode(input)];
        let secrets: Vec<u64> =
            task.inside(&queries).unwrap().into_iter().flat_map(|inside| inside.logits).collect();
        assert_eq!(secrets.len(), MODELS * CLASSES);
        for _ in 0..50 {
            let (_, _, sent) = task.ask(&queries, [&[], &[]]).unwrap();
            let [zero, one] = Observed::of(&sent).payloads;
            let opened = zero.iter().zip(&one).map(|(zero, one)| {
                let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
                let sum = zero.chunks_exact(8).zip(one.chunks_exact(8));
                words(&sum.map(|(a, b)| word(a).wrapping_add(word(b))).collect::<Vec<_>>())
            });
            let opened: Vec<Vec<u8>> = opened.collect();
            for payload in zero.iter().chain(&one).chain(&opened) {
                for bytes in payload.windows(8) {
                    let word = u64::from_le_bytes(bytes.try_into().unwrap());
                    let hit = |secret: &u64| word.wrapping_sub(*secret).wrapping_add(near) <= 2 * near;
                    assert!(!secrets.iter().any(hit), "a logit stands in a message");
                }
            }
        }
    }
}

#[test]
fn the_clients_shares_hold_the_label_and_nothing_else() {
    for gadget in GADGETS {
        let mut task = dense_task(gadget, 3);
        if gadget != Gadget::Keys {
            // One half of the bundles from either source.
            task.make_pairwise(Extension::Iknp, SESSIONS / 2).unwrap();
        }
        the_clients_shares_of(task, [&[], &[]]);
        for noise in [CONSENSUS, NO_CONSENSUS] {
            the_clients_shares_of(confident_task(gadget, 3), [&noise[0], &noise[1]]);
        }
    }
}

fn the_clients_shares_of(mut task: TestTask, noise: [&[u64]; 2]) {
    let gate = task.plan().release();
    let bits = gate.bits_per_query();
    let mut ones = [vec![0u32; bits], vec![0u32; bits]];
    let queries = [encode(INPUTS[0])];
    for _ in 0..SESSIONS {
        let bundles = task.bundle().unwrap();
        let shares = task.seat(&queries, bundles, |seat| {
            let Seat { mut computation, plan, models, input, provisions } = seat;
            let noise = noise[usize::from(computation.party() == Party::One)];
            run_now(answer(&mut computation, plan, &models, input, provisions, noise)).unwrap()
        });
        assert_eq!(shares.each_ref().map(Vec::len), [1, 1]);
        let answer = answers([&shares[0], &shares[1]], CLASSES, 1, gate.threshold.is_some())[0];
        let class = answer.map_or(0, |label| if label < CLASSES - 1 { 1 << label } else { 0 });
        let told = u64::from(gate.threshold.is_some() && answer.is_some()) << (CLASSES - 1);
        // All that both shares together hold, bits beyond the count included.
        assert_eq!(shares[0][0] ^ shares[1][0], class | told);
        for (ones, share) in ones.iter_mut().zip(&shares) {
            for (class, ones) in ones.iter_mut().enumerate() {
                *ones += (share[0] >> class & 1) as u32;
            }
        }
    }
    for count in ones.into_iter().flatten() {
        let half = SESSIONS as u32 / 2;
        assert!(count.abs_diff(half) < 60, "{count} of {SESSIONS}: six standard deviations are 60");
    }
}

#[test]
fn faultless_lanes_pass() {
    let mut task = task(4);
    let openings = faulty_openings(task.plan(), None, None);
    assert_eq!(planted(Fault::None, &openings, &mut task), Ok(()));
}

#[test]
fn an_opened_logit_is_found() {
    let mut task = task(5);
    let openings = faulty_openings(task.plan(), Some(Opening::values(CLASSES, 64)), None);
    let place = Place { round: openings.len() - 5, opening: 0, row: 0, at: 0 };
    assert_eq!(openings[place.round], all(Opening::values(CLASSES, 64)));
    assert_eq!(planted(Fault::Logit, &openings, &mut task), Err(Finding::Opened { place }));
}

#[test]
fn an_opened_vote_is_found() {
    let mut task = task(6);
    let openings = faulty_openings(task.plan(), None, Some(Opening::values(CLASSES, 64)));
    let place = Place { round: openings.len() - 1, opening: 0, row: 0, at: 0 };
    assert_eq!(planted(Fault::Vote, &openings, &mut task), Err(Finding::Opened { place }));
}

#[test]
fn one_mask_for_two_operands_is_found() {
    let mut task = task(7);
    let mut openings = faulty_openings(task.plan(), None, None);
    openings.insert(1, openings[0].clone());
    let place = |round, at| Place { round, opening: 0, row: 0, at };
    let finding = Finding::Related { place: place(0, 0), other: place(1, 0), sessions_apart: 0 };
    assert_eq!(planted(Fault::OneMaskTwice, &openings, &mut task), Err(finding));
}

#[test]
fn one_mask_for_two_bits_is_found() {
    let mut task = task(8);
    let mut openings = faulty_openings(task.plan(), None, None);
    openings.push(all(Opening::bits(1, CLASSES - 1)));
    let place = |round, opening, at| Place { round, opening, row: 0, at };
    let (last, before) = (openings.len() - 1, openings.len() - 2);
    let finding = planted(Fault::OneBitMaskTwice, &openings, &mut task);
    let first = Finding::Related { place: place(before, 0, 0), other: place(last, 0, 0), sessions_apart: 0 };
    assert_eq!(finding, Err(first));
}

#[test]
fn a_bundle_used_for_two_queries_is_found() {
    for gadget in GADGETS {
        is_found_twice(dense_task(gadget, 9));
    }
}

fn is_found_twice(mut task: TestTask) {
    let openings = task.plan().openings();
    let sessions = record(|number, queries| {
        // Moves on to fresh shares of the input, but not to a fresh bundle.
        task.bundle().unwrap();
        let bundles = task.bundle_of(number as u64 / 2).unwrap();
        let sent = task.seat(queries, bundles, |seat| {
            let Seat { mut computation, plan, models, input, provisions } = seat;
            run_now(answer(&mut computation, plan, &models, input, provisions, &[])).unwrap();
            computation.into_link().transcript()
        });
        Observed::of(&sent)
    });
    let Err(Finding::Related { place, other, sessions_apart }) = found(&openings, &sessions) else {
        panic!("a reused bundle must be found")
    };
    assert_eq!((sessions_apart, other), (1, place));
}

#[test]
fn reconstructed_openings_are_those_of_the_parties() {
    // The observer's reading of the format is itself held against a known sum.
    let mut task = task(10);
    let queries = [encode(INPUTS[0])];
    let bundles = task.bundle().unwrap();
    let seen = task.seat(&queries, bundles, |mut seat| {
        let party = seat.computation.party();
        let (stock, share) = (std::mem::take(&mut seat.provisions[0]), seat.input.to_vec());
        let lane = |lane: Lane| -> Running<'_, (Vec<u64>, Vec<u64>)> {
            Box::pin(async move {
                let mut context = Context::new(party, lane, stock);
                let entry = context.enter().input_mask(share.len())?;
                Ok((operand(&context, &share, &entry.mask).await, entry.mask.to_vec()))
            })
        };
        let (opened, mask) = run_now(seat.computation.run(vec![lane])).unwrap().swap_remove(0);
        (opened, mask, seat.computation.into_link().transcript())
    });
    let [(opened, zero_mask, zero), (other, one_mask, one)] = seen;
    assert_eq!(opened, other);
    assert_eq!(reconstruct(&opened, &reconstruct(&zero_mask, &one_mask)), queries[0]);
    let payloads = Observed::of(&[zero, one]).payloads;
    let sum: Vec<u64> = payloads[0][0]
        .chunks_exact(8)
        .zip(payloads[1][0].chunks_exact(8))
        .map(|(a, b)| {
            u64::from_le_bytes(a.try_into().unwrap()).wrapping_add(u64::from_le_bytes(b.try_into().unwrap()))
        })
        .collect();
    assert_eq!(sum, opened);
}
