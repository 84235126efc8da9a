//! The same model by two parties, who learn nothing and give the client a label.

use super::{RANGE, Subject, TrialError};
use consilium_protocol::algebra::Fixed;
use consilium_protocol::graph::{Numbers, ReleaseShape};
use consilium_protocol::model::fixed::prove_bounds;
use consilium_protocol::stock::Gadget;
use consilium_protocol::testing::TestTask;
use serde::Serialize;
use std::time::Instant;

/// Rows of a batch, one by one and many.
const BATCHES: [usize; 2] = [1, 100];
const FRACTION_BITS: u32 = 16;
/// Bounds on values that are tried, the tightest first.
const VALUE_BITS: [u32; 5] = [12, 15, 18, 21, 24];
const EXACT: ReleaseShape = ReleaseShape { noise_magnitude_max: 0, threshold: None };

/// What two parties needed for one batch size.
#[derive(Clone, Debug, Serialize)]
pub struct PairRun {
    /// Rows side by side.
    pub batch: usize,
    /// Rows asked about.
    pub inputs: usize,
    /// Labels as those of the integers in the clear; two parties compute with the weights as they were exported.
    pub same: usize,
    /// Rounds of a batch.
    pub rounds: u32,
    /// Bytes that each party sends for a batch.
    pub bytes: u64,
    /// Seconds that a batch took both parties in one process, without a network between them.
    pub seconds: f64,
}

impl PairRun {
    /// Asks about test rows in batches of each size. Correlated randomness is made beforehand and not timed.
    ///
    /// # Errors
    /// The model or a row does not fit, or the parties fail.
    pub fn all(subject: &Subject, clear: &[usize], rows: usize) -> Result<Vec<Self>, TrialError> {
        let failed = |error: &dyn std::fmt::Display| TrialError::Pair(error.to_string());
        let numbers = |value_bits| Numbers { fraction_bits: FRACTION_BITS, value_bits };
        let fits = |bits: &u32| prove_bounds(&subject.model, numbers(*bits), RANGE[1]).is_ok();
        let numbers = VALUE_BITS.into_iter().find(fits).map(numbers);
        let numbers = numbers.ok_or_else(|| failed(&"no bound on values can be proved"))?;
        let fixed = Fixed { fraction_bits: FRACTION_BITS };
        let mut runs = Vec::new();
        for batch in BATCHES {
            let models = std::slice::from_ref(&subject.model);
            let mut task =
                TestTask::new(models, numbers, batch, EXACT, Gadget::Digits, 1).map_err(|e| failed(&e))?;
            let mut run = Self { batch, inputs: 0, same: 0, rounds: 0, bytes: 0, seconds: 0.0 };
            let count = rows.min(clear.len()).div_euclid(batch).min(20);
            let mut times = Vec::new();
            for first in (0..count).map(|index| index * batch) {
                let encoded =
                    (first..first + batch).map(|row| fixed.encode_all(subject.test.row(row), RANGE[1]));
                let queries = encoded.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
                let start = Instant::now();
                let (labels, meter, _) = task.ask(&queries, [&[], &[]]).map_err(|e| failed(&e))?;
                times.push(start.elapsed().as_secs_f64());
                run.inputs += batch;
                run.same += labels.iter().zip(&clear[first..]).filter(|(one, other)| one == other).count();
                (run.rounds, run.bytes) = (meter.rounds, meter.bytes);
            }
            times.sort_by(f64::total_cmp);
            run.seconds = times.get(times.len() / 2).copied().unwrap_or(0.0);
            runs.push(run);
        }
        Ok(runs)
    }
}
