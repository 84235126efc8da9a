//! Which noise a task's contract asks for, and what one label costs under it.

use super::{COST_ONE, Cost, Ratio, Unit};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The noise added to every class count before the label is taken, part of a task's signed contract.
///
/// In a file: `mechanism = "exact"` or `mechanism = { gaussian = { sigma_squared = "100" } }`.
///
/// A release costs what its mechanism says whatever comes of it. Only of a [`Mechanism::ConfidentGaussian`] may
/// no label come: then too the whole attempt is paid, since who keeps the accounts must not learn it.
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
    /// The label by discrete Gaussian noise, but only if the largest true count, under noise of its own, reaches a
    /// threshold; else the answer is that there is no consensus. Each attempt costs `1/2σ₁² + 1/σ²` in zCDP.
    ConfidentGaussian {
        /// Variance parameter σ² of each count's noise.
        sigma_squared: Ratio,
        /// Votes that the noisy largest count must reach.
        threshold: u32,
        /// Variance parameter σ₁² of the noise on the largest count.
        threshold_sigma_squared: Ratio,
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
            Self::Gaussian { .. } | Self::ConfidentGaussian { .. } => Some(Unit::Zcdp),
            Self::Laplace { .. } => Some(Unit::Pure),
        }
    }

    /// Loss of one release, rounded up to the next 2^-40; none for an exact release.
    ///
    /// Two vectors of counts that differ in one vote lie √2 apart, so the Gaussian's rho is
    /// `(√2)² / 2σ² = 1/σ²`; their L1 distance is 2, which the Laplace scale 2/ε answers. Their largest counts
    /// differ by at most 1, which is `1/2σ₁²` for the threshold; the sum is rounded once.
    pub fn cost(&self) -> Option<Cost> {
        let of = |ratio: &Ratio| (u128::from(ratio.numerator()), u128::from(ratio.denominator()));
        let (above, below) = match self {
            Self::Exact => return None,
            Self::Gaussian { sigma_squared } => {
                let (above, below) = of(sigma_squared);
                (below, above)
            }
            Self::ConfidentGaussian { sigma_squared, threshold_sigma_squared, .. } => {
                // Terms are at most 2^40, so the products stay below 2^82.
                let ((label, over), (top, under)) = (of(sigma_squared), of(threshold_sigma_squared));
                (under * label + 2 * top * over, 2 * top * label)
            }
            Self::Laplace { epsilon } => of(epsilon),
        };
        let amount = (above * u128::from(COST_ONE)).div_ceil(below);
        let amount = u64::try_from(amount).expect("a ratio is at most 2^20, or 2^10 inverted, so 2^60 units");
        self.unit().map(|unit| Cost::new(unit, amount))
    }

    /// Votes that the noisy largest count must reach for a label; none where every release has one.
    pub const fn threshold(&self) -> Option<u32> {
        match self {
            Self::ConfidentGaussian { threshold, .. } => Some(*threshold),
            Self::Exact | Self::Gaussian { .. } | Self::Laplace { .. } => None,
        }
    }

    /// The law of the noise on the largest count; none where it is not asked for.
    pub const fn threshold_noise(&self) -> Option<Self> {
        match self {
            Self::ConfidentGaussian { threshold_sigma_squared, .. } => {
                Some(Self::Gaussian { sigma_squared: *threshold_sigma_squared })
            }
            Self::Exact | Self::Gaussian { .. } | Self::Laplace { .. } => None,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("no noise"),
            Self::Gaussian { sigma_squared } => {
                write!(f, "discrete Gaussian noise, variance {sigma_squared}")
            }
            Self::ConfidentGaussian { sigma_squared, threshold, threshold_sigma_squared } => write!(
                f,
                "discrete Gaussian noise, variance {sigma_squared}, and a label only where the top count reaches \
                 {threshold} under noise of variance {threshold_sigma_squared}"
            ),
            Self::Laplace { epsilon } => write!(f, "discrete Laplace noise, epsilon {epsilon} per label"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::oracle;
    use super::*;

    fn gaussian(text: &str) -> Mechanism {
        Mechanism::Gaussian { sigma_squared: text.parse().unwrap() }
    }

    fn confident(sigma_squared: &str, threshold_sigma_squared: &str) -> Mechanism {
        let [sigma_squared, threshold_sigma_squared] =
            [sigma_squared, threshold_sigma_squared].map(|text| text.parse().unwrap());
        Mechanism::ConfidentGaussian { sigma_squared, threshold: 30, threshold_sigma_squared }
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
    fn attempts_pay_for_threshold_and_label() {
        let rho = |amount| Some(Cost::new(Unit::Zcdp, amount));
        assert_eq!(confident("4", "2").cost(), rho(COST_ONE / 2));
        // 1/3 + 1/6 is on the grid, though neither of both is: rounded once.
        assert_eq!(confident("3", "3").cost(), rho(COST_ONE / 2));
        assert_eq!(confident("3", "1/2").cost(), rho(COST_ONE + COST_ONE / 3 + 1));
        assert_eq!(confident("1/1024", "1/1024").cost(), rho(1536 * COST_ONE));
        assert_eq!(confident("1048576", "1048576").cost(), rho(3 << 19));
        let fine = "1099511627776/1048577";
        assert!(confident(fine, fine).cost().unwrap().amount() > 3 << 19);
        assert_eq!(confident("4", "2").threshold(), Some(30));
        assert_eq!(confident("4", "2").threshold_noise(), Some(gaussian("2")));
        for other in [Mechanism::Exact, gaussian("2"), laplace("2")] {
            assert_eq!((other.threshold(), other.threshold_noise()), (None, None));
        }
    }

    /// Of 1,000 attempts at 1/2σ₁² another tool charged 700 with 1/σ² as well. All of them pay here, so the other
    /// 300 are tests of a threshold alone, which cost what a label of variance 2σ₁² does.
    #[test]
    fn attempts_cost_what_another_tool_says() {
        let Some(oracles) = oracle::read("accounting.json") else { return };
        let mut compared = 0;
        for point in oracles["points"].as_array().unwrap() {
            let items = point["params"]["items"].as_array();
            let Some([test, label]) = items.map(Vec::as_slice) else { continue };
            if test["kind"] != "confident_threshold" || label["kind"] != "gnmax" {
                continue;
            }
            let number = |item: &serde_json::Value, key: &str| item[key].as_u64().unwrap();
            let [test_sigma, sigma] = [test, label].map(|item| number(item, "value"));
            let [tests, labels] = [test, label].map(|item| number(item, "count"));
            let [top, both] = [test_sigma * test_sigma, sigma * sigma].map(|square| square.to_string());
            let attempts = confident(&both, &top).cost().unwrap().times(labels).unwrap();
            let alone = gaussian(&(2 * test_sigma * test_sigma).to_string()).cost().unwrap();
            let spent = attempts.plus(alone.times(tests - labels).unwrap()).unwrap();
            let rho = spent.amount() as f64 / COST_ONE as f64;
            assert!((rho / point["rho"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{point}");
            compared += 1;
        }
        assert_eq!(compared, 3);
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
            r#"{"confident_gaussian": {"sigma_squared": "4", "threshold_sigma_squared": "4"}}"#,
            r#"{"confident_gaussian": {"sigma_squared": "4", "threshold": 3}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let text = r#"{"confident_gaussian": {"sigma_squared": "4", "threshold": 30, "threshold_sigma_squared": "2"}}"#;
        assert_eq!(read(text).unwrap(), confident("4", "2"));
        let mut bytes = Vec::new();
        ciborium::into_writer(&laplace("5/2"), &mut bytes).unwrap();
        assert_eq!(ciborium::from_reader::<Mechanism, _>(bytes.as_slice()).unwrap(), laplace("5/2"));
    }
}
