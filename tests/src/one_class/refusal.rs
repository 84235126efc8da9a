//! Strangers: each class in turn has no user, and its rows should be refused.

use super::asked::{Panel, Pass};
use super::roc::{Point, area, points};
use super::{Tick, TrialError};
use consilium::training::Examples;
use serde::Serialize;

/// By what all thresholds are multiplied.
const FACTORS: [f64; 9] = [0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0];

/// How well strangers are refused.
#[derive(Clone, Debug, Serialize)]
pub struct Refusals {
    /// One for each class.
    pub classes: Vec<LeftOut>,
    /// Mean area over classes, from distances as two parties hold them.
    pub private_area: f64,
    /// Mean area over classes, in floating point and in the clear.
    pub plain_area: f64,
    /// Means over classes at some factors, from distances as two parties hold them.
    pub private: Vec<Point>,
    /// Means over classes at some factors, in floating point and in the clear.
    pub plain: Vec<Point>,
    /// The answers of two parties where the last class has no user.
    pub answered: Pass,
}

/// A class without a user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The class.
    pub class: String,
    /// Rows of the other users.
    pub own: usize,
    /// Rows of the class.
    pub strangers: usize,
    /// Area from distances as two parties hold them.
    pub private_area: f64,
    /// Area in floating point and in the clear.
    pub plain_area: f64,
}

impl Refusals {
    /// Leaves out one class after the other; `plain` are [`Panel::plain`] of the same rows. All rows are asked about twice,
    /// and `tick` hears of each batch how many rows it had.
    ///
    /// # Errors
    /// Fewer than two users, no row of some user, or a failure of the two parties.
    pub fn new(
        panel: &Panel,
        (rows, truth): (&Examples, &[usize]),
        plain: &[Vec<f64>],
        tick: Tick<'_>,
    ) -> Result<Self, TrialError> {
        let users = panel.models.len();
        let Some(last) = users.checked_sub(1).filter(|last| *last > 0) else {
            return Err(TrialError::Lonely);
        };
        let opened = panel.opened(rows, tick)?;
        let mut classes = Vec::with_capacity(users);
        let mut curves = [Vec::new(), Vec::new()];
        for class in 0..users {
            let [private, plain] =
                [&opened[..], plain].map(|distances| ratios(panel, distances, truth, class));
            let [private_area, plain_area] = [&private, &plain].map(|[own, strangers]| area(own, strangers));
            let class = panel.names[class].clone();
            let (Some(private_area), Some(plain_area)) = (private_area, plain_area) else {
                return Err(TrialError::NoRows(class));
            };
            let (own, strangers) = (plain[0].len(), plain[1].len());
            classes.push(LeftOut { class, own, strangers, private_area, plain_area });
            for (curves, [own, strangers]) in curves.iter_mut().zip([&private, &plain]) {
                curves.push(points(own, strangers, &FACTORS));
            }
        }
        let rest: Vec<Vec<f64>> = plain.iter().map(|row| without(row, last)).collect();
        let named = |user: &usize| Some(*user).filter(|user| *user < last);
        let whose: Vec<Option<usize>> = truth.iter().map(named).collect();
        let answered = panel.without(last).pass((rows, &whose[..]), &rest, true, tick)?;
        let mean = |figure: fn(&LeftOut) -> f64| classes.iter().map(figure).sum::<f64>() / users as f64;
        let [private, plain] = curves.map(|curves| means(&curves));
        Ok(Self {
            private_area: mean(|class| class.private_area),
            plain_area: mean(|class| class.plain_area),
            classes,
            private,
            plain,
            answered,
        })
    }
}

/// Ratios of rows of other users, and of rows of the class, where it has no user.
fn ratios(panel: &Panel, distances: &[Vec<f64>], truth: &[usize], class: usize) -> [Vec<f64>; 2] {
    let rest = panel.without(class);
    let mut found = [Vec::new(), Vec::new()];
    for (row, user) in distances.iter().zip(truth) {
        found[usize::from(*user == class)].push(rest.ratio(&without(row, class)));
    }
    found
}

fn without(row: &[f64], user: usize) -> Vec<f64> {
    row.iter().enumerate().filter(|(at, _)| *at != user).map(|(_, distance)| *distance).collect()
}

/// Point by point over curves of the same factors.
fn means(curves: &[Vec<Point>]) -> Vec<Point> {
    let count = curves.len().max(1) as f64;
    let mean = |(at, factor): (usize, &f64)| {
        let of =
            |figure: fn(&Point) -> f64| curves.iter().map(|curve| figure(&curve[at])).sum::<f64>() / count;
        Point { factor: *factor, own: of(|point| point.own), strangers: of(|point| point.strangers) }
    };
    FACTORS.iter().enumerate().map(mean).collect()
}
