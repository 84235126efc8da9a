//! Software evidence: the hash of the binding and nothing else.
//!
//! The channel proves that the module holds its keys. Nothing proves what the module is.

use crate::binding::EvidenceKind;
use crate::refusal::Refusal;
use crate::verified::Appraised;

const REPORT_DATA_BYTES: usize = 64;

/// Takes the module's word. Policies must allow that by name.
pub(super) fn appraise(body: &[u8]) -> Result<Appraised, Refusal> {
    if body.len() != REPORT_DATA_BYTES {
        return Err(Refusal::Malformed { part: "the software evidence" });
    }
    Ok(Appraised {
        kind: EvidenceKind::Software,
        user_data: body.to_vec(),
        measurement: "none".to_owned(),
        platform: "unknown".to_owned(),
        level: "nothing vouches".to_owned(),
        valid_until: u64::MAX,
    })
}
