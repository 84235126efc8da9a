//! How well scores tell members from others.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// Resamplings of the records behind a standard error.
const RESAMPLINGS: usize = 100;
/// Where the true positive rate is reported.
const FALSE_POSITIVES: f64 = 0.01;
/// Added to every fitted variance: votes are integers, and most never change.
const VARIANCE_FLOOR: f64 = 1e-6;

/// Which records were inside in which version, version-major, versions 2k and 2k + 1 complementary.
#[derive(Clone, Copy, Debug)]
pub struct Trials<'a> {
    /// The truth of each decision.
    pub inside: &'a [bool],
    /// Number of records.
    pub records: usize,
}

/// What an attack achieves.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Largest difference of true and false positive rate over all thresholds.
    pub advantage: f64,
    /// Its standard error, over the choice of records and of versions.
    pub standard_error: f64,
    /// Area under the curve of true over false positive rate.
    pub auc: f64,
    /// True positive rate at 1 % false positives.
    pub tpr_at_1pct_fpr: f64,
}

impl Trials<'_> {
    fn versions(&self) -> usize {
        self.inside.len() / self.records
    }

    /// Largest advantage that chance alone gives to an attack that knows nothing, but in one case of a
    /// hundred: that of the one-sided Kolmogorov-Smirnov distance of two samples.
    pub fn resolution(&self) -> f64 {
        let half = self.inside.len() as f64 / 2.0;
        ((2.0 / half) * -(0.01f64.ln()) / 2.0).sqrt()
    }

    /// Calls `each` with the decisions of a record from all other pairs of versions than that of `version`:
    /// those inside, and those outside.
    fn others(&self, version: usize, record: usize, mut each: impl FnMut(usize, bool)) {
        for other in (0..self.versions()).filter(|other| other / 2 != version / 2) {
            let decision = other * self.records + record;
            each(decision, self.inside[decision]);
        }
    }

    fn scores(&self, score: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let versions = 0..self.versions();
        versions
            .flat_map(|version| (0..self.records).map(move |record| (version, record)))
            .map(|(version, record)| score(version, record))
            .collect()
    }
}

/// Per record: log likelihood ratio of a value under two normal laws, fitted on the other versions.
pub fn gaussian_ratio(trials: &Trials<'_>, values: &[f64]) -> Vec<f64> {
    trials.scores(|version, record| {
        let mut sums = [[0.0f64; 3]; 2];
        trials.others(version, record, |decision, inside| {
            let (sum, value) = (&mut sums[usize::from(inside)], values[decision]);
            *sum = [sum[0] + 1.0, sum[1] + value, sum[2] + value * value];
        });
        let value = values[version * trials.records + record];
        let density = |[count, sum, squares]: [f64; 3]| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0) + VARIANCE_FLOOR;
            -0.5 * (variance.ln() + (value - mean).powi(2) / variance)
        };
        density(sums[1]) - density(sums[0])
    })
}

/// Per record: log likelihood ratio of so many right answers of `asks` under two rates, fitted on the other
/// versions with half a right and half a wrong answer added to each.
pub fn binomial_ratio(trials: &Trials<'_>, right: &[u16], asks: u16) -> Vec<f64> {
    trials.scores(|version, record| {
        let mut sums = [[0.0f64; 2]; 2];
        trials.others(version, record, |decision, inside| {
            let sum = &mut sums[usize::from(inside)];
            *sum = [sum[0] + f64::from(asks), sum[1] + f64::from(right[decision])];
        });
        let [outside, inside] = sums.map(|[asked, right]| (right + 0.5) / (asked + 1.0));
        let right = f64::from(right[version * trials.records + record]);
        right * (inside / outside).ln() + (f64::from(asks) - right) * ((1.0 - inside) / (1.0 - outside)).ln()
    })
}

/// One decision in the order of falling scores.
#[derive(Clone, Copy)]
struct Ranked {
    record: u32,
    pair: u32,
    inside: bool,
    /// The next one has a smaller score.
    last: bool,
}

/// What an attack achieves that calls those with the highest scores members.
pub fn figures(trials: &Trials<'_>, scores: &[f64], seed: u64) -> Figures {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_unstable_by(|one, other| scores[*other as usize].total_cmp(&scores[*one as usize]));
    let ranked: Vec<Ranked> = (0..order.len())
        .map(|at| {
            let decision = order[at] as usize;
            Ranked {
                record: (decision % trials.records) as u32,
                pair: (decision / trials.records / 2) as u32,
                inside: trials.inside[decision],
                last: order.get(at + 1).is_none_or(|next| scores[*next as usize] < scores[decision]),
            }
        })
        .collect();
    let curve = curve(&ranked);
    let (advantage, cell) = curve.iter().fold((0.0, 0.0), |best, [fpr, tpr]| {
        if tpr - fpr > best.0 { (tpr - fpr, tpr * (1.0 - tpr) + fpr * (1.0 - fpr)) } else { best }
    });
    let steps = || curve.windows(2).map(|pair| (pair[0], pair[1]));
    let auc = steps().map(|([x, y], [next_x, next_y])| (next_x - x) * (y + next_y) / 2.0).sum();
    let crossing = steps().find(|(_, [next, _])| *next > FALSE_POSITIVES);
    let tpr_at_1pct_fpr = crossing
        .map_or(1.0, |([x, y], [next_x, next_y])| y + (next_y - y) * (FALSE_POSITIVES - x) / (next_x - x));
    let cell = cell / (scores.len() as f64 / 2.0);
    let standard_error = standard_error(&ranked, trials, cell, seed);
    Figures { advantage, standard_error, auc, tpr_at_1pct_fpr }
}

/// False and true positive rate at every threshold, from none to all.
fn curve(ranked: &[Ranked]) -> Vec<[f64; 2]> {
    let inside = ranked.iter().filter(|ranked| ranked.inside).count() as f64;
    let outside = ranked.len() as f64 - inside;
    let (mut curve, mut found) = (vec![[0.0, 0.0]], [0.0, 0.0]);
    for ranked in ranked {
        found[usize::from(ranked.inside)] += 1.0;
        if ranked.last {
            curve.push([found[0] / outside, found[1] / inside]);
        }
    }
    curve
}

/// The advantage with weights. A record is inside as often as outside, so both sides weigh the same.
fn weighted(ranked: &[Ranked], weight: impl Fn(&Ranked) -> i64) -> f64 {
    let (mut ahead, mut most, mut inside) = (0i64, 0i64, 0i64);
    for ranked in ranked {
        let weight = weight(ranked);
        if ranked.inside {
            ahead += weight;
            inside += weight;
        } else {
            ahead -= weight;
        }
        if ranked.last {
            most = most.max(ahead);
        }
    }
    most as f64 / inside.max(1) as f64
}

/// Decisions about one record hang together, and those of one pair of versions: the variance over resampled
/// records plus that of leaving out pairs, less what both count of a single decision (Cameron, Gelbach and
/// Miller 2011), and at least the larger of the two.
fn standard_error(ranked: &[Ranked], trials: &Trials<'_>, cell: f64, seed: u64) -> f64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut weights = vec![0i64; trials.records];
    let resampled: Vec<f64> = (0..RESAMPLINGS)
        .map(|_| {
            weights.fill(0);
            (0..trials.records).for_each(|_| weights[random.random_range(0..trials.records)] += 1);
            weighted(ranked, |ranked| weights[ranked.record as usize])
        })
        .collect();
    let pairs = (trials.versions() / 2) as u32;
    let left_out: Vec<f64> =
        (0..pairs).map(|pair| weighted(ranked, |ranked| i64::from(ranked.pair != pair))).collect();
    let by_record = squares(&resampled) / (RESAMPLINGS - 1) as f64;
    let by_pair = squares(&left_out) * f64::from(pairs - 1) / f64::from(pairs);
    (by_record + by_pair - cell).max(by_record).max(by_pair).sqrt()
}

/// Sum of squared distances from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(versions: usize, records: usize, seed: u64) -> Vec<bool> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut inside = Vec::new();
        for _ in 0..versions / 2 {
            let half: Vec<bool> = (0..records).map(|_| random.random()).collect();
            inside.extend(half.iter().copied());
            inside.extend(half.iter().map(|inside| !inside));
        }
        inside
    }

    /// Roughly normal, of variance 1.
    fn normal(random: &mut StdRng) -> f64 {
        (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
    }

    #[test]
    fn a_gap_has_the_figures_of_two_rates() {
        // 90 % of the members and half of the others are right.
        let inside: Vec<bool> = (0..40).map(|at| (at % 20 < 10) == (at < 20)).collect();
        let trials = Trials { inside: &inside, records: 20 };
        let (mut members, mut others) = (0, 0);
        let scores: Vec<f64> = inside
            .iter()
            .map(|inside| {
                let (seen, every) = if *inside { (&mut members, 10) } else { (&mut others, 2) };
                *seen += 1;
                f64::from(u8::from(*seen % every != 0))
            })
            .collect();
        let found = figures(&trials, &scores, 1);
        assert!((found.advantage - 0.4).abs() < 1e-12, "{found:?}");
        assert!((found.auc - 0.7).abs() < 1e-12);
        assert!((found.tpr_at_1pct_fpr - 0.01 * 0.9 / 0.5).abs() < 1e-12);
        assert!(found.standard_error > 0.0);
    }

    #[test]
    fn perfect_and_blind_attacks_are_told_apart() {
        let inside = halves(8, 500, 2);
        let trials = Trials { inside: &inside, records: 500 };
        let truth: Vec<f64> = inside.iter().map(|inside| f64::from(u8::from(*inside))).collect();
        let perfect = figures(&trials, &truth, 1);
        assert_eq!((perfect.advantage, perfect.auc, perfect.tpr_at_1pct_fpr), (1.0, 1.0, 1.0));
        assert_eq!(perfect.standard_error, 0.0);
        let mut random = StdRng::seed_from_u64(3);
        let mut passed = 0;
        for _ in 0..100 {
            let blind: Vec<f64> = inside.iter().map(|_| random.random()).collect();
            let found = figures(&trials, &blind, 1);
            assert!((found.auc - 0.5).abs() < 0.05, "{found:?}");
            passed += usize::from(found.advantage > trials.resolution());
        }
        assert!(passed <= 5, "{passed} of 100 blind attacks pass what chance gives to one in a hundred");
    }

    #[test]
    fn a_ratio_finds_what_no_threshold_sees() {
        // Each record has a mean of its own, far apart; members lie half a deviation higher.
        let (versions, records) = (32, 400);
        let inside = halves(versions, records, 4);
        let trials = Trials { inside: &inside, records };
        let mut random = StdRng::seed_from_u64(5);
        let values: Vec<f64> = inside
            .iter()
            .enumerate()
            .map(|(at, inside)| {
                (at % records) as f64 * 10.0 + f64::from(u8::from(*inside)) + normal(&mut random)
            })
            .collect();
        let threshold = figures(&trials, &values, 1);
        let ratio = figures(&trials, &gaussian_ratio(&trials, &values), 1);
        assert!(threshold.advantage < 0.05, "{threshold:?}");
        // Two normal laws a deviation apart: 0.383 if both were known, less for the fit.
        assert!((0.25..0.4).contains(&ratio.advantage), "{ratio:?}");
        assert!((0.003..0.03).contains(&ratio.standard_error), "{ratio:?}");
    }

    #[test]
    fn repeated_answers_are_weighed_by_their_rates() {
        let (versions, records, asks) = (16, 300, 100u16);
        let inside = halves(versions, records, 6);
        let trials = Trials { inside: &inside, records };
        let mut random = StdRng::seed_from_u64(7);
        let mut asked = |rate: f64| (0..asks).filter(|_| random.random::<f64>() < rate).count() as u16;
        let right: Vec<u16> = inside.iter().map(|inside| asked(if *inside { 0.6 } else { 0.5 })).collect();
        let found = figures(&trials, &binomial_ratio(&trials, &right, asks), 1);
        // Two binomial laws two deviations apart.
        assert!((0.58..0.73).contains(&found.advantage), "{found:?}");
        // A record whose answers are all alike says nothing.
        let constant = vec![asks; inside.len()];
        let found = figures(&trials, &binomial_ratio(&trials, &constant, asks), 1);
        assert_eq!(found.advantage, 0.0);
    }

    #[test]
    fn the_standard_error_is_what_repetition_shows() {
        let (versions, records) = (8, 200);
        let mut random = StdRng::seed_from_u64(8);
        let (mut found, mut errors) = (Vec::new(), 0.0);
        let repetitions = 60;
        for _ in 0..repetitions {
            let inside = halves(versions, records, random.random());
            let trials = Trials { inside: &inside, records };
            // Records differ in how much they give away.
            let given: Vec<f64> = (0..records).map(|_| random.random::<f64>() * 3.0).collect();
            let score = |(at, inside): (usize, &bool)| {
                given[at % records] * f64::from(u8::from(*inside)) + normal(&mut random)
            };
            let scores: Vec<f64> = inside.iter().enumerate().map(score).collect();
            let figures = figures(&trials, &scores, 1);
            found.push(figures.advantage);
            errors += figures.standard_error / f64::from(repetitions);
        }
        let spread = (squares(&found) / f64::from(repetitions - 1)).sqrt();
        assert!((0.75..1.5).contains(&(errors / spread)), "{errors} said, {spread} seen");
    }
}
