//! One way to make noise, as a roster would state it.

use super::ServiceError;
use consilium_protocol::privacy::{Cost, Mechanism, Ratio};
use serde::Serialize;
use std::fmt;

/// Kind of release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Discrete Gaussian noise on every class count, and the class with most
    Gaussian,
    /// The same, but only when the largest count, with noise of its own, reaches a threshold
    #[serde(rename = "confident-gaussian")]
    #[value(name = "confident-gaussian", alias = "confident")]
    Confident,
    /// Discrete Laplace noise on every class count: a promise without delta
    Laplace,
    /// No noise and no promise
    Exact,
}

/// Kind and amount of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// None.
    Exact,
    /// Gaussian noise of this deviation, in votes, on every count.
    Gaussian {
        /// Deviation of one draw.
        sigma: Ratio,
    },
    /// An answer only where the largest count, with noise of its own, reaches a threshold.
    Confident {
        /// Deviation of one draw on a count.
        sigma: Ratio,
        /// Deviation of one draw on the largest count, for the test.
        threshold_sigma: Ratio,
        /// Votes that the noisy largest count must reach.
        threshold: u32,
    },
    /// Laplace noise on every count for this loss a label.
    Laplace {
        /// Loss of one label.
        epsilon: Ratio,
    },
}

impl Setting {
    /// The noise on every count.
    ///
    /// # Errors
    /// The square of the deviation is not an exact parameter.
    pub fn mechanism(&self) -> Result<Mechanism, ServiceError> {
        Ok(match self {
            Self::Exact => Mechanism::Exact,
            Self::Gaussian { sigma } | Self::Confident { sigma, .. } => gaussian(*sigma)?,
            Self::Laplace { epsilon } => Mechanism::Laplace { epsilon: *epsilon },
        })
    }

    /// The noise on the largest count in the threshold test, with the threshold.
    ///
    /// # Errors
    /// As [`Setting::mechanism`].
    pub fn test(&self) -> Result<Option<(Mechanism, u32)>, ServiceError> {
        match self {
            Self::Confident { threshold_sigma, threshold, .. } => {
                Ok(Some((gaussian(*threshold_sigma)?, *threshold)))
            }
            _ => Ok(None),
        }
    }

    /// Loss of one attempt, answered or not, rounded up; `None` for an exact release.
    ///
    /// One vote moves the largest count by at most one, so the test costs half of what as much noise on all
    /// counts would.
    ///
    /// # Errors
    /// As [`Setting::mechanism`], or the loss passes what is counted.
    pub fn price(&self) -> Result<Option<Cost>, ServiceError> {
        let Some(label) = self.mechanism()?.cost() else { return Ok(None) };
        let Some((noise, _)) = self.test()? else { return Ok(Some(label)) };
        let test = noise.cost().map_or(0, |cost| cost.amount().div_ceil(2));
        Ok(Some(label.plus(Cost::new(label.unit(), test))?))
    }

    /// The deviation of the noise on one count, for the horizontal axis of a plan.
    pub fn deviation(&self) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Gaussian { sigma } | Self::Confident { sigma, .. } => value(*sigma),
            // Scale 2/ε, deviation √2 times that.
            Self::Laplace { epsilon } => 8.0_f64.sqrt() / value(*epsilon),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("no noise"),
            Self::Gaussian { sigma } => write!(f, "sigma {}", value(*sigma)),
            Self::Confident { sigma, threshold_sigma, threshold } => {
                let (sigma, test) = (value(*sigma), value(*threshold_sigma));
                write!(f, "sigma {sigma}, threshold {threshold}, threshold_sigma {test}")
            }
            Self::Laplace { epsilon } => write!(f, "epsilon {} per answer", value(*epsilon)),
        }
    }
}

fn gaussian(sigma: Ratio) -> Result<Mechanism, ServiceError> {
    let square = |term: u64| term.checked_mul(term).ok_or(ServiceError::Deviation { sigma });
    let squared = Ratio::new(square(sigma.numerator())?, square(sigma.denominator())?);
    Ok(Mechanism::Gaussian { sigma_squared: squared.map_err(|_| ServiceError::Deviation { sigma })? })
}

/// As a float, for looking at and for searching; never for accounts.
pub(super) fn value(ratio: Ratio) -> f64 {
    ratio.numerator() as f64 / ratio.denominator() as f64
}

/// Numbers of two significant digits in rising order: 0.0010, 0.0011, ..., 0.10, ..., 990, 1000.
pub(super) const STEPS: usize = 541;
/// The step of 0.10, the smallest deviation a roster takes.
pub(super) const STEP_TENTH: usize = 180;

/// One of the [`STEPS`].
pub(super) fn step(index: usize) -> Ratio {
    let index = index.min(STEPS - 1) as u64;
    let (digits, decade) = (10 + index % 90, index / 90);
    let scaled = digits * 10_u64.pow(decade as u32);
    Ratio::new(scaled, 10_000).expect("all steps lie between a thousandth and a thousand")
}

/// The step next to a value, the nearer of two.
pub(super) fn nearest_step(wanted: f64) -> usize {
    let above = (0..STEPS).find(|index| value(step(*index)) >= wanted).unwrap_or(STEPS - 1);
    let below = above.saturating_sub(1);
    let distance = |index: usize| (value(step(index)) - wanted).abs();
    if distance(below) < distance(above) { below } else { above }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_protocol::privacy::{COST_ONE, Unit};

    fn ratio(text: &str) -> Ratio {
        text.parse().unwrap()
    }

    #[test]
    fn steps_rise_by_two_digits() {
        assert_eq!(
            (step(0), step(STEP_TENTH), step(STEPS - 1)),
            (ratio("0.001"), ratio("0.1"), ratio("1000"))
        );
        assert_eq!((step(STEP_TENTH + 1), step(STEP_TENTH + 90)), (ratio("0.11"), ratio("1")));
        assert!((1..STEPS).all(|index| value(step(index)) > value(step(index - 1))));
        assert_eq!(step(nearest_step(9.749)), ratio("9.7"));
        assert_eq!((nearest_step(0.0), nearest_step(1e9)), (0, STEPS - 1));
    }

    #[test]
    fn an_attempt_costs_the_label_and_half_the_test() {
        let (sigma, threshold_sigma) = (ratio("10"), ratio("5"));
        let price = |setting: Setting| setting.price().unwrap().unwrap();
        assert_eq!(price(Setting::Gaussian { sigma }), Cost::new(Unit::Zcdp, COST_ONE.div_ceil(100)));
        let both = price(Setting::Confident { sigma, threshold_sigma, threshold: 30 });
        let exact = COST_ONE as f64 * (1.0 / 100.0 + 1.0 / 50.0);
        assert!((0.0..=2.0).contains(&(both.amount() as f64 - exact)), "{both:?}");
        assert_eq!(Setting::Exact.price().unwrap(), None);
    }

    #[test]
    fn every_step_that_a_roster_takes_has_a_mechanism() {
        for index in STEP_TENTH..STEPS {
            assert!(Setting::Gaussian { sigma: step(index) }.mechanism().is_ok(), "{}", step(index));
        }
        assert!(Setting::Gaussian { sigma: step(0) }.mechanism().is_err());
    }
}
