//! Rows put to two parties, to the oracle, and to the same models in plaintext.

use super::score::Scores;
use super::{INPUT_ABS_MAX, Tick, TrialError};
use consilium::training::Examples;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::context::Meter;
use consilium_protocol::evaluate::clear::{DistanceOracle, Nearest, nearest};
use consilium_protocol::evaluate::float;
use consilium_protocol::graph::{Measure, OneClassShape, Plan, ReleaseShape};
use consilium_protocol::model::{OneClass, OneClassError};
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::TestTask;
use serde::Serialize;
use std::time::Instant;

/// Rows side by side, the largest that fits.
const BATCHES: [usize; 4] = [25, 10, 4, 1];
const GADGET: Gadget = Gadget::Digits;
pub(super) const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };

/// Users' models, and what is public of their task.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What each user is called.
    pub names: Vec<String>,
    /// One model each.
    pub models: Vec<OneClass>,
    /// Public facts.
    pub shape: OneClassShape,
    /// Seed of masks and shares.
    pub seed: u64,
}

/// What two parties told, beside the references, about the same rows.
#[derive(Clone, Debug, Serialize)]
pub struct Pass {
    /// Whether users refuse what is beyond their thresholds.
    pub thresholds: bool,
    /// Of the answers of two parties.
    pub private: Scores,
    /// Of the same models in floating point and in the clear.
    pub plain: Scores,
    /// With the oracle and with plaintext.
    pub agreement: Agreement,
    /// Rows of a batch.
    pub batch: usize,
    /// Rounds of a batch, as counted while it ran.
    pub rounds: u32,
    /// Bytes that each party sent for a batch, as counted while it ran.
    pub bytes: u64,
    /// Whether those are what the plan foretells.
    pub as_planned: bool,
    /// Seconds of the two parties, correlated randomness included, which an insecure stand-in makes here.
    pub seconds: f64,
    /// The answers.
    #[serde(skip)]
    pub answers: Vec<Option<usize>>,
}

/// How many answers are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Rows asked about.
    pub rows: usize,
    /// Rows for which no rounding can change the oracle's answer.
    pub certain: usize,
    /// Of these, answers as the oracle's.
    pub certain_equal: usize,
    /// Of the others, answers as the oracle's.
    pub doubtful_equal: usize,
    /// Answers as in floating point and in the clear.
    pub as_plain: usize,
}

struct Told {
    answers: Vec<Option<usize>>,
    meter: Meter,
    batch: usize,
    as_planned: bool,
}

impl Panel {
    /// The users without one.
    #[must_use]
    pub fn without(&self, user: usize) -> Self {
        let mut panel = self.clone();
        panel.models.remove(user);
        panel.names.remove(user);
        panel
    }

    /// The same users, who refuse nothing.
    ///
    /// # Errors
    /// None but a fault of this program.
    pub fn accepting(&self) -> Result<Self, OneClassError> {
        let most = 2f64.powi(self.shape.distance_bits as i32) - 1.0;
        let models = self.models.iter().map(|model| with_threshold(model, most));
        Ok(Self { models: models.collect::<Result<_, _>>()?, ..self.clone() })
    }

    /// Puts rows to two parties, the oracle and plaintext; `plain` are [`Panel::plain`] of the same rows, `tick` hears
    /// of each batch how many rows it had.
    ///
    /// # Errors
    /// A row or model does not fit the task.
    pub fn pass(
        &self,
        (rows, truth): (&Examples, &[Option<usize>]),
        plain: &[Vec<f64>],
        thresholds: bool,
        tick: Tick<'_>,
    ) -> Result<Pass, TrialError> {
        let panel = if thresholds { self.clone() } else { self.accepting()? };
        let started = Instant::now();
        let told = panel.ask(rows, tick)?;
        let seconds = started.elapsed().as_secs_f64();
        let oracle = panel.oracle(rows)?;
        let plain: Vec<Option<usize>> = plain.iter().map(|distances| panel.named(distances)).collect();
        Ok(Pass {
            thresholds,
            private: Scores::new(&self.names, truth, &told.answers),
            plain: Scores::new(&self.names, truth, &plain),
            agreement: Agreement::new(&told.answers, &oracle, &plain),
            batch: told.batch,
            rounds: told.meter.rounds,
            bytes: told.meter.bytes,
            as_planned: told.as_planned,
            seconds,
            answers: told.answers,
        })
    }

    /// The answers of two parties alone.
    ///
    /// # Errors
    /// As [`Panel::pass`].
    pub fn answers(&self, rows: &Examples, tick: Tick<'_>) -> Result<Vec<Option<usize>>, TrialError> {
        self.ask(rows, tick).map(|told| told.answers)
    }

    fn ask(&self, rows: &Examples, tick: Tick<'_>) -> Result<Told, TrialError> {
        let mut task = self.task()?;
        let (batch, cost) = (task.plan().batch(), task.plan().cost());
        let mut told = Told { answers: Vec::new(), meter: Meter::default(), batch, as_planned: true };
        self.each_batch(rows, batch, |queries, asked| {
            let (labels, meter, _) = task.ask(queries, [&[], &[]])?;
            let somebody = |label: usize| Some(label).filter(|user| *user < self.models.len());
            told.answers.extend(labels.into_iter().take(asked).map(somebody));
            told.as_planned &= (meter.rounds, meter.bytes) == (cost.rounds, cost.bytes);
            told.meter = meter;
            tick(asked);
            Ok(())
        })?;
        Ok(told)
    }

    /// All distances as two parties hold them in shares, opened here and nowhere else: for each row one per user.
    ///
    /// # Errors
    /// As [`Panel::pass`].
    pub fn opened(&self, rows: &Examples, tick: Tick<'_>) -> Result<Vec<Vec<f64>>, TrialError> {
        let mut task = self.task()?;
        let unit = 2f64.powi(2 * self.shape.numbers.fraction_bits as i32);
        let mut distances = Vec::with_capacity(rows.rows());
        let batch = task.plan().batch();
        self.each_batch(rows, batch, |queries, asked| {
            let inside = task.inside(queries)?;
            let of = |row: usize| -> Vec<f64> {
                inside.iter().map(|user| user.logits[row] as i64 as f64 / unit).collect()
            };
            distances.extend((0..asked).map(of));
            tick(asked);
            Ok(())
        })?;
        Ok(distances)
    }

    /// All distances in floating point and in the clear: for each row one per user.
    pub fn plain(&self, rows: &Examples) -> Vec<Vec<f64>> {
        let of = |row: usize| {
            self.models.iter().map(|model| float::distance(model, rows.row(row))).collect::<Vec<f64>>()
        };
        (0..rows.rows()).map(of).collect()
    }

    fn oracle(&self, rows: &Examples) -> Result<Vec<Nearest>, TrialError> {
        let made = self.models.iter().map(|model| DistanceOracle::new(model.clone(), self.shape));
        let oracles = made.collect::<Result<Vec<_>, _>>()?;
        let mut found = Vec::with_capacity(rows.rows());
        self.each_batch(rows, 1, |queries, _| {
            for query in queries {
                let distances: Vec<_> = oracles.iter().map(|oracle| oracle.measure(query)).collect();
                found.push(nearest(&distances));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Whom distances name: the nearest, the first of equal ones, if it accepts.
    pub fn named(&self, distances: &[f64]) -> Option<usize> {
        first(distances).filter(|user| distances[*user] <= self.models[*user].threshold())
    }

    /// The smallest distance over the threshold of its user; above 1 it is refused.
    pub fn ratio(&self, distances: &[f64]) -> f64 {
        let ratio = |user: usize| distances[user] / self.models[user].threshold();
        first(distances).map_or(f64::INFINITY, ratio)
    }

    fn task(&self) -> Result<TestTask, TrialError> {
        let measures: Vec<Measure> = self.models.iter().map(OneClass::measure).collect();
        let fits =
            |batch: &usize| Plan::one_class(&measures, self.shape, *batch, GADGET, EXACT).map(|_| *batch);
        let batch = match BATCHES.iter().find_map(|batch| fits(batch).ok()) {
            Some(batch) => batch,
            None => fits(&1)?,
        };
        Ok(TestTask::one_class(&self.models, self.shape, batch, EXACT, GADGET, self.seed)?)
    }

    /// Calls `put` with batches of encoded rows, the last one filled up, and how many rows each has.
    fn each_batch(
        &self,
        rows: &Examples,
        batch: usize,
        mut put: impl FnMut(&[Vec<u64>], usize) -> Result<(), TrialError>,
    ) -> Result<(), TrialError> {
        let fixed = Fixed { fraction_bits: self.shape.numbers.fraction_bits };
        for begin in (0..rows.rows()).step_by(batch) {
            let asked = batch.min(rows.rows() - begin);
            let encoded = (begin..begin + asked).map(|row| fixed.encode_all(rows.row(row), INPUT_ABS_MAX));
            let mut queries = encoded.collect::<Result<Vec<_>, _>>()?;
            queries.resize(batch, vec![0; self.shape.input.len()]);
            put(&queries, asked)?;
        }
        Ok(())
    }
}

impl Agreement {
    fn new(answers: &[Option<usize>], oracle: &[Nearest], plain: &[Option<usize>]) -> Self {
        let count = |certain: bool, equal: bool| {
            let pairs = answers.iter().zip(oracle).filter(|(_, right)| right.certain == certain);
            pairs.filter(|(answer, right)| !equal || **answer == right.user).count()
        };
        Self {
            rows: answers.len(),
            certain: count(true, false),
            certain_equal: count(true, true),
            doubtful_equal: count(false, true),
            as_plain: answers.iter().zip(plain).filter(|(answer, plain)| answer == plain).count(),
        }
    }
}

/// The same model with another threshold.
pub(super) fn with_threshold(model: &OneClass, threshold: f64) -> Result<OneClass, OneClassError> {
    match (model.directions(), model.reconstructor()) {
        (Some(directions), _) => OneClass::projection(model.measure().input(), directions.clone(), threshold),
        (None, Some(network)) => OneClass::reconstruction(network.clone(), threshold),
        (None, None) => Ok(model.clone()),
    }
}

fn first(distances: &[f64]) -> Option<usize> {
    (0..distances.len()).min_by(|one, other| distances[*one].total_cmp(&distances[*other]))
}
