//! The result of an experiment: a table, an object for machines, and what is wrong with it.

use super::{Cohort, MembershipError, OneVote, Plan, Repeated, Row, Trials, Views, one_votes, rows};
use super::{record::recorded, signal::ROWS};
use consilium::demo::{Hospital, Preprocessing, Progress, Releases, Scenario};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Differences below this mean nothing, say the makers of the reference figures.
pub const REFERENCE_RESOLUTION: f64 = 0.01;
/// Vectors of noise behind what one vote moves.
const ONE_VOTE_VECTORS: usize = 20_000;
const QUERY_DEADLINE: Duration = Duration::from_secs(300);
/// The attack that shows that the harness can attack.
const CLEAR: &str = "victim_logits_lira";

/// What an experiment showed.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Name of the data set.
    pub dataset: &'static str,
    /// Owners, the victim among them.
    pub owners: usize,
    /// Records that each trained on.
    pub records: usize,
    /// Versions of the victim.
    pub versions: usize,
    /// Seed of everything.
    pub seed: u64,
    /// Passes over the records.
    pub epochs: usize,
    /// Mean accuracy of the victims on their own records.
    pub train_accuracy: f64,
    /// And on rows that nobody trained on.
    pub test_accuracy: f64,
    /// Decisions behind each figure.
    pub decisions: usize,
    /// The advantage that chance gives to one attack of a hundred that knows nothing.
    pub resolution: f64,
    /// All attacks on all signals.
    pub rows: Vec<Row>,
    /// What one vote moves at most.
    pub one_vote: Vec<OneVote>,
    /// The same question again and again, where that was tried.
    pub repeated: Option<Repeated>,
    /// What it took.
    pub seconds: f64,
}

impl Outcome {
    /// Makes the experiment, without the processes; also gives the owners, the victim in its first version.
    ///
    /// # Errors
    /// The data do not suffice, or a training failed.
    pub fn new(
        plan: &Plan,
        shared: Option<&Path>,
        progress: &Progress,
    ) -> Result<(Self, Cohort), MembershipError> {
        let started = Instant::now();
        let trained = plan.owners.saturating_add(plan.versions).saturating_sub(1) as u64;
        let bar = progress.bar("owners train", trained);
        let cohort = Cohort::train(plan, shared, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let bar = progress.bar("votes of all versions", trained);
        let views = Views::new(&cohort, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let recorded = recorded(shared, plan);
        let bar = progress.bar("attacks", ROWS as u64);
        let rows = rows(plan, &cohort, &views, &recorded, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let inside: Vec<bool> = cohort.versions.iter().flat_map(|version| version.inside.clone()).collect();
        let outcome = Self {
            dataset: plan.subject.name(),
            owners: plan.owners,
            records: plan.records,
            versions: plan.versions,
            seed: plan.seed,
            epochs: plan.subject.recipe(plan.records, plan.epochs).epochs,
            train_accuracy: cohort.train_accuracy,
            test_accuracy: cohort.test_accuracy,
            decisions: inside.len(),
            resolution: Trials { inside: &inside, records: views.records() }.resolution(),
            rows,
            one_vote: one_votes(plan, views.classes, ONE_VOTE_VECTORS)?,
            repeated: None,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((outcome, cohort))
    }

    /// The consortium of an experiment, with the usual budget, for questions about the pool.
    pub fn scenario(plan: &Plan, cohort: Cohort) -> Scenario {
        let Cohort { material, pool, others, versions, .. } = cohort;
        let victim = versions.into_iter().map(|version| version.model).take(1);
        let hospitals = victim.chain(others).enumerate().map(|(index, model)| Hospital {
            name: format!("hospital-{:02}", index + 1),
            rows: plan.records,
            model,
            shards: Vec::new(),
        });
        Scenario {
            name: plan.subject.name().to_owned(),
            title: format!("{} ({})", plan.subject.name(), material.network.summary()),
            credit: "see the documentation of the data".into(),
            input: material.network.input(),
            classes: material.classes,
            input_abs_max: material.bound,
            numbers: material.numbers,
            normalisation: None,
            releases: Releases::usual(plan.owners),
            hospitals: hospitals.collect(),
            test: pool,
            preprocessing: Preprocessing::Pairwise,
            pool: (4, 12),
            query_deadline: QUERY_DEADLINE,
            standby: None,
        }
    }

    /// The figures of a signal.
    pub fn row(&self, signal: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.signal == signal)
    }

    /// Everything that is not as it should be, in words; empty for a good outcome.
    ///
    /// Of the noisy labels only those under one party's Gaussian noise, asked for once, have reference
    /// figures; the exponential mechanism of the others is not offered here.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.row(CLEAR) {
            Some(row) if row.figures.advantage > 2.0 * self.resolution => {}
            row => faults.push(format!("no clear attack on {CLEAR}: {row:?}")),
        }
        for row in &self.rows {
            let found = row.figures.advantage;
            if let Some(bound) = row.bound
                && found > bound + self.resolution
            {
                faults.push(format!("{}: advantage {found:.4} passes the bound {bound:.4}", row.signal));
            }
        }
        faults.extend(self.row(CLEAR).and_then(|row| unlike(CLEAR, &[row])));
        // Of a noisy label the better of both attacks, as the reference's table has it: which one that is may
        // be chance.
        let asked = self.rows.iter().filter(|row| row.released);
        for label in asked.filter_map(|row| row.signal.strip_suffix("_gap")) {
            let attacks = ["gap", "lr"].map(|attack| self.row(&format!("{label}_{attack}")));
            faults.extend(unlike(label, &attacks.into_iter().flatten().collect::<Vec<_>>()));
        }
        for vote in &self.one_vote {
            let most = vote.advantage[0].max(vote.advantage[1]);
            let sampled = 4.0 * (most * (1.0 - most) / ONE_VOTE_VECTORS as f64).sqrt();
            if vote.bound.is_some_and(|bound| most > bound + sampled) {
                faults.push(format!("one vote under {} moves {most:.4}: {:?}", vote.setting, vote.bound));
            }
        }
        faults.extend(self.repeated.iter().flat_map(Repeated::faults));
        faults
    }
}

/// What the best of these attacks achieves, where that is not what the reference has.
fn unlike(signal: &str, attacks: &[&Row]) -> Option<String> {
    let best = attacks.iter().max_by(|a, b| a.figures.advantage.total_cmp(&b.figures.advantage))?;
    let recorded = attacks.iter().filter_map(|row| row.recorded.as_ref()).map(|recorded| recorded.advantage);
    let (recorded, found) = (recorded.max_by(f64::total_cmp)?, best.figures.advantage);
    ((found - recorded).abs() > best.tolerance()).then(|| {
        format!(
            "{signal}: advantage {found:.4}, the reference has {recorded:.4}, within {:.4} is allowed",
            best.tolerance()
        )
    })
}

impl Row {
    /// How far two measurements of one thing may lie apart: two standard errors of their difference, the
    /// reference's being taken for as large as this one's, and at least what its makers can tell apart.
    pub fn tolerance(&self) -> f64 {
        (2.0 * std::f64::consts::SQRT_2 * self.figures.standard_error).max(REFERENCE_RESOLUTION)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} owners of {} records, {} versions of one of them ({} epochs): {:.1} % right on its own \
             records, {:.1} % on others",
            self.dataset,
            self.owners,
            self.records,
            self.versions,
            self.epochs,
            self.train_accuracy * 100.0,
            self.test_accuracy * 100.0
        )?;
        writeln!(
            f,
            "{} decisions a row; an advantage below {:.3} can be chance; {:.0} seconds\n",
            self.decisions, self.resolution, self.seconds
        )?;
        writeln!(
            f,
            "{:<32} {:>9} {:>7} {:>6} {:>7} {:>7} {:>10}",
            "signal and attack", "advantage", "error", "AUC", "TPR 1%", "bound", "reference"
        )?;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
        for row in &self.rows {
            let Row { figures, .. } = row;
            writeln!(
                f,
                "{:<32} {:>9.3} {:>7.3} {:>6.3} {:>5.1} % {:>7} {:>10}",
                row.signal,
                figures.advantage,
                figures.standard_error,
                figures.auc,
                figures.tpr_at_1pct_fpr * 100.0,
                number(row.bound),
                number(row.recorded.as_ref().map(|recorded| recorded.advantage))
            )?;
        }
        writeln!(
            f,
            "\nwhat one vote moves if all others are known: under one party's noise, both, and the bound"
        )?;
        for vote in &self.one_vote {
            let [alone, both] = vote.advantage;
            writeln!(f, "{:<32} {alone:>9.3} {both:>7.3} {:>7}", vote.setting, number(vote.bound))?;
        }
        if let Some(repeated) = &self.repeated {
            writeln!(
                f,
                "\none record asked about {} times under fresh names ({} processes, {}): {} answered, {} \
                 paid for, {} refused; epsilon {:.3} of {:.3}; the first name again: {}",
                repeated.asked,
                repeated.processes,
                repeated.mechanism,
                repeated.answered + repeated.answered_late,
                repeated.paid,
                repeated.refused,
                repeated.epsilon_spent[0],
                repeated.epsilon_budget,
                if repeated.repeated { "the same label, no charge" } else { "not answered alike" }
            )?;
        }
        Ok(())
    }
}
