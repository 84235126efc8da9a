//! The choice of a source, and the name of it that a result carries.

use crate::binding::EvidenceKind;
use crate::choice::NoiseRule;
use crate::fallback::{NoiseError, SoftwareNoise, bounded};
use crate::share::NoiseShare;
use consilium_protocol::privacy::Mechanism;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// What this compute party draws by itself, fixed for the life of a task.
#[derive(Debug)]
pub enum NoiseSource {
    /// The task's contract is an exact release: shares are zeros, and results say so.
    Exact,
    /// Full noise drawn here, in ordinary software.
    Software(SoftwareNoise),
}

impl NoiseSource {
    /// The source for a task's mechanism under its rule. Only an exact mechanism yields no noise.
    ///
    /// # Errors
    /// [`NoiseError::Refused`] where the rule allows the module's noise only.
    pub fn choose(mechanism: &Mechanism, rule: NoiseRule) -> Result<Self, NoiseError> {
        match mechanism {
            Mechanism::Exact => Ok(Self::Exact),
            _ => SoftwareNoise::new(mechanism, rule).map(Self::Software),
        }
    }

    /// This party's share of noise for one release: full noise, or zeros for an exact release. With a
    /// threshold the share has one value more than classes.
    ///
    /// # Errors
    /// [`NoiseError::Classes`] for no class or more than [`CLASSES_MAX`](crate::CLASSES_MAX).
    pub fn draw(
        &mut self,
        classes: usize,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<NoiseShare, NoiseError> {
        match self {
            Self::Exact => bounded(classes).map(|()| NoiseShare::new(Zeroizing::new(vec![0; classes]), None)),
            Self::Software(software) => software.draw(classes, rng),
        }
    }

    /// What a result must say about its noise.
    pub const fn provenance(&self) -> Provenance {
        match self {
            Self::Exact => Provenance::Exact,
            Self::Software(_) => Provenance::Software,
        }
    }
}

/// Where the noise of a released label came from. Part of every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The task's contract is an exact release.
    Exact,
    /// Both compute parties added full noise of their own.
    Software,
    /// One draw of the sampling module, which neither compute party knows if the module is what its evidence
    /// says.
    Module {
        /// What vouches for it.
        evidence: EvidenceKind,
    },
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "none (exact release)",
            Self::Software => "software, full noise from each compute party",
            Self::Module { evidence: EvidenceKind::Software } => {
                "sampling module with SOFTWARE EVIDENCE: nothing vouches for it, for public testing only"
            }
            Self::Module { evidence: EvidenceKind::Tpm2 } => {
                "sampling module, measured boot by a TPM 2.0 (not against the machine's owner)"
            }
            Self::Module { evidence } => return write!(f, "attested sampling module ({evidence})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const REFUSING: NoiseRule = NoiseRule::Module;
    const ALLOWING: NoiseRule = NoiseRule::Software;

    #[test]
    fn only_an_exact_contract_goes_without_noise() {
        let laplace = Mechanism::Laplace { epsilon: "1/2".parse().unwrap() };
        assert!(matches!(NoiseSource::choose(&laplace, REFUSING), Err(NoiseError::Refused { .. })));
        assert!(matches!(NoiseSource::choose(&laplace, ALLOWING), Ok(NoiseSource::Software(_))));
        for rule in [REFUSING, ALLOWING] {
            let mut source = NoiseSource::choose(&Mechanism::Exact, rule).unwrap();
            let share = source.draw(3, &mut StdRng::seed_from_u64(1)).unwrap();
            assert_eq!((source.provenance(), share.into_values().to_vec()), (Provenance::Exact, vec![0; 3]));
            assert!(source.draw(0, &mut StdRng::seed_from_u64(1)).is_err());
        }
        assert_eq!(SoftwareNoise::new(&Mechanism::Exact, ALLOWING).unwrap_err(), NoiseError::Exact);
    }

    #[test]
    fn results_name_their_source() {
        let laplace = Mechanism::Laplace { epsilon: "1/2".parse().unwrap() };
        let provenance = NoiseSource::choose(&laplace, ALLOWING).unwrap().provenance();
        assert_eq!(provenance.to_string(), "software, full noise from each compute party");
        assert_eq!(serde_json::to_string(&provenance).unwrap(), "\"software\"");
        assert_eq!(Provenance::Exact.to_string(), "none (exact release)");
        assert!(serde_json::from_str::<Provenance>("\"enclave\"").is_err());
        for evidence in EvidenceKind::ALL {
            let provenance = Provenance::Module { evidence };
            let text = serde_json::to_string(&provenance).unwrap();
            assert_eq!(text, format!("{{\"module\":{{\"evidence\":\"{evidence}\"}}}}"));
            assert_eq!(serde_json::from_str::<Provenance>(&text).unwrap(), provenance);
            let loud = provenance.to_string().contains("SOFTWARE EVIDENCE: nothing vouches");
            assert_eq!(loud, evidence == EvidenceKind::Software);
        }
    }
}
