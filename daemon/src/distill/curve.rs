//! What a part of the budget would have bought.

use super::learn::{Ground, LearnError};
use super::spread::Labelled;
use crate::training::{Examples, Progress, TrainError, classify};
use consilium_protocol::graph::Network;
use consilium_protocol::model::Model;
use serde::{Deserialize, Serialize};

/// One answer in this many is held out.
const HELD_OUT: usize = 5;
/// Fewest answers of which some are held out.
const ANSWERS_MIN: usize = 10;
/// Each point has twice the answers of the one before.
const POINTS: usize = 4;

/// A student of a part of the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Answers that it learned from.
    pub labels: usize,
    /// Epsilon of asking until there were that many labels, with the attempts in between that gave none;
    /// `None` for exact releases.
    pub epsilon: Option<f64>,
    /// Share of the held-out answers that it gives as well. Noise makes some of these answers wrong, so the
    /// student may be better than this.
    pub agreement: f64,
    /// Share of right labels on the client's own test rows, where it has some.
    pub accuracy: Option<f64>,
}

/// Labelled rows that were no part of the distillation.
#[derive(Debug)]
pub struct TestRows {
    /// Rows with their labels, prepared as the student takes them.
    pub rows: Examples,
}

impl TestRows {
    /// Share of the rows that a model labels right.
    ///
    /// # Errors
    /// Rows that the model does not read.
    pub fn accuracy(&self, model: &Model) -> Result<f64, TrainError> {
        Ok(agreement(&classify(model, &self.rows)?, self.rows.labels()))
    }
}

/// Students of growing parts of the answers, in the order in which they were given, each measured on answers
/// that no student of the curve learned from. Empty where there are too few answers. `epsilon` says what it
/// cost to get so many labels.
///
/// # Errors
/// As [`Ground::teach`].
///
/// # Panics
/// As there.
pub fn curve(
    ground: &Ground<'_>,
    network: &Network,
    answers: &[Labelled],
    test: Option<&TestRows>,
    epsilon: impl Fn(usize) -> Option<f64>,
    progress: Progress<'_>,
) -> Result<Vec<CurvePoint>, LearnError> {
    if answers.len() < ANSWERS_MIN {
        return Ok(Vec::new());
    }
    let is_held = |(index, _): &(usize, &Labelled)| index % HELD_OUT == HELD_OUT - 1;
    let held: Vec<Labelled> = answers.iter().enumerate().filter(is_held).map(|(_, answer)| *answer).collect();
    let taught: Vec<Labelled> =
        answers.iter().enumerate().filter(|pair| !is_held(pair)).map(|(_, answer)| *answer).collect();
    let rows: Vec<usize> = held.iter().map(|answer| answer.row).collect();
    let classes: Vec<u8> = held.iter().map(|answer| answer.class).collect();
    let held = ground.rows().select(&rows).map_err(LearnError::Rows)?;
    let mut points = Vec::new();
    for halvings in (0..POINTS).rev() {
        let labels = taught.len() >> halvings;
        let student = ground.teach(network, &taught[..labels], &mut |_, _| ())?.model;
        let accuracy = test.map(|test| test.accuracy(&student)).transpose()?;
        let agreement = agreement(&classify(&student, &held)?, &classes);
        points.push(CurvePoint { labels, epsilon: epsilon(labels), agreement, accuracy });
        progress(points.len(), POINTS);
    }
    Ok(points)
}

fn agreement(found: &[u8], expected: &[u8]) -> f64 {
    let equal = found.iter().zip(expected).filter(|(found, expected)| found == expected).count();
    equal as f64 / expected.len().max(1) as f64
}
