//! What a task lets out, and at what price in privacy.

use crate::{digest::Hasher, fraction::Fraction};
use consilium_attest::choice::NoiseRule;
use serde::Serialize;

/// How the winning label is let out. There is no default: each task says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub enum Release {
    /// Without noise and without any promise about the owners' data.
    Exact,
    /// Discrete Gaussian noise on each class count.
    Gaussian {
        /// Deviation, in votes.
        sigma: Fraction,
        /// Probability with which the promise may fail, over the life of the ledger.
        delta: Fraction,
        /// The budgets.
        terms: Terms,
    },
    /// Discrete Gaussian noise on each class count, and an answer only where many agree. Who computes does not
    /// learn whether there was one, and every attempt costs the same.
    ConfidentGaussian {
        /// Deviation on each class count, in votes.
        sigma: Fraction,
        /// Votes that the top count must reach, under noise of its own.
        threshold: u32,
        /// Deviation of that noise, in votes.
        threshold_sigma: Fraction,
        /// Probability with which the promise may fail, over the life of the ledger.
        delta: Fraction,
        /// The budgets.
        terms: Terms,
    },
    /// Discrete Laplace noise on each class count, for a promise without failure probability.
    Laplace {
        /// Privacy loss of one answer.
        epsilon_per_answer: Fraction,
        /// The budgets.
        terms: Terms,
    },
}

/// The budgets of a noisy release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whose data one promise covers.
    pub unit: Unit,
    /// Privacy loss that an owner accepts in all.
    pub epsilon: Fraction,
    /// How much of it one client may cause; `None` sets no limit of its own.
    pub client_epsilon: Option<Fraction>,
    /// Who draws the noise. There is no default: each task says it.
    pub noise: NoiseRule,
}

/// Whose data one promise covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// All that one owner trained on. Each owner has one model.
    Owner,
    /// All that one patient gave to one owner. Each owner has several models, and each patient is in the
    /// training of one of them.
    Patient,
}

impl Unit {
    /// All of them with their names in a file.
    pub(super) const NAMES: [(&'static str, Self); 2] = [("owner", Self::Owner), ("patient", Self::Patient)];

    /// Its word in the roster.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

impl Release {
    /// The mechanism's word in the roster.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Gaussian { .. } => "gaussian",
            Self::ConfidentGaussian { .. } => "confident-gaussian",
            Self::Laplace { .. } => "laplace",
        }
    }

    /// The budgets, unless the release is exact.
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Exact => None,
            Self::Gaussian { terms, .. }
            | Self::ConfidentGaussian { terms, .. }
            | Self::Laplace { terms, .. } => Some(terms),
        }
    }

    pub(super) fn feed(&self, hasher: &mut Hasher) {
        hasher.text(self.mechanism());
        match self {
            Self::Exact => {}
            Self::Gaussian { sigma, delta, .. } => {
                fraction(hasher, *sigma);
                fraction(hasher, *delta);
            }
            Self::ConfidentGaussian { sigma, threshold, threshold_sigma, delta, .. } => {
                fraction(hasher, *sigma);
                hasher.number(*threshold);
                fraction(hasher, *threshold_sigma);
                fraction(hasher, *delta);
            }
            Self::Laplace { epsilon_per_answer, .. } => fraction(hasher, *epsilon_per_answer),
        }
        if let Some(terms) = self.terms() {
            hasher.text(terms.unit.as_str());
            fraction(hasher, terms.epsilon);
            hasher.list(terms.client_epsilon.as_slice(), |hasher, limit| fraction(hasher, *limit));
            hasher.text(noise_word(terms.noise));
        }
    }
}

fn fraction(hasher: &mut Hasher, value: Fraction) {
    hasher.number(value.numerator());
    hasher.number(value.denominator());
}

/// Every rule of noise with its word in the roster.
pub(super) const NOISE_WORDS: [(&str, NoiseRule); 3] = [
    ("software", NoiseRule::Software),
    ("module", NoiseRule::Module),
    ("module-else-software", NoiseRule::ModuleElseSoftware),
];

fn noise_word(rule: NoiseRule) -> &'static str {
    NOISE_WORDS.iter().find(|(_, one)| *one == rule).map_or("", |(word, _)| word)
}

/// The keys as they stand in the file.
#[derive(Default, Serialize)]
struct Written {
    mechanism: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigma: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_sigma: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon_per_answer: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_epsilon: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<NoiseRule>,
}

impl From<Release> for Written {
    fn from(release: Release) -> Self {
        let mut written = Self { mechanism: release.mechanism(), ..Self::default() };
        if let Some(terms) = release.terms() {
            written.unit = Some(terms.unit);
            written.epsilon = Some(terms.epsilon);
            written.client_epsilon = terms.client_epsilon;
            written.noise = Some(terms.noise);
        }
        match release {
            Release::Exact => {}
            Release::Gaussian { sigma, delta, .. } => {
                written.sigma = Some(sigma);
                written.delta = Some(delta);
            }
            Release::ConfidentGaussian { sigma, threshold, threshold_sigma, delta, .. } => {
                written.sigma = Some(sigma);
                written.threshold = Some(threshold);
                written.threshold_sigma = Some(threshold_sigma);
                written.delta = Some(delta);
            }
            Release::Laplace { epsilon_per_answer, .. } => {
                written.epsilon_per_answer = Some(epsilon_per_answer);
            }
        }
        written
    }
}
