//! Which source a release takes its noise from, as the task's signed policy says and never otherwise.

use serde::{Deserialize, Serialize};

/// What the policy of a task, signed by both compute parties, says about noise. There is no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseRule {
    /// Full noise of each compute party.
    Software,
    /// The attested module, or no release.
    Module,
    /// The attested module; full noise of each compute party while the module cannot be reached.
    ModuleElseSoftware,
}

/// What this party knows of the module at the time of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// Its evidence holds, and there is a share of noise that was not used.
    Ready,
    /// It does not answer, or has no share left.
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// It answers, and its evidence was refused.
    Refused {
        /// The rule of the policy that failed.
        reason: String,
    },
}

/// Where a release takes its noise from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// One draw of the module's.
    Module,
    /// Full noise of each compute party.
    Software,
}

/// Why there is no release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// The module is not there, and the policy allows nothing else.
    #[error(
        "the task takes noise from the attested module only, and it cannot be reached: {reason}. Start it, or \
         have all members sign a policy that lets software noise step in"
    )]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The module's evidence was refused. No policy papers that over.
    #[error(
        "the evidence of the module was refused: {reason}. Software noise does not step in for a module that may \
         be a false one; repair it, or have all members sign a policy of software noise"
    )]
    Refused {
        /// The rule that failed.
        reason: String,
    },
}

impl NoiseRule {
    /// The source for the next release.
    ///
    /// Software noise protects as much as the module's, so that who cuts the line to the module gains nothing
    /// by it but a less useful answer, and only where all members signed that they accept that.
    ///
    /// # Errors
    /// [`NoChoice`] where the policy allows no source that is there.
    pub fn choose(self, module: &ModuleState) -> Result<Choice, NoChoice> {
        match (self, module) {
            (Self::Software, _) => Ok(Choice::Software),
            (_, ModuleState::Ready) => Ok(Choice::Module),
            (_, ModuleState::Refused { reason }) => Err(NoChoice::Refused { reason: reason.clone() }),
            (Self::ModuleElseSoftware, ModuleState::Unreachable { .. }) => Ok(Choice::Software),
            (Self::Module, ModuleState::Unreachable { reason }) => {
                Err(NoChoice::Unreachable { reason: reason.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let reason = || "x".to_owned();
        let states = [
            ModuleState::Ready,
            ModuleState::Unreachable { reason: reason() },
            ModuleState::Refused { reason: reason() },
        ];
        let (module, software) = (Ok(Choice::Module), Ok(Choice::Software));
        let unreachable = Err(NoChoice::Unreachable { reason: reason() });
        let refused = Err(NoChoice::Refused { reason: reason() });
        let table = [
            (NoiseRule::Software, [software.clone(), software.clone(), software.clone()]),
            (NoiseRule::Module, [module.clone(), unreachable, refused.clone()]),
            (NoiseRule::ModuleElseSoftware, [module, software, refused]),
        ];
        for (rule, row) in table {
            assert_eq!(states.each_ref().map(|state| rule.choose(state)), row, "{rule:?}");
        }
    }

    #[test]
    fn rules_have_names_and_no_default() {
        let read = |text: &str| serde_json::from_str::<NoiseRule>(text);
        assert_eq!(read("\"module-else-software\"").unwrap(), NoiseRule::ModuleElseSoftware);
        for text in ["\"\"", "null", "\"any\"", "\"Module\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
