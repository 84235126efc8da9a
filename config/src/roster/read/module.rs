//! The module that draws noise, as far as it can be judged alone.

use super::Found;
use crate::{
    document::{Misfit, Section, value},
    name::Name,
    roster::Module,
};
use consilium_attest::{Policy, Refusal};
use std::ops::Range;

/// The module as far as it could be read.
pub(in crate::roster) enum ModuleDraft {
    /// The roster has none.
    Absent,
    /// There is one, or something in its place, which has been reported.
    Present {
        /// Who carries bytes to it.
        host: Found<Name>,
        /// What must vouch for it.
        policy: Found<Policy>,
        /// Where it starts.
        place: Range<usize>,
    },
}

const MANUAL: &str =
    "the example of a roster and the README, under \"What vouches for a module\", show every table";

impl ModuleDraft {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        // What belongs into the table is asked for even where there is none, so that a misspelt name is noticed.
        if section.is_absent() {
            return Self::Absent;
        }
        let place = section.place();
        let host = section.required("host", "host = \"notary\"", value::parsed);
        let line = "policy = { evidence_age_max_secs = 120, reattest_after_secs = 3600 }` and the table of a kind \
                    of evidence, such as `[module.policy.sev_snp]";
        let policy = section.typed("policy", line, MANUAL, usable);
        section.finish();
        Self::Present { host, policy, place }
    }

    pub(super) fn finish(self) -> Option<Option<Module>> {
        match self {
            Self::Absent => Some(None),
            Self::Present { host, policy, .. } => {
                Some(Some(Module { host: host?.into_inner(), policy: policy?.into_inner() }))
            }
        }
    }
}

/// What the policy itself finds wrong with it.
fn usable(policy: &Policy) -> Result<(), Misfit> {
    let Err(refusal) = policy.check() else { return Ok(()) };
    let problem = match refusal {
        Refusal::Policy { problem } => problem.to_owned(),
        other => other.to_string(),
    };
    const PLACES: [(&str, &[&str], &str); 4] = [
        ("`evidence_age_max_secs`", &["evidence_age_max_secs"], "write `evidence_age_max_secs = 120`"),
        ("`reattest_after_secs`", &["reattest_after_secs"], "write `reattest_after_secs = 3600`"),
        ("Nitro", &["nitro", "images"], "list PCR 0, 1 and 2, and others up to 31 as needed, each once"),
        ("TPM", &["tpm2", "images"], "list the PCRs that measure the image, 0 to 23, each once"),
    ];
    let place = PLACES.iter().find(|(word, ..)| problem.contains(word));
    let (keys, help) = place.map_or((&[][..], MANUAL), |(_, keys, help)| (*keys, *help));
    Err(Misfit { keys, message: problem, help: help.to_owned() })
}
