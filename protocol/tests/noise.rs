//! Noise under sharing: each label is chosen with exactly the probability that the mechanism promises,
//! and noise that is one number for all classes, which protects nothing, is told from it.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use consilium_protocol::graph::{Layer, Network, Numbers, ReleaseShape, Shape, Threshold};
use consilium_protocol::model::{Model, Weights};
use consilium_protocol::privacy::{Mechanism, Sampler};
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::TestTask;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CLASSES: usize = 4;
/// Models that vote for each class.
const VOTES: [usize; CLASSES] = [4, 3, 0, 2];
const VARIANCE: u64 = 4;
const BATCH: usize = 250;
const BATCHES: usize = 40;
/// 99.9999 % quantiles of chi-square with three degrees of freedom, and with four.
const LIMITS: [f64; 2] = [30.7, 33.4];
/// So far above the true top count that the law of the test's noise decides how often it is reached.
const THRESHOLD: u64 = 7;
const THRESHOLD_VARIANCE: u64 = 9;

/// What is wrong with how often each label came.
#[derive(Debug, PartialEq)]
enum Fault {
    /// Some label came too often or too rarely.
    Frequency { label: usize },
}

/// Whether labels came as often as they should. One more than classes stands for no consensus.
fn accept<const OUTCOMES: usize>(labels: &[usize], expected: [f64; OUTCOMES]) -> Result<(), Fault> {
    let mut counts = [0.0; OUTCOMES];
    for label in labels {
        counts[*label] += 1.0;
    }
    let term = |label: usize| {
        let mean = expected[label] * labels.len() as f64;
        (counts[label] - mean) * (counts[label] - mean) / mean
    };
    let total: f64 = (0..OUTCOMES).map(term).sum();
    if total < LIMITS[OUTCOMES - CLASSES] {
        return Ok(());
    }
    let label = (0..OUTCOMES).max_by(|a, b| term(*a).total_cmp(&term(*b))).unwrap();
    Err(Fault::Frequency { label })
}

/// Probabilities of one discrete Gaussian, from `-reach` to `reach`.
fn single(reach: i64, variance: u64) -> Vec<f64> {
    let weight = |x: i64| (-(x * x) as f64 / (2 * variance) as f64).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|x| weight(x) / total).collect()
}

/// Probabilities of the sum of two independent discrete Gaussians, from `-reach` to `reach`.
fn law(reach: i64, variance: u64) -> Vec<f64> {
    let single = single(reach, variance);
    let at = |x: i64| usize::try_from(x + reach).ok().and_then(|x| single.get(x)).copied().unwrap_or(0.0);
    (-reach..=reach).map(|sum| (-reach..=reach).map(|x| at(x) * at(sum - x)).sum()).collect()
}

const REACH: i64 = 60;

/// Probability of each label: its noisy count is the largest, the lowest class on a tie. `variance` is that of
/// each party's noise.
fn selection(variance: u64) -> [f64; CLASSES] {
    selection_under(&law(REACH, variance))
}

/// The same under noise of this law, from `-REACH` to `REACH`.
fn selection_under(law: &[f64]) -> [f64; CLASSES] {
    let reach = REACH;
    let mass = |class: usize, count: i64| {
        let noise = count - VOTES[class] as i64 + reach;
        usize::try_from(noise).ok().and_then(|noise| law.get(noise)).copied().unwrap_or(0.0)
    };
    let below = |class: usize, count: i64| -> f64 { (-2 * reach..count).map(|less| mass(class, less)).sum() };
    std::array::from_fn(|label| {
        let wins = |count: i64| {
            let others = (0..CLASSES).filter(|class| *class != label);
            let beaten = others.map(|class| below(class, if class > label { count + 1 } else { count }));
            mass(label, count) * beaten.product::<f64>()
        };
        (-2 * reach..2 * reach).map(wins).sum()
    })
}

/// Probability of each label where the top count reaches the threshold, then of no consensus. The noise of the
/// test is independent of that of the labels, each of which has `variance` from each party.
fn attempt(variance: u64) -> [f64; CLASSES + 1] {
    let reach = 90;
    let least = THRESHOLD as i64 - *VOTES.iter().max().unwrap() as i64;
    let told: f64 = law(reach, THRESHOLD_VARIANCE)[(least + reach) as usize..].iter().sum();
    let labels = selection(variance);
    std::array::from_fn(|at| labels.get(at).map_or(1.0 - told, |label| label * told))
}

/// Labels of the task's noisy votes; `draw` makes one party's noise, `[class][query]`.
fn labels(draw: impl FnMut() -> Vec<u64>) -> Vec<usize> {
    answers(None, Gadget::Digits, draw)
}

/// Labels, or the number of classes where there was no consensus.
fn answers(threshold: Option<u64>, gadget: Gadget, mut draw: impl FnMut() -> Vec<u64>) -> Vec<usize> {
    let network = Network::new(Shape::vector(1), vec![Layer::Dense { outputs: CLASSES as u32 }]).unwrap();
    let mut models = Vec::new();
    for (class, votes) in VOTES.into_iter().enumerate() {
        let mut bias = vec![0.0; CLASSES];
        bias[class] = 1.0;
        let weights = Weights { weight: vec![0.0; CLASSES], bias };
        models.extend(vec![Model::new(network.clone(), vec![weights]).unwrap(); votes]);
    }
    let numbers = Numbers { fraction_bits: 8, value_bits: 4 };
    let threshold = threshold.map(|votes| Threshold { votes, noise_magnitude_max: 200 });
    let release = ReleaseShape { noise_magnitude_max: 200, threshold };
    let mut task = TestTask::new(&models, numbers, BATCH, release, gadget, 1).unwrap();
    let mut labels = Vec::new();
    for _ in 0..BATCHES {
        let noise = [draw(), draw()];
        let (answers, ..) = task.attempt(&vec![vec![0]; BATCH], [&noise[0], &noise[1]]).unwrap();
        labels.extend(answers.into_iter().map(|label| label.unwrap_or(CLASSES)));
    }
    labels
}

fn sampler() -> Sampler {
    sampler_of(VARIANCE)
}

fn sampler_of(variance: u64) -> Sampler {
    let sampler = Sampler::new(&Mechanism::Gaussian { sigma_squared: variance.to_string().parse().unwrap() });
    assert!(sampler.magnitude_max() <= 200);
    sampler
}

#[test]
fn labels_come_with_the_exact_probabilities() {
    let expected = selection(VARIANCE);
    assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(expected.iter().all(|p| *p > 0.02), "{expected:?}");
    let (sampler, mut rng) = (sampler(), StdRng::seed_from_u64(2));
    let drawn = labels(|| (0..CLASSES * BATCH).map(|_| sampler.draw(&mut rng) as u64).collect());
    assert_eq!(accept(&drawn, expected), Ok(()));
}

#[test]
fn one_number_for_all_classes_never_changes_the_label() {
    let (sampler, mut rng) = (sampler(), StdRng::seed_from_u64(3));
    let drawn = labels(|| {
        let scalars: Vec<u64> = (0..BATCH).map(|_| sampler.draw(&mut rng) as u64).collect();
        scalars.repeat(CLASSES)
    });
    assert!(drawn.iter().all(|label| *label == 0), "the class with most votes, whatever the noise");
    assert_eq!(accept(&drawn, selection(VARIANCE)), Err(Fault::Frequency { label: 0 }));
}

#[test]
fn one_partys_noise_alone_is_told_from_both() {
    let (sampler, mut rng) = (sampler(), StdRng::seed_from_u64(4));
    let mut party = 0;
    let drawn = labels(|| {
        party += 1;
        (0..CLASSES * BATCH).map(|_| sampler.draw(&mut rng) as u64 * (party % 2)).collect()
    });
    assert!(accept(&drawn, selection(VARIANCE)).is_err());
}

/// A module's draw in two halves that say nothing alone: any words, and what makes them the noise.
fn halves(sampler: &Sampler, rng: &mut StdRng) -> [Vec<u64>; 2] {
    let zero: Vec<u64> = (0..CLASSES * BATCH).map(|_| rng.random()).collect();
    let one = zero.iter().map(|half| (sampler.draw(rng) as u64).wrapping_sub(*half)).collect();
    [zero, one]
}

#[test]
fn the_modules_single_draw_gives_its_own_law() {
    let (sampler, mut rng) = (sampler(), StdRng::seed_from_u64(9));
    let mut waiting = Vec::new();
    let drawn = labels(|| {
        if waiting.is_empty() {
            waiting.extend(halves(&sampler, &mut rng));
        }
        waiting.remove(0)
    });
    assert_eq!(accept(&drawn, selection_under(&single(REACH, VARIANCE))), Ok(()));
    assert!(accept(&drawn, selection(VARIANCE)).is_err(), "and not that of two draws");
}

#[test]
fn a_party_that_adds_nothing_cannot_make_the_release_exact() {
    // In software, the other's full noise stays: what the price was counted for.
    let (sampler, mut rng) = (sampler(), StdRng::seed_from_u64(10));
    let mut party = 0;
    let drawn = labels(|| {
        party += 1;
        (0..CLASSES * BATCH).map(|_| sampler.draw(&mut rng) as u64 * (party % 2)).collect()
    });
    assert_eq!(accept(&drawn, selection_under(&single(REACH, VARIANCE))), Ok(()));
    // Of the module's draw, the other's half alone is any number: the label is worth nothing.
    for dropped in [0, 1] {
        let mut waiting = Vec::new();
        let drawn = labels(|| {
            if waiting.is_empty() {
                let mut halves = halves(&sampler, &mut rng);
                halves[dropped].fill(0);
                waiting.extend(halves);
            }
            waiting.remove(0)
        });
        let right = drawn.iter().filter(|label| **label == 0).count() as f64 / drawn.len() as f64;
        assert!(right < selection_under(&single(REACH, VARIANCE))[0] - 0.1, "{right} of labels are exact");
    }
}

/// One party's noise for all counts, and for the top count of each query as `top` makes it of the former.
fn noise(
    counts: &Sampler,
    rng: &mut StdRng,
    mut top: impl FnMut(&[u64], usize, &mut StdRng) -> u64,
) -> Vec<u64> {
    let mut noise: Vec<u64> = (0..CLASSES * BATCH).map(|_| counts.draw(rng) as u64).collect();
    let on_top: Vec<u64> = (0..BATCH).map(|query| top(&noise, query, rng)).collect();
    noise.extend(on_top);
    noise
}

#[test]
fn attempts_end_with_the_exact_probabilities() {
    let expected = attempt(VARIANCE);
    assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(expected.iter().all(|p| *p > 0.005) && expected[CLASSES] > 0.3, "{expected:?}");
    let (counts, top) = (sampler(), sampler_of(THRESHOLD_VARIANCE));
    for (gadget, seed) in [(Gadget::Digits, 5), (Gadget::Nibbles, 6), (Gadget::Keys, 7)] {
        let mut rng = StdRng::seed_from_u64(seed);
        let drawn =
            answers(Some(THRESHOLD), gadget, || noise(&counts, &mut rng, |_, _, rng| top.draw(rng) as u64));
        assert_eq!(accept(&drawn, expected), Ok(()), "{gadget:?}");
    }
}

#[test]
fn a_test_without_noise_of_its_own_is_found() {
    let (counts, mut rng) = (sampler(), StdRng::seed_from_u64(8));
    // None at all: the true top count of 4 never reaches 7.
    let drawn = answers(Some(THRESHOLD), Gadget::Keys, || noise(&counts, &mut rng, |_, _, _| 0));
    assert!(drawn.iter().all(|label| *label == CLASSES));
    assert!(accept(&drawn, attempt(VARIANCE)).is_err());
    // One party's alone is too little.
    let (top, mut party) = (sampler_of(THRESHOLD_VARIANCE), 0);
    let drawn = answers(Some(THRESHOLD), Gadget::Keys, || {
        party += 1;
        noise(&counts, &mut rng, |_, _, rng| top.draw(rng) as u64 * (party % 2))
    });
    assert!(accept(&drawn, attempt(VARIANCE)).is_err());
    // That of a class, used again, is no more independent of the label.
    let drawn =
        answers(Some(THRESHOLD), Gadget::Keys, || noise(&top, &mut rng, |noise, query, _| noise[query]));
    assert!(accept(&drawn, attempt(THRESHOLD_VARIANCE)).is_err());
}
