//! Scales for a model that says nothing about its integers.

use super::integer::{INPUT_SCALE_MAX, IntegerNet, QuantiseError, Scales};
use super::linear::{FloatMap, maps};
use super::plan::{Mode, Plan, PlanError, Room, shape};
use crate::model::Model;

/// Half octaves of scales that are tried for each map, from the first on which its largest weight does not round to zero.
/// Scales are public, and such ones tell the largest weight to a factor of 1.4 only.
const STEPS: i32 = 9;
/// Scales of inputs that are tried.
const INPUTS: [u32; 6] = [1, 2, 3, 4, 7, 15];
/// How far weights may be from integers to count as such, in units of one.
const EXACT: f64 = 1e-3;
/// Candidates that are compared on samples.
const COMPARED: usize = 48;
/// Bits of the largest logit beyond which parameters are not worth a try.
const REACH_MAX: f64 = 64.0;

/// What lacked room is not tried again with logits of less than so many bits less.
const HOPELESS_STEP: f64 = 0.25;

/// A network of integers and its plan.
#[derive(Debug)]
pub struct Chosen {
    /// The network.
    pub net: IntegerNet,
    /// Its plan.
    pub plan: Plan,
    /// What the plan leaves.
    pub room: Room,
    /// Root of the mean square of what rounding changed in the logits of the samples, over that of the logits.
    pub error: f64,
    /// Share of the samples whose largest logit stayed the same.
    pub agreement: f64,
}

impl Chosen {
    /// Larger is better: labels kept, fewer plaintext primes, logits kept.
    fn rank(&self) -> (f64, std::cmp::Reverse<usize>, f64) {
        // Of one logit there is no label to keep.
        let kept = if self.net.outputs() > 1 { self.agreement } else { -self.error };
        (kept, std::cmp::Reverse(self.plan.primes.len()), -self.error)
    }
}

/// Why no scales serve a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScalesError {
    /// Weights cannot be rounded.
    #[error(transparent)]
    Quantise(#[from] QuantiseError),
    /// No parameters.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The samples are no rows of inputs.
    #[error("samples of {found} numbers are no rows of {width}; give at least one row")]
    Samples {
        /// Numbers of an input.
        width: usize,
        /// Numbers given.
        found: usize,
    },
}

/// Rounds a model by given scales and plans it.
///
/// # Errors
/// [`ScalesError`].
pub fn with_scales(
    model: &Model,
    range: [f64; 2],
    mode: Mode,
    scales: &Scales,
    samples: &[f64],
) -> Result<Chosen, ScalesError> {
    Search::new(model, range, mode, samples)?.chosen(scales)
}

/// Finds scales: those that a model trained for integers has, or else, among the finest that have a plan, the ones that
/// keep most labels of the samples, then need the fewest plaintext primes, then change logits least, then are smallest.
/// `samples` are rows of inputs within `range`. Takes seconds for a hundred thousand weights, and grows with them.
///
/// # Errors
/// [`ScalesError`] of the smallest integers that were tried, where none has a plan.
pub fn choose_scales(
    model: &Model,
    range: [f64; 2],
    mode: Mode,
    samples: &[f64],
) -> Result<Chosen, ScalesError> {
    let search = Search::new(model, range, mode, samples)?;
    let exact: Option<Vec<f64>> = search.maps.iter().map(exact_scale).collect();
    let mut candidates: Vec<(f64, Scales)> = Vec::new();
    let mut failed = None;
    let choices: Vec<Vec<f64>> = match &exact {
        Some(scales) => vec![scales.clone()],
        None => combinations(&search.maps),
    };
    for maps in choices {
        for input in INPUTS {
            let scales = Scales { input: input.min(INPUT_SCALE_MAX), maps: maps.clone() };
            match IntegerNet::of_maps(&search.maps, range, &scales) {
                Ok(net) if net.reach().last().is_none_or(|reach| *reach <= REACH_MAX) => {
                    candidates.push((net.reach().last().copied().unwrap_or(0.0), scales));
                }
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    // The finest first: more bits, less rounding.
    candidates.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut best: Option<Chosen> = None;
    let mut refused = None;
    let mut compared = 0;
    let mut hopeless = f64::INFINITY;
    for (reach, scales) in &candidates {
        if *reach > hopeless - HOPELESS_STEP {
            continue;
        }
        match search.chosen(scales) {
            Ok(chosen) => {
                compared += 1;
                let better = best.as_ref().is_none_or(|best| chosen.rank() >= best.rank());
                if better {
                    best = Some(chosen);
                }
            }
            // The last one is of the smallest integers.
            Err(error) => {
                if matches!(error, ScalesError::Plan(PlanError::Room { .. })) {
                    hopeless = *reach;
                }
                refused = Some(error);
            }
        }
        if compared == COMPARED {
            break;
        }
    }
    best.ok_or_else(|| {
        refused.or_else(|| failed.map(ScalesError::from)).unwrap_or(ScalesError::Plan(PlanError::Room {
            reach: REACH_MAX,
            needed: f64::INFINITY,
            modulus: 0.0,
        }))
    })
}

struct Search<'a> {
    model: &'a Model,
    maps: Vec<FloatMap>,
    range: [f64; 2],
    mode: Mode,
    samples: &'a [f64],
    logits: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(model: &'a Model, range: [f64; 2], mode: Mode, samples: &'a [f64]) -> Result<Self, ScalesError> {
        shape(model.network(), mode)?;
        let maps = maps(model).map_err(QuantiseError::from)?;
        let width = model.network().input().len();
        if samples.is_empty() || !samples.len().is_multiple_of(width) {
            return Err(ScalesError::Samples { width, found: samples.len() });
        }
        let logits = samples.chunks_exact(width).flat_map(|row| logits(&maps, row)).collect();
        Ok(Self { model, maps, range, mode, samples, logits })
    }

    fn chosen(&self, scales: &Scales) -> Result<Chosen, ScalesError> {
        let net = IntegerNet::of_maps(&self.maps, self.range, scales)?;
        let (plan, room) = Plan::choose(self.model.network(), &net, self.mode)?;
        let [low, high] = net.range();
        let round = |value: &f64| ((value * f64::from(scales.input)).round() as i64).clamp(low, high);
        let inputs: Vec<i64> = self.samples.iter().map(round).collect();
        let unit = scales.output();
        let found: Vec<f64> = net.evaluate(&inputs).iter().map(|logit| *logit as f64 / unit).collect();
        let (mut changed, mut whole) = (0.0, f64::MIN_POSITIVE);
        for (found, logit) in found.iter().zip(&self.logits) {
            changed += (found - logit).powi(2);
            whole += logit.powi(2);
        }
        let classes = net.outputs();
        let rows = found.chunks_exact(classes).zip(self.logits.chunks_exact(classes));
        let same = rows.filter(|(found, logits)| largest(found) == largest(logits)).count();
        let agreement = same as f64 / (found.len() / classes) as f64;
        Ok(Chosen { net, plan, room, error: (changed / whole).sqrt(), agreement })
    }
}

fn largest(values: &[f64]) -> Option<usize> {
    (0..values.len()).max_by(|one, other| values[*one].total_cmp(&values[*other]).then(other.cmp(one)))
}

fn logits(maps: &[FloatMap], row: &[f64]) -> Vec<f64> {
    let mut wire = row.to_vec();
    for (index, map) in maps.iter().enumerate() {
        if index > 0 {
            wire.iter_mut().for_each(|value| *value *= *value);
        }
        let value = |output: usize| {
            map.row(output).map(|(at, weight)| wire[at] * weight).sum::<f64>() + map.bias[output]
        };
        wire = (0..map.outputs()).map(value).collect();
    }
    wire
}

fn magnitude(map: &FloatMap) -> f64 {
    map.weights.iter().fold(f64::MIN_POSITIVE, |largest, weight| largest.max(weight.abs()))
}

/// The smallest scale that makes all weights integers, if one does.
fn exact_scale(map: &FloatMap) -> Option<f64> {
    let largest = magnitude(map);
    (1..=127).map(|integer| f64::from(integer) / largest).find(|scale| {
        map.weights.iter().all(|weight| (weight * scale - (weight * scale).round()).abs() < EXACT)
    })
}

fn combinations(maps: &[FloatMap]) -> Vec<Vec<f64>> {
    maps.iter().fold(vec![Vec::new()], |lists, map| {
        let first = (2.0 * (0.5 / magnitude(map)).log2()).ceil() as i32;
        let scales = (first..first + STEPS).map(|step| 2_f64.powf(f64::from(step) / 2.0));
        let scales: Vec<f64> = scales.collect();
        lists
            .iter()
            .flat_map(|list| scales.iter().map(|scale| [list.as_slice(), &[*scale]].concat()))
            .collect()
    })
}
