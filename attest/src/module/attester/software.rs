//! No evidence at all, under a name that says so.

use super::{Attester, AttesterError, Testimony};
use crate::binding::{Binding, EvidenceKind};

/// Repeats the report data. Anybody can; a verifier refuses it unless the policy names this kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Software;

impl Attester for Software {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Software
    }

    fn attest(&mut self, binding: &Binding) -> Result<Testimony, AttesterError> {
        Ok(binding.report_data().to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::trial;
    use super::*;

    #[test]
    fn the_body_is_the_report_data() {
        let binding = trial::binding(Software.kind());
        let testimony = Software.attest(&binding).unwrap();
        assert_eq!((binding.kind, testimony.endorsements.len()), (EvidenceKind::Software, 0));
        assert_eq!(testimony.body, binding.report_data());
    }
}
