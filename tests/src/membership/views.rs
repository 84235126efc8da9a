//! What the owners' models say about every record of the pool.

use super::{Cohort, MembershipError, cores, on_all_cores};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::clear::Oracle;
use consilium_protocol::evaluate::float::logits;
use consilium_protocol::model::Model;

/// Votes as the protocol casts them, and the confidences that it never shows. What depends on the version is
/// version-major: all records of the first version, then those of the next.
#[derive(Debug)]
pub struct Views {
    /// The true class of each record.
    pub labels: Vec<u8>,
    /// Number of classes.
    pub classes: usize,
    /// The victim's vote, by version and record: from the fixed-point oracle of the protocol.
    pub victim_votes: Vec<u8>,
    /// Log odds of the true class under the victim, by version and record.
    pub victim_odds: Vec<f64>,
    /// The other owners' votes for each class, by record.
    pub other_counts: Vec<u32>,
    /// Sums of the others' probabilities for the true class, and against it, by record.
    pub other_probability: Vec<[f64; 2]>,
}

impl Views {
    /// Evaluates every model on every record.
    ///
    /// # Errors
    /// A model or a record does not fit the numbers.
    pub fn new(cohort: &Cohort, seen: &(dyn Fn() + Sync)) -> Result<Self, MembershipError> {
        let (records, classes) = (cohort.pool.rows(), cohort.material.classes.len());
        let fixed = Fixed { fraction_bits: cohort.material.numbers.fraction_bits };
        let mut words = Vec::with_capacity(records);
        for record in 0..records {
            words.push(fixed.encode_all(cohort.pool.row(record), cohort.material.bound)?);
        }
        let victims: Vec<&Model> = cohort.versions.iter().map(|version| &version.model).collect();
        let models: Vec<&Model> = cohort.others.iter().chain(victims).collect();
        let mut views = on_all_cores(models.len(), cores(), |index| {
            let oracle = Oracle::new(models[index].clone(), cohort.material.numbers)?;
            let view = |record: usize| {
                let vote = oracle.vote(&words[record]).class as u8;
                let logits = logits(models[index], cohort.pool.row(record));
                (vote, log_odds(&logits, usize::from(cohort.pool.labels()[record])))
            };
            let view: Vec<(u8, f64)> = (0..records).map(view).collect();
            seen();
            Ok(view)
        })?;
        let victims = views.split_off(cohort.others.len());
        let mut other_counts = vec![0; records * classes];
        let mut other_probability = vec![[0.0; 2]; records];
        for view in &views {
            for (record, (vote, odds)) in view.iter().enumerate() {
                other_counts[record * classes + usize::from(*vote)] += 1;
                other_probability[record][0] += logistic(*odds);
                other_probability[record][1] += logistic(-odds);
            }
        }
        Ok(Self {
            labels: cohort.pool.labels().to_vec(),
            classes,
            victim_votes: victims.iter().flatten().map(|(vote, _)| *vote).collect(),
            victim_odds: victims.iter().flatten().map(|(_, odds)| *odds).collect(),
            other_counts,
            other_probability,
        })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.labels.len()
    }

    /// All owners' votes in one decision, numbered version-major.
    pub fn counts(&self, decision: usize) -> Vec<i64> {
        let record = decision % self.records();
        let others = &self.other_counts[record * self.classes..][..self.classes];
        let mut counts: Vec<i64> = others.iter().map(|count| i64::from(*count)).collect();
        counts[usize::from(self.victim_votes[decision])] += 1;
        counts
    }

    /// The true class in one decision.
    pub fn label(&self, decision: usize) -> usize {
        usize::from(self.labels[decision % self.records()])
    }

    /// Log odds of the true class under the mean probability of all owners, in one decision.
    pub fn ensemble_odds(&self, decision: usize) -> f64 {
        let [for_it, against] = self.other_probability[decision % self.records()];
        let odds = self.victim_odds[decision];
        ((for_it + logistic(odds)) / (against + logistic(-odds))).ln()
    }
}

/// `ln(p / (1 - p))` of the softmax probability of one class, exact also where p is almost 0 or 1.
fn log_odds(logits: &[f64], class: usize) -> f64 {
    let others = || logits.iter().enumerate().filter(|(at, _)| *at != class).map(|(_, logit)| *logit);
    let largest = others().fold(f64::NEG_INFINITY, f64::max);
    logits[class] - largest - others().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

fn logistic(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_those_of_the_softmax() {
        let logits = [0.3, -1.2, 2.0];
        let sum: f64 = logits.iter().map(|logit: &f64| logit.exp()).sum();
        for class in 0..3 {
            let p = logits[class].exp() / sum;
            assert!((log_odds(&logits, class) - (p / (1.0 - p)).ln()).abs() < 1e-12);
            assert!((logistic(log_odds(&logits, class)) - p).abs() < 1e-12);
        }
        assert_eq!(log_odds(&[900.0, 0.0], 0), 900.0);
    }
}
