//! Which noise a task's contract asks for, and what one label costs under it.

use super::{COST_ONE, Cost, Ratio, Unit};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The noise added to every class count before the label is taken, part of a task's signed contract.
///
/// In a file: `mechanism = "exact"` or `mechanism = { gaussian = { sigma_squared = "100" } }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mechanism {
    /// No noise and no promise: the label is the exact majority. Results say so.
    Exact,
    /// Discrete Gaussian: `P(x) ∝ exp(-x² / 2σ²)` on the integers. Each label costs `1/σ²` in zCDP.
    Gaussian {
        /// Variance parameter σ² of each count's noise.
        sigma_squared: Ratio,
    },
    /// Discrete Laplace: `P(x) ∝ exp(-ε|x| / 2)` on the integers. Each label costs ε in pure privacy.
    Laplace {
        /// Loss ε of one label.
        epsilon: Ratio,
    },
}

impl Mechanism {
    /// The unit that its ledger counts in; none for an exact release, which no ledger can account for.
    pub const fn unit(&self) -> Option<Unit> {
        match self {
            Self::Exact => None,
            Self::Gaussian { .. } => Some(Unit::Zcdp),
            Self::Laplace { .. } => Some(Unit::Pure),
        }
    }

    /// Loss of one released label, rounded up to the next 2^-40; none for an exact release.
    ///
    /// Two vectors of counts that differ in one vote lie √2 apart, so the Gaussian's rho is
    /// `(√2)² / 2σ² = 1/σ²`; their L1 distance is 2, which the Laplace scale 2/ε answers.
    pub fn cost(&self) -> Option<Cost> {
        let (above, below) = match self {
            Self::Exact => return None,
            Self::Gaussian { sigma_squared } => (sigma_squared.denominator(), sigma_squared.numerator()),
            Self::Laplace { epsilon } => (epsilon.numerator(), epsilon.denominator()),
        };
        let amount = (u128::from(above) * u128::from(COST_ONE)).div_ceil(u128::from(below));
        let amount = u64::try_from(amount).expect("a ratio is at most 2^20, or 2^10 inverted, so 2^60 units");
        self.unit().map(|unit| Cost::new(unit, amount))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("no noise"),
            Self::Gaussian { sigma_squared } => {
                write!(f, "discrete Gaussian noise, variance {sigma_squared}")
            }
            Self::Laplace { epsilon } => write!(f, "discrete Laplace noise, epsilon {epsilon} per label"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(text: &str) -> Mechanism {
        Mechanism::Gaussian { sigma_squared: text.parse().unwrap() }
    }

    fn laplace(text: &str) -> Mechanism {
        Mechanism::Laplace { epsilon: text.parse().unwrap() }
    }

    #[test]
    fn costs_are_exact_or_rounded_up() {
        assert_eq!(Mechanism::Exact.cost(), None);
        assert_eq!(gaussian("4").cost(), Some(Cost::new(Unit::Zcdp, COST_ONE / 4)));
        assert_eq!(gaussian("3").cost(), Some(Cost::new(Unit::Zcdp, COST_ONE / 3 + 1)));
        assert_eq!(gaussian("1/1024").cost(), Some(Cost::new(Unit::Zcdp, 1024 * COST_ONE)));
        assert_eq!(laplace("1/2").cost(), Some(Cost::new(Unit::Pure, COST_ONE / 2)));
        assert_eq!(laplace("0.1").cost(), Some(Cost::new(Unit::Pure, COST_ONE / 10 + 1)));
        assert_eq!(laplace("1048576").cost(), Some(Cost::new(Unit::Pure, 1 << 60)));
    }

    #[test]
    fn the_file_form_is_strict() {
        let read = serde_json::from_str::<Mechanism>;
        assert_eq!(read(r#""exact""#).unwrap(), Mechanism::Exact);
        assert_eq!(read(r#"{"gaussian": {"sigma_squared": "100"}}"#).unwrap(), gaussian("100"));
        for text in [
            r#"{"gaussian": {"sigma_squared": "100", "epsilon": "1"}}"#,
            r#"{"gaussian": {}}"#,
            r#"{"gaussian": {"sigma_squared": "0"}}"#,
            r#"{"laplace": {"epsilon": "1"}, "gaussian": {"sigma_squared": "1"}}"#,
            r#""gaussian""#,
            r#""none""#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let mut bytes = Vec::new();
        ciborium::into_writer(&laplace("5/2"), &mut bytes).unwrap();
        assert_eq!(ciborium::from_reader::<Mechanism, _>(bytes.as_slice()).unwrap(), laplace("5/2"));
    }
}
