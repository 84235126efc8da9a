//! One draw of the sampling module beside a full draw of each party: accuracy, and answers that a budget pays for.
//!
//! What an answer costs depends on one draw alone, so at equal deviation of a draw both makers cost the same, and
//! software's second draw only costs accuracy. At equal accuracy a draw of the module may have √2 times the
//! deviation, and the budget pays for twice as many answers. Deviations here are √2 apart, so that each row's
//! software has as much noise in all as the next row's module: both comparisons come from the same runs.

use super::pair::{ReleaseError, draws, release_votes};
use super::planned::service;
use crate::data::Ensemble;
use crate::noise::{Module, ModuleError, PartyNoise};
use consilium::planning::{Family, NoiseMaker, Service, ServiceError, VoteTable};
use consilium_attest::NoiseError;
use consilium_protocol::privacy::{BudgetError, COST_ONE, Law, Mechanism, NumberError, Ratio, winners_under};
use consilium_protocol::stock::Gadget;
use serde::Serialize;

/// Variance of the first row's draws; it doubles from row to row.
const VARIANCE_FIRST: u64 = 25;
/// Rows: deviations of 5 to 40 votes.
const ROWS: usize = 7;
/// Standard errors by which a figure may miss what its law says; there are some fifteen to a run.
const ERRORS_MAX: f64 = 5.0;
/// By how much the planner's answers, which are no whole numbers, may exceed those of the accountant.
const ROUNDING: std::ops::Range<f64> = -0.01..1.01;

/// The least fall of accuracy with twice the variance, in standard errors of a difference, from which a factor can
/// be read: where accuracy hardly falls, every factor fits.
const SLOPE_ERRORS_MIN: f64 = 4.0;

/// A figure and its standard error.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// The mean over questions, as if they had been drawn from many.
    fn mean(shares: &[f64]) -> Self {
        let count = shares.len().max(1) as f64;
        let value = shares.iter().sum::<f64>() / count;
        let squares: f64 = shares.iter().map(|share| (share - value).powi(2)).sum();
        Self { value, error: (squares / (count - 1.0).max(1.0) / count).sqrt() }
    }

    /// The mean of the differences, question by question.
    fn difference(one: &[f64], other: &[f64]) -> Self {
        Self::mean(&one.iter().zip(other).map(|(one, other)| one - other).collect::<Vec<_>>())
    }
}

/// The share of right answers under the noise of one maker.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accuracy {
    /// Under sharing, with drawn noise; the error is over questions.
    pub measured: Estimate,
    /// Of these questions, by the law of the noise.
    pub expected: f64,
    /// How far the two are apart, in standard errors of the noise alone.
    pub errors: f64,
}

/// Both makers at one deviation of a draw.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MakerRow {
    /// Deviation of a draw, in votes.
    pub sigma: f64,
    /// Rho of an answer, whoever draws.
    pub rho: f64,
    /// Answers that the budget pays for, whoever draws.
    pub labels: u64,
    /// One draw, of the module.
    pub module: Option<Accuracy>,
    /// Two draws, one of each party.
    pub software: Option<Accuracy>,
    /// Accuracy of the module above that of software.
    pub gain: Option<Estimate>,
    /// The module with as much noise as this row's software has in all.
    pub equal: Option<Equal>,
}

/// The module where it is as accurate as a row's software.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Equal {
    /// Deviation of its draw: √2 times that of the row.
    pub sigma: f64,
    /// Its accuracy.
    pub module: Accuracy,
    /// Its accuracy above that of software.
    pub difference: Estimate,
    /// Answers that the budget pays for.
    pub labels: u64,
    /// Answers for one of software's.
    pub ratio: f64,
    /// The same at exactly the accuracy that software was measured at: between the deviations that were run, the
    /// module's accuracy is taken to fall evenly with the logarithm of the variance. None for the last row,
    /// beyond which nothing was run, and where accuracy hardly falls.
    pub measured_ratio: Option<Estimate>,
}

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub struct Makers {
    /// The ensemble.
    pub ensemble: String,
    /// Questions.
    pub queries: usize,
    /// How often each was asked.
    pub asks: usize,
    /// What the answers may cost in all.
    pub budget: String,
    /// Share of right answers of the vote without noise or privacy.
    pub plain: Estimate,
    /// Answers without noise under sharing that are not that vote's.
    pub plain_differing: usize,
    /// What vouches for the module's noise, if it was asked.
    pub module: Option<String>,
    /// Batches that the module drew, each with equal receipts at both parties.
    pub batches: u64,
    /// The rows.
    pub rows: Vec<MakerRow>,
    /// Answers of the module for one of software's at equal accuracy, from all rows where that was measured.
    pub factor: Option<Estimate>,
    /// Answers that the planner expects, where they are not those of the accountant.
    pub planned_differing: Vec<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum MakersError {
    /// A run.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// Software noise.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// A parameter is outside what the mechanisms support.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The plan.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// One maker at one deviation.
struct Cell {
    /// Share of right answers to each question.
    shares: Vec<f64>,
    accuracy: Accuracy,
}

/// What every cell has in common.
struct Bench<'a> {
    ensemble: &'a Ensemble,
    queries: usize,
    asks: usize,
    gadget: Gadget,
}

impl Bench<'_> {
    fn label(&self, query: usize) -> usize {
        usize::from(self.ensemble.labels[query])
    }

    fn answers(
        &self,
        mechanism: &Mechanism,
        noise: [PartyNoise; 2],
    ) -> Result<Vec<Option<usize>>, ReleaseError> {
        Ok(release_votes(self.ensemble, self.queries, mechanism, self.gadget, noise)?.answers)
    }

    /// Asks every question, with noise that is fresh for every answer.
    fn cell(&self, mechanism: &Mechanism, module: Option<&mut Module>) -> Result<Cell, MakersError> {
        let draws_each = if module.is_some() { NoiseMaker::Enclave } else { NoiseMaker::Software }.draws();
        let mut module = module;
        let mut right = vec![0u32; self.queries];
        for _ in 0..self.asks {
            let noise = match &mut module {
                Some(module) => module.noise(mechanism, self.ensemble.classes as u16, draws(self.queries))?,
                None => PartyNoise::own(mechanism)?,
            };
            for (query, answer) in self.answers(mechanism, noise)?.into_iter().enumerate() {
                right[query] += u32::from(answer == Some(self.label(query)));
            }
        }
        let shares: Vec<f64> =
            right.into_iter().map(|right| f64::from(right) / self.asks.max(1) as f64).collect();
        Ok(Cell { accuracy: self.accuracy(&shares, &Law::of(mechanism, draws_each)), shares })
    }

    /// Beside what the law says of every question.
    fn accuracy(&self, shares: &[f64], law: &Law) -> Accuracy {
        let measured = Estimate::mean(shares);
        let (mut expected, mut variance) = (0.0, 0.0);
        for query in 0..self.queries {
            let chance = winners_under(&self.ensemble.histogram(query), law)[self.label(query)];
            expected += chance;
            variance += chance * (1.0 - chance);
        }
        let queries = self.queries.max(1) as f64;
        expected /= queries;
        let answers = queries * self.asks.max(1) as f64;
        let error = ((variance / queries).max(1.0 / answers) / answers).sqrt();
        Accuracy { measured, expected, errors: (measured.value - expected).abs() / error }
    }
}

/// Measures the release with noise of the makers in `who`, of each question `asks` times. `table` has the votes of
/// `ensemble` as the planner reads them.
///
/// # Errors
/// [`MakersError`].
pub fn makers(
    ensemble: &Ensemble,
    table: &VoteTable,
    who: &[NoiseMaker],
    (queries, asks): (usize, usize),
    gadget: Gadget,
) -> Result<Makers, MakersError> {
    let queries = queries.min(ensemble.labels.len());
    let bench = Bench { ensemble, queries, asks, gadget };
    let both = who.contains(&NoiseMaker::Enclave) && who.contains(&NoiseMaker::Software);
    let mut module = who.contains(&NoiseMaker::Enclave).then(Module::start).transpose()?;
    let plan = service(table, Family::Gaussian, NoiseMaker::Enclave)?;
    let vote: Vec<usize> = (0..queries).map(|query| usize::from(ensemble.majority(query))).collect();
    let right: Vec<f64> =
        vote.iter().enumerate().map(|(query, class)| f64::from(*class == bench.label(query))).collect();
    let exact = bench.answers(&Mechanism::Exact, PartyNoise::own(&Mechanism::Exact)?)?;
    let plain_differing = exact.iter().zip(&vote).filter(|(found, due)| **found != Some(**due)).count();

    let mut columns: [Vec<Option<Cell>>; 2] = Default::default();
    let mut prices = Vec::new();
    // The last row's software stands beside one more deviation of the module.
    for step in 0..ROWS + usize::from(both) {
        let mechanism = Mechanism::Gaussian { sigma_squared: Ratio::new(VARIANCE_FIRST << step, 1)? };
        let drawn = module.as_mut().map(|module| bench.cell(&mechanism, Some(module))).transpose()?;
        let software = step < ROWS && who.contains(&NoiseMaker::Software);
        let software = software.then(|| bench.cell(&mechanism, None)).transpose()?;
        columns[0].push(drawn);
        columns[1].push(software);
        prices.push(Price::of(&mechanism, &plan)?);
    }
    let rows = rows(&columns, &prices);
    Ok(Makers {
        ensemble: ensemble.name.clone(),
        queries,
        asks,
        budget: format!("epsilon {}{}", plan.budget.epsilon, delta(&plan)),
        plain: Estimate::mean(&right),
        plain_differing,
        module: module.as_ref().map(|module| module.provenance().to_string()),
        batches: module.as_ref().map_or(0, Module::batches),
        factor: pooled(rows.iter().filter_map(|row| row.equal?.measured_ratio)),
        rows,
        planned_differing: planned_differing(&prices, &plan)?,
    })
}

fn delta(plan: &Service) -> String {
    plan.budget.delta.map_or_else(String::new, |delta| format!(", delta {delta}"))
}

/// What an answer costs, by the accountant of the ledger.
struct Price {
    sigma: f64,
    rho: f64,
    labels: u64,
}

impl Price {
    fn of(mechanism: &Mechanism, plan: &Service) -> Result<Self, BudgetError> {
        let variance = match mechanism {
            Mechanism::Gaussian { sigma_squared } => {
                sigma_squared.numerator() as f64 / sigma_squared.denominator() as f64
            }
            _ => 0.0,
        };
        let rho = mechanism.cost().map_or(0.0, |cost| cost.amount() as f64 / COST_ONE as f64);
        let labels = plan.budget.labels(mechanism)?.unwrap_or(0);
        Ok(Self { sigma: variance.sqrt(), rho, labels })
    }
}

/// Where the planner, which counts from the noise in all and its maker, comes to other answers than the
/// accountant, which counts from the noise of a draw.
fn planned_differing(prices: &[Price], plan: &Service) -> Result<Vec<String>, MakersError> {
    let votes = f64::from(plan.votes()?);
    let mut differing = Vec::new();
    for noise in [NoiseMaker::Enclave, NoiseMaker::Software] {
        for price in prices {
            let share = price.sigma * f64::from(noise.draws()).sqrt() / votes;
            let planned = Service { noise, ..*plan }.answers_at(votes, share)?.unwrap_or(0.0);
            if !ROUNDING.contains(&(planned - price.labels as f64)) {
                differing.push(format!(
                    "{noise:?} at {:.1}: {planned:.1} planned, {} charged",
                    price.sigma, price.labels
                ));
            }
        }
    }
    Ok(differing)
}

fn rows([module, software]: &[Vec<Option<Cell>>; 2], prices: &[Price]) -> Vec<MakerRow> {
    let accuracy = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.accuracy);
    let row = |at: usize| {
        let Price { sigma, rho, labels } = prices[at];
        let difference = |one: &Option<Cell>, other: &Option<Cell>| {
            Some(Estimate::difference(&one.as_ref()?.shares, &other.as_ref()?.shares))
        };
        let equal = || {
            let next = module.get(at + 1)?;
            let difference = difference(next, &software[at])?;
            let more = prices[at + 1].labels;
            Some(Equal {
                sigma: prices[at + 1].sigma,
                module: accuracy(next)?,
                difference,
                labels: more,
                ratio: more as f64 / labels.max(1) as f64,
                measured_ratio: measured_ratio(difference, slope(module, at + 1)),
            })
        };
        MakerRow {
            sigma,
            rho,
            labels,
            module: accuracy(&module[at]),
            software: accuracy(&software[at]),
            gain: difference(&module[at], &software[at]),
            equal: equal(),
        }
    };
    (0..ROWS).map(row).collect()
}

/// By how much the module's accuracy falls from half to twice the variance of a row, for each doubling.
fn slope(module: &[Option<Cell>], at: usize) -> Option<f64> {
    let accuracy = |at: usize| Some(module.get(at)?.as_ref()?.accuracy.measured.value);
    Some((accuracy(at.checked_sub(1)?)? - accuracy(at + 1)?) / 2.0)
}

/// The module has twice the variance, is `difference` more accurate, and loses `slope` with each doubling: by which
/// factor its variance, and so its answers, may exceed software's at the same accuracy.
fn measured_ratio(difference: Estimate, slope: Option<f64>) -> Option<Estimate> {
    let slope = slope.filter(|slope| *slope > SLOPE_ERRORS_MIN * difference.error)?;
    let value = (1.0 + difference.value / slope).exp2();
    Some(Estimate { value, error: value * std::f64::consts::LN_2 * difference.error / slope })
}

/// The mean of factors, on a scale of logarithms, each with the weight that its error leaves it.
fn pooled(factors: impl Iterator<Item = Estimate>) -> Option<Estimate> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for factor in factors.filter(|factor| factor.error > 0.0) {
        let weight = (factor.value / factor.error).powi(2);
        sum += weight * factor.value.ln();
        weights += weight;
    }
    let value = (sum / weights).exp();
    (weights > 0.0).then(|| Estimate { value, error: value / weights.sqrt() })
}

impl Makers {
    /// How far the accuracy that is furthest from the law of its noise is from it, in standard errors.
    pub fn errors_max(&self) -> f64 {
        let figures = |row: &MakerRow| [row.module, row.software, row.equal.map(|equal| equal.module)];
        self.rows.iter().flat_map(figures).flatten().map(|found| found.errors).fold(0.0, f64::max)
    }

    /// An error where a figure is not what the law of its noise says, or the factor is not two.
    ///
    /// # Errors
    /// Which, and by how much.
    pub fn judge(&self) -> Result<(), String> {
        if self.plain_differing > 0 {
            return Err(format!("{} answers without noise are not the vote's", self.plain_differing));
        }
        if let Some(differing) = self.planned_differing.first() {
            return Err(format!("planner and accountant differ: {differing}"));
        }
        for row in &self.rows {
            let equal = row.equal.map(|equal| equal.module);
            for (name, found) in [("module", row.module), ("software", row.software), ("module", equal)] {
                if let Some(found) = found.filter(|found| found.errors > ERRORS_MAX) {
                    let Accuracy { measured, expected, errors } = found;
                    return Err(format!(
                        "{name}, row of {:.1}: accuracy {:.4}, but {expected:.4} by the law, {errors:.1} errors off",
                        row.sigma, measured.value
                    ));
                }
            }
            if let Some(equal) = row.equal.filter(|equal| equal.labels / 2 != row.labels) {
                return Err(format!("{} answers are not twice {}", equal.labels, row.labels));
            }
        }
        let off = |factor: &Estimate| (factor.value - 2.0).abs() > ERRORS_MAX * factor.error;
        match self.factor.filter(off) {
            Some(factor) => Err(format!("a factor of {:.3} ± {:.3} is not two", factor.value, factor.error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planned::recorded;
    use super::*;
    use crate::data::{ensemble, shared_or_skip};

    const BOTH: [NoiseMaker; 2] = [NoiseMaker::Enclave, NoiseMaker::Software];

    #[test]
    fn the_module_is_worth_twice_the_answers_on_recorded_votes() {
        let Some(shared) = shared_or_skip("both makers of noise on recorded votes") else { return };
        let (votes, table) =
            (ensemble(&shared, "mnist_iid_N50").unwrap(), recorded(&shared, "mnist_iid_N50").unwrap());
        let found = makers(&votes, &table, &BOTH, (500, 10), Gadget::Digits).unwrap();
        found.judge().unwrap();
        assert_eq!((found.rows.len(), found.queries), (ROWS, 500));
        assert!(found.module.as_ref().unwrap().contains("SOFTWARE EVIDENCE"));
        // One batch of 500 draws for each of ten asks at each of the deviations.
        assert_eq!(found.batches, 10 * (ROWS as u64 + 1));
        let usual = found.rows[2];
        assert_eq!((usual.sigma, usual.labels, usual.equal.unwrap().labels), (10.0, 105, 210));
        let gain = usual.gain.unwrap();
        assert!(gain.value > 6.0 * gain.error, "{gain:?}");
        let factor = found.factor.unwrap();
        assert!(factor.error < 0.1, "{factor:?}");

        // Two draws do not pass for one.
        let mut wrong = found.clone();
        let bench = Bench { ensemble: &votes, queries: 500, asks: 10, gadget: Gadget::Digits };
        let mechanism = Mechanism::Gaussian { sigma_squared: "400".parse().unwrap() };
        let two = bench.cell(&mechanism, None).unwrap();
        wrong.rows[4].module = Some(bench.accuracy(&two.shares, &Law::of(&mechanism, 1)));
        assert!(wrong.judge().unwrap_err().contains("by the law"));
    }

    #[test]
    fn one_maker_alone_is_measured_alone() {
        let Some(shared) = shared_or_skip("one maker of noise on recorded votes") else { return };
        let (votes, table) =
            (ensemble(&shared, "mnist_iid_N50").unwrap(), recorded(&shared, "mnist_iid_N50").unwrap());
        let found = makers(&votes, &table, &BOTH[1..], (100, 1), Gadget::Digits).unwrap();
        assert!(found.module.is_none() && found.factor.is_none() && found.batches == 0);
        let row = found.rows[0];
        assert!(row.software.is_some() && row.module.is_none() && row.gain.is_none() && row.equal.is_none());
    }

    #[test]
    fn factors_come_from_differences_and_slopes() {
        let exact = measured_ratio(Estimate { value: 0.0, error: 0.01 }, Some(0.1)).unwrap();
        assert!((exact.value - 2.0).abs() < 1e-12 && (exact.error - 0.2 * 2f64.ln()).abs() < 1e-12);
        // As accurate as software only at four times the variance.
        let more = measured_ratio(Estimate { value: 0.1, error: 0.01 }, Some(0.1)).unwrap();
        assert!((more.value - 4.0).abs() < 1e-12);
        assert!(measured_ratio(Estimate { value: 0.0, error: 0.01 }, Some(-0.1)).is_none());
        assert!(measured_ratio(Estimate { value: 0.0, error: 0.01 }, Some(0.03)).is_none(), "too flat");
        let equal = pooled([exact, exact].into_iter()).unwrap();
        assert!((equal.value - 2.0).abs() < 1e-12 && (equal.error * 2f64.sqrt() - exact.error).abs() < 1e-12);
        assert!(pooled(std::iter::empty()).is_none());
        let mean = Estimate::mean(&[0.0, 1.0, 1.0, 0.0]);
        assert!((mean.value - 0.5).abs() < 1e-12 && (mean.error - (1.0f64 / 12.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_factor_of_one_is_found() {
        let plain = Estimate { value: 0.95, error: 0.01 };
        let made = Makers {
            ensemble: "x".into(),
            queries: 1,
            asks: 1,
            budget: String::new(),
            plain,
            plain_differing: 0,
            module: None,
            batches: 0,
            rows: Vec::new(),
            factor: Some(Estimate { value: 2.05, error: 0.05 }),
            planned_differing: Vec::new(),
        };
        made.judge().unwrap();
        let one = Makers { factor: Some(Estimate { value: 1.1, error: 0.1 }), ..made.clone() };
        assert!(one.judge().unwrap_err().contains("is not two"));
        assert!(Makers { plain_differing: 1, ..made.clone() }.judge().is_err());
        assert!(Makers { planned_differing: vec!["x".into()], ..made }.judge().is_err());
    }
}
