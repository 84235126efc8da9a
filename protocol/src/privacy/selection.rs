//! How often each class is chosen under a mechanism, for planning: no draw, no votes of a query.

use super::{Law, Mechanism};

/// Probability that each class is the label of a histogram of votes, when every count receives `draws`
/// independent full draws of the mechanism's noise and a tie goes to the lowest of the tied classes, as under
/// sharing. An attested module makes one draw; two compute parties in software make two.
///
/// Exact up to about 10^-13. Takes time in proportion to the squared number of classes and the scale of the
/// noise; [`winners_under`] saves working out the law for many histograms.
///
/// ```
/// use consilium_protocol::privacy::{Mechanism, winners};
///
/// let mechanism = Mechanism::Gaussian { sigma_squared: "100".parse()? };
/// let agreement = winners(&[40, 7, 3], &mechanism, 2)[0];
/// assert!((0.92..0.94).contains(&agreement), "{agreement}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn winners(counts: &[u32], mechanism: &Mechanism, draws: u32) -> Vec<f64> {
    winners_under(counts, &Law::of(mechanism, draws))
}

/// As [`winners`], for noise whose law is at hand.
///
/// Class i wins with the noise x if every lower class stays below `count + x` and no higher class passes it.
/// Whether a Confident-GNMax answers at all is independent of this: the largest count passes a threshold t
/// with probability [`Law::at_least`]`(t - largest)` under the law of the test's noise.
pub fn winners_under(counts: &[u32], law: &Law) -> Vec<f64> {
    let wins = |class: usize, noise: i64| {
        let count = i64::from(counts[class]) + noise;
        let others = counts.iter().enumerate().filter(|(other, _)| *other != class);
        let beaten = others.map(|(other, votes)| {
            let gap = count - i64::from(*votes);
            law.below(if other > class { gap + 1 } else { gap })
        });
        law.at(noise) * beaten.product::<f64>()
    };
    let total = |class| (-law.reach()..=law.reach()).map(|noise| wins(class, noise)).sum();
    (0..counts.len()).map(total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::oracle;
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn gaussian(variance: u64) -> Mechanism {
        Mechanism::Gaussian { sigma_squared: variance.to_string().parse().unwrap() }
    }

    fn laplace(text: &str) -> Mechanism {
        Mechanism::Laplace { epsilon: text.parse().unwrap() }
    }

    /// Probabilities when a tie goes to each of the tied classes alike.
    fn fair(counts: &[u32], law: &Law) -> Vec<f64> {
        let wins = |class: usize, noise: i64| {
            // ties[t] is the probability that t others tie with this count and none passes it.
            let mut ties = vec![law.at(noise)];
            for (_, votes) in counts.iter().enumerate().filter(|(other, _)| *other != class) {
                let gap = i64::from(counts[class]) + noise - i64::from(*votes);
                let (less, same) = (law.below(gap), law.at(gap));
                ties.push(0.0);
                for index in (0..ties.len()).rev() {
                    let promoted = if index > 0 { ties[index - 1] * same } else { 0.0 };
                    ties[index] = ties[index] * less + promoted;
                }
            }
            ties.iter().enumerate().map(|(others, mass)| mass / (others + 1) as f64).sum::<f64>()
        };
        let total = |class| (-law.reach()..=law.reach()).map(|noise| wins(class, noise)).sum();
        (0..counts.len()).map(total).collect()
    }

    /// Probability that a class wins if it is numbered first, and if it is numbered last.
    fn bracket(counts: &[u32], class: usize, law: &Law) -> [f64; 2] {
        let mut moved = counts.to_vec();
        let own = moved.remove(class);
        let last = [moved.clone(), vec![own]].concat();
        moved.insert(0, own);
        [winners_under(&last, law)[counts.len() - 1], winners_under(&moved, law)[0]]
    }

    #[test]
    fn small_cases_by_hand() {
        // Two classes, two draws in all, each -1, 0 or 1 with weights q, 1, q, and nothing else to speak of:
        // at σ² = 1/16 the next weight is exp(-32).
        let (law, q) =
            (Law::of(&Mechanism::Gaussian { sigma_squared: "1/16".parse().unwrap() }, 1), (-8f64).exp());
        let total = (1.0 + 2.0 * q).powi(2);
        // Equal counts: the second class wins if its noise is strictly larger.
        let second = (q + q * q + q) / total;
        assert!((winners_under(&[3, 3], &law)[1] - second).abs() < 1e-12);
        // One vote apart: a tie, which the first class gets, or loses if it is numbered second.
        let overtaken = q * q / total;
        assert!((winners_under(&[4, 3], &law)[1] - overtaken).abs() < 1e-12);
        let tied_or_overtaken = (q * q + 2.0 * q) / total;
        assert!((winners_under(&[3, 4], &law)[0] - tied_or_overtaken).abs() < 1e-12);
    }

    #[test]
    fn probabilities_sum_to_one_and_no_noise_is_a_majority() {
        for mechanism in [gaussian(4), gaussian(1600), laplace("0.1"), laplace("2")] {
            for draws in [1, 2] {
                for counts in [&[5, 3, 2][..], &[0, 0, 0, 0], &[22, 20, 3, 2, 1, 1, 1, 0, 0, 0], &[7]] {
                    let total: f64 = winners(counts, &mechanism, draws).iter().sum();
                    assert!((total - 1.0).abs() < 1e-12, "{mechanism} {counts:?}: {total}");
                }
            }
        }
        assert_eq!(winners(&[2, 4, 4], &Mechanism::Exact, 1), [0.0, 1.0, 0.0]);
        assert_eq!(winners(&[2, 4, 4], &gaussian(4), 0), [0.0, 1.0, 0.0]);
        assert!(winners(&[], &gaussian(4), 1).is_empty());
    }

    /// The reference is for continuous noise, in which no tie can happen.
    ///
    /// Integer noise with ties broken at random is integer noise plus a uniform number from (-1/2, 1/2): it
    /// never reorders different integers. So it is nearly continuous noise whose variance is larger by 1/12:
    /// for the Gaussian a scale larger by 1/24σ² of itself, and the probability of a label moves by less than
    /// half of a relative change of scale. For Laplace noise of scale b the peak is rounded off as well, and
    /// twice as much, 1/12b², is allowed. Any rule for ties can only decide ties: its probabilities lie between
    /// those of a class that loses them all and of one that wins them all.
    #[test]
    fn every_reference_row_is_met_within_the_grain_of_the_integers() {
        let Some(file) = oracle::read("selection_probabilities.json") else { return };
        let rows = file.as_array().unwrap();
        let (mut probabilities, mut ties) = (0, 0.0f64);
        for row in rows {
            let list = |name: &str| row[name].as_array().unwrap().iter();
            let votes: Vec<u32> = list("votes").map(|votes| votes.as_u64().unwrap() as u32).collect();
            let (mechanism, column, grain) = if let Some(sigma) = row["sigma"].as_u64() {
                (gaussian(sigma * sigma), "gnmax", 1.0 / (24.0 * (sigma * sigma) as f64))
            } else {
                let scale = row["scale"].as_f64().unwrap();
                (laplace(&row["eps0"].to_string()), "laplace_rnm", 1.0 / (12.0 * scale * scale))
            };
            // The file's own integration is good to 4 · 10^-10.
            let (law, grain) = (Law::of(&mechanism, 1), grain + 1e-9);
            let expected = list(column).filter_map(Value::as_f64);
            let found = winners_under(&votes, &law).into_iter().zip(fair(&votes, &law));
            for (class, ((found, fair), expected)) in found.zip(expected).enumerate() {
                let [low, high] = bracket(&votes, class, &law);
                let text =
                    || format!("{mechanism} {votes:?} {class}: {low} {found} {high}, {fair}, {expected}");
                assert!((fair - expected).abs() < grain, "{}", text());
                for chosen in [found, fair] {
                    assert!(low - 1e-12 <= chosen && chosen <= high + 1e-12, "{}", text());
                }
                (probabilities, ties) = (probabilities + 1, ties.max(high - low));
            }
        }
        assert!(rows.len() >= 96 && probabilities > 400, "{} rows, {probabilities} compared", rows.len());
        assert!((0.1..0.3).contains(&ties), "the rule for ties matters for small noise: {ties}");
    }

    /// Every way to spread so many votes.
    fn histograms(votes: u32, classes: usize) -> Vec<Vec<u32>> {
        if classes == 1 {
            return vec![vec![votes]];
        }
        let with = |first: u32| {
            histograms(votes - first, classes - 1).into_iter().map(move |rest| [vec![first], rest].concat())
        };
        (0..=votes).flat_map(with).collect()
    }

    /// The largest log-ratio of a label's probability and the largest total variation that moving one vote
    /// makes, over all histograms. Labels of probability up to 10^-7 are left out of the first.
    fn worst_move(votes: u32, classes: usize, choose: impl Fn(&[u32]) -> Vec<f64>) -> [f64; 2] {
        let all: BTreeMap<Vec<u32>, Vec<f64>> =
            histograms(votes, classes).into_iter().map(|counts| (counts.clone(), choose(&counts))).collect();
        let (mut ratio, mut variation) = (0.0f64, 0.0f64);
        for (counts, before) in &all {
            for (from, to) in (0..classes).flat_map(|from| (0..classes).map(move |to| (from, to))) {
                if from == to || counts[from] == 0 {
                    continue;
                }
                let mut moved = counts.clone();
                (moved[from], moved[to]) = (moved[from] - 1, moved[to] + 1);
                let pairs = || before.iter().zip(&all[&moved]);
                let likely = pairs().filter(|(left, right)| left.min(**right) > 1e-7);
                ratio = likely.map(|(left, right)| (left / right).ln().abs()).fold(ratio, f64::max);
                variation =
                    variation.max(pairs().map(|(left, right)| (left - right).abs()).sum::<f64>() / 2.0);
            }
        }
        [ratio, variation]
    }

    /// Worst cases for continuous noise as worked out elsewhere, with three digits.
    #[test]
    fn one_moved_vote_changes_as_much_as_it_should() {
        let rows = [
            (10, 2, "0.5", 0.382, 0.121),
            (10, 2, "1", 0.846, 0.224),
            (10, 2, "2", 1.818, 0.365),
            (8, 3, "1", 0.852, 0.225),
        ];
        for (votes, classes, epsilon, ratio, variation) in rows {
            let (law, value) = (Law::of(&laplace(epsilon), 1), epsilon.parse::<f64>().unwrap());
            let [fair_ratio, fair_variation] = worst_move(votes, classes, |counts| fair(counts, &law));
            assert!((fair_ratio - ratio).abs() < 0.003, "{classes} {epsilon}: {fair_ratio}");
            assert!((fair_variation - variation).abs() < 0.006, "{classes} {epsilon}: {fair_variation}");
            // The rule for ties may cost, but never more than the mechanism promises.
            let [ratio, variation] = worst_move(votes, classes, |counts| winners_under(counts, &law));
            assert!(ratio <= value && variation <= (value / 2.0).tanh(), "{epsilon}: {ratio} {variation}");
            assert!(ratio > 0.7 * value, "a scale of 2/ε is needed: {ratio}");
        }
        for (sigma, variation) in [(2, 0.260), (5, 0.111), (10, 0.056)] {
            let law = Law::of(&gaussian(sigma * sigma), 1);
            let [_, found] = worst_move(10, 2, |counts| fair(counts, &law));
            assert!((found - variation).abs() < 0.003, "{sigma}: {found}");
            // Total variation under zCDP: at most √(ρ/2), by Pinsker's inequality.
            let [_, found] = worst_move(10, 2, |counts| winners_under(counts, &law));
            assert!(found <= (0.5f64).sqrt() / sigma as f64, "{sigma}: {found}");
        }
    }
}
