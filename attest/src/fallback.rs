//! Noise without an attested module, where a task's policy allows it.

use crate::draw::Noise;
use crate::share::{CLASSES_MAX, NoiseShare};
use consilium_protocol::privacy::Mechanism;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

/// What a task's policy, signed by both compute parties, lets noise come from.
///
/// There is no default: a policy that does not say is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoisePolicy {
    /// Whether each compute party may draw its noise in ordinary software.
    pub allow_software: bool,
}

/// Why there is no noise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The policy does not allow the only source there is.
    #[error(
        "the task's noise policy refuses {mechanism} drawn in software; set `noise = \"software\"` in the release \
         of the task, in the roster of every member, or have a module draw it"
    )]
    Refused {
        /// The mechanism asked for.
        mechanism: Mechanism,
    },
    /// An exact release has no noise to draw.
    #[error("the task's mechanism is exact; ask for a noise source only where there is noise to draw")]
    Exact,
    /// No class, or more than a release can have.
    #[error("noise for {classes} classes was asked for; a release has between 1 and {CLASSES_MAX}")]
    Classes {
        /// Classes asked for.
        classes: usize,
    },
}

/// Draws this compute party's own full noise. The other party does the same with its own.
#[derive(Debug)]
pub struct SoftwareNoise {
    noise: Noise,
}

impl SoftwareNoise {
    /// Prepares the tables of a mechanism, if the policy allows software noise.
    ///
    /// # Errors
    /// [`NoiseError::Refused`] without permission, [`NoiseError::Exact`] for an exact release.
    pub fn new(mechanism: &Mechanism, policy: NoisePolicy) -> Result<Self, NoiseError> {
        if *mechanism == Mechanism::Exact {
            return Err(NoiseError::Exact);
        }
        if !policy.allow_software {
            return Err(NoiseError::Refused { mechanism: *mechanism });
        }
        Ok(Self { noise: Noise::new(mechanism) })
    }

    /// The mechanism whose noise this draws.
    pub const fn mechanism(&self) -> &Mechanism {
        self.noise.mechanism()
    }

    /// Full noise for each of `classes` classes, and for the largest count where the mechanism has a
    /// threshold, fresh and independent for each.
    ///
    /// # Errors
    /// [`NoiseError::Classes`] for none or more than [`CLASSES_MAX`].
    pub fn draw(
        &mut self,
        classes: usize,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<NoiseShare, NoiseError> {
        bounded(classes)?;
        let (values, threshold) = self.noise.draw(classes, rng);
        Ok(NoiseShare::new(values, threshold))
    }
}

/// Refuses a number of classes that no release has.
pub(crate) fn bounded(classes: usize) -> Result<(), NoiseError> {
    if (1..=CLASSES_MAX).contains(&classes) {
        return Ok(());
    }
    Err(NoiseError::Classes { classes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn gaussian() -> Mechanism {
        Mechanism::Gaussian { sigma_squared: "25".parse().unwrap() }
    }

    fn allowed() -> SoftwareNoise {
        SoftwareNoise::new(&gaussian(), NoisePolicy { allow_software: true }).unwrap()
    }

    #[test]
    fn without_permission_there_is_no_noise() {
        let error = SoftwareNoise::new(&gaussian(), NoisePolicy { allow_software: false }).unwrap_err();
        assert_eq!(error, NoiseError::Refused { mechanism: gaussian() });
        assert!(error.to_string().contains("`noise = \"software\"`"), "{error}");
    }

    #[test]
    fn a_policy_that_does_not_say_is_not_read() {
        assert!(serde_json::from_str::<NoisePolicy>("{}").is_err());
        assert!(serde_json::from_str::<NoisePolicy>(r#"{"allow_software": true, "half": true}"#).is_err());
        let policy = serde_json::from_str::<NoisePolicy>(r#"{"allow_software": false}"#).unwrap();
        assert!(!policy.allow_software);
    }

    #[test]
    fn each_party_draws_the_full_noise() {
        let (mut zero, mut one) = (allowed(), allowed());
        let (mut rng_zero, mut rng_one) = (StdRng::seed_from_u64(1), StdRng::seed_from_u64(2));
        let (mut alone, mut together) = (0.0, 0.0);
        let (rounds, classes) = (20_000, 3);
        for _ in 0..rounds {
            let left = zero.draw(classes, &mut rng_zero).unwrap().into_values();
            let right = one.draw(classes, &mut rng_one).unwrap().into_values();
            assert_eq!(left.len(), classes);
            for (left, right) in left.iter().zip(right.iter()) {
                alone += (left * left) as f64;
                together += ((left + right) * (left + right)) as f64;
            }
        }
        let draws = (rounds * classes) as f64;
        // The relative deviation of a variance over 60,000 draws is 0.6 %.
        assert!((alone / draws / 25.0 - 1.0).abs() < 0.03, "{}", alone / draws);
        assert!((together / draws / 50.0 - 1.0).abs() < 0.03, "{}", together / draws);
    }

    #[test]
    fn the_largest_count_has_noise_of_its_own_law() {
        let mechanism = Mechanism::ConfidentGaussian {
            sigma_squared: "25".parse().unwrap(),
            threshold: 3,
            threshold_sigma_squared: "400".parse().unwrap(),
        };
        let mut source = SoftwareNoise::new(&mechanism, NoisePolicy { allow_software: true }).unwrap();
        let mut rng = StdRng::seed_from_u64(6);
        let (mut counts, mut top, mut together) = (0.0, 0.0, 0.0);
        let rounds = 20_000;
        for _ in 0..rounds {
            let share = source.draw(2, &mut rng).unwrap();
            assert_eq!(share.classes(), 2);
            let values = share.into_values();
            let [first, second, threshold] = values[..] else { panic!("{} values", values.len()) };
            counts += (first * first + second * second) as f64 / 2.0;
            top += (threshold * threshold) as f64;
            together += (first * threshold) as f64;
        }
        let [counts, top, together] = [counts, top, together].map(|sum| sum / f64::from(rounds));
        // Relative deviations are 0.7 and 1 %, that of the product 0.7 of 100.
        assert!((counts / 25.0 - 1.0).abs() < 0.035, "{counts}");
        assert!((top / 400.0 - 1.0).abs() < 0.05, "{top}");
        assert!(together.abs() < 3.5, "{together}");
    }

    #[test]
    fn classes_of_one_share_differ() {
        let share = allowed().draw(64, &mut StdRng::seed_from_u64(3)).unwrap().into_values();
        assert!(share.iter().any(|value| *value != share[0]));
    }

    #[test]
    fn the_number_of_classes_is_bounded() {
        let mut rng = StdRng::seed_from_u64(4);
        for classes in [0, CLASSES_MAX + 1, usize::MAX] {
            let error = allowed().draw(classes, &mut rng).unwrap_err();
            assert_eq!(error, NoiseError::Classes { classes });
        }
        assert_eq!(allowed().draw(CLASSES_MAX, &mut rng).unwrap().classes(), CLASSES_MAX);
    }
}
