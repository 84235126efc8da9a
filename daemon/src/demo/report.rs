//! The figures of a run, for machines and for people.

use super::measure::Measured;
use super::scenario::Scenario;
use super::shards::{self, Split};
use super::tour;
use super::world::tasks;
use crate::client::Answer;
use crate::losses::{Losses, rounded_up_to};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use miette::{Result, miette};
use serde::Serialize;

/// Share of queries that rounding may decide.
const NEAR_TIES_MAX: f64 = 0.005;
/// A promise of more than so many times the epsilon of the service is not worth the name.
const WORTH: f64 = 2.0;

/// One run as one JSON object. Later versions add fields and rename none.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// Model owners.
    pub owners: usize,
    /// Models of each owner, one vote each.
    pub shards: usize,
    /// Queries asked.
    pub queries: usize,
    /// Processes beside this one.
    pub processes: usize,
    /// Where the correlated randomness came from.
    pub source: String,
    /// Where the noise came from.
    pub noise: String,
    /// Exact private labels against the oracle's.
    pub agreement: Agreement,
    /// Shares of right labels.
    pub accuracy: Accuracy,
    /// Question to answer, exact release.
    pub latency_ms: Latency,
    /// Between the compute parties, per exact query.
    pub online: Online,
    /// Bundles of party Zero, all tasks.
    pub correlations: Correlations,
    /// The service with a budget.
    pub privacy: Privacy,
    /// How each owner split its patients, where it has several models.
    pub splits: Vec<Split>,
    /// Seconds of publishing (with filling the pools) and of asking.
    pub seconds: [f64; 2],
}

/// Exact private labels against the clear-text fixed-point oracle.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Queries whose oracle margin exceeds the plan's rounding bound.
    pub certain: usize,
    /// Of these, private labels that equal the oracle's.
    pub equal: usize,
    /// Queries that rounding could decide.
    pub near_ties: usize,
    /// Of these, private labels that equal the oracle's.
    pub near_ties_equal: usize,
    /// `equal / certain`.
    pub rate: f64,
}

/// Shares of right labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// One hospital alone, mean.
    pub owner_mean: f64,
    /// Majority of the float models.
    pub ensemble_float: f64,
    /// Exact private release.
    pub private_exact: f64,
    /// Noisy private release, evaluation ledger; of the questions that were answered.
    pub private_dp: f64,
    /// Share of questions that the noisy release answered; the others found no consensus.
    pub answered_dp: f64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the queries are faster.
    pub median: f64,
    /// 95 of 100 queries are faster.
    pub p95: f64,
}

/// Per query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Online {
    /// Simultaneous exchanges.
    pub rounds: u32,
    /// Bytes in both directions.
    pub bytes: u64,
}

/// Bundles, one for each query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlations {
    /// Burnt.
    pub used: u64,
    /// At hand.
    pub left: u64,
}

/// The promise to each owner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Privacy {
    /// Noise and its deviation.
    pub mechanism: String,
    /// Whose data one promise covers.
    pub unit: String,
    /// Budget of the service.
    pub epsilon: f64,
    /// Probability with which the promise may fail.
    pub delta: f64,
    /// Epsilon spent by the service when it refused.
    pub spent: f64,
    /// Answers that the budget paid for.
    pub budget: usize,
    /// True epsilon of the evaluation ledger, which answered all queries.
    pub evaluation_epsilon: f64,
    /// What the service's loss means for each who has a stake.
    pub losses: Option<Losses>,
    /// What it means when its budget is spent.
    pub losses_at_budget: Option<Losses>,
}

impl Report {
    /// Counts.
    pub fn new(scenario: &Scenario, measured: &Measured) -> Self {
        let label = |answer: &Answer| answer.labels.first().copied().flatten().map(|label| label as usize);
        let exact: Vec<usize> =
            measured.exact.iter().map(|answer| label(answer).unwrap_or(usize::MAX)).collect();
        let told = measured.noisy.iter().zip(&measured.truth);
        let (noisy, truth): (Vec<usize>, Vec<usize>) =
            told.filter_map(|(answer, truth)| Some((label(answer)?, *truth))).unzip();
        let first = measured.exact.first();
        let status = |name: &str| measured.tasks.iter().find(|task| task.task == name);
        let spent = |name: &str| status(name).and_then(|task| task.epsilon_spent).unwrap_or(0.0);
        let losses = status(tasks::SERVICE).and_then(|task| task.losses.clone());
        let pools = || measured.tasks.iter().filter_map(|task| task.pool);
        Self {
            scenario: scenario.name.clone(),
            owners: scenario.hospitals.len(),
            shards: scenario.shards(),
            queries: exact.len(),
            processes: measured.processes,
            source: first.map_or_else(String::new, |answer| answer.terms.preprocessing.clone()),
            noise: measured.noisy.first().map_or_else(String::new, |answer| answer.terms.noise.to_string()),
            agreement: agreement(&exact, measured),
            accuracy: Accuracy {
                owner_mean: measured.owner_mean,
                ensemble_float: share_right(&measured.float, &measured.truth),
                private_exact: share_right(&exact, &measured.truth),
                private_dp: share_right(&noisy, &truth),
                answered_dp: noisy.len() as f64 / measured.noisy.len().max(1) as f64,
            },
            latency_ms: latency(measured.exact.iter().map(|answer| answer.milliseconds).collect()),
            online: Online {
                rounds: first.map_or(0, |answer| answer.terms.rounds),
                bytes: first.map_or(0, |answer| 2 * answer.terms.bytes),
            },
            correlations: Correlations {
                used: pools().map(|pool| pool.used).sum(),
                left: pools().map(|pool| pool.left).sum(),
            },
            privacy: Privacy {
                mechanism: status(tasks::SERVICE).map_or_else(String::new, |task| task.mechanism.clone()),
                unit: losses.as_ref().map_or_else(String::new, |losses| losses.unit.clone()),
                epsilon: status(tasks::SERVICE).and_then(|task| task.epsilon_budget).unwrap_or(0.0),
                delta: scenario.releases.delta.parse().unwrap_or(0.0),
                spent: spent(tasks::SERVICE),
                budget: measured.served,
                evaluation_epsilon: spent(tasks::EVALUATION),
                losses,
                losses_at_budget: status(tasks::SERVICE).and_then(|task| task.losses_at_budget.clone()),
            },
            splits: Split::all(scenario),
            seconds: measured.seconds,
        }
    }

    /// An error where the run contradicts what the product promises. Private accuracy may differ from the
    /// float ensemble's by `accuracy_gap_max`.
    ///
    /// # Errors
    /// A label differs from the oracle's, too many near ties, an accuracy gap, or a service that
    /// never refused.
    pub fn verdict(&self, accuracy_gap_max: f64) -> Result<()> {
        let agreement = &self.agreement;
        if agreement.equal != agreement.certain {
            return Err(miette!(
                "{} of {} certain labels differ from the oracle's",
                agreement.certain - agreement.equal,
                agreement.certain
            ));
        }
        if agreement.near_ties as f64 > NEAR_TIES_MAX * self.queries as f64 {
            return Err(miette!("{} of {} queries are near ties", agreement.near_ties, self.queries));
        }
        let gap = (self.accuracy.private_exact - self.accuracy.ensemble_float).abs();
        if gap > accuracy_gap_max {
            return Err(miette!("private accuracy is {gap:.4} away from the float ensemble's"));
        }
        if let Some(split) = self.splits.iter().find(|split| !split.disjoint) {
            return Err(miette!("the shards of {} are not disjoint", split.hospital));
        }
        if self.privacy.spent > self.privacy.epsilon {
            return Err(miette!("the service spent more than its budget"));
        }
        Ok(())
    }

    /// Prints the report for people.
    pub fn print(&self, scenario: &Scenario, measured: &Measured) {
        println!(
            "\n{} {} hospitals, {} questions, {} processes.",
            scenario.title, self.owners, self.queries, self.processes
        );
        println!("Data: {}\n", scenario.credit);
        if self.shards > 1 {
            println!(
                "Each hospital split its patients into {} shards and trained a model on each: {} votes.",
                self.shards,
                self.owners * self.shards
            );
            shards::print(&self.splits);
        }
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let mut rows = table(&["who answers", "right", "who learns what"]);
        rows.add_row([
            "one hospital alone (mean)",
            &percent(self.accuracy.owner_mean),
            "the hospital sees the patient",
        ]);
        rows.add_row([
            "all hospitals, plaintext majority",
            &percent(self.accuracy.ensemble_float),
            "everyone's model and the patient in one place",
        ]);
        rows.add_row([
            "Consilium, exact release",
            &percent(self.accuracy.private_exact),
            "the client learns the label, nobody anything else",
        ]);
        rows.add_row([
            "Consilium, noisy release",
            &percent(self.accuracy.private_dp),
            match self.shards {
                1 => "the same, with a privacy promise to every hospital",
                _ => "the same, with a privacy promise to every patient",
            },
        ]);
        println!("{rows}");
        if self.accuracy.answered_dp < 1.0 {
            let answered = percent(self.accuracy.answered_dp);
            println!("the noisy release answered {answered} of the questions; else it found no consensus");
        }
        let agreement = &self.agreement;
        println!(
            "\nlabels as the plaintext oracle: {} of {} certain; {} near ties ({} equal)",
            agreement.equal, agreement.certain, agreement.near_ties, agreement.near_ties_equal
        );
        println!("latency: median {:.1} ms, p95 {:.1} ms", self.latency_ms.median, self.latency_ms.p95);
        println!(
            "online, per query: {} rounds, {:.1} kB in both directions",
            self.online.rounds,
            self.online.bytes as f64 / 1e3
        );
        println!(
            "correlated randomness: {} bundles used, {} left; made by: {}",
            self.correlations.used, self.correlations.left, self.source
        );
        self.print_privacy(measured);
        tour::print(scenario, self);
        if let Some(folder) = &measured.state {
            println!("\nconfiguration, state and logs of all processes: {}", folder.display());
        }
    }

    fn print_privacy(&self, measured: &Measured) {
        let privacy = &self.privacy;
        println!("\nprivacy: {}; noise: {}", privacy.mechanism, self.noise);
        println!(
            "the service with epsilon {} (delta {:e}) gave {} answers and spent epsilon {}{}",
            privacy.epsilon,
            privacy.delta,
            privacy.budget,
            rounded_up_to(privacy.spent, 2),
            if measured.refusal.is_some() { ", and then refused" } else { "" }
        );
        if let Some(refusal) = &measured.refusal {
            println!("  \"{}\"", refusal.explanation);
        }
        if let (Some(spent), Some(budget)) = (&privacy.losses, &privacy.losses_at_budget) {
            let mut rows = table(&["the promise is to", "votes moved", "epsilon spent", "of"]);
            for ((whom, spent), (_, budget)) in spent.rows().into_iter().zip(budget.rows()) {
                let beside = if rows.row_count() == 0 { "" } else { "beside it: " };
                let votes = spent.votes.to_string();
                rows.add_row([format!("{beside}{whom}"), votes, spent.shown(), budget.shown()]);
            }
            println!("{rows}");
        }
        println!(
            "the accuracy of noisy answers comes from an evaluation ledger of epsilon {:.1}{}",
            privacy.evaluation_epsilon,
            if privacy.evaluation_epsilon > WORTH * privacy.epsilon {
                ": no promise worth the name"
            } else {
                ""
            }
        );
    }
}

pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(columns.iter().copied());
    table
}

fn agreement(exact: &[usize], measured: &Measured) -> Agreement {
    let pairs = || exact.iter().zip(&measured.verdicts);
    let count = |certain: bool, equal: bool| {
        pairs()
            .filter(|(label, verdict)| verdict.certain == certain && (!equal || **label == verdict.label))
            .count()
    };
    let (certain, equal) = (count(true, false), count(true, true));
    Agreement {
        certain,
        equal,
        near_ties: count(false, false),
        near_ties_equal: count(false, true),
        rate: if certain == 0 { 0.0 } else { equal as f64 / certain as f64 },
    }
}

fn share_right(labels: &[usize], truth: &[usize]) -> f64 {
    let right = labels.iter().zip(truth).filter(|(label, truth)| label == truth).count();
    right as f64 / labels.len().max(1) as f64
}

pub(super) fn latency(mut milliseconds: Vec<f64>) -> Latency {
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (milliseconds.len() as f64 * share).ceil() as usize;
        milliseconds.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    Latency { median: at(0.5), p95: at(0.95) }
}
